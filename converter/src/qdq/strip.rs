//! From a QDQ graph to the float graph it stands for, and what it said about every tensor.

use std::collections::HashMap;

use super::constants::{self, Known};
use super::error::STATIC_INT8;
use super::params::{Quantization, is_dequantize, is_quantize};
use super::{QdqError, error};
use crate::onnx::{Graph, Node};

/// A float graph, and the integers its tensors had.
pub struct Stripped {
    /// Without QuantizeLinear and DequantizeLinear, except that a rectifier stands where one was said by a zero point.
    pub graph: Graph,
    /// Quantized constants by the name of the float initializer, each read by one node.
    pub constants: HashMap<String, Known>,
    /// Quantized activations by the name of the float tensor.
    pub activations: HashMap<String, Quantization>,
}

/// Operators that only move integers: between QuantizeLinear and DequantizeLinear they mean what they mean on floats.
const MOVES: [&str; 8] = ["MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Concat"];

/// Takes a graph apart.
pub fn strip(mut graph: Graph) -> Result<Stripped, QdqError> {
    constants::gather(&mut graph);
    refuse_foreign(&graph)?;
    let constants = constants::fold(&mut graph)?;
    let activations = activations(&mut graph)?;
    rectify(&mut graph, &activations);
    graph.values.clear();
    graph.opsets.shift_remove("com.microsoft");
    let used: std::collections::HashSet<&String> = graph.nodes.iter().flat_map(|node| &node.inputs).collect();
    let unused: Vec<String> = graph.initializers.keys().filter(|name| !used.contains(name)).cloned().collect();
    unused.iter().for_each(|name| drop(graph.initializers.swap_remove(name)));
    Ok(Stripped { graph, constants, activations })
}

/// Refuses other ways to write integers, by name.
fn refuse_foreign(graph: &Graph) -> Result<(), QdqError> {
    for node in &graph.nodes {
        let remedy = match node.op.as_str() {
            "DynamicQuantizeLinear" | "DynamicQuantizeMatMul" | "MatMulIntegerToFloat" => {
                "Quantize statically, with calibration samples (quantize_static), or train with fake quantization"
            }
            "ConvInteger" | "MatMulInteger" | "QGemm" => "Quantize statically to QDQ format",
            op if op.starts_with("QLinear") => {
                "Quantize to QDQ format (quant_format=QuantFormat.QDQ), not to operators (QOperator)"
            }
            "FakeQuantize" | "Quant" | "BipolarQuant" => "Export QuantizeLinear and DequantizeLinear",
            _ => continue,
        };
        return Err(QdqError::node(node, "integers must be written with QuantizeLinear", &node.op, remedy));
    }
    Ok(())
}

/// Takes the nodes on activations out. Returns what they said.
fn activations(graph: &mut Graph) -> Result<HashMap<String, Quantization>, QdqError> {
    let mut said: HashMap<String, Quantization> = HashMap::new();
    // Integer tensors and the float tensor each one stands for; all names that go.
    let mut integers: HashMap<String, (String, Quantization)> = HashMap::new();
    let mut renamed: HashMap<String, String> = HashMap::new();
    let nodes = std::mem::take(&mut graph.nodes);
    let mut kept: Vec<Node> = Vec::with_capacity(nodes.len());
    for mut node in nodes {
        let source = node.input(0).unwrap_or_default().to_owned();
        if is_quantize(&node) {
            let quantization = Quantization::read(graph, &node, None)?;
            if quantization.scale.len() != 1 {
                let found = format!("{} scales", quantization.scale.len());
                return Err(QdqError::node(
                    &node,
                    "activations have one scale for the whole tensor",
                    found,
                    STATIC_INT8,
                ));
            }
            let float = renamed.get(&source).cloned().unwrap_or(source);
            // The widest counts where a tensor is quantized more than once.
            let wider = said.get(&float).is_none_or(|old| old.symmetric_scale() < quantization.symmetric_scale());
            if wider {
                said.insert(float.clone(), quantization.clone());
            }
            renamed.insert(node.output().to_owned(), float.clone());
            integers.insert(node.output().to_owned(), (float, quantization));
        } else if is_dequantize(&node) {
            let Some((float, _)) = integers.get(&source) else {
                let found = format!("'{source}'");
                let remedy = "Let the model take and give floats: keep QuantizeLinear at its input";
                return Err(QdqError::node(&node, "it must undo a QuantizeLinear of this graph", found, remedy));
            };
            renamed.insert(node.output().to_owned(), float.clone());
        } else if let Some((float, mut quantization)) = integers.get(&source).cloned() {
            if node.is("Clip") {
                let (low, high) = constants::clip_bounds(graph, &node)?;
                let (least, most) = quantization.range;
                quantization.range = (low.clamp(least, most), high.clamp(least, most));
                if quantization.range.0 >= quantization.range.1 {
                    return Err(QdqError::node(
                        &node,
                        "a Clip must leave a range",
                        format!("{low}..={high}"),
                        STATIC_INT8,
                    ));
                }
                said.insert(float.clone(), quantization.clone());
                renamed.insert(node.output().to_owned(), float.clone());
                integers.insert(node.output().to_owned(), (float, quantization));
            } else if node.domain.is_empty() && MOVES.contains(&node.op.as_str()) {
                let output = node.output().to_owned();
                for input in &mut node.inputs {
                    if let Some(float) = renamed.get(input) {
                        input.clone_from(float);
                    }
                }
                said.entry(output.clone()).or_insert_with(|| quantization.clone());
                integers.insert(output.clone(), (output, quantization));
                kept.push(node);
            } else {
                let rule = "between QuantizeLinear and DequantizeLinear only data may be moved";
                return Err(QdqError::node(&node, rule, &node.op, STATIC_INT8));
            }
        } else {
            for input in &mut node.inputs {
                if let Some(float) = renamed.get(input) {
                    input.clone_from(float);
                }
            }
            kept.push(node);
        }
    }
    graph.nodes = kept.into();
    restore_outputs(graph, &renamed, &mut said)?;
    Ok(said)
}

