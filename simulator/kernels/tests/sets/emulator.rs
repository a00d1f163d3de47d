//! Executes instructions that the processor refuses (SIGILL) in its place: those of AMX on machines with AVX-512 VNNI, and the
//! two of AVX-VNNI on machines with AVX2. All else runs as it does elsewhere, so kernels are tested whole, slowly.
#![allow(unsafe_code)] // A signal handler that changes the interrupted thread's registers.

use std::arch::x86_64::__cpuid_count;
use std::cell::RefCell;
use std::sync::{Once, OnceLock};

use akida_kernels::isa::{Amx, AvxVnni};
use nix::libc::{
    REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15, REG_RAX, REG_RBP, REG_RBX, REG_RCX, REG_RDI,
    REG_RDX, REG_RIP, REG_RSI, REG_RSP, c_int, c_void, siginfo_t, ucontext_t,
};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use super::instruction::{Address, Instruction, Operand, decode};
use super::tiles::{Tiles, dot, dot_of_pairs};

thread_local! {
    static TILES: RefCell<Tiles> = const { RefCell::new(Tiles::new()) };
}

/// Registers as instructions number them.
const NUMBERED: [c_int; 16] = [
    REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI, REG_R8, REG_R9, REG_R10, REG_R11, REG_R12,
    REG_R13, REG_R14, REG_R15,
];

/// The set with tiles, where the machine has all else that it needs.
pub fn amx() -> Option<Amx> {
    install();
    // SAFETY: what the processor refuses is executed from now on.
    unsafe { Amx::emulated() }
}

/// The set with `vpdpbusd` and `vpdpwssd` of 256 bits, where the machine has all else that it needs.
pub fn avxvnni() -> Option<AvxVnni> {
    install();
    // SAFETY: as above.
    unsafe { AvxVnni::emulated() }
}

/// From now on, in all threads.
fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        upper_halves();
        let action = SigAction::new(SigHandler::SigAction(refused), SaFlags::SA_SIGINFO, SigSet::empty());
        // SAFETY: the handler calls nothing that an interrupted instruction could be in the middle of: it allocates nothing,
        // takes no lock, and its thread's tiles are used by nothing else.
        unsafe { sigaction(Signal::SIGILL, &action) }.expect("a handler for SIGILL");
    });
}

/// Where saved states have the upper halves of registers of 256 bits, and those of 512: bytes from their beginning.
fn upper_halves() -> &'static [usize; 2] {
    static OFFSETS: OnceLock<[usize; 2]> = OnceLock::new();
    OFFSETS.get_or_init(|| [2, 6].map(|component| __cpuid_count(13, component).ebx as usize))
}

extern "C" fn refused(_: c_int, _: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel gives this handler the context of the thread it interrupted, which is this one.
    let context = unsafe { &mut *context.cast::<ucontext_t>() };
    // A signal takes far longer than what it is for, so those that follow are executed too.
    let mut executed = 0;
    loop {
        let code = context.uc_mcontext.gregs[REG_RIP as usize] as *const u8;
        // SAFETY: the processor has read this instruction, or does so next; no more than its bytes is read.
        let Some((instruction, len)) = decode(|i| unsafe { code.add(i).read() }) else { break };
        let next = code as u64 + len as u64;
        if execute(context, instruction, next).is_none() {
            break;
        }
        context.uc_mcontext.gregs[REG_RIP as usize] = next as i64;
        executed += 1;
    }
    if executed == 0 {
        give_up();
    }
}

/// The next time, which comes at once, the signal does what it did.
fn give_up() {
    let action = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: no handler is installed.
    let _ = unsafe { sigaction(Signal::SIGILL, &action) };
}

fn address(context: &ucontext_t, at: Address, next: u64) -> *mut u8 {
    let register = |number: u8| context.uc_mcontext.gregs[NUMBERED[usize::from(number)] as usize] as u64;
    let base = at.base.map_or(next, register);
    let index = at.index.map_or(0, |(number, scale)| register(number).wrapping_mul(scale));
    base.wrapping_add(index).wrapping_add(at.displacement as u64) as *mut u8
}

