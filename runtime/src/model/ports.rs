//! Where a model meets floats: its input with the quantizer, its outputs with their dequantizers.

use super::{OnnxLayout, Tensor, TensorId};

/// From float input to the first integer tensor: `sat(rne(x / scale) + zero_point)` (quantization.md 3.4).
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputQuantizer {
    /// Node name.
    pub name: String,
    /// Real per integer, one for all channels or one per channel.
    #[serde(with = "super::float")]
    pub scale: Vec<f32>,
    /// Same length as `scale`.
    pub zero_point: Vec<i32>,
}

/// The model's input.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Name of the ONNX graph input.
    pub name: String,
    /// Layout of the float input.
    pub layout: OnnxLayout,
    /// The integers the first layer takes.
    pub tensor: Tensor,
    /// None when the model takes integers only.
    pub quantizer: Option<InputQuantizer>,
}

impl Input {
    /// An input of integers without a quantizer, in (height, width, channels) order.
    pub fn integers(tensor: Tensor) -> Self {
        Self { name: tensor.name.clone(), layout: OnnxLayout::Nhwc, tensor, quantizer: None }
    }
}

/// One output of the model: a tensor, and how its integers become floats.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// Name of the float output.
    pub name: String,
    /// Which tensor.
    pub tensor: TensorId,
    /// How it becomes float; None leaves integers.
    pub dequantizer: Option<Dequantizer>,
}

/// What [`Dequantizer::scale`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DequantizeBy {
    /// `(x - offset) * scale`: Akida 2.0, real per integer.
    #[default]
    Multiply,
    /// `(x - offset) / scale`: Akida 1.0, the last layer's `act_step` in full (quantization.md 6.4).
    Divide,
}

/// From integers to floats, in f32, per channel or for all.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dequantizer {
    /// Node name.
    pub name: String,
    /// One for all channels or one per channel.
    #[serde(with = "super::float")]
    pub scale: Vec<f32>,
    /// Empty for Akida 2.0; thresholds of the last layer for 1.0.
    pub offset: Vec<i32>,
    /// How `scale` is applied.
    pub by: DequantizeBy,
}
