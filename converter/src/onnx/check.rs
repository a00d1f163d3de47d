//! What must hold of a graph before anything is done with it.

use std::collections::HashSet;

use super::{DType, Function, Graph, Node, OnnxError};

/// Operators whose constant inputs are numbers of a network: they must be floating point.
const FLOAT_OPS: [&str; 7] =
    ["Conv", "ConvTranspose", "Gemm", "BatchNormalization", "PRelu", "LayerNormalization", "InstanceNormalization"];

/// Operators that take nothing.
const SOURCES: [&str; 3] = ["Constant", "RandomNormal", "RandomUniform"];

/// Checks names, order and types: every tensor is made once, before it is used, by a graph without cycles.
pub fn check(graph: &Graph, file: &str) -> Result<(), OnnxError> {
    let bad = |reason: String| OnnxError::Graph { file: file.to_owned(), graph: graph.name.clone(), reason };
    if graph.nodes.is_empty() && graph.outputs.is_empty() {
        return Err(bad("it has no nodes and no outputs".into()));
    }
    if graph.outputs.is_empty() {
        return Err(bad("it has no outputs".into()));
    }
    let mut known: HashSet<&str> = graph.initializers.keys().map(String::as_str).collect();
    for input in &graph.inputs {
        if !known.insert(&input.name) {
            return Err(bad(format!("two inputs are named '{}'", input.name)));
        }
    }
    nodes(&graph.nodes, &mut known, file)?;
    for output in &graph.outputs {
        if !known.contains(output.name.as_str()) {
            return Err(bad(format!("nothing makes its output '{}'", output.name)));
        }
    }
    for node in &graph.nodes {
        if FLOAT_OPS.contains(&node.op.as_str()) && node.domain.is_empty() {
            let wrong = node.inputs.iter().find_map(|name| {
                let dtype = graph.initializers.get(name)?.dtype();
                (!dtype.is_float()).then_some((name, dtype))
            });
            if let Some((name, dtype)) = wrong {
                let reason = format!("its constant '{name}' has type {dtype}, {} is needed", DType::F32);
                return Err(node_error(node, file, reason));
            }
        }
    }
    graph.functions.iter().try_for_each(|function| check_function(function, file))
}

fn check_function(function: &Function, file: &str) -> Result<(), OnnxError> {
    let mut known: HashSet<&str> = function.inputs.iter().map(String::as_str).collect();
    nodes(&function.nodes, &mut known, file)?;
    match function.outputs.iter().find(|output| !known.contains(output.as_str())) {
        None => Ok(()),
        Some(output) => Err(OnnxError::Graph {
            file: file.to_owned(),
            graph: format!("function {}", function.name),
            reason: format!("nothing makes its output '{output}'"),
        }),
    }
}

/// Follows the nodes in order; `known` are the tensors that exist before and after.
fn nodes<'a>(nodes: &'a [Node], known: &mut HashSet<&'a str>, file: &str) -> Result<(), OnnxError> {
    for (number, node) in nodes.iter().enumerate() {
        if node.op.is_empty() {
            return Err(node_error(node, file, "it has no operator".into()));
        }
        if let Some(input) = node.inputs.iter().find(|name| !name.is_empty() && !known.contains(name.as_str())) {
            let later = nodes[number..].iter().find(|other| other.outputs.contains(input));
            let reason = match later {
                Some(other) => format!(
                    "it reads '{input}', which node '{}' makes later: the graph has a cycle or is not sorted",
                    other.name
                ),
                None => format!("it reads '{input}', which is neither made by a node nor an initializer nor an input"),
            };
            return Err(node_error(node, file, reason));
        }
        if node.inputs.is_empty() && node.domain.is_empty() && !SOURCES.contains(&node.op.as_str()) {
            return Err(node_error(node, file, "it has no input".into()));
        }
        if !node.outputs.iter().any(|name| !name.is_empty()) {
            return Err(node_error(node, file, "it has no output".into()));
        }
        for output in node.outputs.iter().filter(|name| !name.is_empty()) {
            if !known.insert(output) {
                return Err(node_error(node, file, format!("it makes '{output}', which exists already")));
            }
        }
    }
    Ok(())
}

fn node_error(node: &Node, file: &str, reason: String) -> OnnxError {
    OnnxError::Node { file: file.to_owned(), node: node.name.clone(), op: node.op.clone(), reason }
}
