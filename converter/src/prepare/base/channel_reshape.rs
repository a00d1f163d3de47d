//! A Reshape that moves a single channel to the front is a Transpose (quantization.md 1.4, 2).

use super::{StepError, edit};
use crate::onnx::{Dim, Graph};

/// Rewrites (N, H, W, 1) to (N, 1, H, W).
pub fn apply(graph: &mut Graph) -> Result<bool, StepError> {
    let mut changed = false;
    for number in 0..graph.nodes.len() {
        let node = &graph.nodes[number];
        if !node.is("Reshape") {
            continue;
        }
        let (Some(x), Some(y)) = (edit::dims(graph, &node.inputs[0]), edit::dims(graph, node.output())) else {
            continue;
        };
        if let ([_, h, w, Dim::Fixed(1)], [_, Dim::Fixed(1), h2, w2]) = (x.as_slice(), y.as_slice())
            && h.fixed().is_some()
            && h == h2
            && w == w2
        {
            let node = &mut graph.nodes[number];
            node.op = "Transpose".to_owned();
            node.inputs.truncate(1);
            node.attributes.clear();
            edit::set_ints(node, "perm", vec![0, 3, 1, 2]);
            changed = true;
        }
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use crate::prepare::testing::{after, graph};

    #[test]
    fn one_channel_moves_to_the_front() {
        let before = graph("x: N,4,5,1 -> y\ny = Reshape(x, #s:i:4=-1,1,4,5)");
        assert_eq!(after(super::apply, before), "y = Transpose[perm = [0, 3, 1, 2]](x)");
    }

    #[test]
    fn other_reshapes_stay() {
        let before = graph("x: N,4,4,1 -> y\ny = Reshape(x, #s:i:4=-1,1,2,8)");
        assert!(after(super::apply, before).contains("Reshape"));
    }
}
