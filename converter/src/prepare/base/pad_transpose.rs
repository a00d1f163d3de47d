//! A Transpose goes before the Pad in front of it (quantization.md 1.4, 3).

use super::{StepError, edit};
use crate::onnx::{Graph, Tensor};
use crate::prepare::axis;

/// Swaps all pairs.
pub fn apply(graph: &mut Graph) -> Result<bool, StepError> {
    let mut changed = false;
    for number in 0..graph.nodes.len() {
        if graph.nodes[number].is("Transpose") && swap(graph, number).is_some() {
            changed = true;
        }
    }
    Ok(changed)
}

fn swap(graph: &mut Graph, transpose: usize) -> Option<()> {
    let pad = edit::only_producer(graph, transpose, 0).filter(|&n| graph.nodes[n].is("Pad"))?;
    let rank = edit::dims(graph, &graph.nodes[pad].inputs[0])?.len();
    let perm: Vec<usize> =
        graph.nodes[transpose].ints("perm")?.iter().map(|&p| axis(p, rank)).collect::<Option<_>>()?;
    let pads = crate::prepare::simplify::pad_values(graph, &graph.nodes[pad], rank)?;
    let moved: Vec<i64> = perm.iter().map(|&p| pads[p]).chain(perm.iter().map(|&p| pads[p + rank])).collect();
    let name =
        edit::add_constant(graph, &format!("{}_pads", graph.nodes[pad].output()), Tensor::new([2 * rank], &moved));
    let between = graph.nodes[pad].output().to_owned();
    let source = std::mem::replace(&mut graph.nodes[pad].inputs[0], between.clone());
    let output = std::mem::replace(&mut graph.nodes[transpose].outputs[0], between);
    let node = &mut graph.nodes[pad];
    node.inputs[1] = name;
    node.inputs.truncate(3);
    node.outputs[0] = output;
    graph.nodes[transpose].inputs[0] = source;
    graph.nodes.swap(pad, transpose);
    Some(())
}

#[cfg(test)]
mod tests {
    use crate::prepare::testing::{graph, text};

    #[test]
    fn pads_move_along() {
        let mut g = graph("x: N,4,5,3 -> y\np = Pad(x, #q:i:8=0,1,2,0,0,3,4,0)\ny = Transpose[perm=0,3,1,2](p)");
        assert!(super::apply(&mut g).unwrap());
        assert_eq!(text(&g), "p = Transpose[perm = [0, 3, 1, 2]](x)\ny = Pad(p, p_pads)");
        assert_eq!(g.initializers["p_pads"].values::<i64>("").unwrap(), [0, 0, 1, 2, 0, 0, 3, 4]);
    }
}
