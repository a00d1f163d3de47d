//! Checks of convolutions.

use super::{
    ModelError, Problem, limits,
    parts::{check_arithmetic, check_len, check_range, check_sizes, check_weights},
};
use crate::model::{Conv, ConvKind, LayerKind, Pool, Target, Tensor, TensorId};

pub fn check(
    place: &str,
    conv: &Conv,
    kind: &LayerKind,
    inputs: &[TensorId],
    input: &Tensor,
    target: Target,
) -> Result<(), ModelError> {
    let rule = |field, what| Err(ModelError::new(place, field, Problem::Rule(what)));
    check_sizes(place, "stride", &conv.stride, 1, limits::WINDOW)?;
    check_sizes(place, "padding", &conv.pads, 0, limits::WINDOW)?;
    check_kernel(place, conv, input.shape[2])?;

    check_len(place, "pad_value", conv.pad_value.len(), &[0, 1, input.shape[2]])?;
    let (min, max) = input.range();
    check_range(place, "pad_value", &conv.pad_value, min, max)?;

    if let Pool::Max { size, stride, pads } = conv.pool {
        check_sizes(place, "pool size", &size, 1, limits::WINDOW)?;
        check_sizes(place, "pool stride", &stride, 1, limits::WINDOW)?;
        for (pad, edge) in pads.into_iter().zip(size.into_iter().cycle()) {
            // A window that lies wholly in the padding would have no maximum.
            check_sizes(place, "pool padding", &[pad], 0, edge - 1)?;
        }
    }
    match conv.kind {
        ConvKind::Input if inputs != [0] || input.signed => {
            return rule("kind", "is an input convolution, which takes the model's unsigned input");
        }
        ConvKind::Separable if !target.is_v1() => return rule("kind", "is separable, which Akida 2.0 does not have"),
        _ => {}
    }
    // The map before pooling may be larger than any tensor.
    let size = conv.conv_size([input.shape[0], input.shape[1]]);
    let Some(size) = size else { return rule("kernel", "is larger than its padded input") };
    check_sizes(place, "size before pooling", &size, 1, limits::DIMENSION)?;
    let elements = size[0] as u64 * size[1] as u64 * conv.filters() as u64;
    if elements > limits::ELEMENTS as u64 {
        let problem = Problem::Range { value: elements as i64, min: 1, max: limits::ELEMENTS as i64 };
        return Err(ModelError::new(place, "number of elements before pooling", problem));
    }
    let steps = if conv.kind == ConvKind::Input { limits::INPUT_STEPS } else { limits::STEPS };
    check_arithmetic(place, kind, conv.filters(), target, steps)
}

/// Weights, and what belongs to one kind only.
fn check_kernel(place: &str, conv: &Conv, channels: usize) -> Result<(), ModelError> {
    let rule = |field, what| Err(ModelError::new(place, field, Problem::Rule(what)));
    check_weights(place, "weights", &conv.weights)?;
    check_sizes(place, "kernel", &conv.weights.kernel(), 1, limits::WINDOW)?;

    let [filters, _, _, depth] = conv.weights.shape;
    let frames = if conv.kind.temporal() { conv.fifo } else { 1 };
    if conv.kind.temporal() {
        check_sizes(place, "fifo", &[conv.fifo], 1, limits::FIFO)?;
        if conv.weights.kernel() != [1, 1] || conv.stride != [1, 1] || conv.pads != [0; 4] {
            return rule("kernel", "is not 1x1 with stride 1 and no padding, as temporal layers have it");
        }
    } else if conv.fifo != 0 {
        return rule("fifo", "belongs to temporal layers only");
    }
    let one_kernel_per_channel = conv.kind.per_channel() || conv.kind == ConvKind::Separable;
    let expected = if one_kernel_per_channel { [channels, frames] } else { [filters, channels * frames] };
    if [filters, depth] != expected {
        let [height, width] = conv.weights.kernel();
        let problem =
            Problem::Weights { found: conv.weights.shape, expected: [expected[0], height, width, expected[1]] };
        return Err(ModelError::new(place, "weights", problem));
    }
    match (&conv.pointwise, conv.kind == ConvKind::Separable) {
        (None, false) => Ok(()),
        (Some(_), false) => rule("pointwise", "belongs to separable layers only"),
        (None, true) => rule("pointwise", "is missing in a separable layer"),
        (Some(pointwise), true) => {
            check_weights(place, "pointwise", pointwise)?;
            let expected = [pointwise.filters(), 1, 1, channels];
            if pointwise.shape != expected {
                let problem = Problem::Weights { found: pointwise.shape, expected };
                return Err(ModelError::new(place, "pointwise", problem));
            }
            Ok(())
        }
    }
}
