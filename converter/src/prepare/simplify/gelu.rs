//! Gelu written out with Erf becomes a Gelu node.

use crate::onnx::{Graph, Node};
use crate::prepare::base::activations::gelu;
use crate::prepare::{StepError, edit};

/// Fuses all of them.
pub fn apply(graph: &mut Graph) -> Result<bool, StepError> {
    let mut changed = false;
    let mut number = 0;
    while number < graph.nodes.len() {
        if let Some(source) = Some(number).filter(|&n| graph.nodes[n].is("Mul")).and_then(|n| gelu(graph, n)) {
            let output = graph.nodes[number].output().to_owned();
            graph.nodes[number] = Node::new("Gelu", &[&source], &output);
            edit::sweep(graph);
            number = 0;
            changed = true;
        } else {
            number += 1;
        }
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use crate::prepare::testing::{after, graph};

    #[test]
    fn as_pytorch_writes_it() {
        let nodes = "d = Div(x, #q:=1.4142135)\ne = Erf(d)\na = Add(e, #o:=1)\nm = Mul(x, a)\ny = Mul(m, #h:=0.5)";
        assert_eq!(after(super::apply, graph(&format!("x: N,3 -> y\n{nodes}"))), "y = Gelu(x)");
    }
}
