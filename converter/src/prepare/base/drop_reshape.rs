//! Reshapes without effect disappear (quantization.md 1.4, 13).

use super::{StepError, edit};
use crate::onnx::Graph;
use crate::prepare::infer;

/// Removes a Reshape or Flatten whose result only another one reads, then those that change nothing.
pub fn apply(graph: &mut Graph) -> Result<bool, StepError> {
    let mut changed = false;
    let mut number = 0;
    while number < graph.nodes.len() {
        let next = graph.nodes[number].outputs.first().and_then(|output| edit::only_consumer(graph, output));
        if reshapes(graph, number) && next.is_some_and(|next| reshapes(graph, next)) && bypass_first(graph, number) {
            changed = true;
        } else {
            number += 1;
        }
    }
    number = 0;
    while number < graph.nodes.len() {
        let node = &graph.nodes[number];
        let (before, after) = (node.input(0).and_then(|x| edit::dims(graph, x)), edit::dims(graph, node.output()));
        if reshapes(graph, number) && before.is_some() && before == after && edit::bypass(graph, number) {
            changed = true;
        } else {
            number += 1;
        }
    }
    Ok(changed)
}

fn reshapes(graph: &Graph, number: usize) -> bool {
    graph.nodes[number].is("Reshape") || graph.nodes[number].is("Flatten")
}

/// Takes out node `number` if the shapes behind it stay what they are.
fn bypass_first(graph: &mut Graph, number: usize) -> bool {
    let mut copy = graph.clone();
    let Some(next) = edit::only_consumer(&copy, copy.nodes[number].output()) else { return false };
    let output = copy.nodes[next].output().to_owned();
    let same = edit::bypass(&mut copy, number)
        && infer(&mut copy).is_ok()
        && edit::dims(&copy, &output).is_some()
        && edit::dims(&copy, &output) == edit::dims(graph, &output);
    if same {
        *graph = copy;
    }
    same
}

#[cfg(test)]
mod tests {
    use crate::prepare::testing::{after, graph};

    #[test]
    fn one_of_two_is_enough() {
        let before = graph("x: N,2,3,4 -> y\na = Reshape(x, #s:i:3=0,6,4)\ny = Flatten[axis=1](a)");
        assert_eq!(after(super::apply, before), "y = Flatten[axis = 1](x)");
    }

    #[test]
    fn flat_stays_flat() {
        let before = graph("x: N,6 -> y\na = Flatten[axis=1](x)\ny = Relu(a)");
        assert_eq!(after(super::apply, before), "y = Relu(x)");
    }
}
