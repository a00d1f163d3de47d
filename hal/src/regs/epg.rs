//! The event packet generator (hardware.md section 10.2). Offsets from TOP + 0x40000.

use super::{Field, registers};

registers! {
    /// Control \[E\]\[B\].
    CONTROL = 0x00;
    /// NoC burst delay, 15..0 \[E\].
    BURST_DELAY = 0x04;
    /// Inter-packet delay, 15..0 \[E\].
    PACKET_DELAY = 0x08;
    /// Sync packet delays \[E\]\[B\].
    SYNC_DELAY = 0x0C;
    /// Destination of packets \[E\]\[B\].
    DESTINATION = 0x10;
    /// Destination layer \[E\]\[B\].
    DESTINATION_LAYER = 0x14;
    /// Sources and layers \[E\]\[B\].
    LAYERS = 0x18;
    /// Packet size, buffer mode, flush \[E\]\[B\].
    PACKET = 0x1C;
    /// Event buffer maximum, 30..0 \[E\].
    EVENT_BUFFER = 0x20;
    /// End-of-pass source layer \[E\].
    END_OF_PASS = 0x24;
    /// Debug counter \[E\].
    DEBUG_0 = 0x40;
    /// Debug counter \[E\].
    DEBUG_1 = 0x44;
}

/// [`CONTROL`]: AE inbound mode \[E\].
pub const INBOUND_MODE: Field = Field::bits(3, 0);
/// [`CONTROL`]: event size \[E\].
pub const EVENT_SIZE: Field = Field::bits(11, 8);
/// [`CONTROL`]: ij inbound swap \[E\].
pub const SWAP_INBOUND: Field = Field::bit(12);
/// [`CONTROL`]: ij outbound swap \[E\].
pub const SWAP_OUTBOUND: Field = Field::bit(13);
/// [`CONTROL`]: loopback \[E\].
pub const LOOPBACK: Field = Field::bit(16);
/// [`CONTROL`]: packet count enable \[E\].
pub const PACKET_COUNT: Field = Field::bit(17);
/// [`CONTROL`]: soft reset \[E\].
pub const SOFT_RESET: Field = Field::bit(20);
/// [`CONTROL`]: sequence id reset \[E\].
pub const SEQUENCE_RESET: Field = Field::bit(24);
/// What resets the block: soft reset and sequence id reset \[E\].
pub const RESET: u32 = SOFT_RESET.mask() | SEQUENCE_RESET.mask();
/// [`SYNC_DELAY`]: sync packet delay \[E\].
pub const SYNC_OUT: Field = Field::bits(15, 0);
/// [`SYNC_DELAY`]: inbound sync packet delay \[E\].
pub const SYNC_IN: Field = Field::bits(26, 16);
/// [`DESTINATION`]: packet type, see [`PacketType`] \[E\].
pub const PACKET_TYPE: Field = Field::bits(3, 0);
/// [`DESTINATION`]: destination NP \[E\].
pub const DESTINATION_NP: Field = Field::bits(7, 4);
/// [`DESTINATION`]: destination row, or west column \[E\].
pub const DESTINATION_ROW: Field = Field::bits(23, 16);
/// [`DESTINATION`]: destination column, or east column \[E\].
pub const DESTINATION_COLUMN: Field = Field::bits(31, 24);
/// [`DESTINATION_LAYER`]: layer \[E\].
pub const LAYER: Field = Field::bits(15, 8);
/// [`LAYERS`]: total source NPs \[E\].
pub const SOURCE_NPS: Field = Field::bits(7, 0);
/// [`LAYERS`]: source layer \[E\].
pub const SOURCE_LAYER: Field = Field::bits(15, 8);
/// [`LAYERS`]: last layer \[E\].
pub const LAST_LAYER: Field = Field::bits(23, 16);
/// [`LAYERS`]: end layer \[E\].
pub const END_LAYER: Field = Field::bits(31, 24);
/// [`PACKET`]: packet size, at most 0x7FFFFF \[E\].
pub const PACKET_SIZE: Field = Field::bits(22, 0);
/// [`PACKET`]: buffer mode \[E\].
pub const BUFFER_MODE: Field = Field::bit(24);
/// [`PACKET`]: flush enable \[E\].
pub const FLUSH: Field = Field::bit(25);
/// [`END_OF_PASS`]: source layer enable \[E\].
pub const EOP_SOURCE_ENABLE: Field = Field::bit(0);
/// [`END_OF_PASS`]: MM destination layer enable \[E\].
pub const MM_DESTINATION_ENABLE: Field = Field::bit(4);
/// [`END_OF_PASS`]: source layer \[E\].
pub const EOP_SOURCE: Field = Field::bits(22, 8);

/// [`DESTINATION`] packet types \[E\].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketType {
    /// To all.
    Broadcast = 0,
    /// To a range of columns.
    LimitedBroadcast = 1,
    /// To one NP.
    PointToPoint = 2,
}

/// The six writes of both decoded vendor programs \[B\].
pub const SEEN: [(u32, u32); 6] = [
    (CONTROL, 0x0002_1200),
    (SYNC_DELAY, 0x10),
    (DESTINATION, 0x0101_0001),
    (DESTINATION_LAYER, 0x100),
    (LAYERS, 0x01FE_0001),
    (PACKET, 0x027F_FFFF),
];
