//! A constant Mul or Add right after Conv goes into the weights.

use crate::onnx::Graph;
use crate::prepare::simplify::batch_norm::scale_axis;
use crate::prepare::{StepError, edit};

/// Fuses them all.
pub fn apply(graph: &mut Graph) -> Result<bool, StepError> {
    let mut changed = false;
    let mut number = 0;
    while number < graph.nodes.len() {
        let fused = match graph.nodes[number].op.as_str() {
            "Mul" => fuse(graph, number, true),
            "Add" => fuse(graph, number, false),
            _ => None,
        };
        match fused {
            Some(()) => changed = true,
            None => number += 1,
        }
    }
    Ok(changed)
}

/// The values of a constant that is the same over all pixels, one per filter. ONNX Runtime takes only (C, 1, 1) and
/// (1, C, 1, 1) here, and single values.
fn per_filter(graph: &Graph, name: &str, filters: usize) -> Option<Vec<f32>> {
    let tensor = graph.initializers.get(name)?;
    let values = edit::floats(graph, name)?;
    match tensor.dims() {
        [c, 1, 1] | [1, c, 1, 1] if *c == filters => Some(values),
        _ => None,
    }
}

fn fuse(graph: &mut Graph, number: usize, multiply: bool) -> Option<()> {
    let operand = edit::constant_operand(graph, &graph.nodes[number])?;
    let conv = edit::only_producer(graph, number, 1 - operand).filter(|&n| graph.nodes[n].is("Conv"))?;
    let kernel = edit::array(graph, graph.nodes[conv].input(1)?)?;
    let filters = kernel.shape()[0];
    let constant = per_filter(graph, graph.nodes[number].input(operand)?, filters)?;
    let bias = match graph.nodes[conv].input(2) {
        Some(name) => Some(edit::floats(graph, name).filter(|b| b.len() == filters)?),
        None => None,
    };
    let new_bias: Option<Vec<f32>> = match (bias, multiply) {
        (Some(bias), true) => Some(bias.iter().zip(&constant).map(|(b, c)| b * c).collect()),
        (Some(bias), false) => Some(bias.iter().zip(&constant).map(|(b, c)| b + c).collect()),
        (None, true) => None,
        (None, false) => Some(constant.clone()),
    };
    if multiply {
        let scaled = edit::tensor(&scale_axis(&kernel, 0, &constant)?);
        edit::replace_constant(graph, conv, 1, scaled);
    }
    if let Some(bias) = new_bias {
        let tensor = crate::onnx::Tensor::new([filters], &bias);
        if graph.nodes[conv].input(2).is_some() {
            edit::replace_constant(graph, conv, 2, tensor);
        } else {
            let name = edit::add_constant(graph, &format!("{}_bias", graph.nodes[conv].name), tensor);
            graph.nodes[conv].inputs.truncate(2);
            graph.nodes[conv].inputs.push(name);
        }
    }
    graph.nodes[conv].outputs[0] = graph.nodes[number].output().to_owned();
    graph.nodes.remove(number);
    Some(())
}

#[cfg(test)]
mod tests {
    use crate::prepare::testing::{constant, graph, text};

    #[test]
    fn mul_then_add() {
        let mut g = graph(
            "x: N,1,4,4 -> y\nc = Conv(x, #w:2x1x1x1=3,5)\nm = Mul(c, #s:2x1x1=2,10)\ny = Add(m, #o:1x2x1x1=1,2)",
        );
        assert!(super::apply(&mut g).unwrap());
        assert_eq!(text(&g), "y = Conv(x, w, c_bias)");
        assert_eq!(constant(&g, "w"), [6.0, 50.0]);
        assert_eq!(constant(&g, "c_bias"), [1.0, 2.0]);
    }
}
