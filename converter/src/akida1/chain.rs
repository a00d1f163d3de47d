//! A float network as Akida 1.0 could hold it: one chain of layers, before there are integers.

use akida_runtime::model::{Conv, ConvKind, OnnxLayout, Pool, Shape, Weights};

/// Float weights, (filters, height, width, channels), row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Kernel {
    /// (filters, height, width, channels).
    pub shape: [usize; 4],
    /// Row-major.
    pub values: Vec<f64>,
}

impl Kernel {
    /// Weights of one filter.
    pub fn filter_len(&self) -> usize {
        self.shape[1..].iter().product()
    }

    /// The weights of one filter, (row, column, channel).
    pub fn filter(&self, index: usize) -> &[f64] {
        let len = self.filter_len();
        &self.values[index * len..(index + 1) * len]
    }

    /// The same, to change them.
    pub fn filter_mut(&mut self, index: usize) -> &mut [f64] {
        let len = self.filter_len();
        &mut self.values[index * len..(index + 1) * len]
    }

    /// Changes every weight, given its filter and channel.
    pub fn scale(&mut self, factor: impl Fn(usize, usize) -> f64) {
        let (len, channels) = (self.filter_len(), self.shape[3]);
        for (index, value) in self.values.iter_mut().enumerate() {
            *value *= factor(index / len, index % channels);
        }
    }
}

/// Where a convolution's windows lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// (height, width).
    pub kernel: [usize; 2],
    /// (vertical, horizontal).
    pub stride: [usize; 2],
    /// [top, left, bottom, right].
    pub pads: [usize; 4],
}

/// How weights meet inputs.
#[derive(Clone, Debug, PartialEq)]
pub enum Operator {
    /// Over all channels.
    Conv {
        /// (filters, height, width, channels).
        weights: Kernel,
        /// Where.
        window: Window,
    },
    /// Depthwise, then pointwise, nothing between.
    Separable {
        /// (channels, height, width, 1).
        depthwise: Kernel,
        /// (filters, 1, 1, channels).
        pointwise: Kernel,
        /// Where.
        window: Window,
    },
    /// Fully connected: (units, height, width, channels).
    Dense {
        /// (units, height, width, channels).
        weights: Kernel,
    },
    /// Fully connected on the mean over all positions: (units, 1, 1, channels). On the chip a dense layer with the same
    /// weights for every position.
    AverageDense {
        /// (units, 1, 1, channels).
        weights: Kernel,
    },
}

impl Operator {
    /// The weights that make the output channels.
    pub fn output_weights(&self) -> &Kernel {
        match self {
            Self::Conv { weights, .. } | Self::Dense { weights } | Self::AverageDense { weights } => weights,
            Self::Separable { pointwise, .. } => pointwise,
        }
    }

    /// The same, to change them.
    pub fn output_weights_mut(&mut self) -> &mut Kernel {
        match self {
            Self::Conv { weights, .. } | Self::Dense { weights } | Self::AverageDense { weights } => weights,
            Self::Separable { pointwise, .. } => pointwise,
        }
    }
}

/// One layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Name of its main node.
    pub name: String,
    /// Name of the tensor it makes.
    pub tensor: String,
    /// What it computes.
    pub operator: Operator,
    /// Per filter.
    pub bias: Vec<f64>,
    /// Pooling of the sums, before the activation.
    pub pool: Pool,
    /// Upper bound of the rectifier for each filter, infinite where there is none. Empty: no activation.
    pub bound: Vec<f64>,
    /// Number around the map; 0 except in a first layer.
    pub padding: f64,
    /// (height, width, channels).
    pub input: Shape,
    /// (height, width) before pooling.
    pub conv: [usize; 2],
    /// (height, width, channels).
    pub output: Shape,
}

impl Layer {
    /// Number of output channels.
    pub fn filters(&self) -> usize {
        self.output[2]
    }

    /// Fills in the sizes; None when the kernel does not fit.
    pub fn sized(mut self) -> Option<Self> {
        let filters = self.operator.output_weights().shape[0];
        match self.window() {
            None => (self.conv, self.output) = ([1, 1], [1, 1, filters]),
            Some(Window { kernel, stride, pads }) => {
                let weights = Weights::new(8, [1, kernel[0], kernel[1], 1], &[]);
                let conv = Conv { stride, pads, pool: self.pool, ..Conv::new(ConvKind::Standard, weights) };
                let input = [self.input[0], self.input[1]];
                self.conv = conv.conv_size(input)?;
                let [height, width] = conv.output_size(input)?;
                self.output = [height, width, filters];
            }
        }
        Some(self)
    }

    /// Windows of a convolution; None for dense layers.
    pub fn window(&self) -> Option<Window> {
        match self.operator {
            Operator::Conv { window, .. } | Operator::Separable { window, .. } => Some(window),
            Operator::Dense { .. } | Operator::AverageDense { .. } => None,
        }
    }
}

/// The network.
#[derive(Clone, Debug, PartialEq)]
pub struct Chain {
    /// Name of the graph.
    pub name: String,
    /// Name of the float input.
    pub input: String,
    /// Its layout.
    pub layout: OnnxLayout,
    /// (height, width, channels).
    pub shape: Shape,
    /// First to last; at least one.
    pub layers: Vec<Layer>,
    /// Name of the float output.
    pub output: String,
}
