//! The PCIe DMA engine of the AKD1500: Synopsys HDMA, native map in BAR0 (hardware.md section 3.3).

use super::{Field, registers};

/// Bytes of a channel pair: write block, then read block \[K\].
pub const PAIR: u32 = 0x200;
/// Offset of the read block in a pair \[K\].
pub const READ_BLOCK: u32 = 0x100;
/// Channel pairs the kernel driver disables \[K\]. Pairs 2 and up overlap the iATU (hardware.md section 20, trap 9).
pub const PAIRS: u32 = 8;
/// Channel pairs that are used \[K\].
pub const CHANNELS: usize = 2;

registers! {
    /// Channel enable, bit 0 \[K\].
    ENABLE = 0x00;
    /// Doorbell, bit 0 starts \[K\].
    DOORBELL = 0x04;
    /// Prefetch \[K\].
    PREFETCH = 0x08;
    /// Handshake \[K\].
    HANDSHAKE = 0x0C;
    /// Linked-list pointer, low \[K\].
    LIST_LOW = 0x10;
    /// Linked-list pointer, high \[K\].
    LIST_HIGH = 0x14;
    /// Cycle sync: bit 0 consumer cycle bit, bit 1 consumer cycle state \[K\].
    CYCLE = 0x18;
    /// Bytes, used without a list \[K\].
    SIZE = 0x1C;
    /// Source address, low \[K\].
    SAR_LOW = 0x20;
    /// Source address, high \[K\].
    SAR_HIGH = 0x24;
    /// Destination address, low \[K\].
    DAR_LOW = 0x28;
    /// Destination address, high \[K\].
    DAR_HIGH = 0x2C;
    /// Watermark enable \[K\].
    WATERMARK = 0x30;
    /// Control 1, bit 0 linked-list enable \[K\].
    CONTROL1 = 0x34;
    /// Function number \[K\].
    FUNCTION = 0x38;
    /// Quality of service \[K\].
    QOS = 0x3C;
    /// Channel status, see [`CHANNEL_STATUS`] \[K\].
    STATUS = 0x80;
    /// Interrupt status ([`Interrupt::STOP`], [`Interrupt::ABORT`]) \[K\].
    INTERRUPT_STATUS = 0x84;
    /// Interrupt set-up ([`Interrupt`]) \[K\].
    INTERRUPT_SETUP = 0x88;
    /// Interrupt clear \[K\].
    INTERRUPT_CLEAR = 0x8C;
    /// MSI address on stop, low \[K\].
    STOP_LOW = 0x90;
    /// High half of it \[K\].
    STOP_HIGH = 0x94;
    /// MSI address on watermark, low \[K\].
    WATERMARK_LOW = 0x98;
    /// High half of it \[K\].
    WATERMARK_HIGH = 0x9C;
    /// MSI address on abort, low \[K\].
    ABORT_LOW = 0xA0;
    /// High half of it \[K\].
    ABORT_HIGH = 0xA4;
    /// MSI data \[K\].
    MSI_DATA = 0xA8;
}

/// [`STATUS`]: 1 running, 3 stopped, others error \[K\].
pub const CHANNEL_STATUS: Field = Field::bits(1, 0);
/// Channel status: running.
pub const RUNNING: u32 = 1;
/// Channel status: stopped.
pub const STOPPED: u32 = 3;
/// [`CYCLE`] value the driver writes before each doorbell \[K\].
pub const CYCLE_START: u32 = 0x3;

bitflags::bitflags! {
    /// [`INTERRUPT_STATUS`], [`INTERRUPT_SETUP`] and [`INTERRUPT_CLEAR`] \[K\].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Interrupt: u32 {
        /// Stop (done); in the set-up register its mask.
        const STOP = 1 << 0;
        /// Abort; in the set-up register its mask.
        const ABORT = 1 << 2;
        /// Remote stop enable.
        const REMOTE_STOP = 1 << 3;
        /// Local stop enable.
        const LOCAL_STOP = 1 << 4;
        /// Remote abort enable.
        const REMOTE_ABORT = 1 << 5;
        /// Local abort enable.
        const LOCAL_ABORT = 1 << 6;
        /// What the kernel driver sets before a start: 0x7D. It sets the masks together with the enables and still gets
        /// interrupts.
        const START = 0x7D;
        /// Both events: 0x5.
        const BOTH = 0x5;
    }
}

/// BAR0 offset of a register of write channel `channel` (device to host).
pub const fn write_channel(channel: u32, register: u32) -> u32 {
    channel * PAIR + register
}

/// BAR0 offset of a register of read channel `channel` (host to device).
pub const fn read_channel(channel: u32, register: u32) -> u32 {
    channel * PAIR + READ_BLOCK + register
}
