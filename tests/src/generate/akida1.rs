//! Models for Akida 1.0.

use akida_runtime::model::{Activation, Conv, ConvKind, Dense, LayerKind, Model, Pool, Target, Tensor, TensorId};

use super::Random;
use super::builder::{Builder, spread};

pub fn model(target: Target, seed: u64, fits: bool) -> Model {
    let mut random = Random::new(seed ^ 0x1000);
    let image = random.once_in(2);
    let [height, width] = Builder::map(&mut random, fits);
    let channels = match random.size(0, 9) {
        0 if !fits => random.size(1, 40),
        _ if image => random.one(&[1, 3]),
        _ => random.size(1, 12),
    };
    let bits = if image { 8 } else { random.one(&[1, 2, 4]) };
    let input = Tensor::new("input", [height, width, channels], bits, false);
    let mut b = Builder::new(random, format!("random {seed}"), target, input, fits);
    if image {
        b.first1();
    }
    for _ in 0..b.random.size(0, 6) {
        b.layer1();
    }
    if b.model.layers.is_empty() || b.random.once_in(2) {
        b.dense1();
    }
    b.finish()
}

impl Builder {
    fn first1(&mut self) -> Option<TensorId> {
        let [height, width, channels] = self.model.input.tensor.shape;
        let kernel = self.pair(&[3, 5, 7], 7);
        let stride = self.pair(&[1, 2, 3], 3);
        let filters = self.channels();
        let spread = spread(kernel[0] * kernel[1] * channels, 8, 8);
        let pool = self.pool(&[[2, 2], [2, 1], [1, 1]], false);
        let conv = Conv {
            stride,
            pads: self.pads([height, width], kernel, stride),
            pad_value: if self.random.once_in(4) { Vec::new() } else { vec![self.random.between(0, 255) as i32] },
            pool,
            bias: if !self.fits && self.random.once_in(6) { self.bias(filters, spread) } else { Vec::new() },
            activation: self.steps(filters, spread, 24),
            ..Conv::new(ConvKind::Input, self.random.weights(8, [filters, kernel[0], kernel[1], channels]))
        };
        let bits = self.random.one(&[1, 2, 4, 4]);
        self.conv(conv, 0, bits)
    }

    fn layer1(&mut self) -> Option<TensorId> {
        let at = self.source();
        let tensor = self.model.tensor(at).clone();
        let [height, width, channels] = tensor.shape;
        if tensor.bits > 4 {
            return None;
        }
        if self.random.once_in(10) {
            return self.dense1();
        }
        let separable = self.random.once_in(2);
        let kernel = self.pair(if separable { &[3, 5, 7] } else { &[1, 3, 3, 5, 7] }, 7);
        let stride = self.pair(if kernel == [3, 3] { &[1, 2] } else { &[1, 1, 1, 1, 1, 1, 1, 2] }, 3);
        let filters = self.channels();
        let weight_bits = self.random.one(if separable { &[2, 4] } else { &[1, 2, 4] });
        let pool = self.pool(if self.fits { &[[2, 2], [2, 1]] } else { &[[2, 2], [2, 1], [3, 2]] }, height >= 6);
        let (rows, depth) = if separable { (channels, 1) } else { (filters, channels) };
        let mut wide = spread(kernel[0] * kernel[1] * depth, tensor.bits, weight_bits);
        if separable {
            wide *= (channels as f64).sqrt() * 2.0;
        }
        if pool == Pool::Global {
            wide *= ((height * width) as f64).sqrt();
        }
        let kind = if separable { ConvKind::Separable } else { ConvKind::Standard };
        let potentials = !self.fits && self.random.once_in(16);
        let conv = Conv {
            pointwise: separable.then(|| self.random.weights(weight_bits, [filters, 1, 1, channels])),
            stride,
            pads: self.pads([height, width], kernel, stride),
            pool,
            bias: if !self.fits && self.random.once_in(12) { self.bias(filters, wide) } else { Vec::new() },
            activation: if potentials { Activation::None } else { self.steps(filters, wide, 20) },
            ..Conv::new(kind, self.random.weights(weight_bits, [rows, kernel[0], kernel[1], depth]))
        };
        let bits = if potentials { 32 } else { self.random.one(&[1, 2, 4, 4]) };
        self.conv(conv, at, bits)
    }

    fn dense1(&mut self) -> Option<TensorId> {
        let at = self.source();
        let [height, width, channels] = self.model.tensor(at).shape;
        let input_bits = self.model.tensor(at).bits;
        if input_bits > 4 {
            return None;
        }
        let units = self.random.size(1, 40);
        let weight_bits = self.random.one(&[1, 2, 4]);
        let wide = spread(height * width * channels, input_bits, weight_bits);
        let potentials = self.random.once_in(2);
        let dense = Dense {
            activation: if potentials { Activation::None } else { self.steps(units, wide, 20) },
            ..Dense::new(self.random.weights(weight_bits, [units, height, width, channels]))
        };
        let bits = if potentials { 32 } else { self.random.one(&[1, 2, 4]) };
        self.push(LayerKind::Dense(dense), &[at], bits)
    }
}
