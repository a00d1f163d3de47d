//! Max pooling goes before an activation that never falls (quantization.md 1.4, 21): the chip pools first.

use super::{StepError, edit};
use crate::onnx::{BRAINCHIP, Graph, Node};

/// Swaps all pairs.
pub fn apply(graph: &mut Graph) -> Result<bool, StepError> {
    let mut names = edit::Names::default();
    let mut changed = false;
    for number in 0..graph.nodes.len() {
        if !graph.nodes[number].is("MaxPool") {
            continue;
        }
        let Some(activation) = edit::only_producer(graph, number, 0).filter(|&n| never_falls(&graph.nodes[n])) else {
            continue;
        };
        let between = names.value(graph);
        let source = graph.nodes[activation].inputs[0].clone();
        let output = std::mem::replace(&mut graph.nodes[number].outputs[0], between.clone());
        graph.nodes[number].inputs[0] = source;
        graph.nodes[number].name = names.node(graph, "MaxPool");
        let mut moved = graph.nodes[activation].clone();
        moved.inputs[0] = between;
        moved.outputs[0] = output;
        moved.name = names.node(graph, &moved.op);
        // The pool takes the activation's place, so order is kept.
        let pool = std::mem::replace(&mut graph.nodes[number], moved);
        graph.nodes[activation] = pool;
        changed = true;
    }
    Ok(changed)
}

fn never_falls(node: &Node) -> bool {
    node.is("Relu")
        || node.is("Clip")
        || (node.domain == BRAINCHIP && node.op == "activation" && node.string("main_op_type") == Some("LeakyRelu"))
}

#[cfg(test)]
mod tests {
    use crate::prepare::testing::{after, graph};

    #[test]
    fn pool_then_relu() {
        let before = graph("x: N,1,8,8 -> y\nr = Relu(x)\nm = MaxPool[kernel_shape=2,2 strides=2,2](r)\ny = Relu(m)");
        let expected = "val_0 = MaxPool[kernel_shape = [2, 2], strides = [2, 2]](x)\nm = Relu(val_0)\ny = Relu(m)";
        assert_eq!(after(super::apply, before), expected);
    }

    #[test]
    fn an_activation_that_is_read_twice_stays() {
        let before = graph("x: N,1,8,8 -> y,r\nr = Relu(x)\ny = MaxPool[kernel_shape=2,2](r)");
        assert!(after(super::apply, before).starts_with("r = Relu(x)"));
    }
}
