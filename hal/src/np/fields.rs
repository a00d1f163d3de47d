//! The register fields of this encoding: which bits of which register hold what (docs/np-program.md has the same table in
//! words).

use super::{MAX_LAYER, NpError};
use crate::regs::{Field, np};

/// Words of a configuration: registers 0x00..=0xF8. 0xFC is the soft reset.
pub const WRITTEN: usize = 63;

/// Whether the name and place of a field are public.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Named in a public header (hardware.md 10); its coding here is deduced or ours.
    Public,
    /// Our own.
    Ours,
}

/// A field of an NP register. It holds `value - base`.
#[derive(Clone, Copy, Debug)]
pub struct NpField {
    /// Name, the public one where there is one.
    pub name: &'static str,
    /// Byte offset of the register.
    pub offset: u32,
    /// Which bits.
    pub bits: Field,
    /// Value that is stored as 0.
    pub base: u32,
    /// Smallest value.
    pub min: u32,
    /// Largest value.
    pub max: u32,
    /// Where name and place are from.
    pub known: Known,
}

impl NpField {
    const fn public(name: &'static str, offset: u32, bits: Field) -> Self {
        Self { name, offset, bits, base: 0, min: 0, max: bits.max(), known: Known::Public }
    }

    const fn ours(name: &'static str, offset: u32, bits: Field) -> Self {
        Self { known: Known::Ours, ..Self::public(name, offset, bits) }
    }

    /// A count from 1, stored minus one.
    const fn minus_one(self) -> Self {
        Self { base: 1, min: 1, max: self.max + 1, ..self }
    }

    /// The same field with other limits.
    pub const fn within(self, min: u32, max: u32) -> Self {
        Self { min, max, ..self }
    }

    fn check(&self, value: i64) -> Result<u32, NpError> {
        let (min, max) = (i64::from(self.min), i64::from(self.max));
        if (min..=max).contains(&value) {
            Ok(value as u32)
        } else {
            Err(NpError::Range { field: self.name, value, min, max })
        }
    }

    /// Writes a value, or says that it does not fit.
    pub fn set(&self, words: &mut [u32; WRITTEN], value: impl Into<i64>) -> Result<(), NpError> {
        let stored = self.check(value.into())? - self.base;
        let word = &mut words[np::index(self.offset)];
        *word = self.bits.set(*word, stored);
        Ok(())
    }

    /// Reads the value, without judging it.
    pub fn raw(&self, words: &[u32; np::COUNT]) -> u32 {
        self.bits.get(words[np::index(self.offset)]).saturating_add(self.base)
    }

    /// Reads the value and checks its range.
    pub fn get(&self, words: &[u32; np::COUNT]) -> Result<u32, NpError> {
        self.check(self.raw(words).into())
    }

    pub(super) fn u8(&self, words: &[u32; np::COUNT]) -> Result<u8, NpError> {
        self.get(words).map(|v| v as u8)
    }

    pub(super) fn u16(&self, words: &[u32; np::COUNT]) -> Result<u16, NpError> {
        self.get(words).map(|v| v as u16)
    }

    pub(super) fn flag(&self, words: &[u32; np::COUNT]) -> bool {
        self.raw(words) != 0
    }
}

