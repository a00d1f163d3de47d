//! Parts of layers, and a model that grows.

use akida_runtime::model::{
    Activation, Conv, Dequantizer, Input, LayerKind, Lut, Model, Pool, ScaleOut, Target, Tensor, TensorId,
};

use super::Random;

/// Most elements of a tensor, so that plain loops stay fast.
const ELEMENTS: usize = 12_000;
/// Most multiply-adds of a layer.
const MACS: usize = 1_500_000;

/// A model and what its next part is drawn from.
pub struct Builder {
    pub random: Random,
    pub model: Model,
    /// Options that chips have, mostly; no layers that keep frames.
    pub fits: bool,
}

/// Standard deviation that a sum of `taps` products has, about.
pub fn spread(taps: usize, input_bits: u8, weight_bits: u8) -> f64 {
    let half = |bits: u8| f64::from(1u32 << bits) / 4.0;
    (taps as f64).sqrt() * half(input_bits) * half(weight_bits).max(0.5)
}

/// SAME padding, odd one after: [top, left, bottom, right].
pub fn same(size: [usize; 2], kernel: [usize; 2], stride: [usize; 2]) -> [usize; 4] {
    let axis = |n: usize, k: usize, s: usize| {
        let total = ((n.div_ceil(s) - 1) * s + k).saturating_sub(n);
        [total / 2, total - total / 2]
    };
    let ([top, bottom], [left, right]) = (axis(size[0], kernel[0], stride[0]), axis(size[1], kernel[1], stride[1]));
    [top, left, bottom, right]
}

impl Builder {
    pub fn new(random: Random, name: String, target: Target, input: Tensor, fits: bool) -> Self {
        Self { random, model: Model::new(name, target, Input::integers(input)), fits }
    }

    /// Height and width: mostly some pixels, not square; at times one pixel, one row, one column, or more than a tile.
    pub fn map(random: &mut Random, fits: bool) -> [usize; 2] {
        match random.size(0, 15) {
            _ if fits => [random.size(5, 17), random.size(5, 17)],
            0 => [1, 1],
            1 => [1, random.size(2, 40)],
            2 => [random.size(2, 40), 1],
            3 => [random.size(18, 40), random.size(2, 12)],
            4 => [2, 2],
            _ => [random.size(3, 17), random.size(3, 17)],
        }
    }

    /// Appends a layer unless it breaks a rule of models, or would take long.
    pub fn push(&mut self, kind: LayerKind, inputs: &[TensorId], bits: u8) -> Option<TensorId> {
        if let LayerKind::Conv(conv) = &kind {
            let [height, width, _] = self.model.tensor(inputs[0]).shape;
            let [rows, columns] = conv.conv_size([height, width])?;
            let positions = if conv.kind.transposed() { height * width } else { rows * columns };
            let pointwise = conv.pointwise.as_ref().map_or(0, |w| w.data.len());
            if rows * columns * conv.filters() > ELEMENTS || positions * (conv.weights.data.len() + pointwise) > MACS {
                return None;
            }
        }
        let name = format!("layer{}", self.model.layers.len());
        self.model.push(name, kind, inputs, bits).ok()
    }

    pub fn conv(&mut self, conv: Conv, at: TensorId, bits: u8) -> Option<TensorId> {
        self.push(LayerKind::Conv(Box::new(conv)), &[at], bits)
    }

    pub fn vector<T>(&mut self, len: usize, mut value: impl FnMut(&mut Random) -> T) -> Vec<T> {
        (0..len).map(|_| value(&mut self.random)).collect()
    }

    /// The layer goes on from the newest tensor, at times from an older one: then there are branches.
    pub fn source(&mut self) -> TensorId {
        let last = self.model.layers.len();
        let older = self.random.once_in(if self.fits { 12 } else { 5 });
        let id = if older { self.random.size(0, last) } else { last };
        if self.model.tensor(id).bits > 8 { 0 } else { id }
    }

    /// Outputs: the last tensor, all that nobody uses, at times others.
    pub fn finish(mut self) -> Model {
        let last = self.model.layers.len();
        for id in 1..=last {
            let used = self.model.layers.iter().any(|layer| layer.inputs.contains(&id));
            if !used || self.random.once_in(12) {
                let channels = self.model.tensor(id).shape[2];
                let dequantizer = self.random.once_in(2).then(|| Dequantizer {
                    name: format!("dequantizer{id}"),
                    scale: vec![0.125; self.random.one(&[1, channels])],
                    offset: Vec::new(),
                    by: Default::default(),
                });
                self.model.output(format!("output{id}"), id, dequantizer);
            }
        }
        self.model
    }

