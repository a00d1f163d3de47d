//! Jobs that are computed at the same time, so that weights are read once for all. Nobody sees the difference: outputs are written
//! one by one in the order of the ring.

use std::ops::Range;
use std::sync::Arc;

use akida_hal::format::EVENT_BYTES;
use akida_hal::regs::dma;

use super::{Buffers, CoreDone, CoreWork, JobError, Made, Taken, Weights};
use crate::chip::controller::Kind;
use crate::chip::memory::lock;
use crate::mesh::{MeshInput, MeshOutput, Network};

/// Whether memory from `address` on is part of `a`.
pub fn meet(a: &Range<u32>, address: u64, len: usize) -> bool {
    u64::from(a.start) < address.saturating_add(len as u64) && address < u64::from(a.end)
}

/// From the first byte of both to the last.
fn around(a: &Range<u32>, b: &Range<u32>) -> Range<u32> {
    a.start.min(b.start)..a.end.max(b.end)
}

/// A job whose input was read.
pub struct Begun {
    work: CoreWork,
    buffers: Buffers,
    taken: Result<Taken, JobError>,
}

/// How a job will end, which nothing but an address of weights without memory could change any more.
pub struct Foreseen {
    /// What it leaves in registers.
    pub done: CoreDone,
    /// Device memory its output goes to.
    pub output: Range<u32>,
}

/// A job that was computed; nobody can see it yet.
pub struct Computed {
    work: CoreWork,
    buffers: Buffers,
    made: Result<Made, JobError>,
}

impl Computed {
    /// Writes the output.
    pub fn finish(self) -> CoreDone {
        let Self { work, mut buffers, made } = self;
        let outcome = made.and_then(|made| work.deliver(made, &mut buffers));
        lock(&work.spare).push(buffers);
        work.done(outcome)
    }
}

impl CoreWork {
    /// Whether jobs like this one can be computed at the same time: each sees its own input and nothing of the others.
    pub fn side_by_side(&self) -> bool {
        self.kind != Kind::Config
            && self.passes.is_none()
            && !dma::LOOPBACK.any(self.setup.debug)
            && lock(&self.mesh).network().is_ok_and(|n| !n.keeps_frames())
    }

    /// Reads the input.
    pub fn begin(self) -> Begun {
        let buffers = lock(&self.spare).pop().unwrap_or_default();
        self.begin_with(buffers)
    }

    fn begin_with(self, mut buffers: Buffers) -> Begun {
        let taken = self.read_input(&mut buffers);
        Begun { work: self, buffers, taken }
    }
}

impl Begun {
    /// Reads the input once more, which was not there yet.
    pub fn again(self) -> Self {
        self.work.begin_with(self.buffers)
    }

    /// Does it as if it had not been begun.
    pub fn run(self) -> CoreDone {
        lock(&self.work.spare).push(self.buffers);
        self.work.run()
    }

    /// Whether one of these jobs reads what one before it writes, or writes to the weights of all.
    pub fn depend(jobs: &[Self]) -> bool {
        let weights = jobs.first().map(Self::weights).unwrap_or_default();
        let meet = |a: &Range<u32>, b: &Range<u32>| meet(a, b.start.into(), b.len());
        let mut written: Option<Range<u32>> = None;
        jobs.iter().any(|job| {
            let too_early = written.as_ref().is_some_and(|written| job.reads().iter().any(|read| meet(read, written)));
            let writes = job.writes();
            let changes = weights.iter().any(|weights| meet(weights, &writes));
            written = Some(written.take().map_or(writes.clone(), |written| around(&written, &writes)));
            too_early || changes
        })
    }

    /// Device addresses that the output may go to.
    fn writes(&self) -> Range<u32> {
        let Self { work, taken, .. } = self;
        let (Ok(taken), Ok(network)) = (taken, lock(&work.mesh).network()) else { return 0..0 };
        let payload = network.dense_payload().unwrap_or(network.output().len() * EVENT_BYTES);
        let len = work.header_bytes() + payload.max(work.cleared());
        taken.output..taken.output.saturating_add(len as u32)
    }

    /// What was read of device addresses: descriptor and input.
    pub fn reads(&self) -> [Range<u32>; 2] {
        let (slot, bytes) = self.work.slot;
        let input = self.taken.as_ref().map_or(0..0, |taken| taken.input.clone());
        [slot..slot.saturating_add(bytes), input]
    }

    /// How the job will end, where that does not depend on what it computes.
    pub fn foresee(&self) -> Option<Foreseen> {
        let Self { work, taken, .. } = self;
        let taken = taken.as_ref().ok()?;
        let network = lock(&work.mesh).network().ok()?;
        let payload = network.dense_payload()?;
        let output = self.writes();
        let there = work.bus.memory.contains(output.start, output.len());
        let fits = work.kind == Kind::Event || self.buffers.input.len() == network.input().len();
        // Narrower elements might be too large.
        if work.tampered() || dma::CHECKSUM_ENABLE.any(work.setup.debug) || network.input().bits < 8 || !fits || !there
        {
            return None;
        }
        Some(Foreseen { done: work.done(Ok(work.ended(taken, 0, payload, 0))), output })
    }

    /// Where the job finds weights in device memory.
    pub fn weights(&self) -> Vec<Range<u32>> {
        let Self { work, .. } = self;
        let network = lock(&work.mesh).network().ok();
        network.map_or(Vec::new(), |n| n.external(&Weights { bus: &work.bus, addresses: work.fnp2 }))
    }

    /// Does all but to write the output, which [`Computed::finish`] does in the order of the ring, of jobs that can be
    /// computed side by side: together, so that weights are read once for all, unless one of them is refused.
    pub fn compute_together(jobs: Vec<Self>) -> Vec<Computed> {
        let Some((outputs, network)) = Self::outputs(&jobs) else {
            return jobs
                .into_iter()
                .map(|Self { work, mut buffers, .. }| {
                    let made = work.make(None, &mut buffers);
                    Computed { work, buffers, made }
                })
                .collect();
        };
        jobs.into_iter()
            .zip(outputs)
            .map(|(Self { work, buffers, taken }, output)| {
                let (checksum_in, network) = (work.checksum_in(&buffers), network.clone());
                let made = taken.map(|taken| Made { taken, checksum_in, output, network });
                Computed { work, buffers, made }
            })
            .collect()
    }

    /// What jobs make, where none of them is refused.
    fn outputs(jobs: &[Self]) -> Option<(Vec<MeshOutput>, Arc<Network>)> {
        let first = &jobs.first()?.work;
        if jobs.iter().any(|job| job.taken.is_err() || job.work.live().is_err()) {
            return None;
        }
        let network = lock(&first.mesh).network().ok()?;
        let inputs: Vec<MeshInput<'_>> = jobs.iter().map(|job| job.buffers.mesh(job.work.kind)).collect();
        let outputs = network.run_batch(&inputs, &Weights { bus: &first.bus, addresses: first.fnp2 }).ok()?;
        Some((outputs, network))
    }
}
