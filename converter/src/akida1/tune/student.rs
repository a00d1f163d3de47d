//! The quantized network as numbers that can be moved a little: every integer weight is a real one, rounded.

use akida_runtime::model::{Pool, limits};

use super::descent::Rates;
use super::gradient::Gradient;
use super::net::{Activation, NetLayer};
use crate::akida1::chain::{Chain, Layer};
use crate::akida1::fit;
use crate::akida1::layer::Done;
use crate::akida1::maps::Linear;
use crate::akida1::steps::{Line, Step};

/// Parameters of one layer.
#[derive(Clone, Debug)]
pub struct Parameters<'c> {
    layer: &'c Layer,
    padding: f32,
    /// (inputs of a filter, filters), before rounding, in units of the integers.
    weights: Vec<f32>,
    /// (taps, channels), the same.
    depthwise: Vec<f32>,
    /// Outputs (or reals, for potentials) per unit of the sum, per filter.
    scale: Vec<f32>,
    /// Output at sum 0.
    offset: Vec<f32>,
    /// Largest weight.
    most: f32,
    /// Bits of an output; None: potentials.
    bits: Option<u8>,
    /// Largest code of a step, largest threshold.
    limits: (f32, f32),
    /// Real per unit of the output.
    unit: f32,
}

/// How far weights may be from the integer that was chosen first.
const INSIDE: f32 = 0.45;
/// How far beyond the largest integer they may go.
const BEYOND: f32 = 0.3;

impl<'c> Parameters<'c> {
    /// Of a layer as it was quantized.
    pub fn new(layer: &'c Layer, done: &Done, weight_bits: u8, bits: Option<u8>, padding: i32, image: bool) -> Self {
        let float = Linear::of(&layer.operator, layer.input);
        let filters = layer.filters();
        let mut real = float.weights.clone();
        let depthwise = match (&float.depthwise, &done.linear.depthwise) {
            (Some(float), Some(integers)) => {
                // Real per unit of each channel's sums: the pointwise weights take it.
                let unit: Vec<f64> = integers
                    .columns()
                    .into_iter()
                    .zip(float.columns())
                    .map(|(w, r)| {
                        let square: f64 = w.iter().map(|w| w * w).sum();
                        let along: f64 = w.iter().zip(r).map(|(w, r)| w * r).sum();
                        if square > 0.0 && along > 0.0 { along / square } else { 1.0 }
                    })
                    .collect();
                real.rows_mut().into_iter().zip(&unit).for_each(|(mut row, u)| row *= *u);
                let mut real = float.clone();
                real.rows_mut().into_iter().for_each(|mut row| row.iter_mut().zip(&unit).for_each(|(w, u)| *w /= u));
                near(real.iter(), integers.iter())
            }
            _ => Vec::new(),
        };
        for (f, mut column) in real.columns_mut().into_iter().enumerate() {
            let integers = done.linear.weights.column(f);
            let square: f64 = column.iter().map(|r| r * r).sum();
            let along: f64 = column.iter().zip(integers).map(|(r, w)| r * w).sum();
            column *= if square > 0.0 { along / square } else { 0.0 };
        }
        let weights = near(real.iter(), done.linear.weights.iter());
        let (mut scale, mut offset) = (Vec::with_capacity(filters), Vec::with_capacity(filters));
        let mut unit = done.unit;
        match bits {
            Some(bits) => {
                for step in &done.steps {
                    let length = f64::from(step.step_16ths << (4 - bits)) / 16.0;
                    scale.push((1.0 / length) as f32);
                    offset.push((0.5 - (f64::from(step.threshold) + 0.5) / length) as f32);
                }
            }
            None => {
                unit = 1.0;
                for line in &done.lines {
                    scale.push(line.scale as f32);
                    offset.push(line.offset as f32);
                }
            }
        }
        let limits = if image { limits::INPUT_STEPS } else { limits::STEPS };
        let limits = (limits.step_16ths as f32, ((1i64 << (limits.threshold_bits - 1)) - 1) as f32);
        let (most, padding) = (fit::largest(weight_bits) as f32, padding as f32);
        Self { layer, padding, weights, depthwise, scale, offset, most, bits, limits, unit: unit as f32 }
    }

    fn round(&self, weights: &[f32]) -> Vec<f32> {
        weights.iter().map(|w| w.round_ties_even().clamp(-self.most, self.most)).collect()
    }

    fn step(&self, f: usize, bits: u8) -> Step {
        let length = 1.0 / self.scale[f];
        let code = (length * 16.0 / f32::from(1u8 << (4 - bits))).round().clamp(1.0, self.limits.0);
        let threshold = ((0.5 - self.offset[f]) * length - 0.5).round().clamp(-self.limits.1, self.limits.1);
        Step { threshold: threshold as i32, step_16ths: code as u32 }
    }

