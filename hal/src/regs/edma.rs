//! The PCIe DMA engine of the AKD1000: Synopsys eDMA, legacy map with a channel viewport (hardware.md section 3.2).
//!
//! Directions are the engine's: a **write** channel writes host memory (the host reads the device), a **read** channel
//! reads host memory (the host writes the device).

use super::{Field, registers};

/// Where the block starts in BAR2 of the AKD1000 \[K\]\[S\].
pub const BAR2_BASE: u32 = 0x970;
/// Channels per direction the boards use \[K\]\[S\].
pub const CHANNELS: usize = 2;

registers! {
    /// Control data arbitration priority \[K\].
    ARBITRATION = 0x000;
    /// Channel counts \[K\].
    CONTROL = 0x008;
    /// Write engine enable, bit 0 \[K\].
    WRITE_ENABLE = 0x00C;
    /// Write doorbell: channel number starts it \[K\].
    WRITE_DOORBELL = 0x010;
    /// Write channel arbitration weight, low \[K\].
    WRITE_WEIGHT_LOW = 0x018;
    /// Write channel arbitration weight, high \[K\].
    WRITE_WEIGHT_HIGH = 0x01C;
    /// Read engine enable, bit 0 \[K\].
    READ_ENABLE = 0x02C;
    /// Read doorbell \[K\].
    READ_DOORBELL = 0x030;
    /// Read channel arbitration weight, low \[K\].
    READ_WEIGHT_LOW = 0x038;
    /// Read channel arbitration weight, high \[K\].
    READ_WEIGHT_HIGH = 0x03C;
    /// Write interrupt status: [`DONE`] and [`ABORT`] per channel \[K\].
    WRITE_STATUS = 0x04C;
    /// Write interrupt mask, 1 = masked \[K\].
    WRITE_MASK = 0x054;
    /// Write interrupt clear, write 1 \[K\].
    WRITE_CLEAR = 0x058;
    /// Write error status \[K\].
    WRITE_ERROR = 0x05C;
    /// MSI address written when a write channel is done, low \[K\].
    WRITE_DONE_LOW = 0x060;
    /// High half of it \[K\].
    WRITE_DONE_HIGH = 0x064;
    /// MSI address written when a write channel aborts, low \[K\].
    WRITE_ABORT_LOW = 0x068;
    /// High half of it \[K\].
    WRITE_ABORT_HIGH = 0x06C;
    /// MSI data of write channels 0 (15..0) and 1 (31..16); further pairs follow \[K\].
    WRITE_DATA_01 = 0x070;
    /// MSI data of write channels 2 and 3 \[K\].
    WRITE_DATA_23 = 0x074;
    /// MSI data of write channels 4 and 5 \[K\].
    WRITE_DATA_45 = 0x078;
    /// MSI data of write channels 6 and 7 \[K\].
    WRITE_DATA_67 = 0x07C;
    /// Write linked-list error enable, a bit per channel \[K\].
    WRITE_LIST_ERROR = 0x090;
    /// Read interrupt status \[K\].
    READ_STATUS = 0x0A0;
    /// Read interrupt mask \[K\].
    READ_MASK = 0x0A8;
    /// Read interrupt clear \[K\].
    READ_CLEAR = 0x0AC;
    /// Read error status, low \[K\].
    READ_ERROR_LOW = 0x0B4;
    /// Read error status, high \[K\].
    READ_ERROR_HIGH = 0x0B8;
    /// Read linked-list error enable \[K\].
    READ_LIST_ERROR = 0x0C4;
    /// MSI address written when a read channel is done, low \[K\].
    READ_DONE_LOW = 0x0CC;
    /// High half of it \[K\].
    READ_DONE_HIGH = 0x0D0;
    /// MSI address written when a read channel aborts, low \[K\].
    READ_ABORT_LOW = 0x0D4;
    /// High half of it \[K\].
    READ_ABORT_HIGH = 0x0D8;
    /// MSI data of read channels 0 and 1 \[K\].
    READ_DATA_01 = 0x0DC;
    /// MSI data of read channels 2 and 3 \[K\].
    READ_DATA_23 = 0x0E0;
    /// MSI data of read channels 4 and 5 \[K\].
    READ_DATA_45 = 0x0E4;
    /// MSI data of read channels 6 and 7 \[K\].
    READ_DATA_67 = 0x0E8;
    /// Selects whose registers the channel window shows. 0xFC as compiled, not 0xF8 as commented \[K\]\[D\].
    VIEWPORT = 0x0FC;
    /// Channel window: control 1 ([`ChannelControl`]) \[K\].
    CHANNEL_CONTROL1 = 0x100;
    /// Channel window: control 2, not touched \[K\].
    CHANNEL_CONTROL2 = 0x104;
    /// Channel window: bytes, used without a list \[K\].
    CHANNEL_SIZE = 0x108;
    /// Channel window: source address, low \[K\].
    CHANNEL_SAR_LOW = 0x10C;
    /// Channel window: source address, high \[K\].
    CHANNEL_SAR_HIGH = 0x110;
    /// Channel window: destination address, low \[K\].
    CHANNEL_DAR_LOW = 0x114;
    /// Channel window: destination address, high \[K\].
    CHANNEL_DAR_HIGH = 0x118;
    /// Channel window: linked-list pointer, low. Two 32-bit writes: not 8-byte aligned \[K\].
    CHANNEL_LIST_LOW = 0x11C;
    /// Channel window: linked-list pointer, high \[K\].
    CHANNEL_LIST_HIGH = 0x120;
}

