//! Quantized regions behind operators that stay float.
//!
//! The reference's quantizer has one region, and everything behind the first operator that is none of the board's stays
//! float; its hybrid tool quantizes further ones with int8 inputs (quantization.md 7.6). Where that is silent, this is
//! ours: a further region starts at a float tensor that the host makes, takes every layer that can be reached from it,
//! and must hold a layer with weights that is no identity of graph preparation, else moving its data would gain nothing.
//! Its input is symmetric int8 with the ranges of calibration, on a power-of-two scale when an addition reads it.

use std::collections::HashSet;

use super::layer::Kind;
use super::{InputType, QuantizeError, QuantizeOptions, Warning, quantize_found, search};
use crate::calibrate::Ranges;
use crate::onnx::{BRAINCHIP, Graph, Node, Value};
use crate::prepare::{sort, sweep};

/// Quantizes what can be among the float nodes of `graph`, the quantized graph so far. `shapes` knows float tensors.
/// Returns how many regions came to it.
pub fn further(
    graph: &mut Graph,
    shapes: &Graph,
    ranges: &Ranges,
    options: &QuantizeOptions,
    warnings: &mut Vec<Warning>,
) -> Result<usize, QuantizeError> {
    let mut regions = 0;
    let mut tried = HashSet::new();
    loop {
        let quantized = graph.nodes.iter().any(|node| node.op == "InputQuantizer" && node.domain == BRAINCHIP);
        let input = graph.inputs.first().filter(|_| !quantized).map(|value| value.name.clone());
        let made = graph.nodes.iter().filter(|node| is_float(node)).flat_map(|node| &node.outputs).cloned();
        let start = input.into_iter().chain(made).find(|name| !tried.contains(name));
        let Some(start) = start else { return Ok(regions) };
        tried.insert(start.clone());
        if let Some(region) = region(graph, shapes, &start, warnings) {
            let number = regions + 1 + usize::from(quantized);
            merge(graph, region, number, shapes, ranges, options)?;
            regions += 1;
        }
    }
}

/// Whether a node computes with floats.
pub fn is_float(node: &Node) -> bool {
    node.domain != BRAINCHIP || super::patterns::PREPARED_OPS.contains(&node.op.as_str())
}

/// The float graph of a region: its nodes, from one tensor on, and what others read of it.
struct Region {
    graph: Graph,
    /// Numbers of its nodes in the graph it is taken from.
    nodes: HashSet<usize>,
}

/// The region that starts at a tensor, if there is one.
fn region(graph: &Graph, shapes: &Graph, start: &str, warnings: &mut Vec<Warning>) -> Option<Region> {
    let ty = shapes.value_type(start)?;
    let rank = ty.without_batch()?.len() + 1;
    if ty.dtype.is_some_and(|dtype| dtype != crate::onnx::DType::F32) || ![2, 4].contains(&rank) {
        return None;
    }
    // All that depends on the tensor and on nothing else.
    let mut known: HashSet<&str> = HashSet::from([start]);
    let mut nodes = HashSet::new();
    for (number, node) in graph.nodes.iter().enumerate().filter(|(_, node)| is_float(node)) {
        let mut operands =
            node.inputs.iter().filter(|name| !name.is_empty() && !graph.initializers.contains_key(*name));
        if node.inputs.iter().any(|name| known.contains(name.as_str())) && operands.all(|n| known.contains(n.as_str()))
        {
            nodes.insert(number);
            known.extend(node.outputs.iter().map(String::as_str));
        }
    }
    let whole = cut(graph, shapes, start, &nodes);
    let found = search::search(&whole, false, None, true).ok()?;
    warnings.extend(found.warnings.iter().filter(|w| !warnings.contains(w)).cloned().collect::<Vec<_>>());
    let gains = |layer: &super::layer::Layer| {
        !matches!(layer.kind, Kind::Add | Kind::Concat) && !is_identity(&whole, &whole.nodes[layer.main])
    };
    if !found.layers.iter().any(gains) {
        return None;
    }
    let names: HashSet<&str> = found
        .entry
        .nodes
        .iter()
        .chain(found.layers.iter().flat_map(|layer| &layer.nodes))
        .map(|&n| whole.nodes[n].name.as_str())
        .collect();
    nodes.retain(|&n| names.contains(graph.nodes[n].name.as_str()));
    Some(Region { graph: cut(graph, shapes, start, &nodes), nodes })
}

/// Whether a node is one of the identity convolutions that graph preparation puts behind sums and concatenations.
fn is_identity(graph: &Graph, node: &Node) -> bool {
    let weights = node.input(1).and_then(|name| Some((name, graph.initializers.get(name)?)));
    let (Some((name, weights)), None) = (weights, node.input(2)) else { return false };
    let &[filters, channels, 1, 1] = weights.dims() else { return false };
    let one = |(index, value): (usize, &f32)| *value == if index / channels == index % channels { 1.0 } else { 0.0 };
    filters == channels && weights.values::<f32>(name).is_ok_and(|values| values.iter().enumerate().all(one))
}

