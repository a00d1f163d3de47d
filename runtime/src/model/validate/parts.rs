//! Checks that several kinds of layers share.

use super::{
    ModelError, Problem,
    limits::{self, StepLimits},
};
use crate::model::{Activation, LayerKind, OnnxLayout, ScaleOut, Target, Tensor, Weights};

type Checked = Result<(), ModelError>;

pub fn check_len(place: &str, field: &'static str, len: usize, allowed: &[usize]) -> Checked {
    if allowed.contains(&len) {
        return Ok(());
    }
    let mut allowed = allowed.to_vec();
    allowed.dedup();
    Err(ModelError::new(place, field, Problem::Length { len, allowed }))
}

/// Every value within `min..=max`.
pub fn check_range<T: Copy + Into<i64>>(
    place: &str,
    field: &'static str,
    values: &[T],
    min: impl Into<i64>,
    max: impl Into<i64>,
) -> Checked {
    let (min, max) = (min.into(), max.into());
    match values.iter().map(|&v| v.into()).find(|v| !(min..=max).contains(v)) {
        Some(value) => Err(ModelError::new(place, field, Problem::Range { value, min, max })),
        None => Ok(()),
    }
}

/// Every size within `min..=max`.
pub fn check_sizes(place: &str, field: &'static str, values: &[usize], min: usize, max: usize) -> Checked {
    match values.iter().find(|v| !(min..=max).contains(*v)) {
        Some(&value) => {
            // A size beyond i64 is out of range whatever it is called.
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            Err(ModelError::new(place, field, Problem::Range { value, min: min as i64, max: max as i64 }))
        }
        None => Ok(()),
    }
}

pub fn check_tensor(place: &str, tensor: &Tensor) -> Checked {
    check_sizes(place, "dimension", &tensor.shape, 1, limits::DIMENSION)?;
    // Three dimensions of 16 bits cannot overflow 64.
    let elements = tensor.shape.iter().map(|&d| d as u64).product::<u64>();
    if elements > limits::ELEMENTS as u64 {
        let problem = Problem::Range { value: elements as i64, min: 1, max: limits::ELEMENTS as i64 };
        return Err(ModelError::new(place, "number of elements", problem));
    }
    if ![1, 2, 4, 8, 32].contains(&tensor.bits) {
        let problem = Problem::OneOf { value: tensor.bits.into(), allowed: vec![1, 2, 4, 8, 32] };
        return Err(ModelError::new(place, "bits", problem));
    }
    if tensor.layout == OnnxLayout::Flat && tensor.shape[..2] != [1, 1] {
        return Err(ModelError::new(place, "layout", Problem::Rule("is flat though height or width is not 1")));
    }
    Ok(())
}

/// Positive finite scales, one or one per channel.
pub fn check_scales(place: &str, scales: &[f32], channels: usize) -> Checked {
    check_len(place, "scale", scales.len(), &[1, channels])?;
    match scales.iter().find(|s| !(s.is_finite() && **s > 0.0)) {
        Some(&value) => Err(ModelError::new(place, "scale", Problem::Scale { value })),
        None => Ok(()),
    }
}

pub fn check_weights(place: &str, field: &'static str, weights: &Weights) -> Checked {
    if ![1, 2, 4, 8].contains(&weights.bits) {
        let problem = Problem::OneOf { value: weights.bits.into(), allowed: vec![1, 2, 4, 8] };
        return Err(ModelError::new(place, "weight bits", problem));
    }
    check_sizes(place, field, &weights.shape, 1, limits::FILTER_WEIGHTS)?;
    check_sizes(place, "number of filters", &weights.shape[..1], 1, limits::DIMENSION)?;
    // The dimensions are below 2^21 each: the product of three fits 64 bits, and with the filters it stays in 128.
    let filter = weights.shape[1..].iter().map(|&d| d as u64).product::<u64>();
    if filter > limits::FILTER_WEIGHTS as u64 {
        let problem = Problem::Range { value: filter as i64, min: 1, max: limits::FILTER_WEIGHTS as i64 };
        return Err(ModelError::new(place, "number of weights of a filter", problem));
    }
    check_len(place, field, weights.data.len(), &[weights.shape[0] * filter as usize])?;
    if weights.bits < 8 {
        let (min, max) = Weights::range(weights.bits);
        check_range(place, field, weights.data.as_i8(), min, max)?;
    }
    Ok(())
}

/// Bias, activation and scale-out of a layer with `filters` outputs.
pub fn check_arithmetic(place: &str, kind: &LayerKind, filters: usize, target: Target, steps: StepLimits) -> Checked {
    check_len(place, "bias", kind.bias().len(), &[0, filters])?;
    let other_target = |what| Err(ModelError::new(place, "activation", Problem::Rule(what)));
    match kind.activation() {
        Activation::None => {}
        Activation::Steps { .. } if !target.is_v1() => {
            return other_target("has steps, which Akida 2.0 does not have");
        }
        Activation::Steps { threshold, step_16ths } => {
            check_len(place, "threshold", threshold.len(), &[filters])?;
            check_len(place, "step", step_16ths.len(), &[filters])?;
            let limit = 1i64 << (steps.threshold_bits - 1);
            check_range(place, "threshold", threshold, -limit, limit - 1)
                .map_err(|e| e.of_rule("akida1.activation.threshold"))?;
            check_range(place, "step in 1/16", step_16ths, 1, steps.step_16ths)
                .map_err(|e| e.of_rule("akida1.activation.step"))?;
        }
        _ if target.is_v1() => {
            return other_target("is none of Akida 1.0, which has steps only")
                .map_err(|e| e.of_rule("akida1.activation.kind"));
        }
        Activation::Relu => {}
        Activation::ReluClipped(max) => {
            check_len(place, "max_value", max.len(), &[1, filters])?;
            check_range(place, "max_value", max, 0, i32::MAX)?;
        }
        Activation::Lut(lut) => {
            check_len(place, "look-up table", lut.table.len(), &[crate::model::Lut::ENTRIES])?;
            check_scale_out(place, &lut.scale, filters)?;
        }
    }
    match kind.scale() {
        Some(_) if target.is_v1() => {
            Err(ModelError::new(place, "scale", Problem::Rule("is there, but Akida 1.0 has no output scales")))
        }
        Some(scale) => check_scale_out(place, scale, filters),
        None => Ok(()),
    }
}

fn check_scale_out(place: &str, scale: &ScaleOut, filters: usize) -> Checked {
    check_len(place, "scale m", scale.m.len(), &[1, filters])?;
    check_len(place, "scale k", scale.k.len(), &[scale.m.len()])?;
    check_range(place, "scale k", &scale.k, limits::SCALE_SHIFT.0, limits::SCALE_SHIFT.1)
}
