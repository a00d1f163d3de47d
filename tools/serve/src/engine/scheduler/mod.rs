//! Which request runs next, on which board. No threads, no clock, no boards: every call is told the time, so that tests
//! go through hours in no time.
//!
//! - **Admission** (`admission`): requests and bytes are bounded, and a client may hold only as much as is still free, so
//!   that one client never fills the queues for the others.
//! - **Order** (`queue`): by priority, then deficit round robin by client, counted in samples.
//! - **Batches** (`pick`): a board takes what waits for one model up to its batch, once the batch is full or the oldest
//!   request has waited for the model's bound.
//! - **Boards** (`pick`, `boards`): a board stays with its model for a multiple of what programming another costs; what a
//!   board that failed had is queued again, once.

mod admission;
mod boards;
mod pick;
mod queue;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use admission::{Admission, Held};
pub use admission::{Limits, Refusal};
use boards::{Average, Board};
pub use boards::{BoardState, Done};
pub use pick::{Decision, Policy};
use queue::Queue;

/// A loaded version of a model.
pub type ModelId = u64;
/// A board, by its place in the configuration.
pub type BoardId = usize;
/// A request.
pub type JobId = u64;

/// The class of requests that name none.
pub const DEFAULT_PRIORITY: u32 = 100;

/// What the scheduler knows of a request.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Which.
    pub id: JobId,
    /// For which model.
    pub model: ModelId,
    /// Of whom.
    pub client: Arc<str>,
    /// Its class: the smaller, the earlier.
    pub class: u32,
    /// Samples it brings.
    pub samples: usize,
    /// Bytes it holds.
    pub bytes: usize,
    /// When it was taken.
    pub since: Instant,
    /// After this nobody wants it.
    pub deadline: Option<Instant>,
    /// Whether a board failed at it already.
    pub retried: bool,
}

/// A request that waits, and what it is made of.
#[derive(Debug)]
pub struct Queued<J> {
    /// What the scheduler knows.
    pub entry: Entry,
    /// Everything else.
    pub job: J,
}

/// Why a request that was taken is not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// It was withdrawn.
    Cancelled,
    /// The last board was quarantined.
    NoBoard,
}

/// How a model is scheduled.
#[derive(Clone, Debug)]
pub struct ModelSpec {
    /// Most samples of a batch.
    pub max_batch: usize,
    /// How long a request may wait for others of its batch.
    pub delay: Duration,
    /// Requests are not put together: the samples of one are a stream.
    pub alone: bool,
    /// Boards that can run it.
    pub boards: Vec<BoardId>,
}

struct Model<J> {
    spec: ModelSpec,
    queue: Queue<J>,
    /// Takes requests.
    open: bool,
    /// Boards that run it now.
    running: usize,
    /// Seconds a sample takes.
    sample: Average,
}

/// All queues and boards.
pub struct Scheduler<J> {
    policy: Policy,
    admission: Admission,
    models: HashMap<ModelId, Model<J>>,
    boards: Vec<Board>,
    /// Requests that are taken and not in a queue yet: their input is being made.
    preparing: HashMap<JobId, Entry>,
    deadlines: BTreeSet<(Instant, JobId, ModelId)>,
    next_job: JobId,
    turns: u64,
    draining: bool,
}

impl<J> Scheduler<J> {
    /// Empty, with `boards` boards in test.
    pub fn new(limits: Limits, policy: Policy, boards: usize, now: Instant) -> Self {
        Self {
            policy,
            admission: Admission::new(limits),
            models: HashMap::new(),
            boards: (0..boards).map(|_| Board::new(now)).collect(),
            preparing: HashMap::new(),
            deadlines: BTreeSet::new(),
            next_job: 1,
            turns: 0,
            draining: false,
        }
    }

    /// Opens a model for requests.
    pub fn open(&mut self, id: ModelId, spec: ModelSpec) {
        let model = Model { spec, queue: Queue::default(), open: true, running: 0, sample: Average::default() };
        self.models.insert(id, model);
    }

