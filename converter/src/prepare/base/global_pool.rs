//! Means over the whole map are GlobalAveragePool (quantization.md 1.4, 12).

use super::{StepError, edit};
use crate::onnx::{Dim, Graph, Node};
use crate::prepare::axis;

/// Rewrites all of them.
pub fn apply(graph: &mut Graph) -> Result<bool, StepError> {
    let mut names = edit::Names::default();
    let mut changed = false;
    let mut number = 0;
    while number < graph.nodes.len() {
        if let Some(keep) = is_global(graph, number) {
            let (source, output) = (graph.nodes[number].inputs[0].clone(), graph.nodes[number].output().to_owned());
            let pooled = if keep { output.clone() } else { names.value(graph) };
            let mut nodes = vec![Node::new("GlobalAveragePool", &[&source], &pooled)];
            if !keep {
                nodes.push(Node::new("Flatten", &[&pooled], &output));
            }
            for node in &mut nodes {
                node.name = names.node(graph, &node.op);
            }
            graph.nodes.splice(number..=number, nodes);
            changed = true;
        }
        number += 1;
    }
    Ok(changed)
}

/// Whether a node is a mean over exactly all pixels; then, whether it keeps their axes.
fn is_global(graph: &Graph, number: usize) -> Option<bool> {
    let node = &graph.nodes[number];
    let dims = edit::dims(graph, node.input(0)?)?;
    let spatial: Vec<i64> = dims.get(2..)?.iter().map(|d| Dim::fixed(d).map(|d| d as i64)).collect::<Option<_>>()?;
    if spatial.is_empty() || !node.domain.is_empty() {
        return None;
    }
    match node.op.as_str() {
        "AveragePool" => {
            let unpadded = node.ints("pads").is_none_or(|pads| pads.iter().all(|&p| p == 0));
            let explicit = node.string("auto_pad").unwrap_or("NOTSET") == "NOTSET";
            (node.ints("kernel_shape") == Some(&spatial) && unpadded && explicit).then_some(true)
        }
        "ReduceMean" => {
            let axes = edit::integers(graph, node.input(1)?)?;
            let mut axes: Vec<usize> = axes.iter().map(|&a| axis(a, dims.len())).collect::<Option<_>>()?;
            axes.sort_unstable();
            axes.eq(&(2..dims.len()).collect::<Vec<_>>()).then(|| node.int("keepdims").unwrap_or(1) == 1)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::prepare::testing::{after, graph};

    #[test]
    fn three_ways_to_write_it() {
        for (call, expected) in [
            ("AveragePool[kernel_shape=4,4](x)", "y = GlobalAveragePool(x)"),
            ("ReduceMean[keepdims=1](x, #a:i:2=2,3)", "y = GlobalAveragePool(x)"),
            ("ReduceMean[keepdims=0](x, #a:i:2=-1,-2)", "val_0 = GlobalAveragePool(x)\ny = Flatten(val_0)"),
        ] {
            assert_eq!(after(super::apply, graph(&format!("x: N,2,4,4 -> y\ny = {call}"))), expected);
        }
    }

    #[test]
    fn smaller_windows_stay() {
        let before = graph("x: N,2,4,4 -> y\ny = AveragePool[kernel_shape=2,2](x)");
        assert!(after(super::apply, before).contains("AveragePool"));
    }
}
