//! Random models of every kind of layer that maps, small enough to run in milliseconds. A model is a function of its
//! seed, so a failure is repeated by its number.

use akida_runtime::model::{
    Activation, Add, Conv, ConvKind, Dense, Input, LayerKind, Lut, Model, Pool, ScaleOut, Target, Tensor, TensorId,
    Weights,
};

/// SplitMix64: small, seedable, good enough for test data.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xA5A5_5A5A_1234_5678)
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// In `low..=high`.
    pub fn between(&mut self, low: i64, high: i64) -> i64 {
        low + (self.bits() % (high - low + 1) as u64) as i64
    }

    /// A size in `low..=high`.
    pub fn size(&mut self, low: usize, high: usize) -> usize {
        self.between(low as i64, high as i64) as usize
    }

    /// One of them.
    pub fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.size(0, of.len() - 1)]
    }

    /// True once in `n`.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.size(1, n) == 1
    }

    /// Bytes of one input sample.
    pub fn sample(&mut self, tensor: &Tensor) -> Vec<u8> {
        let (low, high) = tensor.range();
        // Many zeros, as after a ReLU: zeros are not sent as events.
        (0..tensor.elements())
            .map(|_| if self.once_in(4) { 0 } else { self.between(low.into(), high.into()) as u8 })
            .collect()
    }

    fn weights(&mut self, bits: u8, shape: [usize; 4]) -> Weights {
        let (low, high) = if bits == 1 { (0, 1) } else { (-(1 << (bits - 1)) + 1, (1 << (bits - 1)) - 1) };
        let values: Vec<i8> = (0..shape.iter().product()).map(|_| self.between(low, high) as i8).collect();
        Weights::new(bits, shape, &values)
    }
}

/// Standard deviation that a sum of `taps` products has, about.
fn spread(taps: usize, input_bits: u8, weight_bits: u8) -> f64 {
    let half = |bits: u8| f64::from(1u32 << bits) / 4.0;
    (taps as f64).sqrt() * half(input_bits) * half(weight_bits).max(0.5)
}

struct Builder {
    random: Random,
    model: Model,
}

/// A random model for a target, with one layer at least.
pub fn model(target: Target, seed: u64) -> Model {
    let try_with = |seed| if target == Target::Akida2 { akida2(seed) } else { akida1(target, seed) };
    // Layers that would break a rule are left out; rarely none is left.
    (0..).map(|attempt: u64| try_with(seed + (attempt << 32))).find(|m| !m.layers.is_empty()).expect("endless seeds")
}

impl Builder {
    fn push(&mut self, kind: LayerKind, inputs: &[TensorId], bits: u8) -> Option<TensorId> {
        let name = format!("layer{}", self.model.layers.len());
        self.model.push(name, kind, inputs, bits).ok()
    }

    fn vector<T>(&mut self, len: usize, mut value: impl FnMut(&mut Random) -> T) -> Vec<T> {
        (0..len).map(|_| value(&mut self.random)).collect()
    }

    /// A scale that spreads sums of this deviation over the output.
    fn scale(&mut self, filters: usize, spread: f64, bits: u8) -> ScaleOut {
        let to = f64::from(1u32 << (bits - 1)) / 1.5;
        let k = ((spread * 192.0 / to).log2().round()).clamp(-8.0, 31.0) as i8;
        let m = self.vector(filters, |r| r.between(100, 255) as u8);
        let k = self.vector(filters, |r| (i64::from(k) + r.between(-1, 1)) as i8);
        ScaleOut { m, k }
    }

    fn bias(&mut self, filters: usize, spread: f64) -> Vec<i32> {
        if self.random.once_in(3) {
            Vec::new()
        } else {
            self.vector(filters, |r| r.between(-(spread as i64), spread as i64) as i32)
        }
    }

    fn activation(&mut self, filters: usize, spread: f64, lut: bool) -> Activation {
        match self.random.size(0, if lut { 4 } else { 3 }) {
            0 => Activation::None,
            1 | 2 => Activation::Relu,
            3 => Activation::ReluClipped(self.vector(filters, |r| r.between(1, spread as i64 + 2) as i32)),
            _ => {
                let table = self.vector(Lut::ENTRIES, |r| r.between(-30000, 30000) as i16);
                Activation::Lut(Box::new(Lut { table, scale: self.scale(filters, spread, 11) }))
            }
        }
    }

