//! Device addresses: what the Akida DMAs, the PCIe DMA engine and translated BARs see (hardware.md sections 3.4 and 5).

use crate::board::{Bar, Chip};

/// Akida top-level registers, all chips \[K\]\[E\].
pub const TOP: u32 = 0xFCC0_0000;
/// PCIe endpoint registers of the AKD1000; the eDMA block starts at +0x970 \[K\].
pub const DBI: u32 = 0xF8C0_0000;
/// LPDDR of the AKD1000, main SRAM of the AKD1500 \[K\]\[E\].
pub const MEMORY: u32 = 0x2000_0000;
/// First byte the host may use on the AKD1000: the 64 MB below are left to on-chip firmware \[E\].
pub const SCRATCH: u32 = 0x2400_0000;
/// Bytes from [`SCRATCH`] on \[E\].
pub const SCRATCH_LEN: u32 = 192 << 20;
/// LPDDR the engine assumes from [`MEMORY`] on; the installed size is in no trusted source \[E\].
pub const LPDDR_LEN: u32 = 256 << 20;
/// Main SRAM of the AKD1500 \[E\].
pub const SRAM_LEN: u32 = 1 << 20;
/// Host memory window of the AKD1500 \[K\]\[E\].
pub const HOST_WINDOW: u32 = 0xC000_0000;
/// Largest host window \[K\].
pub const HOST_WINDOW_MAX: u32 = 16 << 20;
/// Smallest host window; below that the feature is off \[K\].
pub const HOST_WINDOW_MIN: u32 = 1 << 20;

/// The device address each BAR shows once translation is programmed (hardware.md sections 2.1, 2.2); `None` where a BAR
/// has a fixed meaning. Akida 2.0 boards have the AKD1000's host interface (ours).
pub const fn bar_target(chip: Chip, bar: Bar) -> Option<u32> {
    match (chip, bar) {
        (Chip::Akd1500, Bar::Bar0) => None,
        (Chip::Akd1500, Bar::Bar2) | (_, Bar::Bar0) => Some(TOP),
        (_, Bar::Bar2) => Some(DBI),
        (_, Bar::Bar4) => Some(MEMORY),
    }
}

/// Where the linked lists of the four PCIe DMA channels lie in device memory (hardware.md section 3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListLayout {
    /// Device address of the reserved range.
    pub base: u32,
    /// Offsets from `base`: write channels 0 and 1 (TX), read channels 0 and 1 (RX).
    pub offsets: [u32; 4],
    /// Bytes of one list.
    pub len: u32,
    /// Bytes reserved from `base` on; nothing else may be put there.
    pub reserved: u32,
}

impl ListLayout {
    /// The kernel driver's default: one data element a list \[K\].
    pub const DEFAULT: Self = Self { base: MEMORY, offsets: [0x00, 0x40, 0x80, 0xC0], len: 0x40, reserved: 0x100 };
    /// The kernel driver's 4 MB layout: 10921 data elements a list \[K\]. What the AKD1000 is driven with here.
    pub const LARGE: Self =
        Self { base: MEMORY, offsets: [0, 0x4_0000, 0x8_0000, 0xC_0000], len: 0x4_0000, reserved: 0x40_0000 };
    /// Ours, for the AKD1500, whose memory is too small for [`LARGE`](Self::LARGE): 169 data elements a list.
    pub const SMALL: Self = Self { base: MEMORY, offsets: [0, 0x1000, 0x2000, 0x3000], len: 0x1000, reserved: 0x4000 };

    /// The layout a chip is driven with.
    pub const fn of(chip: Chip) -> Self {
        match chip {
            Chip::Akd1500 => Self::SMALL,
            _ => Self::LARGE,
        }
    }
}
