//! `akida-ctl dump`: one text file with what a person who is to help must know, and nothing that is nobody's business: no host
//! memory, no environment, of the kernel's command line only what concerns PCI.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use akida_hal::Board;
use akida_hal::device::DeviceOptions;
use akida_hal::memory_map::TOP;
use akida_hal::regs::{dma, top};
use akida_hal::sysfs::{PciBoard, Sysfs, is_address};
use akida_hal::transport::{PcieTransport, Transport, TransportOptions};

use super::host::Host;
use super::open::Which;
use super::{Format, Page, devices, doctor};
use crate::exit::{Exit, Failure, chain};
use crate::files::write_whole;

/// Registers whose reading changes nothing.
const REGISTERS: [(&str, u32); 14] = [
    ("TOP IP_VERSION", top::IP_VERSION),
    ("TOP GENERAL_CONTROL", top::GENERAL_CONTROL),
    ("TOP MESH_INFO_1", top::MESH_INFO_1),
    ("TOP MESH_INFO_2", top::MESH_INFO_2),
    ("event DMA CONTROL", top::EVENT_DMA + dma::CONTROL),
    ("event DMA DESCRIPTOR", top::EVENT_DMA + dma::DESCRIPTOR),
    ("event DMA DESCRIPTOR_STATUS", top::EVENT_DMA + dma::DESCRIPTOR_STATUS),
    ("event DMA MONITOR_STATUS", top::EVENT_DMA + dma::MONITOR_STATUS),
    ("HRC DMA CONTROL", top::HRC_DMA + dma::CONTROL),
    ("HRC DMA DESCRIPTOR_STATUS", top::HRC_DMA + dma::DESCRIPTOR_STATUS),
    ("HRC DMA MONITOR_STATUS", top::HRC_DMA + dma::MONITOR_STATUS),
    ("config DMA CONTROL", top::CONFIG_DMA + dma::CONTROL),
    ("config DMA DESCRIPTOR", top::CONFIG_DMA + dma::DESCRIPTOR),
    ("config DMA MONITOR_STATUS", top::CONFIG_DMA + dma::MONITOR_STATUS),
];

/// Words of the kernel's command line that are kept, by how they begin.
const OPTIONS: [&str; 9] =
    ["intel_iommu", "amd_iommu", "iommu", "pci", "pcie_aspm", "vfio", "lockdown", "module.sig_enforce", "hugepages"];
/// Lines of the kernel's log that are kept: those with one of these, or with a board's address.
const TOPICS: [&str; 8] = ["akida", "akd1500", "vfio", "DMAR", "AMD-Vi", "iommu", "1e7c", "AER"];
/// Newest lines of the log that are kept.
const LOG_LINES: usize = 400;

/// A part of the bundle.
struct Section {
    title: String,
    text: String,
}

/// Collects and writes. `board` is opened for its registers, which brings it up; without one nothing is opened.
pub fn run(sysfs: &Sysfs, which: Option<&Which>, output: Option<&Path>, page: &mut Page<'_>) -> Result<Exit, Failure> {
    if page.format == Format::Json {
        return Err(Failure::new(Exit::Usage, "a dump is text", "leave --format out"));
    }
    let log = Command::new("dmesg").output().ok().filter(|o| o.status.success());
    let log = log.map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
    let mut sections = of_machine(sysfs, log.as_deref())?;
    if let Some(which) = which {
        let text = which.open(sysfs).map_or_else(|f| format!("not opened: {f}\n"), registers);
        sections.push(Section { title: format!("registers of {which}"), text });
    }
    let mut bundle = String::from("akida-ctl dump: no secrets, no host memory; please read it before you send it\n");
    for section in &sections {
        let _ = write!(bundle, "\n== {}\n{}", section.title, section.text); // into a string: cannot fail
    }
    let Some(path) = output else {
        return page.out.write_all(bundle.as_bytes()).map(|()| Exit::Done).map_err(|e| Failure::stdout(&e));
    };
    write_whole(path, |file| file.write_all(bundle.as_bytes()))?;
    let mut said = format!("{}: {} bytes\n", path.display(), bundle.len());
    for section in &sections {
        let _ = writeln!(said, "  {} ({} lines)", section.title, section.text.lines().count());
    }
    page.out.write_all(said.as_bytes()).map(|()| Exit::Done).map_err(|e| Failure::stdout(&e))
}

