//! Even kernels get a row and a column of zeros (quantization.md 1.4, 23).

use ndarray::{ArrayD, IxDyn};

use super::{StepError, edit};
use crate::onnx::{Dim, Graph};
use crate::prepare::base::unify_pads::same_pads;

/// Rewrites convolutions with SAME padding.
pub fn apply(graph: &mut Graph) -> Result<bool, StepError> {
    let mut changed = false;
    let first = graph.nodes.iter().position(|node| node.is("Conv"));
    for number in 0..graph.nodes.len() {
        changed |= rewrite(graph, number, first == Some(number)).is_some();
    }
    Ok(changed)
}

fn rewrite(graph: &mut Graph, number: usize, first: bool) -> Option<()> {
    let node = &graph.nodes[number];
    if !node.is("Conv") || node.ints("dilations").is_some_and(|d| d.iter().any(|&d| d != 1)) {
        return None;
    }
    let kernel = edit::array(graph, node.input(1)?)?;
    let dims = edit::dims(graph, node.input(0)?)?;
    let [_, channels, height, width] = dims.as_slice() else { return None };
    let (channels, sizes) = (channels.fixed()?, [height, width].map(|d| Dim::fixed(d).map(|d| d as i64)));
    let sizes = [sizes[0]?, sizes[1]?];
    let group = node.int("group").unwrap_or(1) as usize;
    let &[filters, per_group, k, k_width] = kernel.shape() else { return None };
    let stride = edit::ints(node, "strides", 2, 1);
    let square = k == k_width && stride.len() == 2 && stride[0] == stride[1];
    let even = match stride.first()? {
        _ if first && matches!(channels, 1 | 3) => matches!(stride[0], 1 | 2) && matches!(k, 2 | 6),
        1 => matches!(k, 2 | 4 | 6),
        2 => k == 2,
        _ => false,
    };
    let pads = edit::ints(node, "pads", 4, 0);
    if !even
        || !square
        || (group != 1 && group != channels)
        || pads != same_pads(&sizes, &[k as i64; 2], &stride, false)
    {
        return None;
    }
    let offset = |size: i64| if stride[0] == 1 { 1 } else { (size % 2) as usize };
    let (down, right) = (offset(sizes[0]), offset(sizes[1]));
    let mut odd = ArrayD::zeros(IxDyn(&[filters, per_group, k + 1, k + 1]));
    odd.slice_mut(ndarray::s![.., .., down..down + k, right..right + k]).assign(&kernel);
    let new_pads = same_pads(&sizes, &[k as i64 + 1; 2], &stride, false);
    edit::replace_constant(graph, number, 1, edit::tensor(&odd));
    let node = &mut graph.nodes[number];
    edit::set_ints(node, "pads", new_pads);
    if node.ints("kernel_shape").is_some() {
        edit::set_ints(node, "kernel_shape", vec![k as i64 + 1; 2]);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use crate::prepare::testing::{constant, graph, text};

    #[test]
    fn two_by_two_is_three_by_three() {
        let mut g = graph("x: N,8,4,4 -> y\ny = Conv[kernel_shape=2,2 pads=0,0,1,1](x, #w:1x8x2x2=1,2,3,4)");
        assert!(super::apply(&mut g).unwrap());
        assert_eq!(text(&g), "y = Conv[kernel_shape = [3, 3], pads = [1, 1, 1, 1]](x, w)");
        assert_eq!(constant(&g, "w")[..9], [0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 0.0, 3.0, 4.0]);
    }

    #[test]
    fn other_padding_stays() {
        let mut g = graph("x: N,8,4,4 -> y\ny = Conv[pads=1,1,0,0](x, #w:1x8x2x2=1)");
        assert!(!super::apply(&mut g).unwrap());
    }
}
