//! Quantization for Akida 1.0 (AKD1000, AKD1500): from a float network to thresholds and steps.
//!
//! The network becomes a chain of layers (`chain`, `read`), which are quantized one after another, first to last:
//! each sees on its input the integers that the layers before it really give for the calibration samples, and is fitted
//! to what the float network has on its output, so that what one layer loses the next can make up for. Everything aims
//! at the rule of the chip (quantization.md 6.4), not at a graph that is converted later. docs/quantization-1.0.md says
//! how well it works.
//!
//! | file | concern |
//! |---|---|
//! | `read` | which nodes make which layer, and what is refused |
//! | `equalize` | scales of channels between two layers |
//! | `entry` | what comes before the first layer |
//! | `windows` | kernels and networks as the chip can lay them |
//! | `input` | floats to the first integers |
//! | `layer` | one layer from end to end |
//! | `fit`, `separable` | integer weights with the least error |
//! | `steps` | unit of an activation, thresholds, steps |
//! | `maps` | exact sums over feature maps |
//! | `tune` | all layers together, against the network's output |
//! | `build` | the model |

mod build;
mod chain;
mod entry;
mod equalize;
mod fit;
mod input;
mod layer;
mod maps;
mod options;
mod read;
mod report;
mod separable;
mod steps;
mod strides;
mod tune;
mod windows;

use std::path::Path;

use akida_runtime::model::{Model, ModelError, OnnxLayout};
use ndarray::{ArrayViewD, Axis};

pub use options::{Bits, LayerBits, Options, Tools};
pub use report::{LayerReport, Note};
pub use tune::Tuning;

use chain::{Chain, Operator};
use input::Input;
use layer::{Done, Task};
use maps::Map;

use crate::ConvertError;
use crate::calibrate::CalibrateError;
use crate::onnx::{Graph, load};
use crate::prepare::prepare;
use crate::quantize::{QuantizeError, Warning, check_float};

/// A model and how it came about.
#[derive(Clone, Debug)]
pub struct Quantized {
    /// The model.
    pub model: Model,
    /// Rewritings that were done, and limits met.
    pub notes: Vec<Note>,
    /// How well each layer is met.
    pub layers: Vec<LayerReport>,
    /// Whether the network was tuned, and what that gave.
    pub tuning: Tuning,
    /// What graph preparation left out.
    pub warnings: Vec<Warning>,
}

