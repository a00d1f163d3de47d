//! PCI identity and configuration space (hardware.md section 1), and the standard capability bits the driver needs.

use crate::board::Chip;

/// Vendor id of all boards \[K\].
pub const VENDOR: u16 = 0x1E7C;
/// Device id of the AKD1000 \[K\].
pub const DEVICE_AKD1000: u16 = 0xBCA1;
/// Device id of the AKD1500 \[K\].
pub const DEVICE_AKD1500: u16 = 0xA500;
/// Device id of the simulated Akida 2.0 board. **Ours**: no PCI board of that IP is public.
pub const DEVICE_AKIDA2: u16 = 0xA2F0;

/// Subsystem id of every simulated board, so that a driver behind a real kernel knows that no silicon is there. **Ours**:
/// boards' own subsystem ids are not public, and no driver matches them.
pub const SUBSYSTEM_SIMULATED: u16 = 0x5349;

/// The chip a vendor and device id mean, if it is one of ours.
pub const fn chip(vendor: u16, device: u16) -> Option<Chip> {
    match (vendor, device) {
        (VENDOR, DEVICE_AKD1000) => Some(Chip::Akd1000),
        (VENDOR, DEVICE_AKD1500) => Some(Chip::Akd1500),
        (VENDOR, DEVICE_AKIDA2) => Some(Chip::Akida2),
        _ => None,
    }
}

/// The device id of a chip.
pub const fn device_id(chip: Chip) -> u16 {
    match chip {
        Chip::Akd1000 => DEVICE_AKD1000,
        Chip::Akd1500 => DEVICE_AKD1500,
        Chip::Akida2 => DEVICE_AKIDA2,
    }
}

/// Length of a PCI Express function's configuration space in bytes.
pub const CONFIG_LEN: u16 = 4096;

/// Word 0x00: vendor id 15..0, device id 31..16.
pub const ID: u16 = 0x00;
/// Word 0x04: command 15..0, status 31..16.
pub const COMMAND_STATUS: u16 = 0x04;
/// Word 0x08: revision 7..0, class code 31..8.
pub const CLASS_REVISION: u16 = 0x08;
/// Word 0x0C: cache line, latency, header type 23..16.
pub const HEADER: u16 = 0x0C;
/// First BAR register; BAR n is at `BAR0 + 4 * n`.
pub const BAR0: u16 = 0x10;
/// Word 0x2C: subsystem vendor and id.
pub const SUBSYSTEM: u16 = 0x2C;
/// Word 0x34: offset of the first capability in bits 7..0.
pub const CAPABILITIES: u16 = 0x34;
/// Word 0x3C: interrupt line and pin.
pub const INTERRUPT: u16 = 0x3C;

bitflags::bitflags! {
    /// Low half of [`COMMAND_STATUS`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Command: u32 {
        /// Memory BARs are decoded.
        const MEMORY = 1 << 1;
        /// The function may start memory accesses: without it there is no DMA and no MSI.
        const BUS_MASTER = 1 << 2;
        /// INTx is not asserted.
        const INTX_DISABLE = 1 << 10;
    }

    /// High half of [`COMMAND_STATUS`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Status: u32 {
        /// There is a capability list.
        const CAPABILITIES = 1 << 20;
    }
}

/// Capability id of MSI.
pub const CAP_MSI: u8 = 0x05;
/// Capability id of PCI Express.
pub const CAP_EXPRESS: u8 = 0x10;
/// Capability id of MSI-X.
pub const CAP_MSIX: u8 = 0x11;
/// Capability id of power management.
pub const CAP_POWER: u8 = 0x01;

bitflags::bitflags! {
    /// Word 0 of the MSI capability.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Msi: u32 {
        /// MSI enable.
        const ENABLE = 1 << 16;
        /// 64-bit message address: the data word is at +0xC, otherwise at +0x8.
        const ADDRESS64 = 1 << 23;
        /// Mask bits are implemented.
        const MASKABLE = 1 << 24;
    }
}

/// MSI message address, low word, relative to the capability.
pub const MSI_ADDRESS_LOW: u16 = 0x4;
/// MSI message address, high word (when [`Msi::ADDRESS64`]).
pub const MSI_ADDRESS_HIGH: u16 = 0x8;
/// MSI message data with a 32-bit address.
pub const MSI_DATA_32: u16 = 0x8;
/// MSI message data with a 64-bit address.
pub const MSI_DATA_64: u16 = 0xC;

/// Device capabilities, relative to the PCI Express capability; bit 28: function level reset.
pub const EXPRESS_DEVICE_CAPABILITIES: u16 = 0x04;
/// Device control and status; bit 15 of the low half starts a function level reset.
pub const EXPRESS_DEVICE_CONTROL: u16 = 0x08;
/// Link capabilities: speed 3..0, width 9..4, ASPM support 11..10.
pub const EXPRESS_LINK_CAPABILITIES: u16 = 0x0C;
/// Link control (low half) and status (high half: speed 19..16, width 25..20).
pub const EXPRESS_LINK_CONTROL: u16 = 0x10;
/// ASPM control in [`EXPRESS_LINK_CONTROL`]: bit 0 L0s, bit 1 L1. Must read 0: the device stops working otherwise \[K\].
pub const ASPM: super::Field = super::Field::bits(1, 0);
