//! Relu and Clip that follow each other become one (quantization.md 1.4, 11).

use super::{StepError, edit};
use crate::onnx::{Graph, Tensor};

/// Merges until there are no neighbours.
pub fn apply(graph: &mut Graph) -> Result<bool, StepError> {
    let mut changed = false;
    let mut number = 0;
    while number < graph.nodes.len() {
        if merge(graph, number).is_some() {
            changed = true;
        } else {
            number += 1;
        }
    }
    Ok(changed)
}

/// Smallest and largest value a Relu or Clip lets through; None when it is neither or its bounds are not constant.
fn bounds(graph: &Graph, number: usize) -> Option<(Option<f32>, Option<f32>)> {
    let node = &graph.nodes[number];
    if node.is("Relu") {
        return Some((Some(0.0), None));
    }
    if !node.is("Clip") {
        return None;
    }
    let bound = |index: usize| match node.input(index) {
        None => Some(None),
        Some(name) => Some(Some(*edit::floats(graph, name)?.first()?)),
    };
    Some((bound(1)?, bound(2)?))
}

/// Merges node `second` with the one before it.
fn merge(graph: &mut Graph, second: usize) -> Option<()> {
    let (low, high) = bounds(graph, second)?;
    let first = edit::only_producer(graph, second, 0)?;
    let (first_low, first_high) = bounds(graph, first)?;
    let within =
        |bound: Option<f32>| bound.map(|b| b.max(low.unwrap_or(f32::NEG_INFINITY)).min(high.unwrap_or(f32::INFINITY)));
    let (low, high) = (within(first_low).or(low), within(first_high).or(high));
    let source = graph.nodes[first].inputs[0].clone();
    let mut inputs = vec![source.clone()];
    let op = if (low, high) == (Some(0.0), None) {
        "Relu"
    } else {
        for (bound, suffix) in [(low, "min"), (high, "max")] {
            inputs.push(match bound {
                Some(value) => edit::add_constant(graph, &format!("{source}_{suffix}"), Tensor::scalar(value)),
                None => String::new(),
            });
        }
        "Clip"
    };
    while inputs.last().is_some_and(String::is_empty) {
        inputs.pop();
    }
    let node = &mut graph.nodes[second];
    node.op = op.to_owned();
    node.inputs = inputs;
    graph.nodes.remove(first);
    Some(())
}

#[cfg(test)]
mod tests {
    use crate::prepare::testing::{constant, graph, text};

    #[test]
    fn three_become_one() {
        let mut g = graph("x: N,2 -> y\na = Relu(x)\nb = Clip(a, , #h:=6)\ny = Clip(b, #l:=-1)");
        assert!(super::apply(&mut g).unwrap());
        assert_eq!(g.nodes.len(), 1);
        let names = [1, 2].map(|i| g.nodes[0].inputs[i].clone());
        assert_eq!((constant(&g, &names[0]), constant(&g, &names[1])), (vec![0.0], vec![6.0]));
    }

    #[test]
    fn relu_twice_is_relu() {
        let mut g = graph("x: N,2 -> y\na = Relu(x)\ny = Relu(a)");
        assert!(super::apply(&mut g).unwrap());
        assert_eq!(text(&g), "y = Relu(x)");
    }
}
