//! How close the quantized network is to the float one, as the manifest of the cases measures it.

use akida_converter::calibrate::FloatNetwork;
use akida_converter::onnx::{BRAINCHIP, Graph, Value};
use ndarray::{ArrayD, Axis, IxDyn};

use crate::Failed;

/// Of the first output, over all samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Agreement {
    /// Mean of the cosines of the samples.
    pub cosine: f64,
    /// Signal to quantization noise, over all values.
    pub sqnr_db: f64,
    /// Share of positions whose largest channel is the same.
    pub argmax: f64,
}

/// Compares outputs, batch first and channels second.
pub fn agreement(float: &ArrayD<f32>, quantized: &ArrayD<f32>) -> Agreement {
    assert_eq!(float.shape(), quantized.shape());
    let (mut cosines, mut signal, mut noise) = (0.0, 0.0, 0.0);
    for (a, b) in float.outer_iter().zip(quantized.outer_iter()) {
        let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
        for (&a, &b) in a.iter().zip(&b) {
            let (a, b) = (f64::from(a), f64::from(b));
            (ab, aa, bb) = (ab + a * b, aa + a * a, bb + b * b);
            noise += (a - b) * (a - b);
        }
        signal += aa;
        cosines += if aa * bb > 0.0 { ab / (aa * bb).sqrt() } else { f64::from(aa == bb) };
    }
    let (mut same, mut all) = (0usize, 0usize);
    for (a, b) in float.lanes(Axis(1)).into_iter().zip(quantized.lanes(Axis(1))) {
        same += usize::from(largest(a) == largest(b));
        all += 1;
    }
    Agreement {
        cosine: cosines / float.len_of(Axis(0)) as f64,
        sqnr_db: 10.0 * (signal / noise).log10(),
        argmax: same as f64 / all as f64,
    }
}

/// The first of the largest values.
fn largest(values: ndarray::ArrayView1<f32>) -> usize {
    values.iter().enumerate().fold((0, f32::NEG_INFINITY), |best, (i, &v)| if v > best.1 { (i, v) } else { best }).0
}

/// The network behind the dequantizer, where operators stayed float.
pub fn tail(quantized: &Graph) -> Result<Option<FloatNetwork>, Failed> {
    let (integer, float): (Vec<_>, Vec<_>) = quantized.nodes.iter().cloned().partition(|n| n.domain == BRAINCHIP);
    if float.is_empty() {
        return Ok(None);
    }
    let made = integer.iter().filter(|n| n.op.starts_with("Dequantizer")).flat_map(|n| &n.outputs);
    let read: Vec<&String> = made.filter(|name| float.iter().any(|n| n.inputs.contains(name))).collect();
    let [input] = read[..] else { return Err(format!("float operators read {} integer tensors", read.len()).into()) };
    let ty = quantized.value_type(input).unwrap_or_default();
    let graph = Graph {
        inputs: vec![Value { name: input.clone(), ty }],
        functions: Vec::new(),
        nodes: float.into(),
        ..quantized.clone()
    };
    Ok(Some(FloatNetwork::new(&graph)?))
}

/// Runs the tail over a batch and gives its output `name`.
pub fn run_tail(tail: &mut FloatNetwork, batch: &ArrayD<f32>, name: &str) -> Result<ArrayD<f32>, Failed> {
    let mut rows = Vec::new();
    let mut dims = Vec::new();
    for sample in batch.outer_iter() {
        let tensors = tail.run(sample.iter().copied().collect())?;
        let output = tensors.into_iter().find(|t| t.name == name).ok_or_else(|| format!("no output '{name}'"))?;
        dims = output.dims;
        rows.extend(output.values);
    }
    dims[0] = batch.len_of(Axis(0));
    Ok(ArrayD::from_shape_vec(IxDyn(&dims), rows)?)
}
