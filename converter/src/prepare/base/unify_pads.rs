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
            // What has another number of pads is refused by name later.
            let mut pads = node.ints("pads").filter(|pads| pads.len() == 2 * spatial)?.to_vec();
            let output = edit::dims(graph, node.output())?;
            for axis in 0..spatial {
                let reach = (output.get(axis + 2)?.fixed()? as i64 - 1).checked_mul(strides[axis])?;
                let padded = sizes[axis].checked_add(pads[axis])?;
                pads[axis + spatial] = reach.checked_sub(padded.checked_sub(kernel[axis])?)?;
            }
            pads.iter().all(|&p| p >= 0).then_some(pads)
        }
    }
}

/// SAME_UPPER pads: begins, then ends. SAME_LOWER has them the other way round.
pub fn same_pads(sizes: &[i64], kernel: &[i64], strides: &[i64], transposed: bool) -> Vec<i64> {
    let total = |axis: usize| {
        let (size, kernel, stride) = (sizes[axis], kernel[axis], strides[axis].max(1));
        // Attributes may hold any number; what does not fit is refused by name later.
        let rest = if transposed { stride } else { size.saturating_sub(size.saturating_sub(1) / stride * stride) };
        kernel.saturating_sub(rest).max(0)
    };
    let begins = (0..sizes.len()).map(|axis| total(axis) / 2);
    let ends = (0..sizes.len()).map(|axis| total(axis) - total(axis) / 2);
    begins.chain(ends).collect()
}

#[cfg(test)]
mod tests {
    use crate::prepare::testing::{after, graph, text};

    #[test]
    fn what_no_window_reaches_is_cut() {
        let before = graph("x: N,1,8,8 -> y\ny = Conv[pads=1,1,1,1 strides=2,2](x, #w:1x1x3x3=1)");
        assert_eq!(after(super::apply, before), "y = Conv[pads = [1, 1, 0, 0], strides = [2, 2]](x, w)");
    }

    /// Attributes of a damaged file: left as they are, without a panic.
    #[test]
    fn odd_attributes_are_left_alone() {
        let cases: [(&str, &[i64]); 6] = [
            ("pads", &[]),
            ("pads", &[1]),
            ("pads", &[1; 6]),
            ("pads", &[i64::MAX, 1, 1, 1]),
            ("strides", &[i64::MAX, 1]),
            ("kernel_shape", &[i64::MIN, 3]),
        ];
        for (name, values) in cases {
            let mut damaged = graph("x: N,1,8,8 -> y\ny = Conv[pads=1,1,1,1](x, #w:1x1x3x3=1)");
            super::edit::set_ints(&mut damaged.nodes[0], name, values.to_vec());
            let unchanged = text(&damaged);
            assert_eq!(after(super::apply, damaged), unchanged, "{name} {values:?}");
        }
        let huge = super::same_pads(&[8, 8], &[i64::MAX, 3], &[i64::MAX, i64::MIN], true);
        assert_eq!(huge.len(), 4);
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
