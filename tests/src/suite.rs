//! One table of cases for every kind of board: in process, in another process, behind a real kernel (tests/vm). A case sees
//! a [`Board`] and nothing of what is behind it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use akida_hal::board::Wake;
use akida_hal::device::{ELEMENT_BYTES, KERNEL_ELEMENT_BYTES};
use akida_hal::dma::{DmaBuffer, DmaMemory, Unmap};
use akida_hal::selftest::{self, Verdict};
use akida_hal::transport::{PcieTransport, Segment, Transport, TransportOptions};
use akida_hal::{Board, Error, ErrorKind};

/// An I/O virtual address that nobody maps: above all that allocators of this project give out, below 4 GiB, and not in
/// the x86 interrupt window.
pub const UNMAPPED: u64 = 0xdead_0000;

/// A case: says what it saw, or what is wrong.
pub struct Case {
    /// Stable name.
    pub name: &'static str,
    /// What it shows.
    pub about: &'static str,
    run: fn(&Arc<dyn Board>) -> Result<String, String>,
}

/// How a case ended.
pub struct Outcome {
    /// The case.
    pub case: &'static Case,
    /// What it saw, or what is wrong.
    pub result: Result<String, String>,
    /// By the host's clock.
    pub took: Duration,
}

/// All cases, in order.
pub static CASES: [Case; 8] = [
    Case { name: "selftest", about: "all that a board proves about itself", run: self_test },
    Case { name: "interrupt", about: "the end of a transfer interrupts", run: interrupt },
    Case { name: "transfers", about: "lists of all sizes and alignments, both ways, two threads", run: transfers },
    Case { name: "small-elements", about: "the same in elements of 1 KiB, the kernel driver's", run: small_elements },
    Case { name: "refused-read", about: "host memory that is not mapped cannot be read", run: refused_read },
    Case { name: "refused-write", about: "host memory that is not mapped cannot be written", run: refused_write },
    Case { name: "stale", about: "a buffer of before a reset is refused", run: stale },
    Case { name: "reset", about: "a reset in mid-transfer ends it, and the board works again", run: reset },
];

impl Case {
    /// Runs it on a board.
    pub fn run(&'static self, board: &Arc<dyn Board>) -> Outcome {
        let start = Instant::now();
        Outcome { case: self, result: (self.run)(board), took: start.elapsed() }
    }
}

/// Runs all cases on a board.
pub fn run(board: &Arc<dyn Board>) -> Vec<Outcome> {
    CASES.iter().map(|case| case.run(board)).collect()
}

fn open(board: &Arc<dyn Board>) -> Result<PcieTransport, String> {
    open_with(board, ELEMENT_BYTES)
}

fn open_with(board: &Arc<dyn Board>, element_bytes: u32) -> Result<PcieTransport, String> {
    let timeout = Duration::from_secs(5);
    let options = TransportOptions { timeout, element_bytes, ..TransportOptions::default() };
    PcieTransport::open(board.clone(), options).map_err(|e| format!("opening: {e}"))
}

fn base(transport: &dyn Transport) -> u32 {
    transport.memory().first().map_or(0, |r| r.base).next_multiple_of(4096)
}

fn self_test(board: &Arc<dyn Board>) -> Result<String, String> {
    let outcomes = selftest::run(board.clone());
    for outcome in &outcomes {
        if !matches!(outcome.verdict, Verdict::Passed(_)) {
            return Err(format!("{outcome:?}"));
        }
    }
    Ok(format!("{} checks", outcomes.len()))
}

fn interrupt(board: &Arc<dyn Board>) -> Result<String, String> {
    match selftest::interrupt(board.clone()) {
        Ok(Some(Wake::Interrupt)) => Ok("arrives".into()),
        // How an AKD1500 could learn its message under VFIO is not known: polling it is.
        Ok(None) => Ok("the kernel hides the message: polling only".into()),
        other => Err(format!("{other:?}")),
    }
}

/// Bytes in which neither a shifted nor a stale copy looks right.
fn pattern(len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
    let step = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(step).take(len).collect()
}

