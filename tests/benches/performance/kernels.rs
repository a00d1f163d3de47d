//! Multiply-accumulates per second of every kernel set, over typical layers.

use std::hint::black_box;

use akida_kernels::{
    Activation, Arithmetic, Finish, Geometry, Kernels, Kind, Layer, LayerSpec, Output, Pool, Scale, Scratch, Tile,
    View, Weights, available,
};

use crate::measure::{Effort, Peer, Time, in_turns};
use crate::table;

/// Name, kind, input (height, width, channels), side of the kernel, stride, filters.
type Case = (&'static str, Kind, [usize; 3], usize, usize, usize);

const CASES: [Case; 16] = [
    ("**conv 3x3x256x256 on 28x28**", Kind::Standard, [28, 28, 256], 3, 1, 256),
    ("**dense 2048x1000, 64 at once**", Kind::Standard, [8, 8, 2048], 1, 1, 1000),
    ("dense 2048x1000", Kind::Standard, [1, 1, 2048], 1, 1, 1000),
    ("conv 5x5x1x32 on 28x28", Kind::Standard, [28, 28, 1], 5, 1, 32),
    ("conv 3x3x3x32 /2 on 224x224", Kind::Standard, [224, 224, 3], 3, 2, 32),
    ("conv 3x3x32x64 /2 on 14x14", Kind::Standard, [14, 14, 32], 3, 2, 64),
    ("conv 3x3x64x64 on 28x28", Kind::Standard, [28, 28, 64], 3, 1, 64),
    ("conv 1x1x256x256 on 14x14", Kind::Standard, [14, 14, 256], 1, 1, 256),
    ("conv 3x3x16x16 on 32x32", Kind::Standard, [32, 32, 16], 3, 1, 16),
    ("conv 3x3x64x64 on 8x8", Kind::Standard, [8, 8, 64], 3, 1, 64),
    ("conv 1x1x16x32 on 24x24", Kind::Standard, [24, 24, 16], 1, 1, 32),
    ("depthwise 3x3x8 on 48x48", Kind::Depthwise, [48, 48, 8], 3, 1, 8),
    ("depthwise 3x3x32 /2 on 24x24", Kind::Depthwise, [24, 24, 32], 3, 2, 32),
    ("depthwise 3x3x256 on 14x14", Kind::Depthwise, [14, 14, 256], 3, 1, 256),
    ("dense 2304x512", Kind::Standard, [1, 1, 2304], 1, 1, 512),
    ("dense 512x10", Kind::Standard, [1, 1, 512], 1, 1, 10),
];

fn spec(&(_, kind, input, kernel, stride, filters): &Case) -> LayerSpec {
    let conv = [input[0].div_ceil(stride), input[1].div_ceil(stride)];
    LayerSpec {
        kind,
        geometry: Geometry { input, kernel: [kernel; 2], stride: [stride; 2], pad: [kernel / 2; 2], conv },
        input_bits: 8,
        input_signed: true,
        pad_value: Vec::new(),
        pool: Pool::None,
        tile: Tile { rows: 0..conv[0], columns: 0..conv[1], filters: 0..filters },
        finish: Finish {
            arithmetic: Arithmetic::Chip { accumulator_bits: 28 },
            bias: vec![1; filters],
            activation: Activation::Relu,
            scale: Some(Scale { m: vec![100; filters], k: vec![16; filters] }),
            output_bits: 8,
            output_signed: true,
        },
    }
}

/// A prepared layer that can be run again and again.
struct Bench {
    layer: Layer,
    scratch: Scratch,
    out: Vec<u8>,
}

impl Bench {
    fn new(spec: &LayerSpec, weights: &[i8], kernels: &'static dyn Kernels) -> Self {
        let layer = Layer::prepare(spec.clone(), Weights { main: weights, pointwise: &[] }, kernels);
        let layer = layer.expect("a layer of the table");
        Self { layer, scratch: Scratch::default(), out: vec![0; spec.tile.len()] }
    }

    fn run(&mut self, x: &[u8], shape: [usize; 3]) {
        let view = View::whole(black_box(x), shape).expect("its input");
        self.layer.run(&view, &mut self.scratch, Output::Bytes(&mut self.out)).expect("a run");
        black_box(&self.out);
    }
}

/// Multiply-adds of one measurement of the roof.
const ROUNDS: u64 = 200_000;

pub fn measure() {
    let sets = available();
    let first = sets[0];
    table::heading(
        "Kernels",
        &format!(
            "One thread, 8-bit inputs and weights, whole layers: padding, sums, bias, ReLU, scaling, saturation. The roof \
             is what `{}` does from registers to registers, measured in turns with the layers. No layer can be \
             faster but convolutions of 3x3 that move by one, which take a quarter of the products (of 16 bits, which cost \
             twice as much). \
             All sets give the same bytes, which is checked before.",
            first.name()
        ),
    );
    let mut rows = Vec::new();
    for case in &CASES {
        let &(name, kind, input, kernel, _, filters) = case;
        let spec = spec(case);
        let row = kernel * kernel * if kind == Kind::Standard { input[2] } else { 1 };
        let weights: Vec<i8> = (0..filters * row).map(|i| (i * 7 % 255) as u8 as i8).collect();
        let x: Vec<u8> = (0..input.iter().product()).map(|i: usize| (i * 13) as u8).collect();
        let mut benches: Vec<Bench> = sets.iter().map(|set| Bench::new(&spec, &weights, *set)).collect();
        benches.iter_mut().for_each(|bench| bench.run(&x, input));
        assert!(benches.iter().all(|b| b.out == benches[0].out), "{name}: kernel sets differ");
        let mut roof = || {
            black_box(first.peak(ROUNDS));
        };
        let mut runs: Vec<_> = benches.iter_mut().map(|bench| || bench.run(&x, input)).collect();
        let mut peers: Vec<Peer<'_>> = vec![("roof", &mut roof)];
        peers.extend(sets.iter().zip(&mut runs).map(|(set, run)| (set.name(), run as &mut dyn FnMut())));
        let times = in_turns(Effort::SHORT, &mut peers);
        let peak = first.peak(1) as f64 * ROUNDS as f64 / times[0].median;
        let macs = (spec.tile.len() * row) as f64;
        let rate = |time: &Time| macs / time.median;
        let mut line = vec![name.into(), format!("**{:.0} %**", 100.0 * rate(&times[1]) / peak), table::time(times[1])];
        line.extend(times[1..].iter().map(|t| format!("{:.1}", rate(t) / 1e9)));
        line.push(format!("{:.0}", peak / 1e9));
        rows.push(line);
    }
    let mut heads = vec!["layer".to_owned(), "of the roof".into(), "time".into()];
    heads.extend(sets.iter().map(|set| format!("{} GMAC/s", set.name())));
    heads.push("roof".into());
    let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
    table::table(&heads, &rows);
}
