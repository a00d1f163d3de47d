//! What a board can be asked to prove about itself: a table of checks over [`Device`], the same on silicon, in a virtual
//! machine and in process. None needs a model; all take a loaded program away.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::board::{Bar, Board, Chip, Identity, Wake};
use crate::device::{Completion, Device, DeviceOptions};
use crate::dma::DmaBuffer;
use crate::mesh::Mesh;
use crate::packet::Uid;
use crate::regs::{np, pci, top};
use crate::transport::{PcieTransport, Transport, TransportOptions};
use crate::{Error, Result, memory_map};

/// One check.
pub struct Check {
    /// Stable name.
    pub name: &'static str,
    /// What it shows.
    pub about: &'static str,
    run: fn(&mut Bench) -> Result<String>,
}

/// How a check ended.
#[derive(Debug)]
pub enum Verdict {
    /// As it should be; what was seen.
    Passed(String),
    /// Not as it should be.
    Failed(Error),
    /// Could not be run, because an earlier one failed.
    Skipped,
}

/// A check and its end.
#[derive(Debug)]
pub struct Outcome {
    /// The check's name.
    pub name: &'static str,
    /// What it shows.
    pub about: &'static str,
    /// How it ended.
    pub verdict: Verdict,
    /// How long it took, in the board's time.
    pub took: Duration,
}

/// The board under test, and the device once a check has opened it.
struct Bench {
    board: Arc<dyn Board>,
    device: Option<Device>,
}

/// All checks, in order. Each relies on those before it.
pub const CHECKS: [Check; 8] = [
    Check { name: "identity", about: "configuration space answers with the board's ids", run: identity },
    Check { name: "open", about: "translation, DMA engine and mesh scan come up", run: open },
    Check { name: "mesh", about: "the scanned mesh is the one this chip is known to have", run: mesh },
    Check { name: "registers", about: "a register of the core holds every bit pattern", run: registers },
    Check { name: "memory", about: "board memory holds what DMA writes, at all sizes and alignments", run: memory },
    Check { name: "loopback", about: "the event DMA copies memory to memory", run: loopback },
    Check { name: "packets", about: "config packets reach NP memory and read it back", run: packets },
    Check { name: "reset", about: "the board works again after a function reset", run: reset },
];

/// Runs all checks. After a failure the rest is skipped: a result on a board in unknown state would mean nothing.
pub fn run(board: Arc<dyn Board>) -> Vec<Outcome> {
    let mut bench = Bench { board, device: None };
    let mut failed = false;
    CHECKS
        .iter()
        .map(|check| {
            let start = bench.board.now();
            let verdict = match failed {
                true => Verdict::Skipped,
                false => (check.run)(&mut bench).map_or_else(Verdict::Failed, Verdict::Passed),
            };
            failed |= matches!(verdict, Verdict::Failed(_));
            let took = bench.board.now().saturating_sub(start);
            Outcome { name: check.name, about: check.about, verdict, took }
        })
        .collect()
}

/// Whether the board's interrupt arrives: DMA transfers that end with one. `None` where the host does not say which message
/// the board has to send (hardware.md 15), so that only polling is possible.
pub fn interrupt(board: Arc<dyn Board>) -> Result<Option<Wake>> {
    let options = TransportOptions {
        timeout: Duration::from_secs(2),
        completion: Completion::Interrupt,
        ..TransportOptions::default()
    };
    let counting = Arc::new(Counting { board, wakes: AtomicU64::new(0) });
    let transport = match PcieTransport::open(counting.clone(), options) {
        Err(Error::Interrupts { .. }) => return Ok(None),
        other => other?,
    };
    for _ in 0..4 {
        transport.write(scratch(&transport), &[0x5a; 4096])?;
    }
    // The transport takes those it waits for; where the transfer was faster than its first look, they are still there.
    match counting.wakes.load(Ordering::SeqCst) {
        0 => counting.board.wait_interrupt(Duration::from_millis(100)).map(Some),
        _ => Ok(Some(Wake::Interrupt)),
    }
}

