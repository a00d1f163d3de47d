//! Jobs that are computed at the same time, so that weights are read once for all. Nobody sees the difference: outputs are written
//! one by one in the order of the ring.

use std::ops::Range;
use std::sync::Arc;

use akida_hal::format::EVENT_BYTES;
use akida_hal::regs::dma;

use super::{Buffers, CoreDone, CoreWork, Framed, Given, JobError, Made, Taken, Weights, dense_bytes};
use crate::chip::controller::Kind;
use crate::chip::memory::lock;
use crate::chip::passes::Networks;

/// Whether memory from `address` on is part of `a`.
pub fn meet(a: &Range<u32>, address: u64, len: usize) -> bool {
    u64::from(a.start) < address.saturating_add(len as u64) && address < u64::from(a.end)
}

/// From the first byte of both to the last.
pub fn around(a: &Range<u32>, b: &Range<u32>) -> Range<u32> {
    a.start.min(b.start)..a.end.max(b.end)
}

/// A job whose descriptor was read.
pub struct Begun {
    work: CoreWork,
    networks: Arc<Networks>,
    buffers: Buffers,
    taken: Result<Taken, JobError>,
    /// Whether the input was read too, into the buffers.
    loaded: bool,
}

/// How a job will end, which nothing but an address of weights without memory could change any more.
pub struct Foreseen {
    /// What it leaves in registers.
    pub done: CoreDone,
    /// Device memory its output goes to.
    pub output: Range<u32>,
    /// Device memory that its input is still to be read from.
    pub input: Range<u32>,
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
        let Self { work, buffers, made } = self;
        let outcome = made.and_then(|made| work.deliver(&made, &buffers));
        lock(&work.reach.spare).push(buffers);
        work.done(outcome)
    }
}

impl CoreWork {
    /// The networks of a job that can be computed at the same time as others: each sees its own input and nothing of the others, and
    /// leaves the mesh as it is. What its passes read of the mesh is put to where it goes.
    pub fn networks(&self) -> Option<Arc<Networks>> {
        // Sums over words are of events as they come.
        let sums = dma::CHECKSUM_ENABLE.any(self.setup.debug);
        if self.kind == Kind::Config || dma::LOOPBACK.any(self.setup.debug) || sums {
            return None;
        }
        let mut mesh = lock(&self.reach.mesh);
        let Some(passes) = &self.passes else {
            let network = mesh.network().ok().filter(|network| !network.keeps_frames())?;
            return Some(Arc::new(Networks::new(vec![network], Vec::new())));
        };
        let several = self.loops() > 1 && !self.tampered();
        several.then(|| passes.networks(self.loops(), &mut mesh, &self.reach.bus))?
    }

    /// Reads the descriptor. The networks are those that [`networks`](Self::networks) gave. The input stays where it is if that is
    /// memory of which each write is known, and all values there are fine.
    pub fn begin(self, networks: Arc<Networks>) -> Begun {
        let buffers = lock(&self.reach.spare).pop().unwrap_or_default();
        let mut taken = self.take_input();
        if let (Ok(taken), Some(_)) = (&mut taken, &self.passes) {
            taken.output = self.setup.replay_output;
        }
        let stays = taken.as_ref().is_ok_and(|taken| {
            let made = networks.sources.iter().any(|source| meet(source, taken.input.start.into(), taken.input.len()));
            self.reach.bus.memory.contains(taken.input.start, taken.input.len()) && !made
        });
        let stays = stays && networks.first().input().bits == 8;
        let begun = Begun { work: self, networks, buffers, taken, loaded: false };
        if stays { begun } else { begun.load() }
    }
}

impl Begun {
    /// Reads the input into the buffers.
    fn load(mut self) -> Self {
        let port = self.networks.first().input();
        self.buffers.input.resize(port.len(), 0);
        if let Ok(taken) = &self.taken
            && let Err(error) = self.work.place_input(taken, port, &mut self.buffers.input)
        {
            self.taken = Err(error);
        }
        Self { loaded: true, ..self }
    }

    /// The input, to where it is computed.
    fn input(&self, into: &mut [u8]) -> Result<(), JobError> {
        match (&self.taken, self.loaded) {
            (Ok(taken), false) => self.work.place_input(taken, self.networks.first().input(), into)?,
            (Ok(_), true) => into.copy_from_slice(&self.buffers.input),
            // What was wrong with it is told instead of this.
            (Err(_), _) => return Err(JobError::Cancelled),
        }
        Ok(())
    }

    /// Does it as if it had not been begun.
    pub fn run(self) -> CoreDone {
        lock(&self.work.reach.spare).push(self.buffers);
        self.work.run()
    }

    /// The networks it goes through.
    pub fn networks(&self) -> &Arc<Networks> {
        &self.networks
    }

