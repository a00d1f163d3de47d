//! Top-level registers of the Akida core and its interrupt controller (hardware.md sections 6 and 7). Offsets from
//! [`memory_map::TOP`](crate::memory_map::TOP).

use super::{Field, registers};
use crate::mesh::Version;

/// Event DMA block (AEDMA) \[E\]\[K\].
pub const EVENT_DMA: u32 = 0x20000;
/// HRC DMA block: dense input \[E\].
pub const HRC_DMA: u32 = 0x28000;
/// Config DMA block \[E\].
pub const CONFIG_DMA: u32 = 0x30000;
/// Event packet generator block \[E\].
pub const EPG: u32 = 0x40000;
/// Interrupt controller block \[E\].
pub const INTERRUPTS: u32 = 0x70000;

registers! {
    /// IP version: minor 7..0, major 15..8, product 23..16, vendor 31..24. 0 on the AKD1000 \[E\].
    IP_VERSION = 0x00;
    /// General control ([`GeneralControl`]) \[E\].
    GENERAL_CONTROL = 0x04;
    /// External weight address of FNP2 id 0; ids 1..3 follow \[E\].
    FNP2_ADDRESS_0 = 0x10;
    /// External weight address of FNP2 id 1 \[E\].
    FNP2_ADDRESS_1 = 0x14;
    /// External weight address of FNP2 id 2 \[E\].
    FNP2_ADDRESS_2 = 0x18;
    /// External weight address of FNP2 id 3 \[E\].
    FNP2_ADDRESS_3 = 0x1C;
    /// Rows, columns, start columns \[E\].
    MESH_INFO_1 = 0x50;
    /// NPs per node, DMA node \[E\].
    MESH_INFO_2 = 0x54;
    /// FNP2 node, last row \[E\].
    MESH_INFO_3 = 0x58;
    /// Skip DMA info (2.0; reserved zero on the AKD1000) \[E\].
    SKIP_INFO = 0x64;
    /// Install options ([`Installed`]) \[E\].
    INSTALLED = 0x68;
    /// Shared packet SRAM depth \[E\].
    PACKET_SRAM_DEPTH = 0x70;
    /// Shared filter SRAM depth \[E\].
    FILTER_SRAM_DEPTH = 0x74;
    /// Interrupt controller: bit 0 global enable \[E\].
    INTERRUPT_ENABLE = 0x70000;
    /// Interrupt controller: source mask, 1 = masked ([`InterruptSource`]) \[E\].
    INTERRUPT_MASK = 0x70004;
    /// Interrupt controller: source \[E\].
    INTERRUPT_SOURCE = 0x70008;
}

/// Offset of the external weight address register of FNP2 `id` (0..=3).
pub const fn fnp2_address(id: u8) -> u32 {
    FNP2_ADDRESS_0 + 4 * (id as u32 & 3)
}

bitflags::bitflags! {
    /// [`GENERAL_CONTROL`] \[E\].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct GeneralControl: u32 {
        /// Rewind mode.
        const REWIND = 1 << 0;
        /// PR mesh reset end: partial reconfiguration, multi-pass.
        const MULTI_PASS = 1 << 1;
        /// Logic reset.
        const LOGIC_RESET = 1 << 8;
        /// Core reset, with the DMAs.
        const CORE_RESET = 1 << 9;
        /// Mesh reset.
        const MESH_RESET = 1 << 10;
        /// SCC core reset.
        const SCC_RESET = 1 << 12;
        /// Core clock power-down.
        const CORE_POWER_DOWN = 1 << 16;
        /// C2C upstream clock power-down.
        const C2C_UP_POWER_DOWN = 1 << 17;
        /// C2C downstream clock power-down.
        const C2C_DOWN_POWER_DOWN = 1 << 18;
        /// SCC core clock power-down.
        const SCC_POWER_DOWN = 1 << 20;
    }

    /// [`INSTALLED`] \[E\], newer headers.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Installed: u32 {
        /// Event DMA.
        const AEDMA = 1 << 0;
        /// NP DMA.
        const NPDMA = 1 << 1;
        /// HRC.
        const HRC = 1 << 4;
        /// SCC.
        const SCC = 1 << 5;
        /// HRC look-up table.
        const HRC_LUT = 1 << 6;
        /// NP SPI.
        const NP_SPI = 1 << 8;
        /// Single-NP IP.
        const SINGLE_NP = 1 << 12;
    }

    /// [`INTERRUPT_MASK`] and [`INTERRUPT_SOURCE`] \[E\].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct InterruptSource: u32 {
        /// Event DMA.
        const AEDMA = 1 << 0;
        /// Event interface.
        const AE_INTERFACE = 1 << 1;
        /// Config DMA.
        const CONFIG_DMA = 1 << 2;
        /// Config interface.
        const CONFIG_INTERFACE = 1 << 3;
        /// SCC or HRC.
        const HRC = 1 << 5;
    }
}