/// Counts interrupts on their way to the transport, which takes them for itself.
struct Counting {
    board: Arc<dyn Board>,
    wakes: AtomicU64,
}

impl Board for Counting {
    fn identity(&self) -> &Identity {
        self.board.identity()
    }
    fn config_read(&self, offset: u16) -> Result<u32> {
        self.board.config_read(offset)
    }
    fn config_write(&self, offset: u16, value: u32) -> Result<()> {
        self.board.config_write(offset, value)
    }
    fn bar_len(&self, bar: Bar) -> u64 {
        self.board.bar_len(bar)
    }
    fn read(&self, bar: Bar, offset: u64) -> Result<u32> {
        self.board.read(bar, offset)
    }
    fn write(&self, bar: Bar, offset: u64, value: u32) -> Result<()> {
        self.board.write(bar, offset, value)
    }
    fn allocate(&self, len: usize) -> Result<DmaBuffer> {
        self.board.allocate(len)
    }
    fn wait_interrupt(&self, timeout: Duration) -> Result<Wake> {
        let wake = self.board.wait_interrupt(timeout)?;
        self.wakes.fetch_add(u64::from(wake == Wake::Interrupt), Ordering::SeqCst);
        Ok(wake)
    }
    fn reset(&self) -> Result<()> {
        self.board.reset()
    }
    fn generation(&self) -> u64 {
        self.board.generation()
    }
    fn now(&self) -> Duration {
        self.board.now()
    }
    fn pause(&self, time: Duration) {
        self.board.pause(time);
    }
}

impl Bench {
    fn device(&mut self) -> Result<&mut Device> {
        let board = self.board.identity().to_string();
        self.device.as_mut().ok_or(Error::NotProgrammed { board })
    }
}

/// The first device address that tests may overwrite.
fn scratch(transport: &dyn Transport) -> u32 {
    transport.memory().first().map_or(memory_map::MEMORY, |r| r.base).next_multiple_of(4096)
}

fn identity(bench: &mut Bench) -> Result<String> {
    let identity = bench.board.identity();
    if bench.board.config_read(pci::CLASS_REVISION)? == u32::MAX {
        return Err(Error::DeviceLost { board: identity.to_string(), register: "PCI class".into() });
    }
    let id = bench.board.config_read(pci::ID)?;
    let (vendor, device) = (id as u16, (id >> 16) as u16);
    if (vendor, device) != (identity.vendor, identity.device) {
        return Err(Error::NotAkida { board: identity.to_string(), vendor, device });
    }
    Ok(format!("{vendor:04x}:{device:04x}"))
}

fn open(bench: &mut Bench) -> Result<String> {
    let device = Device::open(bench.board.clone(), DeviceOptions::default())?;
    let version = device.version();
    bench.device = Some(device);
    Ok(format!("hardware version {version}"))
}

fn mesh(bench: &mut Bench) -> Result<String> {
    let device = bench.device()?;
    let mesh = device.mesh();
    let known = match device.identity().chip {
        Chip::Akd1000 => vec![Mesh::akd1000()],
        Chip::Akd1500 => vec![Mesh::akd1500()],
        Chip::Akida2 => vec![Mesh::akida2_two_nodes(), Mesh::akida2_six_nodes()],
    };
    if !known.iter().any(|k| k.nps == mesh.nps && (k.columns, k.rows) == (mesh.columns, mesh.rows)) {
        return Err(Error::Register {
            board: device.identity().to_string(),
            register: "mesh scan",
            value: mesh.nps.len() as u32,
            expected: known.iter().map(|k| format!("{} NPs", k.nps.len())).collect::<Vec<_>>().join(" or "),
        });
    }
    Ok(format!("{} x {} nodes, {} NPs", mesh.columns, mesh.rows, mesh.nps.len()))
}

