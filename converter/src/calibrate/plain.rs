//! A prepared graph in operators a float runtime knows.
//!
//! Preparation makes operators of its own (quantization.md 1.4); to run, they are spelled out. Convolutions over a FIFO
//! of frames read earlier frames from additional inputs, which whoever runs the graph feeds.

use super::CalibrateError;
use crate::onnx::{BRAINCHIP, DType, Graph, Node, Nodes, Tensor, Value, ValueType};

/// A tensor whose earlier values are inputs: `inputs[0]` is the frame before this one, and so on.
pub struct Memory {
    /// The tensor that is remembered.
    pub tensor: String,
    /// Inputs that take its earlier values, latest first.
    pub inputs: Vec<String>,
    /// Dimensions of a frame without the batch.
    pub shape: Vec<usize>,
}

/// A graph a float runtime can run.
pub struct Plain {
    /// The graph.
    pub graph: Graph,
    /// What must be fed from frame to frame.
    pub memories: Vec<Memory>,
}

/// Spells out the operators of our own. The input becomes float: a leading Cast is left away.
pub fn plain(graph: &Graph) -> Result<Plain, CalibrateError> {
    let mut graph = graph.clone();
    let feeds_input = |node: &Node, input: &Value| node.is("Cast") && node.inputs.first() == Some(&input.name);
    let cast = graph.nodes.iter().position(|node| graph.inputs.iter().any(|input| feeds_input(node, input)));
    if let Some(cast) = cast {
        let node = graph.nodes.remove(cast);
        let ty = ValueType { dtype: Some(DType::F32), shape: graph.inputs[0].ty.shape.clone() };
        graph.inputs[0] = Value { name: node.output().to_owned(), ty };
    }
    spelled_out(&graph)
}

/// Spells out the operators of our own, and leaves the inputs as they are.
pub fn spelled_out(graph: &Graph) -> Result<Plain, CalibrateError> {
    let mut out = Graph { nodes: Nodes::default(), functions: Vec::new(), ..graph.clone() };
    out.opsets.shift_remove(BRAINCHIP);
    let mut memories: Vec<Memory> = Vec::new();
    for node in &graph.nodes {
        match (node.domain.as_str(), node.op.as_str()) {
            ("", _) => out.nodes.push(node.clone()),
            (_, "activation") => activation(&mut out, node)?,
            (_, "BRNPad") => pad(&mut out, node)?,
            (_, "BufferTempConv" | "DepthwiseBufferTempConv") => temporal(&mut out, graph, node, &mut memories)?,
            _ => {
                let reason = format!("node '{}' has operator {}:{}", node.name, node.domain, node.op);
                return Err(CalibrateError::Runtime { action: "take", reason });
            }
        }
    }
    for node in &mut out.nodes {
        let kernel = node.input(1).and_then(|name| out.initializers.get(name));
        if let Some(spatial) = kernel.and_then(|kernel| kernel.dims().len().checked_sub(2)) {
            spell_out(node, spatial);
        }
    }
    Ok(Plain { graph: out, memories })
}

/// Gives a convolution the attributes that ONNX lets one leave out; the runtime does not.
fn spell_out(node: &mut Node, spatial: usize) {
    if node.is("Conv") || node.is("ConvTranspose") {
        let defaults = [("strides", vec![1; spatial]), ("dilations", vec![1; spatial]), ("pads", vec![0; 2 * spatial])];
        let automatic = node.string("auto_pad").is_some_and(|mode| mode != "NOTSET");
        for (name, values) in defaults.into_iter().filter(|(name, _)| *name != "pads" || !automatic) {
            node.attributes.entry(name.to_owned()).or_insert(values.into());
        }
    }
}

fn activation(out: &mut Graph, node: &Node) -> Result<(), CalibrateError> {
    let (x, y) = (node.inputs[0].as_str(), node.output());
    match node.string("main_op_type").unwrap_or_default() {
        "Swish" => {
            let sigmoid = format!("{y}/sigmoid");
            out.nodes.push(Node::new("Sigmoid", &[x], &sigmoid));
            out.nodes.push(Node::new("Mul", &[x, &sigmoid], y));
        }
        "LeakyRelu" => {
            out.nodes.push(Node::new("LeakyRelu", &[x], y).with("alpha", node.float("alpha").unwrap_or(0.01)));
        }
        op @ ("Gelu" | "HardSwish") => out.nodes.push(Node::new(op, &[x], y)),
        other => {
            let reason = format!("node '{}' has the activation '{other}'", node.name);
            return Err(CalibrateError::Runtime { action: "take", reason });
        }
    }
    Ok(())
}

