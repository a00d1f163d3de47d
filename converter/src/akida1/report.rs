//! What a user may want to know about a network quantized for Akida 1.0.

use super::tune::Tuning;

/// An exact rewriting that was done, or a limit that was met.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Note {
    /// A depthwise convolution with something between it and a pointwise one.
    DepthwiseAsStandard {
        /// Its name.
        layer: String,
        /// Channels.
        channels: usize,
    },
    /// Depthwise and pointwise of the first layer in one kernel.
    Multiplied {
        /// Its name.
        layer: String,
    },
    /// A kernel put into a larger one among zeros.
    Widened {
        /// Name of the layer.
        layer: String,
        /// Its kernel, (height, width).
        from: [usize; 2],
        /// Height and width of the one on the chip.
        to: usize,
    },
    /// Stride 2 done as stride 1 and a layer that picks every second position.
    Parted {
        /// Name of the layer.
        layer: String,
        /// Its kernel, (height, width).
        kernel: [usize; 2],
    },
    /// The whole network turned by 180 degrees.
    Turned {
        /// Layers whose padding is on the other side than the chip's.
        layers: Vec<String>,
    },
    /// An average of activations that the next dense layer took over.
    AverageInDense {
        /// Name of the dense layer.
        layer: String,
        /// Positions averaged.
        positions: usize,
    },
    /// A threshold or step outside the chip's width was held at its limit.
    Held {
        /// Name of the layer.
        layer: String,
        /// How many filters.
        filters: usize,
    },
    /// A network whose output is far from the float one that was not tuned, or not with success.
    NotTuned {
        /// Why.
        reason: Tuning,
    },
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::DepthwiseAsStandard { layer, channels } => write!(
                f,
                "'{layer}': depthwise without a pointwise convolution directly behind it is no layer of Akida 1.0; it \
                 became a full convolution with zeros, exact but with {channels} times the weights. Train without the \
                 ReLU between depthwise and pointwise to save them"
            ),
            Self::Multiplied { layer } => {
                write!(
                    f,
                    "'{layer}': depthwise and pointwise of the first layer were multiplied into one kernel, exact"
                )
            }
            Self::Widened { layer, from: [height, width], to } => {
                write!(f, "'{layer}': kernel {height}x{width} put into one of {to}x{to} among zeros, exact")
            }
            Self::Parted { layer, kernel: [height, width] } => write!(
                f,
                "'{layer}': Akida 1.0 has no stride 2 with {height}x{width}; it makes all positions and another layer picks every \
                 second, exact but four times the work. Train with 3x3 to save it"
            ),
            Self::Turned { layers } => write!(
                f,
                "the network is turned by 180 degrees, exact: stride 2 of {} pads on the other side than Akida 1.0",
                layers.iter().map(|layer| format!("'{layer}'")).collect::<Vec<_>>().join(", ")
            ),
            Self::AverageInDense { layer, positions } => write!(
                f,
                "'{layer}': Akida 1.0 cannot average activations; the dense layer takes all {positions} positions with \
                 the same weights, exact but with {positions} times the weights. Train with the average pooling before \
                 the ReLU to save them"
            ),
            Self::NotTuned { reason } => write!(f, "the layers were not tuned together: {reason}"),
            Self::Held { layer, filters } => {
                write!(f, "'{layer}': thresholds or steps of {filters} filters were held at the limits of the chip")
            }
        }
    }
}

/// How well one layer is met on the calibration data.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerReport {
    /// Its name.
    pub layer: String,
    /// Bits of its weights.
    pub weight_bits: u8,
    /// Bits of its output; 32 for potentials.
    pub output_bits: u8,
    /// Squared error of its output over the square of the output, on quantized inputs.
    pub relative_error: f64,
}
