//! Multiply-accumulates per second of every kernel set, over typical layers.

use std::hint::black_box;

use akida_kernels::{
    Activation, Arithmetic, Finish, Geometry, Kernels, Kind, Layer, LayerSpec, Output, Pool, Scale, Scratch, Tile,
    View, Weights, best, scalar,
};

use crate::measure::{Effort, in_turns};
use crate::table;

/// Name, kind, input (height, width, channels), side of the kernel, stride, filters.
type Case = (&'static str, Kind, [usize; 3], usize, usize, usize);

const CASES: [Case; 8] = [
    ("conv 5x5x1x32 on 28x28", Kind::Standard, [28, 28, 1], 5, 1, 32),
    ("conv 3x3x3x32 /2 on 224x224", Kind::Standard, [224, 224, 3], 3, 2, 32),
    ("conv 3x3x32x64 /2 on 14x14", Kind::Standard, [14, 14, 32], 3, 2, 64),
    ("conv 3x3x64x64 on 28x28", Kind::Standard, [28, 28, 64], 3, 1, 64),
    ("conv 1x1x256x256 on 14x14", Kind::Standard, [14, 14, 256], 1, 1, 256),
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

pub fn measure() {
    let (fast, plain) = (best(), scalar());
    table::heading(
        "Kernels",
        &format!(
            "One thread, 8-bit inputs and weights, whole layers: gathering inputs, sums, bias, ReLU, scaling, \
             saturation. The ratio is how many times longer `{}` takes than `{}`; both give the same bytes, which is \
             checked before.",
            plain.name(),
            fast.name()
        ),
    );
    let mut rows = Vec::new();
    for case in &CASES {
        let &(name, kind, input, kernel, _, filters) = case;
        let spec = spec(case);
        let row = kernel * kernel * if kind == Kind::Standard { input[2] } else { 1 };
        let weights: Vec<i8> = (0..filters * row).map(|i| (i * 7 % 255) as u8 as i8).collect();
        let x: Vec<u8> = (0..input.iter().product()).map(|i: usize| (i * 13) as u8).collect();
        let (mut fast, mut plain) = (Bench::new(&spec, &weights, fast), Bench::new(&spec, &weights, plain));
        fast.run(&x, input);
        plain.run(&x, input);
        assert!(fast.out == plain.out, "{name}: kernel sets differ");
        let times = in_turns(
            Effort::SHORT,
            &mut [("fast", &mut || fast.run(&x, input)), ("plain", &mut || plain.run(&x, input))],
        );
        let macs = (spec.tile.len() * row) as f64;
        let rate = |i: usize| format!("{:.2}", macs / times[i].median / 1e9);
        let ratio = table::ratio(times[1], times[0]);
        rows.push(vec![name.into(), ratio, rate(0), rate(1), table::time(times[0])]);
    }
    let fast = format!("{} GMAC/s", fast.name());
    table::table(&["layer", "ratio", &fast, &format!("{} GMAC/s", plain.name()), "time of the first"], &rows);
}
