//! `akida-ctl info` and `reset`: what a board says of itself.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use akida_hal::Device;
use akida_hal::device::DeviceOptions;
use akida_hal::sysfs::Sysfs;
use serde::Serialize;

use super::Page;
use super::doctor::chip_name;
use super::open::Which;
use crate::exit::{Exit, Failure};

#[derive(Serialize)]
struct Info {
    board: String,
    simulated: bool,
    chip: String,
    hardware_version: String,
    columns: u8,
    rows: u8,
    nps: usize,
    /// How many NPs can do what.
    np_types: BTreeMap<String, usize>,
    hrc: bool,
    /// Not shown by the vendor's node.
    bar_bytes: Option<[u64; 3]>,
    /// Why the board is refused, when it is.
    quarantine: Option<String>,
    memory: Vec<Memory>,
}

#[derive(Serialize)]
struct Memory {
    device_address: String,
    bytes: u32,
    /// Host memory seen through a window of the board.
    host: bool,
}

/// Opens a board and prints what is on it. The core is reset by that.
pub fn run(sysfs: &Sysfs, which: &Which, page: &mut Page<'_>) -> Result<Exit, Failure> {
    let (device, bar_bytes) = which.device(sysfs)?;
    let (identity, mesh) = (device.identity(), device.mesh());
    let mut np_types = BTreeMap::new();
    for (_, types) in &mesh.nps {
        for (name, _) in types.iter_names() {
            *np_types.entry(name.to_string()).or_insert(0) += 1;
        }
    }
    let info = Info {
        board: identity.name.clone(),
        simulated: identity.simulated,
        chip: chip_name(identity.chip),
        hardware_version: mesh.version.to_string(),
        columns: mesh.columns,
        rows: mesh.rows,
        nps: mesh.nps.len(),
        np_types,
        hrc: mesh.hrc,
        bar_bytes,
        quarantine: device.quarantine(),
        memory: device
            .transport()
            .memory()
            .iter()
            .map(|r| Memory { device_address: format!("{:#010x}", r.base), bytes: r.len, host: r.host })
            .collect(),
    };
    page.print("akida-ctl-info/1", &info, || text(&info))?;
    Ok(Exit::Done)
}

fn text(info: &Info) -> String {
    let types: Vec<String> = info.np_types.iter().map(|(name, n)| format!("{n} {name}")).collect();
    let simulated = if info.simulated { " (simulated)" } else { "" };
    let mut text = format!(
        "board     {}{simulated}\nchip      {}, hardware version {}\nmesh      {} x {} nodes, {} NPs ({}){}\n",
        info.board,
        info.chip,
        info.hardware_version,
        info.columns,
        info.rows,
        info.nps,
        types.join(", "),
        if info.hrc { ", HRC" } else { "" },
    );
    if let Some([a, b, c]) = info.bar_bytes.map(|lengths| lengths.map(|len| len >> 10)) {
        text += &format!("BARs      {a} KiB, {b} KiB, {c} KiB\n");
    }
    for memory in &info.memory {
        let kind = if memory.host { "host memory through a window" } else { "board memory" };
        text += &format!("memory    {} KiB at {}, {kind}\n", memory.bytes >> 10, memory.device_address);
    }
    text += &match &info.quarantine {
        Some(reason) => format!("state     quarantined: {reason}\n"),
        None => "state     ready\n".to_string(),
    };
    text
}

#[derive(Serialize)]
struct ResetReport {
    board: String,
    hardware_version: String,
    took_milliseconds: u64,
}

/// Resets a board, opens it again and looks whether it is the same; anything else is a failure.
pub fn reset(sysfs: &Sysfs, which: &Which, page: &mut Page<'_>) -> Result<Exit, Failure> {
    let board = which.open(sysfs)?;
    let start = Instant::now();
    board.reset()?;
    let device = Device::open(board, DeviceOptions::default())?;
    let took = start.elapsed().min(Duration::from_secs(u64::from(u32::MAX)));
    let report = ResetReport {
        board: device.identity().name.clone(),
        hardware_version: device.version().to_string(),
        took_milliseconds: took.as_millis() as u64,
    };
    page.print("akida-ctl-reset/1", &report, || {
        format!("{}: reset and back, hardware version {}\n", report.board, report.hardware_version)
    })?;
    Ok(Exit::Done)
}
