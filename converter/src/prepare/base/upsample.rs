//! Nearest-neighbour upsampling by 2 is a depthwise ConvTranspose (quantization.md 1.4, 6).

use super::{StepError, edit};
use crate::onnx::{Dim, Graph, Tensor};

/// Kernel that copies a pixel to four.
const KERNEL: [f32; 9] = [1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0];

/// Rewrites all of them.
pub fn apply(graph: &mut Graph) -> Result<bool, StepError> {
    let mut changed = false;
    for number in 0..graph.nodes.len() {
        let Some(channels) = doubled_channels(graph, number) else { continue };
        let source = graph.nodes[number].inputs[0].clone();
        let kernel = Tensor::new([channels, 1, 3, 3], &KERNEL.repeat(channels));
        let weights = edit::add_constant(graph, &format!("{source}_weights"), kernel);
        let node = &mut graph.nodes[number];
        node.op = "ConvTranspose".to_owned();
        node.inputs = vec![source, weights];
        node.attributes.clear();
        node.attributes.insert("group".into(), (channels as i64).into());
        edit::set_ints(node, "pads", vec![0, 0, 1, 1]);
        edit::set_ints(node, "strides", vec![2, 2]);
        changed = true;
    }
    Ok(changed)
}

/// Number of channels of what a node doubles in height and width, if it does.
fn doubled_channels(graph: &Graph, number: usize) -> Option<usize> {
    let node = &graph.nodes[number];
    let text = |name: &str, value: &str| node.string(name) == Some(value);
    let nearest = node.string("mode").unwrap_or("nearest") == "nearest";
    let plain = text("coordinate_transformation_mode", "asymmetric") && text("nearest_mode", "floor");
    if !node.is("Resize") || node.inputs.len() != 3 || node.input(1).is_some() || !nearest || !plain {
        return None;
    }
    let scales = edit::floats(graph, node.input(2)?)?;
    let scales: Vec<i64> = scales.iter().map(|&s| s as i64).collect();
    let dims = edit::dims(graph, node.input(0)?)?;
    (scales == [1, 1, 2, 2] && dims.len() == 4).then(|| Dim::fixed(&dims[1]))?
}

#[cfg(test)]
mod tests {
    use crate::prepare::testing::{after, graph};

    const MODE: &str = "coordinate_transformation_mode=asymmetric mode=nearest nearest_mode=floor";

    #[test]
    fn doubling_is_a_convolution() {
        let before = graph(&format!("x: N,2,4,4 -> y\nr = Relu(x)\ny = Resize[{MODE}](r, , #s:4=1,1,2,2)"));
        let expected = "r = Relu(x)\ny = ConvTranspose[group = 2, pads = [0, 0, 1, 1], strides = [2, 2]](r, r_weights)";
        assert_eq!(after(super::apply, before), expected);
    }

    #[test]
    fn tripling_stays() {
        let before = graph(&format!("x: N,2,4,4 -> y\ny = Resize[{MODE}](x, , #s:4=1,1,3,3)"));
        assert!(after(super::apply, before).contains("Resize"));
    }
}
