//! Layer by layer: time, multiply-adds a second, and what part of the machine's peak that is, for every kernel set or the
//! one that `AKIDA_KERNELS` names. The peak is measured in turns with the layers; the best of many short runs counts, which
//! other work on the machine only ever makes worse.
//!
//! `cargo run --release -p akida-kernels --example layers [--all-cores] [part of a layer's name]`
//!
//! With `--all-cores` every core has a layer of its own, all at once, from the first to begin to the last to end, and so has the peak.

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use akida_kernels::*;

/// Name, kind, input, side of the kernel, stride, filters, pool, samples at once.
type Case = (&'static str, Kind, [usize; 3], usize, usize, usize, Pool, usize);

const MAX: Pool = Pool::Max { size: [2, 2], stride: [2, 2], pad: [0, 0] };
const GLOBAL: Pool = Pool::Global { after_activation: true };

const CASES: [Case; 32] = [
    ("conv 3x3x256x256 on 28x28", Kind::Standard, [28, 28, 256], 3, 1, 256, Pool::None, 1),
    ("dense 2048x1000, 512 at once", Kind::Standard, [1, 1, 2048], 1, 1, 1000, Pool::None, 512),
    ("dense 2048x1000, 256 at once", Kind::Standard, [1, 1, 2048], 1, 1, 1000, Pool::None, 256),
    ("dense 2048x1000, 64 at once", Kind::Standard, [1, 1, 2048], 1, 1, 1000, Pool::None, 64),
    ("dense 2048x1000, 16 at once", Kind::Standard, [1, 1, 2048], 1, 1, 1000, Pool::None, 16),
    ("dense 2048x1000", Kind::Standard, [1, 1, 2048], 1, 1, 1000, Pool::None, 1),
    ("dense 2304x512, 8 at once", Kind::Standard, [1, 1, 2304], 1, 1, 512, Pool::None, 8),
    ("dense 2304x512", Kind::Standard, [1, 1, 2304], 1, 1, 512, Pool::None, 1),
    ("dense 512x10", Kind::Standard, [1, 1, 512], 1, 1, 10, Pool::None, 1),
    ("conv 5x5x1x32 on 28x28", Kind::Standard, [28, 28, 1], 5, 1, 32, Pool::None, 1),
    ("conv 5x5x1x32 on 28x28, max 2", Kind::Standard, [28, 28, 1], 5, 1, 32, MAX, 1),
    ("conv 3x3x32x64 /2 on 14x14", Kind::Standard, [14, 14, 32], 3, 2, 64, Pool::None, 1),
    ("conv 3x3x3x16 on 32x32", Kind::Standard, [32, 32, 3], 3, 1, 16, Pool::None, 1),
    ("conv 3x3x16x16 on 32x32", Kind::Standard, [32, 32, 16], 3, 1, 16, Pool::None, 1),
    ("conv 1x1x16x16 on 32x32", Kind::Standard, [32, 32, 16], 1, 1, 16, Pool::None, 1),
    ("conv 3x3x32x32 on 16x16", Kind::Standard, [16, 16, 32], 3, 1, 32, Pool::None, 1),
    ("conv 3x3x64x64 on 8x8", Kind::Standard, [8, 8, 64], 3, 1, 64, Pool::None, 1),
    ("conv 1x1x64x64 on 8x8, sum", Kind::Standard, [8, 8, 64], 1, 1, 64, GLOBAL, 1),
    ("conv 3x3x3x8 /2 on 96x96", Kind::Standard, [96, 96, 3], 3, 2, 8, Pool::None, 1),
    ("depthwise 3x3x8 on 48x48", Kind::Depthwise, [48, 48, 8], 3, 1, 8, Pool::None, 1),
    ("conv 1x1x8x16 on 48x48", Kind::Standard, [48, 48, 8], 1, 1, 16, Pool::None, 1),
    ("depthwise 3x3x16 /2 on 48x48", Kind::Depthwise, [48, 48, 16], 3, 2, 16, Pool::None, 1),
    ("conv 1x1x16x32 on 24x24", Kind::Standard, [24, 24, 16], 1, 1, 32, Pool::None, 1),
    ("depthwise 3x3x128 on 6x6", Kind::Depthwise, [6, 6, 128], 3, 1, 128, Pool::None, 1),
    ("conv 1x1x128x128 on 6x6", Kind::Standard, [6, 6, 128], 1, 1, 128, Pool::None, 1),
    ("conv 3x3x3x32 /2 on 224x224", Kind::Standard, [224, 224, 3], 3, 2, 32, Pool::None, 1),
    ("depthwise 3x3x512 on 14x14", Kind::Depthwise, [14, 14, 512], 3, 1, 512, Pool::None, 1),
    ("conv 1x1x32x64 on 112x112", Kind::Standard, [112, 112, 32], 1, 1, 64, Pool::None, 1),
    ("conv 1x1x128x128 on 56x56", Kind::Standard, [56, 56, 128], 1, 1, 128, Pool::None, 1),
    ("conv 1x1x256x256 on 28x28", Kind::Standard, [28, 28, 256], 1, 1, 256, Pool::None, 1),
    ("conv 1x1x512x512 on 14x14", Kind::Standard, [14, 14, 512], 1, 1, 512, Pool::None, 1),
    ("conv 1x1x1024x1024 on 7x7", Kind::Standard, [7, 7, 1024], 1, 1, 1024, Pool::None, 1),
];

/// About so long is measured at a stretch: on several cores longer, so that it does not matter that they do not begin at once.
const STRETCH: [Duration; 2] = [Duration::from_micros(300), Duration::from_millis(10)];
/// Rounds of the peak that show how many fill a stretch.
const ROUNDS: u64 = 10_000;
/// Stretches, of which the best counts.
const TRIES: usize = 60;

struct Bench {
    layer: Layer,
    scratch: Scratch,
    input: Bytes,
    out: Bytes,
    shape: [usize; 3],
    samples: usize,
}

impl Bench {
    fn new(case: &Case, kernels: &'static dyn Kernels) -> Self {
        let &(_, kind, shape, side, stride, filters, pool, samples) = case;
        let conv = [shape[0].div_ceil(stride), shape[1].div_ceil(stride)];
        let side_of = |a: usize| match pool {
            Pool::Max { stride, .. } => conv[a] / stride[a],
            Pool::Global { .. } => 1,
            Pool::None => conv[a],
        };
        let tile = Tile { rows: 0..side_of(0), columns: 0..side_of(1), filters: 0..filters };
        let finish = Finish {
            arithmetic: Arithmetic::Chip { accumulator_bits: 28 },
            bias: vec![1; filters],
            activation: Activation::Relu,
            scale: Some(Scale { m: vec![100; filters], k: vec![16; filters] }),
            output_bits: 8,
            output_signed: false,
        };
        let spec = LayerSpec {
            kind,
            geometry: Geometry { input: shape, kernel: [side; 2], stride: [stride; 2], pad: [side / 2; 2], conv },
            // First layers take bytes, others what a rectifier leaves.
            input_bits: if shape[2] <= 3 { 8 } else { 7 },
            input_signed: false,
            pad_value: Vec::new(),
            pool,
            tile: tile.clone(),
            finish,
        };
        let count = side * side * filters * if kind == Kind::Depthwise { 1 } else { shape[2] };
        // Mostly small, as those of trained networks.
        let mut state = 1u64;
        let mut part = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 58) as i8
        };
        let weights: Vec<i8> = (0..count).map(|_| part() + part() - part() - part()).collect();
        let layer = Layer::prepare(spec, Weights { main: &weights, pointwise: &[] }, kernels).expect("a valid layer");
        let mut input = Bytes::default();
        input.resize(shape.iter().product::<usize>() * samples);
        input.iter_mut().enumerate().for_each(|(i, x)| *x = (i * 29 % 241) as u8 & 127);
        let mut out = Bytes::default();
        out.resize(tile.len() * samples);
        Self { layer, scratch: Scratch::default(), input, out, shape, samples }
    }

    fn run(&mut self) {
        let view = View::batch(black_box(&self.input), self.shape, self.samples).expect("a whole batch");
        self.layer.run(&view, &mut self.scratch, Output::Bytes(&mut self.out)).expect("fitting buffers");
        black_box(&mut self.out);
    }
}

