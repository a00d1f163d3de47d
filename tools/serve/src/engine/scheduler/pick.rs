//! What a free board does next.
//!
//! A model on the board that has a batch ready goes on. Another model gets the board when the one that is on it has nothing
//! ready, or has had it for a slice: [`Policy::slices`] times what programming the other took when it was measured, and
//! [`Policy::slice`] at least. So at most one part in `slices + 1` of a board's time goes into programming, and nobody waits
//! for longer than the slices of the others. Slices go to the model that waited longest for one. An idle board takes a
//! model that another healthy board has only for requests that waited as long as programming takes; of several idle boards
//! the one that was not used for longest is programmed. Requests of a more urgent class than any for the model on the board
//! wait for no slice.

use std::time::{Duration, Instant};

use super::{BoardId, BoardState, ModelId, Queued, Scheduler};

/// How boards are shared.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Shortest time a board stays with a model while another waits.
    pub slice: Duration,
    /// The same as a multiple of what programming costs.
    pub slices: u32,
    /// What programming is taken to cost before it was measured.
    pub cost: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self { slice: Duration::from_millis(10), slices: 4, cost: Duration::from_millis(10) }
    }
}

/// What a board is to do.
#[derive(Debug)]
pub enum Decision<J> {
    /// Run a batch; the board is busy until [`Scheduler::finish`].
    Run {
        /// The model.
        model: ModelId,
        /// The requests, in order.
        jobs: Vec<Queued<J>>,
    },
    /// Wait for something to change, or until then.
    Wait(Option<Instant>),
}

/// A model that could have the board.
struct Candidate {
    model: ModelId,
    /// From when on.
    from: Instant,
    class: u32,
    here: bool,
    /// When this board last began with it.
    served: u64,
}

impl<J> Scheduler<J> {
    /// Boards that could take a model's work now.
    pub fn free_boards(&self, model: ModelId) -> impl Iterator<Item = BoardId> {
        let boards = self.models.get(&model).map_or(&[][..], |m| &m.spec.boards);
        let free = |b: &&BoardId| self.boards[**b].state == BoardState::Healthy && self.boards[**b].running.is_none();
        boards.iter().filter(free).copied()
    }

    /// What `board` is to do.
    pub fn next(&mut self, board: BoardId, now: Instant) -> Decision<J> {
        let state = &self.boards[board];
        if state.state != BoardState::Healthy || state.running.is_some() {
            return Decision::Wait(None);
        }
        let candidates = self.candidates(board);
        let first = candidates
            .iter()
            .filter(|c| c.from <= now)
            .min_by_key(|c| (c.class, !c.here, c.served, c.from, c.model))
            .map(|c| c.model);
        // A slice that is over goes to the next, although the model here has work of the same class.
        let first = first.map(|model| turn(model, &candidates, now));
        match first {
            Some(model) => {
                let jobs = self.batch(model);
                self.begin(board, model, &jobs, now);
                Decision::Run { model, jobs }
            }
            None => Decision::Wait(candidates.iter().map(|c| c.from).min()),
        }
    }

    /// Every model with requests that this board can run.
    fn candidates(&self, board: BoardId) -> Vec<Candidate> {
        let on = self.boards[board].on;
        // None: nothing waits for the model on the board.
        let class_here = on.and_then(|id| self.models.get(&id)).and_then(|m| m.queue.class());
        let mut all = Vec::new();
        for (&id, model) in &self.models {
            let (Some(oldest), Some(class)) = (model.queue.oldest(), model.queue.class()) else { continue };
            if !model.spec.boards.contains(&board) {
                continue;
            }
            let full =
                model.queue.samples() >= model.spec.max_batch || model.spec.alone || !model.open || self.draining;
            let mut from = if full { oldest } else { oldest + model.spec.delay };
            let here = on == Some(id);
            if !here {
                let cost = self.cost(board, id);
                if class_here.is_some_and(|here| class >= here) {
                    // A slice begins when the board is programmed.
                    let begun = self.boards[board].since + on.map_or(Duration::ZERO, |on| self.cost(board, on));
                    from = from.max(begun + self.slice(cost));
                }
                // Boards that have it come first, unless they cannot keep up; then those that lose least.
                if self.elsewhere(id, board) || self.cheapest(id).is_some_and(|b| b != board) {
                    from = from.max(oldest + cost);
                }
            }
            let served = self.boards[board].served.get(&id).copied().unwrap_or(0);
            all.push(Candidate { model: id, from, class, here, served });
        }
        all
    }

    fn cost(&self, board: BoardId, model: ModelId) -> Duration {
        self.boards[board].cost.get(&model).and_then(|c| c.duration()).unwrap_or(self.policy.cost)
    }

    fn slice(&self, cost: Duration) -> Duration {
        self.policy.slice.max(cost * self.policy.slices)
    }

    /// Whether another healthy board is programmed with the model.
    fn elsewhere(&self, model: ModelId, board: BoardId) -> bool {
        let has =
            |(id, b): (BoardId, &super::Board)| id != board && b.state == BoardState::Healthy && b.on == Some(model);
        self.boards.iter().enumerate().any(has)
    }

    /// The free board that is best programmed for a model: an empty one, or the one not used for longest.
    fn cheapest(&self, model: ModelId) -> Option<BoardId> {
        self.free_boards(model).min_by_key(|&b| (self.boards[b].on.is_some(), self.boards[b].used, b))
    }

    /// Takes a batch out of a model's queue: at least one request.
    fn batch(&mut self, id: ModelId) -> Vec<Queued<J>> {
        let mut jobs = Vec::new();
        let Some(model) = self.models.get_mut(&id) else { return jobs };
        let mut room = model.spec.max_batch.max(1);
        // The first is taken whatever it brings: requests are bounded where they come in.
        while let Some(queued) = model.queue.pop(if jobs.is_empty() { usize::MAX } else { room }) {
            room = room.saturating_sub(queued.entry.samples);
            if let Some(deadline) = queued.entry.deadline {
                self.deadlines.remove(&(deadline, queued.entry.id, id));
            }
            jobs.push(queued);
            if room == 0 || model.spec.alone {
                break;
            }
        }
        jobs
    }

    fn begin(&mut self, board: BoardId, model: ModelId, jobs: &[Queued<J>], now: Instant) {
        self.turns += 1;
        let turn = self.turns;
        let b = &mut self.boards[board];
        b.used = now;
        if b.on != Some(model) {
            b.on = Some(model);
            b.since = now;
            b.served.insert(model, turn);
        }
        b.running = Some((model, jobs.iter().map(|q| q.entry.samples).sum(), now));
        if let Some(m) = self.models.get_mut(&model) {
            m.running += 1;
        }
    }
}

/// The model that gets the board, when `model` would be the first choice.
fn turn(model: ModelId, candidates: &[Candidate], now: Instant) -> ModelId {
    let Some(first) = candidates.iter().find(|c| c.model == model) else { return model };
    if !first.here {
        return model;
    }
    let others = candidates.iter().filter(|c| !c.here && c.from <= now && c.class == first.class);
    others.min_by_key(|c| (c.served, c.from, c.model)).map_or(model, |c| c.model)
}
