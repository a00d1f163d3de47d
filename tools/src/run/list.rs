//! `akida-run --list`: the boards there are, and the simulated ones there always are.

use std::io::Write;

use akida_hal::sysfs::{PciBoard, Sysfs};
use akida_simulator::Model as SimModel;
use serde::Serialize;

use super::args::Format;
use crate::exit::{Exit, Failure};
use crate::terminal::table;

/// Version of the JSON document.
const SCHEMA: &str = "akida-run-list/1";

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    boards: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    /// What to give to `--device`.
    device: String,
    simulated: bool,
    chip: String,
    nps: Option<usize>,
    usable: bool,
    /// Driver, IOMMU group, and what to do if it cannot be used.
    note: String,
}

/// Prints the list.
pub fn run(format: Format, out: &mut dyn Write) -> Result<Exit, Failure> {
    let mut boards: Vec<Entry> = Sysfs::system()
        .boards()
        .map_err(|e| Failure::because(Exit::Os, "cannot list PCI boards", &e, e.advice()))?
        .iter()
        .map(pci)
        .collect();
    boards.extend(SimModel::ALL.into_iter().map(simulated));
    let written = match format {
        Format::Json => serde_json::to_writer_pretty(&mut *out, &Document { schema: SCHEMA, boards })
            .map_err(std::io::Error::from)
            .and_then(|()| out.write_all(b"\n")),
        Format::Text => {
            let mut table = table(&["device", "chip", "NPs", "usable", "note"]);
            for b in boards {
                let nps = b.nps.map_or("-".into(), |n| n.to_string());
                table.add_row([b.device, b.chip, nps, if b.usable { "yes" } else { "no" }.into(), b.note]);
            }
            writeln!(out, "{}", table.trim_fmt())
        }
        Format::Npy => return Err(Failure::new(Exit::Usage, "--list has no arrays", "use --format text or json")),
    };
    written.map(|()| Exit::Done).map_err(|e| Failure::stdout(&e))
}

fn pci(board: &PciBoard) -> Entry {
    let chip = board.chip.map_or(format!("unknown ({:04x})", board.device), |c| format!("{c:?}").to_uppercase());
    let driver = board.driver.as_deref().unwrap_or("none");
    let group = board.group.as_ref().map_or("none".into(), |g| g.number.to_string());
    let note = format!("driver {driver}, IOMMU group {group}; see docs/silicon.md");
    Entry { device: format!("pci:{}", board.address), simulated: false, chip, nps: None, usable: false, note }
}

fn simulated(model: SimModel) -> Entry {
    let mesh = model.mesh();
    Entry {
        device: format!("sim:{}", model.name()),
        simulated: true,
        chip: format!("{:?}", model.chip()).to_uppercase(),
        nps: Some(mesh.nps.len()),
        usable: true,
        note: format!("simulated, hardware version {}", mesh.version),
    }
}
