//! Every limit of the vendor's tables for Akida 1.0 (docs/spec/targets.md 1.1 to 1.5) as a network, on both chips: one step
//! inside, mapped to hardware only and run on the simulated board, integers those of the reference; one step outside, refused by
//! the rule that is named. `limits.rs` holds the rules themselves to their edges, also where no network can be built.

use std::sync::Arc;
use std::time::Duration;

use akida_hal::device::{Device, DeviceOptions};
use akida_runtime::mapping::{MapError, MapOptions, Mode, map};
use akida_runtime::model::{
    Activation, Add, Conv, ConvKind, Dense, Input, LayerKind, Model, ModelError, Pool, Target, Tensor,
};
use akida_runtime::reference::{Reference, Rules};
use akida_simulator::{Model as BoardModel, SimBoard, SimSpec};
use akida_tests::generate::Random;

/// How a convolution pads.
#[derive(Clone, Copy)]
enum Pads {
    Same,
    Valid,
    /// One row and column more before than SAME has.
    Shifted,
}

/// A layer behind the input; `kind` None is a dense one.
#[derive(Clone)]
struct Spec {
    input: [usize; 3],
    input_bits: u8,
    signed: bool,
    kind: Option<ConvKind>,
    kernel: [usize; 2],
    stride: [usize; 2],
    pads: Pads,
    pool: Pool,
    filters: usize,
    weight_bits: u8,
    pointwise_bits: u8,
    /// 32: potentials.
    bits: u8,
    threshold: Option<i32>,
    step: Option<u32>,
    pad_value: i32,
    /// A layer that follows.
    then: Then,
}

#[derive(Clone, Copy, PartialEq)]
enum Then {
    Nothing,
    Conv,
    Dense,
    Depthwise,
    Transposed,
    AddToItself,
    Concat,
    TwoHeads,
}

const fn layer(kind: Option<ConvKind>, input: [usize; 3], input_bits: u8, weight_bits: u8) -> Spec {
    Spec {
        input,
        input_bits,
        signed: false,
        kind,
        kernel: [3, 3],
        stride: [1, 1],
        pads: Pads::Same,
        pool: Pool::None,
        filters: 8,
        weight_bits,
        pointwise_bits: 4,
        bits: 4,
        threshold: None,
        step: None,
        pad_value: 0,
        then: Then::Nothing,
    }
}

const IMAGE: Spec = layer(Some(ConvKind::Input), [12, 12, 3], 8, 8);
const GRAY: Spec = layer(Some(ConvKind::Input), [12, 12, 1], 8, 8);
const CONV: Spec = layer(Some(ConvKind::Standard), [8, 8, 8], 4, 4);
const SEPARABLE: Spec = layer(Some(ConvKind::Separable), [8, 8, 8], 4, 4);
const DENSE: Spec = layer(None, [1, 1, 64], 4, 4);

fn max(size: [usize; 2], stride: [usize; 2]) -> Pool {
    Pool::Max { size, stride, pads: [0; 4] }
}

type Change = fn(&mut Spec);
const AS_IT_IS: Change = |_| {};

