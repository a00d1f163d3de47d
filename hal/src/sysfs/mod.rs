//! What the kernel says about boards, without opening one: sysfs, device nodes, who uses them.
//!
//! Every path hangs on a root that a test can replace by a recorded tree (tests/data/sysfs).

mod bind;
mod error;
mod group;
mod link;
mod node;
#[cfg(test)]
pub(crate) mod tests;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use bind::{Bound, Confinement, PciCore};
pub use error::Error;
pub use group::{Group, Member};
pub use link::{Aspm, Link};
pub use node::{Access, Node, User};

use crate::board::Chip;
use crate::regs::pci;

/// `/sys`, `/dev`, `/proc` and `/run` below a root.
#[derive(Clone, Debug)]
pub struct Sysfs {
    root: PathBuf,
}

/// A PCI function with BrainChip's vendor id.
#[derive(Clone, Debug)]
pub struct PciBoard {
    /// `0000:03:00.0`.
    pub address: String,
    /// PCI vendor id.
    pub vendor: u16,
    /// PCI device id.
    pub device: u16,
    /// No silicon behind it: a simulated board, shown to this machine as a PCI function.
    pub simulated: bool,
    /// The chip, `None` for a device id this project does not know.
    pub chip: Option<Chip>,
    /// Bound driver.
    pub driver: Option<String>,
    /// Driver the next probe is forced to.
    pub driver_override: Option<String>,
    /// The IOMMU group, `None` without an IOMMU.
    pub group: Option<Group>,
    /// The node that VFIO users open, where vfio-pci has made one: the group's.
    pub node: Option<Node>,
    /// The device's own VFIO node (Linux 6.6 with iommufd).
    pub cdev: Option<Node>,
    /// PCIe link.
    pub link: Link,
    /// Power saving on that link, which breaks the board (hardware.md 20, trap 3).
    pub aspm: Aspm,
    /// `D0`, `D3hot`, `D3cold`, `unknown`.
    pub power_state: String,
    /// Bytes of BARs 0, 2 and 4.
    pub bars: [u64; 3],
    /// How the kernel can reset it: `flr`, `bus`, `pm`.
    pub reset_methods: Vec<String>,
    /// Whether configuration space answers with the vendor id; `None` where it cannot be read. A board that fell off the
    /// bus keeps its folder but reads all ones.
    pub answers: Option<bool>,
    /// Processes that have one of its nodes open, as far as this user may see.
    pub users: Vec<User>,
}

impl Sysfs {
    /// This machine.
    pub fn system() -> Self {
        Self { root: "/".into() }
    }

