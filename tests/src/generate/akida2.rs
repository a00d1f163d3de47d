//! Models for Akida 2.0.

use akida_runtime::model::{Add, Conv, ConvKind, Dense, LayerKind, Model, Pool, Target, Tensor, TensorId};

use super::Random;
use super::builder::{Builder, same, spread};

pub fn model(seed: u64, fits: bool) -> Model {
    let mut random = Random::new(seed);
    let image = random.once_in(2);
    let [height, width] = Builder::map(&mut random, fits);
    let channels = match random.size(0, 9) {
        0 if !fits => random.size(1, 40),
        _ if image => random.one(&[1, 3]),
        _ => random.size(1, 12),
    };
    let bits = if !image && random.once_in(8) { 4 } else { 8 };
    let input = Tensor::new("input", [height, width, channels], bits, !image);
    let mut b = Builder::new(random, format!("random {seed}"), Target::Akida2, input, fits);
    if image && !b.random.once_in(12) {
        b.first();
    }
    for _ in 0..b.random.size(0, 7) {
        b.layer();
    }
    if b.model.layers.is_empty() || b.random.once_in(2) {
        b.dense();
    }
    b.finish()
}

impl Builder {
    fn first(&mut self) -> Option<TensorId> {
        let Tensor { shape: [height, width, channels], .. } = self.model.input.tensor;
        let kernel = self.pair(&[3, 4, 5, 7], 7);
        let stride = self.pair(&[1, 1, 2, 2, 3, 4], 5);
        let filters = self.channels();
        let spread = spread(kernel[0] * kernel[1] * channels, 8, 8);
        let bits = self.random.one(&[8, 8, 4]);
        let pool = self.pool(&[[2, 2], [3, 2], [2, 1], [3, 3]], false);
        let pad_values = self.random.one(&[0, 1, channels, channels]);
        let conv = Conv {
            stride,
            pads: self.pads([height, width], kernel, stride),
            pad_value: self.vector(pad_values, |r| r.between(0, 255) as i32),
            bias: self.bias(filters, spread),
            pool,
            activation: self.activation(filters, spread, true),
            scale: Some(self.scale(filters, spread, bits)),
            ..Conv::new(ConvKind::Input, self.random.weights(8, [filters, kernel[0], kernel[1], channels]))
        };
        self.conv(conv, 0, bits)
    }

    fn layer(&mut self) -> Option<TensorId> {
        let at = self.source();
        match self.random.size(0, 15) {
            0 | 1 => self.add(at),
            2 | 3 => self.concat(at),
            4 => self.transposed(at, ConvKind::Transposed),
            5 => self.transposed(at, ConvKind::DepthwiseTransposed),
            6 if !self.fits && self.random.once_in(2) => self.temporal(at, ConvKind::Temporal),
            6 if !self.fits => self.temporal(at, ConvKind::DepthwiseTemporal),
            7 if self.random.once_in(3) => self.dense(),
            7..=10 => self.convolution(at, ConvKind::Depthwise),
            _ => self.convolution(at, ConvKind::Standard),
        }
    }

    /// Another tensor like this one in height, width, bits and sign.
    fn partner(&mut self, at: TensorId, same_channels: bool) -> Option<TensorId> {
        let t = self.model.tensor(at);
        let fits = |&id: &TensorId| {
            let o = self.model.tensor(id);
            o.shape[..2] == t.shape[..2] && o.bits <= 8 && (!same_channels || o.shape[2] == t.shape[2])
        };
        let all: Vec<TensorId> = (0..=self.model.layers.len()).filter(fits).collect();
        // At times a tensor with itself.
        let others: Vec<TensorId> = all.iter().copied().filter(|&id| id != at).collect();
        match others.is_empty() || self.random.once_in(12) {
            true => self.random.once_in(4).then_some(at),
            false => Some(self.random.one(&others)),
        }
    }

    fn add(&mut self, at: TensorId) -> Option<TensorId> {
        // Two of one shape rarely meet by chance: a convolution that keeps the shape makes the second.
        let other = match self.partner(at, true) {
            Some(other) => other,
            None => self.twin(at)?,
        };
        let channels = self.model.tensor(at).shape[2];
        let (count, far) = (self.random.one(&[1, channels]), self.random.once_in(8));
        let (shift, low, high) = if far { (24, -31, 32) } else { (3, -1, 3) };
        let add = Add {
            a_shift: self.vector(count, |r| r.between(0, shift) as u8),
            b_shift: self.vector(count, |r| r.between(0, shift) as u8),
            k: (!self.random.once_in(12)).then(|| self.vector(count, |r| r.between(low, high) as i8)),
        };
        let bits = if add.k.is_none() { 32 } else { self.random.one(&[8, 8, 4]) };
        self.push(LayerKind::Add(add), &[at, other], bits)
    }

    fn concat(&mut self, at: TensorId) -> Option<TensorId> {
        let other = match self.partner(at, false) {
            Some(other) => other,
            None => self.twin(at)?,
        };
        let bits = self.model.tensor(at).bits;
        self.push(LayerKind::Concat, &[other, at], bits)
    }

    /// A 1x1 convolution with an output like its input.
    fn twin(&mut self, at: TensorId) -> Option<TensorId> {
        let Tensor { shape: [.., channels], bits, .. } = *self.model.tensor(at);
        let spread = spread(channels, bits, 8);
        let conv = Conv {
            scale: Some(self.scale(channels, spread, bits)),
            ..Conv::new(ConvKind::Standard, self.random.weights(8, [channels, 1, 1, channels]))
        };
        self.conv(conv, at, bits)
    }

