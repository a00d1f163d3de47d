//! From sums to outputs: saturation, bias, pooling, activation, scale-out.

use super::{Rules, conv::Map, each};
use crate::model::{Activation, Layer, LayerKind, Pool, Target};

/// What a layer makes of its sums (quantization.md 5.1, 5.2, 5.9.2 for Akida 2.0; 6.4 for 1.0).
pub fn finish(mut map: Map, pool: Pool, layer: &Layer, target: Target, rules: Rules) -> Vec<i32> {
    let channels = map.channels;
    if rules == Rules::Chip {
        let bits = layer.kind.accumulator_bits(target);
        map.each(|sum, _| saturate(sum.into(), bits).into());
    }
    let bias = layer.kind.bias();
    if !bias.is_empty() {
        map.each(|sum, channel| sum + i64::from(bias[channel]));
    }
    if let Pool::Max { size, stride, pads: [top, left, bottom, right] } = pool {
        map = max_pool(&map, size, stride, [top, left, bottom, right]);
    }
    // 1.0 averages (sums) before the activation, 2.0 after it.
    if pool == Pool::Global && target.is_v1() {
        map = global_pool(&map);
    }
    match layer.kind.activation() {
        Activation::None => {}
        Activation::Relu => map.each(|sum, _| sum.max(0)),
        Activation::ReluClipped(max) => map.each(|sum, channel| sum.clamp(0, each(max, channel).into())),
        Activation::Lut(lut) => map.each(|sum, channel| {
            let index = scale_out(sum, each(&lut.scale.m, channel), each(&lut.scale.k, channel), 11, rules);
            lut.entry(index).into()
        }),
        Activation::Steps { threshold, step_16ths } => {
            let bits = layer.output.bits;
            map.each(|sum, channel| steps(sum, threshold[channel], step_16ths[channel], bits));
        }
    }
    if pool == Pool::Global && !target.is_v1() {
        map = global_pool(&map);
    }
    let out = |(i, &sum): (usize, &i64)| match layer.kind.scale() {
        Some(scale) => {
            let (m, k) = (each(&scale.m, i % channels), each(&scale.k, i % channels));
            if layer.output.signed {
                scale_out(sum, m, k, layer.output.bits, rules)
            } else {
                // One bit more, then no sign.
                let (_, most) = layer.output.range();
                scale_out(sum, m, k, layer.output.bits + 1, rules).clamp(0, most)
            }
        }
        None => saturate(sum.into(), 32),
    };
    debug_assert!(!matches!(layer.kind, LayerKind::Add(_) | LayerKind::Concat));
    map.values.iter().enumerate().map(out).collect()
}

impl Map {
    /// Replaces every value by `f(value, channel)`.
    fn each(&mut self, f: impl Fn(i64, usize) -> i64) {
        for pixel in self.values.chunks_mut(self.channels) {
            for (channel, value) in pixel.iter_mut().enumerate() {
                *value = f(*value, channel);
            }
        }
    }
}

/// `sat(floor(a * m / 2^k + 1/2))` on `bits` bits, signed (quantization.md 5.1).
pub fn scale_out(a: i64, m: u8, k: i8, bits: u8, rules: Rules) -> i32 {
    let mut product = i128::from(a) * i128::from(m);
    if rules == Rules::Chip {
        product = saturate(product, 32).into();
    }
    let scaled = if k > 0 { (product + (1 << (k - 1))) >> k } else { product << -k };
    saturate(scaled, bits.into())
}

/// The nearest signed integer of so many bits, at most 32.
pub fn saturate(value: i128, bits: u32) -> i32 {
    let limit = 1i128 << (bits - 1);
    // 32 bits at most: it fits.
    value.clamp(-limit, limit - 1) as i32
}

/// `clip(ceil((p - t) / (step * 2^(4 - bits))), 0, 2^bits - 1)` (quantization.md 6.4).
fn steps(potential: i64, threshold: i32, step_16ths: u32, bits: u8) -> i64 {
    let above = (i128::from(potential) - i128::from(threshold)) * 16;
    let interval = i128::from(step_16ths) << (4 - bits);
    // Rounded up: `div_euclid` rounds down for a positive divisor.
    let intervals = -(-above).div_euclid(interval);
    intervals.clamp(0, (1 << bits) - 1) as i64
}

/// Padding never wins: windows are cut at the edges of the map.
fn max_pool(map: &Map, size: [usize; 2], stride: [usize; 2], [top, left, bottom, right]: [usize; 4]) -> Map {
    let [height, width] = map.size;
    let out = [(height + top + bottom - size[0]) / stride[0] + 1, (width + left + right - size[1]) / stride[1] + 1];
    let mut values = Vec::with_capacity(out[0] * out[1] * map.channels);
    for row in 0..out[0] {
        for column in 0..out[1] {
            let rows = window(row, size[0], stride[0], top, height);
            let columns = window(column, size[1], stride[1], left, width);
            for channel in 0..map.channels {
                let all = rows.clone().flat_map(|y| columns.clone().map(move |x| y * width + x));
                // A window has at least one element in the map: pads are smaller than windows.
                values.push(all.map(|at| map.values[at * map.channels + channel]).max().unwrap_or(i64::MIN));
            }
        }
    }
    Map { size: out, channels: map.channels, values }
}

/// The part of a window that lies in the map.
fn window(index: usize, size: usize, stride: usize, before: usize, len: usize) -> std::ops::Range<usize> {
    let start = index * stride;
    start.saturating_sub(before)..(start + size).saturating_sub(before).min(len)
}

/// The sum of each channel.
fn global_pool(map: &Map) -> Map {
    let mut values = vec![0; map.channels];
    for pixel in map.values.chunks(map.channels) {
        for (sum, value) in values.iter_mut().zip(pixel) {
            *sum += value;
        }
    }
    Map { size: [1, 1], channels: map.channels, values }
}
