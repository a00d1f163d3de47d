//! Why a float node runs on the host: the rule that keeps it off the board, and what was found.

use super::layer::Layer;
use super::patterns::{self, PATTERNS};
use crate::onnx::{BRAINCHIP, Graph};

/// The rule that node `number` of `graph` breaks, and what it has instead. `graph` may hold quantized nodes as well.
pub(crate) fn why(graph: &Graph, number: usize) -> (String, String) {
    let node = &graph.nodes[number];
    let heads = |op: &str| PATTERNS.iter().any(|pattern| pattern.ops[0].contains(&op));
    let inside =
        |op: &str| PATTERNS.iter().any(|pattern| pattern.ops.iter().flat_map(|ops| ops.iter()).any(|o| *o == op));
    if !inside(&node.op) || !(node.domain.is_empty() || node.domain == BRAINCHIP) {
        return ("an operator that a layer of the board can hold".into(), format!("no layer holds {}", node.op));
    }
    if !heads(&node.op) {
        let rule = match node.op.as_str() {
            "MaxPool" => "a MaxPool directly behind a convolution and in front of its Relu or Clip",
            "GlobalAveragePool" => "a GlobalAveragePool directly behind a convolution or its activation",
            _ => "an activation directly behind a convolution or a dense layer, or behind its pooling",
        };
        let before = node.input(0).and_then(|name| graph.producer(name)).map(|n| graph.nodes[n].op.clone());
        return (rule.into(), format!("{} behind {}", node.op, before.unwrap_or_else(|| "an input".into())));
    }
    if let Some((pattern, nodes)) = patterns::find(graph, number, None) {
        let reasons: Vec<_> = pattern
            .builders
            .iter()
            .filter_map(|&builder| Layer::build(builder, graph, nodes.clone()).err())
            // A convolution is tried as a depthwise one first; that it is none says nothing.
            .filter(|reason| reason.found != "group 1" || pattern.builders.len() == 1)
            .collect();
        if let (Some(reason), true) = (reasons.last(), reasons.len() >= pattern.builders.len().min(1)) {
            return (reason.rule.clone(), reason.found.clone());
        }
    }
    let operands = node.inputs.iter().filter(|name| !name.is_empty() && !graph.initializers.contains_key(*name));
    let operands: Vec<&str> = operands.map(String::as_str).collect();
    if matches!(node.op.as_str(), "Add" | "Concat") {
        let found = format!("operands {} come from the host", operands.join(", "));
        return ("operands that one board part makes, beside layers with weights".into(), found);
    }
    let found = format!("'{}' stays float", operands.first().unwrap_or(&""));
    ("an input of integers, or a float tensor of 2 or 4 known dimensions to quantize".into(), found)
}
