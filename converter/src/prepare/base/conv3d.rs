//! Networks over time: 5-D graphs become 4-D ones that take a frame at a time (quantization.md 5.8).

use super::{StepError, edit};
use crate::onnx::{BRAINCHIP, Dim, Graph, Node};

/// Rewrites graphs with a (batch, channels, time, height, width) input; fails as a whole when something mixes times.
pub fn apply(graph: &mut Graph) -> Result<bool, StepError> {
    let Some(shape) = graph.inputs.first().and_then(|input| input.ty.shape.clone()).filter(|s| s.len() == 5) else {
        return Ok(false);
    };
    let mut names = edit::Names::default();
    for number in 0..graph.nodes.len() {
        let node = &graph.nodes[number];
        match node.op.as_str() {
            "Conv" => conv(graph, number, &mut names)?,
            "Relu" | "Clip" | "LeakyRelu" | "Sigmoid" | "HardSwish" | "Identity" | "Cast" => {}
            op => return Err(StepError(format!("node '{}' ({op}) in a network over time", node.name))),
        }
    }
    let flat: Vec<Dim> = [&shape[..2], &shape[3..]].concat();
    graph.inputs[0].ty.shape = Some(flat);
    for output in &mut graph.outputs {
        output.ty.shape = None;
    }
    Ok(true)
}

fn conv(graph: &mut Graph, number: usize, names: &mut edit::Names) -> Result<(), StepError> {
    let node = &graph.nodes[number];
    let bad = |reason: &str| StepError(format!("node '{}': {reason}", node.name));
    let weights = node.input(1).and_then(|name| graph.initializers.get(name)).ok_or_else(|| bad("computed weights"))?;
    let &[filters, per_group, frames, height, width] = weights.dims() else {
        return Err(bad("a kernel that does not have 5 dimensions"));
    };
    let (strides, dilations, pads) =
        (edit::ints(node, "strides", 3, 1), edit::ints(node, "dilations", 3, 1), edit::ints(node, "pads", 6, 0));
    if strides.len() != 3 || dilations.len() != 3 || pads.len() != 6 || dilations[0] != 1 || strides[0] != 1 {
        return Err(bad("strides, dilations or pads over time"));
    }
    let group = node.int("group").unwrap_or(1);
    if frames == 1 {
        if pads[0] != 0 || pads[3] != 0 {
            return Err(bad("padding in time without a kernel in time"));
        }
        let flat = weights.reshaped([filters, per_group, height, width]).ok_or_else(|| bad("weights"))?;
        edit::replace_constant(graph, number, 1, flat);
        names.node(graph, "Squeeze"); // the reference counts a node more
        let name = names.node(graph, "Conv");
        let node = &mut graph.nodes[number];
        node.name = name;
        for (attribute, values) in [("strides", strides), ("dilations", dilations)] {
            edit::set_ints(node, attribute, values[1..].to_vec());
        }
        edit::set_ints(node, "pads", vec![pads[1], pads[2], pads[4], pads[5]]);
        if node.ints("kernel_shape").is_some() {
            edit::set_ints(node, "kernel_shape", vec![height as i64, width as i64]);
        }
        return Ok(());
    }
    let depthwise = group > 1 && group as usize == filters && per_group == 1;
    let causal = pads == [frames as i64 - 1, 0, 0, 0, 0, 0];
    let plain = (height, width) == (1, 1) && strides == [1, 1, 1] && dilations == [1, 1, 1];
    if !causal || !plain || (group != 1 && !depthwise) {
        return Err(bad("a kernel in time must be (T, 1, 1), padded with T - 1 earlier frames, group 1 or depthwise"));
    }
    let flat = weights.reshaped([filters, per_group * frames, 1, 1]).ok_or_else(|| bad("weights"))?;
    let bias = node.input(2).and_then(|name| graph.initializers.get(name)).cloned();
    let (source, output, op) = (
        node.inputs[0].clone(),
        node.output().to_owned(),
        if depthwise { "DepthwiseBufferTempConv" } else { "BufferTempConv" },
    );
    edit::replace_constant(graph, number, 1, flat);
    if let Some(bias) = bias.filter(|_| depthwise) {
        let column = bias.reshaped([filters, 1, 1]).unwrap_or(bias);
        edit::replace_constant(graph, number, 2, column);
    }
    let inputs: Vec<&str> = graph.nodes[number].inputs.iter().map(String::as_str).collect();
    let node = Node { domain: BRAINCHIP.to_owned(), ..Node::new(op, &inputs, &output) };
    graph.nodes[number] = node
        .with("fifo_name", format!("{source}_fifo"))
        .with("fifo_size", frames as i64)
        .with("model_id", graph.name.clone());
    graph.opsets.insert(BRAINCHIP.to_owned(), 1);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::prepare::testing::{graph, text};

    #[test]
    fn space_and_time_come_apart() {
        let mut g = graph(
            "x: N,2,1,8,8 -> y\na = Conv[pads=0,1,1,0,1,1 strides=1,2,2](x, #w:6x2x1x3x3=1)\n\
             y = Conv[pads=2,0,0,0,0,0](a, #t:6x6x3x1x1=1, #b:6=0)",
        );
        assert!(super::apply(&mut g).unwrap());
        crate::prepare::infer(&mut g).unwrap();
        let expected = "a = Conv[dilations = [1, 1], pads = [1, 1, 1, 1], strides = [2, 2]](x, w)\n\
                        y = BufferTempConv[fifo_name = 'a_fifo', fifo_size = 3, model_id = 'test'](a, t, b)";
        assert_eq!(text(&g), expected);
        assert_eq!(g.initializers["t"].dims(), [6, 18, 1, 1]);
        assert_eq!(g.outputs[0].ty.without_batch(), Some(vec![6, 4, 4]));
    }

    #[test]
    fn pooling_over_time_is_refused() {
        let mut g = graph("x: N,2,4,8,8 -> y\ny = MaxPool[kernel_shape=2,2,2](x)");
        assert!(super::apply(&mut g).is_err());
    }
}
