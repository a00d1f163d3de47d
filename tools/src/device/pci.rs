//! Akida boards on this machine's PCI bus, as sysfs shows them. Nothing is opened and nothing is changed.

use std::fmt;
use std::fs;
use std::path::Path;
use std::str::FromStr;

use akida_hal::board::Chip;

/// BrainChip's vendor id (hardware.md section 1).
const VENDOR: u16 = 0x1e7c;

/// Domain, bus, device, function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciAddress {
    /// 16 bits, mostly 0.
    pub domain: u16,
    /// 8 bits.
    pub bus: u8,
    /// 5 bits.
    pub device: u8,
    /// 3 bits.
    pub function: u8,
}

impl FromStr for PciAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (rest, function) = text.rsplit_once('.')?;
            let (rest, device) = rest.rsplit_once(':')?;
            let (domain, bus) = rest.rsplit_once(':').unwrap_or(("0", rest));
            let hex = |digits: &str, max_len: usize, below: u16| {
                let valid = !digits.is_empty() && digits.len() <= max_len;
                let value = u16::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'))?;
                (valid && value <= below).then_some(value)
            };
            Some(Self {
                domain: hex(domain, 4, 0xffff)?,
                bus: hex(bus, 2, 0xff)? as u8,
                device: hex(device, 2, 0x1f)? as u8,
                function: hex(function, 1, 7)? as u8,
            })
        };
        parse().ok_or_else(|| format!("{text:?} is no PCI address; they look like 0000:03:00.0"))
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{:x}", self.domain, self.bus, self.device, self.function)
    }
}

/// A board on the bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PciBoard {
    /// Where.
    pub address: PciAddress,
    /// PCI device id.
    pub device_id: u16,
    /// The chip that id means, None when it is not known.
    pub chip: Option<Chip>,
    /// The kernel driver it is bound to.
    pub driver: Option<String>,
    /// Its IOMMU group; without one no user program can drive it safely.
    pub iommu_group: Option<String>,
}

/// All boards below a sysfs root (`/sys`), by address. A machine without PCI has none.
pub fn pci_boards(sysfs: &Path) -> Vec<PciBoard> {
    let Ok(entries) = fs::read_dir(sysfs.join("bus/pci/devices")) else { return Vec::new() };
    let mut boards: Vec<PciBoard> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let address = path.file_name()?.to_str()?.parse().ok()?;
            let id = |name| {
                let text = fs::read_to_string(path.join(name)).ok()?;
                u16::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok()
            };
            let link = |name| Some(fs::read_link(path.join(name)).ok()?.file_name()?.to_str()?.to_string());
            if id("vendor")? != VENDOR {
                return None;
            }
            let device_id = id("device")?;
            let chip = match device_id {
                0xbca1 => Some(Chip::Akd1000),
                0xa500 => Some(Chip::Akd1500),
                _ => None,
            };
            Some(PciBoard { address, device_id, chip, driver: link("driver"), iommu_group: link("iommu_group") })
        })
        .collect();
    boards.sort_by_key(|b| b.address);
    boards
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_recorded_bus() {
        let root = tempfile::tempdir().unwrap();
        let devices = root.path().join("bus/pci/devices");
        let add = |bdf: &str, vendor: &str, device: &str, driver: Option<&str>, group: Option<&str>| {
            let dir = devices.join(bdf);
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("vendor"), format!("{vendor}\n")).unwrap();
            fs::write(dir.join("device"), format!("{device}\n")).unwrap();
            for (name, target) in [("driver", driver), ("iommu_group", group)] {
                if let Some(target) = target {
                    symlink(format!("../../../somewhere/{target}"), dir.join(name)).unwrap();
                }
            }
        };
        assert_eq!(pci_boards(root.path()), []);
        add("0000:03:00.0", "0x1e7c", "0xa500", Some("vfio-pci"), Some("17"));
        add("0000:01:00.0", "0x1e7c", "0xbca1", None, None);
        add("0000:00:1f.3", "0x8086", "0xa500", Some("snd"), Some("3"));
        add("0000:04:00.0", "0x1e7c", "0x1234", Some("akida-pcie"), Some("18"));
        let got = pci_boards(root.path());
        let text: Vec<String> = got
            .iter()
            .map(|b| format!("{} {:?} {:?} {:?}", b.address, b.chip, b.driver.as_deref(), b.iommu_group.as_deref()))
            .collect();
        assert_eq!(
            text,
            [
                "0000:01:00.0 Some(Akd1000) None None",
                "0000:03:00.0 Some(Akd1500) Some(\"vfio-pci\") Some(\"17\")",
                "0000:04:00.0 None Some(\"akida-pcie\") Some(\"18\")",
            ]
        );
    }
}
