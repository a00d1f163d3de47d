//! Models on boards: the repository, the scheduler, and a thread for each board.
//!
//! ```text
//! submit ─▶ checked, taken or refused ─▶ input made ─▶ queue of its model ─▶ batch on a board ─▶ answer
//!            (caller's thread)            (there, or the pool)               (the board's thread, or the pool)
//! ```
//!
//! | file | concern |
//! |---|---|
//! | [`scheduler`] | who is next, on which board: pure, without clock and threads |
//! | [`board`] | the thread of a board |
//! | [`loader`], [`repository`] | the thread that brings models in and out |
//! | [`inputs`], [`outputs`], [`pool`] | from tensors to samples and back |
//! | [`model`], [`stats`], [`metrics`] | what is in service, and what it counted |

mod board;
pub mod inputs;
mod loader;
mod metrics;
pub mod model;
pub mod outputs;
mod pool;
pub mod repository;
pub mod scheduler;
pub mod settings;
mod shared;
pub mod stats;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use akida_tools::exit::{Exit, Failure};
use crossbeam_channel::{bounded, unbounded};

use self::board::Worker;
use self::inputs::Plan;
use self::loader::{Command, Loader};
use self::metrics::Metrics;
use self::model::Served;
use self::pool::{Taken, Task};
use self::scheduler::{BoardState, ModelId, Refusal, Scheduler};
use self::settings::Settings;
use self::shared::{BoardInfo, BoardReport, Inner, Order, Reply, Shared, lock};
use crate::error::{Kind, ServeError};
use crate::request::{InferRequest, InferResponse};
use crate::service::{
    BoardStatus, Done, IndexEntry, ModelInfo, ModelState, ModelStatistics, ModelStatus, Service, Status, Ticket,
};

/// Longest wait between two rounds of the thread that minds deadlines.
const ROUND: Duration = Duration::from_millis(500);

/// Boards and models in service.
pub struct Engine {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// How far a service gets on.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// How long the board that works longest at one thing has been at it.
    pub longest: Option<Duration>,
    /// Since the thread that minds deadlines last came round.
    pub pulse: Duration,
    /// Boards that take work.
    pub healthy: usize,
    /// All boards.
    pub boards: usize,
    /// Whether nothing is stuck.
    pub sane: bool,
}

impl Engine {
    /// Opens and tests all boards, loads the models, and begins to serve. Boards that fail are quarantined.
    ///
    /// # Errors
    /// When no board works (the first one's failure), or the repository cannot be read.
    pub fn start(settings: Settings) -> Result<Arc<Self>, Failure> {
        let root = &settings.repository.path;
        std::fs::read_dir(root).map_err(|e| Failure::input(root, &e))?;
        let now = Instant::now();
        let (tasks, task_queue) = unbounded::<Task>();
        let (loader, commands) = unbounded::<Command>();
        let count = settings.boards.len();
        let info = |name: &str| BoardInfo {
            name: name.to_owned(),
            opened: OnceLock::new(),
            report: Mutex::new(BoardReport::default()),
            busy: Mutex::new(None),
        };
        let inner = Inner {
            scheduler: Scheduler::new(settings.limits, settings.policy, count, now),
            orders: (0..count).map(|_| VecDeque::new()).collect(),
            stop: false,
        };
        let shared = Arc::new(Shared {
            inner: Mutex::new(inner),
            bells: (0..count).map(|_| Condvar::new()).collect(),
            alarm: Condvar::new(),
            settled: Condvar::new(),
            registry: RwLock::new(HashMap::new()),
            index: RwLock::new(Vec::new()),
            boards: settings.boards.iter().map(|b| info(&b.name)).collect(),
            metrics: Metrics::default(),
            errors: Mutex::new(VecDeque::new()),
            tasks,
            loader,
            loaded: AtomicBool::new(false),
            started: now,
            pulse: AtomicU64::new(0),
            settings,
        });
        let engine = Self { shared: shared.clone(), threads: Mutex::new(Vec::new()) };
        for _ in 0..shared.settings.preparers.max(1) {
            let (shared, tasks) = (shared.clone(), task_queue.clone());
            engine.spawn("prepare", move || pool::run(&shared, &tasks))?;
        }
        let minder = shared.clone();
        engine.spawn("deadlines", move || mind(&minder))?;
        let (opened, results) = unbounded();
        for id in 0..count {
            let (worker, opened) = (Worker::new(shared.clone(), id), opened.clone());
            engine.spawn(&format!("board {id}"), move || worker.run(&opened))?;
        }
        drop(opened);
        let mut failures: Vec<(usize, Failure)> = Vec::new();
        for (id, result) in results.iter().take(count) {
            failures.extend(result.err().map(|failure| (id, failure)));
        }
        if failures.len() == count {
            failures.sort_by_key(|(id, _)| *id);
            let none = || Failure::new(Exit::Usage, "there is no board", "name one with --device");
            return Err(failures.into_iter().next().map_or_else(none, |(_, failure)| failure));
        }
        let (first, loaded) = bounded(1);
        let worker = Loader::new(shared.clone());
        engine.spawn("loader", move || worker.run(&commands, &first))?;
        // An error means that the thread is gone: then nothing is loaded, and the index says so.
        let _ = loaded.recv();
        Ok(Arc::new(engine))
    }

