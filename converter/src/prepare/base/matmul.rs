//! MatMul with constant weights is Gemm (quantization.md 1.4, 14).

use super::{StepError, edit};
use crate::onnx::Graph;

/// Rewrites all of them.
pub fn apply(graph: &mut Graph) -> Result<bool, StepError> {
    let mut names = edit::Names::default();
    let mut changed = false;
    for number in 0..graph.nodes.len() {
        let node = &graph.nodes[number];
        if !node.is("MatMul") || node.input(0).and_then(|x| edit::dims(graph, x)).is_none_or(|dims| dims.len() != 2) {
            continue;
        }
        let weights = node.input(1).and_then(|name| edit::array(graph, name)).filter(|w| w.ndim() == 2);
        let Some(weights) = weights else { continue };
        edit::replace_constant(graph, number, 1, edit::tensor(&weights.reversed_axes()));
        let name = names.node(graph, "Gemm");
        let node = &mut graph.nodes[number];
        node.op = "Gemm".to_owned();
        node.name = name;
        node.attributes.insert("transB".into(), 1.into());
        changed = true;
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use crate::prepare::testing::{constant, graph, text};

    #[test]
    fn weights_are_transposed() {
        let mut g = graph("x: N,2 -> y\ny = MatMul(x, #w:2x3=1,2,3,4,5,6)");
        assert!(super::apply(&mut g).unwrap());
        assert_eq!(text(&g), "y = Gemm[transB = 1](x, w)");
        assert_eq!(constant(&g, "w"), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    }
}