/// [`IP_VERSION`]: minor \[E\].
pub const VERSION_MINOR: Field = Field::bits(7, 0);
/// [`IP_VERSION`]: major \[E\].
pub const VERSION_MAJOR: Field = Field::bits(15, 8);
/// [`IP_VERSION`]: product id \[E\].
pub const VERSION_PRODUCT: Field = Field::bits(23, 16);
/// [`IP_VERSION`]: vendor id \[E\].
pub const VERSION_VENDOR: Field = Field::bits(31, 24);

/// What [`IP_VERSION`] reads on hardware of this version: 0 on the AKD1000 \[D\].
pub const fn version_word(version: Version) -> u32 {
    if version.product == 0 {
        return 0;
    }
    VERSION_VENDOR.of(version.vendor as u32)
        | VERSION_PRODUCT.of(version.product as u32)
        | VERSION_MAJOR.of(version.major as u32)
        | VERSION_MINOR.of(version.minor as u32)
}

/// The version a non-zero [`IP_VERSION`] tells; `None` for 0, which means "legacy: look at the PCI identity".
pub const fn version(word: u32) -> Option<Version> {
    if word == 0 {
        return None;
    }
    Some(Version {
        vendor: VERSION_VENDOR.get(word) as u8,
        product: VERSION_PRODUCT.get(word) as u8,
        major: VERSION_MAJOR.get(word) as u8,
        minor: VERSION_MINOR.get(word) as u8,
    })
}

/// [`MESH_INFO_1`]: rows \[E\].
pub const ROWS: Field = Field::bits(7, 0);
/// [`MESH_INFO_1`]: columns \[E\].
pub const COLUMNS: Field = Field::bits(15, 8);
/// [`MESH_INFO_1`]: first column of row 1 that has a common node \[E\].
pub const ROW1_START: Field = Field::bits(23, 16);
/// [`MESH_INFO_1`]: first column of row 2 \[E\].
pub const ROW2_START: Field = Field::bits(31, 24);
/// [`MESH_INFO_2`]: NPs per node \[E\].
pub const NPS_PER_NODE: Field = Field::bits(2, 0);
/// [`MESH_INFO_2`]: the DMA node has no NPs \[E\].
pub const DMA_NODE_EMPTY: Field = Field::bit(4);
/// [`MESH_INFO_2`]: row of the DMA node \[E\].
pub const DMA_ROW: Field = Field::bits(15, 8);
/// [`MESH_INFO_2`]: column of the DMA node \[E\].
pub const DMA_COLUMN: Field = Field::bits(23, 16);
/// [`MESH_INFO_2`]: id of the event DMA in its node \[E\].
pub const DMA_EVENT_ID: Field = Field::bits(25, 24);
/// [`MESH_INFO_2`]: id of the config DMA in its node \[E\].
pub const DMA_CONFIG_ID: Field = Field::bits(29, 28);
/// [`MESH_INFO_3`]: row of the FNP2 node \[E\].
pub const FNP2_ROW: Field = Field::bits(7, 0);
/// [`MESH_INFO_3`]: column of the FNP2 node \[E\].
pub const FNP2_COLUMN: Field = Field::bits(15, 8);
/// [`MESH_INFO_3`]: FNP2 number \[E\].
pub const FNP2_NUMBER: Field = Field::bits(17, 16);
/// [`MESH_INFO_3`]: columns of the last row, absent on the AKD1000 \[E\].
pub const LAST_ROW_COLUMNS: Field = Field::bits(31, 24);
/// [`SKIP_INFO`]: a bit per column with skip DMA \[E\].
pub const SKIP_COLUMNS: Field = Field::bits(15, 0);
/// [`SKIP_INFO`]: channels \[E\].
pub const SKIP_CHANNELS: Field = Field::bits(31, 24);

/// Hold time of a core or mesh reset, and the wait after it: 1 ms in the engine, for 20 and 40 clock cycles \[E\].
pub const RESET_TIME: std::time::Duration = std::time::Duration::from_millis(1);