fn execute(context: &mut ucontext_t, instruction: Instruction, next: u64) -> Option<()> {
    match instruction {
        Instruction::Dot(sums, x, w, long) | Instruction::Pairs(sums, x, w, long) => {
            let dot = if matches!(instruction, Instruction::Dot(..)) { dot } else { dot_of_pairs };
            let operand = |halves: &Halves, high| match w {
                Operand::Register(w) => halves.get(w, high),
                // SAFETY: the program's own instruction reads these bytes.
                Operand::Memory(at) => unsafe { address(context, at, next).add(16 * high).cast::<[u8; 16]>().read() },
            };
            let mut halves = Halves::of(context);
            let made = [0, 1].map(|high| {
                if high == 1 && !long {
                    return [0; 16];
                }
                let (old, x, w) = (halves.get(sums, high), halves.get(x, high), operand(&halves, high));
                let mut made = [0; 16];
                for i in (0..16).step_by(4) {
                    let old = i32::from_le_bytes([old[i], old[i + 1], old[i + 2], old[i + 3]]);
                    made[i..i + 4].copy_from_slice(&dot(old, &x[i..i + 4], &w[i..i + 4]).to_le_bytes());
                }
                made
            });
            halves.set(sums, made);
            Some(())
        }
        Instruction::Broadcast(to, at) => {
            // SAFETY: as above.
            let bytes = unsafe { address(context, at, next).cast::<[u8; 4]>().read() };
            Halves::of(context).set(to, [std::array::from_fn(|i| bytes[i % 4]); 2]);
            Some(())
        }
        _ => of_tiles(context, instruction, next),
    }
}

fn of_tiles(context: &ucontext_t, instruction: Instruction, next: u64) -> Option<()> {
    TILES.with_borrow_mut(|tiles| match instruction {
        Instruction::Configure(at) => {
            // SAFETY: the program's own instruction reads these bytes.
            let bytes = unsafe { address(context, at, next).cast::<[u8; 64]>().read_unaligned() };
            tiles.configure(&bytes)
        }
        Instruction::Release => {
            tiles.release();
            Some(())
        }
        Instruction::Zero(t) => tiles.zero(t),
        Instruction::Load(t, at) => {
            let (rows, bytes) = tiles.shape(t)?;
            tiles.zero(t)?;
            for r in 0..rows {
                let row = row(context, at, next, r);
                // SAFETY: as above.
                unsafe { row.copy_to_nonoverlapping(tiles.row(t, r).as_mut_ptr(), bytes) };
            }
            Some(())
        }
        Instruction::Store(t, at) => {
            let (rows, bytes) = tiles.shape(t)?;
            for r in 0..rows {
                let row = row(context, at, next, r);
                // SAFETY: the program's own instruction writes these bytes.
                unsafe { row.copy_from_nonoverlapping(tiles.row(t, r).as_ptr(), bytes) };
            }
            Some(())
        }
        Instruction::Products(c, a, b) => tiles.products(c, a, b),
        Instruction::Dot(..) | Instruction::Pairs(..) | Instruction::Broadcast(..) => None,
    })
}

/// Row `r` of a tile in memory: the index is what lies between rows.
fn row(context: &ucontext_t, at: Address, next: u64, r: usize) -> *mut u8 {
    let index = at.index.map(|(number, scale)| (number, scale.wrapping_mul(r as u64)));
    address(context, Address { index, ..at }, next)
}

/// Registers of 256 bits of an interrupted thread, in halves.
struct Halves {
    saved: *mut u8,
}

impl Halves {
    /// Where saved states have which components they hold, and the lower halves.
    const HELD: usize = 512;
    const LOWER: usize = 160;

    fn of(context: &ucontext_t) -> Self {
        let saved = context.uc_mcontext.fpregs.cast::<u8>();
        let [upper, _] = *upper_halves();
        // SAFETY: the kernel saves the state of registers of 256 bits, which AVX2 needs, each component at its place. What it says
        // that it does not hold is zeros.
        unsafe {
            let held = saved.add(Self::HELD).cast::<u64>();
            for (component, start) in [(1, Self::LOWER), (2, upper)] {
                if held.read() >> component & 1 == 0 {
                    saved.add(start).write_bytes(0, 256);
                }
            }
            held.write(held.read() | 6);
        }
        Self { saved }
    }

    fn half(&self, register: u8, high: usize) -> *mut [u8; 16] {
        let [upper, _] = *upper_halves();
        let start = if high == 0 { Self::LOWER } else { upper };
        self.saved.wrapping_add(start + 16 * usize::from(register)).cast()
    }

    fn get(&self, register: u8, high: usize) -> [u8; 16] {
        // SAFETY: both components are there.
        unsafe { self.half(register, high).read() }
    }

    /// Both halves; what a register of 512 bits has above them is cleared.
    fn set(&mut self, register: u8, halves: [[u8; 16]; 2]) {
        let [_, higher] = *upper_halves();
        // SAFETY: as above; the state of 512 bits is touched where the kernel says that it holds it.
        unsafe {
            self.half(register, 0).write(halves[0]);
            self.half(register, 1).write(halves[1]);
            if self.saved.add(Self::HELD).cast::<u64>().read() >> 6 & 1 == 1 {
                self.saved.add(higher + 32 * usize::from(register)).write_bytes(0, 32);
            }
        }
    }
}
