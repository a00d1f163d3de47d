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

/// How long a thread looks before it sleeps, and how often it looks between two looks at the clock.
const LOOKS: Duration = Duration::from_micros(200);
const LOOKS_BY_CLOCK: usize = 64;

#[derive(Default)]
struct Board {
    /// Jobs that nobody has begun to compute, and the place of the first among the results.
    waiting: VecDeque<Begun>,
    next: usize,
    /// Results, with the place of the first of each.
    made: Vec<(usize, Vec<Computed>)>,
    /// Jobs without a result.
    missing: usize,
    /// Threads that sleep: helpers, and who waits for the end.
    asleep: usize,
    waits: bool,
    stop: bool,
}

#[derive(Default)]
struct Shared {
    board: Mutex<Board>,
    threads: usize,
    /// Lengths of `waiting`, and of what is `missing`, for those who look.
    waiting: AtomicUsize,
    missing: AtomicUsize,
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
        if jobs.len() < 2 || self.helpers.is_empty() {
            return Begun::compute_together(jobs);
        }
        self.begin(jobs);
        self.end()
    }

    /// Lets helpers begin; [`end`](Self::end) must follow.
    pub fn begin(&self, jobs: Vec<Begun>) {
        let mut board = lock(&self.shared.board);
        board.missing = jobs.len();
        board.next = 0;
        board.waiting = jobs.into();
        self.shared.tell(&board);
        if board.asleep > 0 {
            self.shared.begin.notify_all();
        }
    }

    /// Computes what nobody has begun and waits for the rest; results in the order of the jobs.
    pub fn end(&self) -> Vec<Computed> {
        let mut board = self.shared.work(lock(&self.shared.board));
        if board.missing > 0 {
            drop(board);
            look(|| self.shared.missing.load(Ordering::Relaxed) == 0);
            board = lock(&self.shared.board);
        }
        while board.missing > 0 {
            board.waits = true;
            board = self.shared.end.wait(board).unwrap_or_else(PoisonError::into_inner);
            board.waits = false;
        }
        let mut made = std::mem::take(&mut board.made);
        made.sort_unstable_by_key(|(place, _)| *place);
        made.into_iter().flat_map(|(_, computed)| computed).collect()
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
        self.waiting.store(board.waiting.len(), Ordering::Relaxed);
        self.missing.store(board.missing, Ordering::Relaxed);
    }

    /// Computes what waits until nothing does. Less and less is taken at once, so that all end at about the same time.
    fn work<'a>(&'a self, mut board: MutexGuard<'a, Board>) -> MutexGuard<'a, Board> {
        while !board.waiting.is_empty() {
            let count = board.waiting.len().div_ceil(self.threads);
            let jobs: Vec<Begun> = board.waiting.drain(..count).collect();
            let place = board.next;
            board.next += count;
            self.tell(&board);
            drop(board);
            let turn = Turn(self, count);
            let computed = Begun::compute_together(jobs);
            lock(&self.board).made.push((place, computed));
            drop(turn);
            board = lock(&self.board);
        }
        board
    }

    fn help(&self) {
        let mut board = lock(&self.board);
        while !board.stop {
            board = self.work(board);
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
struct Turn<'a>(&'a Shared, usize);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut board = lock(&self.0.board);
        board.missing -= self.1;
        self.0.tell(&board);
        if board.missing == 0 && board.waits {
            self.0.end.notify_one();
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
