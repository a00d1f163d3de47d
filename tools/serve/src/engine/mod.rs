//! Models on boards: the repository, the scheduler, and a thread for each board.
//!
//! ```text
//! submit ─▶ checked, taken or refused ─▶ input made ─▶ queue of its model ─▶ batch on a board ─▶ answer
//!            (caller's thread)            (there, or the pool)               (the board's thread, or the pool)
//! ```
//!
//! | file | concern |
//! |---|---|
//! | `scheduler` | who is next, on which board: pure, without clock and threads |
//! | `submit` | a request comes in |
//! | `board`, `health` | the thread of a board |
//! | `loader`, `repository`, `placing`, `index` | the thread that brings models in and out |
//! | `inputs`, `outputs`, `pool` | from tensors to samples and back |
//! | `model`, `stats`, `metrics`, `report` | what is in service, and what it counted |

mod board;
mod health;
mod index;
pub mod inputs;
mod loader;
mod metrics;
pub mod model;
pub mod outputs;
mod placing;
mod pool;
mod report;
pub mod repository;
pub mod scheduler;
pub mod settings;
mod shared;
pub mod stats;
mod submit;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use akida_tools::exit::{Exit, Failure};
use crossbeam_channel::{bounded, unbounded};

use self::board::Worker;
use self::loader::{Command, Loader};
use self::metrics::Metrics;
use self::pool::Task;
use self::scheduler::{BoardState, Scheduler};
use self::settings::Settings;
use self::shared::{BoardInfo, BoardReport, Inner, Order, Shared, lock};
use crate::error::{Kind, ServeError};

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
            minded: Instant::now(),
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
        let pulse =
            Duration::from_millis(self.shared.millis().saturating_sub(self.shared.pulse.load(Ordering::Relaxed)));
        let stuck = self.shared.settings.health.stuck;
        let inner = self.shared.inner();
        let count = self.shared.boards.len();
        let healthy = (0..count).filter(|&b| inner.scheduler.board(b).0 == BoardState::Healthy).count();
        let sane = longest.is_none_or(|l| l < stuck) && pulse < stuck;
        Progress { longest, pulse, healthy, boards: count, sane }
    }

    /// One line for service managers: boards, models, what is held.
    pub fn summary(&self) -> String {
        let Progress { healthy, boards, sane, .. } = self.progress();
        let models: usize = {
            let registry = self.shared.registry.read().unwrap_or_else(PoisonError::into_inner);
            registry.values().map(BTreeMap::len).sum()
        };
        let inner = self.shared.inner();
        let doing = match (inner.scheduler.draining(), sane) {
            (_, false) => "stuck",
            (true, true) => "draining",
            (false, true) => "serving",
        };
        format!(
            "{doing} {models} models on {healthy} of {boards} boards, {} requests held",
            inner.scheduler.held().requests
        )
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
        // Requests wait for no others of their batch any more: a board that sleeps until theirs was full must look again.
        self.shared.bells.iter().for_each(Condvar::notify_all);
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
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
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
        inner.minded = now + until;
        inner = shared.alarm.wait_timeout(inner, until).unwrap_or_else(PoisonError::into_inner).0;
    }
}
