//! Relu before Clip goes into the Clip's minimum.

use crate::onnx::{Graph, Tensor};
use crate::prepare::{StepError, edit};

/// Fuses them all.
pub fn apply(graph: &mut Graph) -> Result<bool, StepError> {
    let mut changed = false;
    let mut number = 0;
    while number < graph.nodes.len() {
        if graph.nodes[number].is("Clip") && fuse(graph, number).is_some() {
            changed = true;
        } else {
            number += 1;
        }
    }
    Ok(changed)
}

fn fuse(graph: &mut Graph, number: usize) -> Option<()> {
    let relu = edit::only_producer(graph, number, 0).filter(|&n| graph.nodes[n].is("Relu"))?;
    let minimum = match graph.nodes[number].input(1) {
        Some(name) => *edit::floats(graph, name)?.first()?,
        None => f32::MIN,
    };
    if minimum < 0.0 {
        let zero = Tensor::scalar(0f32);
        if graph.nodes[number].input(1).is_some() {
            edit::replace_constant(graph, number, 1, zero);
        } else {
            let name = edit::add_constant(graph, &format!("{}_min", graph.nodes[number].output()), zero);
            let node = &mut graph.nodes[number];
            node.inputs.resize(node.inputs.len().max(2), String::new());
            node.inputs[1] = name;
        }
    }
    edit::bypass(graph, relu).then_some(())
}

#[cfg(test)]
mod tests {
    use crate::prepare::testing::{constant, graph, text};

    #[test]
    fn a_lower_minimum_becomes_zero() {
        let mut g = graph("x: N,2 -> y\nr = Relu(x)\ny = Clip(r, #lo:=-1, #hi:=6)");
        assert!(super::apply(&mut g).unwrap());
        assert_eq!(text(&g), "y = Clip(x, lo, hi)");
        assert_eq!(constant(&g, "lo"), [0.0]);
    }

    #[test]
    fn a_higher_minimum_stays() {
        let mut g = graph("x: N,2 -> y\nr = Relu(x)\ny = Clip(r, #lo:=1, #hi:=6)");
        assert!(super::apply(&mut g).unwrap());
        assert_eq!(constant(&g, "lo"), [1.0]);
    }
}
