//! `akida-ctl doctor`: what keeps boards from working, in plain words, with the command that changes it.
//!
//! The rules are a function of what [`Sysfs`] and [`Host`] say, so each has a test on a recorded machine.

use akida_hal::board::Chip;
use akida_hal::sysfs::{Access, PciBoard, Sysfs};
use akida_hal::vfio::UNCONFINED;
use serde::Serialize;

use super::Page;
use super::host::Host;
use crate::exit::{Exit, Failure};

/// Locked memory below which real programs do not fit: a batch of jobs, the program, the AKD1500's host window.
const MEMLOCK_WANTED: u64 = 64 << 20;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Worth knowing.
    Note,
    /// Works, but not well.
    Warning,
    /// Keeps a board from working.
    Problem,
}

/// One thing found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Stable name, for scripts.
    pub id: &'static str,
    /// How bad.
    pub level: Level,
    /// PCI address, `None` for the machine.
    pub board: Option<String>,
    /// What is the case.
    pub says: String,
    /// What to run or do, empty for notes.
    pub fix: String,
    /// Exit code when this is the worst finding.
    #[serde(serialize_with = "number")]
    pub exit: Exit,
}

fn number<S: serde::Serializer>(exit: &Exit, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_u8(exit.code())
}

#[derive(Serialize)]
struct Document {
    boards: usize,
    findings: Vec<Finding>,
}

/// Prints the findings; ends with the exit code of the first problem.
pub fn run(sysfs: &Sysfs, host: &Host, page: &mut Page<'_>) -> Result<Exit, Failure> {
    let boards = sysfs.boards()?;
    let findings = diagnose(host, &boards);
    let exit = findings.iter().find(|f| f.level == Level::Problem).map_or(Exit::Done, |f| f.exit);
    let document = Document { boards: boards.len(), findings };
    page.print("akida-ctl-doctor/1", &document, || text(&document))?;
    Ok(exit)
}

/// All findings: the machine's first, then each board's; what must be fixed first comes first.
pub fn diagnose(host: &Host, boards: &[PciBoard]) -> Vec<Finding> {
    let mut findings = of_machine(host, boards);
    for board in boards {
        findings.extend(of_board(board));
    }
    findings
}

/// The first finding that keeps this board from being opened.
pub fn blocking(board: &PciBoard) -> Option<Finding> {
    of_board(board).into_iter().find(|f| f.level == Level::Problem)
}

/// How a chip is written.
pub fn chip_name(chip: Chip) -> String {
    match chip {
        Chip::Akida2 => "Akida 2.0".into(),
        other => format!("{other:?}").to_uppercase(),
    }
}

fn of_machine(host: &Host, boards: &[PciBoard]) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut say = |id, level, exit, says: String, fix: &str| {
        found.push(Finding { id, level, board: None, says, fix: fix.into(), exit });
    };
    use Level::{Note, Problem, Warning};
    if boards.is_empty() {
        say(
            "no-board",
            Problem,
            Exit::Unavailable,
            "no PCI function of BrainChip's (vendor 1e7c) is on the bus".into(),
            "check seating and power, then: echo 1 | sudo tee /sys/bus/pci/rescan; simulated boards need none of this",
        );
    }
    if !host.iommu && !boards.is_empty() {
        let (said, fix) = iommu_off(host);
        say("iommu-off", Problem, Exit::Config, format!("the kernel has no IOMMU in use{said}"), &fix);
    }
    if host.noiommu {
        say(
            "noiommu-mode",
            Warning,
            Exit::Config,
            "VFIO accepts functions without an IOMMU (enable_unsafe_noiommu_mode): these can write to any memory"
                .into(),
            "echo N | sudo tee /sys/module/vfio/parameters/enable_unsafe_noiommu_mode",
        );
    }
    if host.huge_pages == 0 && boards.iter().any(|b| b.group.as_ref().is_some_and(|g| g.unconfined)) {
        say(
            "no-huge-pages",
            Warning,
            Exit::Config,
            "no huge page is free, which boards in no-IOMMU mode get their DMA memory from".into(),
            "echo 32 | sudo tee /proc/sys/vm/nr_hugepages",
        );
    }
    if !host.vfio_pci && !boards.is_empty() {
        say("no-vfio-pci", Problem, Exit::Config, "the driver vfio-pci is not loaded".into(), "sudo modprobe vfio-pci");
    }
    if !host.group {
        say(
            "no-group",
            Warning,
            Exit::Config,
            "there is no group akida, so only root can open boards".into(),
            "install udev/ of this project (sudo systemd-sysusers; sudo udevadm control --reload)",
        );
    }
    if !host.locked.allows(MEMLOCK_WANTED) {
        say(
            "memlock",
            Warning,
            Exit::Config,
            format!(
                "this shell may lock {} MiB of memory; programs of usual size pin up to {} MiB for DMA",
                host.locked.limit >> 20,
                MEMLOCK_WANTED >> 20
            ),
            "install limits.d/akida.conf of this project and log in again, or: ulimit -l unlimited (as root)",
        );
    }
    if !matches!(host.lockdown.as_str(), "" | "none") {
        say(
            "lockdown",
            Note,
            Exit::Done,
            format!(
                "kernel lockdown is {}: VFIO works, unsigned modules such as the vendor's do not load",
                host.lockdown
            ),
            "",
        );
    }
    found
}