    /// A scale that spreads sums of this deviation over the output; one in eight is any scale there is.
    pub fn scale(&mut self, filters: usize, spread: f64, bits: u8) -> ScaleOut {
        let count = if self.random.once_in(6) { 1 } else { filters };
        if self.random.once_in(8) {
            let m = self.vector(count, |r| r.between(0, 255) as u8);
            return ScaleOut { m, k: self.vector(count, |r| r.between(-31, 32) as i8) };
        }
        let to = f64::from(1u32 << (bits - 1)) / 1.5;
        let k = ((spread * 192.0 / to).log2().round()).clamp(-8.0, 31.0) as i8;
        let m = self.vector(count, |r| r.between(100, 255) as u8);
        ScaleOut { m, k: self.vector(count, |r| (i64::from(k) + r.between(-1, 1)) as i8) }
    }

    pub fn bias(&mut self, filters: usize, spread: f64) -> Vec<i32> {
        match self.random.size(0, 11) {
            0..=3 => Vec::new(),
            // Far beyond what a sum can be.
            4 => self.vector(filters, |r| r.one(&[i32::MIN, i32::MAX, -(1 << 27), (1 << 27) - 1, 0, 1 << 23])),
            _ => self.vector(filters, |r| r.between(-(spread as i64), spread as i64) as i32),
        }
    }

    pub fn activation(&mut self, filters: usize, spread: f64, lut: bool) -> Activation {
        match self.random.size(0, if lut { 5 } else { 4 }) {
            0 => Activation::None,
            1 | 2 => Activation::Relu,
            3 => {
                let count = if self.random.once_in(4) { 1 } else { filters };
                Activation::ReluClipped(self.vector(count, |r| r.between(0, spread as i64 + 2) as i32))
            }
            4 if lut => self.lut(filters, spread),
            _ => Activation::Relu,
        }
    }

    fn lut(&mut self, filters: usize, spread: f64) -> Activation {
        let bound = self.random.one(&[100, 30_000, 32_767]);
        let table = self.vector(Lut::ENTRIES, |r| r.between(-bound - i64::from(bound > 32_766), bound) as i16);
        Activation::Lut(Box::new(Lut { table, scale: self.scale(filters, spread, 11) }))
    }

    /// Thresholds and steps of Akida 1.0; `widest` are the bits of the largest threshold.
    pub fn steps(&mut self, filters: usize, spread: f64, widest: u32) -> Activation {
        let limit = (1i64 << (widest - 1)) - 1;
        let s = (spread as i64 + 1).min(limit);
        let extreme = self.random.once_in(10);
        let threshold = self.vector(filters, |r| {
            if extreme { r.one(&[-limit - 1, limit, 0, -1]) as i32 } else { r.between(-s, s) as i32 }
        });
        let largest = if widest == 24 { (1 << 24) - 1 } else { (1 << 20) - 1 };
        let step_16ths = self.vector(filters, |r| {
            if extreme { r.one(&[1, 15, 16, 17, largest]) as u32 } else { r.between(1, (s * 4).min(largest)) as u32 }
        });
        Activation::Steps { threshold, step_16ths }
    }

    /// Pooling: usual ones, and one in six any that a model can have.
    pub fn pool(&mut self, usual: &[[usize; 2]], global: bool) -> Pool {
        match self.random.size(0, 11) {
            0 | 1 if global => Pool::Global,
            2..=4 => {
                let [size, stride] = self.random.one(usual);
                Pool::Max { size: [size; 2], stride: [stride; 2], pads: [0; 4] }
            }
            5 | 6 if !self.fits => {
                let size = [self.random.size(1, 4), self.random.size(1, 4)];
                let pads = std::array::from_fn(|edge| self.random.size(0, size[edge % 2] - 1));
                let stride = [self.random.size(1, 3), self.random.size(1, 3)];
                Pool::Max { size, stride, pads: if self.random.once_in(2) { pads } else { [0; 4] } }
            }
            _ => Pool::None,
        }
    }

    /// Padding: SAME, SAME with the odd one before, none, or any.
    pub fn pads(&mut self, size: [usize; 2], kernel: [usize; 2], stride: [usize; 2]) -> [usize; 4] {
        let [top, left, bottom, right] = same(size, kernel, stride);
        match self.random.size(0, if self.fits { 5 } else { 9 }) {
            0..=4 => [top, left, bottom, right],
            5 => [bottom, right, top, left],
            6 | 7 => [0; 4],
            8 => [kernel[0] / 2, kernel[1] / 2, kernel[0] / 2, kernel[1] / 2],
            _ => std::array::from_fn(|edge| self.random.size(0, kernel[edge % 2] + 1)),
        }
    }

    /// A square of one of these, or one in eight any two.
    pub fn pair(&mut self, usual: &[usize], most: usize) -> [usize; 2] {
        if !self.fits && self.random.once_in(8) {
            return [self.random.size(1, most), self.random.size(1, most)];
        }
        [self.random.one(usual); 2]
    }

    /// Channels: few, not multiples of anything; at times more than a register or a list element holds.
    pub fn channels(&mut self) -> usize {
        match self.random.size(0, 11) {
            0 => 1,
            1 => self.random.size(25, 70),
            2 => self.random.one(&[8, 16, 32, 33, 64, 65]),
            _ => self.random.size(2, 24),
        }
    }
}