/// (rule, layer, inside, outside).
const CASES: &[(&str, &Spec, Change, Change)] = &[
    // 1.1 InputConvolutional.
    ("akida1.input_conv.rows", &IMAGE, |s| s.input[0] = 5, |s| s.input[0] = 4),
    ("akida1.input_conv.columns", &IMAGE, |s| s.input[1] = 5, |s| s.input[1] = 4),
    ("akida1.input_conv.columns", &IMAGE, |s| s.input[1] = 256, |s| s.input[1] = 257),
    // The axis without a limit.
    ("akida1.input_conv.columns", &GRAY, |s| s.input = [257, 5, 1], |s| s.input = [5, 257, 1]),
    ("akida1.input_conv.channels", &GRAY, AS_IT_IS, |s| s.input[2] = 2),
    ("akida1.input_conv.channels", &IMAGE, AS_IT_IS, |s| s.input[2] = 4),
    ("akida1.input_conv.input_bits", &IMAGE, AS_IT_IS, |s| s.input_bits = 4),
    ("akida1.input_conv.kernel", &IMAGE, |s| s.kernel = [7, 7], |s| s.kernel = [9, 9]),
    ("akida1.input_conv.kernel", &IMAGE, |s| s.kernel = [5, 5], |s| s.kernel = [4, 4]),
    ("akida1.input_conv.kernel", &IMAGE, AS_IT_IS, |s| s.kernel = [1, 1]),
    ("akida1.input_conv.kernel", &IMAGE, AS_IT_IS, |s| s.kernel = [3, 5]),
    ("akida1.input_conv.stride", &IMAGE, |s| s.stride = [3, 3], |s| s.stride = [4, 4]),
    ("akida1.input_conv.stride", &IMAGE, |s| s.stride = [2, 2], |s| s.stride = [1, 2]),
    ("akida1.input_conv.padding", &IMAGE, |s| s.pads = Pads::Valid, |s| s.pads = Pads::Shifted),
    ("akida1.input_conv.padding", &IMAGE, |s| s.pad_value = 128, |s| (s.pads, s.pad_value) = (Pads::Shifted, 128)),
    ("akida1.input_conv.filters", &GRAY, |s| s.filters = 512, |s| s.filters = 513),
    (
        "akida1.input_conv.filters",
        &GRAY,
        |s| (s.kernel, s.filters) = ([5, 5], 192),
        |s| (s.kernel, s.filters) = ([5, 5], 193),
    ),
    (
        "akida1.input_conv.filters",
        &GRAY,
        |s| (s.kernel, s.filters) = ([7, 7], 96),
        |s| (s.kernel, s.filters) = ([7, 7], 97),
    ),
    ("akida1.input_conv.filters", &IMAGE, |s| s.filters = 192, |s| s.filters = 193),
    (
        "akida1.input_conv.filters",
        &IMAGE,
        |s| (s.kernel, s.filters) = ([5, 5], 64),
        |s| (s.kernel, s.filters) = ([5, 5], 65),
    ),
    (
        "akida1.input_conv.filters",
        &IMAGE,
        |s| (s.kernel, s.filters) = ([7, 7], 32),
        |s| (s.kernel, s.filters) = ([7, 7], 33),
    ),
    ("akida1.input_conv.pool", &IMAGE, |s| s.pool = max([2, 2], [2, 2]), |s| s.pool = max([2, 2], [1, 1])),
    ("akida1.input_conv.pool", &IMAGE, |s| s.pool = max([1, 2], [1, 2]), |s| s.pool = max([3, 3], [3, 3])),
    ("akida1.input_conv.pool", &IMAGE, |s| s.pool = max([2, 1], [2, 1]), |s| s.pool = Pool::Global),
    ("akida1.input_conv.weight_bits", &IMAGE, |s| s.weight_bits = 8, |s| s.weight_bits = 1),
    ("akida1.activation.bits", &IMAGE, |s| s.bits = 1, |s| s.bits = 8),
    ("akida1.activation.threshold", &IMAGE, |s| s.threshold = Some((1 << 23) - 1), |s| s.threshold = Some(1 << 23)),
    ("akida1.activation.step", &IMAGE, |s| s.step = Some((1 << 24) - 1), |s| s.step = Some(1 << 24)),
    // 1.2 Convolutional.
    ("akida1.conv.input_size", &CONV, |s| s.input = [4096, 2, 2], |s| s.input = [4097, 2, 2]),
    // An NP's window has 2048 rows and columns; the HRC has one part, so that is its limit too.
    ("mesh.window", &GRAY, |s| s.input = [2048, 6, 1], |s| s.input = [2049, 6, 1]),
    ("akida1.conv.input_size", &CONV, |s| s.input = [2, 4096, 2], |s| s.input = [2, 4097, 2]),
    ("akida1.conv.input_size", &CONV, |s| s.input = [2, 2, 2048], |s| s.input = [2, 2, 2049]),
    (
        "akida1.conv.filters",
        &CONV,
        |s| (s.kernel, s.input, s.filters) = ([1, 1], [2, 2, 4], 2048),
        |s| (s.kernel, s.input, s.filters) = ([1, 1], [2, 2, 4], 2049),
    ),
    ("akida1.conv.input_bits", &CONV, |s| s.input_bits = 4, |s| s.input_bits = 8),
    ("akida1.conv.input_bits", &CONV, |s| s.input_bits = 2, |s| s.signed = true),
    ("akida1.conv.input_bits", &CONV, |s| s.input_bits = 1, |s| (s.input_bits, s.signed) = (8, true)),
    ("akida1.conv.kernel", &CONV, |s| s.kernel = [1, 1], |s| s.kernel = [2, 2]),
    ("akida1.conv.kernel", &CONV, |s| s.kernel = [5, 5], |s| s.kernel = [4, 4]),
    ("akida1.conv.kernel", &CONV, |s| s.kernel = [7, 7], |s| s.kernel = [9, 9]),
    ("akida1.conv.kernel", &CONV, AS_IT_IS, |s| s.kernel = [1, 3]),
    ("akida1.conv.stride", &CONV, |s| s.stride = [2, 2], |s| s.stride = [3, 3]),
    ("akida1.conv.stride", &CONV, AS_IT_IS, |s| (s.kernel, s.stride) = ([5, 5], [2, 2])),
    // 1x1 with stride 2, which the tables do not have either, is done as a 3x3 that is 0 everywhere but at one tap.
    ("akida1.conv.stride", &CONV, |s| (s.kernel, s.stride) = ([1, 1], [2, 2]), |s| s.stride = [2, 1]),
    // A part of SAME is done as such; what is off its grid is not.
    ("akida1.conv.padding", &CONV, |s| s.pads = Pads::Valid, |s| s.pads = Pads::Shifted),
    ("conv.pad_value", &CONV, AS_IT_IS, |s| s.pad_value = 3),
    (
        "akida1.conv.max_pool",
        &CONV,
        |s| (s.pool, s.then) = (max([2, 2], [1, 1]), Then::Conv),
        |s| (s.pool, s.then) = (max([3, 3], [2, 2]), Then::Conv),
    ),
    (
        "akida1.conv.max_pool",
        &CONV,
        |s| (s.pool, s.then) = (max([2, 2], [2, 2]), Then::Conv),
        |s| (s.pool, s.then) = (max([2, 2], [3, 3]), Then::Conv),
    ),
    (
        "akida1.conv.max_pool",
        &CONV,
        |s| (s.pool, s.then) = (max([2, 2], [2, 2]), Then::Conv),
        |s| (s.pool, s.then) = (max([1, 2], [1, 2]), Then::Conv),
    ),
    // Not followed by a convolution: an identity is put behind it, which potentials cannot pass.
    (
        "conv.max_pool.followed",
        &CONV,
        |s| (s.pool, s.then) = (max([2, 2], [2, 2]), Then::Dense),
        |s| (s.pool, s.bits) = (max([2, 2], [2, 2]), 32),
    ),
    (
        "akida1.conv.global_pool.columns",
        &CONV,
        |s| (s.pool, s.input) = (Pool::Global, [3, 32, 4]),
        |s| (s.pool, s.input) = (Pool::Global, [3, 33, 4]),
    ),
    (
        "akida1.conv.global_pool.rows",
        &CONV,
        |s| (s.pool, s.input) = (Pool::Global, [3, 8, 4]),
        |s| (s.pool, s.input) = (Pool::Global, [2, 8, 4]),
    ),
    ("akida1.conv.weight_bits", &CONV, |s| s.weight_bits = 1, |s| s.weight_bits = 8),
    ("akida1.conv.weight_bits", &CONV, |s| s.weight_bits = 2, |s| s.weight_bits = 8),
    ("akida1.activation.bits", &CONV, |s| s.bits = 2, |s| s.bits = 8),
    ("akida1.activation.threshold", &CONV, |s| s.threshold = Some(-(1 << 19)), |s| s.threshold = Some(-(1 << 19) - 1)),
    ("akida1.activation.step", &CONV, |s| s.step = Some((1 << 20) - 1), |s| s.step = Some(1 << 20)),
    // 1.3 SeparableConvolutional.
    ("akida1.separable.kernel", &SEPARABLE, |s| s.kernel = [3, 3], |s| s.kernel = [1, 1]),
    ("akida1.separable.kernel", &SEPARABLE, |s| s.kernel = [5, 5], |s| s.kernel = [4, 4]),
    ("akida1.separable.kernel", &SEPARABLE, |s| s.kernel = [7, 7], |s| s.kernel = [9, 9]),
    ("akida1.conv.stride", &SEPARABLE, |s| s.stride = [2, 2], |s| (s.kernel, s.stride) = ([7, 7], [2, 2])),
    ("akida1.conv.padding", &SEPARABLE, |s| s.pads = Pads::Valid, |s| s.pads = Pads::Shifted),
    ("akida1.conv.input_size", &SEPARABLE, |s| s.input = [4096, 2, 2], |s| s.input = [4097, 2, 2]),
    ("akida1.conv.input_bits", &SEPARABLE, |s| s.input_bits = 1, |s| s.input_bits = 8),
    ("akida1.separable.weight_bits", &SEPARABLE, |s| s.weight_bits = 2, |s| s.weight_bits = 1),
    ("akida1.separable.weight_bits", &SEPARABLE, |s| s.pointwise_bits = 2, |s| s.pointwise_bits = 1),
    ("akida1.separable.weight_bits", &SEPARABLE, AS_IT_IS, |s| s.weight_bits = 8),
    (
        "akida1.conv.max_pool",
        &SEPARABLE,
        |s| (s.pool, s.then) = (max([2, 2], [2, 2]), Then::Conv),
        |s| (s.pool, s.then) = (max([4, 4], [4, 4]), Then::Conv),
    ),
    (
        "akida1.conv.global_pool.columns",
        &SEPARABLE,
        |s| (s.pool, s.input) = (Pool::Global, [3, 32, 4]),
        |s| (s.pool, s.input) = (Pool::Global, [3, 33, 4]),
    ),
    // "1x1 input not supported": fewer rows than 3 are not either.
    (
        "akida1.conv.global_pool.rows",
        &SEPARABLE,
        |s| (s.pool, s.input) = (Pool::Global, [3, 1, 4]),
        |s| (s.pool, s.input) = (Pool::Global, [1, 1, 4]),
    ),
    ("akida1.activation.bits", &SEPARABLE, |s| s.bits = 1, |s| s.bits = 8),
    // 1.4 FullyConnected.
    (
        "akida1.dense.inputs",
        &DENSE,
        |s| (s.input, s.filters) = ([1, 1, 57334], 3),
        |s| (s.input, s.filters) = ([1, 1, 57335], 3),
    ),
    (
        "akida1.dense.inputs",
        &DENSE,
        |s| (s.input, s.filters) = ([38, 1508, 1], 3),
        |s| (s.input, s.filters) = ([39, 1508, 1], 3),
    ),
    ("akida1.dense.input_bits", &DENSE, |s| s.input_bits = 4, |s| s.input_bits = 8),
    ("akida1.dense.input_bits", &DENSE, |s| s.input_bits = 1, |s| s.signed = true),
    ("akida1.dense.weight_bits", &DENSE, |s| s.weight_bits = 4, |s| s.weight_bits = 8),
    ("akida1.dense.weight_bits", &DENSE, |s| s.weight_bits = 1, |s| s.weight_bits = 8),
    (
        "akida1.dense.units",
        &DENSE,
        |s| (s.filters, s.input, s.bits) = (65535, [1, 1, 2], 32),
        |s| (s.filters, s.input, s.bits) = (65536, [1, 1, 2], 32),
    ),
    ("akida1.activation.bits", &DENSE, |s| s.bits = 32, |s| s.bits = 8),
    ("akida1.activation.bits", &DENSE, |s| s.bits = 2, |s| s.bits = 8),
    // 1.5 One chain.
    ("akida1.layer.kind", &CONV, |s| s.then = Then::Conv, |s| s.then = Then::AddToItself),
    ("akida1.layer.kind", &CONV, |s| s.then = Then::Dense, |s| s.then = Then::Concat),
    ("akida1.layer.kind", &CONV, AS_IT_IS, |s| s.then = Then::Transposed),
    ("akida1.depthwise.fused", &SEPARABLE, |s| s.then = Then::Conv, |s| s.then = Then::Depthwise),
    ("sequence.ends", &CONV, |s| s.then = Then::Conv, |s| s.then = Then::TwoHeads),
    ("akida1.activation.kind", &CONV, |s| s.bits = 32, |s| (s.bits, s.then) = (32, Then::Conv)),
];

