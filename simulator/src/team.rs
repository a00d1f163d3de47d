//! Threads that compute jobs side by side for a board that works inside register accesses.
//!
//! The driver comes back with the next jobs some microseconds after the last were done, sooner than a thread that sleeps wakes up.
//! So whoever waits looks for a while before it sleeps.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::chip::job::{Computed, CoreWork};
use crate::chip::memory::lock;

/// How often a thread looks before it sleeps: some 50 µs.
const LOOKS: usize = 1000;

#[derive(Default)]
struct Board {
    /// Jobs that nobody has begun, some at a time, with their place among the results.
    waiting: VecDeque<(usize, Vec<CoreWork>)>,
    /// Results, empty while jobs are worked on.
    made: Vec<Vec<Computed>>,
    missing: usize,
    stop: bool,
}

#[derive(Default)]
struct Shared {
    board: Mutex<Board>,
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
        let shared = Arc::<Shared>::default();
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
    pub fn run(&self, mut works: Vec<CoreWork>) -> Vec<Computed> {
        if works.len() < 2 || self.helpers.is_empty() {
            return CoreWork::compute_together(works);
        }
        let each = works.len().div_ceil(self.threads());
        let mut board = lock(&self.shared.board);
        while !works.is_empty() {
            let rest = works.split_off(each.min(works.len()));
            let place = board.waiting.len();
            board.waiting.push_back((place, std::mem::replace(&mut works, rest)));
        }
        board.missing = board.waiting.len();
        board.made = board.waiting.iter().map(|_| Vec::new()).collect();
        self.shared.tell(&board);
        self.shared.begin.notify_all();
        board = self.shared.work(board);
        if board.missing > 0 {
            drop(board);
            look(|| self.shared.missing.load(Ordering::Relaxed) == 0);
            board = lock(&self.shared.board);
        }
        while board.missing > 0 {
            board = self.shared.end.wait(board).unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::take(&mut board.made).into_iter().flatten().collect()
    }
}

/// Until there is something, or it takes too long.
fn look(there: impl Fn() -> bool) {
    for _ in 0..LOOKS {
        if there() {
            return;
        }
        std::hint::spin_loop();
    }
}

impl Shared {
    fn tell(&self, board: &Board) {
        self.waiting.store(board.waiting.len(), Ordering::Relaxed);
        self.missing.store(board.missing, Ordering::Relaxed);
    }

    /// Computes what waits until nothing does.
    fn work<'a>(&'a self, mut board: MutexGuard<'a, Board>) -> MutexGuard<'a, Board> {
        while let Some((place, works)) = board.waiting.pop_front() {
            self.tell(&board);
            drop(board);
            let turn = Turn(self);
            let computed = CoreWork::compute_together(works);
            lock(&self.board).made[place] = computed;
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
                board = self.begin.wait(board).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

/// Some jobs that are worked on. They are over when this is dropped, even by a panic: nobody waits for them for ever, and a driver
/// notices that they are missing.
struct Turn<'a>(&'a Shared);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut board = lock(&self.0.board);
        board.missing -= 1;
        self.0.tell(&board);
        if board.missing == 0 {
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
