//! Running a float graph over samples and keeping the extremes of all its tensors.

use ndarray::{ArrayViewD, Axis};
use rten::{Model, ModelOptions, NodeId, Value, ValueOrView};
use rten_tensor::prelude::*;

use super::plain::{Memory, Plain, plain};
use super::{CalibrateError, Range, Ranges};
use crate::onnx::{DType, Graph};

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
    let mut engine = Engine::new(graph)?;
    let mut ranges = Ranges::new();
    progress(0, count);
    for (number, sample) in samples.axis_iter(Axis(0)).enumerate() {
        let values: Vec<f32> = sample.iter().copied().collect();
        if values.iter().any(|v| !v.is_finite()) {
            return Err(CalibrateError::NotFinite { sample: number });
        }
        for (name, range) in engine.run(&expected, values)? {
            ranges.merge(&name, range);
        }
        progress(number + 1, count);
    }
    Ok(ranges)
}

/// A loaded graph and what it remembers between samples.
struct Engine {
    model: Model,
    input: NodeId,
    /// Observed tensors.
    names: Vec<String>,
    ids: Vec<NodeId>,
    memories: Vec<(Memory, Vec<NodeId>, Vec<Vec<f32>>)>,
}

impl Engine {
    fn new(prepared: &Graph) -> Result<Self, CalibrateError> {
        let Plain { graph, memories } = plain(prepared)?;
        let fail = |action| move |reason: String| CalibrateError::Runtime { action, reason };
        let bytes = graph.to_bytes()?;
        let model = ModelOptions::with_all_ops().enable_optimization(false).load(bytes);
        let model = model.map_err(|e| fail("load")(e.to_string()))?;
        let id = |name: &str| model.node_id(name).map_err(|e| fail("find a tensor of")(e.to_string()));
        let input = id(&graph.inputs[0].name)?;
        let names = observed(prepared, &graph);
        let ids = names.iter().map(|name| id(name)).collect::<Result<_, _>>()?;
        let memories = memories
            .into_iter()
            .map(|memory| {
                let ids = memory.inputs.iter().map(|name| id(name)).collect::<Result<Vec<_>, _>>()?;
                let zeros = vec![vec![0.0; memory.shape.iter().product()]; ids.len()];
                Ok((memory, ids, zeros))
            })
            .collect::<Result<_, CalibrateError>>()?;
        Ok(Self { input, names, ids, memories, model })
    }

    /// Runs one sample and gives the extremes of all tensors.
    fn run(&mut self, shape: &[usize], sample: Vec<f32>) -> Result<Vec<(String, Range)>, CalibrateError> {
        let fail = |reason: String| CalibrateError::Runtime { action: "run", reason };
        let value = |shape: &[usize], values: Vec<f32>| {
            let dims: Vec<usize> = [1].iter().chain(shape).copied().collect();
            Value::from_shape(dims, values).map_err(|e| fail(e.to_string()))
        };
        let mut inputs: Vec<(NodeId, ValueOrView)> = vec![(self.input, value(shape, sample)?.into())];
        for (memory, ids, frames) in &self.memories {
            for (id, frame) in ids.iter().zip(frames) {
                inputs.push((*id, value(&memory.shape, frame.clone())?.into()));
            }
        }
        let outputs = self.model.run(inputs, &self.ids, None).map_err(|e| fail(e.to_string()))?;
        let mut ranges = Vec::with_capacity(outputs.len());
        for (name, output) in self.names.iter().zip(outputs) {
            let Some(tensor) = output.into_tensor::<f32>() else { continue };
            let shape = tensor.shape().to_vec();
            let values = tensor.into_data();
            for (_, _, frames) in self.memories.iter_mut().filter(|(memory, _, _)| memory.tensor == *name) {
                frames.rotate_right(1);
                if let Some(latest) = frames.first_mut() {
                    latest.clone_from(&values);
                }
            }
            if let Some(range) = extremes(&shape, &values) {
                ranges.push((name.clone(), range));
            }
        }
        Ok(ranges)
    }
}

/// Names of the float tensors to observe: those of the prepared graph, not those of its spelled-out form.
fn observed(prepared: &Graph, plain: &Graph) -> Vec<String> {
    let float = |name: &String| {
        let ty = prepared.value_type(name).unwrap_or_default();
        ty.dtype.is_none_or(|dtype| dtype == DType::F32) && ty.shape.is_none_or(|shape| !shape.is_empty())
    };
    let made = prepared.nodes.iter().flat_map(|node| &node.outputs).filter(|name| float(name));
    let input = &plain.inputs[0].name;
    [input].into_iter().chain(made.filter(|name| *name != input)).cloned().collect()
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