/// Outside of these no network can be built: the model refuses its own field, with value, limit and the same rule.
const OF_THE_MODEL: [&str; 5] = [
    "akida1.activation.bits",
    "akida1.activation.threshold",
    "akida1.activation.step",
    "akida1.activation.kind",
    "akida1.dense.units",
];

impl Spec {
    /// SAME: the smaller half before.
    fn pads(&self) -> [usize; 4] {
        let same = |axis: usize| {
            let (n, k, s) = (self.input[axis], self.kernel[axis], self.stride[axis]);
            let total = ((n.div_ceil(s) - 1) * s + k).saturating_sub(n);
            [total / 2, total - total / 2]
        };
        let [[top, bottom], [left, right]] = [same(0), same(1)];
        match self.pads {
            Pads::Same => [top, left, bottom, right],
            Pads::Valid => [0; 4],
            Pads::Shifted => [top + 1, left + 1, bottom, right],
        }
    }

    /// Thresholds and steps under which outputs take many values.
    fn steps(&self, filters: usize, terms: usize, random: &mut Random) -> Activation {
        if self.bits == 32 {
            return Activation::None;
        }
        let weight = f64::from(1u32 << (self.weight_bits - 1));
        let input = f64::from(1u32 << self.input_bits.min(8));
        let spread = ((terms as f64).sqrt() * weight * input / 4.0).max(1.0);
        let threshold = |random: &mut Random| random.between(-(spread as i64), spread as i64 / 4) as i32;
        let values =
            (0..filters).map(|_| self.threshold.unwrap_or_else(|| threshold(random).clamp(-(1 << 19), 1 << 18)));
        let step = self.step.unwrap_or((spread as u32).clamp(1, 1 << 19));
        Activation::Steps { threshold: values.collect(), step_16ths: vec![step; filters] }
    }

