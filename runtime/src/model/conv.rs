//! Convolutions and their geometry.

use super::{Activation, ScaleOut, Weights};

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
    /// Transposed. Filter `f` spreads an input value over the output with its kernel, not mirrored.
    Transposed,
    /// Transposed, one kernel per channel.
    DepthwiseTransposed,
    /// Depthwise then pointwise, nothing between (1.0).
    Separable,
    /// Over a FIFO of the last `T` frames (2.0): kernel 1x1, input channels time-major, oldest frame first
    /// (weight `t * C + c` of a filter multiplies channel `c` of frame `t`).
    Temporal,
    /// Same, one kernel per channel: `T` weights each.
    DepthwiseTemporal,
}

impl ConvKind {
    /// Whether every channel has its own kernel and makes one output channel.
    pub fn per_channel(self) -> bool {
        matches!(self, Self::Depthwise | Self::DepthwiseTransposed | Self::DepthwiseTemporal)
    }

    /// Whether it enlarges the map.
    pub fn transposed(self) -> bool {
        matches!(self, Self::Transposed | Self::DepthwiseTransposed)
    }

    /// Whether it keeps frames.
    pub fn temporal(self) -> bool {
        matches!(self, Self::Temporal | Self::DepthwiseTemporal)
    }
}

/// Pooling of a convolution's sums: [`Pool::Max`] before the activation, [`Pool::Global`] before it on Akida 1.0 and
/// after it on 2.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Pool {
    /// None.
    None,
    /// Maximum; pads are [top, left, bottom, right] and never win.
    Max {
        /// Window (height, width).
        size: [usize; 2],
        /// Step.
        stride: [usize; 2],
        /// [top, left, bottom, right], each smaller than the window.
        pads: [usize; 4],
    },
    /// Sum over the whole map.
    Global,
}

/// A convolution with everything fused into it.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conv {
    /// What it is.
    pub kind: ConvKind,
    /// Weights; for separable the depthwise part. Temporal: (filters, 1, 1, T x channels); depthwise kinds:
    /// (channels, height, width, 1), or (channels, 1, 1, T) when temporal.
    pub weights: Weights,
    /// Separable only: (filters, 1, 1, channels).
    pub pointwise: Option<Weights>,
    /// (vertical, horizontal).
    pub stride: [usize; 2],
    /// [top, left, bottom, right]: added to the input, or for transposed kinds cut from the output.
    pub pads: [usize; 4],
    /// What padding is made of, one for all or per input channel, in the input's integers; empty means zeros.
    pub pad_value: Vec<i32>,
    /// Per filter; empty means none.
    pub bias: Vec<i32>,
    /// Pooling.
    pub pool: Pool,
    /// Activation.
    pub activation: Activation,
    /// None: the output is 32-bit potentials (or, for 1.0 steps, the activation itself).
    pub scale: Option<ScaleOut>,
    /// FIFO length `T` of temporal kinds, 0 otherwise.
    pub fifo: usize,
}

impl Conv {
    /// A convolution of stride 1 without padding that gives potentials; set the other fields with
    /// `..Conv::new(kind, weights)`.
    pub fn new(kind: ConvKind, weights: Weights) -> Self {
        Self {
            kind,
            weights,
            pointwise: None,
            stride: [1, 1],
            pads: [0; 4],
            pad_value: Vec::new(),
            bias: Vec::new(),
            pool: Pool::None,
            activation: Activation::None,
            scale: None,
            fifo: 0,
        }
    }

    /// Number of output channels.
    pub fn filters(&self) -> usize {
        self.pointwise.as_ref().unwrap_or(&self.weights).filters()
    }

    /// (height, width) before pooling; None when the kernel does not fit or a size overflows.
    pub fn conv_size(&self, input: [usize; 2]) -> Option<[usize; 2]> {
        let [top, left, bottom, right] = self.pads;
        let kernel = self.weights.kernel();
        let axis = |n: usize, k: usize, s: usize, before: usize, after: usize| {
            if self.kind.transposed() {
                let full = s.checked_mul(n.checked_sub(1)?)?.checked_add(k)?;
                full.checked_sub(before.checked_add(after)?).filter(|&out| out > 0)
            } else {
                windows(n, k, s, before, after)
            }
        };
        Some([
            axis(input[0], kernel[0], self.stride[0], top, bottom)?,
            axis(input[1], kernel[1], self.stride[1], left, right)?,
        ])
    }

    /// (height, width) after pooling; None as for [`Conv::conv_size`].
    pub fn output_size(&self, input: [usize; 2]) -> Option<[usize; 2]> {
        let conv = self.conv_size(input)?;
        match self.pool {
            Pool::None => Some(conv),
            Pool::Global => Some([1, 1]),
            Pool::Max { size, stride, pads: [top, left, bottom, right] } => Some([
                windows(conv[0], size[0], stride[0], top, bottom)?,
                windows(conv[1], size[1], stride[1], left, right)?,
            ]),
        }
    }
}

/// How many windows of `size` fit in `n` padded elements, rounded down.
fn windows(n: usize, size: usize, stride: usize, before: usize, after: usize) -> Option<usize> {
    let padded = n.checked_add(before)?.checked_add(after)?;
    Some(padded.checked_sub(size)?.checked_div(stride)? + 1)
}
