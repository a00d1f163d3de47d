//! From a float graph and the ranges of its tensors to a graph of integers (quantization.md 2 to 4).
//!
//! The numbers are those of QuantizeML 1.2.5: given the same ranges, all parameters are the same bit for bit.

mod assemble;
mod bits;
mod collapse;
mod error;
mod fixed;
mod functions;
mod input;
mod layer;
mod lut;
mod parameters;
mod patterns;
mod regions;
mod scale;
mod search;
mod warning;
mod weights;
mod why;

pub(crate) use input::InputQuantizer;
pub(crate) use layer::{Kind, Layer, Pool};
pub(crate) use scale::Scale;
pub(crate) use search::{Found, search};
pub(crate) use weights::GivenScales;

pub use bits::{Bits, LayerBits};
pub use error::QuantizeError;
pub use input::InputType;
pub use layer::Unsuitable;
pub use warning::Warning;

pub use regions::is_float;
pub(crate) use why::why;

use crate::calibrate::Ranges;
use crate::onnx::{BRAINCHIP, Graph, Node};

/// What may be chosen about quantization.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizeOptions {
    /// Integers the first layer takes.
    pub input_dtype: InputType,
    /// One range per activation tensor instead of one per channel.
    pub per_tensor: bool,
    /// Reduce the last layer's output to 8 bits instead of giving its 32-bit sums.
    pub last_output_bits: Option<u32>,
    /// Bits of weights and activations.
    pub bits: Bits,
    /// Layers with other bits.
    pub layer_bits: Vec<LayerBits>,
    /// Stop quantizing at this tensor; what follows stays float.
    pub quantize_until: Option<String>,
    /// Whether further regions behind operators that stay float are quantized as well. The reference's quantizer does
    /// not, its hybrid tool does. Nothing behind `quantize_until` is.
    pub further_regions: bool,
    /// Dimensions of the input without the batch, for graphs that leave them open and are not given samples.
    pub input_shape: Option<Vec<usize>>,
}

impl Default for QuantizeOptions {
    fn default() -> Self {
        Self {
            input_dtype: InputType::U8,
            per_tensor: false,
            last_output_bits: None,
            bits: Bits::default(),
            layer_bits: Vec::new(),
            quantize_until: None,
            further_regions: false,
            input_shape: None,
        }
    }
}

impl QuantizeOptions {
    /// Whether to look for further regions.
    fn further_regions(&self) -> bool {
        self.further_regions && self.quantize_until.is_none()
    }

    /// Checks each option by itself.
    pub fn check(&self) -> Result<(), QuantizeError> {
        match self.last_output_bits {
            None | Some(8) => Ok(()),
            Some(bits) => Err(QuantizeError::Option {
                option: "--last-output-bits",
                rule: "the last layer's output has 8 bits or, without the option, 32",
                found: bits.to_string(),
            }),
        }
    }
}

/// Refuses a graph that is quantized already.
pub fn check_float(graph: &Graph) -> Result<(), QuantizeError> {
    let fused = |op: &str| op.contains("Quantized") || op == "InputQuantizer" || op.starts_with("Dequantizer");
    let quantized = |node: &&Node| match node.domain.as_str() {
        BRAINCHIP => fused(&node.op),
        _ => node.op == "QuantizeLinear" || node.op == "DequantizeLinear",
    };
    match graph.nodes.iter().find(quantized) {
        None => Ok(()),
        Some(node) => Err(QuantizeError::Node {
            node: node.name.clone(),
            op: node.op.clone(),
            rule: "the model must be float".into(),
            found: "it is quantized already".into(),
            remedy: "Quantize the original float model, or import this one with `akida-convert import`",
        }),
    }
}

