//! Work on all processors, with results in a fixed order.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::available_parallelism;

/// Results of `f` for 0 to below `count`, in this order.
pub fn in_parallel<T: Send>(count: usize, f: impl Fn(usize) -> T + Sync) -> Vec<T> {
    on_threads(available_parallelism().map_or(1, usize::from).min(count), count, f)
}

fn on_threads<T: Send>(threads: usize, count: usize, f: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= count {
                return done;
            }
            done.push((at, f(at)));
        }
    };
    let mut all: Vec<(usize, T)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap_or_else(|e| std::panic::resume_unwind(e))).collect()
    });
    all.sort_unstable_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The order of results, and with it every sum over them, is that of one thread.
    #[test]
    fn results_do_not_depend_on_the_number_of_threads() {
        let part = |at: usize| (0..=at * 37).map(|i| 1.0 / (i + at + 1) as f32).sum::<f32>();
        let sum = |threads: usize| on_threads(threads, 41, part).into_iter().fold(0.0f32, |sum, x| sum * 0.7 + x);
        let alone = sum(1);
        assert!([2, 3, 8, 41].iter().all(|&threads| sum(threads).to_bits() == alone.to_bits()));
        assert!(on_threads(0, 0, part).is_empty());
    }
}