macro_rules! fields {
    ($($(#[$doc:meta])* $name:ident = $field:expr;)*) => {
        $($(#[$doc])* pub const $name: NpField = $field;)*
        /// Every field of this encoding, in the order of the registers.
        pub const ALL: &[NpField] = &[$($name),*];
    };
}

fields! {
    /// Set for [`Op::Dense`](super::Op::Dense).
    FNP_MODE = NpField::public("FNP mode", np::MODE, np::FNP_MODE);
    /// 0: this NP takes no part in the pass.
    LAYER = NpField::public("layer id", np::MODE, np::LAYER_ID).within(0, MAX_LAYER as u32);
    /// Address register of external weights, with [`EXTERNAL`].
    FNP2_ID = NpField::public("FNP2 id", np::MODE, np::FNP2_ID);
    /// 0: 1 bit, 1: 2, 2: 4, 3: 8. So for all widths.
    INBOUND_BITS = NpField::public("inbound bit width", np::WIDTHS, np::INBOUND_WIDTH);
    /// Set for [`Op::Separable`](super::Op::Separable).
    SEPARABLE = NpField::public("separable", np::WIDTHS, np::SEPARABLE);
    /// Of the depthwise kernels of a separable layer, of all weights otherwise.
    WEIGHT_BITS = NpField::public("filter weight width", np::WIDTHS, np::FILTER_WIDTH);
    /// Inbound elements are signed.
    INBOUND_SIGNED = NpField::ours("inbound signed", 0x0C, Field::bit(6));
    /// Clear for 1-bit weights.
    WEIGHTS_SIGNED = NpField::public("signed weights", np::WIDTHS, np::SIGNED_WEIGHTS);
    /// Of a separable layer.
    POINTWISE_BITS = NpField::public("pointwise width", np::WIDTHS, np::POINTWISE_WIDTH);
    /// Where "outbound quantize" is set.
    OUTBOUND_BITS = NpField::public("outbound width", np::WIDTHS, np::OUTBOUND_WIDTH);
    /// Outbound elements are signed.
    OUTBOUND_SIGNED = NpField::ours("outbound signed", 0x0C, Field::bit(14));
    /// Clear: 32-bit potentials.
    OUTBOUND_QUANTIZE = NpField::public("outbound quantize", np::WIDTHS, np::OUTBOUND_QUANTIZE);
    /// First input row held.
    I_ORIGIN = NpField::public("i origin cut", np::ORIGIN_CUT, np::I_ORIGIN_CUT);
    /// First input column held.
    J_ORIGIN = NpField::public("j origin cut", np::ORIGIN_CUT, np::J_ORIGIN_CUT);
    /// Input rows held.
    I_SIZE = NpField::public("i size cut", np::SIZE_CUT, np::I_SIZE_CUT).minus_one();
    /// Input columns held.
    J_SIZE = NpField::public("j size cut", np::SIZE_CUT, np::J_SIZE_CUT).minus_one();
    /// Input channels of the layer.
    CHANNELS = NpField::public("channel size", np::CONTAINER, np::CHANNEL_SIZE).within(1, 0xFFFF);
    /// Inputs held by an FNP.
    INPUTS = NpField::public("FNP packet word size", np::FNP_PACKET, np::FNP_PACKET_SIZE).within(0, 0xFFFF);
    /// Units this NP makes.
    NEURON_TOTAL = NpField::public("FNP neuron total", np::FNP_NEURONS, np::FNP_NEURON_TOTAL).within(0, 0xFFFF);
    /// First unit this NP makes.
    NEURON_ORIGIN = NpField::public("outbound neuron origin", np::OUTBOUND, np::NEURON_ORIGIN).within(0, 0xFFFF);
    /// 0: to NPs, 1: events to the output DMA, 2: dense to the output DMA.
    OUTBOUND_TYPE = NpField::public("outbound type", np::OUTBOUND, np::OUTBOUND_TYPE);
    /// The [`Op`](super::Op), in its order.
    KERNEL_TYPE = NpField::public("kernel type", np::KERNEL, np::KERNEL_TYPE);
    /// Filters this NP makes.
    FILTER_TOTAL = NpField::public("filter total", np::FILTERS, np::FILTER_TOTAL).minus_one();
    /// First output row.
    OUT_I_ORIGIN = NpField::public("outbound i origin", np::OUT_ORIGIN, np::OUT_I_ORIGIN);
    /// First output column.
    OUT_J_ORIGIN = NpField::public("outbound j origin", np::OUT_ORIGIN, np::OUT_J_ORIGIN);
    /// First filter.
    OUT_CHANNEL_ORIGIN = NpField::public("outbound channel origin", np::OUT_CHANNELS, np::OUT_CHANNEL_ORIGIN);
    /// Vertical; 0: no maximum pooling.
    POOL_SIZE = NpField::public("pool size", np::POOL, np::POOL_SIZE);
    /// Vertical.
    POOL_STRIDE = NpField::public("pool stride", np::POOL, np::POOL_STRIDE);
    /// Sum over the whole map.
    GLOBAL_POOLING = NpField::public("global pooling", np::POOL, np::POOL_GLOBAL);
    /// One column that never wins.
    POOL_PAD_LEFT = NpField::public("pad left", np::POOL, np::PAD_LEFT);
    /// One row that never wins.
    POOL_PAD_TOP = NpField::public("pad top", np::POOL, np::PAD_TOP);
    /// Horizontal.
    POOL_SIZE_J = NpField::ours("pool size horizontal", 0x6C, Field::bits(18, 16));
    /// Horizontal.
    POOL_STRIDE_J = NpField::ours("pool stride horizontal", 0x6C, Field::bits(22, 20));
    /// 0: the job's input, otherwise a layer id.
    SOURCE_A = NpField::ours("first source", 0x78, Field::bits(7, 0)).within(0, MAX_LAYER as u32);
    /// The second tensor of a merge.
    SOURCE_B = NpField::ours("second source", 0x78, Field::bits(15, 8)).within(0, MAX_LAYER as u32);
    /// 0: one source, 1: add, 2: concatenate.
    MERGE = NpField::ours("merge", 0x78, Field::bits(17, 16));
    /// Weights and parameters are in device memory.
    EXTERNAL = NpField::ours("external weights", 0x7C, Field::bit(0));
    /// 0xFE: the output DMA.
    DESTINATION = NpField::public("spike destination layer", np::SPIKE_DESTINATION, np::SPIKE_LAYER).within(1, 0xFE);
    /// Rows of the layer's input.
    HEIGHT = NpField::ours("input height", 0xD0, Field::bits(15, 0)).within(1, 0xFFFF);
    /// Columns of the layer's input.
    WIDTH = NpField::ours("input width", 0xD0, Field::bits(31, 16)).within(1, 0xFFFF);
    /// Output rows of this NP.
    OUT_ROWS = NpField::ours("output rows", 0xD4, Field::bits(15, 0)).within(1, 0xFFFF);
    /// Output columns of this NP.
    OUT_COLUMNS = NpField::ours("output columns", 0xD4, Field::bits(31, 16)).within(1, 0xFFFF);
    /// Rows of the layer's convolution, before pooling.
    CONV_HEIGHT = NpField::ours("convolution height", 0xD8, Field::bits(15, 0)).within(1, 0xFFFF);
    /// Columns of the same.
    CONV_WIDTH = NpField::ours("convolution width", 0xD8, Field::bits(31, 16)).within(1, 0xFFFF);
    /// Kernel rows.
    KERNEL_HEIGHT = NpField::ours("kernel height", 0xDC, Field::bits(3, 0)).within(1, 15);
    /// Kernel columns.
    KERNEL_WIDTH = NpField::ours("kernel width", 0xDC, Field::bits(7, 4)).within(1, 15);
    /// Vertical.
    STRIDE_I = NpField::ours("stride vertical", 0xDC, Field::bits(11, 8)).within(1, 15);
    /// Horizontal.
    STRIDE_J = NpField::ours("stride horizontal", 0xDC, Field::bits(15, 12)).within(1, 15);
    /// Rows above.
    PAD_TOP = NpField::ours("padding top", 0xDC, Field::bits(19, 16));
    /// Columns to the left.
    PAD_LEFT = NpField::ours("padding left", 0xDC, Field::bits(23, 20));
    /// Frames of a temporal convolution.
    FIFO = NpField::ours("fifo frames", 0xDC, Field::bits(27, 24));
    /// The [`Activation`](super::Activation), in its order.
    ACTIVATION = NpField::ours("activation", 0xE0, Field::bits(2, 0));
    /// Width at which the sum of products saturates.
    ACCUMULATOR_BITS = NpField::ours("accumulator bits", 0xE0, Field::bits(13, 8)).within(8, 32);
    /// Padding of input channel 0 (HRC).
    PAD_VALUE_0 = NpField::ours("padding value 0", 0xE4, Field::bits(7, 0));
    /// Of input channel 1.
    PAD_VALUE_1 = NpField::ours("padding value 1", 0xE4, Field::bits(15, 8));
    /// Of input channel 2.
    PAD_VALUE_2 = NpField::ours("padding value 2", 0xE4, Field::bits(23, 16));
    /// Output row that leaves as row 0.
    CROP_I = NpField::ours("crop rows", 0xE8, Field::bits(15, 0));
    /// Output column that leaves as column 0.
    CROP_J = NpField::ours("crop columns", 0xE8, Field::bits(31, 16));
    /// First input held by an FNP.
    INPUT_ORIGIN = NpField::ours("FNP input origin", 0xEC, Field::bits(15, 0));
    /// [`ENCODING`](super::registers::ENCODING).
    TAG = NpField::ours("encoding", 0xF8, Field::bits(31, 0));
}
