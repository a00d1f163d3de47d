//! What is on a mesh: nodes, NPs and their types, SRAM sizes. The tables are those of targets.md section 4.2; a real
//! board is scanned and the scan compared with them.

use std::fmt;

use crate::board::Chip;

/// Hardware version (vendor, product, major, minor), printed as `BC.A1.003.009` (hardware.md section 7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Version {
    /// 0xBC.
    pub vendor: u8,
    /// 0x00 NSoC, 0xA1 AKD1500 and 1.0 IP, 0xA2 2.0 IP.
    pub product: u8,
    /// Major.
    pub major: u8,
    /// Minor.
    pub minor: u8,
}

impl Version {
    /// AKD1000 production silicon (NSoC_v2). Its version register reads 0.
    pub const AKD1000: Version = Version { vendor: 0xBC, product: 0x00, major: 0, minor: 2 };
    /// AKD1500.
    pub const AKD1500: Version = Version { vendor: 0xBC, product: 0xA1, major: 3, minor: 9 };
    /// Akida 2.0 IP, two- and six-node.
    pub const AKIDA2: Version = Version { vendor: 0xBC, product: 0xA2, major: 1, minor: 0 };

    /// 1 or 2: which generation of NP arithmetic the hardware has.
    pub const fn generation(self) -> u8 {
        if self.product == 0xA2 { 2 } else { 1 }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02X}.{:02X}.{:03}.{:03}", self.vendor, self.product, self.major, self.minor)
    }
}

/// Where an NP is: 1-based column and row, id 0..3 inside the node. (0, 0, 0) is the HRC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NpAddress {
    /// Column, 1-based.
    pub column: u8,
    /// Row, 1-based.
    pub row: u8,
    /// 0..3.
    pub id: u8,
}

impl NpAddress {
    /// The HRC's identity in packet headers.
    pub const HRC: NpAddress = NpAddress { column: 0, row: 0, id: 0 };
}

impl fmt::Display for NpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::HRC { f.write_str("HRC") } else { write!(f, "NP({},{},{})", self.column, self.row, self.id) }
    }
}

bitflags::bitflags! {
    /// What an NP can be configured as; it takes one of them per pass.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct NpTypes: u8 {
        /// Convolution.
        const CNP1 = 1 << 0;
        /// Separable and depthwise convolution.
        const CNP2 = 1 << 1;
        /// Fully connected, weights in device memory.
        const FNP2 = 1 << 2;
        /// Fully connected, weights in its own SRAM.
        const FNP3 = 1 << 3;
        /// Temporal, buffered (2.0).
        const TNP_B = 1 << 4;
    }
}

/// SRAM of one NP in bytes, as `akida_hal::np` packs it. The sizes are not public: [`SRAM_1`] is deduced from published NP
/// counts, [`SRAM_2`] is ours, from the 100 KB per NP that an AKD1500 datasheet is quoted with (docs/silicon.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SramSizes {
    /// Inbound packet SRAM: the input tile an NP works on.
    pub packet: u32,
    /// Filter (weight) SRAM.
    pub filter: u32,
    /// Thresholds, or bias and output scales: 16 bytes per filter.
    pub parameter: u32,
    /// Look-up table (2.0 only).
    pub lut: u32,
    /// The HRC's own: filters and parameters together.
    pub hrc: u32,
}

/// A mesh: what is where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mesh {
    /// Hardware version.
    pub version: Version,
    /// Columns and rows of the grid.
    pub columns: u8,
    /// Rows.
    pub rows: u8,
    /// Event DMA endpoint.
    pub dma_event: NpAddress,
    /// Configuration DMA endpoint.
    pub dma_config: NpAddress,
    /// Every NP, by address.
    pub nps: Vec<(NpAddress, NpTypes)>,
    /// Whether there is an HRC.
    pub hrc: bool,
    /// Skip DMA channels (2.0 only).
    pub skip_channels: u8,
    /// SRAM of one NP.
    pub sram: SramSizes,
}

/// Ours, for Akida 2.0: see [`SramSizes`].
pub const SRAM_2: SramSizes =
    SramSizes { packet: 32 * 1024, filter: 64 * 1024, parameter: 8 * 1024, lut: 4 * 1024, hrc: 64 * 1024 };

/// Deduced, for Akida 1.0, from the NP counts the vendor publishes for thirteen networks (docs/mapping.md): 83,840 weights of
/// 4 bits, which is what 64 KiB hold in words of 100 bits for 16 weights (hardware.md 9.1, targets.md 4.3), and inputs of
/// 40 KiB. The others are ours.
pub const SRAM_1: SramSizes = SramSizes { packet: 40 * 1024, filter: 655 * 64, ..SRAM_2 };

fn node(nps: &mut Vec<(NpAddress, NpTypes)>, column: u8, row: u8, types: [NpTypes; 4]) {
    nps.extend((0..4u8).zip(types).map(|(id, t)| (NpAddress { column, row, id }, t)));
}

