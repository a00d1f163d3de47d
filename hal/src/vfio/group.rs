//! The container and group interface, which every kernel with VFIO has, through vfio-ioctls.
#![allow(unsafe_code)] // vfio_dma_map is an unsafe function; one call.

use std::io;
use std::mem::ManuallyDrop;
use std::ops::RangeInclusive;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vfio_ioctls::{VfioContainer, VfioDevice, VfioError};

use super::kernel::{Confined, Kernel};
use super::{Error, ioctl};
use crate::dma::DmaMemory;

/// A device opened through its IOMMU group, alone in a container of its own.
pub struct Group {
    board: String,
    number: u32,
    sysfs: PathBuf,
    /// Dropped by hand: its `Drop` panics when the function has left sysfs.
    device: ManuallyDrop<VfioDevice>,
    container: Arc<VfioContainer>,
}

impl Group {
    /// Opens `board`, whose sysfs folder is `sysfs` and whose IOMMU group is `number`.
    pub fn open(board: &str, number: u32, sysfs: &Path) -> Result<Self, Error> {
        let error = |e| translate(board, number, e);
        let container = Arc::new(VfioContainer::new(None).map_err(error)?);
        let device = VfioDevice::new(sysfs, container.clone(), true).map_err(error)?;
        Ok(Self { board: board.into(), number, sysfs: sysfs.into(), device: ManuallyDrop::new(device), container })
    }
}

impl Kernel for Group {
    fn interface(&self) -> String {
        format!("group {}", self.number)
    }

    fn device(&self) -> BorrowedFd<'_> {
        ioctl::lend(&*self.device)
    }
}

impl Confined for Group {
    fn iova_ranges(&self) -> io::Result<Vec<RangeInclusive<u64>>> {
        ioctl::iova_ranges(ioctl::lend(&*self.container))
    }

    fn map(&self, iova: u64, memory: &DmaMemory) -> io::Result<()> {
        // SAFETY: to this memory no Rust reference ever exists (`DmaMemory` copies through raw pointers only), and the
        // caller keeps it alive until it is unmapped, as the trait demands.
        unsafe { self.container.vfio_dma_map(iova, memory.len(), memory.as_ptr()) }.map_err(errno)
    }

    fn unmap(&self, iova: u64, len: usize) -> io::Result<()> {
        self.container.vfio_dma_unmap(iova, len).map_err(errno)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The crate looks the group up in sysfs once more and unwraps. A function that was unplugged is gone from there;
        // then its descriptor stays open until the process ends, which costs nothing but that descriptor.
        if self.sysfs.join("iommu_group").exists() {
            // SAFETY: dropped here and nowhere else, and `self` ends with this call.
            unsafe { ManuallyDrop::drop(&mut self.device) };
        } else {
            log::warn!("{}: the function left the bus while open; its descriptor is kept until exit", self.board);
        }
    }
}

/// The kernel's errno, which is at the end of the chain of sources, where there is one.
pub fn errno(e: VfioError) -> io::Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&e);
    while let Some(e) = cause {
        if let Some(e) = e.downcast_ref::<vmm_sys_util::errno::Error>() {
            return io::Error::from_raw_os_error(e.errno());
        }
        cause = e.source();
    }
    io::Error::other(e)
}

/// What opening failed of, in this project's terms.
fn translate(board: &str, number: u32, e: VfioError) -> Error {
    let board = board.to_string();
    let kernel = |call, source| Error::Kernel { board: board.clone(), call, source };
    let sys = |e: vmm_sys_util::errno::Error| io::Error::from_raw_os_error(e.errno());
    match e {
        VfioError::OpenContainer(source) => open_failed(board, "/dev/vfio/vfio".into(), source),
        VfioError::OpenGroup(source, _) => open_failed(board, format!("/dev/vfio/{number}").into(), source),
        // The crate accepts a viable group only when nobody has attached it; sysfs was looked at before, so it is in use.
        VfioError::GroupViable | VfioError::GroupSetContainer => {
            Error::Busy { board, node: format!("/dev/vfio/{number}").into() }
        }
        VfioError::ContainerSetIOMMU(e) => kernel("VFIO_SET_IOMMU", sys(e)),
        VfioError::GroupGetDeviceFD(e) => kernel("VFIO_GROUP_GET_DEVICE_FD", sys(e)),
        VfioError::VfioDeviceGetInfo(e) => kernel("VFIO_DEVICE_GET_INFO", sys(e)),
        VfioError::VfioExtension | VfioError::VfioType1V2 => {
            kernel("VFIO_CHECK_EXTENSION (type 1 v2 IOMMU)", io::ErrorKind::Unsupported.into())
        }
        other => kernel("opening the VFIO group", io::Error::other(other)),
    }
}

/// Translates the errno of opening a device node.
pub fn open_failed(board: String, node: PathBuf, source: io::Error) -> Error {
    match source.raw_os_error() {
        Some(nix::libc::EBUSY) => Error::Busy { board, node },
        Some(nix::libc::EACCES | nix::libc::EPERM) => Error::Permission { board, node },
        _ => Error::Kernel { board, call: "open of the VFIO node", source },
    }
}
