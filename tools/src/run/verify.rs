//! Results against the reference, integer by integer.

use std::num::NonZero;

use akida_runtime::hybrid::HybridModel;
use akida_runtime::model::{LayerKind, Model, TensorId};
use akida_runtime::reference::{InputError, Reference, Rules};
use ndarray::{ArrayD, Axis};

use super::engine::{BoardResults, Feed, Results};
use super::report::{Difference, Verify};
use crate::command::Common;
use crate::exit::{Exit, Failure};
use crate::terminal::progress;

/// Compares all integers of the outputs of every board part, and of its layers where there are any.
pub fn verify(network: &HybridModel, feed: &Feed, results: &Results, common: &Common) -> Result<Verify, Failure> {
    let mut all = Verify { samples: feed.len(), elements: 0, differences: 0, first: None };
    for ((_, model), board) in network.boards().zip(&results.boards) {
        let inputs = match feed {
            Feed::Bytes(samples) if board.inputs.is_empty() => samples,
            _ => &board.inputs,
        };
        let part = verify_part(model, inputs, board, common)?;
        all.elements += part.elements;
        all.differences += part.differences;
        all.first = all.first.or(part.first);
    }
    Ok(all)
}

fn verify_part(model: &Model, inputs: &[Vec<u8>], results: &BoardResults, common: &Common) -> Result<Verify, Failure> {
    let outputs = model.outputs.iter().zip(&results.raw).map(|(o, a)| (o.tensor, a));
    let tensors: Vec<(TensorId, &ArrayD<i32>)> =
        outputs.chain(results.layers.iter().map(|l| (l.tensor, &l.values))).collect();
    // Frames of a stream follow each other; all other samples stand alone.
    let temporal = |kind: &LayerKind| matches!(kind, LayerKind::Conv(conv) if conv.kind.temporal());
    let stream = model.layers.iter().any(|l| temporal(&l.kind));
    let threads = if stream { 1 } else { std::thread::available_parallelism().map_or(1, NonZero::get) };
    let chunk = inputs.len().div_ceil(threads).max(1);
    let bar = progress(inputs.len() as u64, "reference", !common.bars());
    let parts: Vec<Result<Verify, InputError>> = std::thread::scope(|scope| {
        let part = |(number, samples): (usize, &'_ [Vec<u8>])| {
            let (bar, tensors) = (&bar, &tensors);
            let samples = samples.to_vec();
            scope.spawn(move || compare(model, number * chunk, &samples, tensors, || bar.inc(1)))
        };
        let threads: Vec<_> = inputs.chunks(chunk).enumerate().map(part).collect();
        threads.into_iter().map(|t| t.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    bar.finish_and_clear();
    let mut all = Verify { samples: inputs.len(), elements: 0, differences: 0, first: None };
    for part in parts {
        let part = part.map_err(|e| {
            Failure::because(Exit::Data, "a sample is no input of the model", &e, "give integers it can take")
        })?;
        all.elements += part.elements;
        all.differences += part.differences;
        all.first = all.first.or(part.first);
    }
    Ok(all)
}

fn compare(
    model: &Model,
    first: usize,
    inputs: &[Vec<u8>],
    tensors: &[(TensorId, &ArrayD<i32>)],
    done: impl Fn(),
) -> Result<Verify, InputError> {
    let mut reference = Reference::new(model, Rules::Chip);
    let mut verify = Verify { samples: inputs.len(), elements: 0, differences: 0, first: None };
    for (sample, input) in (first..).zip(inputs) {
        let expected = reference.run(input)?;
        for &(id, board) in tensors {
            let tensor = model.tensor(id);
            let values = tensor.layout.to_onnx(&expected[id], tensor.shape);
            verify.elements += values.len() as u64;
            let board = board.index_axis(Axis(0), sample);
            for ((index, &found), &value) in board.indexed_iter().zip(&values).filter(|((_, f), v)| f != v) {
                verify.differences += 1;
                verify.first.get_or_insert_with(|| Difference {
                    tensor: tensor.name.clone(),
                    index: std::iter::once(sample).chain(ndarray::Dimension::slice(&index).iter().copied()).collect(),
                    board: found.into(),
                    reference: value.into(),
                });
            }
        }
        done();
    }
    Ok(verify)
}
