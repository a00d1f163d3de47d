//! QDQ models become models without calibration: quantization-aware training reaches the board.
//!
//! A QDQ graph says with pairs of QuantizeLinear and DequantizeLinear which integers every tensor has. It is taken apart
//! into the float graph it stands for and those scales (`strip`), the float graph is prepared like any other, and the
//! scales take the place of calibration ranges (`ranges`). Weights stay the integers they are. What Akida says with
//! other numbers (zero points inside the network, the 8-bit mantissas of output scales and biases) is put into the
//! nearest it has, and reported layer by layer (`report`).

mod constants;
mod error;
mod params;
mod ranges;
mod report;
mod strip;

use std::collections::HashMap;

pub use error::QdqError;
pub use report::{Activation, LayerReport, WeightsKept};

use akida_runtime::model::Model;

use crate::ConvertError;
use crate::import::{ImportOptions, import};
use crate::onnx::Graph;
use crate::prepare::prepare;
use crate::quantize::{self, Found, GivenScales, InputQuantizer, Scale, Scales, Warning};

use self::constants::Known;
use self::params::Quantization;

/// What comes of a QDQ graph.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The model, valid.
    pub model: Model,
    /// The same as a graph of Akida's operators.
    pub graph: Graph,
    /// Operations behind the model's outputs, which it does not hold.
    pub float_tail: Vec<String>,
    /// How exactly each layer is what the file says.
    pub layers: Vec<LayerReport>,
    /// What a user should know.
    pub warnings: Vec<Warning>,
}

/// Whether a graph has QuantizeLinear or DequantizeLinear, or another way to write integers that is refused by name.
pub fn is_qdq(graph: &Graph) -> bool {
    graph.nodes.iter().any(|node| {
        ["", "com.microsoft"].contains(&node.domain.as_str())
            && (["QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger"]
                .contains(&node.op.as_str())
                || node.op.starts_with("QLinear"))
    })
}

/// Makes a model of a QDQ graph.
///
/// # Errors
/// What is not supported, by node, rule, value and remedy.
pub fn import_qdq(graph: Graph) -> Result<Imported, ConvertError> {
    let strip::Stripped { graph, constants, activations } = strip::strip(graph)?;
    let given = grids(&graph, &constants)?;
    let shape = graph.inputs.first().and_then(|input| input.ty.without_batch());
    let (prepared, mut warnings) = prepare(graph, shape.as_deref())?;
    let ranges = ranges::ranges(&prepared, &activations, |weights| {
        !given.contains_key(weights) && prepared.initializers.get(weights).is_some_and(is_identity)
    });
    let (found, input, unsigned) = input(&prepared, &activations)?;
    warnings.extend(found.warnings.iter().cloned());
    let scales = Scales { input, unsigned, per_tensor: true, given: &given };
    let (quantized, left) = quantize::assemble(&prepared, &found, &ranges, &scales)?;
    if !left.is_empty() {
        warnings.push(Warning::LeftFloat { nodes: left });
    }
    let layers = report::report(&prepared, &quantized, &found, &activations, &scales)?;
    let options = ImportOptions { allow_float_tail: true, require_functions: true };
    let imported = import(&quantized, options)?;
    Ok(Imported { model: imported.model, float_tail: imported.float_tail, graph: quantized, layers, warnings })
}

/// Whether a kernel is one that preparation puts in where a layer is needed: it gives what it takes.
fn is_identity(kernel: &crate::onnx::Tensor) -> bool {
    let [filters, channels, 1, 1] = *kernel.dims() else { return false };
    let Ok(values) = kernel.values::<f32>("") else { return false };
    filters == channels
        && values.iter().enumerate().all(|(at, &w)| w == f32::from(u8::from(at / channels == at % channels)))
}

/// Scales of the weights, one or one per filter.
fn grids(graph: &Graph, constants: &HashMap<String, Known>) -> Result<GivenScales, QdqError> {
    let mut grids = GivenScales::new();
    for node in &graph.nodes {
        let Some((name, known)) = node.input(1).and_then(|name| Some((name, constants.get(name)?))) else { continue };
        let depthwise = node.int("group").is_some_and(|group| group > 1);
        let filter_axis = match node.op.as_str() {
            "Conv" => 0,
            "ConvTranspose" => usize::from(!depthwise),
            "Gemm" => usize::from(node.int("transB").unwrap_or(0) == 0),
            "MatMul" => known.dims.len().saturating_sub(1),
            _ => continue,
        };
        if known.scale.len() > 1 && known.axis != filter_axis {
            let found = format!("axis {} of {:?}", known.axis, known.dims);
            let rule = "weights have one scale, or one for each output channel";
            return Err(QdqError::node(node, rule, found, "Quantize per output channel, or per tensor"));
        }
        let scales: Vec<f64> = known.scale.iter().map(|&s| s.into()).collect();
        // PyTorch trains with a BatchNorm whose factor is divided out again: folding both leaves the integers, and gives
        // the weights this name.
        grids.insert(format!("ConvBnFusion_W_{name}"), scales.clone());
        grids.insert(name.to_owned(), scales);
    }
    Ok(grids)
}

/// The layers, and the input with the integers they take: unsigned with a zero point where a first convolution can
/// have that, signed without one otherwise.
fn input(
    graph: &Graph,
    activations: &HashMap<String, Quantization>,
) -> Result<(Found, InputQuantizer, bool), ConvertError> {
    let source = graph.inputs.first().map_or("", |input| input.name.as_str());
    let unsigned = quantize::search(graph, true, None, false);
    let signed = || quantize::search(graph, false, None, false);
    let entry = match &unsigned {
        Ok(found) => found.entry.clone(),
        Err(_) => signed()?.entry,
    };
    let Some(said) = activations.get(&entry.tensor).or_else(|| activations.get(source)) else {
        return Err(QdqError::Tensor {
            tensor: source.to_owned(),
            rule: "the model's input must be quantized by a QuantizeLinear",
            remedy: "Quantize the input too, or quantize the float network with samples",
        }
        .into());
    };
    // The integers of a first convolution: 0..=255, whatever the type was called.
    let zero = said.zero[0] - if said.range.0 < 0 { -128 } else { 0 };
    let channels = graph.value_type(&entry.tensor).and_then(|ty| ty.shape?.get(1)?.fixed());
    let symmetric = zero == 128 && channels.is_none_or(|channels| ![1, 3].contains(&channels));
    if let Ok(found) = unsigned
        && !symmetric
    {
        let scale = f64::from(said.scale[0]);
        let input = InputQuantizer {
            onnx_scale: said.scale.clone(),
            zero_point: vec![zero],
            scale: Scale::vector(vec![1.0 / scale]),
        };
        return Ok((found, input, true));
    }
    let scale = said.symmetric_scale();
    let input =
        InputQuantizer { onnx_scale: vec![scale as f32], zero_point: vec![0], scale: Scale::vector(vec![1.0 / scale]) };
    let found = signed()?;
    Ok((found, input, false))
}
