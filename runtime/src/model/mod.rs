//! A quantized network: layers of integers between an input quantizer and dequantizers.
//!
//! Tensors are (height, width, channels), as the chip has them. Weights are stored one per byte, filter by filter, each
//! filter in (row, column, channel) order, and always as a *correlation* kernel (no flip), whatever the chip calls it.

pub mod blob;

pub use blob::Blob;

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

/// (height, width, channels).
pub type Shape = [usize; 3];

/// A tensor by number: 0 is the model's input, `n` the output of layer `n - 1`.
pub type TensorId = usize;

/// How a tensor looked in the ONNX graph, to give it back that way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnnxLayout {
    /// (batch, channels, height, width).
    Nchw,
    /// (batch, height, width, channels).
    Nhwc,
    /// (batch, channels): height and width are 1.
    Flat,
}

/// A tensor of integers.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Tensor {
    /// The ONNX name.
    pub name: String,
    /// (height, width, channels).
    pub shape: Shape,
    /// Bits of an element: 1, 2, 4, 8 or 32.
    pub bits: u8,
    /// Whether elements are signed.
    pub signed: bool,
    /// The ONNX layout.
    pub layout: OnnxLayout,
}

/// From float input to the first integer tensor: `sat(rne(x / scale) + zero_point)` (quantization.md 3.4).
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct InputQuantizer {
    /// Node name.
    pub name: String,
    /// Real per integer, one for all channels or one per channel.
    pub scale: Vec<f32>,
    /// Same length as `scale`.
    pub zero_point: Vec<i32>,
}

/// The model's input.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
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

/// The model's output: a tensor, and how its integers become floats.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Output {
    /// Name of the float output.
    pub name: String,
    /// Which tensor.
    pub tensor: TensorId,
    /// How it becomes float; None leaves integers.
    pub dequantizer: Option<Dequantizer>,
}

/// `(x - offset) * scale`, in f32, per channel or for all.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Dequantizer {
    /// Node name.
    pub name: String,
    /// Real per integer.
    pub scale: Vec<f32>,
    /// Empty for Akida 2.0; thresholds of the last layer for 1.0.
    pub offset: Vec<i32>,
}

/// What a convolution is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConvKind {
    /// First layer on 8-bit images, on the HRC.
    Input,
    /// Over all channels.
    Standard,
    /// One kernel per channel.
    Depthwise,
    /// Transposed.
    Transposed,
    /// Transposed, one kernel per channel.
    DepthwiseTransposed,
    /// Depthwise then pointwise, nothing between (1.0).
    Separable,
    /// Over a FIFO of the last `T` frames (2.0): input channels are time-major, oldest first (T x C), kernel 1x1.
    Temporal,
    /// Same, one kernel per channel.
    DepthwiseTemporal,
}

/// Integer weights.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Weights {
    /// 1, 2, 4 or 8; the values are within this width though stored one per byte.
    pub bits: u8,
    /// (filters, height, width, channels); channels is 1 for depthwise kernels. Dense: (units, height, width, channels).
    pub shape: [usize; 4],
    /// `shape` row-major, i8.
    pub data: Blob,
}

/// Pooling: see `akida_hal::np::Pool` for where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pool {
    /// None.
    None,
    /// Maximum; pads are [top, left, bottom, right] and never win.
    Max {
        /// Window (height, width).
        size: [usize; 2],
        /// Step.
        stride: [usize; 2],
        /// [top, left, bottom, right].
        pads: [usize; 4],
    },
    /// Sum over the whole map.
    Global,
}

/// How the accumulator becomes the output.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// Akida 2.0: identity.
    None,
    /// Akida 2.0.
    Relu,
    /// Akida 2.0: `clamp(acc, 0, max)`, one maximum per filter.
    ReluClipped(Vec<i32>),
    /// Akida 2.0: look-up table.
    Lut(Box<Lut>),
    /// Akida 1.0: thresholds and steps, one per filter. `y = clip(ceil((p - t) / (s * 2^(4 - bits))), 0, 2^bits - 1)`
    Steps {
        /// Fire thresholds.
        threshold: Vec<i32>,
        /// Interval lengths of 4 bits, in 1/16.
        step_16ths: Vec<u32>,
    },
}

/// Look-up table activation (quantization.md 4.6).
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Lut {
    /// 2048 entries: indices 0..=1023, then -1024..=-1.
    pub table: Vec<i16>,
    /// Accumulator to index.
    pub scale: ScaleOut,
}

/// `sat(floor(acc * m / 2^k + 1/2))` per filter (quantization.md 5.1).
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ScaleOut {
    /// M.
    pub m: Vec<u8>,
    /// k of S_out = 2^k.
    pub k: Vec<i8>,
}

/// A convolution with everything fused into it.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Conv {
    /// What it is.
    pub kind: ConvKind,
    /// Weights; for separable the depthwise part.
    pub weights: Weights,
    /// Separable only: (filters, 1, 1, channels).
    pub pointwise: Option<Weights>,
    /// (vertical, horizontal).
    pub stride: [usize; 2],
    /// [top, left, bottom, right].
    pub pads: [usize; 4],
    /// What padding is made of, per input channel, in the input's integers; empty means zeros.
    pub pad_value: Vec<i32>,
    /// Per filter; empty means none.
    pub bias: Vec<i32>,
    /// Pooling.
    pub pool: Pool,
    /// Activation.
    pub activation: Activation,
    /// None: the output is 32-bit potentials (or, for 1.0 steps, the activation itself).
    pub scale: Option<ScaleOut>,
    /// FIFO length of temporal kinds, 0 otherwise.
    pub fifo: usize,
}

/// A fully connected layer. Units see the input in (height, width, channel) order.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Dense {
    /// (units, height, width, channels).
    pub weights: Weights,
    /// Per unit; empty means none.
    pub bias: Vec<i32>,
    /// Activation.
    pub activation: Activation,
    /// None: potentials.
    pub scale: Option<ScaleOut>,
}

/// `x * 2^a + y * 2^b`, then a pure shift (quantization.md 5.4); vectors of length 1 or channels.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
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

/// A layer.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
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

/// A network of integers.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Model {
    /// Name of the graph.
    pub name: String,
    /// What it was made for.
    pub target: Target,
    /// Input.
    pub input: Input,
    /// In an order in which every input is made before it is used.
    pub layers: Vec<Layer>,
    /// At least one.
    pub outputs: Vec<Output>,
}

impl Model {
    /// The tensor with this number.
    pub fn tensor(&self, id: TensorId) -> &Tensor {
        if id == 0 { &self.input.tensor } else { &self.layers[id - 1].output }
    }
}
