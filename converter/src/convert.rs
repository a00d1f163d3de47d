//! The whole way: from a float graph to a quantized one, and to a model.

use std::path::{Path, PathBuf};

use akida_runtime::hybrid::HybridModel;

use crate::calibrate::{CalibrateError, Calibration, Ranges, observe, random_samples};
use crate::import::{ImportError, ImportOptions, import_network};
use crate::onnx::{Graph, OnnxError, load};
use crate::prepare::{PrepareError, prepare_observed};
use crate::qdq::QdqError;
use crate::quantize::{QuantizeError, QuantizeOptions, Warning, check_float, check_prepared, quantize_prepared};
use crate::stages::Stage;

/// Why a model was not converted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// The file is not a usable ONNX model.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    /// The graph cannot be prepared.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    /// Its ranges cannot be observed.
    #[error(transparent)]
    Calibrate(#[from] CalibrateError),
    /// It cannot be quantized.
    #[error(transparent)]
    Quantize(#[from] QuantizeError),
    /// It is quantized in a way that cannot be taken over.
    #[error(transparent)]
    Qdq(#[from] QdqError),
    /// The quantized graph is not a model.
    #[error(transparent)]
    Import(#[from] ImportError),
}

/// A quantized graph and how it came about.
#[derive(Clone, Debug)]
pub struct Quantized {
    /// The quantized graph.
    pub graph: Graph,
    /// The float graph it was made of, after preparation.
    pub prepared: Graph,
    /// Ranges of the prepared graph's tensors that were used.
    pub ranges: Ranges,
    /// The file of a cache they come from.
    pub known_ranges: Option<PathBuf>,
    /// What a user should know.
    pub warnings: Vec<Warning>,
}

/// Prepares, calibrates and quantizes `graph`. `progress` is told how many calibration samples are done, and of how many.
pub fn quantize(
    graph: Graph,
    calibration: &Calibration,
    options: &QuantizeOptions,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Quantized, ConvertError> {
    quantize_observed(graph, calibration, options, progress, &mut |_, _| {})
}

/// The same; `watch` is shown the graph at each stage.
pub fn quantize_observed(
    graph: Graph,
    calibration: &Calibration,
    options: &QuantizeOptions,
    progress: &mut dyn FnMut(usize, usize),
    watch: &mut dyn FnMut(Stage, &Graph),
) -> Result<Quantized, ConvertError> {
    options.check()?;
    check_float(&graph)?;
    let own_shape = graph.inputs.first().and_then(|input| input.ty.without_batch());
    let shape = match calibration {
        Calibration::Samples(samples) | Calibration::Cached(samples, _) => {
            Some(samples.shape().get(1..).unwrap_or(&[]).to_vec())
        }
        Calibration::Ranges(_) | Calibration::Random(_) => options.input_shape.clone().or(own_shape),
    };
    let (prepared, mut warnings) = prepare_observed(graph, shape.as_deref(), watch)?;
    check_prepared(&prepared, options)?;
    let mut known_ranges = None;
    let ranges = match calibration {
        Calibration::Ranges(ranges) => (*ranges).clone(),
        Calibration::Samples(samples) => observe(&prepared, samples.view(), progress)?,
        Calibration::Cached(samples, cache) => {
            let (ranges, known) = cache.observe(&prepared, samples.view(), progress)?;
            known_ranges = known;
            ranges
        }
        Calibration::Random(count) => {
            if !options.per_tensor {
                warnings.push(Warning::RandomSamples);
            }
            let shape = prepared.inputs.first().and_then(|input| input.ty.without_batch()).unwrap_or_default();
            observe(&prepared, random_samples(*count, &shape).view(), progress)?
        }
    };
    let ranges = if options.per_tensor { ranges.per_tensor() } else { ranges };
    let (graph, more) = quantize_prepared(&prepared, &ranges, options)?;
    watch(Stage::Quantized, &graph);
    warnings.extend(more);
    Ok(Quantized { graph, prepared, ranges, known_ranges, warnings })
}

/// A network, and how it came about.
#[derive(Clone, Debug)]
pub struct Converted {
    /// The network: one model, or board parts and host segments.
    pub network: HybridModel,
    /// The quantized graph.
    pub quantized: Quantized,
}

/// Converts the float ONNX file at `path` to a network for Akida 2.0.
pub fn convert(
    path: &Path,
    calibration: &Calibration,
    options: &QuantizeOptions,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Converted, ConvertError> {
    convert_observed(path, calibration, options, progress, &mut |_, _| {})
}

/// The same; `watch` is shown the graph at each stage.
pub fn convert_observed(
    path: &Path,
    calibration: &Calibration,
    options: &QuantizeOptions,
    progress: &mut dyn FnMut(usize, usize),
    watch: &mut dyn FnMut(Stage, &Graph),
) -> Result<Converted, ConvertError> {
    let quantized = quantize_observed(load(path)?, calibration, options, progress, watch)?;
    let network = import_network(&quantized.graph, ImportOptions::default())?;
    Ok(Converted { network, quantized })
}
