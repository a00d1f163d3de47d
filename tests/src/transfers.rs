//! The transfer benchmark for a board of any kind: whole lists out of pinned memory against the kernel driver's manner, 1 KiB
//! at a time through a bounce buffer with a doorbell and a wait each. Both move the same bytes on the same board.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use akida_hal::Board;
use akida_hal::device::{ELEMENT_BYTES, KERNEL_ELEMENT_BYTES};
use akida_hal::transport::{PcieTransport, Segment, Transport, TransportOptions};
use nix::sys::resource::{UsageWho, getrusage};

/// Bytes of one list: 4 elements. Two of them fit into the AKD1500's memory.
const LIST: usize = 4 * ELEMENT_BYTES as usize;
/// Bytes that each way moves at least.
const SINGLE_BYTES: usize = 256 << 10;
const LIST_BYTES: usize = 8 << 20;

/// What moving memory in one manner cost.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Bytes moved in a second, in MB.
    pub rate: f64,
    /// Processor time of this process for each MiB.
    pub cpu: Duration,
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} MB/s, {:.1?} CPU/MiB", self.rate, self.cpu)
    }
}

/// One direction.
#[derive(Clone, Copy, Debug)]
pub struct Compared {
    /// `to device` or `to host`.
    pub way: &'static str,
    /// 1 KiB at a time.
    pub single: Cost,
    /// Lists out of pinned memory, one channel.
    pub lists: Cost,
    /// The same from two threads, each with a channel of its own.
    pub both: Cost,
}

impl Compared {
    /// How many times faster lists are, and how many times less processor time they take.
    pub fn ratios(&self) -> (f64, f64) {
        let cpu = self.single.cpu.as_secs_f64() / self.lists.cpu.as_secs_f64().max(1e-9);
        (self.lists.rate / self.single.rate, cpu)
    }
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rate, cpu) = self.ratios();
        let Self { way, single, lists, both } = self;
        write!(
            f,
            "{way}: 1 KiB {single}; lists {lists}; two channels {both}; {rate:.0} times faster, {cpu:.0} less CPU"
        )
    }
}

fn cpu() -> Result<Duration, String> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).map_err(|e| e.to_string())?;
    let part = |t: nix::sys::time::TimeVal| {
        Duration::from_secs(t.tv_sec().unsigned_abs()) + Duration::from_micros(t.tv_usec().unsigned_abs())
    };
    Ok(part(usage.user_time()) + part(usage.system_time()))
}

fn cost(bytes: usize, work: impl FnOnce() -> Result<(), String>) -> Result<Cost, String> {
    let (start, used) = (Instant::now(), cpu()?);
    work()?;
    let (took, used) = (start.elapsed(), cpu()?.saturating_sub(used));
    let mib = bytes as f64 / f64::from(1 << 20);
    Ok(Cost { rate: bytes as f64 / took.as_secs_f64() / 1e6, cpu: used.div_f64(mib) })
}

fn open(board: &Arc<dyn Board>, element_bytes: u32) -> Result<PcieTransport, String> {
    // One word read back, as the kernel driver does, where it is its manner that is measured.
    let read_back = element_bytes != KERNEL_ELEMENT_BYTES;
    let options = TransportOptions { element_bytes, read_back, ..TransportOptions::default() };
    PcieTransport::open(board.clone(), options).map_err(|e| e.to_string())
}

/// Measures both directions on an open board.
pub fn measure(board: &Arc<dyn Board>) -> Result<[Compared; 2], String> {
    let [in_single, out_single] = {
        let transport = open(board, KERNEL_ELEMENT_BYTES)?;
        let at = |done: usize| base(&transport) + (done % LIST) as u32;
        let mut piece = [0x5a; KERNEL_ELEMENT_BYTES as usize];
        let mut steps = (0..SINGLE_BYTES).step_by(piece.len());
        let single_in =
            cost(SINGLE_BYTES, || steps.try_for_each(|i| transport.write(at(i), &piece).map_err(|e| e.to_string())))?;
        let mut steps = (0..SINGLE_BYTES).step_by(piece.len());
        let single_out = cost(SINGLE_BYTES, || {
            steps.try_for_each(|i| transport.read(at(i), &mut piece).map_err(|e| e.to_string()))
        })?;
        [single_in, single_out]
    };
    let transport = open(board, ELEMENT_BYTES)?;
    let base = base(&transport);
    let buffers = [0, 1].map(|_| transport.allocate(LIST));
    let [first, second] = buffers.map(|b| b.map_err(|e| e.to_string()));
    let (first, second) = (first?, second?);
    let run = |to_device: bool, buffer, offset: usize, bytes: usize| -> Result<(), String> {
        let segments = [Segment { buffer, offset: 0, address: base + offset as u32, len: LIST }];
        (0..bytes / LIST).try_for_each(|_| {
            let moved = if to_device { transport.write_from(&segments) } else { transport.read_into(&segments) };
            moved.map_err(|e| e.to_string())
        })
    };
    // Put into the host's memory after a first list each way, so that only the lists that are measured can move it.
    let mark: Vec<u8> = (0..LIST as u32).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect();
    let blank = vec![0; LIST];
    let compare = |way, to_device, single| -> Result<Compared, String> {
        let say = |e: akida_hal::Error| e.to_string();
        run(to_device, &first, 0, LIST)?;
        first.write(0, if to_device { &mark } else { &blank }).map_err(say)?;
        let lists = cost(LIST_BYTES, || run(to_device, &first, 0, LIST_BYTES))?;
        let mut seen = vec![0; LIST];
        first.read(0, &mut seen).map_err(say)?;
        if seen != mark {
            return Err(format!("{way}: the lists that were measured did not move what they should"));
        }
        let both = cost(LIST_BYTES, || {
            std::thread::scope(|scope| {
                let other = scope.spawn(|| run(to_device, &second, LIST, LIST_BYTES / 2));
                run(to_device, &first, 0, LIST_BYTES / 2)?;
                other.join().unwrap_or_else(|_| Err("the other thread panicked".into()))
            })
        })?;
        Ok(Compared { way, single, lists, both })
    };
    Ok([compare("to device", true, in_single)?, compare("to host", false, out_single)?])
}

fn base(transport: &PcieTransport) -> u32 {
    transport.memory().first().map_or(0, |r| r.base).next_multiple_of(4096)
}