/// Refuses a prepared graph that cannot be quantized whatever its ranges are.
pub fn check_prepared(graph: &Graph, options: &QuantizeOptions) -> Result<(), QuantizeError> {
    let over_time = |node: &&Node| {
        let kernel = node.input(1).and_then(|name| graph.initializers.get(name));
        node.is("Conv") && kernel.is_some_and(|kernel| kernel.dims().len() == 5)
    };
    if let Some(node) = graph.nodes.iter().find(over_time) {
        return Err(QuantizeError::Node {
            node: node.name.clone(),
            op: node.op.clone(),
            rule:
                "a kernel in space and time must come apart, (1, height, width) and then (T, 1, 1) over earlier frames"
                    .into(),
            found: format!("kernel {:?}", graph.initializers[node.input(1).unwrap_or_default()].dims()),
            remedy: "Use (2+1)D convolutions, with T - 1 frames of padding before the first",
        });
    }
    match find(graph, options) {
        // Whether further regions exist is known when they are quantized.
        Err(QuantizeError::Graph { .. }) if options.further_regions() => Ok(()),
        found => found.map(drop),
    }
}

/// Finds the layers of a prepared graph.
fn find(graph: &Graph, options: &QuantizeOptions) -> Result<search::Found, QuantizeError> {
    options.check()?;
    check_float(graph)?;
    let until = options.quantize_until.as_deref();
    if let Some(tensor) = until.filter(|tensor| graph.producer(tensor).is_none()) {
        return Err(QuantizeError::Option {
            option: "--quantize-until",
            rule: "a tensor that a node of the prepared graph makes",
            found: format!("'{tensor}'"),
        });
    }
    search::search(graph, options.input_dtype == InputType::U8, until, false)
}

/// A prepared graph in which each node that a layer takes in is named `LAYER: NAME`, with the operator of the layer.
pub fn patterns(graph: &Graph, options: &QuantizeOptions) -> Result<Graph, QuantizeError> {
    let found = find(graph, options)?;
    let mut named = graph.clone();
    for layer in &found.layers {
        let biased = graph.nodes[layer.main].inputs.len() > 2;
        let (op, main) = (layer.op(biased), &graph.nodes[layer.main].name);
        for &node in &layer.nodes {
            named.nodes[node].name = format!("{op} {main}: {}", graph.nodes[node].name);
        }
    }
    Ok(named)
}

/// Quantizes a prepared graph, whose shapes are inferred, with the ranges of its tensors.
pub fn quantize_prepared(
    graph: &Graph,
    ranges: &Ranges,
    options: &QuantizeOptions,
) -> Result<(Graph, Vec<Warning>), QuantizeError> {
    let found = match find(graph, options) {
        // Nothing begins at the input; further on something may.
        Err(error @ QuantizeError::Graph { .. }) if options.further_regions() => {
            let (mut quantized, mut warnings) = (graph.clone(), Vec::new());
            return match regions::further(&mut quantized, graph, ranges, options, &mut warnings)? {
                0 => Err(error),
                _ => Ok((quantized, warnings)),
            };
        }
        found => found?,
    };
    let (mut quantized, mut warnings) = quantize_found(graph, ranges, options, found)?;
    if options.further_regions() {
        regions::further(&mut quantized, graph, ranges, options, &mut warnings)?;
        let unknown = |one: &&LayerBits| !quantized.nodes.iter().any(|n| !is_float(n) && n.name == one.layer);
        if let Some(one) = options.layer_bits.iter().find(unknown) {
            return Err(QuantizeError::Option {
                option: "--layer-bits",
                rule: "the name of a Conv or Gemm node of a board part",
                found: format!("'{}'", one.layer),
            });
        }
    }
    let left: Vec<_> = quantized.nodes.iter().filter(|node| is_float(node)).collect();
    if !left.is_empty() && options.quantize_until.is_none() {
        let nodes = left.iter().map(|node| (node.name.clone(), node.op.clone())).collect();
        warnings.push(Warning::LeftFloat { nodes });
    }
    Ok((quantized, warnings))
}