/// Outputs of the graph keep their names: the tensors behind them take those.
fn restore_outputs(
    graph: &mut Graph,
    renamed: &HashMap<String, String>,
    said: &mut HashMap<String, Quantization>,
) -> Result<(), QdqError> {
    let outputs: Vec<String> = graph.outputs.iter().map(|output| output.name.clone()).collect();
    for output in &outputs {
        let Some(float) = renamed.get(output) else { continue };
        if outputs.contains(float) || graph.producer(float).is_none() {
            return Err(error::QdqError::Tensor {
                tensor: output.clone(),
                rule: "an output of the model must be made by a node of its own",
                remedy: "Export the network without this output",
            });
        }
        for name in graph.nodes.iter_mut().flat_map(|node| node.inputs.iter_mut().chain(&mut node.outputs)) {
            if name == float {
                name.clone_from(output);
            }
        }
        if let Some(quantization) = said.remove(float) {
            said.insert(output.clone(), quantization);
        }
    }
    Ok(())
}

/// Puts a rectifier behind every tensor whose integers end at zero, unless nothing in it is below zero: quantizers leave
/// it out because the integers say it.
fn rectify(graph: &mut Graph, activations: &HashMap<String, Quantization>) {
    let mut positive: std::collections::HashSet<String> = std::collections::HashSet::new();
    let nodes = std::mem::take(&mut graph.nodes);
    for mut node in nodes {
        let output = node.output().to_owned();
        let inputs_positive = || node.inputs.iter().filter(|name| !name.is_empty()).all(|name| positive.contains(name));
        let is_positive = match node.op.as_str() {
            "Relu" | "Sigmoid" | "HardSigmoid" | "Softmax" => true,
            "Clip" => match node.input(1).and_then(|name| graph.initializers.get(name)) {
                Some(low) => low.values::<f32>("").is_ok_and(|low| low.first().is_some_and(|low| *low >= 0.0)),
                None => node.float("min").is_some_and(|low| low >= 0.0),
            },
            "MaxPool" | "AveragePool" | "GlobalAveragePool" | "Flatten" | "Reshape" | "Transpose" | "Squeeze"
            | "Unsqueeze" | "Identity" | "Dropout" => node.input(0).is_some_and(|name| positive.contains(name)),
            "Add" | "Concat" => inputs_positive(),
            _ => false,
        };
        let rectifies = activations.get(&output).is_some_and(Quantization::rectifies);
        if is_positive || rectifies {
            positive.insert(output.clone());
        }
        if is_positive || !rectifies {
            graph.nodes.push(node);
            continue;
        }
        // The rectifier takes the name, so that readers and outputs find it.
        let before = format!("{output}/unrectified");
        node.outputs[0].clone_from(&before);
        graph.nodes.push(node);
        graph.nodes.push(Node::new("Relu", &[&before], &output));
    }
}