/// Converts the float ONNX file at `path` to a model for Akida 1.0; as [`quantize`].
pub fn convert(
    path: &Path,
    samples: ArrayViewD<f32>,
    options: &Options,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Quantized, ConvertError> {
    quantize(load(path)?, samples, options, progress)
}

/// Quantizes a float network with calibration samples, batch first, in the layout of its input. `progress` is told how
/// many parts of the work are done, and of how many.
pub fn quantize(
    graph: Graph,
    samples: ArrayViewD<f32>,
    options: &Options,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Quantized, ConvertError> {
    options.check()?;
    check_float(&graph)?;
    let shape = samples.shape().get(1..).unwrap_or(&[]).to_vec();
    let (prepared, warnings) = prepare(graph, Some(&shape))?;
    if let Some(tensor) = options.until.as_deref().filter(|tensor| prepared.producer(tensor).is_none()) {
        return Err(QuantizeError::Option {
            option: "--quantize-until",
            rule: "a tensor that a node of the prepared graph makes",
            found: format!("'{tensor}'"),
        }
        .into());
    }
    let (mut chain, mut notes) = read::read(&prepared, options.until.as_deref())?;
    let image = takes_images(&chain);
    strides::part(&mut chain, image, &mut notes);
    windows::fit(&mut chain, image, &mut notes);
    let samples = maps_of(&chain, samples)?;
    if options.tools.equalize {
        let ranges = ranges(&chain, &samples);
        equalize::equalize(&mut chain, &ranges, 0.5);
    }
    let (model, layers, tuning) = quantize_chain(&chain, &samples, options, &mut notes, progress)?;
    Ok(Quantized { model, notes, layers, tuning, warnings })
}

/// Whether the first layer is an InputConvolutional, on images of 8 bits.
fn takes_images(chain: &Chain) -> bool {
    matches!(chain.layers[0].operator, Operator::Conv { .. }) && [1, 3].contains(&chain.shape[2])
}

/// Calibration samples in (height, width, channels) order.
fn maps_of(chain: &Chain, samples: ArrayViewD<f32>) -> Result<Vec<Map>, CalibrateError> {
    if samples.ndim() == 0 || samples.shape()[0] == 0 {
        return Err(CalibrateError::Empty);
    }
    let expected = chain.layout.dims(chain.shape);
    if samples.shape()[1..] != expected {
        return Err(CalibrateError::Shape { input: chain.input.clone(), expected, found: samples.shape().to_vec() });
    }
    let maps = samples.axis_iter(Axis(0)).enumerate().map(|(number, sample)| {
        let values: Map = sample.iter().copied().collect();
        if values.iter().any(|v| !v.is_finite()) {
            return Err(CalibrateError::NotFinite { sample: number });
        }
        Ok(match chain.layout {
            OnnxLayout::Flat => values,
            layout => layout.to_chip(&values, chain.shape),
        })
    });
    maps.collect()
}

/// Largest value of each output channel of each layer over the samples.
fn ranges(chain: &Chain, samples: &[Map]) -> Vec<Vec<f64>> {
    let mut ranges: Vec<Vec<f64>> = chain.layers.iter().map(|layer| vec![0.0; layer.filters()]).collect();
    for sample in samples {
        let mut map = sample.clone();
        for (layer, ranges) in chain.layers.iter().zip(&mut ranges) {
            map = layer::float(layer, &map);
            for pixel in map.chunks(layer.filters()) {
                ranges.iter_mut().zip(pixel).for_each(|(r, &x)| *r = r.max(x.into()));
            }
        }
    }
    ranges
}

/// Bits of a layer's weights and output.
fn bits(options: &Options, name: &str, first: bool) -> Result<(u8, u8), QuantizeError> {
    let Some(own) = options.layers.iter().find(|bits| bits.layer == name) else {
        let bits = options.bits;
        return Ok((if first { bits.first_weights } else { bits.weights }, bits.activations));
    };
    if own.weights == 8 && !first {
        return Err(QuantizeError::Option {
            option: "bits of a layer",
            rule: "weights of 8 bits in a first convolution on images only",
            found: format!("{} for '{name}'", own.weights),
        });
    }
    Ok((own.weights, own.activations))
}

fn quantize_chain(
    chain: &Chain,
    samples: &[Map],
    options: &Options,
    notes: &mut Vec<Note>,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<(Model, Vec<LayerReport>, Tuning), QuantizeError> {
    let of = chain.layers.len();
    let unknown = |bits: &&LayerBits| chain.layers.iter().all(|layer| layer.name != bits.layer);
    if let Some(bits) = options.layers.iter().find(unknown) {
        return Err(QuantizeError::Option {
            option: "bits of a layer",
            rule: "the name of a Conv or Gemm node of the prepared graph",
            found: format!("'{}'", bits.layer),
        });
    }
    let image = takes_images(chain);
    let input = Input::choose(&chain.input, samples, if image { 8 } else { 4 }, image, chain.layers[0].padding)?;
    let mut integers: Vec<Map> = samples.iter().map(|sample| input.quantize(sample)).collect();
    let mut floats = samples.to_vec();
    let (mut scale, mut offset, mut padding) = (input.scale, input.offset, input.padding);
    let mut all: Vec<Done> = Vec::with_capacity(of);
    let mut widths: Vec<(u8, Option<u8>)> = Vec::with_capacity(of);
    // Tuning takes as long as all layers together, about.
    let whole = if options.tools.tune { 2 * of } else { of };
    progress(0, whole);
    for (index, layer) in chain.layers.iter().enumerate() {
        let first = image && index == 0;
        let (weight_bits, activation_bits) = bits(options, &layer.name, first)?;
        let output_bits = (!layer.bound.is_empty()).then_some(activation_bits);
        let importance = match chain.layers.get(index + 1) {
            Some(next) => equalize::channel_weights(&next.operator, layer.filters()).iter().map(|w| w * w).collect(),
            None => vec![1.0; layer.filters()],
        };
        let task = Task {
            layer,
            integers: &integers,
            floats: &floats,
            scale,
            offset,
            padding,
            weight_bits,
            bits: output_bits,
            image: first,
            importance,
            tools: options.tools,
        };
        let mut done = layer::quantize(&task);
        if done.held > 0 {
            notes.push(Note::Held { layer: layer.name.clone(), filters: done.held });
        }
        log::debug!("{}: relative error {:.4}", layer.name, done.relative_error);
        progress(index + 1, whole);
        (scale, offset, padding) = (done.unit, 0.0, 0);
        (integers, floats) = (std::mem::take(&mut done.integers), std::mem::take(&mut done.floats));
        all.push(done);
        widths.push((weight_bits, output_bits));
    }
    drop((integers, floats));
    let tuning = match options.tools.tune {
        true => tune::tune(chain, &input, samples, &mut all, &widths, image, &mut |step, steps| {
            progress(of + step as usize * of / steps as usize, whole);
        }),
        false => Tuning::Off,
    };
    progress(whole, whole);
    log::info!("tuning: {tuning}");
    // Four bits are near the float network without it.
    if tuning.is_missed() && widths.iter().any(|&(weights, bits)| weights < 4 || bits.is_some_and(|bits| bits < 4)) {
        notes.push(Note::NotTuned { reason: tuning });
    }
    let mut builder = build::Builder::new(chain, &input, options.target);
    let mut reports: Vec<LayerReport> = Vec::with_capacity(of);
    for (index, ((layer, done), &(weight_bits, output_bits))) in chain.layers.iter().zip(&all).zip(&widths).enumerate()
    {
        let bits = output_bits.unwrap_or(32);
        let padding = (image && index == 0).then_some(input.padding);
        builder.push(layer, done, weight_bits, bits, padding).map_err(|error| refuse(chain, &error))?;
        reports.push(LayerReport {
            layer: layer.name.clone(),
            weight_bits,
            output_bits: bits,
            relative_error: done.relative_error,
        });
    }
    let model = builder.finish().map_err(|error| refuse(chain, &error))?;
    Ok((model, reports, tuning))
}

fn refuse(chain: &Chain, error: &ModelError) -> QuantizeError {
    QuantizeError::Graph {
        graph: chain.name.clone(),
        rule: "every layer is within the limits of a model",
        found: error.to_string(),
        remedy: "Change the network",
    }
}
