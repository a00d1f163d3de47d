//! Threads that compute jobs side by side for a board that works inside register accesses.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::chip::job::{Computed, CoreWork};
use crate::chip::memory::lock;

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
        self.shared.begin.notify_all();
        while let Some((place, works)) = board.waiting.pop_front() {
            drop(board);
            let computed = CoreWork::compute_together(works);
            board = lock(&self.shared.board);
            board.made[place] = computed;
            board.missing -= 1;
        }
        while board.missing > 0 {
            board = self.shared.end.wait(board).unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::take(&mut board.made).into_iter().flatten().collect()
    }
}

impl Shared {
    fn help(&self) {
        let mut board = lock(&self.board);
        while !board.stop {
            let Some((place, works)) = board.waiting.pop_front() else {
                board = self.begin.wait(board).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(board);
            let computed = CoreWork::compute_together(works);
            board = lock(&self.board);
            board.made[place] = computed;
            board.missing -= 1;
            if board.missing == 0 {
                self.end.notify_one();
            }
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
