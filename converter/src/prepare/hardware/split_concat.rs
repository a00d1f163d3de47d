//! Concat and Sum of more than two tensors become chains of two (quantization.md 1.4, 22).

use super::StepError;
use crate::onnx::{Graph, Node};

/// Splits all of them.
pub fn apply(graph: &mut Graph) -> Result<bool, StepError> {
    let mut changed = false;
    let mut number = 0;
    while number < graph.nodes.len() {
        let node = graph.nodes[number].clone();
        let nodes = match node.op.as_str() {
            "Concat" if node.inputs.len() > 2 => chain(&node, "Concat", false),
            "Sum" if node.inputs.len() > 1 => chain(&node, "Add", true),
            _ => vec![node.clone()],
        };
        changed |= nodes[0] != node;
        let count = nodes.len();
        graph.nodes.splice(number..=number, nodes);
        number += count;
    }
    Ok(changed)
}

/// A chain of two-operand nodes; `last_first` puts what was made before second.
fn chain(node: &Node, op: &str, last_first: bool) -> Vec<Node> {
    let (output, last) = (node.output(), node.inputs.len() - 1);
    let mut nodes: Vec<Node> = Vec::new();
    let mut before = node.inputs[0].clone();
    for (index, input) in node.inputs.iter().enumerate().skip(1) {
        let made = if index == last { output.to_owned() } else { format!("{output}_{input}") };
        let operands = if last_first && index > 1 { [input.as_str(), &before] } else { [&before, input.as_str()] };
        let mut next = Node::new(op, &operands, &made);
        next.attributes.clone_from(&node.attributes);
        nodes.push(next);
        before = made;
    }
    nodes
}

#[cfg(test)]
mod tests {
    use crate::prepare::testing::{after, graph};

    #[test]
    fn three_in_a_chain() {
        let before = graph("x: N,1,2,2 -> y\na = Relu(x)\nb = Neg(x)\ny = Concat[axis=1](x, a, b)");
        let expected = "a = Relu(x)\nb = Neg(x)\ny_a = Concat[axis = 1](x, a)\ny = Concat[axis = 1](y_a, b)";
        assert_eq!(after(super::apply, before), expected);
        let before = graph("x: N,1,2,2 -> y\na = Relu(x)\nb = Neg(x)\ny = Sum(x, a, b)");
        assert_eq!(after(super::apply, before), "a = Relu(x)\nb = Neg(x)\ny_a = Add(x, a)\ny = Add(b, y_a)");
    }
}
