//! What the threads of an engine have in common.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use akida_hal::mesh::Mesh;
use akida_runtime::hybrid::{HybridAnswers, HybridReady};
use crossbeam_channel::Sender;

use super::inputs::Input;
use super::loader::Command;
use super::metrics::Metrics;
use super::model::Served;
use super::outputs::Wanted;
use super::pool::Task;
use super::scheduler::{BoardId, BoardState, ModelId, Queued, Scheduler};
use super::settings::Settings;
use super::stats::{Times, unix_ms};
use crate::error::{Kind, ServeError};
use crate::request::InferResponse;
use crate::service::{Done, IndexEntry, RecentError};

/// A mutex that a panic does not take out of use: what it guards is whole between any two statements that could panic.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Failures that are remembered.
const ERRORS: usize = 64;

/// Versions in service, by the name of their model.
pub type ByName = HashMap<Arc<str>, BTreeMap<u32, Arc<Served>>>;

/// One of these an engine.
pub struct Shared {
    /// As configured.
    pub settings: Settings,
    /// Queues, boards, orders to boards.
    pub inner: Mutex<Inner>,
    /// One for each board.
    pub bells: Vec<Condvar>,
    /// For the thread that minds deadlines.
    pub alarm: Condvar,
    /// Requests ended, models are gone.
    pub settled: Condvar,
    /// What is in service.
    pub registry: RwLock<ByName>,
    /// What the repository holds, in service or not.
    pub index: RwLock<Vec<IndexEntry>>,
    /// In the order of the configuration.
    pub boards: Vec<BoardInfo>,
    /// Counters.
    pub metrics: Metrics,
    /// The last failures, oldest first.
    pub errors: Mutex<VecDeque<RecentError>>,
    /// Work that is not for boards.
    pub tasks: Sender<Task>,
    /// Orders to the loader.
    pub loader: Sender<Command>,
    /// Whether the models that were there at the start are loaded, or refused.
    pub loaded: AtomicBool,
    /// When the engine began.
    pub started: Instant,
    /// Milliseconds since then at which the thread that minds deadlines last came round.
    pub pulse: AtomicU64,
}

/// What is guarded by one lock.
pub struct Inner {
    /// Queues and boards.
    pub scheduler: Scheduler<Job>,
    /// Orders to each board.
    pub orders: Vec<VecDeque<Order>>,
    /// When the thread that minds deadlines looks again by itself.
    pub minded: Instant,
    /// Threads end when they have nothing to do.
    pub stop: bool,
}

/// An order to a board.
pub enum Order {
    /// Take a model in.
    Install {
        /// The model.
        served: Arc<Served>,
        /// Mapped for this board.
        ready: Box<HybridReady>,
        /// Its known answers.
        answers: Option<Arc<HybridAnswers>>,
        /// Told how it ended.
        reply: Sender<Result<(), String>>,
    },
    /// Forget a model.
    Drop(ModelId),
    /// Reset and test the board now.
    Retest,
}

/// A request with everything that is needed to run and answer it.
pub struct Job {
    /// The version that runs it.
    pub served: Arc<Served>,
    /// What enters the network.
    pub input: Input,
    /// What is asked for.
    pub wanted: Vec<Wanted>,
    /// Who waits for it.
    pub reply: Reply,
    /// The client's name for it.
    pub id: String,
    /// The trace it belongs to.
    pub trace: Option<String>,
    /// When it came.
    pub received: Instant,
    /// How long making the input took.
    pub preparing: Duration,
}

/// Calls back exactly once, whatever happens.
pub struct Reply(Option<Done>);

impl Reply {
    /// Around a callback.
    pub fn new(done: Done) -> Self {
        Self(Some(done))
    }

    /// Answers.
    pub fn send(mut self, result: Result<InferResponse, ServeError>) {
        if let Some(done) = self.0.take() {
            done(result);
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(done) = self.0.take() {
            done(Err(ServeError::new(Kind::Internal, "the request was lost: this is a mistake in this software")));
        }
    }
}

/// A board as others see it.
pub struct BoardInfo {
    /// Its name in responses, logs and metrics.
    pub name: String,
    /// Known once it was opened.
    pub opened: OnceLock<Opened>,
    /// What it did.
    pub report: Mutex<BoardReport>,
    /// Since when it works at something, whatever it is.
    pub busy: Mutex<Option<Instant>>,
}

/// What opening a board tells.
pub struct Opened {
    /// Its chip, its NPs, and whether it is simulated: boards of one kind replace each other.
    pub kind: String,
    /// The chip.
    pub chip: String,
    /// Whether no silicon is involved.
    pub simulated: bool,
    /// What is on it.
    pub mesh: Mesh,
}

/// What a board did.
#[derive(Clone, Debug, Default)]
pub struct BoardReport {
    /// Why it is not healthy.
    pub reason: String,
    /// Requests it answered.
    pub requests: u64,
    /// Samples of these.
    pub samples: u64,
    /// Time it worked.
    pub busy: Duration,
    /// Times it was programmed for another model.
    pub programmed: u64,
    /// Times it was reset.
    pub resets: u64,
    /// Bytes moved to it and from it.
    pub dma_bytes: u64,
}

impl BoardInfo {
    /// As responses name it.
    pub fn device(&self) -> String {
        match self.opened.get() {
            Some(Opened { simulated: true, .. }) => format!("{} (simulated)", self.name),
            _ => self.name.clone(),
        }
    }
}

impl Shared {
    /// The queues.
    pub fn inner(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }

    /// Wakes boards that could take a model's work.
    pub fn ring(&self, inner: &Inner, model: ModelId) {
        for board in inner.scheduler.free_boards(model) {
            self.bells[board].notify_one();
        }
    }

    /// Wakes the thread that minds deadlines, where one comes before it looks again by itself.
    pub fn mind(&self, inner: &Inner) {
        if inner.scheduler.next_deadline().is_some_and(|at| at < inner.minded) {
            self.alarm.notify_one();
        }
    }

    /// Gives a board an order.
    pub fn order(&self, board: BoardId, order: Order) {
        self.inner().orders[board].push_back(order);
        self.bells[board].notify_one();
    }

    /// A version in service: the newest, or the one that is named.
    pub fn find(&self, name: &str, version: Option<u32>) -> Option<Arc<Served>> {
        let registry = self.registry.read().unwrap_or_else(PoisonError::into_inner);
        let versions = registry.get(name)?;
        match version {
            Some(version) => versions.get(&version).cloned(),
            None => versions.last_key_value().map(|(_, served)| served.clone()),
        }
    }

    /// Why a name or a version cannot be had.
    pub fn missing(&self, name: &str, version: Option<u32>) -> ServeError {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let of: Vec<&IndexEntry> = index.iter().filter(|e| e.name == name).collect();
        let wanted = version.map_or_else(|| of.last(), |v| of.iter().find(|e| e.version == v));
        match (of.is_empty(), wanted) {
            (true, _) => ServeError::new(Kind::NotFound, format!("there is no model {name:?} in the repository")),
            (false, Some(entry)) => {
                let (version, state, reason) = (entry.version, entry.state.as_str(), &entry.reason);
                let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
                ServeError::new(Kind::Unavailable, format!("model {name:?} version {version} is {state}{why}"))
            }
            (false, None) => {
                let versions: Vec<u32> = of.iter().map(|e| e.version).collect();
                let wanted = version.unwrap_or(0);
                ServeError::new(Kind::NotFound, format!("model {name:?} has no version {wanted}, but {versions:?}"))
            }
        }
    }

    /// Remembers a failure, and logs it.
    pub fn error(&self, about: &str, message: &str, request: &str) {
        log::error!(about, request; "{message}");
        let mut errors = lock(&self.errors);
        if errors.len() == ERRORS {
            errors.pop_front();
        }
        errors.push_back(RecentError {
            unix_ms: unix_ms(),
            about: about.to_owned(),
            message: message.to_owned(),
            request: request.to_owned(),
        });
    }

    /// Ends a request: counts it, answers it, and gives its place free.
    pub fn answer(&self, queued: Queued<Job>, result: Result<InferResponse, ServeError>, times: Times) {
        let Queued { entry, job } = queued;
        self.end(entry.samples, job, result, times);
        // Behind the answer, so that draining waits for answers.
        self.inner().scheduler.release(&entry);
        self.settled.notify_all();
    }

    /// Ends a request whose place is free already, and which no board ran.
    pub fn answer_freed(&self, queued: Queued<Job>, error: ServeError) {
        let Queued { entry, job } = queued;
        let queue = job.received.elapsed();
        self.end(entry.samples, job, Err(error), Times { queue, ..Times::default() });
        self.settled.notify_all();
    }

    fn end(&self, samples: usize, job: Job, result: Result<InferResponse, ServeError>, times: Times) {
        let Job { served, received, reply, id, .. } = job;
        let total = received.elapsed();
        {
            let mut stats = lock(&served.stats);
            match &result {
                Ok(_) => stats.success(samples, &Times { total, ..times }),
                Err(e) if e.kind == Kind::Cancelled => stats.cancel(total),
                Err(_) => stats.fail(total),
            }
        }
        self.metrics.request(&served, &result, total, times.queue);
        if let Err(e) = &result
            && matches!(e.kind, Kind::Internal | Kind::Unavailable)
        {
            self.error(&served.label(), &e.message, &id);
        }
        reply.send(result);
    }

    /// Ends requests that have no board any more.
    pub fn strand(&self, jobs: Vec<Queued<Job>>) {
        for queued in jobs {
            let message = format!("no board of model {} is healthy any more", queued.job.served.name);
            self.answer_freed(queued, ServeError::new(Kind::Unavailable, message));
        }
    }

    /// A board changes its state, for a reason.
    pub fn set_state(&self, board: BoardId, state: BoardState, reason: &str) {
        let name = self.boards[board].name.as_str();
        lock(&self.boards[board].report).reason = reason.to_owned();
        // Said before it can be seen: who sees the state finds the reason among the errors.
        match state {
            BoardState::Healthy => log::info!(board = name; "healthy"),
            BoardState::Testing => log::info!(board = name; "testing"),
            BoardState::Resetting => self.error(name, &format!("failed, is reset: {reason}"), ""),
            BoardState::Quarantined => {
                self.metrics.quarantined(name);
                self.error(name, &format!("quarantined: {reason}"), "");
            }
        }
        let stranded = self.inner().scheduler.set_state(board, state);
        self.strand(stranded);
        self.bells[board].notify_one();
    }

    /// Milliseconds since the start.
    pub fn millis(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The thread that minds deadlines came round.
    pub fn beat(&self) {
        self.pulse.store(self.millis(), Ordering::Relaxed);
    }
}
