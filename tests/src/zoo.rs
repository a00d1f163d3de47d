//! Networks of the vendor's 1.0 zoo (targets.md 4.5) with random weights: what matters to a mapper is shapes and bits.
//!
//! Shapes are those of the public Keras definitions; DS-CNN and AkidaNet also agree with the summaries in
//! tests/data/conformance. Thresholds and steps are set so that activations use all their values.

use akida_runtime::model::{
    Activation, Conv, ConvKind, Dense, Input, LayerKind, Model, Pool, Target, Tensor, TensorId, Weights,
};

use crate::generate::Random;

/// Weight bits of the first layer, weight bits of the others, activation bits.
pub type Bits = [u8; 3];

struct Chain {
    model: Model,
    random: Random,
    bits: Bits,
    at: TensorId,
}

/// What ends a layer.
#[derive(Clone, Copy)]
enum End {
    Plain,
    Max,
    Average,
}

impl Chain {
    fn new(name: String, target: Target, shape: [usize; 3], bits: Bits, input_bits: u8) -> Self {
        let random = Random::new(name.bytes().fold(7, |seed: u64, b| seed.wrapping_mul(31).wrapping_add(b.into())));
        let model = Model::new(name, target, Input::integers(Tensor::new("input", shape, input_bits, false)));
        Self { model, random, bits, at: 0 }
    }

    fn weights(&mut self, bits: u8, shape: [usize; 4]) -> Weights {
        let most = if bits == 1 { 1 } else { (1 << (bits - 1)) - 1 };
        let low = if bits == 1 { 0 } else { -most };
        let values: Vec<i8> = (0..shape.iter().product()).map(|_| self.random.between(low, most) as i8).collect();
        Weights::new(bits, shape, &values)
    }

    /// Thresholds and steps for sums of `terms` products of numbers of about these sizes.
    fn steps(&mut self, filters: usize, terms: usize, weight: f64, input: f64) -> Activation {
        let deviation = (terms as f64).sqrt() * weight * input;
        let levels = f64::from(1u32 << self.bits[2]);
        // Steps are stored for 4 bits (quantization.md 6.4).
        let step = deviation * 1.5 / levels / f64::from(1 << (4 - self.bits[2]));
        Activation::Steps {
            threshold: (0..filters)
                .map(|_| self.random.between(-(deviation as i64) - 1, deviation as i64 / 2 + 1) as i32)
                .map(|t| t.clamp(-(1 << 19), (1 << 19) - 1))
                .collect(),
            step_16ths: vec![((step * 16.0) as u32).clamp(1, (1 << 20) - 1); filters],
        }
    }

    fn push(&mut self, name: &str, kind: LayerKind, bits: u8) {
        self.at = self.model.push(name, kind, &[self.at], bits).unwrap_or_else(|e| panic!("{name}: {e}"));
    }

    fn conv(&mut self, kind: ConvKind, filters: usize, kernel: usize, stride: usize, end: End) {
        let [height, width, channels] = self.model.tensor(self.at).shape;
        let first = kind == ConvKind::Input;
        let weight_bits = self.bits[usize::from(!first)];
        let separable = kind == ConvKind::Separable;
        let shape = if separable { [channels, kernel, kernel, 1] } else { [filters, kernel, kernel, channels] };
        let main = self.weights(weight_bits, shape);
        let pointwise = separable.then(|| self.weights(weight_bits, [filters, 1, 1, channels]));
        let total = |n: usize| ((n.div_ceil(stride) - 1) * stride + kernel).saturating_sub(n);
        let [rows, columns] = [total(height), total(width)];
        let map = height.div_ceil(stride) * width.div_ceil(stride);
        let (mut terms, mut weight) = (kernel * kernel * channels, f64::from(1u32 << (weight_bits - 1)) / 2.0);
        if separable {
            weight *= weight;
        }
        if let End::Average = end {
            terms *= map;
        }
        let input = f64::from((1u32 << self.model.tensor(self.at).bits) - 1) / 2.0;
        let activation = self.steps(filters, terms, weight, input);
        let conv = Conv {
            stride: [stride; 2],
            pads: [rows / 2, columns / 2, rows - rows / 2, columns - columns / 2],
            pointwise,
            activation,
            pool: match end {
                End::Plain => Pool::None,
                End::Max => Pool::Max { size: [2; 2], stride: [2; 2], pads: [0; 4] },
                End::Average => Pool::Global,
            },
            ..Conv::new(kind, main)
        };
        let what = if separable { "separable" } else { "conv" };
        let (name, bits) = (format!("{what}_{}", self.model.layers.len()), self.bits[2]);
        self.push(&name, LayerKind::Conv(Box::new(conv)), bits);
    }

    fn dense(&mut self, units: usize, last: bool) {
        let [height, width, channels] = self.model.tensor(self.at).shape;
        let bits = self.bits[1];
        let weights = self.weights(bits, [units, height, width, channels]);
        let input = f64::from((1u32 << self.model.tensor(self.at).bits) - 1) / 2.0;
        let terms = height * width * channels;
        let activation = match last {
            true => Activation::None,
            false => self.steps(units, terms, f64::from(1u32 << (bits - 1)) / 2.0, input),
        };
        let name = format!("dense_{}", self.model.layers.len());
        let bits = if last { 32 } else { self.bits[2] };
        self.push(&name, LayerKind::Dense(Dense { activation, ..Dense::new(weights) }), bits);
    }

