//! Jobs that are computed at the same time, so that weights are read once for all. Nobody sees the difference: outputs are written
//! one by one in the order of the ring.

use akida_hal::regs::dma;

use super::{Buffers, CoreDone, CoreWork, JobError, Made, Taken, Weights};
use crate::chip::controller::Kind;
use crate::chip::memory::lock;
use crate::mesh::{MeshInput, MeshOutput};

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

    /// Does all but to write the output, which [`Computed::finish`] does in the order of the ring, of jobs that can be
    /// computed side by side: together, so that weights are read once for all, unless one of them is refused.
    pub fn compute_together(works: Vec<Self>) -> Vec<Computed> {
        let mut read: Vec<(Self, Buffers, Result<Taken, JobError>)> = works
            .into_iter()
            .map(|work| {
                let mut buffers = lock(&work.spare).pop().unwrap_or_default();
                let taken = work.read_input(&mut buffers);
                (work, buffers, taken)
            })
            .collect();
        let Some(outputs) = Self::outputs(&read) else {
            return read
                .into_iter()
                .map(|(work, mut buffers, _)| {
                    let made = work.make(None, &mut buffers);
                    Computed { work, buffers, made }
                })
                .collect();
        };
        read.drain(..)
            .zip(outputs)
            .map(|((work, buffers, taken), output)| {
                let made = taken.map(|taken| Made { taken, checksum_in: work.checksum_in(&buffers), output });
                Computed { work, buffers, made }
            })
            .collect()
    }

    /// What jobs make, where none of them is refused.
    fn outputs(read: &[(Self, Buffers, Result<Taken, JobError>)]) -> Option<Vec<MeshOutput>> {
        let (first, ..) = read.first().filter(|_| read.len() > 1)?;
        if read.iter().any(|(work, _, taken)| taken.is_err() || work.live().is_err()) {
            return None;
        }
        let network = lock(&first.mesh).network().ok()?;
        let inputs: Vec<MeshInput<'_>> = read.iter().map(|(work, buffers, _)| buffers.mesh(work.kind)).collect();
        network.run_batch(&inputs, &Weights { bus: &first.bus, addresses: first.fnp2 }).ok()
    }
}