    fn steps(&mut self, filters: usize, spread: f64) -> Activation {
        let s = spread.min(200_000.0) as i64 + 1;
        let threshold = self.vector(filters, |r| r.between(-s, s) as i32);
        let step_16ths = self.vector(filters, |r| r.between(1, s * 4) as u32);
        Activation::Steps { threshold, step_16ths }
    }
}

/// SAME padding, odd one after: [top, left, bottom, right].
fn same(size: [usize; 2], kernel: usize, stride: usize) -> [usize; 4] {
    let axis = |n: usize| {
        let total = ((n.div_ceil(stride) - 1) * stride + kernel).saturating_sub(n);
        [total / 2, total - total / 2]
    };
    let ([top, bottom], [left, right]) = (axis(size[0]), axis(size[1]));
    [top, left, bottom, right]
}

fn akida2(seed: u64) -> Model {
    let mut random = Random::new(seed);
    let image = random.once_in(2);
    let channels = if image { random.one(&[1, 3]) } else { random.size(1, 12) };
    let shape = [random.size(5, 17), random.size(5, 17), channels];
    let input = Input::integers(Tensor::new("input", shape, 8, !image));
    let mut b = Builder { random, model: Model::new(format!("random {seed}"), Target::Akida2, input) };
    let mut at = 0;
    let mut earlier: Vec<TensorId> = Vec::new();
    if image {
        at = b.akida2_first().unwrap_or(0);
    }
    for _ in 0..b.random.size(0, 6) {
        let before = at;
        if let Some(next) = b.akida2_layer(at, &earlier) {
            at = next;
            earlier.push(before);
        }
    }
    if b.model.layers.is_empty() || b.random.once_in(2) {
        at = b.dense2(at).unwrap_or(at);
    }
    b.model.output("output", at, None);
    b.model
}

impl Builder {
    fn akida2_first(&mut self) -> Option<TensorId> {
        let [height, width, channels] = self.model.input.tensor.shape;
        let kernel = self.random.one(&[3, 4, 5, 7]);
        let stride = self.random.size(1, if kernel == 7 { 6 } else { kernel });
        let filters = self.random.size(1, 20);
        let spread = spread(kernel * kernel * channels, 8, 8);
        let weights = self.random.weights(8, [filters, kernel, kernel, channels]);
        let pool = match self.random.size(0, 2) {
            0 => Pool::None,
            n => Pool::Max { size: [n + 1; 2], stride: [2, 2], pads: [0; 4] },
        };
        let bits = self.random.one(&[8, 8, 4]);
        let conv = Conv {
            stride: [stride; 2],
            pads: if self.random.once_in(2) { [0; 4] } else { same([height, width], kernel, stride) },
            pad_value: self.vector(channels, |r| r.between(0, 255) as i32),
            bias: self.bias(filters, spread),
            pool,
            activation: self.activation(filters, spread, pool == Pool::None),
            scale: Some(self.scale(filters, spread, bits)),
            ..Conv::new(ConvKind::Input, weights)
        };
        self.push(LayerKind::Conv(Box::new(conv)), &[0], bits)
    }

    fn akida2_layer(&mut self, at: TensorId, earlier: &[TensorId]) -> Option<TensorId> {
        let tensor = self.model.tensor(at).clone();
        match self.random.size(0, 9) {
            0 => {
                let same: Vec<_> = earlier.iter().copied().filter(|&t| self.mergeable(t, &tensor)).collect();
                let other = *same.last()?;
                let channels = tensor.shape[2];
                let add = Add {
                    a_shift: self.vector(channels, |r| r.between(0, 3) as u8),
                    b_shift: self.vector(channels, |r| r.between(0, 3) as u8),
                    k: Some(self.vector(channels, |r| r.between(-1, 3) as i8)),
                };
                self.push(LayerKind::Add(add), &[at, other], 8)
            }
            1 => {
                let other = *earlier.iter().rev().find(|&&t| self.mergeable(t, &tensor))?;
                self.push(LayerKind::Concat, &[other, at], tensor.bits)
            }
            2 => self.up(at, &tensor),
            n => self.conv2(at, &tensor, n < 5),
        }
    }

    /// Tensors that can be merged; never the raw image.
    fn mergeable(&self, id: TensorId, with: &Tensor) -> bool {
        let t = self.model.tensor(id);
        (t.shape, t.bits, t.signed) == (with.shape, with.bits, with.signed) && t.signed && t.bits == 8
    }