    fn end(mut self) -> Model {
        let at = self.at;
        self.model.output("output", at, None);
        self.model
    }
}

/// A width in quarters of the full network.
fn width(filters: usize, quarters: usize) -> usize {
    filters * quarters / 4
}

/// AkidaNet: four convolutions, ten separable ones, the last with global pooling, a classifier.
pub fn akidanet(target: Target, quarters: usize, size: usize, classes: usize) -> Model {
    let name = format!("AkidaNet {}/{size}", quarters as f32 / 4.0);
    let mut c = Chain::new(name, target, [size, size, 3], [8, 4, 4], 8);
    let w = |filters| width(filters, quarters);
    c.conv(ConvKind::Input, w(32), 3, 2, End::Plain);
    c.conv(ConvKind::Standard, w(64), 3, 1, End::Plain);
    c.conv(ConvKind::Standard, w(128), 3, 2, End::Plain);
    c.conv(ConvKind::Standard, w(128), 3, 1, End::Plain);
    for (filters, stride) in [(256, 2), (256, 1), (512, 2), (512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2)]
    {
        c.conv(ConvKind::Separable, w(filters), 3, stride, End::Plain);
    }
    c.conv(ConvKind::Separable, w(1024), 3, 1, End::Average);
    c.dense(classes, true);
    c.end()
}

/// MobileNetV1: one convolution, thirteen separable ones, the last with global pooling, a classifier.
pub fn mobilenet_v1(target: Target, quarters: usize, size: usize, classes: usize) -> Model {
    let name = format!("MobileNetV1 {}/{size}", quarters as f32 / 4.0);
    let mut c = Chain::new(name, target, [size, size, 3], [8, 4, 4], 8);
    let w = |filters| width(filters, quarters);
    c.conv(ConvKind::Input, w(32), 3, 2, End::Plain);
    let mut layers = vec![(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)];
    layers.extend([(512, 1); 5]);
    layers.push((1024, 2));
    for (filters, stride) in layers {
        c.conv(ConvKind::Separable, w(filters), 3, stride, End::Plain);
    }
    c.conv(ConvKind::Separable, w(1024), 3, 1, End::Average);
    c.dense(classes, true);
    c.end()
}

/// DS-CNN for keywords: 49 x 10 spectra, 64 filters, four separable layers.
pub fn ds_cnn(target: Target, classes: usize) -> Model {
    let mut c = Chain::new("DS-CNN".into(), target, [49, 10, 1], [8, 4, 4], 8);
    c.conv(ConvKind::Input, 64, 5, 2, End::Plain);
    for end in [End::Plain, End::Plain, End::Plain, End::Average] {
        c.conv(ConvKind::Separable, 64, 3, 1, end);
    }
    c.dense(classes, true);
    c.end()
}

/// The age network of the zoo: a small VGG on 32 x 32 faces.
pub fn vgg_utkface(target: Target) -> Model {
    let mut c = Chain::new("VGG UTKFace".into(), target, [32, 32, 3], [8, 2, 2], 8);
    c.conv(ConvKind::Input, 32, 3, 1, End::Plain);
    c.conv(ConvKind::Standard, 32, 3, 1, End::Max);
    c.conv(ConvKind::Standard, 64, 3, 1, End::Plain);
    c.conv(ConvKind::Standard, 64, 3, 1, End::Max);
    c.conv(ConvKind::Standard, 84, 3, 1, End::Plain);
    c.dense(64, false);
    c.dense(1, true);
    c.end()
}

/// A VGG large enough for several passes: convolutions in pairs, two dense layers.
pub fn vgg(target: Target) -> Model {
    let mut c = Chain::new("VGG".into(), target, [32, 32, 3], [8, 4, 4], 8);
    c.conv(ConvKind::Input, 64, 3, 1, End::Plain);
    for filters in [64, 128, 256, 512] {
        c.conv(ConvKind::Standard, filters, 3, 1, End::Plain);
        c.conv(ConvKind::Standard, filters, 3, 1, End::Max);
    }
    c.conv(ConvKind::Standard, 512, 3, 1, End::Plain);
    c.dense(256, false);
    c.dense(10, true);
    c.end()
}

/// LeNet-5 on 28 x 28 digits.
pub fn lenet(target: Target) -> Model {
    let mut c = Chain::new("LeNet".into(), target, [28, 28, 1], [8, 4, 4], 8);
    c.conv(ConvKind::Input, 6, 5, 1, End::Max);
    c.conv(ConvKind::Standard, 16, 5, 1, End::Max);
    c.conv(ConvKind::Standard, 16, 1, 1, End::Plain);
    c.dense(120, false);
    c.dense(84, false);
    c.dense(10, true);
    c.end()
}

/// GXNOR on MNIST: two convolutions of 2-bit weights, two dense layers, 1-bit activations.
pub fn gxnor(target: Target) -> Model {
    let mut c = Chain::new("GXNOR".into(), target, [28, 28, 1], [2, 2, 1], 8);
    c.conv(ConvKind::Input, 32, 5, 1, End::Max);
    c.conv(ConvKind::Standard, 64, 5, 1, End::Max);
    c.dense(512, false);
    c.dense(10, true);
    c.end()
}