    fn model(&self, target: Target) -> Result<Model, ModelError> {
        let mut random = Random::new(self.filters as u64 ^ 0x11);
        let tensor = Tensor::new("input", self.input, self.input_bits, self.signed);
        let mut model = Model::new("limit", target, Input::integers(tensor));
        let [height, width, channels] = self.input;
        let kind = match self.kind {
            None => {
                let weights = random.weights(self.weight_bits, [self.filters, height, width, channels]);
                let activation = self.steps(self.filters, height * width * channels, &mut random);
                LayerKind::Dense(Dense { activation, ..Dense::new(weights) })
            }
            Some(kind) => {
                let separable = kind == ConvKind::Separable;
                let [kh, kw] = self.kernel;
                let shape = if separable { [channels, kh, kw, 1] } else { [self.filters, kh, kw, channels] };
                let mut terms = kh * kw * channels * if self.pool == Pool::Global { height * width } else { 1 };
                if separable {
                    terms *= 16;
                }
                LayerKind::Conv(Box::new(Conv {
                    pointwise: separable.then(|| random.weights(self.pointwise_bits, [self.filters, 1, 1, channels])),
                    stride: self.stride,
                    pads: self.pads(),
                    pad_value: if self.pad_value == 0 { Vec::new() } else { vec![self.pad_value] },
                    pool: self.pool,
                    activation: self.steps(self.filters, terms, &mut random),
                    ..Conv::new(kind, random.weights(self.weight_bits, shape))
                }))
            }
        };
        let mut last = model.push("limit", kind, &[0], self.bits)?;
        if self.then != Then::Nothing {
            let [height, width, channels] = model.tensor(last).shape;
            let follower = Spec { input: [height, width, channels], ..CONV };
            let of = |kind: ConvKind, weights, random: &mut Random| {
                let activation = follower.steps(8, 72, random);
                LayerKind::Conv(Box::new(Conv { pads: follower.pads(), activation, ..Conv::new(kind, weights) }))
            };
            let conv = |random: &mut Random| {
                let weights = random.weights(4, [8, 3, 3, channels]);
                of(ConvKind::Standard, weights, random)
            };
            let first = last;
            match self.then {
                Then::Nothing => {}
                Then::Conv => last = model.push("conv", conv(&mut random), &[last], 4)?,
                Then::Dense => {
                    let dense = Dense::new(random.weights(4, [5, height, width, channels]));
                    last = model.push("dense", LayerKind::Dense(dense), &[last], 32)?;
                }
                Then::Depthwise => {
                    let weights = random.weights(4, [channels, 3, 3, 1]);
                    last = model.push("depthwise", of(ConvKind::Depthwise, weights, &mut random), &[last], 4)?;
                }
                Then::Transposed => {
                    let weights = random.weights(4, [8, 3, 3, channels]);
                    let conv = Conv {
                        stride: [2, 2],
                        pads: [0, 0, 1, 1],
                        activation: follower.steps(8, 72, &mut random),
                        ..Conv::new(ConvKind::Transposed, weights)
                    };
                    last = model.push("transposed", LayerKind::Conv(Box::new(conv)), &[last], 4)?;
                }
                Then::AddToItself => {
                    let other = model.push("conv", conv(&mut random), &[first], 4)?;
                    let add = Add { a_shift: vec![0], b_shift: vec![0], k: None };
                    last = model.push("add", LayerKind::Add(add), &[first, other], 32)?;
                }
                Then::Concat => {
                    let other = model.push("conv", conv(&mut random), &[first], 4)?;
                    last = model.push("concat", LayerKind::Concat, &[first, other], 4)?;
                }
                Then::TwoHeads => {
                    last = model.push("conv", conv(&mut random), &[first], 4)?;
                    model.output("first", first, None);
                }
            }
        }
        model.output("y", last, None);
        model.validate()?;
        Ok(model)
    }
}