/// What the kernel's command line has to do with an IOMMU that is not in use, and how to switch it on.
fn iommu_off(host: &Host) -> (String, String) {
    let word =
        |options: &[&str]| host.command_line.split_whitespace().find(|w| options.contains(w)).map(|w| w.to_string());
    if let Some(off) = word(&["iommu=off", "intel_iommu=off", "amd_iommu=off"]) {
        return (
            format!(": {off} is on its command line"),
            format!("take {off} out of /etc/default/grub, then sudo update-grub and reboot"),
        );
    }
    match host.cpu_vendor.as_str() {
        "GenuineIntel" => match word(&["intel_iommu=on"]) {
            Some(on) => (format!(", although {on} is on its command line"), "switch VT-d on in the firmware setup".into()),
            None => (
                String::new(),
                "switch VT-d on in the firmware setup; add intel_iommu=on to GRUB_CMDLINE_LINUX in /etc/default/grub, then \
                 sudo update-grub and reboot"
                    .into(),
            ),
        },
        // The kernel uses it without being told.
        "AuthenticAMD" => (String::new(), "switch AMD-Vi (IOMMU) on in the firmware setup".into()),
        _ => (
            String::new(),
            "switch the IOMMU on in the firmware or device tree; where there is none, keep the vendor's kernel module and use \
             --device node:/dev/akida0"
                .into(),
        ),
    }
}

