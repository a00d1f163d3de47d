//! Min and Max with a constant are Clip (quantization.md 1.4, 10).

use super::{StepError, edit};
use crate::onnx::{Graph, Tensor};

/// Rewrites them up to the first that compares two tensors.
pub fn apply(graph: &mut Graph) -> Result<bool, StepError> {
    let mut changed = false;
    for number in 0..graph.nodes.len() {
        let node = &graph.nodes[number];
        let maximum = match node.op.as_str() {
            "Max" => false,
            "Min" => true,
            _ => continue,
        };
        let Some(operand) = edit::constant_operand(graph, node) else { return Ok(changed) };
        let Some(&[value]) = edit::floats(graph, &node.inputs[operand]).as_deref() else { continue };
        let (source, output) = (node.inputs[1 - operand].clone(), node.output().to_owned());
        let name = format!("{output}_{}", if maximum { "max" } else { "min" });
        let bound = edit::add_constant(graph, &name, Tensor::scalar(value));
        let node = &mut graph.nodes[number];
        node.op = "Clip".to_owned();
        node.attributes.clear();
        node.inputs = if maximum { vec![source, String::new(), bound] } else { vec![source, bound] };
        changed = true;
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use crate::prepare::testing::{after, graph};

    #[test]
    fn bounds_of_either_side() {
        let before = graph("x: N,2 -> y\na = Min(x, #h:1x1=6)\ny = Max(#l:1=0, a)");
        assert_eq!(after(super::apply, before), "a = Clip(x, , a_max)\ny = Clip(a, y_min)");
    }
}
