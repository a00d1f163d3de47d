//! Convolutions that change nothing, where the mesh needs a layer (quantization.md 1.4, 25).

use super::{StepError, edit};
use crate::onnx::{BRAINCHIP, DType, Dim, Graph, Node, Tensor};

/// Most channels of a layer.
const MAX_CHANNELS: usize = 2048;

/// Channels of a 4-D float tensor that an identity convolution can follow.
fn channels(graph: &Graph, tensor: &str) -> Option<usize> {
    let ty = graph.value_type(tensor)?;
    let float = ty.dtype.is_none_or(|dtype| dtype == DType::F32);
    match ty.shape?.as_slice() {
        [_, Dim::Fixed(channels), _, _] if float && *channels <= MAX_CHANNELS => Some(*channels),
        _ => None,
    }
}

/// An identity convolution from `source` to `output`, and its weights.
fn identity(graph: &mut Graph, channels: usize, source: &str, output: &str) -> Node {
    let mut eye = vec![0f32; channels * channels];
    eye.iter_mut().step_by(channels + 1).for_each(|w| *w = 1.0);
    let weights = Tensor::new([channels, channels, 1, 1], &eye);
    let weights = edit::add_constant(graph, &format!("{output}_weights"), weights);
    Node::new("Conv", &[source, &weights], output)
}

/// Puts one behind every Add and Concat of two tensors that no convolution reads: nothing is fused into those.
pub fn behind_merges(graph: &mut Graph) -> Result<bool, StepError> {
    let mut names = edit::Names::default();
    let mut changed = false;
    let mut number = 0;
    while number < graph.nodes.len() {
        let node = &graph.nodes[number];
        let merges = (node.is("Add") || node.is("Concat"))
            && node.inputs.len() == 2
            && node.inputs.iter().all(|name| !graph.initializers.contains_key(name));
        let output = node.output().to_owned();
        let read =
            graph.consumers(&output).iter().any(|&n| matches!(graph.nodes[n].op.as_str(), "Conv" | "ConvTranspose"));
        if let Some(channels) = channels(graph, &output).filter(|_| merges && !read) {
            let between = names.value(graph);
            let mut conv = identity(graph, channels, &between, &output);
            conv.name = names.node(graph, "Conv");
            graph.nodes[number].outputs[0] = between;
            graph.nodes.insert(number + 1, conv);
            number += 1;
            changed = true;
        }
        number += 1;
    }
    Ok(changed)
}

/// The second operand of x + x comes through one: operands must be different tensors.
pub fn different_operands(graph: &mut Graph) -> Result<bool, StepError> {
    let mut changed = false;
    let mut number = 0;
    while number < graph.nodes.len() {
        let node = &graph.nodes[number];
        let same = (node.is("Add") || node.is("Concat")) && node.inputs.len() == 2 && node.inputs[0] == node.inputs[1];
        let source = node.inputs.first().cloned().unwrap_or_default();
        if let Some(channels) = channels(graph, &source).filter(|_| same) {
            let made = format!("{}_identity", node.name);
            let conv = identity(graph, channels, &source, &made);
            graph.nodes[number].inputs[1] = made;
            graph.nodes.insert(number, conv);
            number += 1;
            changed = true;
        }
        number += 1;
    }
    Ok(changed)
}

/// Puts one behind the input layer when several nodes read it.
pub fn behind_input_layer(graph: &mut Graph) -> Result<bool, StepError> {
    let Some(first) = graph.nodes.iter().position(|node| node.is("Conv")) else { return Ok(false) };
    let input = graph.nodes[first].input(0).and_then(|x| channels(graph, x));
    if !matches!(input, Some(1 | 3)) {
        return Ok(false);
    }
    let mut last = first;
    while let Some(next) = edit::only_consumer(graph, graph.nodes[last].output()) {
        let node = &graph.nodes[next];
        let table = node.domain == BRAINCHIP && node.op == "activation";
        let fused = table || ["Relu", "Clip", "MaxPool"].iter().any(|op| node.is(op));
        if !fused {
            break;
        }
        last = next;
    }
    let tensor = graph.nodes[last].output().to_owned();
    let Some(channels) = channels(graph, &tensor).filter(|_| graph.consumers(&tensor).len() > 1) else {
        return Ok(false);
    };
    let made = format!("{tensor}_identity_conv");
    let conv = identity(graph, channels, &tensor, &made);
    edit::redirect(graph, &tensor, &made);
    graph.nodes.insert(last + 1, conv);
    Ok(true)
}

/// A tensor is sent to two layers at most: the last two of more readers get it through one.
pub fn two_readers(graph: &mut Graph) -> Result<bool, StepError> {
    let mut changed = false;
    let mut number = 0;
    while number < graph.nodes.len() {
        let tensor = graph.nodes[number].output().to_owned();
        let readers = graph.consumers(&tensor);
        match channels(graph, &tensor).filter(|_| readers.len() > 2) {
            Some(channels) => {
                let made = format!("{tensor}_identity_conv_{}", readers.len());
                let conv = identity(graph, channels, &tensor, &made);
                for &reader in &readers[readers.len() - 2..] {
                    for input in graph.nodes[reader].inputs.iter_mut().filter(|input| **input == tensor) {
                        input.clone_from(&made);
                    }
                }
                graph.nodes.insert(number + 1, conv);
                changed = true;
            }
            None => number += 1,
        }
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use crate::prepare::testing::{after, graph};

    #[test]
    fn an_add_before_a_relu() {
        let before = graph("x: N,2,4,4 -> y\na = Neg(x)\ns = Add(a, x)\ny = Relu(s)");
        let expected = "a = Neg(x)\nval_0 = Add(a, x)\ns = Conv(val_0, s_weights)\ny = Relu(s)";
        assert_eq!(after(super::behind_merges, before), expected);
    }

    #[test]
    fn a_tensor_added_to_itself() {
        let before = graph("x: N,2,4,4 -> y\ny = Add(x, x)");
        let expected = "y_identity = Conv(x, y_identity_weights)\ny = Add(x, y_identity)";
        assert_eq!(after(super::different_operands, before), expected);
    }

    #[test]
    fn two_readers_of_the_input_layer() {
        let before = graph("x: N,3,4,4 -> y\nc = Conv(x, #w:2x3x1x1=1)\nr = Relu(c)\na = Neg(r)\ny = Add(a, r)");
        let expected = "c = Conv(x, w)\nr = Relu(c)\nr_identity_conv = Conv(r, r_identity_conv_weights)\n\
                        a = Neg(r_identity_conv)\ny = Add(a, r_identity_conv)";
        assert_eq!(after(super::behind_input_layer, before), expected);
    }

    #[test]
    fn four_readers() {
        let before = graph("x: N,2,4,4 -> a,b,c,d\nr = Relu(x)\na = Neg(r)\nb = Abs(r)\nc = Exp(r)\nd = Sqrt(r)");
        let text = after(super::two_readers, before);
        assert!(
            text.contains("r_identity_conv_4 = Conv(r, ") && text.contains("d = Sqrt(r_identity_conv_4)"),
            "{text}"
        );
        assert!(text.contains("b = Abs(r_identity_conv_3)"), "{text}");
    }
}