    /// Another board can run it from now on.
    pub fn place(&mut self, id: ModelId, board: BoardId) {
        if let Some(model) = self.models.get_mut(&id)
            && !model.spec.boards.contains(&board)
        {
            model.spec.boards.push(board);
        }
    }

    /// Closes a model for new requests; those it has are finished.
    pub fn close(&mut self, id: ModelId) {
        if let Some(model) = self.models.get_mut(&id) {
            model.open = false;
        }
    }

    /// Takes models out that are closed and have nothing left to do.
    pub fn reap(&mut self) -> Vec<ModelId> {
        if self.models.values().all(|m| m.open) {
            return Vec::new();
        }
        let preparing = |id: ModelId| self.preparing.values().any(|e| e.model == id);
        let idle = |id: ModelId, m: &Model<J>| !m.open && m.running == 0 && m.queue.requests() == 0 && !preparing(id);
        let gone: Vec<ModelId> = self.models.iter().filter(|(id, m)| idle(**id, m)).map(|(id, _)| *id).collect();
        for id in &gone {
            self.models.remove(id);
            for board in &mut self.boards {
                board.cost.remove(id);
                board.served.remove(id);
            }
        }
        gone
    }

    /// Takes no more requests; those that were taken are finished.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Whether requests are refused for good.
    pub fn draining(&self) -> bool {
        self.draining
    }

    /// Whether there is nothing left to do.
    pub fn idle(&self) -> bool {
        self.preparing.is_empty()
            && self.models.values().all(|m| m.queue.requests() == 0)
            && self.boards.iter().all(|b| b.running.is_none())
    }

    /// Takes a request, or refuses it before anything was done for it. Its input can be made now; then it is queued with
    /// [`Scheduler::enqueue`], or let go with [`Scheduler::abandon`].
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn admit(
        &mut self,
        now: Instant,
        model: ModelId,
        client: &str,
        (priority, deadline): (u32, Option<Instant>),
        (samples, bytes): (usize, usize),
    ) -> Result<JobId, Refusal> {
        if self.draining {
            return Err(Refusal::Draining);
        }
        let Some(m) = self.models.get(&model).filter(|m| m.open) else { return Err(Refusal::Closed) };
        if !m.spec.boards.iter().any(|&b| self.boards[b].state != BoardState::Quarantined) {
            return Err(Refusal::NoBoard);
        }
        let class = if priority == 0 { DEFAULT_PRIORITY } else { priority };
        if let Some(deadline) = deadline {
            if deadline <= now {
                return Err(Refusal::Deadline);
            }
            // Nothing ahead: then it is tried, however long others took, or a mean of one slow batch would be kept for ever.
            let ahead = m.queue.ahead(class, client);
            if let Some(wait) = self.takes(m, ahead).filter(|&wait| ahead > 0 && wait > deadline - now) {
                return Err(Refusal::TooLate(wait));
            }
        }
        let client = match self.admission.take(client, bytes) {
            Ok(client) => client,
            Err(mut full) => {
                full.retry_after = self.wait(model);
                return Err(Refusal::Full(full));
            }
        };
        let id = self.next_job;
        self.next_job += 1;
        let entry = Entry { id, model, client, class, samples, bytes, since: now, deadline, retried: false };
        self.preparing.insert(id, entry);
        Ok(id)
    }

    /// Queues a request that was taken.
    ///
    /// # Errors
    /// The job, when the request was cancelled meanwhile or has no board any more.
    pub fn enqueue(&mut self, id: JobId, job: J) -> Result<(), (Lost, J)> {
        let Some(entry) = self.preparing.remove(&id) else { return Err((Lost::Cancelled, job)) };
        let usable = |m: &Model<J>| m.spec.boards.iter().any(|&b| self.boards[b].state != BoardState::Quarantined);
        match self.models.get_mut(&entry.model).filter(|m| usable(m)) {
            Some(model) => {
                if let Some(deadline) = entry.deadline {
                    self.deadlines.insert((deadline, id, entry.model));
                }
                model.queue.push_back(Queued { entry, job });
                Ok(())
            }
            None => {
                self.admission.release(&entry.client, entry.bytes);
                Err((Lost::NoBoard, job))
            }
        }
    }