fn open(board: BoardModel) -> Device {
    let board = Arc::new(SimBoard::open(&SimSpec::new(board)).expect("a simulated board opens"));
    Device::open(board, DeviceOptions::default()).expect("the device opens")
}

/// Maps to hardware only, runs two samples, compares with the reference.
fn runs(device: &mut Device, model: &Model, what: &str) {
    for mode in [Mode::Minimal, Mode::AllNps] {
        let options = MapOptions { hw_only: true, mode, ..MapOptions::default() };
        let mapping = map(model, device.mesh(), &options).unwrap_or_else(|e| panic!("{what}, {mode:?}: {e}"));
        let sequence = mapping.hardware().next().expect("hardware only");
        device.program(&sequence.program).unwrap_or_else(|e| panic!("{what}, {mode:?}: {e}"));
        let (mut random, mut reference) = (Random::new(5), Reference::new(model, Rules::Chip));
        for sample in 0..2 {
            let input = random.sample(&model.input.tensor);
            let expected = reference.run(&input).expect("a sample")[model.outputs[0].tensor].clone();
            assert!(device.enqueue(&input).unwrap_or_else(|e| panic!("{what}: {e}")).is_some());
            let made = device.fetch(Duration::from_secs(20)).unwrap_or_else(|e| panic!("{what}: {e}"));
            let made = made.expect("an output").values;
            let made: Vec<i32> = (0..made.len()).filter_map(|i| made.get(i)).collect();
            assert!(made == expected, "{what}, {mode:?}, sample {sample}");
        }
    }
}

