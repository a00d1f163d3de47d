//! BatchNormalization right after Conv goes into the weights.

use ndarray::ArrayD;

use crate::onnx::Graph;
use crate::prepare::{StepError, edit};

/// Scale and offset of a BatchNormalization node, per channel, in `f32` and in this order: scale = gamma /
/// sqrt(variance + epsilon), then (x - mean) * scale + beta.
pub struct Affine {
    /// Scale.
    pub scale: Vec<f32>,
    mean: Vec<f32>,
    beta: Vec<f32>,
}

impl Affine {
    /// Of node `number`; None unless all its parameters are constant.
    pub fn of(graph: &Graph, number: usize) -> Option<Self> {
        let node = &graph.nodes[number];
        let [gamma, beta, mean, variance] = [1, 2, 3, 4].map(|i| edit::floats(graph, node.input(i)?));
        let (gamma, beta, mean, variance) = (gamma?, beta?, mean?, variance?);
        if [beta.len(), mean.len(), variance.len()].iter().any(|&len| len != gamma.len()) {
            return None;
        }
        let epsilon = node.float("epsilon").unwrap_or(1e-5);
        let scale = gamma.iter().zip(&variance).map(|(g, v)| g / (v + epsilon).sqrt()).collect();
        Some(Self { scale, mean, beta })
    }

    /// The bias after folding.
    pub fn bias(&self, bias: Option<&[f32]>) -> Vec<f32> {
        let one = |c: usize| (bias.map_or(0.0, |b| b[c]) - self.mean[c]) * self.scale[c] + self.beta[c];
        (0..self.scale.len()).map(one).collect()
    }
}

/// A kernel with each slice along `axis` multiplied by its factor.
pub fn scale_axis(kernel: &ArrayD<f32>, axis: usize, factors: &[f32]) -> Option<ArrayD<f32>> {
    if kernel.shape().get(axis) != Some(&factors.len()) {
        return None;
    }
    let mut scaled = kernel.clone();
    for (mut slice, factor) in scaled.axis_iter_mut(ndarray::Axis(axis)).zip(factors) {
        slice.mapv_inplace(|w| w * factor);
    }
    Some(scaled)
}

/// Fuses them all.
pub fn apply(graph: &mut Graph) -> Result<bool, StepError> {
    let mut changed = false;
    let mut number = 0;
    while number < graph.nodes.len() {
        if graph.nodes[number].is("BatchNormalization") && fuse(graph, number).is_some() {
            changed = true;
        } else {
            number += 1;
        }
    }
    Ok(changed)
}

fn fuse(graph: &mut Graph, number: usize) -> Option<()> {
    let conv = edit::only_producer(graph, number, 0).filter(|&n| graph.nodes[n].is("Conv"))?;
    let affine = Affine::of(graph, number)?;
    let weights = graph.nodes[conv].input(1)?.to_owned();
    let kernel = scale_axis(&edit::array(graph, &weights)?, 0, &affine.scale)?;
    let bias = match graph.nodes[conv].input(2) {
        Some(name) => Some(edit::floats(graph, name).filter(|b| b.len() == affine.scale.len())?),
        None => None,
    };
    let bias = edit::tensor(&ArrayD::from(ndarray::Array1::from(affine.bias(bias.as_deref())).into_dyn()));
    let beta = graph.nodes[number].inputs[2].clone();
    let weights = edit::add_constant(graph, &format!("ConvBnFusion_W_{weights}"), edit::tensor(&kernel));
    let bias = edit::add_constant(graph, &format!("ConvBnFusion_BN_B_{beta}"), bias);
    let output = graph.nodes[number].output().to_owned();
    let node = &mut graph.nodes[conv];
    node.inputs.truncate(2);
    node.inputs[1] = weights;
    node.inputs.push(bias);
    node.outputs[0] = output;
    graph.nodes.remove(number);
    Some(())
}

#[cfg(test)]
mod tests {
    use crate::prepare::testing::{constant, graph, text};

    #[test]
    fn weights_and_bias_take_over() {
        let mut g = graph(
            "x: N,1,4,4 -> y\nc = Conv(x, #w:2x1x1x1=3,5)\n\
             y = BatchNormalization[epsilon=0.0](c, #g:2=2,4, #b:2=1,0, #m:2=10,1, #v:2=4,16)",
        );
        assert!(super::apply(&mut g).unwrap());
        assert_eq!(text(&g), "y = Conv(x, ConvBnFusion_W_w, ConvBnFusion_BN_B_b)");
        assert_eq!(constant(&g, "ConvBnFusion_W_w"), [3.0, 5.0]);
        assert_eq!(constant(&g, "ConvBnFusion_BN_B_b"), [-9.0, -1.0]);
    }

    #[test]
    fn a_conv_that_is_read_twice_stays() {
        let mut g = graph(
            "x: N,1,4,4 -> y,z\nc = Conv(x, #w:1x1x1x1=3)\n\
             y = BatchNormalization(c, #g:1=2, #b:1=1, #m:1=10, #v:1=4)\nz = Relu(c)",
        );
        assert!(!super::apply(&mut g).unwrap());
    }
}