/// There and back through scattered pieces of host memory.
fn round_trip(transport: &dyn Transport, address: u32, len: usize, pieces: usize, seed: u32) -> Result<(), String> {
    let say = |what: &'static str| move |e: Error| format!("{what} {len} bytes in {pieces} pieces: {e}");
    let stride = len.div_ceil(pieces).next_multiple_of(4) + 4;
    let (out, back) = (transport.allocate(stride * pieces), transport.allocate(stride * pieces));
    let (out, back) = (out.map_err(say("memory for"))?, back.map_err(say("memory for"))?);
    let sent = pattern(len, seed);
    let mut segments = Vec::new();
    for (i, chunk) in sent.chunks(len.div_ceil(pieces)).enumerate() {
        out.write(i * stride, chunk).map_err(say("filling"))?;
        let at = address + (i * len.div_ceil(pieces)) as u32;
        segments.push((i * stride, at, chunk.len()));
    }
    let over = |buffer| {
        segments.iter().map(move |&(offset, address, len)| Segment { buffer, offset, address, len }).collect::<Vec<_>>()
    };
    transport.write_from(&over(&out)).map_err(say("writing"))?;
    transport.read_into(&over(&back)).map_err(say("reading"))?;
    let mut got = vec![0; len];
    for (&(offset, _, n), i) in segments.iter().zip(0..) {
        let from = i * len.div_ceil(pieces);
        back.read(offset, &mut got[from..from + n]).map_err(say("emptying"))?;
    }
    match sent.iter().zip(&got).position(|(a, b)| a != b) {
        None => Ok(()),
        Some(at) => Err(format!("{len} bytes in {pieces} pieces differ from byte {at} on")),
    }
}

fn transfers(board: &Arc<dyn Board>) -> Result<String, String> {
    transfers_of(&open(board)?)
}

fn small_elements(board: &Arc<dyn Board>) -> Result<String, String> {
    transfers_of(&open_with(board, KERNEL_ELEMENT_BYTES)?)
}

fn transfers_of(transport: &PcieTransport) -> Result<String, String> {
    let base = base(transport);
    let sizes = [4usize, 100, 1024, 1028, 4096, 65_536, 65_536 + 8, 200_000];
    // Two threads in areas of their own: the engine has two channels each way.
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2u32)
            .map(|thread| {
                scope.spawn(move || {
                    for (i, len) in sizes.into_iter().enumerate() {
                        for pieces in [1, 3, 50] {
                            let pieces = pieces.min(len / 4);
                            // Pieces start at words.
                            let len = len.next_multiple_of(4 * pieces);
                            round_trip(transport, base + thread * 0x5_0000, len, pieces, 7 * i as u32 + thread)?;
                        }
                    }
                    Ok::<(), String>(())
                })
            })
            .collect();
        threads.into_iter().try_for_each(|t| t.join().unwrap_or_else(|_| Err("a thread panicked".into())))
    })?;
    let moved = transport.counters();
    Ok(format!("{} KiB in, {} KiB out, {} lists", moved.bytes_in >> 10, moved.bytes_out >> 10, moved.transfers))
}

/// Owner of memory that was never mapped.
struct Nobody;

impl Unmap for Nobody {
    fn unmap(&self, _: u64, _: usize) {}
}

fn unmapped(board: &Arc<dyn Board>) -> Result<DmaBuffer, String> {
    let memory = DmaMemory::new(4096).map_err(|e| e.to_string())?;
    Ok(DmaBuffer::new(Arc::new(memory), UNMAPPED, board.generation(), Arc::new(Nobody)))
}

fn aborted(result: Result<(), Error>) -> Result<String, String> {
    match result {
        Err(e @ Error::DmaAbort { iova: UNMAPPED, .. }) => Ok(e.to_string()),
        other => Err(format!("instead of an abort at {UNMAPPED:#x}: {other:?}")),
    }
}