    /// Thresholds and steps; empty: potentials.
    fn steps(&self) -> Vec<Step> {
        self.bits.map_or(Vec::new(), |bits| (0..self.scale.len()).map(|f| self.step(f, bits)).collect())
    }

    /// The layer as the chip computes it.
    pub fn net(&self) -> NetLayer<'c> {
        let weights = self.round(&self.weights);
        let activation = match self.bits {
            None => Activation::Real,
            Some(bits) => {
                let steps = self.steps();
                Activation::Steps {
                    threshold: steps.iter().map(|s| s.threshold as f32).collect(),
                    length: steps.iter().map(|s| (s.step_16ths << (4 - bits)) as f32 / 16.0).collect(),
                    most: f32::from((1u8 << bits) - 1),
                }
            }
        };
        NetLayer {
            layer: self.layer,
            padding: self.padding,
            transposed: transposed(&weights, self.layer.filters()),
            weights,
            depthwise: self.round(&self.depthwise),
            scale: self.scale.clone(),
            offset: self.offset.clone(),
            activation,
        }
    }

    /// Moves all parameters along a direction; `spread` is what an offset of a potential is measured by.
    pub fn advance(&mut self, along: &Gradient, rates: Rates, spread: f32) {
        let (most, rate) = (self.most + BEYOND, rates.weights * self.most);
        let weights = self.weights.iter_mut().zip(&along.weights);
        for (w, along) in weights.chain(self.depthwise.iter_mut().zip(&along.depthwise)) {
            *w = (*w + along * rate).clamp(-most, most);
        }
        for (scale, along) in self.scale.iter_mut().zip(&along.scale) {
            *scale *= 1.0 + (along * rates.scale).clamp(-0.1, 0.1);
        }
        let unit = if self.bits.is_some() { 1.0 } else { spread };
        for (offset, along) in self.offset.iter_mut().zip(&along.offset) {
            *offset += along * rates.offset * unit;
        }
    }

    /// Real per unit of the output.
    pub fn unit(&self) -> f32 {
        self.unit
    }

    /// Puts the parameters into the layer they came from.
    pub fn put(&self, done: &mut Done) {
        let put = |from: &[f32], to: &mut ndarray::Array2<f64>| {
            to.iter_mut().zip(self.round(from)).for_each(|(to, w)| *to = w.into());
        };
        put(&self.weights, &mut done.linear.weights);
        if let Some(depthwise) = &mut done.linear.depthwise {
            put(&self.depthwise, depthwise);
        }
        if self.bits.is_some() {
            done.steps = self.steps();
        } else {
            let line = |(&scale, &offset): (&f32, &f32)| Line { scale: scale.into(), offset: offset.into() };
            done.lines = self.scale.iter().zip(&self.offset).map(line).collect();
        }
    }
}

/// Real weights, moved to where they round to these integers.
fn near<'a>(real: impl Iterator<Item = &'a f64>, integers: impl Iterator<Item = &'a f64>) -> Vec<f32> {
    real.zip(integers).map(|(r, w)| (w + (r - w).clamp(-f64::from(INSIDE), f64::from(INSIDE))) as f32).collect()
}

fn transposed(weights: &[f32], filters: usize) -> Vec<f32> {
    let columns = weights.len() / filters;
    (0..weights.len()).map(|i| weights[i % columns * filters + i / columns]).collect()
}

/// The float network.
pub fn teacher(chain: &Chain) -> Vec<NetLayer<'_>> {
    chain.layers.iter().map(float).collect()
}

fn float(layer: &Layer) -> NetLayer<'_> {
    {
        let Layer { bias, bound, pool, conv, .. } = layer;
        let linear = Linear::of(&layer.operator, layer.input);
        let weights: Vec<f32> = linear.weights.iter().map(|w| *w as f32).collect();
        let divisor = if *pool == Pool::Global { (conv[0] * conv[1]) as f32 } else { 1.0 };
        NetLayer {
            layer,
            padding: layer.padding as f32,
            transposed: Vec::new(),
            weights,
            depthwise: linear.depthwise.iter().flatten().map(|w| *w as f32).collect(),
            scale: vec![1.0 / divisor; layer.filters()],
            offset: bias.iter().map(|b| *b as f32).collect(),
            activation: match bound.is_empty() {
                true => Activation::Real,
                false => Activation::Bounded(bound.iter().map(|b| *b as f32).collect()),
            },
        }
    }
}
