//! Pads become explicit, and end pads no larger than what windows reach (quantization.md 1.4, 7; 1.6).

use super::{StepError, edit};
use crate::onnx::Graph;

/// Rewrites all nodes with a window.
pub fn apply(graph: &mut Graph) -> Result<bool, StepError> {
    let mut changed = false;
    for number in 0..graph.nodes.len() {
        let node = &graph.nodes[number];
        if !matches!(node.op.as_str(), "Conv" | "ConvTranspose" | "MaxPool" | "AveragePool") || !node.domain.is_empty()
        {
            continue;
        }
        if node.ints("dilations").is_some_and(|d| d.iter().any(|&d| d != 1)) {
            continue;
        }
        let pads = explicit(graph, number);
        let node = &mut graph.nodes[number];
        if let Some(pads) = pads
            && node.ints("pads") != Some(&pads)
        {
            edit::set_ints(node, "pads", pads);
            node.attributes.shift_remove("auto_pad");
            changed = true;
        }
        if node.string("auto_pad") == Some("NOTSET") {
            node.attributes.shift_remove("auto_pad");
            changed = true;
        }
    }
    Ok(changed)
}

/// Begin pads, then end pads, of the spatial axes; None leaves the node as it is.
fn explicit(graph: &Graph, number: usize) -> Option<Vec<i64>> {
    let node = &graph.nodes[number];
    let input = edit::dims(graph, node.input(0)?)?;
    let sizes: Vec<i64> = input.get(2..)?.iter().map(|d| d.fixed().map(|d| d as i64)).collect::<Option<_>>()?;
    let kernel: Vec<i64> = match node.ints("kernel_shape") {
        Some(kernel) => kernel.to_vec(),
        None => {
            let weights = graph.initializers.get(node.input(1)?)?;
            weights.dims().get(2..)?.iter().map(|&k| k as i64).collect()
        }
    };
    let spatial = sizes.len();
    let strides = edit::ints(node, "strides", spatial, 1);
    if kernel.len() != spatial || strides.len() != spatial {
        return None;
    }
    let transposed = node.is("ConvTranspose");
    match node.string("auto_pad").unwrap_or("NOTSET") {
        "VALID" => Some(vec![0; 2 * spatial]),
        mode @ ("SAME_UPPER" | "SAME_LOWER") => {
            let pads = same_pads(&sizes, &kernel, &strides, transposed);
            Some(if mode == "SAME_UPPER" { pads } else { [&pads[spatial..], &pads[..spatial]].concat() })
        }
        _ if transposed => None,
        _ => {
            let mut pads = node.ints("pads")?.to_vec();
            let output = edit::dims(graph, node.output())?;
            for axis in 0..spatial {
                let reach = (output.get(axis + 2)?.fixed()? as i64 - 1) * strides[axis];
                let used = reach - (sizes[axis] + pads[axis] - kernel[axis]);
                *pads.get_mut(axis + spatial)? = used;
            }
            pads.iter().all(|&p| p >= 0).then_some(pads)
        }
    }
}

/// SAME_UPPER pads: begins, then ends. SAME_LOWER has them the other way round.
pub fn same_pads(sizes: &[i64], kernel: &[i64], strides: &[i64], transposed: bool) -> Vec<i64> {
    let total = |axis: usize| {
        let (size, kernel, stride) = (sizes[axis], kernel[axis], strides[axis].max(1));
        let out = (size + stride - 1) / stride;
        let total =
            if transposed { (size - 1) * stride + kernel - size * stride } else { (out - 1) * stride + kernel - size };
        total.max(0)
    };
    let begins = (0..sizes.len()).map(|axis| total(axis) / 2);
    let ends = (0..sizes.len()).map(|axis| total(axis) - total(axis) / 2);
    begins.chain(ends).collect()
}

#[cfg(test)]
mod tests {
    use crate::prepare::testing::{after, graph};

    #[test]
    fn what_no_window_reaches_is_cut() {
        let before = graph("x: N,1,8,8 -> y\ny = Conv[pads=1,1,1,1 strides=2,2](x, #w:1x1x3x3=1)");
        assert_eq!(after(super::apply, before), "y = Conv[pads = [1, 1, 0, 0], strides = [2, 2]](x, w)");
    }

    #[test]
    fn same_becomes_numbers() {
        for (mode, pads) in [("SAME_UPPER", "[0, 0, 1, 1]"), ("SAME_LOWER", "[1, 1, 0, 0]"), ("VALID", "[0, 0, 0, 0]")]
        {
            let before = graph(&format!("x: N,1,8,8 -> y\ny = Conv[auto_pad={mode} strides=2,2](x, #w:1x1x3x3=1)"));
            assert_eq!(after(super::apply, before), format!("y = Conv[pads = {pads}, strides = [2, 2]](x, w)"));
        }
    }
}
