//! Top-level registers and the interrupt controller of the Akida core (hardware.md section 7).

use akida_hal::mesh::{self, NpTypes};
use akida_hal::regs::top::{self, GeneralControl, Installed};

use super::regmap::{RegMap, Register, Written};

/// A start column that says "this row has no common node".
const NO_COMMON_NODE: u32 = 0xff;

/// Top-level registers. Values of mesh info and install options are worked out from the mesh table; the encoding of
/// the FNP2 number (count - 1) and of the SRAM depths (32-bit words) is ours.
pub struct Top {
    registers: RegMap,
}

impl Top {
    /// Registers of a core with this mesh.
    pub fn new(mesh: &mesh::Mesh) -> Self {
        let info = mesh_info(mesh);
        let newer = mesh.version.product != 0;
        let only_newer = |value: u32| if newer { value } else { 0 };
        let mut installed = Installed::AEDMA | Installed::NPDMA;
        installed.set(Installed::HRC, mesh.hrc);
        installed.set(Installed::HRC_LUT, mesh.version.generation() == 2);
        let skip = match mesh.skip_channels {
            0 => 0,
            channels => top::SKIP_COLUMNS.of((1 << mesh.columns) - 1) | top::SKIP_CHANNELS.of(u32::from(channels)),
        };
        let special = [
            Register::ro(top::IP_VERSION, "").reset(top::version_word(mesh.version)),
            Register::rw(top::GENERAL_CONTROL, "").mask(GeneralControl::all().bits()),
            Register::ro(top::MESH_INFO_1, "").reset(info[0]),
            Register::ro(top::MESH_INFO_2, "").reset(info[1]),
            Register::ro(top::MESH_INFO_3, "").reset(info[2]),
            Register::ro(top::SKIP_INFO, "").reset(only_newer(skip)),
            Register::ro(top::INSTALLED, "").reset(only_newer(installed.bits())),
            Register::ro(top::PACKET_SRAM_DEPTH, "").reset(only_newer(mesh.sram.packet / 4)),
            Register::ro(top::FILTER_SRAM_DEPTH, "").reset(only_newer(mesh.sram.filter / 4)),
            Register::rw(top::INTERRUPT_ENABLE, "").mask(1),
            Register::rw(top::INTERRUPT_MASK, "").mask(0x2f),
            Register::ro(top::INTERRUPT_SOURCE, ""),
        ];
        Self { registers: RegMap::of("top", top::NAMES, &special) }
    }

    /// A register's name.
    pub fn name(&self, offset: u32) -> &'static str {
        self.registers.name(offset)
    }

    /// Reads a register.
    pub fn read(&self, offset: u32) -> u32 {
        self.registers.get(offset)
    }

    /// Writes a register; what general control did is the caller's business.
    pub fn write(&mut self, offset: u32, value: u32) -> Option<Written> {
        self.registers.write(offset, value)
    }

    /// General control as it stands.
    pub fn control(&self) -> GeneralControl {
        GeneralControl::from_bits_truncate(self.registers.get(top::GENERAL_CONTROL))
    }

    /// Sets general control from the hardware's side.
    pub fn set_control(&mut self, control: GeneralControl) {
        self.registers.set(top::GENERAL_CONTROL, control.bits());
    }

    /// The four external weight addresses.
    pub fn fnp2_addresses(&self) -> [u32; 4] {
        [0, 1, 2, 3].map(|id| self.registers.get(top::fnp2_address(id)))
    }

    /// Power-on values.
    pub fn reset(&mut self) {
        self.registers.reset();
    }
}

