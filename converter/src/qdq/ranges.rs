//! What the scales of a QDQ graph mean for the tensors of the prepared graph.

use std::collections::HashMap;

use super::params::Quantization;
use crate::calibrate::{Range, Ranges};
use crate::onnx::Graph;

/// Operators behind which numbers are no larger than before.
fn keeps(op: &str) -> bool {
    matches!(
        op,
        "MaxPool"
            | "Relu"
            | "Clip"
            | "Flatten"
            | "Reshape"
            | "Transpose"
            | "Squeeze"
            | "Identity"
            | "GlobalAveragePool"
    )
}

/// Ranges of all tensors whose scale is known or follows from that of a neighbour. `identities` names weights of
/// convolutions that change nothing.
pub fn ranges(graph: &Graph, activations: &HashMap<String, Quantization>, identity: impl Fn(&str) -> bool) -> Ranges {
    let mut scales: HashMap<&str, f64> = HashMap::new();
    for (name, quantization) in activations {
        scales.insert(name, quantization.symmetric_scale());
    }
    let passes = |op: &str, weights: Option<&str>| keeps(op) || (op == "Conv" && weights.is_some_and(&identity));
    for node in &graph.nodes {
        if let Some(&scale) = node.input(0).and_then(|name| scales.get(name))
            && passes(&node.op, node.input(1))
        {
            scales.entry(node.output()).or_insert(scale);
        }
    }
    for node in graph.nodes.iter().rev() {
        let Some(&scale) = scales.get(node.output()) else { continue };
        let input = node.input(0).unwrap_or_default();
        if passes(&node.op, node.input(1)) {
            scales.entry(input).or_insert(scale);
        }
        // What is put together has one scale: then weights behind it stay as they are.
        if node.op == "Concat" {
            scales.extend(node.inputs.iter().map(|input| (input.as_str(), scale)));
        }
    }
    let mut ranges = Ranges::new();
    for (name, scale) in scales {
        let largest = (127.0 * scale) as f32;
        ranges.insert(name, Range { min: vec![-largest], max: vec![largest] });
    }
    ranges
}
