//! Attributes written out: ONNX Runtime adds those a node leaves to their defaults when it has rewritten a graph.

use crate::onnx::{Attribute, Graph};

/// Operators and the defaults of their attributes.
fn defaults(op: &str) -> Vec<(&'static str, Attribute)> {
    use Attribute::{Float, Int};
    let text = |text: &str| Attribute::String(text.to_owned());
    match op {
        "Conv" | "ConvTranspose" => vec![("auto_pad", text("NOTSET")), ("group", Int(1))],
        "MaxPool" => vec![("auto_pad", text("NOTSET")), ("ceil_mode", Int(0)), ("storage_order", Int(0))],
        "AveragePool" => vec![("auto_pad", text("NOTSET")), ("ceil_mode", Int(0)), ("count_include_pad", Int(0))],
        "Gemm" => vec![("alpha", Float(1.0)), ("beta", Float(1.0)), ("transA", Int(0)), ("transB", Int(0))],
        "Flatten" => vec![("axis", Int(1))],
        "Softmax" | "LogSoftmax" => vec![("axis", Int(-1))],
        "LeakyRelu" => vec![("alpha", Float(0.01))],
        "BatchNormalization" => vec![("epsilon", Float(1e-5)), ("momentum", Float(0.9)), ("training_mode", Int(0))],
        "Reshape" => vec![("allowzero", Int(0))],
        "Gelu" => vec![("approximate", text("none"))],
        _ => vec![],
    }
}

/// Adds what is missing to all nodes.
pub fn apply(graph: &mut Graph) {
    for node in graph.nodes.iter_mut().filter(|node| node.domain.is_empty()) {
        for (name, value) in defaults(&node.op) {
            node.attributes.entry(name.to_owned()).or_insert(value);
        }
    }
}
