//! What can go wrong with discovery and binding.

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;

/// An error of discovery or binding. `Display` says what happened, [`advice`](Error::advice) what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not of the form `0000:03:00.0`.
    #[error("`{text}` is not a PCI address like 0000:03:00.0")]
    NotAnAddress {
        /// What was given.
        text: String,
    },
    /// No PCI function has this address.
    #[error("{address}: no such PCI function")]
    NoSuchFunction {
        /// The address.
        address: String,
    },
    /// The function is no Akida board; binding it would take something else away.
    #[error("{address}: {vendor:04x}:{device:04x} is not an Akida board")]
    NotAkida {
        /// The address.
        address: String,
        /// PCI vendor id.
        vendor: u16,
        /// PCI device id.
        device: u16,
    },
    /// A file of sysfs could not be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of sysfs could not be written.
    #[error("cannot write `{value}` to {}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What was to be written.
        value: String,
        /// Why.
        source: io::Error,
    },
    /// Processes have the board open.
    #[error("{address}: in use by {}", .users.join(", "))]
    InUse {
        /// The address.
        address: String,
        /// `name (pid)` of each.
        users: Vec<String>,
    },
    /// The IOMMU group holds functions that are no Akida boards.
    #[error("{address}: IOMMU group {group} also holds {}", .others.join(", "))]
    SharedGroup {
        /// The address.
        address: String,
        /// Number of the group.
        group: u32,
        /// `address (driver)` of each.
        others: Vec<String>,
    },
    /// No IOMMU confines the function.
    #[error("{address}: no IOMMU group")]
    NoIommu {
        /// The address.
        address: String,
    },
    /// Bound in VFIO's no-IOMMU mode, and not named so.
    #[error(
        "{address}: VFIO has bound it in no-IOMMU mode: nothing confines its DMA, which can overwrite any memory of this machine"
    )]
    Unconfined {
        /// The address.
        address: String,
    },
    /// No-IOMMU mode was asked for, and an IOMMU confines the function.
    #[error("{address}: IOMMU group {group} confines it, and no-IOMMU mode was asked for")]
    Confined {
        /// The address.
        address: String,
        /// Number of the group.
        group: u32,
    },
    /// No-IOMMU mode was asked for, and VFIO does not allow it.
    #[error("{address}: {}", .known.then_some("VFIO's no-IOMMU mode is off").unwrap_or("the kernel's VFIO has no no-IOMMU mode, or is not loaded"))]
    NoIommuMode {
        /// The address.
        address: String,
        /// The kernel has the mode.
        known: bool,
    },
    /// The vfio-pci driver is not there.
    #[error("the kernel has no driver {driver} loaded")]
    NoDriver {
        /// The driver's name.
        driver: String,
    },
    /// The kernel accepted every write and bound another driver all the same.
    #[error("{address}: the driver is {} after binding, not {wanted}", .driver.as_deref().unwrap_or("none"))]
    NotBound {
        /// The address.
        address: String,
        /// The driver asked for.
        wanted: String,
        /// The driver bound now.
        driver: Option<String>,
    },
}

impl Error {
    /// What to do next, in one line.
    pub fn advice(&self) -> Cow<'static, str> {
        match self {
            Error::NoSuchFunction { .. } | Error::NotAnAddress { .. } => "akida-ctl devices lists the boards".into(),
            Error::Write { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "binding drivers needs root: sudo akida-ctl ...".into()
            }
            Error::InUse { .. } => "stop these processes first".into(),
            Error::SharedGroup { .. } => {
                "move the board to a slot of its own IOMMU group; everything in a group goes to one owner".into()
            }
            Error::NoIommu { .. } => {
                "switch the IOMMU on: VT-d or AMD-Vi in the firmware, intel_iommu=on on the kernel command line".into()
            }
            Error::Unconfined { address } => format!(
                "switch the IOMMU on; where there is none and the danger is accepted, name the board vfio-noiommu:{address}"
            )
            .into(),
            Error::Confined { address, .. } => format!("sudo akida-ctl bind {address}").into(),
            Error::NoIommuMode { known: true, .. } => {
                "echo Y | sudo tee /sys/module/vfio/parameters/enable_unsafe_noiommu_mode, which taints the kernel".into()
            }
            Error::NoIommuMode { known: false, .. } => {
                "sudo modprobe vfio-pci; a kernel without CONFIG_VFIO_NOIOMMU, as Debian's, needs an IOMMU".into()
            }
            Error::NoDriver { driver } => format!("sudo modprobe {driver}").into(),
            Error::NotBound { .. } => "dmesg | tail says why the driver refused".into(),
            Error::NotAkida { .. } | Error::Read { .. } | Error::Write { .. } => "akida-ctl doctor".into(),
        }
    }
}