    /// A tree that has `sys`, `dev`, `proc` and `run` in it.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// A path of the running system, below this root.
    pub fn path(&self, absolute: impl AsRef<Path>) -> PathBuf {
        let path = absolute.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The function's folder.
    pub fn folder(&self, address: &str) -> PathBuf {
        self.path("/sys/bus/pci/devices").join(address)
    }

    /// All functions with BrainChip's vendor id, by address. A machine without PCI has none.
    pub fn boards(&self) -> Result<Vec<PciBoard>, Error> {
        let devices = self.path("/sys/bus/pci/devices");
        let entries = match fs::read_dir(&devices) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(Error::Read { path: devices, source }),
        };
        let mut boards = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|source| Error::Read { path: devices.clone(), source })?;
            let address = entry.file_name().to_string_lossy().into_owned();
            // A function may leave while we look; what cannot be read is not there.
            if read_hex(&entry.path().join("vendor")) == Some(pci::VENDOR.into())
                && let Ok(board) = self.board(&address)
            {
                boards.push(board);
            }
        }
        boards.sort_by(|a, b| a.address.cmp(&b.address));
        Ok(boards)
    }

    /// One function, whatever its vendor.
    pub fn board(&self, address: &str) -> Result<PciBoard, Error> {
        if !is_address(address) {
            return Err(Error::NotAnAddress { text: address.into() });
        }
        let folder = self.folder(address);
        let id = |name: &str| read_hex(&folder.join(name)).map(|v| v as u16);
        let (Some(vendor), Some(device)) = (id("vendor"), id("device")) else {
            return Err(Error::NoSuchFunction { address: address.into() });
        };
        let subsystem = [id("subsystem_vendor"), id("subsystem_device")];
        let group = Group::read(self, &folder);
        let node = group.as_ref().and_then(|g| Node::read(self, &g.node_path()));
        let cdev = only_entry(&folder.join("vfio-dev"))
            .and_then(|name| Node::read(self, &Path::new("/dev/vfio/devices").join(name)));
        let vendor_node =
            only_entry(&folder.join("misc")).and_then(|name| Node::read(self, &Path::new("/dev").join(name)));
        let nodes: Vec<&Node> = [&node, &cdev, &vendor_node].into_iter().flatten().collect();
        let users = User::of(self, &nodes);
        Ok(PciBoard {
            address: address.into(),
            vendor,
            device,
            simulated: vendor == pci::VENDOR && subsystem == [Some(pci::VENDOR), Some(pci::SUBSYSTEM_SIMULATED)],
            chip: pci::chip(vendor, device),
            driver: link_name(&folder.join("driver")),
            driver_override: read_text(&folder.join("driver_override")).filter(|t| t != "(null)" && !t.is_empty()),
            group,
            link: Link::read(&folder),
            aspm: Aspm::read(&folder),
            power_state: read_text(&folder.join("power_state")).unwrap_or_else(|| "unknown".into()),
            bars: bar_sizes(&read_text(&folder.join("resource")).unwrap_or_default()),
            reset_methods: read_text(&folder.join("reset_method"))
                .map(|t| t.split_whitespace().map(str::to_string).collect())
                .unwrap_or_default(),
            answers: answers(&folder.join("config"), vendor),
            users,
            node,
            cdev,
        })
    }

    /// Whether the kernel has put any function into an IOMMU group. Those that VFIO makes up in no-IOMMU mode do not count.
    pub fn has_iommu(&self) -> bool {
        fs::read_dir(self.path("/sys/kernel/iommu_groups"))
            .is_ok_and(|d| d.flatten().any(|group| !group::is_made_up(&group.path())))
    }

    /// Whether VFIO accepts functions without an IOMMU (`enable_unsafe_noiommu_mode`); `None` where it is not loaded or cannot.
    pub fn no_iommu_mode(&self) -> Option<bool> {
        read_text(&self.path("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode")).map(|mode| mode == "Y")
    }

    /// Whether the kernel has iommufd.
    pub fn has_iommufd(&self) -> bool {
        self.path("/dev/iommu").exists()
    }

    /// Whether this process may use iommufd with a board: both nodes are there and open to it.
    pub fn may_use_iommufd(&self, board: &PciBoard) -> bool {
        let granted = |node: &Node| node.access == Access::Granted;
        board.cdev.as_ref().is_some_and(granted)
            && Node::read(self, Path::new("/dev/iommu")).as_ref().is_some_and(granted)
    }

    /// Whether the vfio-pci driver is loaded or built in.
    pub fn has_vfio_pci(&self) -> bool {
        self.path("/sys/bus/pci/drivers/vfio-pci").exists()
    }
}

/// `0000:03:00.0`: domain, bus, device, function; nothing else reaches a path.
pub fn is_address(text: &str) -> bool {
    let hex = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase());
    let mut parts = text.splitn(3, ':');
    let (Some(domain), Some(bus), Some(rest)) = (parts.next(), parts.next(), parts.next()) else { return false };
    let Some((device, function)) = rest.split_once('.') else { return false };
    // Domains of some machines (VMD, Hyper-V) have more than four digits.
    (4..=8).contains(&domain.len())
        && hex(domain)
        && bus.len() == 2
        && hex(bus)
        && device.len() == 2
        && hex(device)
        && matches!(function.as_bytes(), [b'0'..=b'7'])
}

/// Lines of `resource` are `first last flags`; BARs are the first six.
fn bar_sizes(resource: &str) -> [u64; 3] {
    let number = |t: &str| u64::from_str_radix(t.trim_start_matches("0x"), 16).ok();
    let size = |line: &str| {
        let mut fields = line.split_whitespace();
        let (first, last) = (number(fields.next()?)?, number(fields.next()?)?);
        (last > first).then(|| last - first + 1)
    };
    let lines: Vec<&str> = resource.lines().collect();
    [0, 2, 4].map(|i| lines.get(i).and_then(|l| size(l)).unwrap_or(0))
}

/// Reads the ids from the function itself; the files `vendor` and `device` are what they were at the last scan.
fn answers(config: &Path, vendor: u16) -> Option<bool> {
    use std::io::Read;
    let mut id = [0; 2];
    fs::File::open(config).and_then(|mut f| f.read_exact(&mut id)).ok()?;
    Some(u16::from_le_bytes(id) == vendor)
}

fn read_text(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|t| t.trim().to_string())
}

fn read_hex(path: &Path) -> Option<u64> {
    u64::from_str_radix(read_text(path)?.strip_prefix("0x")?, 16).ok()
}

/// The last part of what a symbolic link points to.
fn link_name(path: &Path) -> Option<String> {
    fs::read_link(path).ok()?.file_name().map(|n| n.to_string_lossy().into_owned())
}

/// The name of the only entry of a folder.
fn only_entry(folder: &Path) -> Option<String> {
    let mut entries = fs::read_dir(folder).ok()?;
    let first = entries.next()?.ok()?;
    entries.next().is_none().then(|| first.file_name().to_string_lossy().into_owned())
}
