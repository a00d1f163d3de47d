//! How one NP's part of a layer is laid out in NP registers and SRAM.
//!
//! The vendor's encoding is not public (hardware.md section 18). Where a register field has a public name we use it for
//! what its name says; everything else here is **ours** and works on simulated boards only (docs/np-program.md,
//! docs/silicon.md). The mapper encodes with this module, the simulated mesh decodes with it, and nothing else is
//! shared between them.
//!
//! - [`fields`]: which bits of which register hold what.
//! - [`registers`]: [`NpLayer`] to and from the 64 registers of an NP.
//! - [`sram`]: weights, parameters, look-up table and merge shifts to and from SRAM words, and how much room they take.

mod error;
pub mod fields;
pub mod registers;
pub mod sram;

pub use error::NpError;

/// Largest layer id. 254 means the output DMA where a destination is named, 255 is kept free.
pub const MAX_LAYER: u8 = 253;

/// Where the data an NP works on comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The job's input, from the HRC DMA (HRC off or bypassed) or the event DMA.
    Input,
    /// The outputs of all NPs (or the HRC) that hold this layer id.
    Layer(u8),
}

/// What an NP takes in: one tensor, or two merged on the way in (Akida 2.0, over skip DMA).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inbound {
    /// One tensor as it is.
    One(Source),
    /// `sat((a << sa) + (b << sb), scaled out)` per channel; shifts from packet SRAM ([`MergeRecord`], UID 3).
    Add(Source, Source),
    /// Channels of the first, then of the second.
    Concat(Source, Source),
}

/// How outputs leave the mesh (hardware.md 12.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputFormat {
    /// Every element, row-major (height, width, channels).
    Dense,
    /// What is not zero, as events: CNP events from an NP or the HRC, FNP events from an NP in FNP mode.
    Events,
}

/// Where an NP's outputs go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// To the NPs that hold this layer id. Any other NP whose inbound names this NP's layer takes it too.
    Layer(u8),
    /// To the output DMA.
    Output(OutputFormat),
}

/// What an NP computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Convolution over all input channels (correlation with the stored kernel). With a [`fifo`](NpLayer::fifo): a
    /// temporal convolution.
    Conv,
    /// One kernel per channel: filter n works on input channel n. With a [`fifo`](NpLayer::fifo): temporal.
    Depthwise,
    /// Depthwise then pointwise without anything between (Akida 1.0).
    Separable,
    /// Transposed convolution (Akida 2.0); output o takes kernel tap k of input i where `o = i * stride + k - pad`.
    Transposed,
    /// Depthwise transposed convolution (Akida 2.0).
    DepthwiseTransposed,
    /// Dot product over elements of the input in (height, width, channel) order; an FNP. See [`NpLayer::inputs`].
    Dense,
    /// Nothing: the output is the (merged) input. For a sum that several layers need, or that leaves the mesh.
    Merge,
}

/// Pooling between accumulation and activation ([`Pool::Max`], and [`Pool::Global`] on Akida 1.0) or after the
/// activation ([`Pool::Global`] on Akida 2.0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    /// None.
    None,
    /// Maximum over windows. Positions outside the map never win; how many there are at the bottom and right follows
    /// from the output rows and columns asked for.
    Max {
        /// Window (vertical, horizontal), 1..=7.
        size: [u8; 2],
        /// Step (vertical, horizontal), 1..=7.
        stride: [u8; 2],
        /// Rows above, columns left: 0 or 1.
        pad: [u8; 2],
    },
    /// Sum over the whole map.
    Global,
}

/// What happens to the accumulator before it is scaled out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    None,
    /// `max(acc, 0)` (2.0).
    Relu,
    /// `clamp(acc, 0, max)` with the parameter record's maximum (2.0).
    ReluClipped,
    /// 11-bit look-up table (2.0).
    Lut,
    /// `clip(ceil((acc - threshold) / step), 0, 2^bits - 1)` (1.0).
    Steps,
}

/// A range of rows, columns or filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First.
    pub origin: u16,
    /// How many.
    pub len: u16,
}

