//! A large depthwise kernel with stride 2 becomes one with stride 1 and one that only skips (quantization.md 1.4, 24).

use super::{StepError, edit};
use crate::onnx::{Dim, Graph, Node, Tensor};
use crate::prepare::base::unify_pads::same_pads;

/// Splits all of them.
pub fn apply(graph: &mut Graph) -> Result<bool, StepError> {
    let mut names = edit::Names::default();
    let mut changed = false;
    let mut number = 0;
    while number < graph.nodes.len() {
        if split(graph, number, &mut names).is_some() {
            changed = true;
            number += 1;
        }
        number += 1;
    }
    Ok(changed)
}

fn split(graph: &mut Graph, number: usize, names: &mut edit::Names) -> Option<()> {
    let node = &graph.nodes[number];
    let dims = edit::dims(graph, node.input(0)?)?;
    let [_, _, height, width] = dims.as_slice() else { return None };
    let sizes = [Dim::fixed(height)? as i64, Dim::fixed(width)? as i64];
    let &[channels, 1, k, k_width] = graph.initializers.get(node.input(1)?)?.dims() else { return None };
    let depthwise = node.is("Conv") && node.int("group") == Some(channels as i64) && channels > 1;
    let plain = node.ints("dilations").is_none_or(|d| d.iter().all(|&d| d == 1));
    if !depthwise || !plain || k != k_width || !matches!(k, 5 | 7) || node.ints("strides") != Some(&[2, 2]) {
        return None;
    }
    let pads = edit::ints(node, "pads", 4, 0);
    let upper = same_pads(&sizes, &[k as i64; 2], &[2, 2], false);
    let lower = [&upper[2..], &upper[..2]].concat();
    if pads != upper && pads != lower {
        return None;
    }
    let one = same_pads(&sizes, &[k as i64; 2], &[1, 1], false);
    let two = same_pads(&sizes, &[3, 3], &[2, 2], false);
    let place = |axis: usize| usize::try_from(one[axis] + two[axis] - pads[axis]).ok().filter(|&p| p < 3);
    let (row, column) = (place(0)?, place(1)?);
    let mut skip = vec![0f32; channels * 9];
    skip.iter_mut().skip(row * 3 + column).step_by(9).for_each(|w| *w = 1.0);
    let weights = format!("{}_identity_weights", node.name);
    let weights = edit::add_constant(graph, &weights, Tensor::new([channels, 1, 3, 3], &skip));
    let between = names.value(graph);
    let output = graph.nodes[number].output().to_owned();
    let names = [names.node(graph, "Conv"), names.node(graph, "Conv")];
    let mut second = Node::new("Conv", &[&between, &weights], &output).with("group", channels as i64);
    edit::set_ints(&mut second, "kernel_shape", vec![3, 3]);
    edit::set_ints(&mut second, "pads", two);
    edit::set_ints(&mut second, "strides", vec![2, 2]);
    second.name.clone_from(&names[1]);
    let node = &mut graph.nodes[number];
    node.name.clone_from(&names[0]);
    node.outputs[0] = between;
    edit::set_ints(node, "strides", vec![1, 1]);
    edit::set_ints(node, "pads", one);
    graph.nodes.insert(number + 1, second);
    Some(())
}

#[cfg(test)]
mod tests {
    use crate::prepare::testing::{constant, graph, text};

    #[test]
    fn five_by_five() {
        let mut g = graph("x: N,2,8,8 -> y\ny = Conv[group=2 pads=2,2,1,1 strides=2,2](x, #w:2x1x5x5=1)");
        assert!(super::apply(&mut g).unwrap());
        let expected = "val_0 = Conv[group = 2, pads = [2, 2, 2, 2], strides = [1, 1]](x, w)\n\
            y = Conv[group = 2, kernel_shape = [3, 3], pads = [0, 0, 1, 1], strides = [2, 2]](val_0, y_identity_weights)";
        assert_eq!(text(&g), expected);
        assert_eq!(constant(&g, "y_identity_weights")[..9], [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    }
}
