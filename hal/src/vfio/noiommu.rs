//! VFIO's no-IOMMU mode (`CONFIG_VFIO_NOIOMMU`, `enable_unsafe_noiommu_mode`): registers and interrupts as behind an IOMMU, and
//! nothing that confines the board. The kernel taints itself, and asks for CAP_SYS_RAWIO.
//!
//! vfio-ioctls knows type 1 containers only, so the few ioctls that open a device are here.
#![allow(unsafe_code)] // ioctl takes raw pointers; each block says why the pointer is good.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use vfio_bindings::bindings::vfio::{VFIO_GROUP_FLAGS_VIABLE, VFIO_NOIOMMU_IOMMU, vfio_group_status};

use super::Error;
use super::group::open_failed;
use super::ioctl::code;
use super::kernel::Kernel;

mod raw {
    use super::code;
    nix::ioctl_write_int_bad!(check_extension, code(1));
    nix::ioctl_write_int_bad!(set_iommu, code(2));
    nix::ioctl_readwrite_bad!(group_status, code(3), super::vfio_group_status);
    nix::ioctl_write_ptr_bad!(set_container, code(4), nix::libc::c_int);
    nix::ioctl_write_ptr_bad!(device_fd, code(6), nix::libc::c_char);
}

/// A device of a group that VFIO made up, open; its files are closed in this order.
pub struct NoIommu {
    number: u32,
    device: OwnedFd,
    _group: File,
    _container: File,
}

impl NoIommu {
    /// Opens the PCI function `address`, named `board` in errors, of the group `number`.
    pub fn open(board: &str, address: &str, number: u32) -> Result<Self, Error> {
        let failed = |call| move |source: io::Error| Error::Kernel { board: board.into(), call, source };
        let open = |path: String| {
            OpenOptions::new().read(true).write(true).open(&path).map_err(|e| match e.raw_os_error() {
                Some(nix::libc::EPERM | nix::libc::EACCES) => Error::Privilege {
                    board: board.into(),
                    what: format!("opening {path}"),
                    capability: "CAP_SYS_RAWIO",
                },
                _ => open_failed(board.into(), path.clone().into(), e),
            })
        };
        let container = open("/dev/vfio/vfio".into())?;
        // SAFETY: an ioctl of the container that takes a number.
        let known = unsafe { raw::check_extension(container.as_raw_fd(), VFIO_NOIOMMU_IOMMU as i32) };
        if !known.is_ok_and(|answer| answer > 0) {
            let source = io::Error::new(io::ErrorKind::Unsupported, "the kernel's VFIO has no such mode, or it is off");
            return Err(failed("VFIO_CHECK_EXTENSION (no-IOMMU)")(source));
        }
        let group = open(format!("/dev/vfio/noiommu-{number}"))?;
        let mut status = vfio_group_status { argsz: size_of::<vfio_group_status>() as u32, flags: 0 };
        // SAFETY: a structure of the type this ioctl takes.
        unsafe { raw::group_status(group.as_raw_fd(), &mut status) }
            .map_err(|e| failed("VFIO_GROUP_GET_STATUS")(e.into()))?;
        if status.flags & VFIO_GROUP_FLAGS_VIABLE == 0 {
            return Err(failed("VFIO_GROUP_GET_STATUS")(io::Error::other("the group is not viable")));
        }
        // SAFETY: points at the descriptor of an open container; the kernel only reads it.
        unsafe { raw::set_container(group.as_raw_fd(), &container.as_raw_fd()) }
            .map_err(|e| failed("VFIO_GROUP_SET_CONTAINER")(e.into()))?;
        // SAFETY: an ioctl of the container that takes a number.
        unsafe { raw::set_iommu(container.as_raw_fd(), VFIO_NOIOMMU_IOMMU as i32) }.map_err(|e| match e {
            Errno::EPERM => {
                let what = "VFIO_SET_IOMMU (no-IOMMU)".into();
                Error::Privilege { board: board.into(), what, capability: "CAP_SYS_RAWIO" }
            }
            e => failed("VFIO_SET_IOMMU (no-IOMMU)")(e.into()),
        })?;
        let name = CString::new(address).map_err(|e| failed("VFIO_GROUP_GET_DEVICE_FD")(io::Error::other(e)))?;
        // SAFETY: a string that ends with 0 and outlives the call.
        let device = unsafe { raw::device_fd(group.as_raw_fd(), name.as_ptr()) }
            .map_err(|e| failed("VFIO_GROUP_GET_DEVICE_FD")(e.into()))?;
        // SAFETY: the kernel has just made this descriptor for us; nobody else knows of it.
        let device = unsafe { OwnedFd::from_raw_fd(device) };
        Ok(Self { number, device, _group: group, _container: container })
    }
}

impl Kernel for NoIommu {
    fn interface(&self) -> String {
        format!("group noiommu-{}, unconfined", self.number)
    }

    fn device(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}