    fn conv2(&mut self, at: TensorId, tensor: &Tensor, depthwise: bool) -> Option<TensorId> {
        let [height, width, channels] = tensor.shape;
        let kernel = self.random.one(if depthwise { &[3, 5, 7] } else { &[1, 3, 3, 5, 7] });
        let stride = if kernel == 3 { self.random.size(1, 2) } else { 1 };
        let filters = if depthwise { channels } else { self.random.size(1, 24) };
        let kind = if depthwise { ConvKind::Depthwise } else { ConvKind::Standard };
        let weight_bits = self.random.one(&[8, 8, 4]);
        let depth = if depthwise { 1 } else { channels };
        let mut pads = same([height, width], kernel, stride);
        if self.random.once_in(3) {
            pads = [0; 4];
        } else if stride == 2 && self.random.once_in(2) {
            pads.swap(0, 2);
            pads.swap(1, 3);
        }
        let pool = match self.random.size(0, 5) {
            0 if height * width <= 144 => Pool::Global,
            1 | 2 => Pool::Max { size: [2; 2], stride: [self.random.size(1, 2); 2], pads: [0; 4] },
            _ => Pool::None,
        };
        let area = if pool == Pool::Global { height * width } else { 1 };
        let spread = spread(kernel * kernel * depth * area, tensor.bits, weight_bits);
        let lut = matches!(pool, Pool::None | Pool::Global);
        let bits = self.random.one(&[8, 8, 8, 4]);
        let conv = Conv {
            stride: [stride; 2],
            pads,
            bias: self.bias(filters, spread),
            pool,
            activation: self.activation(filters, spread, lut),
            scale: Some(self.scale(filters, spread, bits)),
            ..Conv::new(kind, self.random.weights(weight_bits, [filters, kernel, kernel, depth]))
        };
        self.push(LayerKind::Conv(Box::new(conv)), &[at], bits)
    }

    fn up(&mut self, at: TensorId, tensor: &Tensor) -> Option<TensorId> {
        let [height, width, channels] = tensor.shape;
        if height * width > 200 || tensor.bits != 8 {
            return None;
        }
        let kernel = self.random.one(&[3, 4]);
        let depthwise = self.random.once_in(2);
        let (filters, depth) = if depthwise { (channels, 1) } else { (self.random.size(1, 8), channels) };
        let kind = if depthwise { ConvKind::DepthwiseTransposed } else { ConvKind::Transposed };
        let [before, after] = [(kernel - 2) / 2, (kernel - 2usize).div_ceil(2)];
        let spread = spread(kernel * kernel * depth / 4 + 1, 8, 8);
        let conv = Conv {
            stride: [2; 2],
            pads: [before, before, after, after],
            bias: self.bias(filters, spread),
            activation: self.activation(filters, spread, true),
            scale: Some(self.scale(filters, spread, 8)),
            ..Conv::new(kind, self.random.weights(8, [filters, kernel, kernel, depth]))
        };
        self.push(LayerKind::Conv(Box::new(conv)), &[at], 8)
    }

    fn dense2(&mut self, at: TensorId) -> Option<TensorId> {
        let [height, width, channels] = self.model.tensor(at).shape;
        let input_bits = self.model.tensor(at).bits;
        let units = self.random.size(1, 40);
        let weight_bits = self.random.one(&[8, 4]);
        let spread = spread(height * width * channels, input_bits, weight_bits);
        let potentials = self.random.once_in(2);
        let dense = Dense {
            bias: self.bias(units, spread),
            activation: self.activation(units, spread, false),
            scale: (!potentials).then(|| self.scale(units, spread, 8)),
            ..Dense::new(self.random.weights(weight_bits, [units, height, width, channels]))
        };
        self.push(LayerKind::Dense(dense), &[at], if potentials { 32 } else { 8 })
    }
}

fn akida1(target: Target, seed: u64) -> Model {
    let mut random = Random::new(seed ^ 0x1000);
    let image = random.once_in(2);
    let channels = if image { random.one(&[1, 3]) } else { random.size(1, 12) };
    let shape = [random.size(5, 17), random.size(5, 17), channels];
    let bits = if image { 8 } else { random.one(&[1, 2, 4]) };
    let input = Input::integers(Tensor::new("input", shape, bits, false));
    let mut b = Builder { random, model: Model::new(format!("random {seed}"), target, input) };
    let mut at = 0;
    if image {
        at = b.akida1_first().unwrap_or(0);
    }
    for _ in 0..b.random.size(0, 5) {
        at = b.akida1_layer(at).unwrap_or(at);
    }
    if b.model.layers.is_empty() || b.random.once_in(2) {
        at = b.dense1(at).unwrap_or(at);
    }
    b.model.output("output", at, None);
    b.model
}

