//! Layers.

use super::{Activation, Conv, ScaleOut, Target, Tensor, TensorId, Weights};

/// A fully connected layer. Units see the input in (height, width, channel) order.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dense {
    /// (units, height, width, channels).
    pub weights: Weights,
    /// Per unit; empty means none.
    pub bias: Vec<i32>,
    /// Activation; never a look-up table.
    pub activation: Activation,
    /// None: potentials, or the activation itself for 1.0 steps.
    pub scale: Option<ScaleOut>,
}

impl Dense {
    /// A dense layer that gives potentials; set the other fields with `..Dense::new(weights)`.
    pub fn new(weights: Weights) -> Self {
        Self { weights, bias: Vec::new(), activation: Activation::None, scale: None }
    }
}

/// `x * 2^a + y * 2^b`, then a pure shift (quantization.md 5.4); vectors of length 1 or channels.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Add {
    /// Left shift of the first operand.
    pub a_shift: Vec<u8>,
    /// Left shift of the second.
    pub b_shift: Vec<u8>,
    /// k of S_out = 2^k; None: the 32-bit sum is the output.
    pub k: Option<Vec<i8>>,
}

/// What a layer computes.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerKind {
    /// Any convolution.
    Conv(Box<Conv>),
    /// Fully connected.
    Dense(Dense),
    /// Sum of two tensors.
    Add(Add),
    /// Channels of two tensors one after the other.
    Concat,
}

impl LayerKind {
    /// The weights, in the order of computation: none, one or two (separable).
    pub fn weights(&self) -> impl Iterator<Item = &Weights> {
        let (first, second) = match self {
            Self::Conv(conv) => (Some(&conv.weights), conv.pointwise.as_ref()),
            Self::Dense(dense) => (Some(&dense.weights), None),
            Self::Add(_) | Self::Concat => (None, None),
        };
        first.into_iter().chain(second)
    }

    /// The same, to fill them in.
    pub(crate) fn weights_mut(&mut self) -> impl Iterator<Item = &mut Weights> {
        let (first, second) = match self {
            Self::Conv(conv) => (Some(&mut conv.weights), conv.pointwise.as_mut()),
            Self::Dense(dense) => (Some(&mut dense.weights), None),
            Self::Add(_) | Self::Concat => (None, None),
        };
        first.into_iter().chain(second)
    }

    /// Bias per filter; empty means none.
    pub fn bias(&self) -> &[i32] {
        match self {
            Self::Conv(conv) => &conv.bias,
            Self::Dense(dense) => &dense.bias,
            Self::Add(_) | Self::Concat => &[],
        }
    }

    /// The activation.
    pub fn activation(&self) -> &Activation {
        match self {
            Self::Conv(conv) => &conv.activation,
            Self::Dense(dense) => &dense.activation,
            Self::Add(_) | Self::Concat => &Activation::None,
        }
    }

    /// The scale-out of a convolution or dense layer.
    pub fn scale(&self) -> Option<&ScaleOut> {
        match self {
            Self::Conv(conv) => conv.scale.as_ref(),
            Self::Dense(dense) => dense.scale.as_ref(),
            Self::Add(_) | Self::Concat => None,
        }
    }

    /// Width at which the chip's accumulator saturates (quantization.md 5.9.2, targets.md 3.5). The width of 1.0 is not
    /// known; 32 stands for it.
    pub fn accumulator_bits(&self, target: Target) -> u32 {
        use super::ConvKind::{DepthwiseTemporal, Input, Temporal};
        match self {
            _ if target != Target::Akida2 => 32,
            Self::Conv(conv) if matches!(conv.kind, Input | Temporal | DepthwiseTemporal) => 32,
            Self::Conv(_) | Self::Dense(_) => 28,
            Self::Add(_) | Self::Concat => 32,
        }
    }
}

/// A layer.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    /// Node name.
    pub name: String,
    /// Name of the fused operator in the quantized graph, for example `QuantizedConv2DBiasedReLUScaled`.
    pub op: String,
    /// What it computes.
    pub kind: LayerKind,
    /// What it takes: one tensor, or two for Add and Concat.
    pub inputs: Vec<TensorId>,
    /// What it makes.
    pub output: Tensor,
}

/// The operator name of a kind without suffixes: the ones of the ONNX graph, and the layer names of 1.0.
pub(super) fn default_op(kind: &LayerKind, target: Target) -> &'static str {
    use super::ConvKind as K;
    match (kind, target) {
        (LayerKind::Conv(conv), Target::Akida2) => match conv.kind {
            K::Input => "QuantizedInputConv2D",
            K::Standard => "QuantizedConv2D",
            K::Depthwise => "QuantizedDepthwise2D",
            K::Transposed => "QuantizedConv2DTranspose",
            K::DepthwiseTransposed => "QuantizedDepthwise2DTranspose",
            K::Separable => "SeparableConvolutional",
            K::Temporal => "QuantizedBufferTempConv",
            K::DepthwiseTemporal => "QuantizedDepthwiseBufferTempConv",
        },
        (LayerKind::Conv(conv), _) => match conv.kind {
            K::Input => "InputConvolutional",
            K::Separable => "SeparableConvolutional",
            _ => "Convolutional",
        },
        (LayerKind::Dense(_), Target::Akida2) => "QuantizedDense1D",
        (LayerKind::Dense(_), _) => "FullyConnected",
        (LayerKind::Add(_), _) => "QuantizedAdd",
        (LayerKind::Concat, _) => "QuantizedConcat",
    }
}
