//! The input quantizer (quantization.md 3.4), all in `f32`.

use super::QuantizeError;
use super::scale::Scale;
use crate::calibrate::Range;

/// Type of the integers the first layer takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputType {
    /// Unsigned, with a zero point.
    U8,
    /// Signed, symmetric.
    I8,
}

/// Parameters of the input quantizer.
pub struct InputQuantizer {
    /// Real per integer, as stored: one or one per channel.
    pub onnx_scale: Vec<f32>,
    /// As many.
    pub zero_point: Vec<i32>,
    /// What the first layer reckons with: not the rounded inverse of the stored one.
    pub scale: Scale,
}

impl InputQuantizer {
    /// Moves every scale down to a power of two, so that an addition can read the integers; the stored scale moves with
    /// it. The reference moves the one it reckons with only (quantization.md 9.1.7), so this is ours.
    pub fn on_powers_of_two(&mut self) {
        for (stored, scale) in self.onnx_scale.iter_mut().zip(&mut self.scale.values) {
            *scale = scale.log2().floor().exp2();
            *stored = (1.0 / *scale) as f32;
        }
    }
}

/// From the input's range. `tensor` names it in errors.
pub fn quantizer(range: &Range, ty: InputType, tensor: &str) -> Result<InputQuantizer, QuantizeError> {
    let mut scale = Vec::with_capacity(range.min.len());
    let mut zero_point = Vec::with_capacity(range.min.len());
    for (channel, (&lo, &hi)) in range.min.iter().zip(&range.max).enumerate() {
        if !lo.is_finite() || !hi.is_finite() || (ty == InputType::U8 && lo >= hi) {
            return Err(QuantizeError::Range {
                tensor: tensor.to_owned(),
                reason: format!("channel {channel} of the model's input ranges from {lo} to {hi}"),
                remedy: "Give calibration samples that vary in every channel, or --per-tensor",
            });
        }
        match ty {
            InputType::I8 => {
                scale.push(127f32 / lo.abs().max(hi.abs()).max(1e-7));
                zero_point.push(0);
            }
            InputType::U8 => {
                let mut s = 255f32 / (hi - lo);
                let zero = -(lo * s).round_ties_even();
                if zero < 0.0 {
                    s = 255f32 / hi;
                }
                scale.push(s);
                zero_point.push(i32::from(zero.max(0.0) as u8));
            }
        }
    }
    Ok(InputQuantizer {
        onnx_scale: scale.iter().map(|&s| (1.0 / f64::from(s)) as f32).collect(),
        zero_point,
        scale: Scale::vector(scale.into_iter().map(f64::from).collect()),
    })
}