    fn convolution(&mut self, at: TensorId, kind: ConvKind) -> Option<TensorId> {
        let Tensor { shape: [height, width, channels], bits: input_bits, signed, .. } = *self.model.tensor(at);
        let depthwise = kind == ConvKind::Depthwise;
        let kernel = self.pair(if depthwise { &[3, 5, 7] } else { &[1, 1, 3, 3, 5, 7] }, 8);
        let stride = self.pair(if kernel == [3, 3] { &[1, 2] } else { &[1, 1, 1, 1, 1, 1, 1, 2] }, 3);
        let (filters, depth) = if depthwise { (channels, 1) } else { (self.channels(), channels) };
        let weight_bits = self.random.one(&[8, 8, 4]);
        let usual: &[[usize; 2]] = if self.fits { &[[2, 2], [2, 1]] } else { &[[2, 2], [2, 1], [3, 2]] };
        let pool = self.pool(usual, height * width <= 300);
        let area = if pool == Pool::Global { height * width } else { 1 };
        let spread = spread(kernel[0] * kernel[1] * depth * area, input_bits, weight_bits);
        let bits = self.random.one(&[8, 8, 8, 4]);
        let potentials = !self.fits && self.random.once_in(16);
        let low = if signed { -8 } else { 0 };
        let conv = Conv {
            stride,
            pads: self.pads([height, width], kernel, stride),
            pad_value: if !self.fits && self.random.once_in(12) {
                vec![self.random.between(low, 7) as i32]
            } else {
                Vec::new()
            },
            bias: self.bias(filters, spread),
            pool,
            activation: self.activation(filters, spread, true),
            scale: (!potentials).then(|| self.scale(filters, spread, bits)),
            ..Conv::new(kind, self.random.weights(weight_bits, [filters, kernel[0], kernel[1], depth]))
        };
        self.conv(conv, at, if potentials { 32 } else { bits })
    }

    fn transposed(&mut self, at: TensorId, kind: ConvKind) -> Option<TensorId> {
        let Tensor { shape: [height, width, channels], bits: input_bits, .. } = *self.model.tensor(at);
        if height * width > 200 {
            return None;
        }
        let usual = self.fits || !self.random.once_in(6);
        let kernel = if usual { [self.random.one(&[3, 4]); 2] } else { self.pair(&[1, 2, 3, 4, 5], 5) };
        let stride = if usual { [2; 2] } else { self.pair(&[1, 2, 3], 3) };
        let (filters, depth) =
            if kind == ConvKind::Transposed { (self.random.size(1, 12), channels) } else { (channels, 1) };
        let cut = |k: usize, s: usize| [k.saturating_sub(s) / 2, k.saturating_sub(s).div_ceil(2)];
        let ([top, bottom], [left, right]) = (cut(kernel[0], stride[0]), cut(kernel[1], stride[1]));
        let spread = spread(kernel[0] * kernel[1] * depth / 4 + 1, input_bits, 8);
        let weight_bits = self.random.one(&[8, 8, 8, 8, 4]);
        let conv = Conv {
            stride,
            pads: if self.random.once_in(10) { [0; 4] } else { [top, left, bottom, right] },
            bias: self.bias(filters, spread),
            activation: self.activation(filters, spread, true),
            scale: Some(self.scale(filters, spread, 8)),
            ..Conv::new(kind, self.random.weights(weight_bits, [filters, kernel[0], kernel[1], depth]))
        };
        self.conv(conv, at, 8)
    }

    fn temporal(&mut self, at: TensorId, kind: ConvKind) -> Option<TensorId> {
        let Tensor { shape: [.., channels], bits: input_bits, .. } = *self.model.tensor(at);
        let fifo = self.random.size(1, 6);
        let (filters, depth) =
            if kind == ConvKind::Temporal { (self.random.size(1, 16), fifo * channels) } else { (channels, fifo) };
        let spread = spread(depth, input_bits, 8);
        let conv = Conv {
            fifo,
            bias: self.bias(filters, spread),
            activation: self.activation(filters, spread, self.random.clone().once_in(4)),
            scale: Some(self.scale(filters, spread, 8)),
            ..Conv::new(kind, self.random.weights(8, [filters, 1, 1, depth]))
        };
        self.conv(conv, at, 8)
    }

    /// At times with a map so deep that sums saturate.
    fn dense(&mut self) -> Option<TensorId> {
        let mut at = self.source();
        if self.random.once_in(24) && self.model.tensor(at).bits == 8 {
            at = self.deep(at).unwrap_or(at);
        }
        let Tensor { shape: [height, width, channels], bits: input_bits, .. } = *self.model.tensor(at);
        let most = if height * width * channels > 2048 { 6 } else { 40 };
        let units = self.random.size(1, most);
        let weight_bits = self.random.one(&[8, 8, 4]);
        let spread = spread(height * width * channels, input_bits, weight_bits);
        let potentials = self.random.once_in(2);
        let bits = self.random.one(&[8, 8, 4]);
        let dense = Dense {
            bias: self.bias(units, spread),
            activation: self.activation(units, spread, false),
            scale: (!potentials).then(|| self.scale(units, spread, bits)),
            ..Dense::new(self.random.weights(weight_bits, [units, height, width, channels]))
        };
        self.push(LayerKind::Dense(dense), &[at], if potentials { 32 } else { bits })
    }

    /// A 1x1 convolution to about 9,000 elements, all of them large.
    fn deep(&mut self, at: TensorId) -> Option<TensorId> {
        let [height, width, channels] = self.model.tensor(at).shape;
        let filters = (9_000 / (height * width)).min(400);
        let conv = Conv {
            pads: same([height, width], [1, 1], [1, 1]),
            scale: Some(akida_runtime::model::ScaleOut { m: vec![1], k: vec![-6] }),
            ..Conv::new(ConvKind::Standard, self.random.weights(8, [filters, 1, 1, channels]))
        };
        self.conv(conv, at, 8)
    }
}
