//! Jobs that registers tell of as done before their outputs are computed.
//!
//! What such a job leaves in registers, and when, was known before it was computed ([`Begun::foresee`]). Only its output is to be
//! waited for, by whatever touches the memory that it goes to, or writes to where its input is. So nobody can see that the driver
//! goes on meanwhile, while other threads compute, or while more jobs come that read the same weights.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::Chip;
use super::job::{Begun, CoreDone, Foreseen, around, meet};
use super::passes::Networks;
use crate::team::Team;

/// Jobs whose outputs are missing.
pub(super) struct Late {
    team: Arc<Team>,
    /// Device memory that the output of each goes to, and that its input is read from.
    outputs: VecDeque<Range<u32>>,
    inputs: VecDeque<Range<u32>>,
    /// What all go through.
    networks: Arc<Networks>,
    /// Device memory that weights are read from.
    weights: Vec<Range<u32>>,
}

impl Late {
    /// How many jobs must be over before this memory is read.
    fn before(&self, address: u64, len: usize) -> usize {
        self.outputs.iter().rposition(|output| meet(output, address, len)).map_or(0, |last| last + 1)
    }

    /// The same before it is written to.
    fn before_written(&self, address: u64, len: usize) -> usize {
        let input = self.inputs.iter().rposition(|input| meet(input, address, len)).map_or(0, |last| last + 1);
        self.before(address, len).max(input)
    }
}

impl Chip {
    /// Whether jobs may end before they are computed: a fault plan is about what happens when.
    pub fn foresees(&self) -> bool {
        !self.faults.any()
    }

    /// Jobs whose outputs are missing.
    pub(super) fn late_jobs(&self) -> usize {
        self.late.as_ref().map_or(0, |late| late.outputs.len())
    }

    /// Whether nobody computes them until they are waited for.
    pub(super) fn late_alone(&self) -> bool {
        self.late.as_ref().is_some_and(|late| late.team.threads() == 1)
    }

    /// Whether one of these jobs read what a late one is about to write.
    pub fn read_too_early(&self, jobs: &[Begun]) -> bool {
        let Some(late) = &self.late else { return false };
        let outputs = late.outputs.iter().cloned().reduce(|a, b| around(&a, &b)).unwrap_or_default();
        let may_meet = |read: &Range<u32>| meet(read, outputs.start.into(), outputs.len());
        jobs.iter().flat_map(Begun::reads).filter(may_meet).any(|read| late.before(read.start.into(), read.len()) > 0)
    }

    /// Waits for jobs that go through other networks.
    pub(super) fn catch_up_with_others(&mut self, networks: &Networks) {
        if self.late.as_ref().is_some_and(|late| !late.networks.same(networks)) {
            self.catch_up();
        }
    }

    /// Lets the team begin jobs, and ends them. The clock cycles of each. Jobs that were late before go through the same networks.
    pub fn end_early(&mut self, team: &Arc<Team>, jobs: Vec<Begun>, foreseen: Vec<Foreseen>) -> Vec<u32> {
        if let (None, Some(first)) = (&self.late, jobs.first()) {
            let (networks, weights) = (first.networks().clone(), first.weights());
            let (outputs, inputs) = Default::default();
            self.late = Some(Late { team: team.clone(), outputs, inputs, networks, weights });
        }
        let Some(late) = &mut self.late else { return Vec::new() };
        late.outputs.extend(foreseen.iter().map(|job| job.output.clone()));
        late.inputs.extend(foreseen.iter().map(|job| job.input.clone()));
        team.begin(jobs);
        foreseen.into_iter().map(|job| self.core_done(job.done)).collect()
    }

    /// Waits for all outputs that are missing.
    pub fn catch_up(&mut self) {
        self.catch_up_with(self.late_jobs());
    }

    /// Waits for the outputs of the oldest late jobs.
    fn catch_up_with(&mut self, jobs: usize) {
        let Some(late) = self.late.as_mut().filter(|_| jobs > 0) else { return };
        late.outputs.drain(..jobs);
        late.inputs.drain(..jobs);
        let team = late.team.clone();
        if late.outputs.is_empty() {
            self.late = None;
        }
        for computed in team.end(jobs) {
            let CoreDone { kind, started, outcome, .. } = computed.finish();
            if let Err(error) = outcome
                && self.controllers[kind.index()].epoch().load(std::sync::atomic::Ordering::SeqCst) == started
            {
                self.refuse(kind, &error);
            }
        }
    }

    /// What is in device memory is about to be read.
    pub(super) fn reads(&mut self, address: u64, len: usize) {
        self.catch_up_with(self.late.as_ref().map_or(0, |late| late.before(address, len)));
    }

    /// Device memory is about to be written to.
    pub(super) fn writes(&mut self, address: u64, len: usize) {
        let Some(late) = &self.late else { return };
        match late.weights.iter().any(|weights| meet(weights, address, len)) {
            true => self.catch_up(),
            false => self.catch_up_with(late.before_written(address, len)),
        }
    }
}
