//! What a network computes, in plain loops: the arithmetic of quantization.md sections 5 and 6.4, one line for one rule.
//!
//! This is the yardstick: it shares no arithmetic with the simulated board, and both must give the vectors of the
//! conformance data bit for bit. Nothing here is tuned; sums are 64 bits wide, which no valid model can overflow
//! ([`crate::model::limits`]).

mod conv;
mod finish;

use crate::model::{Add, LayerKind, Model, Tensor};

/// Which saturations apply (quantization.md 5.9). They differ only where sums are very large.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Rules {
    /// As the chip: the accumulator saturates (at 28 bits in most layers of Akida 2.0) before the bias is added, and its
    /// product with the output scale saturates at 32 bits.
    #[default]
    Chip,
    /// As the quantized ONNX graph: neither.
    Graph,
}

/// Why an input is no input of a model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// Too few or too many elements.
    #[error(
        "the input has {found} bytes; {name} takes {expected}, one for each element of {shape:?} (height, width, channels)"
    )]
    Length {
        /// Name of the model's input.
        name: String,
        /// Bytes given.
        found: usize,
        /// Bytes needed.
        expected: usize,
        /// Shape of the input.
        shape: [usize; 3],
    },
    /// A value that does not fit the bits of an element.
    #[error("byte {index} of the input is {value}; {name} takes {min}..={max}")]
    Range {
        /// Name of the model's input.
        name: String,
        /// Position in (height, width, channels) order.
        index: usize,
        /// Value there.
        value: i32,
        /// Smallest value.
        min: i32,
        /// Largest value.
        max: i32,
    },
}

/// Runs a model layer by layer, sample by sample. Temporal layers remember frames between samples.
#[derive(Clone, Debug)]
pub struct Reference<'m> {
    model: &'m Model,
    rules: Rules,
    /// Of each layer: its last frames, oldest first, empty for layers without a FIFO.
    fifos: Vec<Vec<Vec<i32>>>,
}

impl<'m> Reference<'m> {
    /// A valid model ([`Model::validate`]), its FIFOs full of zeros.
    pub fn new(model: &'m Model, rules: Rules) -> Self {
        let mut reference = Self { model, rules, fifos: Vec::new() };
        reference.reset();
        reference
    }

    /// Fills the FIFOs of temporal layers with zeros, as between two streams.
    pub fn reset(&mut self) {
        let fifo = |layer: &crate::model::Layer| match &layer.kind {
            LayerKind::Conv(conv) if conv.kind.temporal() => {
                vec![vec![0; self.model.tensor(layer.inputs[0]).elements()]; conv.fifo]
            }
            _ => Vec::new(),
        };
        self.fifos = self.model.layers.iter().map(fifo).collect();
    }

    /// All tensors for one sample, by number: the input, then the output of each layer, in (height, width, channels)
    /// order. `input` has one byte for each element, two's complement when the input is signed.
    ///
    /// # Errors
    /// When `input` is not an input of the model; FIFOs then stay as they were.
    pub fn run(&mut self, input: &[u8]) -> Result<Vec<Vec<i32>>, InputError> {
        let mut tensors = vec![widen(&self.model.input.tensor, input)?];
        for (layer, fifo) in self.model.layers.iter().zip(&mut self.fifos) {
            let first = &tensors[layer.inputs[0]];
            let shape = self.model.tensor(layer.inputs[0]).shape;
            let filters = layer.output.shape[2];
            let output = match &layer.kind {
                LayerKind::Conv(conv) => {
                    let sums = conv::sums(conv, first, shape, fifo);
                    finish::finish(sums, conv.pool, layer, self.model.target, self.rules)
                }
                LayerKind::Dense(dense) => {
                    let units = (0..filters).map(|unit| dot(first, dense.weights.filter(unit))).collect();
                    let sums = conv::Map { size: [1, 1], channels: filters, values: units };
                    finish::finish(sums, crate::model::Pool::None, layer, self.model.target, self.rules)
                }
                LayerKind::Add(add) => {
                    let second = &tensors[layer.inputs[1]];
                    sum(add, first, second, filters, &layer.output, self.rules)
                }
                LayerKind::Concat => {
                    let second = &tensors[layer.inputs[1]];
                    let pixels = first.chunks(shape[2]).zip(second.chunks(filters - shape[2]));
                    pixels.flat_map(|(a, b)| a.iter().chain(b)).copied().collect()
                }
            };
            tensors.push(output);
        }
        Ok(tensors)
    }

    /// The values of each output of the model, in order, out of all tensors.
    pub fn outputs<'t>(&self, tensors: &'t [Vec<i32>]) -> Vec<&'t [i32]> {
        self.model.outputs.iter().map(|output| tensors[output.tensor].as_slice()).collect()
    }
}

/// Bytes as the integers they stand for.
fn widen(tensor: &Tensor, bytes: &[u8]) -> Result<Vec<i32>, InputError> {
    if bytes.len() != tensor.elements() {
        return Err(InputError::Length {
            name: tensor.name.clone(),
            found: bytes.len(),
            expected: tensor.elements(),
            shape: tensor.shape,
        });
    }
    let (min, max) = tensor.range();
    let widen = |(index, &byte): (usize, &u8)| {
        let value = if tensor.signed { i32::from(byte as i8) } else { i32::from(byte) };
        if (min..=max).contains(&value) {
            Ok(value)
        } else {
            Err(InputError::Range { name: tensor.name.clone(), index, value, min, max })
        }
    };
    bytes.iter().enumerate().map(widen).collect()
}

/// Sum of products of tensor elements (9 bits at most, with sign) and weights.
fn dot(x: &[i32], weights: &[i8]) -> i64 {
    // So many products of 255 and -128 fit 32 bits.
    const PART: usize = 65_000;
    let part = |(x, weights): (&[i32], &[i8])| -> i32 { x.iter().zip(weights).map(|(&x, &w)| x * i32::from(w)).sum() };
    x.chunks(PART).zip(weights.chunks(PART)).map(|chunks| i64::from(part(chunks))).sum()
}

/// `x * 2^a + y * 2^b`, scaled out by a pure shift (quantization.md 5.4).
fn sum(add: &Add, x: &[i32], y: &[i32], channels: usize, output: &Tensor, rules: Rules) -> Vec<i32> {
    let one = |(i, (&x, &y)): (usize, (&i32, &i32))| {
        let c = i % channels;
        let sum = (i64::from(x) << each(&add.a_shift, c)) + (i64::from(y) << each(&add.b_shift, c));
        match &add.k {
            Some(k) => finish::scale_out(sum, 1, each(k, c), output.bits, rules),
            None => finish::saturate(sum.into(), 32),
        }
    };
    x.iter().zip(y).enumerate().map(one).collect()
}

/// The value of a channel in a vector with one value for all or one for each.
fn each<T: Copy>(values: &[T], channel: usize) -> T {
    values[if values.len() == 1 { 0 } else { channel }]
}

#[cfg(test)]
mod tests;