    /// Whether one of these jobs reads what one before it writes, or writes to the weights of all.
    pub fn depend(jobs: &[Self]) -> bool {
        let weights = jobs.first().map(Self::weights).unwrap_or_default();
        let meet = |a: &Range<u32>, b: &Range<u32>| meet(a, b.start.into(), b.len());
        let mut written: Option<Range<u32>> = None;
        jobs.iter().any(|job| {
            let too_early = written.as_ref().is_some_and(|written| job.reads().any(|read| meet(&read, written)));
            let writes = job.writes();
            let changes = weights.iter().any(|weights| meet(weights, &writes));
            written = Some(written.take().map_or(writes.clone(), |written| around(&written, &writes)));
            too_early || changes
        })
    }

    /// Device addresses that the output may go to.
    fn writes(&self) -> Range<u32> {
        let Self { work, taken, networks, .. } = self;
        let Ok(taken) = taken else { return 0..0 };
        let network = networks.last();
        let payload = network.dense_payload().unwrap_or(network.output().len() * EVENT_BYTES);
        let len = work.header_bytes() + payload.max(work.cleared());
        taken.output..taken.output.saturating_add(len as u32)
    }

    /// What was read of device addresses: descriptor, input, and what the passes are made of.
    pub fn reads(&self) -> impl Iterator<Item = Range<u32>> {
        let (slot, bytes) = self.work.slot;
        let input = self.taken.as_ref().map_or(0..0, |taken| taken.input.clone());
        [slot..slot.saturating_add(bytes), input].into_iter().chain(self.networks.sources.iter().cloned())
    }

    /// How the job will end, where that does not depend on what it computes.
    pub fn foresee(&self) -> Option<Foreseen> {
        let Self { work, taken, networks, .. } = self;
        let taken = taken.as_ref().ok()?;
        let (first, payload) = (networks.first().input(), networks.last().dense_payload()?);
        let output = self.writes();
        let there = work.reach.bus.memory.contains(output.start, output.len());
        let len = match &taken.from {
            Given::Events(_) => first.len(),
            Given::Dense(d) => dense_bytes(d),
        };
        let fits = len == first.len() && (!self.loaded || first.check(&self.buffers.input).is_ok());
        let chained = networks.passes.windows(2).all(|pair| pair[1].input().takes(&pair[0].output()));
        if work.tampered()
            || dma::CHECKSUM_ENABLE.any(work.setup.debug)
            || first.bits < 8
            || !fits
            || !chained
            || !there
        {
            return None;
        }
        let input = if self.loaded { 0..0 } else { taken.input.clone() };
        Some(Foreseen { done: work.done(Ok(work.ended(taken, 0, payload, 0))), output, input })
    }

    /// Where the job finds weights in device memory.
    pub fn weights(&self) -> Vec<Range<u32>> {
        let memory = Weights { bus: &self.work.reach.bus, addresses: self.work.reach.fnp2 };
        self.networks.passes.iter().flat_map(|network| network.external(&memory)).collect()
    }

    /// Does all but to write the output, which [`Computed::finish`] does in the order of the ring, of jobs of the same networks:
    /// together, so that weights are read once for all, unless one of them is refused.
    pub fn compute_together(mut jobs: Vec<Self>) -> Vec<Computed> {
        let fine = jobs.iter().all(|job| job.taken.is_ok() && job.work.live().is_ok());
        if fine && let Ok(outputs) = Self::outputs(&mut jobs) {
            return jobs.into_iter().zip(outputs).map(|(job, output)| job.made(Ok(output))).collect();
        }
        jobs.into_iter().map(Self::compute).collect()
    }

    fn compute(mut self) -> Computed {
        let output = self.work.live().and_then(|()| Self::outputs(std::slice::from_mut(&mut self)));
        // One job has one output.
        let output = output.and_then(|outputs| outputs.into_iter().next().ok_or(JobError::Cancelled));
        self.made(output)
    }

    fn made(self, output: Result<Framed, JobError>) -> Computed {
        let Self { work, buffers, taken, .. } = self;
        let made = taken.and_then(|taken| Ok(Made { taken, checksum_in: 0, output: output? }));
        Computed { work, buffers, made }
    }

    /// Computes jobs of the same networks, pass by pass, with their outputs in the buffers of each.
    fn outputs(jobs: &mut [Self]) -> Result<Vec<Framed>, JobError> {
        let mut framed: Vec<Vec<u8>> = jobs.iter_mut().map(|job| std::mem::take(&mut job.buffers.output)).collect();
        let mut outputs = Vec::with_capacity(jobs.len());
        if let Some(Self { work, networks, .. }) = jobs.first() {
            let weights = Weights { bus: &work.reach.bus, addresses: work.reach.fnp2 };
            networks.run(
                jobs.len(),
                |job, into| jobs[job].input(into),
                &weights,
                |job, output| outputs.push(jobs[job].work.frame_output(output, &mut framed[job])),
            )?;
        }
        jobs.iter_mut().zip(framed).for_each(|(job, framed)| job.buffers.output = framed);
        Ok(outputs)
    }
}
