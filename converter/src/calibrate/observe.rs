//! Running a float graph over samples and keeping the extremes of all its tensors.

use std::panic::resume_unwind;
use std::thread::available_parallelism;

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
    let network = FloatNetwork::new(graph)?;
    progress(0, count);
    let all = available_parallelism().map_or(1, usize::from).min(count);
    let mut workers: Vec<FloatNetwork> = (1..all).filter_map(|_| network.twin()).collect();
    // Alone it computes on all threads.
    workers.push(if workers.is_empty() { network } else { network.twin().unwrap_or(network) });
    let (hand, numbers) = crossbeam_channel::unbounded::<usize>();
    (0..count).for_each(|number| hand.send(number).unwrap_or_default());
    drop(hand);
    let (tell, told) = crossbeam_channel::unbounded();
    let parts = std::thread::scope(|scope| {
        let spawn = |mut worker: FloatNetwork| {
            let (numbers, tell, samples) = (numbers.clone(), tell.clone(), samples.view());
            scope.spawn(move || {
                let mut ranges = Ranges::new();
                for number in numbers {
                    // The first sample that fails is the one that is told: those before it were handed out before it.
                    see(&mut worker, samples.index_axis(Axis(0), number), number, &mut ranges)
                        .map_err(|e| (number, e))?;
                    tell.send(()).unwrap_or_default();
                }
                Ok::<_, (usize, CalibrateError)>(ranges)
            })
        };
        let workers: Vec<_> = workers.into_iter().map(spawn).collect();
        drop(tell);
        told.iter().enumerate().for_each(|(done, ())| progress(done + 1, count));
        workers.into_iter().map(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic))).collect::<Vec<_>>()
    });
    let mut ranges = Ranges::new();
    let mut failed: Option<(usize, CalibrateError)> = None;
    for part in parts {
        match part {
            Ok(part) => part.iter().for_each(|(name, range)| ranges.merge(name, range.clone())),
            Err(error) if failed.as_ref().is_none_or(|first| error.0 < first.0) => failed = Some(error),
            Err(_) => {}
        }
    }
    failed.map_or(Ok(ranges), |(_, error)| Err(error))
}

/// Runs one sample and widens the ranges.
fn see(
    network: &mut FloatNetwork,
    sample: ArrayViewD<f32>,
    number: usize,
    ranges: &mut Ranges,
) -> Result<(), CalibrateError> {
    let values: Vec<f32> = sample.iter().copied().collect();
    if values.iter().any(|v| !v.is_finite()) {
        return Err(CalibrateError::NotFinite { sample: number });
    }
    for tensor in network.run(values)? {
        if let Some(range) = extremes(&tensor.dims, &tensor.values) {
            ranges.merge(&tensor.name, range);
        }
    }
    Ok(())
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
        let (lo, hi) = smallest_and_largest(values);
        range.min[channel] = range.min[channel].min(lo);
        range.max[channel] = range.max[channel].max(hi);
    }
    Some(range)
}

/// Elements that are looked at together: with one accumulator each waits for the one before it.
const LANES: usize = 32;

/// Infinities where there is no number.
fn smallest_and_largest(values: &[f32]) -> (f32, f32) {
    // Comparisons with NaN are false, which keeps what was there.
    let narrow = |lo: f32, v: f32| if v < lo { v } else { lo };
    let widen = |hi: f32, v: f32| if v > hi { v } else { hi };
    let (mut lo, mut hi) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            lo[lane] = narrow(lo[lane], chunk[lane]);
            hi[lane] = widen(hi[lane], chunk[lane]);
        }
    }
    let lo = lo.iter().chain(rest).copied().fold(f32::INFINITY, narrow);
    let hi = hi.iter().chain(rest).copied().fold(f32::NEG_INFINITY, widen);
    (lo, hi)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_values_has_its_extremes_wherever_they_are() {
        for len in [0, 1, 31, 32, 33, 64, 100] {
            let mut values = vec![f32::NAN; len];
            assert_eq!(smallest_and_largest(&values), (f32::INFINITY, f32::NEG_INFINITY));
            for at in 0..len {
                values.fill(0.5);
                values[len / 2] = f32::NAN;
                values[at] = -2.0;
                assert_eq!(smallest_and_largest(&values).0, -2.0, "{at} of {len}");
                values[at] = 3.0;
                assert_eq!(smallest_and_largest(&values).1, 3.0, "{at} of {len}");
            }
        }
    }

    #[test]
    fn channels_have_their_own_extremes() {
        let range = extremes(&[2, 2, 1, 2], &[1.0, 2.0, -3.0, 0.5, f32::NAN, 5.0, 0.0, 1.0]).unwrap();
        assert_eq!((range.min, range.max), (vec![1.0, -3.0], vec![5.0, 1.0]));
        let flat = extremes(&[1, 3], &[1.0, -2.0, 0.0]).unwrap();
        assert_eq!((flat.min, flat.max), (vec![-2.0], vec![1.0]));
    }
}