/// Nodes as a graph of their own, from tensor `start` to all that others read.
fn cut(graph: &Graph, shapes: &Graph, start: &str, nodes: &HashSet<usize>) -> Graph {
    let typed = |name: &str| Value { name: name.to_owned(), ty: shapes.value_type(name).unwrap_or_default() };
    let mut out = Graph { name: graph.name.clone(), ir_version: graph.ir_version, ..Graph::default() };
    out.opsets = graph.opsets.clone();
    out.inputs = vec![typed(start)];
    let read_outside: HashSet<&String> = graph
        .nodes
        .iter()
        .enumerate()
        .filter(|(number, _)| !nodes.contains(number))
        .flat_map(|(_, node)| &node.inputs)
        .chain(graph.outputs.iter().map(|output| &output.name))
        .collect();
    for (_, node) in graph.nodes.iter().enumerate().filter(|(number, _)| nodes.contains(number)) {
        for name in &node.inputs {
            if let Some(constant) = graph.initializers.get(name) {
                out.initializers.insert(name.clone(), constant.clone());
            }
        }
        for name in &node.outputs {
            if read_outside.contains(name) {
                out.outputs.push(typed(name));
            } else if let Some(ty) = shapes.value_type(name) {
                out.values.insert(name.clone(), ty);
            }
        }
        out.nodes.push(node.clone());
    }
    out
}

/// Puts the integers of a region in the place of its floats.
fn merge(
    graph: &mut Graph,
    region: Region,
    number: usize,
    shapes: &Graph,
    ranges: &Ranges,
    options: &QuantizeOptions,
) -> Result<(), QuantizeError> {
    let from_input = graph.inputs.iter().any(|input| input.name == region.graph.inputs[0].name);
    let input_dtype = if from_input { options.input_dtype } else { InputType::I8 };
    let options = QuantizeOptions { input_dtype, last_output_bits: None, quantize_until: None, ..options.clone() };
    let found = search::search(&region.graph, options.input_dtype == InputType::U8, None, true)?;
    let (mut quantized, _) = quantize_found(&region.graph, ranges, &options, found)?;
    if number > 1 {
        rename(&mut quantized, number);
    }
    let outputs: Vec<(String, String)> = region
        .graph
        .outputs
        .iter()
        .zip(&quantized.outputs)
        .map(|(float, dequantized)| (float.name.clone(), dequantized.name.clone()))
        .collect();
    let mut left = 0;
    graph.nodes.retain(|_| {
        left += 1;
        !region.nodes.contains(&(left - 1))
    });
    for (float, dequantized) in outputs {
        let rename = |name: &mut String| {
            if *name == float {
                name.clone_from(&dequantized);
            }
        };
        graph.nodes.iter_mut().flat_map(|node| &mut node.inputs).for_each(rename);
        graph.outputs.iter_mut().map(|output| &mut output.name).for_each(rename);
        if let Some(ty) = shapes.value_type(&float)
            && !graph.is_output(&dequantized)
        {
            quantized.values.insert(dequantized, ty);
        }
    }
    if let Some(ty) = shapes.value_type(&region.graph.inputs[0].name)
        && !from_input
    {
        graph.values.insert(region.graph.inputs[0].name.clone(), ty);
    }
    graph.opsets.insert(BRAINCHIP.to_owned(), 1);
    graph.nodes.extend(quantized.nodes);
    graph.initializers.extend(quantized.initializers);
    graph.values.extend(quantized.values);
    for function in quantized.functions {
        if graph.function(BRAINCHIP, &function.name).is_none() {
            graph.functions.push(function);
        }
    }
    sort(graph);
    sweep(graph);
    Ok(())
}

/// Names of the second region and those after it carry its number: quantizers of two regions must differ.
fn rename(graph: &mut Graph, number: usize) {
    let constants =
        |name: &str| ["quantize_scale", "quantize_zp"].contains(&name) || name.starts_with("dequantizer_scale");
    let new = |name: &str| format!("{name}_region_{number}");
    let affected = |name: &str| name == "quantize" || name == "dequantizer" || constants(name);
    for node in &mut graph.nodes {
        let names = node.inputs.iter_mut().chain(&mut node.outputs).chain([&mut node.name]);
        for name in names.filter(|name| affected(name)) {
            *name = new(name);
        }
    }
    let initializers = std::mem::take(&mut graph.initializers).into_iter();
    graph.initializers =
        initializers.map(|(name, tensor)| (if constants(&name) { new(&name) } else { name }, tensor)).collect();
    if let Some(ty) = graph.values.shift_remove("quantize") {
        graph.values.insert(new("quantize"), ty);
    }
}