/// One NP's (or the HRC's) part of one layer. All coordinates are those of the whole layer, so that an NP can tell its
/// neighbour's rows from padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NpLayer {
    /// Id of the layer in this pass, 1..=253. Layers run in the order of their ids.
    pub layer: u8,
    /// What it takes in.
    pub inbound: Inbound,
    /// Where it sends.
    pub destination: Destination,
    /// What it computes.
    pub op: Op,
    /// Whole input of the layer: (height, width, channels); for [`Op::Dense`] the shape it is flattened from.
    pub input: [u16; 3],
    /// Bits of an input element (1, 2, 4, 8).
    pub input_bits: u8,
    /// Whether input elements are signed.
    pub input_signed: bool,
    /// Input rows this NP holds in its packet SRAM.
    pub in_rows: Span,
    /// Input columns this NP holds. What arrives from outside rows and columns is ignored (inbound cut, registers
    /// 0x24 and 0x28); what nobody sends is 0.
    pub in_columns: Span,
    /// [`Op::Dense`] only, `{0, 0}` otherwise: which elements of the whole input, numbered (row, column, channel)
    /// row-major, this NP holds and has weights for; its rows and columns are those of the whole input. A layer cut
    /// along its inputs has several NPs with different `inputs` and different `filters`: n slices of a layer of u units
    /// are n * u units of potentials. No public source says that a mesh adds them, so none does: the host adds.
    pub inputs: Span,
    /// Kernel (height, width).
    pub kernel: [u8; 2],
    /// Stride (vertical, horizontal).
    pub stride: [u8; 2],
    /// Padding (top, left), or what a transposed convolution crops there. What is missing at the bottom and right
    /// follows from `conv`.
    pub pad: [u8; 2],
    /// What padding is made of, per input channel: the HRC only, 0 otherwise.
    pub pad_value: [u8; 3],
    /// Whole output of the convolution, before pooling: (height, width).
    pub conv: [u16; 2],
    /// Pooling.
    pub pool: Pool,
    /// Output rows (after pooling) this NP makes. All NPs of a layer together may make less than the whole output:
    /// that is how a chip with SAME padding only computes the inner part, a VALID convolution.
    pub out_rows: Span,
    /// Output columns this NP makes.
    pub out_columns: Span,
    /// (row, column) of `out_rows` and `out_columns` that leaves as (0, 0): coordinates are reduced by this much on
    /// the way out (outbound origin, register 0x60).
    pub crop: [u16; 2],
    /// Filters (or units, or channels of a depthwise or merge layer) this NP makes.
    pub filters: Span,
    /// Frames a temporal convolution keeps, the newest included (Akida 2.0); 0 for all other layers.
    pub fifo: u8,
    /// Bits of a weight (1, 2, 4, 8); of the depthwise kernels for [`Op::Separable`]. 1-bit weights are 0 and 1.
    pub weight_bits: u8,
    /// Bits of a pointwise weight of [`Op::Separable`].
    pub pointwise_bits: u8,
    /// Number of the FNP2 address register (TOP + 0x10 + 4 * n) that says where in device memory weights and
    /// parameters are; None: they are in SRAM.
    pub external: Option<u8>,
    /// Activation.
    pub activation: Activation,
    /// Bits of an output element: 1, 2, 4, 8, or 32 for potentials.
    pub output_bits: u8,
    /// Whether output elements are signed.
    pub output_signed: bool,
    /// The accumulator saturates at this width (2.0: 28, or 32 for the HRC; hardware of 1.0 is not known, 32).
    pub accumulator_bits: u8,
}

/// How one input channel is merged by [`Inbound::Add`] (UID 3; 4 bytes; layout ours).
///
/// `sum = (a << a_shift) + (b << b_shift)`, then scaled by 2^-shift half up, unless the sum itself is the output
/// (32 bits).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct MergeRecord {
    /// Left shift of the first operand.
    pub a_shift: u8,
    /// Left shift of the second.
    pub b_shift: u8,
    /// k of S_out = 2^k: right shift, or left when negative.
    pub shift: i8,
}

/// Parameter record of one filter on Akida 2.0 (UID 4; 16 bytes; layout ours).
///
/// `y = sat((act(acc + bias) * scale) scaled by 2^-shift, half up)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ScaleRecord {
    /// Added to the accumulator.
    pub bias: i32,
    /// Upper bound of [`Activation::ReluClipped`].
    pub max_value: i32,
    /// Output scale M.
    pub scale: u8,
    /// k of S_out = 2^k: right shift, or left when negative.
    pub shift: i8,
    /// Scale of the accumulator on its way into the look-up table.
    pub lut_scale: u8,
    /// Shift of the same.
    pub lut_shift: i8,
}

/// Parameter record of one filter on Akida 1.0 (UID 4; 8 bytes; layout ours).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ThresholdRecord {
    /// Fire threshold.
    pub threshold: i32,
    /// Length of a quantization interval of 4 bits, in 1/16.
    pub step_16ths: u32,
}
