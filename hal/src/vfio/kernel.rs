//! What a board needs of the kernel, and nothing more: the seam below [`VfioBoard`](super::VfioBoard).
//!
//! Implemented by the group and container interface ([`group`](super::group)), by iommufd (`iommufd`, a feature), without an IOMMU
//! by [`noiommu`](super::noiommu), and in tests by a machine that refuses, unplugs and runs out of memory on request.

use std::io;
use std::ops::RangeInclusive;
use std::os::fd::BorrowedFd;

use super::ioctl::{self, Region};
use crate::dma::DmaMemory;

/// Indexes of linux/vfio.h that the bindings spread over several names.
pub mod index {
    /// Configuration space among the regions; BARs are 0 to 5.
    pub const CONFIG: u32 = 7;
    /// MSI among the interrupts.
    pub const MSI: u32 = 1;
    /// MSI-X among the interrupts.
    pub const MSIX: u32 = 2;
    /// The kernel's request to give the device back.
    pub const RELEASE: u32 = 4;
}

/// An open VFIO device.
pub trait Kernel: Send + Sync {
    /// Name for logs: `group 12` or `iommufd vfio0`.
    fn interface(&self) -> String;

    /// The device's file: regions are read, written and mapped through it.
    fn device(&self) -> BorrowedFd<'_>;

    /// Size, place and rights of a region.
    fn region(&self, index: u32) -> io::Result<Region> {
        ioctl::region(self.device(), index)
    }

    /// Vectors of an interrupt index.
    fn vectors(&self, index: u32) -> io::Result<u32> {
        ioctl::vectors(self.device(), index)
    }

    /// Lets vector 0 of an interrupt index signal `event`, or nothing any more.
    fn signal(&self, index: u32, event: Option<BorrowedFd<'_>>) -> io::Result<()> {
        ioctl::signal(self.device(), index, event)
    }

    /// Whether [`reset`](Self::reset) is offered: it worked when the function was opened.
    fn resettable(&self) -> io::Result<bool> {
        ioctl::resettable(self.device())
    }

    /// Resets the function, by whatever method the kernel has for it.
    fn reset(&self) -> io::Result<()> {
        ioctl::reset(self.device())
    }
}

/// An open VFIO device behind an IOMMU, and the I/O address space it is attached to: it reaches what is mapped there, nothing else.
pub trait Confined: Kernel {
    /// Ranges of I/O addresses that may be mapped.
    fn iova_ranges(&self) -> io::Result<Vec<RangeInclusive<u64>>>;

    /// Lets the device read and write `memory` at `iova`. The caller keeps `memory` alive until
    /// [`unmap`](Self::unmap) has returned.
    fn map(&self, iova: u64, memory: &DmaMemory) -> io::Result<()>;

    /// Ends what [`map`](Self::map) began.
    fn unmap(&self, iova: u64, len: usize) -> io::Result<()>;
}
