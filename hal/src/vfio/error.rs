//! What can go wrong between this process and the kernel's VFIO. Every variant knows what to do about it.

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;

use super::UNCONFINED;
use crate::ErrorKind;

/// An error of the VFIO board. `Display` says what happened, [`advice`](Error::advice) what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no PCI function at this address.
    #[error("{board}: no such PCI function")]
    NoSuchFunction {
        /// The address asked for.
        board: String,
    },
    /// Another driver, or none, holds the function.
    #[error("{board}: the driver is {}, not vfio-pci", .driver.as_deref().unwrap_or("none"))]
    WrongDriver {
        /// PCI address.
        board: String,
        /// The driver bound now.
        driver: Option<String>,
    },
    /// The function has no IOMMU group: the kernel has no IOMMU, or it is off.
    #[error("{board}: no IOMMU group, so the kernel cannot confine its DMA")]
    NoIommu {
        /// PCI address.
        board: String,
    },
    /// The group exists only by VFIO's no-IOMMU mode, in which a board can write to any memory.
    #[error(
        "{board}: VFIO runs in no-IOMMU mode: nothing confines the board's DMA, which can overwrite any memory of this machine"
    )]
    Unconfined {
        /// PCI address.
        board: String,
    },
    /// No-IOMMU mode was asked for, and an IOMMU confines the board.
    #[error("{board}: IOMMU group {group} confines the board, and no-IOMMU mode was asked for")]
    Confined {
        /// PCI address.
        board: String,
        /// IOMMU group number.
        group: u32,
    },
    /// No-IOMMU mode needs a capability that this process lacks.
    #[error("{board}: {what} needs {capability}")]
    Privilege {
        /// The board, as it was asked for.
        board: String,
        /// What was refused.
        what: String,
        /// The capability.
        capability: &'static str,
    },
    /// No-IOMMU mode on a machine on which physical addresses need not be those of the bus.
    #[error("{board}: without an IOMMU a board is given physical addresses, which are the bus's own on x86-64 only")]
    BusAddresses {
        /// The board, as it was asked for.
        board: String,
    },
    /// No-IOMMU mode needs huge pages, and there are not enough, or not where the board reaches them.
    #[error(
        "{board}: DMA without an IOMMU needs huge pages of 2 MiB ({needed} side by side, up to {limit:#x}); {free} are free"
    )]
    NoHugePages {
        /// The board, as it was asked for.
        board: String,
        /// Pages that must lie side by side.
        needed: u64,
        /// Pages that nobody has, wherever they are.
        free: u64,
        /// Highest address that the board may be given.
        limit: u64,
    },
    /// Other functions share the IOMMU group and hold other drivers.
    #[error("{board}: IOMMU group {group} is shared with {}", .others.join(", "))]
    SharedGroup {
        /// PCI address.
        board: String,
        /// IOMMU group number.
        group: u32,
        /// `address (driver)` of each function in the way.
        others: Vec<String>,
    },
    /// Another process has the board.
    #[error("{board}: {} is open in another process", .node.display())]
    Busy {
        /// PCI address.
        board: String,
        /// The device node.
        node: PathBuf,
    },
    /// The device node may not be opened by this user.
    #[error("{board}: no permission to open {}", .node.display())]
    Permission {
        /// PCI address.
        board: String,
        /// The device node.
        node: PathBuf,
    },
    /// A system call failed in a way that has no variant of its own.
    #[error("{board}: {call} failed")]
    Kernel {
        /// PCI address.
        board: String,
        /// The ioctl or system call.
        call: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel refused to map or unmap memory for DMA.
    #[error("{board}: {call} of {len} bytes at IOVA {iova:#x} failed")]
    Dma {
        /// PCI address.
        board: String,
        /// The ioctl.
        call: &'static str,
        /// I/O virtual address.
        iova: u64,
        /// Bytes.
        len: usize,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The process may not lock as much memory as this mapping pins.
    #[error("{board}: mapping {needed} bytes for DMA exceeds the locked-memory limit ({limit} bytes, {locked} in use)")]
    LockedMemory {
        /// PCI address.
        board: String,
        /// Bytes the mapping pins.
        needed: u64,
        /// Bytes locked already.
        locked: u64,
        /// RLIMIT_MEMLOCK in bytes.
        limit: u64,
    },
    /// No range of I/O virtual addresses is left for this much memory.
    #[error("{board}: no free IOVA range of {len} bytes below {limit:#x}")]
    NoIova {
        /// PCI address.
        board: String,
        /// Bytes asked for.
        len: usize,
        /// Highest address the allocator may use.
        limit: u64,
    },
    /// Memory decoding is off in the command register; touching a mapped BAR would kill the process.
    #[error("{board}: memory decoding is off in the command register, BARs cannot be accessed")]
    DecodeOff {
        /// PCI address.
        board: String,
    },
    /// The kernel asked for the board back (unbind or unplug).
    #[error("{board}: the kernel asks for the board back (unbind or unplug)")]
    Released {
        /// PCI address.
        board: String,
    },
    /// The kernel knows no way to reset this function.
    #[error("{board}: the kernel has no reset method for this function")]
    NoReset {
        /// PCI address.
        board: String,
    },
}

impl Error {
    /// The family of hal errors this belongs to.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::DecodeOff { .. } => ErrorKind::Usage,
            Error::Released { .. } => ErrorKind::Lost,
            _ => ErrorKind::Host,
        }
    }

    /// What to do next, in one line.
    pub fn advice(&self) -> Cow<'static, str> {
        match self {
            Error::NoSuchFunction { .. } => "akida-ctl devices lists the boards of this machine".into(),
            Error::WrongDriver { board, .. } => format!("sudo akida-ctl bind {board}").into(),
            Error::NoIommu { .. } => {
                "switch the IOMMU on: VT-d or AMD-Vi in the firmware, intel_iommu=on on the kernel command line".into()
            }
            Error::Unconfined { board } => format!(
                "switch the IOMMU on, load vfio without enable_unsafe_noiommu_mode, then sudo akida-ctl bind {board}; where there \
                 is no IOMMU and the danger is accepted, name the board vfio-noiommu:{board}"
            )
            .into(),
            Error::Confined { board, .. } => {
                format!("name the board {}", board.strip_prefix(UNCONFINED).unwrap_or(board)).into()
            }
            Error::Privilege { capability, .. } => format!("run it as root (sudo), or with {capability}").into(),
            Error::BusAddresses { .. } => {
                "switch the IOMMU on, or keep the vendor's kernel module and use --device node:/dev/akida0".into()
            }
            Error::NoHugePages { needed, .. } => format!(
                "echo {} | sudo tee /proc/sys/vm/nr_hugepages, best right after boot (hugepages= on the kernel command line)",
                (4 * needed).max(32)
            )
            .into(),
            Error::SharedGroup { .. } => {
                "move the board to a slot of its own IOMMU group, or unbind the other functions".into()
            }
            Error::Busy { node, .. } => format!("fuser -v {} names the process", node.display()).into(),
            Error::Permission { .. } => {
                "add yourself to the group akida (sudo usermod -aG akida USER) and log in again".into()
            }
            Error::LockedMemory { needed, locked, .. } => format!(
                "ulimit -l {} (KiB), or `@akida - memlock unlimited` in /etc/security/limits.d/akida.conf, or \
                 LimitMEMLOCK=infinity in the unit",
                needed.saturating_add(*locked).div_ceil(1024)
            )
            .into(),
            Error::NoIova { .. } => "drop buffers that are no longer used, or raise Options::iova_limit".into(),
            Error::DecodeOff { .. } => "set bit 1 of the command register, or open the board again".into(),
            Error::Released { board } => format!("close the board; sudo akida-ctl bind {board} brings it back").into(),
            Error::NoReset { board } => format!("power-cycle the slot, then sudo akida-ctl bind {board}").into(),
            Error::Kernel { .. } | Error::Dma { .. } => "akida-ctl doctor, and the end of dmesg".into(),
        }
    }
}
