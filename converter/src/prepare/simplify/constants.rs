//! Constant nodes become initializers.

use std::collections::HashSet;

use crate::onnx::{Attribute, Graph, Tensor};
use crate::prepare::StepError;

/// Replaces all Constant nodes.
pub fn apply(graph: &mut Graph) -> Result<bool, StepError> {
    let mut numbers = Vec::new();
    for (number, node) in graph.nodes.iter().enumerate().filter(|(_, node)| node.is("Constant")) {
        let Some((name, value)) = node.attributes.iter().next() else { continue };
        let tensor = match value {
            Attribute::Tensor(tensor) => tensor.clone(),
            Attribute::Float(value) => Tensor::scalar(*value),
            Attribute::Int(value) => Tensor::scalar(*value),
            Attribute::Floats(values) => Tensor::new([values.len()], values),
            Attribute::Ints(values) => Tensor::new([values.len()], values),
            _ => return Err(StepError(format!("Constant '{}' holds a {name}, which is not supported", node.name))),
        };
        graph.initializers.insert(node.output().to_owned(), tensor);
        numbers.push(number);
    }
    super::edit::remove(graph, &numbers);
    Ok(!numbers.is_empty())
}

/// Whether there are equal single-valued constants: ONNX Runtime would share them, and thereby rewrite the graph. Which
/// of them a node reads makes no difference here.
pub fn shared(graph: &Graph) -> bool {
    let mut seen = HashSet::new();
    graph
        .initializers
        .values()
        .filter(|tensor| tensor.len() == 1)
        .filter_map(|tensor| Some((tensor.dtype(), tensor.dims().to_vec(), tensor.bytes().ok()?)))
        .any(|key| !seen.insert(key))
}
