//! AMX: tiles of 16 positions by 16 filters by 64 bytes, one instruction each (`tdpbusd`), sums exact in 32 bits. All else
//! is AVX-512 VNNI.
//!
//! Weights lie as tiles already: sixteen lines of a block are one. Inputs are loaded where they are, one position a row
//! of a tile, so a convolution is a sum over the rows of its kernel of products of overlapping rows of bytes.
#![allow(unsafe_code)] // Instructions that Rust has no names for yet; every block says why it is sound.

mod ended;
mod parts;
mod places;
mod product;
mod squares;
mod tiles;

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use std::ops::Range;

use super::{
    Affine, Avx512Vnni, Bytewise, ColumnKernels, End, Kernels, Lookup, Packed, Panel, Shifts, Slope, Taps, TapsEnd,
    Terms, Wide, Windows,
};

/// AMX kernels.
#[derive(Debug)]
pub struct Amx {
    others: Avx512Vnni,
}

/// Request number of `arch_prctl`: the permission to use a state component that is off until asked for.
const ARCH_REQ_XCOMP_PERM: usize = 0x1023;
/// State component of tile data.
const XTILEDATA: usize = 18;
/// Fewest positions of a row for which tiles are worth it.
const FEWEST: usize = 5;

impl Amx {
    /// None where the machine lacks AMX or AVX-512 VNNI, or the operating system refuses tiles to this process.
    pub fn new() -> Option<Self> {
        let others = Avx512Vnni::new()?;
        (instructions() && permission()).then_some(Self { others })
    }

    /// For machines without AMX. None where the machine lacks AVX-512 VNNI.
    ///
    /// # Safety
    /// Something executes the instructions of tiles in the processor's place, in all threads, from now on.
    pub unsafe fn emulated() -> Option<Self> {
        Some(Self { others: Avx512Vnni::new()? })
    }
}

/// Whether there is `amx-tile` and `amx-int8`, and the operating system keeps their state.
fn instructions() -> bool {
    if __cpuid(0).eax < 7 {
        return false;
    }
    let (osxsave, tile, int8) = (1 << 27, 1 << 24, 1 << 25);
    if __cpuid(1).ecx & osxsave == 0 || __cpuid_count(7, 0).edx & (tile | int8) != tile | int8 {
        return false;
    }
    #[target_feature(enable = "xsave")]
    fn states() -> u64 {
        // SAFETY: register 0 exists wherever the instruction does.
        unsafe { _xgetbv(0) }
    }
    // SAFETY: the operating system has turned `xgetbv` on, which the processor said above.
    let states = unsafe { states() };
    let tiles = 3 << 17;
    states & tiles == tiles
}

/// Asks Linux for tiles, for all threads of the process.
fn permission() -> bool {
    let (number, mut result) = (158usize, 0isize);
    // SAFETY: `arch_prctl` with this request takes a number and touches no memory of ours.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XTILEDATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result == 0
}

impl Kernels for Amx {
    fn name(&self) -> &'static str {
        "x86_64-u8i8-amx"
    }

    fn multiply(
        &self,
        x: &Panel<'_>,
        w: &Packed,
        blocks: Range<usize>,
        start: &[i32],
        out: &mut [i32],
        out_step: usize,
    ) {
        let x = x.joined();
        if x.count < FEWEST || x.rows == 0 || w.runs() == 0 {
            return self.others.multiply(&x, w, blocks, start, out, out_step);
        }
        x.check(w, &blocks, start, out, out_step);
        // SAFETY: a value of this type exists only where there are tiles; the panel is checked.
        unsafe { product::product(&x, w, blocks, start, out, out_step) }
    }

    fn ended(&self, x: &Panel<'_>, w: &Packed, start: &[i32], end: End<'_>, out: &mut [u8]) -> bool {
        let x = x.joined();
        if x.count < FEWEST || x.rows == 0 || w.runs() == 0 {
            return self.others.ended(&x, w, start, end, out);
        }
        x.check_ended(w, start, end, out);
        // SAFETY: a value of this type exists only where there are tiles and AVX-512; panel, starts, end and output are checked.
        unsafe {
            ended::ended(&x, w, start, end, out);
        }
        true
    }

    fn peak(&self, rounds: u64) -> u64 {
        // SAFETY: as above.
        unsafe { tiles::peak(rounds) }
    }

    fn peak_of_bytes(&self, rounds: u64) -> u64 {
        // SAFETY: as above.
        unsafe { tiles::peak_of_bytes(rounds) }
    }

    fn depthwise(&self, x: &[&[u8]], w: &Taps, end: &TapsEnd, out: &mut [u8]) {
        self.others.depthwise(x, w, end, out);
    }

    fn depthwise_two(&self, x: &[&[u8]], w: [&Taps; 2], end: &TapsEnd, out: [&mut [u8]; 2]) -> bool {
        self.others.depthwise_two(x, w, end, out)
    }

    fn columns(&self) -> Option<&dyn ColumnKernels> {
        self.others.columns()
    }

    fn depthwise_sums(&self, x: &[&[u8]], w: &Taps, out: &mut [i32]) {
        self.others.depthwise_sums(x, w, out);
    }

    fn affine(&self, sums: &[i32], step: usize, end: &Affine, f: Range<usize>, out: &mut [u8], out_step: usize) {
        self.others.affine(sums, step, end, f, out, out_step);
    }

    fn slope(&self, sums: &[i32], step: usize, end: &Slope, f: Range<usize>, out: &mut [u8], out_step: usize) {
        self.others.slope(sums, step, end, f, out, out_step);
    }

    fn wide(&self, sums: &[i32], step: usize, end: &Wide, f: Range<usize>, out: &mut [u8], out_step: usize) {
        self.others.wide(sums, step, end, f, out, out_step);
    }

    fn looked_up(&self, sums: &[i32], step: usize, lookup: &Lookup, f: Range<usize>, values: &mut [i32]) {
        self.others.looked_up(sums, step, lookup, f, values);
    }

    fn steps(&self, sums: &[i32], step: usize, e: (&[i32], usize), f: Range<usize>, out: &mut [u8], out_step: usize) {
        self.others.steps(sums, step, e, f, out, out_step);
    }

    fn totals(&self, sums: &[i32], step: usize, terms: &Terms, filters: Range<usize>, totals: &mut [i32]) {
        self.others.totals(sums, step, terms, filters, totals);
    }

    fn add(&self, a: &[u8], b: &[u8], shifts: &Shifts, out: &mut [u8]) {
        self.others.add(a, b, shifts, out);
    }

    fn largest(&self, held: &mut [u8], new: &[u8], signed: bool) {
        self.others.largest(held, new, signed);
    }

    fn pool(&self, row: &[u8], windows: Windows, out: &mut [u8]) {
        self.others.pool(row, windows, out);
    }

    fn offset(&self, bytes: &[u8], out: &mut [u8]) {
        self.others.offset(bytes, out);
    }

    fn bytewise(&self, x: &[u8], rule: &Bytewise, out: &mut [u8]) {
        self.others.bytewise(x, rule, out);
    }
}
