//! Where a quantized model loses accuracy: its tensors beside those of the float network, layer by layer.
//!
//! Integers are compared as `scale * integer`. A model keeps no scales of inner tensors, so each channel has the scale that
//! fits its float values best (least squares over all samples); outputs have their own dequantizer. A layer's *noise* is the
//! square of its error over the square of its float values. What is *lost* in a layer is its noise, at the scale that fits
//! best and so between 0 and 1, less that of the noisiest tensor it reads: layers pass independent noise on at the same ratio, to first order, so what comes on top was
//! made there. A layer that averages noise out can hide some of its own.

use std::collections::HashMap;

use akida_runtime::edge;
use akida_runtime::model::{Model, TensorId};
use akida_runtime::session::{HostNetwork, SessionError};
use ndarray::{ArrayViewD, Axis};

use crate::calibrate::{CalibrateError, FloatNetwork, FloatTensor};
use crate::onnx::Graph;

/// Why there is no comparison.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompareError {
    /// The float network does not run.
    #[error(transparent)]
    Float(#[from] CalibrateError),
    /// The model does not run.
    #[error("the model does not run")]
    Model(#[from] SessionError),
    /// The samples do not fit the model.
    #[error("the samples do not fit the model")]
    Samples(#[from] edge::EdgeError),
    /// Not one layer has a tensor in the float network.
    #[error("none of the model's {layers} layers makes a tensor of this float network: they do not belong together")]
    NothingInCommon {
        /// Layers of the model.
        layers: usize,
    },
}

/// The error of one tensor.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct TensorError {
    /// The layer that makes it; `(input)` for the input.
    pub layer: String,
    /// Its operator.
    pub op: String,
    /// The tensor.
    pub tensor: String,
    /// Square of the error over the square of the float values.
    pub noise: f64,
    /// The same in decibels, signal over noise; none without noise or signal.
    pub sqnr_db: Option<f64>,
    /// Noise that was not in what the layer reads.
    pub lost: f64,
    /// Mean of |float - quantized| over the mean of both magnitudes, 0 to 2.
    pub smape: f64,
    /// Largest error.
    pub largest: f64,
    /// Share of integers at an end of their range (below 32 bits; zeros of unsigned ones are not counted).
    pub saturated: f64,
    /// The channel with the most noise against its signal.
    pub worst_channel: usize,
    /// Its noise.
    pub worst_noise: f64,
}

/// An output beside that of the float network.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct OutputAgreement {
    /// Its name.
    pub output: String,
    /// Share of positions whose largest channel is the same.
    pub top1: f64,
    /// Mean cosine of the samples.
    pub cosine: f64,
}

/// All tensors that both networks have.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Comparison {
    /// Samples compared.
    pub samples: usize,
    /// In the order of the model.
    pub layers: Vec<TensorError>,
    /// Layers without a tensor of the same name and size in the float network.
    pub without_counterpart: Vec<String>,
    /// Outputs.
    pub outputs: Vec<OutputAgreement>,
}

impl Comparison {
    /// Layers by what is lost in them, most first.
    pub fn ranking(&self) -> Vec<&TensorError> {
        let mut layers: Vec<&TensorError> = self.layers.iter().collect();
        layers.sort_by(|a, b| b.lost.total_cmp(&a.lost));
        layers
    }
}

/// What is summed up of a tensor.
#[derive(Default)]
struct Sums {
    /// Per channel: float by quantized, quantized by quantized.
    fit: Vec<[f64; 2]>,
    /// Per channel: squares of float and of error.
    squares: Vec<[f64; 2]>,
    smape: f64,
    largest: f64,
    saturated: usize,
    count: usize,
}

