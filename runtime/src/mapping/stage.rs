//! A hardware layer before it is cut into parts.

use akida_hal::mesh::NpTypes;
use akida_hal::np::{Activation as NpActivation, Op};

use super::geometry::Axis;
use crate::model::{Layer, Shape};

/// What a hardware layer is for a model layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The layer itself.
    Layer,
    /// The identity behind its max pooling.
    PassThrough,
}

/// Where a stage's input comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feed {
    /// The sequence's input.
    Input,
    /// The output of a stage of this sequence.
    Stage(usize),
}

/// What a stage takes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inbound {
    /// One tensor.
    One(Feed),
    /// The sum that this model layer makes.
    Add(Feed, Feed, usize),
    /// Two tensors' channels.
    Concat(Feed, Feed),
}

impl Inbound {
    /// The feeds.
    pub fn feeds(&self) -> impl Iterator<Item = Feed> {
        match *self {
            Inbound::One(a) => [Some(a), None],
            Inbound::Add(a, b, _) | Inbound::Concat(a, b) => [Some(a), Some(b)],
        }
        .into_iter()
        .flatten()
    }
}

/// One hardware layer before it is cut into parts.
#[derive(Clone, Debug)]
pub struct Stage<'m> {
    /// Index of the model layer.
    pub index: usize,
    /// The model layer.
    pub layer: &'m Layer,
    /// What this is for it.
    pub role: Role,
    /// What it takes in.
    pub inbound: Inbound,
    /// What it computes.
    pub op: Op,
    /// What an NP must be able to do; empty on the HRC, FNP2 and FNP3 both for dense layers.
    pub needs: NpTypes,
    /// (height, width, channels), merged.
    pub input: Shape,
    /// Bits of an input element.
    pub input_bits: u8,
    /// Whether input elements are signed.
    pub input_signed: bool,
    /// Kernel (height, width).
    pub kernel: [usize; 2],
    /// Rows and columns.
    pub axes: [Axis; 2],
    /// Filters, units or channels made; of one slice.
    pub filters: usize,
    /// Into how many slices a dense layer's inputs must be cut at least; 1 for all others.
    pub slices: usize,
    /// FIFO frames.
    pub fifo: usize,
    /// Bits of a weight.
    pub weight_bits: u8,
    /// Bits of a pointwise weight.
    pub pointwise_bits: u8,
    /// Activation.
    pub activation: NpActivation,
    /// Bits of an output element.
    pub output_bits: u8,
    /// Whether output elements are signed.
    pub output_signed: bool,
    /// Accumulator width.
    pub accumulator_bits: u8,
}

impl Stage<'_> {
    /// On the HRC.
    pub fn is_hrc(&self) -> bool {
        self.needs.is_empty()
    }

    /// Output as it leaves: (height, width, channels), slices one after another.
    pub fn output(&self) -> Shape {
        [self.axes[0].len, self.axes[1].len, self.filters * self.slices]
    }

    /// Multiply-adds of one sample for `filters` filters at rows x columns outputs; of a dense layer, for `filters` units
    /// that see `inputs` inputs. The depthwise half of a separable layer makes the sums of all channels whatever the
    /// number of filters, so NPs that share such a layer by filters all do it.
    pub fn macs(&self, filters: usize, [rows, columns]: [usize; 2], inputs: usize) -> u64 {
        let [all_rows, all_columns, _] = self.output();
        let (all, mine) = ((all_rows * all_columns).max(1) as u64, (rows * columns) as u64);
        let filters = filters as u64;
        let rows_of_kernels = match self.op {
            Op::Dense => return filters * inputs as u64,
            Op::Separable => filters + (self.kernel[0] * self.kernel[1]) as u64,
            _ => filters,
        };
        self.macs_per_filter() * rows_of_kernels * mine / all
    }

    /// Multiply-adds of one filter at every output position of one sample; of a separable layer, of its pointwise half.
    fn macs_per_filter(&self) -> u64 {
        let taps = (self.kernel[0] * self.kernel[1] * self.fifo.max(1)) as u64;
        let channels = self.input[2] as u64;
        let positions = |axis: &Axis| {
            let [start, end] = axis.conv_range(0, axis.len);
            (end - start) as u64
        };
        let positions = positions(&self.axes[0]) * positions(&self.axes[1]);
        match self.op {
            Op::Conv => taps * channels * positions,
            Op::Depthwise => taps * positions,
            Op::Separable => channels * positions,
            Op::Transposed => taps * channels * (self.input[0] * self.input[1]) as u64,
            Op::DepthwiseTransposed => taps * (self.input[0] * self.input[1]) as u64,
            Op::Dense => self.input.iter().product::<usize>() as u64,
            Op::Merge => 0,
        }
    }
}