    fn spawn(&self, name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work).map_err(|e| {
            Failure::because(Exit::Os, "a thread cannot be started", &e, "raise the limit of threads (TasksMax=)")
        })?;
        lock(&self.threads).push(thread);
        Ok(())
    }

    /// How far it gets on; for watchdogs. Takes no lock that a board could hold for long.
    pub fn progress(&self) -> Progress {
        let longest = self.shared.boards.iter().filter_map(|b| *lock(&b.busy)).map(|since| since.elapsed()).max();
        let pulse = Duration::from_millis(self.shared.millis().saturating_sub(self.shared.pulse.load(Ordering::Relaxed)));
        let stuck = self.shared.settings.health.stuck;
        let inner = self.shared.inner();
        let count = self.shared.boards.len();
        let healthy = (0..count).filter(|&b| inner.scheduler.board(b).0 == BoardState::Healthy).count();
        let sane = longest.is_none_or(|l| l < stuck) && pulse < stuck;
        Progress { longest, pulse, healthy, boards: count, sane }
    }

    /// Looks at the repository now.
    pub fn rescan(&self) {
        // Without a loader the engine is stopping.
        let _ = self.shared.loader.send(Command::Rescan);
    }

    /// Tests every quarantined board again, now.
    pub fn retest(&self) {
        for board in 0..self.shared.boards.len() {
            if self.shared.inner().scheduler.board(board).0 == BoardState::Quarantined {
                self.shared.order(board, Order::Retest);
            }
        }
    }

    /// Takes no more requests, and waits until those that were taken have ended, at most until `deadline`. How many have
    /// not.
    pub fn drain(&self, deadline: Instant) -> usize {
        let mut inner = self.shared.inner();
        inner.scheduler.drain();
        loop {
            let left = inner.scheduler.held().requests;
            let time = deadline.saturating_duration_since(Instant::now());
            if left == 0 || time.is_zero() {
                return left;
            }
            let waited = self.shared.settled.wait_timeout(inner, time.min(ROUND));
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Ends all threads; requests that are left get an answer that says so. Boards are reset on the way. Waits for work that
    /// is under way on them.
    pub fn stop(&self) {
        let left = {
            let mut inner = self.shared.inner();
            inner.scheduler.drain();
            inner.stop = true;
            inner.scheduler.take_all()
        };
        for queued in left {
            let error = ServeError::new(Kind::Unavailable, "the service ended before a board was free");
            self.shared.answer_freed(queued, error);
        }
        // Whoever is gone already needs no telling.
        let _ = self.shared.loader.send(Command::Stop);
        for _ in 0..self.shared.settings.preparers.max(1) {
            let _ = self.shared.tasks.send(Task::Stop);
        }
        self.shared.alarm.notify_all();
        self.shared.bells.iter().for_each(Condvar::notify_all);
        let threads = std::mem::take(&mut *lock(&self.threads));
        for thread in threads {
            if thread.join().is_err() {
                log::error!("a thread ended by a panic: this is a mistake in this software");
            }
        }
    }

    fn try_submit(&self, request: InferRequest, done: Done) -> Ticket {
        let received = Instant::now();
        let reply = Reply::new(done);
        let shared = &self.shared;
        let Some(served) = shared.find(&request.model, request.version) else {
            reply.send(Err(shared.missing(&request.model, request.version)));
            return Ticket::ended();
        };
        let refuse = |reply: Reply, error: ServeError, served: &Served| {
            let total = received.elapsed();
            {
                let mut stats = lock(&served.stats);
                stats.fail(total);
                stats.refused += u64::from(error.kind == Kind::Busy);
            }
            let result: Result<InferResponse, ServeError> = Err(error);
            shared.metrics.request(served, &result, total, Duration::ZERO);
            reply.send(result);
            Ticket::ended()
        };
        let plan = Plan::new(&served, &request.inputs);
        let found = plan.and_then(|plan| Ok((plan, outputs::find(&served, &request.outputs)?)));
        let (plan, wanted) = match found {
            Ok(found) => found,
            Err(error) => return refuse(reply, error, &served),
        };
        let size = (plan.samples, plan.bytes());
        let when = (request.priority, request.deadline);
        let admitted = shared.inner().scheduler.admit(received, served.id, &request.client, when, size);
        let id = match admitted {
            Ok(id) => id,
            // Replaced between the look into the registry and now.
            Err(Refusal::Closed) if shared.find(&request.model, request.version).is_some_and(|s| s.id != served.id) => {
                return self.again(request, reply);
            }
            Err(refusal) => return refuse(reply, refused(&served, &refusal), &served),
        };
        let model = served.id;
        let heavy = plan.heavy();
        let (name, trace) = (request.id, request.trace);
        let taken = Taken { id, served, plan, wanted, reply, name, trace, received };
        match heavy {
            true => {
                // The pool ends after the last request; should it not take this, the reply says that it was lost.
                drop(shared.tasks.send(Task::Prepare(Box::new(taken))));
            }
            false => pool::prepare(shared, taken),
        }
        let shared = Arc::downgrade(shared);
        Ticket::new(move || {
            let Some(shared) = shared.upgrade() else { return };
            let cancelled = shared.inner().scheduler.cancel(id, model);
            if let Some(queued) = cancelled {
                shared.answer_freed(queued, ServeError::new(Kind::Cancelled, "the client withdrew the request"));
            }
        })
    }

    fn again(&self, request: InferRequest, reply: Reply) -> Ticket {
        self.try_submit(request, Box::new(move |result| reply.send(result)))
    }

    fn devices(&self, served: &Served) -> Vec<String> {
        lock(&served.boards).iter().map(|&b| self.shared.boards[b].device()).collect()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What a client is told of a refusal.
fn refused(served: &Served, refusal: &Refusal) -> ServeError {
    let name = &served.name;
    match refusal {
        Refusal::Draining => ServeError::new(Kind::Unavailable, "the service ends and takes no more requests"),
        Refusal::Closed => ServeError::new(Kind::Unavailable, format!("model {name:?} goes out of service")),
        Refusal::NoBoard => ServeError::new(Kind::Unavailable, format!("no board of model {name:?} is healthy")),
        Refusal::Deadline => ServeError::new(Kind::Deadline, "the deadline passed before the request came"),
        Refusal::Full(full) => {
            let (what, limit, all, client) = (full.what, full.limit, full.all, full.client);
            let message = format!(
                "too much waits: {all} of {limit} {what} are held, {client} of them for this client, who may hold as much \
                 as is free without it; try again later"
            );
            let retry_after = Some(full.retry_after.unwrap_or(Duration::from_secs(1)).max(Duration::from_millis(1)));
            ServeError { retry_after, ..ServeError::new(Kind::Busy, message) }
        }
    }
}

/// The thread that minds deadlines: nobody waits for an answer that comes too late to be wanted.
fn mind(shared: &Shared) {
    let mut inner = shared.inner();
    while !inner.stop {
        shared.beat();
        let now = Instant::now();
        let expired = inner.scheduler.expire(now);
        if !expired.is_empty() {
            drop(inner);
            for queued in expired {
                let waited = now.saturating_duration_since(queued.entry.since);
                let message = format!("the deadline passed after {waited:.1?} in the queue");
                shared.answer_freed(queued, ServeError::new(Kind::Deadline, message));
            }
            let mut again = shared.inner();
            let gone = again.scheduler.reap();
            drop(again);
            shared.gone(&gone);
            inner = shared.inner();
            continue;
        }
        let until = inner.scheduler.next_deadline().map_or(ROUND, |at| at.saturating_duration_since(now).min(ROUND));
        inner = shared.alarm.wait_timeout(inner, until).unwrap_or_else(PoisonError::into_inner).0;
    }
}

impl Service for Engine {
    fn live(&self) -> bool {
        self.progress().sane
    }

    fn ready(&self) -> bool {
        let inner = self.shared.inner();
        let boards = 0..self.shared.boards.len();
        let healthy = boards.into_iter().any(|b| inner.scheduler.board(b).0 == BoardState::Healthy);
        healthy && !inner.scheduler.draining() && self.shared.loaded.load(Ordering::SeqCst)
    }

    fn submit(&self, request: InferRequest, done: Done) -> Ticket {
        self.try_submit(request, done)
    }

    fn models(&self) -> Vec<IndexEntry> {
        self.shared.index.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn model(&self, name: &str, version: Option<u32>) -> Result<ModelInfo, ServeError> {
        let index = self.models();
        let versions: Vec<u32> = index.iter().filter(|e| e.name == name).map(|e| e.version).collect();
        match self.shared.find(name, version) {
            Some(served) => Ok(served.info(versions, &self.devices(&served))),
            None => Err(self.shared.missing(name, version)),
        }
    }

    fn load(&self, name: &str) -> Result<(), ServeError> {
        let (reply, answer) = bounded(1);
        self.command(Command::Load(name.to_owned(), reply), &answer)?
    }

    fn unload(&self, name: &str) -> Result<(), ServeError> {
        let (reply, answer) = bounded(1);
        let ids: Vec<ModelId> = self.command(Command::Unload(name.to_owned(), reply), &answer)??;
        let mut inner = self.shared.inner();
        while ids.iter().any(|&id| inner.scheduler.knows(id)) && !inner.stop {
            let waited = self.shared.settled.wait_timeout(inner, ROUND);
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }

    fn statistics(&self, name: Option<&str>, version: Option<u32>) -> Result<Vec<ModelStatistics>, ServeError> {
        let registry = self.shared.registry.read().unwrap_or_else(PoisonError::into_inner);
        let all: BTreeMap<(&str, u32), &Arc<Served>> = registry
            .iter()
            .filter(|(n, _)| name.is_none_or(|name| name == &***n))
            .flat_map(|(n, versions)| versions.iter().map(move |(v, s)| ((&**n, *v), s)))
            .filter(|((_, v), _)| version.is_none_or(|version| version == *v))
            .collect();
        let reports: Vec<_> = all.iter().map(|((n, v), s)| lock(&s.stats).report(n, *v)).collect();
        drop(all);
        drop(registry);
        match (reports.is_empty(), name) {
            (true, Some(name)) => Err(self.shared.missing(name, version)),
            _ => Ok(reports),
        }
    }

    fn metrics(&self, text: &mut String) {
        let shared = &self.shared;
        {
            let inner = shared.inner();
            let held = inner.scheduler.held();
            shared.metrics.held(held.requests, held.bytes);
            for (id, board) in shared.boards.iter().enumerate() {
                shared.metrics.healthy(&board.name, inner.scheduler.board(id).0 == BoardState::Healthy);
            }
            let registry = shared.registry.read().unwrap_or_else(PoisonError::into_inner);
            for served in registry.values().flat_map(BTreeMap::values) {
                shared.metrics.waiting(served, inner.scheduler.waiting(served.id).1);
            }
        }
        shared.metrics.render(text);
    }

    fn status(&self) -> Status {
        let progress = self.progress();
        let ready = self.ready();
        let draining = self.shared.inner().scheduler.draining();
        let state = match (draining, progress.sane, progress.healthy, self.shared.loaded.load(Ordering::SeqCst)) {
            (true, ..) => "draining".to_owned(),
            (_, false, ..) => "stuck".to_owned(),
            (_, _, _, false) => "starting".to_owned(),
            (_, _, 0, _) => "no board is healthy".to_owned(),
            _ => "serving".to_owned(),
        };
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_seconds: self.shared.started.elapsed().as_secs_f64(),
            live: progress.sane,
            ready,
            state,
            boards: (0..self.shared.boards.len()).map(|id| self.board_status(id)).collect(),
            models: self.models().iter().map(|entry| self.model_status(entry)).collect(),
            errors: lock(&self.shared.errors).iter().rev().cloned().collect(),
        }
    }
}

impl Engine {
    /// Orders something of the loader and waits for its answer.
    fn command<T>(&self, command: Command, answer: &crossbeam_channel::Receiver<T>) -> Result<T, ServeError> {
        let gone = || ServeError::new(Kind::Unavailable, "the service ends");
        self.shared.loader.send(command).map_err(|_| gone())?;
        answer.recv().map_err(|_| gone())
    }

    fn board_status(&self, id: usize) -> BoardStatus {
        let info = &self.shared.boards[id];
        let (state, on) = self.shared.inner().scheduler.board(id);
        let report = lock(&info.report).clone();
        let running = lock(&info.busy).map(|since| since.elapsed()).unwrap_or_default();
        let opened = info.opened.get();
        let registry = self.shared.registry.read().unwrap_or_else(PoisonError::into_inner);
        let model = registry.values().flat_map(BTreeMap::values).find(|s| Some(s.id) == on);
        BoardStatus {
            name: info.name.clone(),
            kind: opened.map_or(String::new(), |o| o.chip.clone()),
            simulated: opened.is_some_and(|o| o.simulated),
            state: state.as_str().to_owned(),
            reason: report.reason,
            model: model.map_or(String::new(), |s| s.label()),
            requests: report.requests,
            samples: report.samples,
            busy_seconds: (report.busy + running).as_secs_f64(),
            programmed: report.programmed,
            resets: report.resets,
            dma_bytes: report.dma_bytes,
            temperature_celsius: None,
            power_watts: None,
        }
    }

    fn model_status(&self, entry: &IndexEntry) -> ModelStatus {
        let limit = self.shared.settings.limits.requests as u64;
        let mut status = ModelStatus {
            name: entry.name.clone(),
            version: entry.version,
            state: entry.state.as_str().to_owned(),
            reason: entry.reason.clone(),
            queue_limit: limit,
            ..ModelStatus::default()
        };
        let served = self.shared.find(&entry.name, Some(entry.version)).filter(|_| entry.state == ModelState::Ready);
        let Some(served) = served else { return status };
        status.boards = lock(&served.boards).iter().map(|&b| self.shared.boards[b].name.clone()).collect();
        status.queued = self.shared.inner().scheduler.waiting(served.id).1 as u64;
        let stats = lock(&served.stats);
        status.requests = stats.all.success.count;
        status.failures = stats.all.fail.count - stats.refused;
        status.refused = stats.refused;
        status.samples = stats.all.inference_count;
        status.executions = stats.all.execution_count;
        status.queue_seconds = stats.all.queue.ns as f64 / 1e9;
        status.total_seconds = stats.all.success.ns as f64 / 1e9;
        status
    }
}