/// Bytes of the block.
pub const LEN: u32 = 0x124;

/// [`CONTROL`]: number of write channels \[K\].
pub const WRITE_CHANNELS: Field = Field::bits(3, 0);
/// [`CONTROL`]: number of read channels \[K\].
pub const READ_CHANNELS: Field = Field::bits(19, 16);
/// Doorbells and viewport: channel number \[K\].
pub const CHANNEL: Field = Field::bits(2, 0);
/// [`VIEWPORT`]: 1 selects read channels \[K\].
pub const VIEWPORT_READ: Field = Field::bit(31);
/// Status, mask and clear: done, a bit per channel \[K\].
pub const DONE: Field = Field::bits(7, 0);
/// Status, mask and clear: abort, a bit per channel \[K\].
pub const ABORT: Field = Field::bits(23, 16);
/// Mask and clear of every channel, for the idle state \[K\].
pub const ALL: u32 = 0x00FF_00FF;
/// [`CHANNEL_CONTROL1`]: channel status, see [`RUNNING`] and [`STOPPED`] \[K\].
pub const CHANNEL_STATUS: Field = Field::bits(6, 5);
/// Channel status: running \[K\].
pub const RUNNING: u32 = 1;
/// Channel status: stopped or complete; any value but this and [`RUNNING`] is an error \[K\].
pub const STOPPED: u32 = 3;

bitflags::bitflags! {
    /// [`CHANNEL_CONTROL1`], and the control word of list elements (the low five) \[K\].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct ChannelControl: u32 {
        /// CB, cycle bit: an element is consumed when its CB equals the channel's CCS.
        const CYCLE = 1 << 0;
        /// TCB: this link inverts CCS.
        const TOGGLE_CYCLE = 1 << 1;
        /// LLP: this element is a link.
        const LINK = 1 << 2;
        /// LIE: local interrupt when this element is done.
        const LOCAL_INTERRUPT = 1 << 3;
        /// RIE: remote interrupt (MSI) when this element is done.
        const REMOTE_INTERRUPT = 1 << 4;
        /// CCS: consumer cycle state.
        const CYCLE_STATE = 1 << 8;
        /// LLE: linked list enable.
        const LIST_ENABLE = 1 << 9;
    }
}

/// Register offsets of one direction, so that code for both is written once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Side {
    /// "write" or "read", for messages.
    pub name: &'static str,
    /// Engine enable.
    pub enable: u32,
    /// Doorbell.
    pub doorbell: u32,
    /// Interrupt status.
    pub status: u32,
    /// Interrupt mask.
    pub mask: u32,
    /// Interrupt clear.
    pub clear: u32,
    /// Linked-list error enable.
    pub list_error: u32,
    /// MSI address on done, low; the high word follows.
    pub done_address: u32,
    /// MSI address on abort, low; the high word follows.
    pub abort_address: u32,
    /// MSI data of channels 0 and 1.
    pub data: u32,
    /// Viewport value of channel 0.
    pub viewport: u32,
}

/// The write engine: device to host.
pub const WRITE: Side = Side {
    name: "write",
    enable: WRITE_ENABLE,
    doorbell: WRITE_DOORBELL,
    status: WRITE_STATUS,
    mask: WRITE_MASK,
    clear: WRITE_CLEAR,
    list_error: WRITE_LIST_ERROR,
    done_address: WRITE_DONE_LOW,
    abort_address: WRITE_ABORT_LOW,
    data: WRITE_DATA_01,
    viewport: 0,
};

/// The read engine: host to device.
pub const READ: Side = Side {
    name: "read",
    enable: READ_ENABLE,
    doorbell: READ_DOORBELL,
    status: READ_STATUS,
    mask: READ_MASK,
    clear: READ_CLEAR,
    list_error: READ_LIST_ERROR,
    done_address: READ_DONE_LOW,
    abort_address: READ_ABORT_LOW,
    data: READ_DATA_01,
    viewport: VIEWPORT_READ.mask(),
};
