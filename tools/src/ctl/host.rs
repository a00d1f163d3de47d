//! What doctor must know of the machine besides its boards.

use std::fs;

use akida_hal::sysfs::Sysfs;
use akida_hal::vfio::Locked;

/// The machine.
#[derive(Clone, Debug)]
pub struct Host {
    /// Kernel command line.
    pub command_line: String,
    /// `GenuineIntel`, `AuthenticAMD`, or empty.
    pub cpu_vendor: String,
    /// Some function has an IOMMU group.
    pub iommu: bool,
    /// The vfio-pci driver is there.
    pub vfio_pci: bool,
    /// VFIO accepts functions without an IOMMU.
    pub noiommu: bool,
    /// Huge pages of 2 MiB that nobody has.
    pub huge_pages: u64,
    /// `none`, `integrity`, `confidentiality`; empty where the kernel does not say.
    pub lockdown: String,
    /// There is a group `akida`.
    pub group: bool,
    /// Locked memory of this process.
    pub locked: Locked,
}

impl Host {
    /// Reads it; what cannot be read is taken as absent.
    pub fn read(sysfs: &Sysfs) -> Self {
        let text = |path: &str| fs::read_to_string(sysfs.path(path)).unwrap_or_default();
        let lockdown = text("/sys/kernel/security/lockdown");
        Self {
            command_line: text("/proc/cmdline").trim().into(),
            cpu_vendor: text("/proc/cpuinfo")
                .lines()
                .find_map(|l| l.strip_prefix("vendor_id")?.split_once(": "))
                .map(|(_, v)| v.trim().to_string())
                .unwrap_or_default(),
            iommu: sysfs.has_iommu(),
            vfio_pci: sysfs.has_vfio_pci(),
            noiommu: sysfs.no_iommu_mode() == Some(true),
            huge_pages: text("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages").trim().parse().unwrap_or(0),
            // The current one stands in brackets: `none [integrity] confidentiality`.
            lockdown: lockdown.split_once('[').and_then(|(_, r)| r.split_once(']')).map_or("", |(l, _)| l).into(),
            group: text("/etc/group").lines().any(|l| l.starts_with("akida:")),
            locked: Locked::now(),
        }
    }
}