    /// Lets a request go that was taken and could not be prepared.
    pub fn abandon(&mut self, id: JobId) {
        if let Some(entry) = self.preparing.remove(&id) {
            self.admission.release(&entry.client, entry.bytes);
        }
    }

    /// Withdraws a request that has not begun. One that waits is given back; one whose input is being made is given back by
    /// [`Scheduler::enqueue`] later.
    pub fn cancel(&mut self, id: JobId, model: ModelId) -> Option<Queued<J>> {
        if let Some(entry) = self.preparing.remove(&id) {
            self.admission.release(&entry.client, entry.bytes);
            return None;
        }
        let queued = self.models.get_mut(&model)?.queue.remove(id)?;
        self.forget(&queued.entry);
        Some(queued)
    }

    /// Requests whose deadline has passed before they began.
    pub fn expire(&mut self, now: Instant) -> Vec<Queued<J>> {
        let mut expired = Vec::new();
        while let Some(&(deadline, id, model)) = self.deadlines.first()
            && deadline <= now
        {
            self.deadlines.pop_first();
            if let Some(queued) = self.models.get_mut(&model).and_then(|m| m.queue.remove(id)) {
                self.admission.release(&queued.entry.client, queued.entry.bytes);
                expired.push(queued);
            }
        }
        expired
    }

    /// The next deadline of a request that waits.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _, _)| *deadline)
    }

    /// The requests of a batch that ended, one way or the other, let go.
    pub fn release(&mut self, entry: &Entry) {
        self.admission.release(&entry.client, entry.bytes);
    }

    /// Everything that waits, let go.
    pub fn take_all(&mut self) -> Vec<Queued<J>> {
        let all: Vec<Queued<J>> = self.models.values_mut().flat_map(|m| m.queue.take_all()).collect();
        for queued in &all {
            self.forget(&queued.entry);
        }
        all
    }

    /// Requests and samples that wait for a model, and the time since the oldest came.
    pub fn waiting(&self, model: ModelId) -> (usize, usize, Option<Instant>) {
        self.models.get(&model).map_or((0, 0, None), |m| (m.queue.requests(), m.queue.samples(), m.queue.oldest()))
    }

    /// Whether a model is known here, open or not.
    pub fn knows(&self, model: ModelId) -> bool {
        self.models.contains_key(&model)
    }

    /// Everything that is taken and not ended.
    pub fn held(&self) -> Held {
        self.admission.held()
    }

    /// The bounds.
    pub fn limits(&self) -> Limits {
        self.admission.limits()
    }

    fn forget(&mut self, entry: &Entry) {
        self.admission.release(&entry.client, entry.bytes);
        if let Some(deadline) = entry.deadline {
            self.deadlines.remove(&(deadline, entry.id, entry.model));
        }
    }

    /// How long what waits for a model takes its boards, from what samples took before. None: nothing was measured yet.
    fn wait(&self, model: ModelId) -> Option<Duration> {
        let m = self.models.get(&model)?;
        let running: usize = self.boards.iter().filter_map(|b| b.running).filter(|r| r.0 == model).map(|r| r.1).sum();
        self.takes(m, m.queue.samples() + running)
    }

    /// How long so many samples take the boards of a model, from what samples took before.
    fn takes(&self, m: &Model<J>, samples: usize) -> Option<Duration> {
        let boards = m.spec.boards.iter().filter(|&&b| self.boards[b].state == BoardState::Healthy).count().max(1);
        m.sample.duration().map(|sample| sample.mul_f64(samples as f64 / boards as f64))
    }
}
