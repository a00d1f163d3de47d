//! The device-node interface of Linux 6.6: `/dev/vfio/devices/vfioN` attached to an address space of `/dev/iommu`.
#![allow(unsafe_code)] // vfio_dma_map is an unsafe function, and one ioctl the crates lack.

use std::io;
use std::mem::ManuallyDrop;
use std::ops::RangeInclusive;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use iommufd_ioctls::{IommuFd, IommufdError};
use vfio_ioctls::{VfioDevice, VfioError, VfioIommufd};

use super::group::{errno, open_failed};
use super::kernel::{Confined, Kernel};
use super::{Error, ioctl};
use crate::dma::DmaMemory;

/// A device opened through its own node.
pub struct Iommufd {
    board: String,
    node: String,
    sysfs: PathBuf,
    /// Dropped by hand: its `Drop` unwraps an ioctl that fails once the function is gone.
    device: ManuallyDrop<VfioDevice>,
    space: Arc<VfioIommufd>,
}

/// `struct iommu_ioas_iova_ranges` of linux/iommufd.h.
#[repr(C)]
struct IovaRanges {
    size: u32,
    ioas: u32,
    count: u32,
    reserved: u32,
    ranges: u64,
    alignment: u64,
}

// _IO(';', 0x84)
nix::ioctl_readwrite_bad!(ioas_iova_ranges, 0x3b84, IovaRanges);

impl Iommufd {
    /// Opens `board`, whose sysfs folder is `sysfs`.
    pub fn open(board: &str, sysfs: &Path) -> Result<Self, Error> {
        let error = |e| translate(board, e);
        let iommu = IommuFd::new().map_err(|e| match e {
            IommufdError::OpenIommufd(source) => open_failed(board.into(), "/dev/iommu".into(), source),
            other => Error::Kernel { board: board.into(), call: "open of /dev/iommu", source: io::Error::other(other) },
        })?;
        let space = Arc::new(VfioIommufd::new(Arc::new(iommu), None, None).map_err(error)?);
        let device = VfioDevice::new(sysfs, space.clone(), true).map_err(error)?;
        let node = std::fs::read_dir(sysfs.join("vfio-dev"))
            .ok()
            .and_then(|mut d| Some(d.next()?.ok()?.file_name().to_string_lossy().into_owned()))
            .unwrap_or_default();
        Ok(Self { board: board.into(), node, sysfs: sysfs.into(), device: ManuallyDrop::new(device), space })
    }
}

impl Kernel for Iommufd {
    fn interface(&self) -> String {
        format!("iommufd {}", self.node)
    }

    fn device(&self) -> BorrowedFd<'_> {
        ioctl::lend(&*self.device)
    }
}

impl Confined for Iommufd {
    fn iova_ranges(&self) -> io::Result<Vec<RangeInclusive<u64>>> {
        let mut found = vec![[0u64; 2]; 16];
        loop {
            let mut query = IovaRanges {
                size: size_of::<IovaRanges>() as u32,
                ioas: self.space.ioas().id(),
                count: found.len() as u32,
                reserved: 0,
                ranges: found.as_mut_ptr() as u64,
                alignment: 0,
            };
            // SAFETY: the structure is the one of this ioctl, and `ranges` points at `count` pairs that outlive the call.
            match unsafe { ioas_iova_ranges(self.space.iommufd().as_raw_fd(), &mut query) } {
                Ok(_) => {
                    found.truncate(query.count as usize);
                    return Ok(found.into_iter().map(|[first, last]| first..=last).collect());
                }
                Err(nix::errno::Errno::EMSGSIZE) if found.len() < 4096 => {
                    found.resize(found.len().max(query.count as usize) * 2, [0; 2]);
                }
                Err(e) => return Err(e.into()),
            }
        }
    }

    fn map(&self, iova: u64, memory: &DmaMemory) -> io::Result<()> {
        // SAFETY: as for the group interface: no Rust reference to this memory exists, and the caller keeps it alive until
        // it is unmapped.
        unsafe { self.space.vfio_dma_map(iova, memory.len(), memory.as_ptr()) }.map_err(errno)
    }

    fn unmap(&self, iova: u64, len: usize) -> io::Result<()> {
        self.space.vfio_dma_unmap(iova, len).map_err(errno)
    }
}

impl Drop for Iommufd {
    fn drop(&mut self) {
        if self.sysfs.join("vfio-dev").exists() {
            // SAFETY: dropped here and nowhere else, and `self` ends with this call.
            unsafe { ManuallyDrop::drop(&mut self.device) };
        } else {
            // The kernel waits for this descriptor; only the address space's is kept until exit.
            let device = self.device.as_raw_fd();
            // SAFETY: the descriptor is that of `device`, which is leaked here: nobody uses or closes it after this.
            drop(unsafe { OwnedFd::from_raw_fd(device) });
            log::debug!("{}: given back to the kernel while open", self.board);
        }
    }
}

fn translate(board: &str, e: VfioError) -> Error {
    let board = board.to_string();
    match e {
        VfioError::OpenDeviceCdev(source) => open_failed(board, "/dev/vfio/devices".into(), source),
        VfioError::VfioDeviceBindIommufd(e) => {
            let source = io::Error::from_raw_os_error(e.errno());
            Error::Kernel { board, call: "VFIO_DEVICE_BIND_IOMMUFD", source }
        }
        VfioError::VfioDeviceAttachIommufdPt(e) => {
            let source = io::Error::from_raw_os_error(e.errno());
            Error::Kernel { board, call: "VFIO_DEVICE_ATTACH_IOMMUFD_PT", source }
        }
        other => Error::Kernel { board, call: "opening the VFIO device node", source: errno(other) },
    }
}
