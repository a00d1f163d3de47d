//! Sums of products of convolutions, before anything happens to them.

use super::dot;
use crate::model::{Conv, ConvKind, Shape, Weights};

/// Sums of a layer, (height, width, channels).
pub struct Map {
    /// (height, width).
    pub size: [usize; 2],
    /// Channels.
    pub channels: usize,
    /// One for each element.
    pub values: Vec<i64>,
}

/// The input of a convolution, of which there is more than there is: padding all around.
struct Padded<'a> {
    values: &'a [i32],
    shape: Shape,
    /// [top, left].
    pads: [usize; 2],
    /// A pixel of padding.
    padding: Vec<i32>,
}

impl Padded<'_> {
    /// The channels at a row and column counted from the first padded ones.
    fn pixel(&self, row: usize, column: usize) -> &[i32] {
        let [height, width, channels] = self.shape;
        match (row.checked_sub(self.pads[0]), column.checked_sub(self.pads[1])) {
            (Some(row), Some(column)) if row < height && column < width => {
                let start = (row * width + column) * channels;
                &self.values[start..start + channels]
            }
            _ => &self.padding,
        }
    }
}

/// Sums of a convolution over `input`. Temporal kinds take `input` into their `fifo` first.
pub fn sums(conv: &Conv, input: &[i32], shape: Shape, fifo: &mut Vec<Vec<i32>>) -> Map {
    // A valid model: the kernel fits.
    let size = conv.conv_size([shape[0], shape[1]]).unwrap_or([0, 0]);
    let channels = conv.filters();
    let values = match conv.kind {
        ConvKind::Input | ConvKind::Standard => standard(conv, &padded(conv, input, shape), size),
        ConvKind::Depthwise => depthwise(conv, &padded(conv, input, shape), size),
        ConvKind::Separable => {
            let raw = depthwise(conv, &padded(conv, input, shape), size);
            // A valid model: a separable convolution has a pointwise part.
            conv.pointwise.as_ref().map(|weights| pointwise(weights, &raw)).unwrap_or_default()
        }
        ConvKind::Transposed | ConvKind::DepthwiseTransposed => transposed(conv, input, shape, size),
        ConvKind::Temporal | ConvKind::DepthwiseTemporal => {
            fifo.remove(0);
            fifo.push(input.to_vec());
            temporal(conv, fifo, shape)
        }
    };
    Map { size, channels, values }
}

fn padded<'a>(conv: &Conv, values: &'a [i32], shape: Shape) -> Padded<'a> {
    let channels = shape[2];
    let padding = match conv.pad_value.as_slice() {
        [] => vec![0; channels],
        &[value] => vec![value; channels],
        values => values.to_vec(),
    };
    Padded { values, shape, pads: [conv.pads[0], conv.pads[1]], padding }
}

fn standard(conv: &Conv, input: &Padded, size: [usize; 2]) -> Vec<i64> {
    let [filters, height, width, channels] = conv.weights.shape;
    let mut sums = Vec::with_capacity(size[0] * size[1] * filters);
    for row in 0..size[0] {
        for column in 0..size[1] {
            for filter in 0..filters {
                let weights = conv.weights.filter(filter);
                let mut sum = 0;
                for y in 0..height {
                    for x in 0..width {
                        let pixel = input.pixel(row * conv.stride[0] + y, column * conv.stride[1] + x);
                        sum += dot(pixel, &weights[(y * width + x) * channels..][..channels]);
                    }
                }
                sums.push(sum);
            }
        }
    }
    sums
}

fn depthwise(conv: &Conv, input: &Padded, size: [usize; 2]) -> Vec<i64> {
    let [channels, height, width, _] = conv.weights.shape;
    let mut sums = Vec::with_capacity(size[0] * size[1] * channels);
    for row in 0..size[0] {
        for column in 0..size[1] {
            for channel in 0..channels {
                let weights = conv.weights.filter(channel);
                let mut sum = 0;
                for y in 0..height {
                    for x in 0..width {
                        let pixel = input.pixel(row * conv.stride[0] + y, column * conv.stride[1] + x);
                        sum += i64::from(pixel[channel]) * i64::from(weights[y * width + x]);
                    }
                }
                sums.push(sum);
            }
        }
    }
    sums
}

fn pointwise(weights: &Weights, raw: &[i64]) -> Vec<i64> {
    let [filters, _, _, channels] = weights.shape;
    let product = |pixel: &[i64], filter| -> i64 {
        pixel.iter().zip(weights.filter(filter)).map(|(&x, &w)| x * i64::from(w)).sum()
    };
    raw.chunks(channels).flat_map(|pixel| (0..filters).map(move |filter| product(pixel, filter))).collect()
}

/// Every input pixel, times the kernel, is laid over the output, from which the pads are then cut.
fn transposed(conv: &Conv, input: &[i32], shape: Shape, size: [usize; 2]) -> Vec<i64> {
    let [filters, height, width, depth] = conv.weights.shape;
    let [top, left, ..] = conv.pads;
    let mut sums = vec![0; size[0] * size[1] * filters];
    for (at, pixel) in input.chunks(shape[2]).enumerate() {
        let [row, column] = [at / shape[1] * conv.stride[0], at % shape[1] * conv.stride[1]];
        for y in 0..height {
            for x in 0..width {
                let (Some(row), Some(column)) = ((row + y).checked_sub(top), (column + x).checked_sub(left)) else {
                    continue;
                };
                if row >= size[0] || column >= size[1] {
                    continue;
                }
                for filter in 0..filters {
                    let weights = &conv.weights.filter(filter)[(y * width + x) * depth..][..depth];
                    let product = match conv.kind {
                        ConvKind::DepthwiseTransposed => i64::from(pixel[filter]) * i64::from(weights[0]),
                        _ => dot(pixel, weights),
                    };
                    sums[(row * size[1] + column) * filters + filter] += product;
                }
            }
        }
    }
    sums
}

fn temporal(conv: &Conv, frames: &[Vec<i32>], shape: Shape) -> Vec<i64> {
    let [height, width, channels] = shape;
    let mut sums = Vec::with_capacity(height * width * conv.filters());
    for pixel in 0..height * width {
        for filter in 0..conv.filters() {
            let weights = conv.weights.filter(filter);
            let sum = frames.iter().enumerate().map(|(time, frame)| {
                let now = &frame[pixel * channels..][..channels];
                match conv.kind {
                    ConvKind::DepthwiseTemporal => i64::from(now[filter]) * i64::from(weights[time]),
                    _ => dot(now, &weights[time * channels..][..channels]),
                }
            });
            sums.push(sum.sum());
        }
    }
    sums
}