fn of_machine(sysfs: &Sysfs, log: Option<&str>) -> Result<Vec<Section>, Failure> {
    let read = |path: &str| fs::read_to_string(sysfs.path(path)).unwrap_or_default();
    let boards = sysfs.boards()?;
    let release = read("/etc/os-release");
    let release = release.lines().find_map(|l| l.strip_prefix("PRETTY_NAME=")).unwrap_or("unknown");
    let line = read("/proc/cmdline");
    let options: Vec<&str> = line.split_whitespace().filter(|w| OPTIONS.iter().any(|o| w.starts_with(o))).collect();
    let versions = format!(
        "akida-tools {}\n{}system {release}\nkernel options {options:?}\n{}",
        env!("CARGO_PKG_VERSION"),
        read("/proc/version"),
        modules(sysfs)
    );
    let section = |title: &str, text: String| Section { title: title.into(), text };
    let mut sections = vec![
        section("versions", versions),
        section("devices", print(|page| devices::run(sysfs, page))),
        section("doctor", print(|page| doctor::run(sysfs, &Host::read(sysfs), page))),
    ];
    for board in &boards {
        sections.push(section(&format!("PCI function {}", board.address), function(sysfs, board)));
    }
    sections.push(section("kernel log", kernel_log(log, &boards)));
    Ok(sections)
}

/// What a command prints.
fn print(command: impl FnOnce(&mut Page<'_>) -> Result<Exit, Failure>) -> String {
    let mut out = Vec::new();
    let failed = command(&mut Page { format: Format::Text, out: &mut out }).err().map(|f| f.to_string());
    String::from_utf8_lossy(&out).into_owned() + &failed.unwrap_or_default()
}

fn function(sysfs: &Sysfs, board: &PciBoard) -> String {
    let folder = sysfs.folder(&board.address);
    let mut text = String::new();
    for file in
        ["resource", "current_link_speed", "current_link_width", "power_state", "reset_method", "driver_override"]
    {
        if let Ok(content) = fs::read_to_string(folder.join(file)) {
            let _ = writeln!(text, "{file}: {}", content.trim_end().replace('\n', "\n    "));
        }
    }
    text += &configuration(&folder, "configuration space");
    // Half of the link's settings, ASPM among them, are the port's above.
    if let Ok(port) = fs::canonicalize(&folder).map(|f| f.parent().unwrap_or(&f).to_owned())
        && let Some(name) = port.file_name().and_then(|n| n.to_str()).filter(|n| is_address(n))
    {
        text += &configuration(&port, &format!("configuration space of the port above, {name}"));
    }
    text
}

fn configuration(folder: &Path, title: &str) -> String {
    let config = fs::read(folder.join("config")).unwrap_or_default();
    let mut text = format!("{title}, {} bytes:\n", config.len());
    for (i, bytes) in config.chunks(16).enumerate() {
        let hex: Vec<String> = bytes.iter().map(|b| format!("{b:02x}")).collect();
        let _ = writeln!(text, "{:03x}: {}", i * 16, hex.join(" "));
    }
    text
}

/// Modules that have to do with boards, and what VFIO was told.
fn modules(sysfs: &Sysfs) -> String {
    let loaded = fs::read_to_string(sysfs.path("/proc/modules")).unwrap_or_default();
    let wanted = |name: &&str| ["vfio", "akida", "akd1500", "iommufd"].iter().any(|part| name.contains(part));
    let names: Vec<&str> = loaded.lines().filter_map(|l| l.split_whitespace().next()).filter(wanted).collect();
    format!("modules {names:?}, no-IOMMU mode {:?}\n", sysfs.no_iommu_mode())
}

fn kernel_log(log: Option<&str>, boards: &[PciBoard]) -> String {
    let Some(log) = log else { return "not readable for this user (sudo akida-ctl dump)\n".into() };
    let wanted =
        |line: &&str| TOPICS.iter().any(|t| line.contains(t)) || boards.iter().any(|b| line.contains(&b.address));
    let lines: Vec<&str> = log.lines().filter(|l| !l.contains("Command line")).filter(wanted).collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].iter().map(|l| format!("{l}\n")).collect()
}