/// Padding with one value per channel: subtract it, pad with 0, add it.
fn pad(out: &mut Graph, node: &Node) -> Result<(), CalibrateError> {
    let y = node.output().to_owned();
    let Some(values) = node.input(2).and_then(|name| out.initializers.get(name)).cloned() else {
        let reason = format!("node '{}' pads with values that are not constant", node.name);
        return Err(CalibrateError::Runtime { action: "take", reason });
    };
    let column = values.reshaped([1, values.len(), 1, 1]).unwrap_or(values);
    let (value, low, padded) = (format!("{y}/value"), format!("{y}/low"), format!("{y}/padded"));
    out.initializers.insert(value.clone(), column);
    out.nodes.push(Node::new("Sub", &[&node.inputs[0], &value], &low));
    out.nodes.push(Node::new("Pad", &[&low, &node.inputs[1]], &padded).with("mode", "constant"));
    out.nodes.push(Node::new("Add", &[&padded, &value], &y));
    Ok(())
}

/// A convolution over the last T frames: a sum of T products, each of one frame.
fn temporal(out: &mut Graph, graph: &Graph, node: &Node, memories: &mut Vec<Memory>) -> Result<(), CalibrateError> {
    let refuse = |reason: String| CalibrateError::Runtime { action: "take", reason };
    let (x, y) = (node.inputs[0].clone(), node.output().to_owned());
    let weights = node.input(1).and_then(|name| graph.initializers.get(name));
    let shape = graph.value_type(&x).and_then(|ty| ty.without_batch());
    let (Some(weights), Some(shape)) = (weights, shape) else {
        return Err(refuse(format!("node '{}' has unknown weights or shape", node.name)));
    };
    let depthwise = node.op.starts_with("Depthwise");
    let channels = shape.first().copied().unwrap_or(0);
    let rows = weights.dims().first().copied().unwrap_or(0);
    let frames = weights.dims().get(1).copied().unwrap_or(0) / if depthwise { 1 } else { channels.max(1) };
    let values = weights.values::<f32>(&node.inputs[1])?;
    let inputs: Vec<String> = (1..frames).map(|age| format!("{y}/frame-{age}")).collect();
    let full = graph.value_type(&x).unwrap_or_default();
    out.inputs.extend(inputs.iter().map(|name| Value { name: name.clone(), ty: full.clone() }));
    let mut sum: Option<String> = None;
    for age in (0..frames).rev() {
        let slot = frames - 1 - age; // oldest first
        let part: Vec<f32> = values.iter().copied().skip(slot).step_by(frames).collect();
        let (kernel, product) = (format!("{y}/kernel-{age}"), format!("{y}/product-{age}"));
        let dims = if depthwise { [rows, 1, 1, 1] } else { [rows, channels, 1, 1] };
        out.initializers.insert(kernel.clone(), Tensor::new(dims, &part));
        let frame = if age == 0 { &x } else { &inputs[age - 1] };
        let group = if depthwise { channels as i64 } else { 1 };
        out.nodes.push(Node::new("Conv", &[frame, &kernel], &product).with("group", group));
        sum = Some(match sum {
            None => product,
            Some(before) => {
                let total = format!("{y}/sum-{age}");
                out.nodes.push(Node::new("Add", &[&before, &product], &total));
                total
            }
        });
    }
    let Some(sum) = sum else { return Err(refuse(format!("node '{}' has no frames", node.name))) };
    match node.input(2).and_then(|name| graph.initializers.get(name)) {
        Some(bias) => {
            let column = bias.reshaped([1, bias.len(), 1, 1]).unwrap_or_else(|| bias.clone());
            out.initializers.insert(format!("{y}/bias"), column);
            out.nodes.push(Node::new("Add", &[&sum, &format!("{y}/bias")], &y));
        }
        None => out.nodes.push(Node::new("Identity", &[&sum], &y)),
    }
    memories.push(Memory { tensor: x, inputs, shape });
    Ok(())
}
