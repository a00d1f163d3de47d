//! BatchNormalization after Conv, ConvTranspose or Gemm goes into the weights (quantization.md 1.3, 1.4, 17).

use super::{StepError, edit};
use crate::onnx::{Graph, Tensor};
use crate::prepare::simplify::{Affine, scale_axis};

/// Fuses all of them.
pub fn apply(graph: &mut Graph) -> Result<bool, StepError> {
    let mut names = edit::Names::default();
    let mut changed = false;
    let mut number = 0;
    while number < graph.nodes.len() {
        if graph.nodes[number].is("BatchNormalization") && fuse(graph, number, &mut names).is_some() {
            changed = true;
        } else {
            number += 1;
        }
    }
    Ok(changed)
}

fn fuse(graph: &mut Graph, number: usize, names: &mut edit::Names) -> Option<()> {
    let main = edit::only_producer(graph, number, 0)?;
    let node = &graph.nodes[main];
    let axis = match node.op.as_str() {
        "Conv" => 0,
        "Gemm" if node.int("transB") == Some(1) => 0,
        "ConvTranspose" if node.int("group").unwrap_or(1) == 1 => 1,
        _ => return None,
    };
    let affine = Affine::of(graph, number)?;
    let kernel = scale_axis(&edit::array(graph, node.input(1)?)?, axis, &affine.scale)?;
    let filters = affine.scale.len();
    let bias = match node.input(2) {
        Some(name) => Some(edit::floats(graph, name).filter(|b| b.len() == filters)?),
        None => None,
    };
    let bias_tensor = Tensor::new([filters], &affine.bias(bias.as_deref()));
    let bias_name = format!("{}_bias", node.inputs[0]);
    edit::replace_constant(graph, main, 1, edit::tensor(&kernel));
    if bias.is_some() {
        edit::replace_constant(graph, main, 2, bias_tensor);
    } else {
        let name = edit::add_constant(graph, &bias_name, bias_tensor);
        graph.nodes[main].inputs.truncate(2);
        graph.nodes[main].inputs.push(name);
    }
    let name = names.node(graph, &graph.nodes[main].op);
    let output = graph.nodes[number].output().to_owned();
    let node = &mut graph.nodes[main];
    node.name = name;
    node.outputs[0] = output;
    graph.nodes.remove(number);
    Some(())
}

#[cfg(test)]
mod tests {
    use crate::prepare::testing::{constant, graph, text};

    #[test]
    fn into_a_fully_connected_layer() {
        let mut g = graph(
            "x: N,2 -> y\na = Gemm[transB=1](x, #w:2x2=1,2,3,4)\n\
             y = BatchNormalization[epsilon=0.0](a, #g:2=2,4, #b:2=1,0, #m:2=10,1, #v:2=4,16)",
        );
        assert!(super::apply(&mut g).unwrap());
        assert_eq!(text(&g), "y = Gemm[transB = 1](x, w, x_bias)");
        assert_eq!(constant(&g, "w"), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(constant(&g, "x_bias"), [-9.0, -1.0]);
    }
}
