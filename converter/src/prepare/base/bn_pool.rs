//! BatchNormalization goes before the pooling in front of it (quantization.md 1.4, 16), to meet its convolution.

use super::{StepError, edit};
use crate::onnx::Graph;

/// Swaps all pairs where the result is the same.
pub fn apply(graph: &mut Graph) -> Result<bool, StepError> {
    let mut names = edit::Names::default();
    let mut changed = false;
    for number in 0..graph.nodes.len() {
        let Some(pool) = swappable(graph, number) else { continue };
        let between = names.value(graph);
        let source = graph.nodes[pool].inputs[0].clone();
        let output = graph.nodes[number].output().to_owned();
        let mut norm = graph.nodes[number].clone();
        norm.inputs[0] = source;
        norm.outputs[0].clone_from(&between);
        // The reference loses the epsilon here, so the default of 1e-5 holds from now on; our parameters are to be its.
        norm.attributes.clear();
        norm.name = names.node(graph, "BatchNormalization");
        let mut moved = graph.nodes[pool].clone();
        moved.inputs[0] = between;
        moved.outputs[0] = output;
        moved.name = names.node(graph, &moved.op);
        graph.nodes[pool] = norm;
        graph.nodes[number] = moved;
        changed = true;
    }
    Ok(changed)
}

/// The pooling before a BatchNormalization that may follow it as well.
fn swappable(graph: &Graph, number: usize) -> Option<usize> {
    let node = &graph.nodes[number];
    if !node.is("BatchNormalization") || !node.inputs[1..].iter().all(|name| graph.initializers.contains_key(name)) {
        return None;
    }
    let pool = edit::only_producer(graph, number, 0)?;
    let rising = || Some(edit::floats(graph, node.input(1)?)?.iter().all(|&gamma| gamma > 0.0));
    let suitable = match graph.nodes[pool].op.as_str() {
        "MaxPool" => rising()?,
        "GlobalAveragePool" => true,
        _ => false,
    };
    let rank = edit::dims(graph, graph.nodes[pool].input(0)?)?.len();
    (suitable && rank == 4).then_some(pool)
}

#[cfg(test)]
mod tests {
    use crate::prepare::testing::{after, graph};

    fn case(gamma: &str) -> crate::onnx::Graph {
        graph(&format!(
            "x: N,1,4,4 -> y\np = MaxPool[kernel_shape=2,2 strides=2,2](x)\n\
             y = BatchNormalization(p, #g:1={gamma}, #b:1=0, #m:1=0, #v:1=1)"
        ))
    }

    #[test]
    fn a_rising_function_commutes_with_the_maximum() {
        let expected =
            "val_0 = BatchNormalization(x, g, b, m, v)\ny = MaxPool[kernel_shape = [2, 2], strides = [2, 2]](val_0)";
        assert_eq!(after(super::apply, case("2")), expected);
    }

    #[test]
    fn a_falling_one_does_not() {
        assert!(after(super::apply, case("-2")).starts_with("p = MaxPool"));
    }
}
