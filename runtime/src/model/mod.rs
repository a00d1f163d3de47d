//! A quantized network: layers of integers between an input quantizer and dequantizers.
//!
//! Tensors are (height, width, channels), as the chip has them. Weights are stored one per byte, filter by filter, each
//! filter in (row, column, channel) order, and always as a *correlation* kernel (no flip), whatever the chip calls it.
//!
//! A model that [`Model::validate`] accepts keeps every promise written at these fields; whoever reads a model may rely
//! on that, and whoever makes one calls it. [`Model::open`] and [`Model::save`] do.

mod activation;
mod blob;
mod conv;
mod count;
pub(crate) mod file;
mod float;
mod layer;
mod ports;
#[cfg(test)]
pub(crate) mod sample;
mod tensor;
mod validate;
mod weights;

pub use activation::{Activation, Lut, ScaleOut};
pub use blob::Blob;
pub use conv::{Conv, ConvKind, Pool};
pub use file::{FileError, FormatError};
pub use layer::{Add, Dense, Layer, LayerKind};
pub use ports::{DequantizeBy, Dequantizer, Input, InputQuantizer, Output};
pub use tensor::{OnnxLayout, Shape, Tensor, TensorId};
pub use validate::{ModelError, Problem, limits};
pub use weights::Weights;

/// What a model was made for. A model made for one target is refused on another, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// AKD1000 (Akida 1.0).
    Akd1000,
    /// AKD1500 (Akida 1.0).
    Akd1500,
    /// Akida 2.0.
    Akida2,
}

impl Target {
    /// Whether the arithmetic is that of Akida 1.0: thresholds and steps instead of scales.
    pub fn is_v1(self) -> bool {
        self != Self::Akida2
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Akd1000 => "akd1000",
            Self::Akd1500 => "akd1500",
            Self::Akida2 => "akida2",
        })
    }
}

impl std::str::FromStr for Target {
    type Err = UnknownTarget;

    fn from_str(name: &str) -> Result<Self, UnknownTarget> {
        match name {
            "akd1000" => Ok(Self::Akd1000),
            "akd1500" => Ok(Self::Akd1500),
            "akida2" => Ok(Self::Akida2),
            _ => Err(UnknownTarget(name.to_owned())),
        }
    }
}

/// A name that is no target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no target; targets are akd1000, akd1500 and akida2")]
pub struct UnknownTarget(pub String);

/// A network of integers.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Name of the graph.
    pub name: String,
    /// What it was made for.
    pub target: Target,
    /// Input.
    pub input: Input,
    /// In an order in which every input is made before it is used. At least one.
    pub layers: Vec<Layer>,
    /// At least one.
    pub outputs: Vec<Output>,
}

impl Model {
    /// A model without layers and outputs, to be filled with [`Model::push`] and [`Model::output`].
    pub fn new(name: impl Into<String>, target: Target, input: Input) -> Self {
        Self { name: name.into(), target, input, layers: Vec::new(), outputs: Vec::new() }
    }

    /// The tensor with this number.
    ///
    /// # Panics
    /// When there is no such tensor.
    pub fn tensor(&self, id: TensorId) -> &Tensor {
        if id == 0 { &self.input.tensor } else { &self.layers[id - 1].output }
    }

    /// Appends a layer and says the number of its output. Its shape, its sign and its layout follow from `kind` and the
    /// inputs; `bits` are those of an output element. Names of operator and output tensor are the plain ones: change
    /// them in `layers` where an ONNX graph has its own.
    ///
    /// # Errors
    /// When the layer breaks a rule of [`Model::validate`]. The model is then unchanged.
    pub fn push(
        &mut self,
        name: impl Into<String>,
        kind: LayerKind,
        inputs: &[TensorId],
        bits: u8,
    ) -> Result<TensorId, ModelError> {
        let name = name.into();
        let layer = validate::new_layer(self, name, kind, inputs, bits)?;
        self.layers.push(layer);
        Ok(self.layers.len())
    }

    /// Appends an output.
    pub fn output(&mut self, name: impl Into<String>, tensor: TensorId, dequantizer: Option<Dequantizer>) {
        self.outputs.push(Output { name: name.into(), tensor, dequantizer });
    }
}