fn macs(&(_, kind, shape, side, stride, filters, _, samples): &Case) -> f64 {
    let positions = shape[0].div_ceil(stride) * shape[1].div_ceil(stride) * samples;
    (positions * side * side * filters * if kind == Kind::Depthwise { 1 } else { shape[2] }) as f64
}

/// Seconds that the benches take for some work, all at once on a thread each.
fn seconds(benches: &mut [Bench], work: impl Fn(&mut Bench) + Sync) -> f64 {
    let timed = |bench: &mut Bench| {
        let begin = Instant::now();
        work(bench);
        (begin, Instant::now())
    };
    if let [bench] = benches {
        let (begin, end) = timed(bench);
        return (end - begin).as_secs_f64();
    }
    let start = Barrier::new(benches.len());
    let times: Vec<_> = thread::scope(|scope| {
        let one = |bench| {
            start.wait();
            timed(bench)
        };
        let threads: Vec<_> = benches.iter_mut().map(|bench| scope.spawn(move || one(bench))).collect();
        threads.into_iter().map(|t| t.join().expect("layers that ran before")).collect()
    });
    let first = times.iter().map(|t| t.0).min().expect("a bench");
    let last = times.iter().map(|t| t.1).max().expect("a bench");
    (last - first).as_secs_f64()
}

