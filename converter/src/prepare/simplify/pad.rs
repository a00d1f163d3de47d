//! A Pad with zeros goes into the pads of the Conv or pooling behind it.

use crate::onnx::{Graph, Node};
use crate::prepare::{StepError, edit};

/// Fuses them all.
pub fn apply(graph: &mut Graph) -> Result<bool, StepError> {
    let mut changed = false;
    let mut number = 0;
    while number < graph.nodes.len() {
        if graph.nodes[number].is("Pad") && fuse(graph, number).is_some() {
            changed = true;
        } else {
            number += 1;
        }
    }
    Ok(changed)
}

/// Begin and end pads of a Pad node for each of `rank` axes; None when they are not known.
pub fn pads(graph: &Graph, node: &Node, rank: usize) -> Option<Vec<i64>> {
    let values = match node.ints("pads") {
        Some(values) => values.to_vec(),
        None => edit::integers(graph, node.input(1)?)?,
    };
    let axes: Vec<usize> = match node.input(3) {
        Some(name) => {
            edit::integers(graph, name)?.iter().map(|&a| crate::prepare::axis(a, rank)).collect::<Option<_>>()?
        }
        None => (0..rank).collect(),
    };
    if values.len() != 2 * axes.len() {
        return None;
    }
    let mut pads = vec![0; 2 * rank];
    for (index, axis) in axes.iter().enumerate() {
        pads[*axis] = values[index];
        pads[axis + rank] = values[index + axes.len()];
    }
    Some(pads)
}

/// The value a Pad node fills with; None when it is not known.
pub fn fill(graph: &Graph, node: &Node) -> Option<f32> {
    match node.input(2) {
        Some(name) => edit::floats(graph, name)?.first().copied(),
        None => Some(node.float("value").unwrap_or(0.0)),
    }
}

fn fuse(graph: &mut Graph, number: usize) -> Option<()> {
    let node = &graph.nodes[number];
    if node.string("mode").unwrap_or("constant") != "constant" {
        return None;
    }
    let child = edit::only_consumer(graph, node.output())?;
    let kind = graph.nodes[child].op.clone();
    let rank = edit::dims(graph, node.input(0)?)?.len();
    let pads = pads(graph, node, rank)?;
    let fits = match kind.as_str() {
        "Conv" => fill(graph, node) == Some(0.0),
        // A maximum never takes a pad: only a fill no larger than any value means the same.
        "MaxPool" => fill(graph, node).is_some_and(|fill| fill == f32::NEG_INFINITY || fill == f32::MIN),
        "AveragePool" => fill(graph, node) == Some(0.0) && graph.nodes[child].int("count_include_pad") == Some(1),
        _ => false,
    };
    let spatial = rank.checked_sub(2).filter(|&s| s > 0)?;
    let inside = [pads[0], pads[1], pads[rank], pads[rank + 1]].iter().all(|&p| p == 0);
    let explicit = graph.nodes[child].string("auto_pad").unwrap_or("NOTSET") == "NOTSET";
    if !fits || !inside || !explicit || pads.iter().any(|&p| p < 0) {
        return None;
    }
    let old = edit::ints(&graph.nodes[child], "pads", 2 * spatial, 0);
    let added = [&pads[2..rank], &pads[rank + 2..]].concat();
    let new = old.iter().zip(&added).map(|(a, b)| a + b).collect();
    edit::set_ints(&mut graph.nodes[child], "pads", new);
    edit::bypass(graph, number).then_some(())
}

#[cfg(test)]
mod tests {
    use crate::prepare::testing::{after, graph};

    #[test]
    fn zeros_go_into_the_convolution() {
        let before = graph(
            "x: N,1,4,4 -> y\np = Pad[mode=constant](x, #pads:i:8=0,0,1,2,0,0,3,4, #v:=0)\ny = Conv[pads=1,1,1,1](p, #w:1x1x3x3=1)",
        );
        assert_eq!(after(super::apply, before), "y = Conv[pads = [2, 3, 4, 5]](x, w)");
    }

    #[test]
    fn other_values_stay() {
        let before = graph(
            "x: N,1,4,4 -> y\np = Pad[mode=constant](x, #pads:i:8=0,0,1,1,0,0,1,1, #v:=1)\ny = Conv(p, #w:1x1x3x3=1)",
        );
        assert!(after(super::apply, before).contains("Pad"));
    }
}