/// Brings the board up and reads; the core is not reset.
fn registers(board: Arc<dyn Board>) -> String {
    let DeviceOptions { timeout, element_bytes, .. } = DeviceOptions::default();
    let options = TransportOptions { timeout, element_bytes, ..TransportOptions::default() };
    let transport = match PcieTransport::open(board, options) {
        Ok(transport) => transport,
        Err(error) => return format!("not brought up: {}\n", chain(&error)),
    };
    let mut text = String::new();
    for (name, offset) in REGISTERS {
        let value = transport.read32(TOP + offset).map_or_else(|e| chain(&e), |v| format!("{v:#010x}"));
        let _ = writeln!(text, "{name:<28} {:#010x}: {value}", TOP + offset);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_stay_at_home() {
        let root = tempfile::tempdir().expect("a folder");
        for (path, text) in [
            ("proc/cmdline", "root=/dev/sda luks.key=SECRET intel_iommu=on pci=realloc ip=10.1.2.3"),
            ("proc/version", "Linux version 6.1\n"),
            ("proc/modules", "vfio_pci 20480 0 - Live 0x0\nsecret_module 16384 0 - Live 0x0\n"),
            ("sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "N\n"),
            ("sys/devices/pci0000:00/0000:00:1c.0/config", "PORT"),
            ("sys/devices/pci0000:00/0000:00:1c.0/0000:03:00.0/vendor", "0x1e7c\n"),
            ("sys/devices/pci0000:00/0000:00:1c.0/0000:03:00.0/device", "0xbca1\n"),
            ("sys/devices/pci0000:00/0000:00:1c.0/0000:03:00.0/config", "\x7c\x1e"),
            ("etc/os-release", "NAME=x\nPRETTY_NAME=\"Debian 12\"\n"),
        ] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("has one")).expect("made");
            fs::write(path, text).expect("written");
        }
        let bus = root.path().join("sys/bus/pci/devices");
        fs::create_dir_all(&bus).expect("made");
        let function = "../../../devices/pci0000:00/0000:00:1c.0/0000:03:00.0";
        std::os::unix::fs::symlink(function, bus.join("0000:03:00.0")).expect("linked");
        let log = "Command line: luks.key=SECRET intel_iommu=on\nvfio-pci 0000:03:00.0: reset\nsshd: SECRET from 10.1.2.3\n\
                   DMAR: [DMA Read NO_PASID] fault";
        let sections = of_machine(&Sysfs::at(root.path()), Some(log)).expect("collected");
        let text: String = sections.iter().map(|s| format!("{}\n{}", s.title, s.text)).collect();
        for part in [
            "intel_iommu=on",
            "pci=realloc",
            "Debian 12",
            "Linux version 6.1",
            "vfio-pci 0000:03:00.0: reset",
            "fault",
            "modules [\"vfio_pci\"], no-IOMMU mode Some(false)",
            "configuration space, 2 bytes:\n000: 7c 1e\n",
            "configuration space of the port above, 0000:00:1c.0, 4 bytes:\n000: 50 4f 52 54\n",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        for secret in ["SECRET", "10.1.2.3", "sda", "secret_module"] {
            assert!(!text.contains(secret), "{secret} in\n{text}");
        }
    }
}
