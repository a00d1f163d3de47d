//! Nodes that pass their input on: Identity, Dropout, Casts and Reshapes to what the tensor already is.

use crate::onnx::{Graph, Node};
use crate::prepare::{StepError, edit};

/// Removes them.
pub fn apply(graph: &mut Graph) -> Result<bool, StepError> {
    let mut changed = false;
    let mut number = 0;
    while number < graph.nodes.len() {
        if is_no_op(graph, &graph.nodes[number]) && edit::bypass(graph, number) {
            changed = true;
        } else {
            number += 1;
        }
    }
    Ok(changed)
}

fn is_no_op(graph: &Graph, node: &Node) -> bool {
    if !node.domain.is_empty() || node.inputs.is_empty() {
        return false;
    }
    let ty = |name: &str| graph.value_type(name);
    match node.op.as_str() {
        "Identity" => true,
        "Dropout" => {
            let mask_read = node.outputs.get(1).is_some_and(|mask| !graph.consumers(mask).is_empty());
            let training = node.input(2).and_then(|name| graph.initializers.get(name)?.bytes().ok());
            !mask_read && (node.input(2).is_none() || training.is_some_and(|bytes| bytes.iter().all(|&b| b == 0)))
        }
        "Cast" => ty(&node.inputs[0]).and_then(|t| t.dtype) == ty(node.output()).and_then(|t| t.dtype),
        "Slice" | "Unsqueeze" | "Squeeze" => {
            let shape = |name: &str| edit::dims(graph, name).filter(|dims| dims.iter().all(|d| d.fixed().is_some()));
            let input = shape(&node.inputs[0]);
            input.is_some() && input == shape(node.output())
        }
        "Pad" => {
            let pads = node.input(1).and_then(|name| edit::integers(graph, name));
            node.input(3).is_none() && pads.is_some_and(|pads| pads.iter().all(|&p| p == 0))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use crate::prepare::testing::{after, graph};

    #[test]
    fn dropout_and_identity_disappear() {
        let before = graph("x: N,4 -> y\na = Relu(x)\nb = Dropout(a)\nc = Identity(b)\ny = Relu(c)");
        assert_eq!(after(super::apply, before), "a = Relu(x)\ny = Relu(a)");
    }

    #[test]
    fn an_output_keeps_its_name() {
        let before = graph("x: N,4 -> y\na = Relu(x)\ny = Identity(a)");
        assert_eq!(after(super::apply, before), "y = Relu(x)");
    }
}