/// Quantizes the layers that were found.
fn quantize_found(
    graph: &Graph,
    ranges: &Ranges,
    options: &QuantizeOptions,
    found: search::Found,
) -> Result<(Graph, Vec<Warning>), QuantizeError> {
    let search::Found { entry, mut layers, mut warnings } = found;
    let unsigned = options.input_dtype == InputType::U8;
    if options.last_output_bits.is_some() {
        let inside: usize = layers.iter().map(|layer| layer.nodes.len()).sum::<usize>() + entry.nodes.len();
        if inside == graph.nodes.len() {
            layers.iter_mut().for_each(|layer| layer.scaled |= layer.kind != layer::Kind::Concat);
        }
    }

    // With further regions a layer may be named that another region has; `quantize_prepared` looks for those in none.
    let here = |one: &&LayerBits| {
        !options.further_regions() || layers.iter().any(|layer| graph.nodes[layer.main].name == one.layer)
    };
    let named: Vec<LayerBits> = options.layer_bits.iter().filter(here).cloned().collect();
    warnings.extend(bits::assign(graph, &mut layers, options.bits, &named)?);

    let range = input_range(graph, ranges, &entry, options.per_tensor)?;
    let mut input = input::quantizer(&range, options.input_dtype, &entry.tensor)?;
    let adds = |layer: &layer::Layer| layer.kind == layer::Kind::Add && layer.inputs.contains(&entry.tensor);
    if layers.iter().any(adds) {
        input.on_powers_of_two();
    }
    let given = weights::GivenScales::new();
    let found = search::Found { entry, layers, warnings: Vec::new() };
    let (quantized, _) =
        assemble(graph, &found, ranges, &Scales { input, unsigned, per_tensor: options.per_tensor, given: &given })?;
    Ok((quantized, warnings))
}

/// What is known of scales besides ranges.
pub(crate) struct Scales<'a> {
    /// Of the model's input.
    pub input: InputQuantizer,
    /// Whether its integers are unsigned.
    pub unsigned: bool,
    /// One range for each whole activation.
    pub per_tensor: bool,
    /// Of weights that are integers already.
    pub given: &'a GivenScales,
}

/// The quantized graph of the layers that were found, and names and operators of the nodes that stay float.
pub(crate) fn assemble(
    graph: &Graph,
    found: &search::Found,
    ranges: &Ranges,
    scales: &Scales,
) -> Result<(Graph, Vec<(String, String)>), QuantizeError> {
    let Scales { input, unsigned, per_tensor, given } = scales;
    let context = parameters::Context { graph, ranges, per_tensor: *per_tensor, zero_point: &input.zero_point, given };
    let mut assembly = assemble::Assembly::new(graph, &found.entry, input, *unsigned);
    for layer in &found.layers {
        let scales: Vec<&Scale> = layer.inputs.iter().filter_map(|name| assembly.scale(name)).collect();
        let parameters = context.parameters(layer, &scales)?;
        assembly.push(layer, parameters);
    }
    let quantized = assembly.finish();
    let left = quantized.nodes.iter().filter(|node| is_float(node));
    let left = left.map(|node| (node.name.clone(), node.op.clone())).collect();
    Ok((quantized, left))
}

/// The range of the model's input, on the axes the first layer sees.
fn input_range(
    graph: &Graph,
    ranges: &Ranges,
    entry: &search::Entry,
    per_tensor: bool,
) -> Result<crate::calibrate::Range, QuantizeError> {
    let source = graph.inputs.first().map_or("", |input| input.name.as_str());
    let range = ranges.get(&entry.tensor).or_else(|| ranges.get(source).filter(|range| range.min.len() == 1));
    let Some(range) = range else {
        return Err(QuantizeError::Range {
            tensor: entry.tensor.clone(),
            reason: "it is the model's input and no range is given".into(),
            remedy: "Give ranges that were observed on this very graph, or samples to observe them",
        });
    };
    Ok(if per_tensor { range.per_tensor() } else { range.clone() })
}
