//! What jobs cost in register accesses, each of which waits for PCIe or leaves a virtual machine, counted at the [`Board`] seam.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use akida_hal::Result;
use akida_hal::board::{Bar, Board, Identity, Wake};
use akida_hal::device::{Device, DeviceOptions, OutputValues};
use akida_hal::dma::DmaBuffer;

use crate::faults::Work;

/// Longest wait for a job.
const WAIT: Duration = Duration::from_secs(20);
/// Jobs of which the first half settles buffers and lists, and the second is counted.
const JOBS: usize = 256;
/// Jobs that are counted together.
const WINDOW: usize = 16;

/// A board whose accesses to registers and configuration space are counted.
pub struct Counted {
    board: Arc<dyn Board>,
    accesses: AtomicU64,
}

impl Counted {
    /// None so far.
    pub fn new(board: Arc<dyn Board>) -> Self {
        Self { board, accesses: AtomicU64::new(0) }
    }

    fn count(&self) -> &dyn Board {
        self.accesses.fetch_add(1, Ordering::Relaxed);
        &*self.board
    }
}

/// Accesses per job.
#[derive(Clone, Copy, Debug)]
pub struct PerJob {
    /// Of all jobs that were counted.
    pub mean: f64,
    /// Of windows of 16 jobs: a machine that stands still for a while makes the driver look once more, which says nothing of jobs.
    pub median: f64,
}

/// Accesses per job with `batch` jobs in flight, once buffers and lists are what they stay; every result is compared.
///
/// # Errors
/// Whatever fails, and results that differ from the reference's.
pub fn per_job(board: Arc<dyn Board>, batch: usize) -> std::result::Result<PerJob, String> {
    let board = Arc::new(Counted::new(board));
    let mut device = Device::open(board.clone(), DeviceOptions::default()).map_err(|e| e.to_string())?;
    let target = akida_runtime::model::Target::of(device.mesh().version);
    let work = Work::small(target, device.mesh())?;
    device.program(work.program()).map_err(|e| e.to_string())?;
    let set = device.set_batch(batch).map_err(|e| e.to_string())?;
    if set != batch {
        return Err(format!("{set} jobs in flight instead of {batch}"));
    }
    let samples = work.samples();
    let mut values = OutputValues::U8(Vec::new());
    let (mut sent, mut marks) = (0, Vec::with_capacity(JOBS));
    while marks.len() < JOBS {
        if device.enqueue(&samples[sent % samples.len()].0).map_err(|e| e.to_string())?.is_some() {
            sent += 1;
            continue;
        }
        device.fetch_into(WAIT, &mut values).map_err(|e| e.to_string())?.ok_or("a job does not finish")?;
        let got: Vec<i32> = (0..values.len()).filter_map(|i| values.get(i)).collect();
        if got != samples[marks.len() % samples.len()].1 {
            return Err(format!("job {}: other numbers than the reference's", marks.len()));
        }
        marks.push(board.accesses.load(Ordering::Relaxed));
    }
    let settled = &marks[JOBS / 2 - 1..];
    let mut windows: Vec<u64> = settled.windows(WINDOW + 1).step_by(WINDOW).map(|w| w[WINDOW] - w[0]).collect();
    windows.sort_unstable();
    Ok(PerJob {
        mean: (settled[settled.len() - 1] - settled[0]) as f64 / (settled.len() - 1) as f64,
        median: windows[windows.len() / 2] as f64 / WINDOW as f64,
    })
}

impl Board for Counted {
    fn identity(&self) -> &Identity {
        self.board.identity()
    }

    fn config_read(&self, offset: u16) -> Result<u32> {
        self.count().config_read(offset)
    }

    fn config_write(&self, offset: u16, value: u32) -> Result<()> {
        self.count().config_write(offset, value)
    }

    fn bar_len(&self, bar: Bar) -> u64 {
        self.board.bar_len(bar)
    }

    fn read(&self, bar: Bar, offset: u64) -> Result<u32> {
        self.count().read(bar, offset)
    }

    fn write(&self, bar: Bar, offset: u64, value: u32) -> Result<()> {
        self.count().write(bar, offset, value)
    }

    fn allocate(&self, len: usize) -> Result<DmaBuffer> {
        self.board.allocate(len)
    }

    fn wait_interrupt(&self, timeout: Duration) -> Result<Wake> {
        self.board.wait_interrupt(timeout)
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
