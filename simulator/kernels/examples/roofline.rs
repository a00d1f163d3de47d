//! What this machine can do at most, on one core and on all: multiply-adds of bytes, and bytes read from memory.
//!
//! `cargo run --release -p akida-kernels --example roofline`

use std::hint::black_box;
use std::sync::Barrier;
use std::time::Instant;

use akida_kernels::{Kernels, available};

/// Rounds of one measurement of multiply-adds: a few milliseconds.
const ROUNDS: u64 = 1_000_000;
/// Measurements, of which the best counts: others' work only ever makes it worse.
const TRIES: usize = 15;
/// Multiply-adds of what.
type Peak = fn(&dyn Kernels, u64) -> u64;
const PEAKS: [(&str, Peak); 2] = [
    ("zeros", |kernels, rounds| kernels.peak(rounds)),
    ("bytes that change", |kernels, rounds| kernels.peak_of_bytes(rounds)),
];
/// Bytes read: more than a last-level cache's part of a core.
const BYTES: usize = 256 << 20;

/// The most of several measurements by `threads` threads at once, in units a second.
fn most(threads: usize, work: &(impl Fn() -> f64 + Sync)) -> f64 {
    (0..TRIES)
        .map(|_| {
            let start = Barrier::new(threads);
            let one = || {
                start.wait();
                let begin = Instant::now();
                work() / begin.elapsed().as_secs_f64()
            };
            std::thread::scope(|scope| {
                let others: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
                others.into_iter().map(|t| t.join().unwrap_or(0.0)).sum::<f64>()
            })
        })
        .fold(0.0, f64::max)
}

fn bandwidth(threads: usize) -> f64 {
    let data = vec![1u64; BYTES / 8];
    most(threads, &|| {
        black_box(black_box(&data).iter().fold(0, |sum: u64, x| sum.wrapping_add(*x)));
        BYTES as f64
    })
}

fn main() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    println!("| roof | 1 core | {threads} cores |");
    println!("|---|--:|--:|");
    for kernels in available() {
        for (operands, peak) in PEAKS {
            let [one, all] = [1, threads].map(|t| most(t, &|| peak(*kernels, ROUNDS) as f64) / 1e9);
            println!("| {}, {operands}, G multiply-adds/s | {one:.1} | {all:.1} |", kernels.name());
        }
    }
    let [one, all] = [1, threads].map(|t| bandwidth(t) / 1e9);
    println!("| bytes read from memory, GB/s | {one:.1} | {all:.1} |");
}