/// Mesh info 1 to 3. The start column of rows 1 and 2 is that of the first node which is neither the DMA node nor the
/// FNP2 node: a scan visits those two in any case (hardware.md section 11).
fn mesh_info(mesh: &mesh::Mesh) -> [u32; 3] {
    let dma = (mesh.dma_event.column, mesh.dma_event.row);
    let node = |np: &mesh::NpAddress| (np.column, np.row);
    let fnp2: Vec<_> = mesh.nps.iter().filter(|(_, t)| t.contains(NpTypes::FNP2)).map(|(np, _)| np).collect();
    let fnp2_node = fnp2.first().map_or((0, 0), |np| node(np));
    let common = |row: u8| {
        mesh.nps.iter().map(|(np, _)| node(np)).filter(move |n| n.1 == row && *n != dma && *n != fnp2_node).map(|n| n.0)
    };
    let start = |row| common(row).min().map_or(NO_COMMON_NODE, u32::from);
    let last_row = mesh.nps.iter().map(|(np, _)| node(np)).filter(|n| n.1 == mesh.rows).map(|n| n.0).max();
    let empty = !mesh.nps.iter().any(|(np, _)| node(np) == dma);
    [
        top::ROWS.of(mesh.rows.into())
            | top::COLUMNS.of(mesh.columns.into())
            | top::ROW1_START.of(start(1))
            | top::ROW2_START.of(start(2)),
        top::NPS_PER_NODE.of(4)
            | top::DMA_NODE_EMPTY.of(empty.into())
            | top::DMA_ROW.of(dma.1.into())
            | top::DMA_COLUMN.of(dma.0.into())
            | top::DMA_EVENT_ID.of(mesh.dma_event.id.into())
            | top::DMA_CONFIG_ID.of(mesh.dma_config.id.into()),
        top::FNP2_ROW.of(fnp2_node.1.into())
            | top::FNP2_COLUMN.of(fnp2_node.0.into())
            | top::FNP2_NUMBER.of((fnp2.len() as u32).saturating_sub(1))
            | if mesh.version.product == 0 { 0 } else { top::LAST_ROW_COLUMNS.of(last_row.map_or(0, u32::from)) },
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use akida_hal::mesh::{Mesh, NpAddress};

    use super::*;

    /// The scan of hardware.md section 11 over our registers finds exactly the nodes of the mesh table.
    #[test]
    fn a_scan_by_mesh_info_visits_every_np_and_nothing_else() {
        for mesh in [Mesh::akd1000(), Mesh::akd1500(), Mesh::akida2_two_nodes(), Mesh::akida2_six_nodes()] {
            let [one, two, three] = mesh_info(&mesh);
            let (rows, columns) = (top::ROWS.get(one), top::COLUMNS.get(one));
            let last = if mesh.version.product == 0 { columns } else { top::LAST_ROW_COLUMNS.get(three) };
            let mut found = BTreeSet::new();
            for column in 1..=columns {
                for row in 1..=rows {
                    for id in 0..top::NPS_PER_NODE.get(two) {
                        if column == top::DMA_COLUMN.get(two) && row == top::DMA_ROW.get(two) {
                            if top::DMA_NODE_EMPTY.any(two)
                                || id == top::DMA_EVENT_ID.get(two)
                                || id == top::DMA_CONFIG_ID.get(two)
                            {
                                continue;
                            }
                        } else if (column, row) != (top::FNP2_COLUMN.get(three), top::FNP2_ROW.get(three))
                            && (row == 1 && column < top::ROW1_START.get(one)
                                || row == 2 && column < top::ROW2_START.get(one)
                                || row == rows && column > last)
                        {
                            continue;
                        }
                        found.insert(NpAddress { column: column as u8, row: row as u8, id: id as u8 });
                    }
                }
            }
            assert_eq!(found, mesh.nps.iter().map(|(np, _)| *np).collect(), "{}", mesh.version);
        }
    }

    #[test]
    fn identification_is_that_of_the_version() {
        assert_eq!(Top::new(&Mesh::akd1000()).read(top::IP_VERSION), 0);
        assert_eq!(Top::new(&Mesh::akd1500()).read(top::IP_VERSION), 0xbca1_0309);
        assert_eq!(Top::new(&Mesh::akida2_six_nodes()).read(top::IP_VERSION), 0xbca2_0100);
        assert_eq!(Top::new(&Mesh::akd1000()).read(top::INSTALLED), 0, "reserved on the AKD1000");
    }
}
