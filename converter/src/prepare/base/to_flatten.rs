//! Squeeze and Reshape that keep the batch and join all else are Flatten (quantization.md 1.4, 9).

use super::{StepError, edit};
use crate::onnx::{Dim, Graph};

/// Rewrites all of them.
pub fn apply(graph: &mut Graph) -> Result<bool, StepError> {
    let mut changed = false;
    for number in 0..graph.nodes.len() {
        if flattens(graph, number).unwrap_or(false) {
            let node = &mut graph.nodes[number];
            node.op = "Flatten".to_owned();
            node.inputs.truncate(1);
            node.attributes.clear();
            changed = true;
        }
    }
    Ok(changed)
}

fn flattens(graph: &Graph, number: usize) -> Option<bool> {
    let node = &graph.nodes[number];
    let suitable = match node.op.as_str() {
        "Squeeze" => edit::integers(graph, node.input(1)?)?.iter().all(|&axis| axis != 0),
        "Reshape" => node.int("allowzero").unwrap_or(0) == 0,
        _ => false,
    };
    if !suitable || !node.domain.is_empty() {
        return Some(false);
    }
    let (x, y) = (edit::dims(graph, node.input(0)?)?, edit::dims(graph, node.output())?);
    let rest = x.get(1..)?.iter().try_fold(1usize, |rest, dim| rest.checked_mul(dim.fixed()?))?;
    Some(y.len() == 2 && y[0] == x[0] && y[1] == Dim::Fixed(rest))
}

#[cfg(test)]
mod tests {
    use crate::prepare::testing::{after, graph};

    #[test]
    fn both_forms_become_flatten() {
        for call in ["Reshape(x, #s:i:2=-1,3)", "Reshape(x, #s:i:2=0,-1)", "Squeeze(x, #a:i:2=2,3)"] {
            let before = graph(&format!("x: N,3,1,1 -> y\ny = {call}"));
            assert_eq!(after(super::apply, before), "y = Flatten(x)", "{call}");
        }
    }

    #[test]
    fn sizes_beyond_all_memory_stay() {
        let large = 1usize << 29;
        let before = graph(&format!("x: N,{large},{large},{large} -> y\ny = Reshape(x, #s:i:2=0,-1)"));
        assert!(!super::apply(&mut before.clone()).is_ok_and(|changed| changed));
    }

    #[test]
    fn a_reshape_of_the_batch_stays() {
        let before = graph("x: N,4,1,1 -> y\ny = Reshape(x, #s:i:2=-1,2)");
        assert!(after(super::apply, before).contains("Reshape"));
    }
}
