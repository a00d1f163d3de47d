//! Jobs that registers tell of as done while other threads still work on their outputs.
//!
//! What such a job leaves in registers, and when, was known before it was computed ([`Begun::foresee`]). Only its output is to be
//! waited for, by whatever touches the memory that it goes to. So nobody can see that the driver goes on meanwhile.

use std::ops::Range;
use std::sync::Arc;

use super::Chip;
use super::job::{CoreDone, Foreseen};
use crate::team::Team;

/// Jobs whose outputs are missing.
pub(super) struct Late {
    team: Arc<Team>,
    /// Device memory that outputs go to, from the first byte of all to the last.
    outputs: Range<u32>,
    /// Device memory that weights are read from.
    weights: Vec<Range<u32>>,
}

fn meet(a: &Range<u32>, address: u64, len: usize) -> bool {
    u64::from(a.start) < address.saturating_add(len as u64) && address < u64::from(a.end)
}

impl Chip {
    /// Whether jobs may end before they are computed: a fault plan is about what happens when.
    pub fn foresees(&self) -> bool {
        !self.faults.any()
    }

    /// Ends jobs that the team has begun. The clock cycles of each.
    pub fn end_early(&mut self, team: &Arc<Team>, jobs: Vec<Foreseen>, weights: Vec<Range<u32>>) -> Vec<u32> {
        let starts = jobs.iter().map(|j| j.output.start).min().unwrap_or(0);
        let ends = jobs.iter().map(|j| j.output.end).max().unwrap_or(0);
        self.late = Some(Late { team: team.clone(), outputs: starts..ends, weights });
        jobs.into_iter().map(|job| self.core_done(job.done)).collect()
    }

    /// Waits for all outputs that are missing.
    pub fn catch_up(&mut self) {
        let Some(late) = self.late.take() else { return };
        for computed in late.team.end() {
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
        if self.late.as_ref().is_some_and(|late| meet(&late.outputs, address, len)) {
            self.catch_up();
        }
    }

    /// Device memory is about to be written to.
    pub(super) fn writes(&mut self, address: u64, len: usize) {
        if let Some(late) = &self.late
            && (meet(&late.outputs, address, len) || late.weights.iter().any(|w| meet(w, address, len)))
        {
            self.catch_up();
        }
    }
}