const C1: NpTypes = NpTypes::CNP1;
const C12: NpTypes = NpTypes::CNP1.union(NpTypes::CNP2);
const F2: NpTypes = NpTypes::CNP1.union(NpTypes::FNP2);
const F3: NpTypes = NpTypes::CNP1.union(NpTypes::FNP3);
/// "Regular" node of targets.md 4.2.
const REGULAR: [NpTypes; 4] = [F3, C12, C12, C12];

impl Mesh {
    /// AKD1000: 78 NPs.
    pub fn akd1000() -> Self {
        let mut nps = Vec::new();
        for (column, rows) in [(1u8, 3..=5u8), (2, 3..=5), (3, 2..=5), (4, 2..=5), (5, 2..=5)] {
            for row in rows {
                node(&mut nps, column, row, REGULAR);
            }
        }
        nps.extend([2, 3].map(|id| (NpAddress { column: 3, row: 1, id }, C1)));
        node(&mut nps, 4, 1, [F2; 4]);
        Self::finish(Version::AKD1000, 5, 5, (3, 1), nps, 0)
    }

    /// AKD1500: 32 NPs.
    pub fn akd1500() -> Self {
        let mut nps = Vec::new();
        node(&mut nps, 1, 2, [F2, C1, C1, C1]);
        for (column, row) in [(1, 3), (2, 1), (2, 2), (2, 3), (3, 1), (3, 2), (3, 3)] {
            node(&mut nps, column, row, REGULAR);
        }
        Self::finish(Version::AKD1500, 3, 3, (1, 1), nps, 0)
    }

    /// Akida 2.0, two nodes: 8 NPs.
    pub fn akida2_two_nodes() -> Self {
        let mut nps = Vec::new();
        node(&mut nps, 1, 2, [F2, C1, C1, C1]);
        node(&mut nps, 2, 2, REGULAR);
        Self::finish(Version::AKIDA2, 2, 2, (1, 1), nps, 2)
    }

    /// Akida 2.0, six nodes: 24 NPs.
    pub fn akida2_six_nodes() -> Self {
        let t = NpTypes::TNP_B;
        let mut nps = Vec::new();
        node(&mut nps, 1, 2, [F2 | t, C1 | t, C1 | t, C1 | t]);
        for column in [2, 3] {
            node(&mut nps, column, 2, [F3 | t, C12 | t, C12 | t, C12 | t]);
        }
        for column in [1, 2, 3] {
            node(&mut nps, column, 3, [C12 | t; 4]);
        }
        Self::finish(Version::AKIDA2, 3, 3, (1, 1), nps, 4)
    }

    /// The mesh a chip is known to have. For 2.0 the six-node one.
    pub fn of(chip: Chip) -> Self {
        match chip {
            Chip::Akd1000 => Self::akd1000(),
            Chip::Akd1500 => Self::akd1500(),
            Chip::Akida2 => Self::akida2_six_nodes(),
        }
    }

    fn finish(
        version: Version,
        columns: u8,
        rows: u8,
        dma: (u8, u8),
        mut nps: Vec<(NpAddress, NpTypes)>,
        skip_channels: u8,
    ) -> Self {
        nps.sort_by_key(|(address, _)| *address);
        let at = |id| NpAddress { column: dma.0, row: dma.1, id };
        let sram = if version.generation() == 1 { SRAM_1 } else { SRAM_2 };
        Self { version, columns, rows, dma_event: at(0), dma_config: at(1), nps, hrc: true, skip_channels, sram }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts of targets.md section 4.2.
    #[test]
    fn counts_are_those_of_the_device_table() {
        let count = |mesh: &Mesh, t| mesh.nps.iter().filter(|(_, types)| types.contains(t)).count();
        for (mesh, total, cnp1, cnp2, fnp2, fnp3, tnp) in [
            (Mesh::akd1000(), 78, 78, 54, 4, 18, 0),
            (Mesh::akd1500(), 32, 32, 21, 1, 7, 0),
            (Mesh::akida2_two_nodes(), 8, 8, 3, 1, 1, 0),
            (Mesh::akida2_six_nodes(), 24, 24, 18, 1, 2, 24),
        ] {
            assert_eq!(mesh.nps.len(), total, "{}", mesh.version);
            assert_eq!(count(&mesh, NpTypes::CNP1), cnp1, "{}", mesh.version);
            assert_eq!(count(&mesh, NpTypes::CNP2), cnp2, "{}", mesh.version);
            assert_eq!(count(&mesh, NpTypes::FNP2), fnp2, "{}", mesh.version);
            assert_eq!(count(&mesh, NpTypes::FNP3), fnp3, "{}", mesh.version);
            assert_eq!(count(&mesh, NpTypes::TNP_B), tnp, "{}", mesh.version);
        }
    }
}