impl Builder {
    fn akida1_first(&mut self) -> Option<TensorId> {
        let [height, width, channels] = self.model.input.tensor.shape;
        let kernel = self.random.one(&[3, 5, 7]);
        let stride = self.random.size(1, 3);
        let filters = self.random.size(1, 24);
        let conv = Conv {
            stride: [stride; 2],
            pads: if self.random.once_in(2) { [0; 4] } else { same([height, width], kernel, stride) },
            pad_value: vec![self.random.between(0, 255) as i32],
            pool: if self.random.once_in(2) {
                Pool::None
            } else {
                Pool::Max { size: [2; 2], stride: [2; 2], pads: [0; 4] }
            },
            activation: self.steps(filters, spread(kernel * kernel * channels, 8, 8)),
            ..Conv::new(ConvKind::Input, self.random.weights(8, [filters, kernel, kernel, channels]))
        };
        let bits = self.random.one(&[1, 2, 4, 4]);
        self.push(LayerKind::Conv(Box::new(conv)), &[0], bits)
    }

    fn akida1_layer(&mut self, at: TensorId) -> Option<TensorId> {
        let tensor = self.model.tensor(at).clone();
        let [height, width, channels] = tensor.shape;
        if tensor.bits > 4 {
            return None;
        }
        let separable = self.random.once_in(2);
        let kernel = self.random.one(if separable { &[3, 5, 7] } else { &[1, 3, 3, 5, 7] });
        let stride = if kernel == 3 { self.random.size(1, 2) } else { 1 };
        let filters = self.random.size(1, 24);
        let weight_bits = self.random.one(if separable { &[2, 4] } else { &[1, 2, 4] });
        let pool = match self.random.size(0, 5) {
            0 if height >= 3 * stride => Pool::Global,
            1 | 2 => Pool::Max { size: [2; 2], stride: [self.random.size(1, 2); 2], pads: [0; 4] },
            _ => Pool::None,
        };
        let (rows, depth) = if separable { (channels, 1) } else { (filters, channels) };
        let mut wide = spread(kernel * kernel * depth, tensor.bits, weight_bits);
        if separable {
            wide *= (channels as f64).sqrt() * 2.0;
        }
        let kind = if separable { ConvKind::Separable } else { ConvKind::Standard };
        let conv = Conv {
            pointwise: separable.then(|| self.random.weights(weight_bits, [filters, 1, 1, channels])),
            stride: [stride; 2],
            pads: if self.random.once_in(4) { [0; 4] } else { same([height, width], kernel, stride) },
            pool,
            activation: self.steps(filters, wide),
            ..Conv::new(kind, self.random.weights(weight_bits, [rows, kernel, kernel, depth]))
        };
        let bits = self.random.one(&[1, 2, 4, 4]);
        self.push(LayerKind::Conv(Box::new(conv)), &[at], bits)
    }

    fn dense1(&mut self, at: TensorId) -> Option<TensorId> {
        let [height, width, channels] = self.model.tensor(at).shape;
        let input_bits = self.model.tensor(at).bits;
        if input_bits > 4 {
            return None;
        }
        let units = self.random.size(1, 40);
        let weight_bits = self.random.one(&[1, 2, 4]);
        let potentials = self.random.once_in(2);
        let wide = spread(height * width * channels, input_bits, weight_bits);
        let activation = if potentials { Activation::None } else { self.steps(units, wide) };
        let dense =
            Dense { activation, ..Dense::new(self.random.weights(weight_bits, [units, height, width, channels])) };
        let bits = if potentials { 32 } else { self.random.one(&[1, 2, 4]) };
        self.push(LayerKind::Dense(dense), &[at], bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_valid_and_functions_of_their_seed() {
        let mut kinds = std::collections::BTreeSet::new();
        for target in [Target::Akida2, Target::Akd1000, Target::Akd1500] {
            for seed in 0..200 {
                let model = model(target, seed);
                model.validate().unwrap_or_else(|e| panic!("seed {seed}: {e}"));
                assert_eq!(model, super::model(target, seed));
                kinds.extend(model.layers.iter().map(|l| l.op.clone()));
            }
        }
        assert!(kinds.len() >= 11, "{kinds:?}");
    }
}