fn main() {
    let mut arguments: Vec<_> = std::env::args().skip(1).collect();
    let all = arguments.first().is_some_and(|a| a == "--all-cores");
    arguments.drain(..usize::from(all));
    let part = arguments.pop().unwrap_or_default();
    let threads = if all { thread::available_parallelism().map_or(1, usize::from) } else { 1 };
    let stretch = STRETCH[usize::from(threads > 1)].as_secs_f64();
    let sets: Vec<_> = match forced() {
        Ok(Some(kernels)) => vec![kernels],
        Ok(None) => available().to_vec(),
        Err(error) => return eprintln!("{error}"),
    };
    println!(
        "| layer, {threads} at once | kernels | µs | G multiply-adds/s | of the peak, zeros | of the peak, bytes that change |"
    );
    println!("|---|---|--:|--:|--:|--:|");
    for case in CASES.iter().filter(|c| c.0.contains(&part)) {
        for &kernels in &sets {
            let mut benches: Vec<_> = (0..threads).map(|_| Bench::new(case, kernels)).collect();
            let once = seconds(&mut benches, Bench::run);
            let runs = ((stretch / once) as usize).clamp(1, 10_000);
            let once = seconds(&mut benches, |_| _ = kernels.peak(ROUNDS));
            let rounds = ROUNDS * ((stretch / once) as u64).max(1);
            let many = (kernels.peak(1) * rounds * threads as u64) as f64;
            let (mut best, mut peaks) = (f64::INFINITY, [0f64; 2]);
            for _ in 0..TRIES {
                best = best.min(seconds(&mut benches, |bench| (0..runs).for_each(|_| bench.run())) / runs as f64);
                peaks[0] = peaks[0].max(many / seconds(&mut benches, |_| _ = kernels.peak(rounds)));
                peaks[1] = peaks[1].max(many / seconds(&mut benches, |_| _ = kernels.peak_of_bytes(rounds)));
            }
            let rate = macs(case) * threads as f64 / best;
            let [zeros, bytes] = peaks.map(|peak| rate / peak * 100.0);
            println!(
                "| {} | {} | {:.2} | {:.0} | {zeros:.0} % | {bytes:.0} % |",
                case.0,
                kernels.name(),
                best * 1e6,
                rate / 1e9,
            );
        }
    }
}