/// Runs both networks over samples, batch first in the layout of the float network's input. `float` is the prepared graph
/// of the network that the model was made of. No board is involved: the model runs with the kernels of host sequences.
pub fn compare(
    float: &Graph,
    model: &Model,
    samples: ArrayViewD<f32>,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Comparison, CompareError> {
    let inputs = edge::quantize_input(model, samples.view())?;
    let count = inputs.len();
    if count == 0 {
        return Err(CalibrateError::Empty.into());
    }
    let mut sums: Vec<Option<Sums>> = (0..=model.layers.len()).map(|_| Some(Sums::default())).collect();
    let mut outputs: Vec<(usize, usize, f64)> = vec![(0, 0, 0.0); model.outputs.len()];
    // First the scales, then the errors: nothing but sums is kept.
    for measuring in [false, true] {
        let (mut reference, mut network) = (FloatNetwork::new(float)?, HostNetwork::prepare(model)?);
        for (number, (input, sample)) in inputs.iter().zip(samples.axis_iter(Axis(0))).enumerate() {
            let tensors = reference.run(sample.iter().copied().collect())?;
            network.run(input)?;
            let named: HashMap<&str, &FloatTensor> = tensors.iter().map(|t| (t.name.as_str(), t)).collect();
            for (id, sums) in sums.iter_mut().enumerate() {
                let tensor = model.tensor(id);
                let found = if id == 0 { tensors.first() } else { named.get(tensor.name.as_str()).copied() };
                let found = found.filter(|t| t.values.len() == tensor.elements());
                let (Some(found), Some(known)) = (found, &mut *sums) else {
                    *sums = None;
                    continue;
                };
                let layout = if id == 0 { model.input.layout } else { tensor.layout };
                let float = layout.to_chip(&found.values, tensor.shape);
                let integers = network.tensors()[id].integers(tensor);
                let dequantized = (id > 0).then(|| dequantized(model, id, &integers)).flatten();
                match measuring {
                    false => {
                        let exact = dequantized.as_ref().map(|values| values.iter().map(|&v| f64::from(v)).collect());
                        known.fit(&float, &exact.unwrap_or_else(|| centred(model, id, &integers)), tensor.shape[2]);
                    }
                    true => known.measure(&float, &integers, dequantized.as_deref(), model, id),
                }
                if let (true, Some(values)) = (measuring, &dequantized) {
                    for (agreement, _) in outputs.iter_mut().zip(&model.outputs).filter(|(_, o)| o.tensor == id) {
                        agree(agreement, &float, values, tensor.shape[2]);
                    }
                }
            }
            progress(number + 1 + if measuring { count } else { 0 }, 2 * count);
        }
    }
    finish(model, sums, &outputs, count)
}

/// Floats of an output tensor, (height, width, channels).
fn dequantized(model: &Model, id: TensorId, integers: &[i32]) -> Option<Vec<f32>> {
    let output = model.outputs.iter().find(|o| o.tensor == id && o.dequantizer.is_some())?;
    let tensor = model.tensor(id);
    let values: Vec<f32> = edge::dequantize(model, output, integers).into_iter().collect();
    Some(tensor.layout.to_chip(&values, tensor.shape))
}

/// Integers without the zero point of the input.
fn centred(model: &Model, id: TensorId, integers: &[i32]) -> Vec<f64> {
    let zero: &[i32] = match (&model.input.quantizer, id) {
        (Some(quantizer), 0) => &quantizer.zero_point,
        _ => &[],
    };
    let at = |n: usize| if zero.is_empty() { 0 } else { zero[n % zero.len()] };
    integers.iter().enumerate().map(|(n, &q)| f64::from(q) - f64::from(at(n))).collect()
}

impl Sums {
    fn fit(&mut self, float: &[f32], integers: &[f64], channels: usize) {
        self.fit.resize(channels, [0.0; 2]);
        for (n, (&f, &q)) in float.iter().zip(integers).enumerate() {
            let sums = &mut self.fit[n % channels];
            sums[0] += f64::from(f) * q;
            sums[1] += q * q;
        }
    }

    fn measure(&mut self, float: &[f32], integers: &[i32], exact: Option<&[f32]>, model: &Model, id: TensorId) {
        let (tensor, centred) = (model.tensor(id), centred(model, id, integers));
        let channels = tensor.shape[2];
        self.squares.resize(channels, [0.0; 2]);
        let (low, high) = tensor.range();
        for (n, &f) in float.iter().enumerate() {
            let [product, square] = self.fit[n % channels];
            let scale = if square > 0.0 { product / square } else { 0.0 };
            let f = f64::from(f);
            let g = exact.map_or(scale * centred[n], |exact| f64::from(exact[n]));
            let error = (f - g).abs();
            self.squares[n % channels][0] += f * f;
            self.squares[n % channels][1] += error * error;
            if error > 0.0 {
                self.smape += 2.0 * error / (f.abs() + g.abs());
            }
            self.largest = self.largest.max(error);
            let q = integers[n];
            self.saturated += usize::from(tensor.bits < 32 && (q == high || (q == low && tensor.signed)));
        }
        self.count += float.len();
    }
}

fn agree((same, all, cosine): &mut (usize, usize, f64), float: &[f32], quantized: &[f32], channels: usize) {
    let largest = |values: &[f32]| {
        values.iter().enumerate().fold((0, f32::NEG_INFINITY), |best, (n, &v)| if v > best.1 { (n, v) } else { best }).0
    };
    for (a, b) in float.chunks(channels).zip(quantized.chunks(channels)) {
        *same += usize::from(largest(a) == largest(b));
        *all += 1;
    }
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    let lengths = (dot(float, float) * dot(quantized, quantized)).sqrt();
    *cosine += if lengths > 0.0 { dot(float, quantized) / lengths } else { 0.0 };
}

fn ratio(signal: f64, noise: f64) -> f64 {
    if noise == 0.0 { 0.0 } else { noise / signal.max(f64::MIN_POSITIVE) }
}

fn finish(
    model: &Model,
    sums: Vec<Option<Sums>>,
    outputs: &[(usize, usize, f64)],
    samples: usize,
) -> Result<Comparison, CompareError> {
    let mut comparison = Comparison { samples, ..Comparison::default() };
    // Noise by tensor at the best scale of each channel, 0 to 1; where it is not known, that of the noisiest input.
    let mut noises: Vec<f64> = Vec::new();
    for (id, sums) in sums.into_iter().enumerate() {
        let layer = id.checked_sub(1).map(|n| &model.layers[n]);
        let before = layer.map_or(0.0, |l| l.inputs.iter().map(|&t| noises[t]).fold(0.0, f64::max));
        let name = layer.map_or("(input)".to_owned(), |l| l.name.clone());
        let Some(sums) = sums.filter(|s| s.count > 0) else {
            comparison.without_counterpart.push(name);
            noises.push(before);
            continue;
        };
        let total = sums.squares.iter().fold([0.0; 2], |sum, s| [sum[0] + s[0], sum[1] + s[1]]);
        let noise = ratio(total[0], total[1]);
        let rest = |(&[product, square], s): (&[f64; 2], &[f64; 2])| {
            s[0] - if square > 0.0 { product * product / square } else { 0.0 }
        };
        let unexplained: f64 = sums.fit.iter().zip(&sums.squares).map(rest).map(|r| r.max(0.0)).sum();
        let fitted = ratio(total[0], unexplained).min(1.0);
        let channel = |n: usize| ratio(sums.squares[n][0], sums.squares[n][1]);
        let worst = (0..sums.squares.len()).max_by(|&a, &b| channel(a).total_cmp(&channel(b))).unwrap_or(0);
        comparison.layers.push(TensorError {
            layer: name,
            op: layer.map_or("InputQuantizer".to_owned(), |l| l.op.clone()),
            tensor: model.tensor(id).name.clone(),
            noise,
            sqnr_db: (noise > 0.0 && total[0] > 0.0).then(|| -10.0 * noise.log10()),
            lost: (fitted - before).max(0.0),
            smape: sums.smape / sums.count as f64,
            largest: sums.largest,
            saturated: sums.saturated as f64 / sums.count as f64,
            worst_channel: worst,
            worst_noise: channel(worst),
        });
        noises.push(fitted);
    }
    if comparison.layers.iter().all(|l| l.layer == "(input)") {
        return Err(CompareError::NothingInCommon { layers: model.layers.len() });
    }
    for (output, &(same, all, cosine)) in model.outputs.iter().zip(outputs).filter(|(_, o)| o.1 > 0) {
        let (top1, cosine) = (same as f64 / all as f64, cosine / samples as f64);
        comparison.outputs.push(OutputAgreement { output: output.name.clone(), top1, cosine });
    }
    Ok(comparison)
}
