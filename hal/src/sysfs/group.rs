//! IOMMU groups: what the IOMMU cannot tell apart belongs to one owner.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Sysfs, link_name, read_hex, read_text};
use crate::regs::pci::VENDOR;

/// An IOMMU group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its number, and the name of its node under /dev/vfio.
    pub number: u32,
    /// `DMA`, `DMA-FQ`, `identity`: the kernel's own use of the IOMMU for this group.
    pub kind: String,
    /// VFIO made it up (no-IOMMU mode): nothing confines the functions in it.
    pub unconfined: bool,
    /// The other functions in it.
    pub others: Vec<Member>,
}

/// Another function of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// PCI address.
    pub address: String,
    /// Bound driver.
    pub driver: Option<String>,
    /// PCI-to-PCI bridge, which may stay as it is.
    pub bridge: bool,
    /// Another Akida board.
    pub akida: bool,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.address, self.driver.as_deref().unwrap_or("no driver"))
    }
}

impl Sysfs {
    /// The functions in an IOMMU group, by address; none where there is no such group.
    pub fn group_members(&self, number: u32) -> Vec<Member> {
        let devices = self.path("/sys/kernel/iommu_groups").join(number.to_string()).join("devices");
        let mut members: Vec<Member> = fs::read_dir(devices)
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .map(|address| {
                let folder = self.folder(&address);
                Member {
                    driver: link_name(&folder.join("driver")),
                    bridge: read_hex(&folder.join("class")).is_some_and(|c| c >> 16 == 0x06),
                    akida: read_hex(&folder.join("vendor")) == Some(VENDOR.into()),
                    address,
                }
            })
            .collect();
        members.sort_by(|a, b| a.address.cmp(&b.address));
        members
    }

    /// Whether a group holds Akida boards and, besides bridges, nothing else: who is granted it is granted no other device.
    pub fn is_akida_group(&self, number: u32) -> bool {
        let members = self.group_members(number);
        members.iter().any(|m| m.akida) && members.iter().all(|m| m.akida || m.bridge)
    }
}

/// Whether the group of a folder is one of VFIO's no-IOMMU mode.
pub(super) fn is_made_up(folder: &Path) -> bool {
    read_text(&folder.join("name")).as_deref() == Some("vfio-noiommu")
}

impl Group {
    /// The group of the function in `folder`.
    pub(super) fn read(sysfs: &Sysfs, folder: &Path) -> Option<Self> {
        let number: u32 = link_name(&folder.join("iommu_group"))?.parse().ok()?;
        let own = folder.file_name()?.to_string_lossy().into_owned();
        let group = sysfs.path("/sys/kernel/iommu_groups").join(number.to_string());
        let mut others = sysfs.group_members(number);
        others.retain(|m| m.address != own);
        Some(Self {
            number,
            kind: read_text(&group.join("type")).unwrap_or_else(|| "unknown".into()),
            unconfined: is_made_up(&group),
            others,
        })
    }

    /// Where its node is.
    pub(super) fn node_path(&self) -> PathBuf {
        let prefix = if self.unconfined { "noiommu-" } else { "" };
        format!("/dev/vfio/{prefix}{}", self.number).into()
    }

    /// Functions whose driver keeps the kernel from handing out the group.
    pub fn blocking(&self) -> impl Iterator<Item = &Member> {
        self.others
            .iter()
            .filter(|m| !m.bridge && m.driver.as_deref().is_some_and(|d| d != "vfio-pci" && d != "pci-stub"))
    }

    /// Functions that are neither bridges nor Akida boards: granting the group grants these too.
    pub fn foreign(&self) -> impl Iterator<Item = &Member> {
        self.others.iter().filter(|m| !m.bridge && !m.akida)
    }
}
