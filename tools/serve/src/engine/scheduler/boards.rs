//! What is known of each board: its state, its model, what it measured; and what becomes of the requests of one that fails.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::{BoardId, ModelId, Queued, Scheduler};

/// What a board is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BoardState {
    /// Takes work.
    Healthy,
    /// Is opened and given the known-answer test.
    Testing,
    /// Failed, and is reset.
    Resetting,
    /// Failed too often, or for good.
    Quarantined,
}

impl BoardState {
    /// The word in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            BoardState::Healthy => "healthy",
            BoardState::Testing => "testing",
            BoardState::Resetting => "resetting",
            BoardState::Quarantined => "quarantined",
        }
    }
}

pub(super) struct Board {
    pub state: BoardState,
    /// The model it is programmed with.
    pub on: Option<ModelId>,
    /// Since when.
    pub since: Instant,
    /// When it last began a batch.
    pub used: Instant,
    /// What it runs, and since when.
    pub running: Option<(ModelId, usize, Instant)>,
    /// What programming each model took.
    pub cost: HashMap<ModelId, Average>,
    /// When it last began with each model: turns go to the one that waited longest.
    pub served: HashMap<ModelId, u64>,
}

impl Board {
    /// In test, with nothing on it.
    pub fn new(now: Instant) -> Self {
        Self {
            state: BoardState::Testing,
            on: None,
            since: now,
            used: now,
            running: None,
            cost: HashMap::new(),
            served: HashMap::new(),
        }
    }
}

/// An exponentially weighted mean, in seconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Average(Option<f64>);

impl Average {
    pub fn add(&mut self, seconds: f64) {
        self.0 = Some(self.0.map_or(seconds, |mean| mean + (seconds - mean) / 8.0));
    }

    pub fn duration(self) -> Option<Duration> {
        self.0.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
    }
}

/// What a board made of a batch.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    /// Samples that it computed.
    pub samples: usize,
    /// How long that took, programming apart.
    pub computing: Duration,
    /// How long programming took, where it was needed.
    pub programming: Option<Duration>,
}

impl<J> Scheduler<J> {
    /// A board ended a batch.
    pub fn finish(&mut self, board: BoardId, done: Done) {
        let Some((id, _, _)) = self.boards[board].running.take() else { return };
        if let Some(model) = self.models.get_mut(&id) {
            model.running = model.running.saturating_sub(1);
            if done.samples > 0 {
                model.sample.add(done.computing.as_secs_f64() / done.samples as f64);
            }
        }
        if let Some(programming) = done.programming {
            self.boards[board].cost.entry(id).or_default().add(programming.as_secs_f64());
        }
    }

    /// What programming a model took when it was tried out.
    pub fn measured(&mut self, board: BoardId, model: ModelId, programming: Duration) {
        self.boards[board].cost.entry(model).or_default().add(programming.as_secs_f64());
    }

    /// Puts requests of a failed batch back in front, once. Those that cannot be tried again come back: a board failed at
    /// them before, or there is no board left.
    pub fn retry(&mut self, jobs: Vec<Queued<J>>) -> Vec<Queued<J>> {
        let mut failed = Vec::new();
        for mut queued in jobs.into_iter().rev() {
            let boards = self.boards.iter().map(|b| b.state).collect::<Vec<_>>();
            match self.models.get_mut(&queued.entry.model) {
                Some(model)
                    if !queued.entry.retried
                        && model.spec.boards.iter().any(|&b| boards[b] != BoardState::Quarantined) =>
                {
                    queued.entry.retried = true;
                    if let Some(deadline) = queued.entry.deadline {
                        self.deadlines.insert((deadline, queued.entry.id, queued.entry.model));
                    }
                    model.queue.push_front(queued);
                }
                _ => {
                    self.admission.release(&queued.entry.client, queued.entry.bytes);
                    failed.push(queued);
                }
            }
        }
        failed.reverse();
        failed
    }

    /// A board changed its state. Requests for which there is no board left come back.
    pub fn set_state(&mut self, board: BoardId, state: BoardState) -> Vec<Queued<J>> {
        self.boards[board].state = state;
        let mut stranded = Vec::new();
        if state != BoardState::Quarantined {
            return stranded;
        }
        self.boards[board].on = None;
        for model in self.models.values_mut() {
            if model.spec.boards.iter().all(|&b| self.boards[b].state == BoardState::Quarantined) {
                stranded.extend(model.queue.take_all());
            }
        }
        for queued in &stranded {
            self.forget(&queued.entry);
        }
        stranded
    }

    /// What is known of a board: its state and its model.
    pub fn board(&self, board: BoardId) -> (BoardState, Option<ModelId>) {
        (self.boards[board].state, self.boards[board].on)
    }

    /// Since when a board works at a batch.
    pub fn busy_since(&self, board: BoardId) -> Option<Instant> {
        self.boards[board].running.map(|(_, _, since)| since)
    }
}
