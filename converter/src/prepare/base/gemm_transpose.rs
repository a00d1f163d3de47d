//! Weights of a Gemm lie one unit after the other (quantization.md 1.4, 8).

use super::{StepError, edit};
use crate::onnx::Graph;

/// Transposes the weights of Gemms without transB.
pub fn apply(graph: &mut Graph) -> Result<bool, StepError> {
    let mut changed = false;
    for number in 0..graph.nodes.len() {
        let node = &graph.nodes[number];
        if !node.is("Gemm") || node.int("transB").unwrap_or(0) != 0 {
            continue;
        }
        let Some(weights) = node.input(1).and_then(|name| edit::array(graph, name)) else { continue };
        edit::replace_constant(graph, number, 1, edit::tensor(&weights.reversed_axes()));
        graph.nodes[number].attributes.insert("transB".into(), 1.into());
        changed = true;
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use crate::prepare::testing::{constant, graph, text};

    #[test]
    fn rows_become_units() {
        let mut g = graph("x: N,2 -> y\ny = Gemm(x, #w:2x3=1,2,3,4,5,6)");
        assert!(super::apply(&mut g).unwrap());
        assert_eq!(text(&g), "y = Gemm[transB = 1](x, w)");
        assert_eq!(g.initializers["w"].dims(), [3, 2]);
        assert_eq!(constant(&g, "w"), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    }
}
