//! `akida-ctl devices`.

use akida_hal::sysfs::{Access, PciBoard, Sysfs};
use akida_simulator::{Model, SimSpec};
use serde::Serialize;

use super::Page;
use super::doctor;
use crate::exit::{Exit, Failure};
use crate::terminal::table;

#[derive(Serialize)]
struct Document {
    boards: Vec<Entry>,
}

/// One board, as JSON.
#[derive(Serialize)]
struct Entry {
    device: String,
    chip: String,
    simulated: bool,
    /// `ready`, or the id of the first finding that keeps it from working.
    state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pci: Option<Pci>,
}

#[derive(Serialize)]
struct Pci {
    vendor_id: String,
    device_id: String,
    driver: Option<String>,
    iommu_group: Option<u32>,
    group_members: Vec<String>,
    node: Option<String>,
    node_mode: Option<String>,
    node_access: bool,
    link_speed: String,
    link_width: u32,
    link_max_speed: String,
    link_max_width: u32,
    aspm_l0s: Option<bool>,
    aspm_l1: Option<bool>,
    power_state: String,
    bar_bytes: [u64; 3],
    reset_methods: Vec<String>,
    users: Vec<String>,
}

/// Prints all boards. Having none but simulated ones is no failure of listing.
pub fn run(sysfs: &Sysfs, page: &mut Page<'_>) -> Result<Exit, Failure> {
    let mut boards: Vec<Entry> = sysfs.boards()?.iter().map(real).collect();
    boards.extend(Model::ALL.map(simulated));
    let document = Document { boards };
    page.print("akida-ctl-devices/1", &document, || text(&document))?;
    Ok(Exit::Done)
}

fn real(board: &PciBoard) -> Entry {
    let state = doctor::blocking(board).map_or("ready".into(), |f| f.id.to_string());
    let group = board.group.as_ref();
    let node = board.node.as_ref();
    Entry {
        device: board.address.clone(),
        chip: board.chip.map_or_else(|| "unknown".into(), doctor::chip_name),
        simulated: board.simulated,
        state,
        pci: Some(Pci {
            vendor_id: format!("{:04x}", board.vendor),
            device_id: format!("{:04x}", board.device),
            driver: board.driver.clone(),
            iommu_group: group.map(|g| g.number),
            group_members: group.map(|g| g.others.iter().map(ToString::to_string).collect()).unwrap_or_default(),
            node: node.map(|n| n.path.display().to_string()),
            node_mode: node.map(|n| format!("{:04o}", n.mode)),
            node_access: node.is_some_and(|n| n.access == Access::Granted),
            link_speed: board.link.speed.clone(),
            link_width: board.link.width,
            link_max_speed: board.link.max_speed.clone(),
            link_max_width: board.link.max_width,
            aspm_l0s: board.aspm.l0s,
            aspm_l1: board.aspm.l1,
            power_state: board.power_state.clone(),
            bar_bytes: board.bars,
            reset_methods: board.reset_methods.clone(),
            users: board.users.iter().map(ToString::to_string).collect(),
        }),
    }
}

fn simulated(model: Model) -> Entry {
    Entry {
        device: format!("sim:{}", SimSpec::new(model)),
        chip: doctor::chip_name(model.chip()),
        simulated: true,
        state: "ready".into(),
        pci: None,
    }
}

fn text(document: &Document) -> String {
    let mut table = table(&["board", "chip", "driver", "group", "link", "state", "used by"]);
    for entry in &document.boards {
        let dash = || "-".to_string();
        let cells = match &entry.pci {
            Some(p) => {
                let link = if p.link_width == 0 { dash() } else { format!("{} x{}", p.link_speed, p.link_width) };
                let users = if p.users.is_empty() { dash() } else { p.users.join(", ") };
                let group = p.iommu_group.map_or_else(dash, |g| g.to_string());
                [p.driver.clone().unwrap_or_else(dash), group, link, users]
            }
            None => [dash(), dash(), dash(), dash()],
        };
        let [driver, group, link, users] = cells;
        table.add_row([entry.device.clone(), entry.chip.clone(), driver, group, link, entry.state.clone(), users]);
    }
    format!("{}\n", table.trim_fmt())
}