fn registers(bench: &mut Bench) -> Result<String> {
    let transport = bench.device()?.transport().clone();
    // A weight address of the FNP2: 32 plain bits, of no effect without a program.
    let address = memory_map::TOP + top::FNP2_ADDRESS_0;
    let old = transport.read32(address)?;
    let walking = (0..32).flat_map(|bit| [1u32 << bit, !(1 << bit)]);
    // Never all ones: that is what a lost board reads as.
    let patterns = walking.chain([0, 0x5555_5555, 0xaaaa_aaaa, 0x0123_4567]);
    let mut count = 0;
    for wrote in patterns {
        transport.write32(address, wrote)?;
        let read = transport.read32(address)?;
        if read != wrote {
            let board = transport.identity().to_string();
            return Err(Error::ReadBack { board, what: "TOP".into(), offset: top::FNP2_ADDRESS_0.into(), wrote, read });
        }
        count += 1;
    }
    transport.write32(address, old)?;
    Ok(format!("{count} patterns"))
}

fn memory(bench: &mut Bench) -> Result<String> {
    let transport = bench.device()?.transport().clone();
    let base = scratch(&*transport);
    let room = transport.memory().first().map_or(0, |r| r.base + r.len - base) as usize;
    let (mut cases, mut total) = (0, 0usize);
    for len in [4, 60, 1020, 1024, 1028, 4096, 65_536 + 12, 256 << 10] {
        for skew in [0, 4, 1024 - 4] {
            if skew + len > room {
                continue;
            }
            let sent = pattern(len, (cases + 1) as u32);
            let mut read = vec![0; len];
            transport.write(base + skew as u32, &sent)?;
            transport.read(base + skew as u32, &mut read)?;
            compare(&*transport, "board memory", &sent, &read)?;
            (cases, total) = (cases + 1, total + len);
        }
    }
    Ok(format!("{cases} transfers each way, {} KiB", total >> 10))
}

fn loopback(bench: &mut Bench) -> Result<String> {
    let sizes = [1u16, 255, 4096];
    for words in sizes {
        bench.device()?.self_test(words)?;
    }
    Ok(format!("{sizes:?} words"))
}

fn packets(bench: &mut Bench) -> Result<String> {
    let device = bench.device()?;
    let nps: Vec<_> = device.mesh().nps.iter().map(|(np, _)| *np).collect();
    let words: Vec<u32> = (1..=64u32).map(|i| i.wrapping_mul(0x9e37_79b9)).collect();
    for &np in &nps {
        device.write_np(np, Uid::PacketSram, 0, &words)?;
    }
    for &np in &nps {
        let read = device.read_np(np, Uid::PacketSram, 0, words.len())?;
        if let Some((i, (&wrote, &read))) = words.iter().zip(&read).enumerate().find(|(_, (a, b))| a != b) {
            let board = device.identity().to_string();
            return Err(Error::ReadBack { board, what: format!("{np} packet SRAM"), offset: i as u64, wrote, read });
        }
        let id = device.read_np(np, Uid::Registers, np::IDENTITY as u16 / 4, 1)?;
        log::debug!("{np}: identity register {:#010x}", id.first().copied().unwrap_or(0));
    }
    Ok(format!("{} NPs, {} words each", nps.len(), words.len()))
}

fn reset(bench: &mut Bench) -> Result<String> {
    let before = bench.board.generation();
    bench.device()?.recover()?;
    bench.device()?.self_test(64)?;
    Ok(format!("generation {before} -> {}", bench.board.generation()))
}

/// Bytes in which neither a shifted nor a stale copy looks right.
fn pattern(len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    })
    .take(len)
    .collect()
}

fn compare(transport: &dyn Transport, what: &str, sent: &[u8], read: &[u8]) -> Result<()> {
    match sent.iter().zip(read).position(|(a, b)| a != b) {
        None => Ok(()),
        Some(at) => Err(Error::ReadBack {
            board: transport.identity().to_string(),
            what: what.into(),
            offset: at as u64,
            wrote: sent[at].into(),
            read: read[at].into(),
        }),
    }
}