#[test]
fn every_limit_one_step_inside_and_one_step_outside() {
    let boards = [(Target::Akd1000, BoardModel::Akd1000), (Target::Akd1500, BoardModel::Akd1500)];
    for (target, board) in boards {
        let (mut device, mut by_model) = (open(board), 0);
        for (number, (rule, base, inside, outside)) in CASES.iter().enumerate() {
            let what = format!("case {number} on {target}: {rule}");
            let changed = |change: &Change| {
                let mut spec = (*base).clone();
                change(&mut spec);
                spec.model(target)
            };
            let model = changed(inside).unwrap_or_else(|e| panic!("{what}, inside: {e}"));
            runs(&mut device, &model, &what);
            let model = match changed(outside) {
                Ok(model) => model,
                Err(error) => {
                    assert!(OF_THE_MODEL.contains(rule), "{what}, outside: {error}");
                    assert_eq!(error.rule, Some(*rule), "{what}, outside: {error}");
                    assert!(error.to_string().contains(rule), "{what}, outside: {error}");
                    by_model += 1;
                    continue;
                }
            };
            let options = MapOptions { hw_only: true, ..MapOptions::default() };
            match map(&model, device.mesh(), &options) {
                Err(MapError::NotOnHardware { reason, .. }) => {
                    assert_eq!(reason.rule, *rule, "{what}, outside: {reason}");
                    assert!(
                        !reason.limit.is_empty() && !reason.value.is_empty() && !reason.remedy.is_empty(),
                        "{reason}"
                    );
                }
                Err(error) => panic!("{what}, outside: {error}"),
                Ok(_) => panic!("{what}: mapped though it is outside"),
            }
            // With the host allowed, the same rule says why the layer is there.
            if *rule != "sequence.ends" {
                let mapping = map(&model, device.mesh(), &MapOptions::default()).expect("with the host");
                assert!(mapping.host_steps().any(|(_, reason)| reason.rule == *rule), "{what}");
            }
        }
        println!("{target}: {} limits, {by_model} of them refused by the model itself", CASES.len());
        assert!(by_model <= 12, "{by_model}");
    }
}
