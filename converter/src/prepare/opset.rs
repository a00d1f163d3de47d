//! Older forms of operators become those of the operator set that preparation works on.

use super::{OPSET, PrepareError};
use crate::onnx::{BRAINCHIP, Graph, Tensor};

/// The oldest operator set whose operators are understood.
const LOWEST: i64 = 7;
/// The newest: nothing these networks use has changed its meaning since [`OPSET`].
const HIGHEST: i64 = 25;

/// Rewrites the graph to operator set [`OPSET`].
pub fn upgrade(graph: &mut Graph) -> Result<(), PrepareError> {
    let version = graph.opsets.get("").copied().unwrap_or(0);
    if !(LOWEST..=HIGHEST).contains(&version) {
        return Err(PrepareError::Opset { domain: String::new(), found: version, lowest: LOWEST, highest: HIGHEST });
    }
    if let Some(node) = graph.nodes.iter().find(|node| !node.domain.is_empty() && node.domain != BRAINCHIP) {
        let (node, domain, op) = (node.name.clone(), node.domain.clone(), node.op.clone());
        return Err(PrepareError::Domain { node, domain, op });
    }
    for number in 0..graph.nodes.len() {
        let node = &graph.nodes[number];
        if !node.domain.is_empty() {
            continue;
        }
        match node.op.as_str() {
            "Clip" => {
                for (index, name) in [(1, "min"), (2, "max")] {
                    if let Some(value) = graph.nodes[number].float(name) {
                        attribute_to_input(graph, number, name, index, Tensor::scalar(value));
                    }
                }
            }
            "Pad" => {
                if let Some(pads) = node.ints("pads").map(|p| Tensor::new([p.len()], p)) {
                    let value = node.float("value").unwrap_or(0.0);
                    attribute_to_input(graph, number, "pads", 1, pads);
                    attribute_to_input(graph, number, "value", 2, Tensor::scalar(value));
                }
            }
            "Squeeze" | "Unsqueeze" | "ReduceMean" => {
                if let Some(axes) = node.ints("axes").map(|a| Tensor::new([a.len()], a)) {
                    attribute_to_input(graph, number, "axes", 1, axes);
                }
            }
            "Upsample" => {
                let node = &mut graph.nodes[number];
                node.op = "Resize".to_owned();
                node.inputs.insert(1, String::new());
                node.attributes.insert("coordinate_transformation_mode".into(), "asymmetric".into());
                node.attributes.insert("nearest_mode".into(), "floor".into());
                if let Some(crate::onnx::Attribute::Floats(scales)) = node.attributes.shift_remove("scales") {
                    let scales = Tensor::new([scales.len()], &scales);
                    attribute_to_input(graph, number, "scales", 2, scales);
                }
            }
            _ => {}
        }
    }
    graph.opsets.insert(String::new(), OPSET);
    graph.ir_version = 11;
    Ok(())
}

/// Turns an attribute into input number `index`, a constant.
fn attribute_to_input(graph: &mut Graph, number: usize, name: &str, index: usize, value: Tensor) {
    let constant = super::edit::add_constant(graph, &format!("{}_{name}", graph.nodes[number].output()), value);
    let node = &mut graph.nodes[number];
    node.attributes.shift_remove(name);
    node.inputs.resize(node.inputs.len().max(index + 1), String::new());
    node.inputs[index] = constant;
}
