//! MatMul followed by a constant Add is a Gemm.

use crate::onnx::Graph;
use crate::prepare::{StepError, edit};

/// Fuses them all.
pub fn apply(graph: &mut Graph) -> Result<bool, StepError> {
    let mut changed = false;
    let mut number = 0;
    while number < graph.nodes.len() {
        if graph.nodes[number].is("Add") && fuse(graph, number).is_some() {
            changed = true;
        } else {
            number += 1;
        }
    }
    Ok(changed)
}

fn fuse(graph: &mut Graph, number: usize) -> Option<()> {
    let operand = edit::constant_operand(graph, &graph.nodes[number])?;
    let product = edit::only_producer(graph, number, 1 - operand).filter(|&n| graph.nodes[n].is("MatMul"))?;
    let (input, weights) = (graph.nodes[product].input(0)?, graph.nodes[product].input(1)?);
    let weights = graph.initializers.get(weights)?;
    let bias_name = graph.nodes[number].input(operand)?.to_owned();
    let bias = graph.initializers.get(&bias_name)?;
    let [_, units] = weights.dims() else { return None };
    let per_unit = matches!(bias.dims(), [n] | [1, n] if n == units);
    if edit::dims(graph, input)?.len() != 2 || !per_unit {
        return None;
    }
    let bias = bias.reshaped([*units])?;
    let bias_name = if graph.uses().get(bias_name.as_str()) == Some(&1) {
        graph.initializers.insert(bias_name.clone(), bias);
        bias_name
    } else {
        edit::add_constant(graph, &bias_name, bias)
    };
    let output = graph.nodes[number].output().to_owned();
    let node = &mut graph.nodes[product];
    node.op = "Gemm".to_owned();
    node.name = format!("{}/MatMulAddFusion", node.name);
    node.inputs.push(bias_name);
    node.outputs[0] = output;
    graph.nodes.remove(number);
    Some(())
}

#[cfg(test)]
mod tests {
    use crate::prepare::testing::{after, graph};

    #[test]
    fn bias_is_taken_from_either_side() {
        for add in ["y = Add(m, #b:2=1)", "y = Add(#b:1x2=1, m)"] {
            let before = graph(&format!("x: N,3 -> y\nm = MatMul(x, #w:3x2=1)\n{add}"));
            assert_eq!(after(super::apply, before), "y = Gemm(x, w, b)");
        }
    }

    #[test]
    fn tensors_are_not_bias() {
        let before = graph("x: N,2 -> y\nm = MatMul(x, #w:2x2=1)\ny = Add(m, x)");
        assert!(after(super::apply, before).contains("MatMul"));
    }
}
