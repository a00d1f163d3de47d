//! Threads that compute jobs side by side for a board that works inside register accesses.
//!
//! The driver comes back with the next jobs some microseconds after the last were done, sooner than a thread that sleeps wakes up.
//! So whoever waits looks for a while before it sleeps, and is woken only if it does.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::chip::job::{Begun, Computed};
use crate::chip::memory::lock;
use crate::chip::passes::Networks;

/// How long a thread looks before it sleeps, and how often it looks between two looks at the clock.
const LOOKS: Duration = Duration::from_micros(200);
const LOOKS_BY_CLOCK: usize = 64;

/// What became of a job.
#[expect(clippy::large_enum_variant, reason = "nearly all are made; a box would be an allocation a job")]
enum Place {
    Missing,
    Made(Computed),
    /// Its thread panicked.
    Lost,
}

#[derive(Default)]
struct Board {
    /// Jobs that nobody has begun to compute: those of the last places.
    waiting: VecDeque<Begun>,
    /// Of all jobs that were not handed out, in their order.
    places: VecDeque<Place>,
    /// How many were handed out.
    out: usize,
    /// Threads that sleep: helpers, and who waits for results.
    asleep: usize,
    waits: bool,
    stop: bool,
}

impl Board {
    /// Leading jobs that are done.
    fn ready(&self) -> usize {
        self.places.iter().take_while(|place| !matches!(place, Place::Missing)).count()
    }
}

#[derive(Default)]
struct Shared {
    board: Mutex<Board>,
    threads: usize,
    /// Jobs that wait, and leading ones that are done, for those who look.
    waiting: AtomicUsize,
    ready: AtomicUsize,
    begin: Condvar,
    end: Condvar,
}

/// Helpers of the thread that accesses the board, which works too.
pub struct Team {
    shared: Arc<Shared>,
    helpers: Vec<JoinHandle<()>>,
}

impl Team {
    /// A team of `threads`, the caller of [`run`](Self::run) counted.
    pub fn new(name: &str, threads: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared { threads, ..Shared::default() });
        let helper = |n: usize| {
            let shared = shared.clone();
            std::thread::Builder::new().name(format!("{name} NPs {n}")).spawn(move || shared.help())
        };
        let helpers = (1..threads).map(helper).collect::<io::Result<_>>()?;
        Ok(Self { shared, helpers })
    }

    /// How many work.
    pub fn threads(&self) -> usize {
        self.helpers.len() + 1
    }

    /// Computes jobs; results in their order. Each thread takes neighbours, which are computed together.
    pub fn run(&self, jobs: Vec<Begun>) -> Vec<Computed> {
        let count = jobs.len();
        self.begin(jobs);
        self.end(count)
    }

    /// Lets helpers begin, with these jobs too if others are waiting; [`end`](Self::end) must follow.
    pub fn begin(&self, jobs: Vec<Begun>) {
        let mut board = lock(&self.shared.board);
        board.places.extend(jobs.iter().map(|_| Place::Missing));
        board.waiting.extend(jobs);
        self.shared.tell(&board);
        if board.asleep > 0 && board.waiting.len() > 1 {
            self.shared.begin.notify_all();
        }
    }

    /// Computes what nobody has begun until the first `count` jobs are done; results of these in their order, without those whose
    /// thread panicked.
    pub fn end(&self, count: usize) -> Vec<Computed> {
        let shared = &*self.shared;
        let mut board = lock(&shared.board);
        let count = count.min(board.places.len());
        while board.ready() < count {
            if !board.waiting.is_empty() {
                board = shared.work(board, |_| 1);
                continue;
            }
            drop(board);
            look(|| shared.ready.load(Ordering::Relaxed) >= count);
            board = lock(&shared.board);
            if board.ready() < count && board.waiting.is_empty() {
                board.waits = true;
                board = shared.end.wait(board).unwrap_or_else(PoisonError::into_inner);
                board.waits = false;
            }
        }
        board.out += count;
        let done: Vec<Place> = board.places.drain(..count).collect();
        shared.tell(&board);
        drop(board);
        done.into_iter().filter_map(|place| if let Place::Made(made) = place { Some(made) } else { None }).collect()
    }
}

/// Until there is something, or it takes too long.
fn look(there: impl Fn() -> bool) {
    let start = Instant::now();
    while start.elapsed() < LOOKS {
        for _ in 0..LOOKS_BY_CLOCK {
            if there() {
                return;
            }
            std::hint::spin_loop();
        }
    }
}

impl Shared {
    fn tell(&self, board: &Board) {
        // One job is computed sooner by whoever waits for it.
        let waiting = if board.waiting.len() > 1 { board.waiting.len() } else { 0 };
        self.waiting.store(waiting, Ordering::Relaxed);
        self.ready.store(board.ready(), Ordering::Relaxed);
    }

    /// Computes some of what waits, at least `least` of its networks. Less and less is taken, so that all end at about the same time, and not more than
    /// are faster together than one by one: whoever waits for the first of them would wait for the others too.
    fn work<'a>(&'a self, mut board: MutexGuard<'a, Board>, least: fn(&Networks) -> usize) -> MutexGuard<'a, Board> {
        let waiting = board.waiting.len();
        let networks = board.waiting.front().map(Begun::networks);
        let (least, together) = networks.map_or((1, 1), |networks| (least(networks), networks.at_once()));
        let most = if self.threads > 1 { together } else { waiting };
        let count = waiting.div_ceil(self.threads).max(waiting.min(least)).min(most);
        let first = board.out + board.places.len() - waiting;
        let jobs: Vec<Begun> = board.waiting.drain(..count).collect();
        self.tell(&board);
        drop(board);
        let mut turn = Turn { shared: self, first, count, made: Vec::new() };
        turn.made = Begun::compute_together(jobs);
        drop(turn);
        lock(&self.board)
    }

    fn help(&self) {
        let mut board = lock(&self.board);
        while !board.stop {
            if !board.waiting.is_empty() {
                board = self.work(board, Networks::at_least);
                continue;
            }
            drop(board);
            look(|| self.waiting.load(Ordering::Relaxed) > 0);
            board = lock(&self.board);
            if board.waiting.is_empty() && !board.stop {
                board.asleep += 1;
                board = self.begin.wait(board).unwrap_or_else(PoisonError::into_inner);
                board.asleep -= 1;
            }
        }
    }
}

/// Some jobs that are worked on. They are over when this is dropped, even by a panic: nobody waits for them for ever, and a driver
/// notices that they are missing.
struct Turn<'a> {
    shared: &'a Shared,
    first: usize,
    count: usize,
    made: Vec<Computed>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut board = lock(&self.shared.board);
        let first = self.first - board.out;
        let made = self.made.drain(..).map(Place::Made).chain(std::iter::repeat_with(|| Place::Lost));
        for (place, made) in board.places.range_mut(first..first + self.count).zip(made) {
            *place = made;
        }
        self.shared.tell(&board);
        if board.waits {
            self.shared.end.notify_one();
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        lock(&self.shared.board).stop = true;
        self.shared.begin.notify_all();
        for helper in self.helpers.drain(..) {
            if helper.join().is_err() {
                log::error!(target: "akida::sim", "a thread of NPs panicked");
            }
        }
    }
}
