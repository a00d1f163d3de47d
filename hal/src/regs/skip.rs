//! Skip-DMA registers (hardware.md section 10.1; 2.0 and two-node IP). Reached with UID 8 packets to the skip-DMA NP,
//! address = byte offset / 4. Per channel: a core block with offsets of [`dma`](super::dma) plus those below, and an
//! interface block.

use super::{Field, registers};

/// Bytes between channels, in both blocks \[E\].
pub const CHANNEL: u32 = 0x400;
/// Start of the interface blocks \[E\].
pub const INTERFACE: u32 = 0x4000;
/// Burst delay, after the interface base \[E\].
pub const BURST_DELAY: u32 = 0x4004;
/// Bytes of a descriptor container \[E\].
pub const DESCRIPTOR_BYTES: u32 = 64;
/// Alignment of memory skip-DMA descriptors point at \[E\].
pub const ALIGNMENT: u32 = 16;

registers! {
    /// Interface block: packet type and destination \[E\].
    HEADER = 0x10;
    /// Interface block: layer \[E\].
    PAYLOAD = 0x14;
    /// Interface block: sources and layers \[E\].
    SYNC = 0x18;
    /// Interface block: inbound variant of [`HEADER`] \[E\].
    INBOUND_HEADER = 0x90;
    /// Interface block: inbound variant of [`SYNC`] \[E\].
    INBOUND_SYNC = 0x98;
    /// Interface block: i and j offsets \[E\].
    IJ_OFFSET = 0xA8;
    /// Interface block: channel offset \[E\].
    CHANNEL_OFFSET = 0xAC;
    /// Core block: TNP depth, 4-bit activations \[E\].
    TNP = 0xF0;
    /// Core block: inner size, 9..0 \[E\].
    INNER_SIZE = 0xF4;
    /// Core block: outer size, 20..0 \[E\].
    OUTER_SIZE = 0xF8;
}

/// [`HEADER`]: packet type \[E\].
pub const TYPE: Field = Field::bits(3, 0);
/// [`HEADER`]: NPs \[E\].
pub const NPS: Field = Field::bits(7, 4);
/// [`HEADER`]: row \[E\].
pub const ROW: Field = Field::bits(23, 16);
/// [`HEADER`]: column \[E\].
pub const COLUMN: Field = Field::bits(31, 24);
/// [`PAYLOAD`]: layer \[E\].
pub const LAYER: Field = Field::bits(15, 8);
/// [`SYNC`]: sources \[E\].
pub const SOURCES: Field = Field::bits(7, 0);
/// [`SYNC`]: source layer \[E\].
pub const SOURCE_LAYER: Field = Field::bits(15, 8);
/// [`SYNC`]: last layer \[E\].
pub const LAST_LAYER: Field = Field::bits(23, 16);
/// [`SYNC`]: end layer \[E\].
pub const END_LAYER: Field = Field::bits(31, 24);
/// [`IJ_OFFSET`]: j offset \[E\].
pub const J_OFFSET: Field = Field::bits(11, 0);
/// [`IJ_OFFSET`]: i offset \[E\].
pub const I_OFFSET: Field = Field::bits(27, 16);
/// [`TNP`]: depth \[E\].
pub const TNP_DEPTH: Field = Field::bits(3, 0);
/// [`TNP`]: 4-bit activations \[E\].
pub const TNP_4BIT: Field = Field::bit(28);
