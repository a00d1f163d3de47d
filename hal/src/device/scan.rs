//! What is on the mesh, asked of the mesh (hardware.md section 11).

use super::config::ConfigPort;
use super::core;
use crate::mesh::{Mesh, NpAddress, NpTypes, Version};
use crate::packet::Uid;
use crate::regs::{np, top};
use crate::transport::Transport;
use crate::{Error, Result};

/// The three mesh info registers.
struct Info {
    one: u32,
    two: u32,
    three: u32,
}

impl Info {
    fn read(transport: &dyn Transport) -> Result<Self> {
        Ok(Self {
            one: core::read(transport, top::MESH_INFO_1)?,
            two: core::read(transport, top::MESH_INFO_2)?,
            three: core::read(transport, top::MESH_INFO_3)?,
        })
    }

    fn columns(&self) -> u8 {
        top::COLUMNS.get(self.one) as u8
    }

    fn rows(&self) -> u8 {
        top::ROWS.get(self.one) as u8
    }

    fn at_dma(&self, column: u8, row: u8) -> bool {
        u32::from(row) == top::DMA_ROW.get(self.two) && u32::from(column) == top::DMA_COLUMN.get(self.two)
    }

    fn dma(&self, id: u32) -> NpAddress {
        let (column, row) = (top::DMA_COLUMN.get(self.two) as u8, top::DMA_ROW.get(self.two) as u8);
        NpAddress { column, row, id: id as u8 }
    }

    fn event_dma(&self) -> NpAddress {
        self.dma(top::DMA_EVENT_ID.get(self.two))
    }

    fn config_dma(&self) -> NpAddress {
        self.dma(top::DMA_CONFIG_ID.get(self.two))
    }

    fn at_fnp2(&self, column: u8, row: u8) -> bool {
        u32::from(row) == top::FNP2_ROW.get(self.three) && u32::from(column) == top::FNP2_COLUMN.get(self.three)
    }

    /// Whether there is an NP, by the rules of the old engine.
    fn has(&self, version: Version, np: NpAddress) -> bool {
        let NpAddress { column, row, .. } = np;
        if self.at_dma(column, row) {
            return !top::DMA_NODE_EMPTY.any(self.two) && np != self.event_dma() && np != self.config_dma();
        }
        if self.at_fnp2(column, row) {
            return true;
        }
        let start = match row {
            1 => top::ROW1_START.get(self.one).max(1),
            2 => top::ROW2_START.get(self.one).max(1),
            _ => 1,
        };
        // The AKD1000 has no last-row field; 0 elsewhere is taken as "all columns" too (deduced).
        let end = match top::LAST_ROW_COLUMNS.get(self.three) {
            last if row == self.rows() && version != Version::AKD1000 && last != 0 => last,
            _ => self.columns().into(),
        };
        (start..=end).contains(&u32::from(column))
    }
}

/// The known mesh of a version with that many columns and rows; the largest known one when none has.
fn table(transport: &dyn Transport, version: Version, info: &Info) -> Mesh {
    let largest = Mesh::of(transport.identity().chip);
    let known = [Mesh::akida2_two_nodes(), Mesh::akida2_six_nodes()];
    let fits = |m: &Mesh| m.version == version && m.columns == info.columns() && m.rows == info.rows();
    known.into_iter().find(fits).unwrap_or(largest)
}

/// The mesh as the chip's table knows it, chosen by version and size.
pub fn known(transport: &dyn Transport, version: Version) -> Result<Mesh> {
    Ok(Mesh { version, ..table(transport, version, &Info::read(transport)?) })
}

/// Reads every NP's identity register.
///
/// The scan wins over the table; a difference is logged. What no register tells (SRAM sizes, whether there is an HRC, types of
/// 2.0) is taken from the table.
pub fn scan(transport: &dyn Transport, config: &ConfigPort, version: Version) -> Result<Mesh> {
    let info = Info::read(transport)?;
    let per_node = top::NPS_PER_NODE.get(info.two) as u8;
    if !(1..=4).contains(&per_node) {
        return Err(Error::Register {
            board: transport.identity().to_string(),
            register: "TOP MESH_INFO_2",
            value: info.two,
            expected: "1 to 4 NPs per node".into(),
        });
    }
    config.init(transport)?;
    let table = table(transport, version, &info);
    let mut nps = Vec::new();
    for column in 1..=info.columns() {
        for row in 1..=info.rows() {
            for id in 0..per_node {
                let address = NpAddress { column, row, id };
                if info.has(version, address) {
                    nps.push((address, identify(transport, config, address, &table)?));
                }
            }
        }
    }
    let mesh = Mesh {
        version,
        columns: info.columns(),
        rows: info.rows(),
        dma_event: info.event_dma(),
        dma_config: info.config_dma(),
        nps,
        ..table.clone()
    };
    compare(transport, &mesh, &table);
    Ok(mesh)
}

/// Types of one NP, from its identity register.
fn identify(transport: &dyn Transport, config: &ConfigPort, np: NpAddress, table: &Mesh) -> Result<NpTypes> {
    let word = config.read(transport, np, Uid::Registers, 0, 1)?.first().copied().unwrap_or(0);
    let expected = |expected: String| Error::Register {
        board: transport.identity().to_string(),
        register: "NP IDENTITY",
        value: word,
        expected,
    };
    let at = (np::NP_COLUMN.get(word), np::NP_ROW.get(word), np::NP_INDEX.get(word));
    if at != (np.column.into(), np.row.into(), np.id.into()) {
        return Err(expected(format!("the identity of {np}")));
    }
    let mut types = NpTypes::empty();
    match np::FNP_INSTALLED.get(word) {
        2 => types |= NpTypes::FNP2,
        3 => types |= NpTypes::FNP3,
        _ => {}
    }
    match np::CNP_INSTALLED.get(word) {
        1 => types |= NpTypes::CNP1,
        2 => types |= NpTypes::CNP1 | NpTypes::CNP2,
        _ => {}
    }
    if types.is_empty() {
        return Err(expected(format!("{np} to have a CNP or an FNP")));
    }
    // No public register tells TNPs: they are the table's where the rest agrees.
    let known = table.nps.iter().find(|(address, _)| *address == np).map(|(_, types)| *types);
    Ok(known.filter(|known| *known - NpTypes::TNP_B == types).unwrap_or(types))
}

fn compare(transport: &dyn Transport, scan: &Mesh, table: &Mesh) {
    let board = transport.identity();
    for (np, types) in &scan.nps {
        match table.nps.iter().find(|(address, _)| address == np) {
            None => log::warn!("{board}: has {np}, which the table of its chip has not"),
            Some((_, known)) if known != types => {
                log::warn!("{board}: {np} is {types:?}, {known:?} in the table of its chip");
            }
            Some(_) => {}
        }
    }
    for (np, _) in table.nps.iter().filter(|(np, _)| scan.nps.iter().all(|(address, _)| address != np)) {
        log::warn!("{board}: has no {np}, which the table of its chip has");
    }
    if (scan.dma_event, scan.dma_config) != (table.dma_event, table.dma_config) {
        log::warn!("{board}: DMAs are at {} and {}, not where the table has them", scan.dma_event, scan.dma_config);
    }
}
