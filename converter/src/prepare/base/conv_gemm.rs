//! A Conv on a single pixel is a Gemm (quantization.md 1.4, 15).

use super::{StepError, edit};
use crate::onnx::{Dim, Graph, Node};

/// Rewrites each together with the Squeeze, Reshape or Flatten behind it.
pub fn apply(graph: &mut Graph) -> Result<bool, StepError> {
    let mut names = edit::Names::default();
    let mut changed = false;
    let mut number = 0;
    while number < graph.nodes.len() {
        changed |= rewrite(graph, number, &mut names).is_some();
        number += 1;
    }
    Ok(changed)
}

fn rewrite(graph: &mut Graph, number: usize, names: &mut edit::Names) -> Option<()> {
    let node = &graph.nodes[number];
    let dims = edit::dims(graph, node.input(0)?)?;
    let pixel = matches!(dims.as_slice(), [_, Dim::Fixed(_), Dim::Fixed(1), Dim::Fixed(1)]);
    let unpadded = node.ints("pads").is_none_or(|pads| pads.iter().all(|&p| p == 0));
    if !node.is("Conv") || !pixel || !unpadded || node.int("group").unwrap_or(1) != 1 {
        return None;
    }
    let next = edit::only_consumer(graph, node.output())?;
    if !["Squeeze", "Reshape", "Flatten"].iter().any(|op| graph.nodes[next].is(op)) {
        return None;
    }
    let weights = graph.initializers.get(node.input(1)?)?;
    let [filters, rest @ ..] = weights.dims() else { return None };
    let flat = weights.reshaped([*filters, rest.iter().product()])?;
    let result = edit::dims(graph, graph.nodes[next].output())?;
    if result != [dims[0].clone(), Dim::Fixed(*filters)] {
        return None;
    }
    let output = graph.nodes[next].output().to_owned();
    edit::replace_constant(graph, number, 1, flat);
    let source = graph.nodes[number].inputs[0].clone();
    let between = names.value(graph);
    let mut flatten = Node::new("Flatten", &[&source], &between);
    flatten.name = names.node(graph, "Flatten");
    let name = names.node(graph, "Gemm");
    let node = &mut graph.nodes[number];
    node.op = "Gemm".to_owned();
    node.name = name;
    node.attributes.clear();
    node.attributes.insert("transB".into(), 1.into());
    node.inputs[0] = between;
    node.outputs[0] = output;
    graph.nodes.remove(next);
    graph.nodes.insert(number, flatten);
    Some(())
}

#[cfg(test)]
mod tests {
    use crate::prepare::testing::{graph, text};

    #[test]
    fn a_classifier_written_as_a_convolution() {
        let mut g = graph("x: N,3,1,1 -> y\nc = Conv(x, #w:2x3x1x1=1, #b:2=0)\ny = Flatten[axis=1](c)");
        assert!(super::apply(&mut g).unwrap());
        assert_eq!(text(&g), "val_0 = Flatten(x)\ny = Gemm[transB = 1](val_0, w, b)");
        assert_eq!(g.initializers["w"].dims(), [2, 3]);
    }
}