fn refused_read(board: &Arc<dyn Board>) -> Result<String, String> {
    let transport = open(board)?;
    let (base, buffer) = (base(&transport), unmapped(board)?);
    round_trip(&transport, base, 4096, 1, 1)?;
    let segment = Segment { buffer: &buffer, offset: 0, address: base, len: 1024 };
    let seen = aborted(transport.write_from(&[segment]))?;
    let mut kept = vec![0; 4096];
    transport.read(base, &mut kept).map_err(|e| format!("after the refusal: {e}"))?;
    if kept != pattern(4096, 1) {
        return Err("board memory changed although nothing could be read".into());
    }
    round_trip(&transport, base, 4096, 1, 2)?;
    Ok(seen)
}

fn refused_write(board: &Arc<dyn Board>) -> Result<String, String> {
    let transport = open(board)?;
    let (base, buffer) = (base(&transport), unmapped(board)?);
    let segment = Segment { buffer: &buffer, offset: 0, address: base, len: 1024 };
    let seen = aborted(transport.read_into(&[segment]))?;
    round_trip(&transport, base, 4096, 1, 3)?;
    Ok(seen)
}

fn stale(board: &Arc<dyn Board>) -> Result<String, String> {
    let transport = open(board)?;
    let buffer = transport.allocate(4096).map_err(|e| e.to_string())?;
    transport.reset().map_err(|e| format!("reset: {e}"))?;
    let address = base(&transport);
    match transport.write_from(&[Segment { buffer: &buffer, offset: 0, address, len: 64 }]) {
        Err(e @ Error::StaleBuffer { .. }) => Ok(e.to_string()),
        other => Err(format!("instead of StaleBuffer: {other:?}")),
    }
}

fn reset(board: &Arc<dyn Board>) -> Result<String, String> {
    let transport = open(board)?;
    let base = base(&transport);
    let mut round = 0;
    let ended = loop {
        round += 1;
        if let Some(hit) = reset_once(board, &transport, base)? {
            break hit;
        }
        if round == ROUNDS {
            return Err(format!("{ROUNDS} resets, and none came while a transfer was under way"));
        }
    };
    round_trip(&transport, base, 65_536, 3, 10)?;
    drop(transport);
    self_test(board)?;
    Ok(format!("in round {round}: {ended}"))
}

/// Resets that may come between two transfers before one has to hit.
const ROUNDS: usize = 20;

/// The function is reset beside the transport, which knows nothing of it, while a thread moves memory. `None` when the transfer
/// that was under way had ended before; otherwise how it failed.
fn reset_once(board: &Arc<dyn Board>, transport: &PcieTransport, base: u32) -> Result<Option<String>, String> {
    // The transfer that is under way: odd while it is.
    let turn = AtomicU32::new(0);
    let (failed, hit) = std::thread::scope(|scope| {
        let mover = scope.spawn(|| {
            let bytes = pattern(512 << 10, 9);
            loop {
                let now = turn.fetch_add(1, Ordering::SeqCst) + 1;
                if let Err(error) = transport.write(base, &bytes) {
                    return (now, error);
                }
                turn.fetch_add(1, Ordering::SeqCst);
            }
        });
        let under_way = loop {
            match turn.load(Ordering::SeqCst) {
                // The first maps memory; the next ones move only.
                now if now % 2 == 1 && now > 2 => break now,
                _ if mover.is_finished() => break 0,
                _ => std::thread::yield_now(),
            }
        };
        let reset = board.reset();
        let (during, error) = mover.join().map_err(|_| "the transferring thread panicked".to_string())?;
        reset.map_err(|e| format!("reset: {e}"))?;
        Ok::<_, String>((error, during == under_way))
    })?;
    // Whatever the driver made of it, a reset of its own brings the board back.
    transport.reset().map_err(|e| format!("reset: {e}"))?;
    // A function that was reset decodes no memory and reads as all ones, as one that has left does.
    let kinds = [ErrorKind::Device, ErrorKind::TimedOut, ErrorKind::Usage, ErrorKind::Lost];
    if !kinds.contains(&failed.kind()) {
        return Err(format!("the transfer failed in another way: {failed}"));
    }
    Ok(hit.then(|| failed.to_string()))
}
