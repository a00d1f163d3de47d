//! Running a float graph over samples and keeping the extremes of all its tensors.

use ndarray::{ArrayViewD, Axis};

use super::{CalibrateError, FloatNetwork, Range, Ranges};
use crate::onnx::Graph;

/// Observes the ranges of all float tensors of a prepared graph: the extremes over all samples, per channel (axis 1) for
/// tensors of more than two dimensions (quantization.md 3.2).
///
/// `samples` has the batch first and the layout of the graph's input. `progress` is told how many samples are done, and
/// of how many.
pub fn observe(
    graph: &Graph,
    samples: ArrayViewD<f32>,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Ranges, CalibrateError> {
    let input = &graph.inputs[0];
    let expected = input.ty.without_batch().unwrap_or_default();
    let count = samples.shape().first().copied().unwrap_or(0);
    if samples.ndim() == 0 || samples.shape()[1..].iter().product::<usize>() != expected.iter().product::<usize>() {
        let (input, found) = (input.name.clone(), samples.shape().to_vec());
        return Err(CalibrateError::Shape { input, expected, found });
    }
    if count == 0 {
        return Err(CalibrateError::Empty);
    }
    let mut network = FloatNetwork::new(graph)?;
    let mut ranges = Ranges::new();
    progress(0, count);
    for (number, sample) in samples.axis_iter(Axis(0)).enumerate() {
        let values: Vec<f32> = sample.iter().copied().collect();
        if values.iter().any(|v| !v.is_finite()) {
            return Err(CalibrateError::NotFinite { sample: number });
        }
        for tensor in network.run(values)? {
            if let Some(range) = extremes(&tensor.dims, &tensor.values) {
                ranges.merge(&tensor.name, range);
            }
        }
        progress(number + 1, count);
    }
    Ok(ranges)
}

/// Smallest and largest value, per channel for tensors of more than two dimensions. NaN is passed over.
fn extremes(shape: &[usize], values: &[f32]) -> Option<Range> {
    let (channels, inner) = match shape {
        [_, channels, inner @ ..] if !inner.is_empty() => (*channels, inner.iter().product::<usize>()),
        _ => (1, values.len()),
    };
    if values.is_empty() {
        return None;
    }
    let mut range = Range { min: vec![f32::INFINITY; channels], max: vec![f32::NEG_INFINITY; channels] };
    for (block, values) in values.chunks_exact(inner).enumerate() {
        let channel = block % channels;
        let (lo, hi) = values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(lo, hi), &v| (lo.min(v), hi.max(v)));
        range.min[channel] = range.min[channel].min(lo);
        range.max[channel] = range.max[channel].max(hi);
    }
    Some(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_have_their_own_extremes() {
        let range = extremes(&[2, 2, 1, 2], &[1.0, 2.0, -3.0, 0.5, f32::NAN, 5.0, 0.0, 1.0]).unwrap();
        assert_eq!((range.min, range.max), (vec![1.0, -3.0], vec![5.0, 1.0]));
        let flat = extremes(&[1, 3], &[1.0, -2.0, 0.0]).unwrap();
        assert_eq!((flat.min, flat.max), (vec![-2.0], vec![1.0]));
    }
}