fn of_board(board: &PciBoard) -> Vec<Finding> {
    let mut found = Vec::new();
    let address = &board.address;
    let mut say = |id, level, exit, says: String, fix: String| {
        found.push(Finding { id, level, board: Some(address.clone()), says, fix, exit });
    };
    use Level::{Note, Problem, Warning};
    let unconfined = board.group.as_ref().is_some_and(|g| g.unconfined);
    let bind = || format!("sudo akida-ctl bind {}{address}", if unconfined { UNCONFINED } else { "" });
    let rescan =
        || format!("echo 1 | sudo tee /sys/bus/pci/devices/{address}/remove; echo 1 | sudo tee /sys/bus/pci/rescan");

    if board.chip.is_none() {
        let says = format!("device id {:04x} is of BrainChip but of no board this project knows", board.device);
        say("unknown-id", Problem, Exit::Unavailable, says, "report it, with the output of lspci -vvnn".into());
        return found;
    }
    if board.answers == Some(false) {
        let says = "configuration space reads all ones: the board fell off the bus".into();
        say("lost", Problem, Exit::Unavailable, says, format!("power-cycle the board, or: {}", rescan()));
    }
    if matches!(board.power_state.as_str(), "D3hot" | "D3cold") && board.driver.is_some() {
        let says = format!("asleep ({}): it wakes when it is opened", board.power_state);
        say("asleep", Note, Exit::Done, says, String::new());
    }
    if board.bars == [0; 3] && board.answers != Some(false) {
        let says = "no BAR has an address: firmware or kernel ran out of PCI space".into();
        say(
            "no-bars",
            Problem,
            Exit::Config,
            says,
            "enable above-4G decoding in the firmware, or boot with pci=realloc".into(),
        );
    }
    match &board.group {
        None => say(
            "no-iommu-group",
            Problem,
            Exit::Config,
            "in no IOMMU group: nothing confines its DMA".into(),
            "switch the IOMMU on (see iommu-off)".into(),
        ),
        Some(g) if g.unconfined => {
            let says = "bound in VFIO's no-IOMMU mode: nothing confines its DMA, which can overwrite any memory of this machine";
            let fix = format!(
                "switch the IOMMU on (see iommu-off); without one it is opened by the name vfio-noiommu:{address} only"
            );
            say("unconfined", Problem, Exit::Config, says.into(), fix);
        }
        Some(g) => {
            let blocking: Vec<String> = g.blocking().map(ToString::to_string).collect();
            if !blocking.is_empty() {
                let says = format!("IOMMU group {} is shared with {}", g.number, blocking.join(", "));
                let fix = "move the board to another slot; a group goes to one owner as a whole".into();
                say("shared-group", Problem, Exit::Config, says, fix);
            } else if let Some(other) = g.foreign().next() {
                let says =
                    format!("IOMMU group {} also holds {other}: who may use the board may use that too", g.number);
                say("group-company", Warning, Exit::Config, says, "move the board to a slot of its own".into());
            }
        }
    }
    match board.driver.as_deref() {
        Some("vfio-pci") => {}
        Some(driver) => {
            let says = format!("driven by {driver} (the vendor's module?), not by vfio-pci");
            say("other-driver", Problem, Exit::Config, says, bind());
        }
        None => say("no-driver", Problem, Exit::Config, "no driver is bound".into(), bind()),
    }
    if board.driver.as_deref() == Some("vfio-pci") {
        match &board.node {
            None if board.group.is_some() => {
                let says = "vfio-pci is bound, but there is no node under /dev/vfio".into();
                say(
                    "no-node",
                    Problem,
                    Exit::Config,
                    says,
                    "sudo modprobe vfio_iommu_type1, then look at dmesg".into(),
                );
            }
            Some(n) if n.access == Access::Denied => {
                let says = format!("no permission to open {} (mode {:04o})", n.path.display(), n.mode);
                let fix = "sudo usermod -aG akida $USER, and log in again".into();
                say("no-permission", Problem, Exit::Permission, says, fix);
            }
            Some(n) if n.mode & 0o006 != 0 => {
                let says = format!("everybody may open {} (mode {:04o})", n.path.display(), n.mode);
                say("open-to-all", Warning, Exit::Config, says, format!("sudo chmod 0660 {}", n.path.display()));
            }
            _ => {}
        }
    }
    if !board.users.is_empty() {
        let users = board.users.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        say("in-use", Note, Exit::Done, format!("in use by {users}"), String::new());
    }
    if board.aspm.is_on() {
        let says = "link power saving (ASPM) is on, with which the board stops answering".into();
        say("aspm", Problem, Exit::Config, says, bind());
    }
    if board.link.max_width > 0 && !board.link.is_up() {
        let says = "the PCIe link is down".into();
        say("link-down", Problem, Exit::Unavailable, says, format!("reseat the board, or: {}", rescan()));
    } else if board.link.is_reduced() {
        let l = &board.link;
        let says = format!("the link runs at {} x{} of {} x{}", l.speed, l.width, l.max_speed, l.max_width);
        say("slow-link", Note, Exit::Done, says, String::new());
    }
    if board.reset_methods.is_empty() && board.driver.as_deref() == Some("vfio-pci") {
        let says = "the kernel has no way to reset this function".into();
        say("no-reset", Warning, Exit::Config, says, "a hung board needs a power cycle".into());
    }
    found
}

fn text(document: &Document) -> String {
    let mut text = String::new();
    let mut line = |s: &str| {
        text.push_str(s);
        text.push('\n');
    };
    for f in &document.findings {
        let level = match f.level {
            Level::Note => "note",
            Level::Warning => "warning",
            Level::Problem => "PROBLEM",
        };
        line(&format!("{level}: {}: {}", f.board.as_deref().unwrap_or("this machine"), f.says));
        if !f.fix.is_empty() {
            line(&format!("    fix: {}", f.fix));
        }
    }
    let problems = document.findings.iter().filter(|f| f.level == Level::Problem).count();
    let boards = match document.boards {
        1 => "1 board".to_string(),
        n => format!("{n} boards"),
    };
    line(&format!("{boards}, {problems} {}", if problems == 1 { "problem" } else { "problems" }));
    text
}
