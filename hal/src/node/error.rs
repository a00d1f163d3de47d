//! What can go wrong at the vendor's node.

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;

use crate::ErrorKind;

/// An error at the vendor's node.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The name is none of the vendor's.
    #[error("{}: the vendor's nodes are called /dev/akidaN and /dev/akd1500_N", .path.display())]
    Name {
        /// The path.
        path: PathBuf,
    },
    /// There is something else under that name.
    #[error("{}: is no character device", .path.display())]
    NoNode {
        /// The path.
        path: PathBuf,
    },
    /// It cannot be opened.
    #[error("{}: cannot be opened", .path.display())]
    Open {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A call failed.
    #[error("{node}: {operation} of {len} bytes at device address {address:#010x} failed")]
    Io {
        /// Node.
        node: String,
        /// "read" or "write".
        operation: &'static str,
        /// Where.
        address: u64,
        /// Bytes asked for.
        len: usize,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The module gave a transfer up.
    #[error(
        "{node}: the kernel module gave up a {operation} of {len} bytes at device address {address:#010x}; its DMA channel may \
         still be running on memory that is no longer its own"
    )]
    TimedOut {
        /// Node.
        node: String,
        /// "read" or "write".
        operation: &'static str,
        /// Where.
        address: u64,
        /// Bytes asked for.
        len: usize,
    },
    /// After a time-out only the module can begin anew.
    #[error("{node}: cannot be reset through the node, since {reason}")]
    NoReset {
        /// Node.
        node: String,
        /// The failure before.
        reason: String,
    },
}

impl Error {
    /// The family.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Name { .. } | Error::NoNode { .. } => ErrorKind::Usage,
            Error::Open { .. } => ErrorKind::Host,
            Error::Io { source, .. } => match source.raw_os_error().map(nix::errno::Errno::from_raw) {
                Some(nix::errno::Errno::ENODEV | nix::errno::Errno::ENXIO | nix::errno::Errno::EIO) => ErrorKind::Lost,
                _ => ErrorKind::Host,
            },
            Error::TimedOut { .. } => ErrorKind::TimedOut,
            Error::NoReset { .. } => ErrorKind::Device,
        }
    }

    /// What to do next, in one line.
    pub fn advice(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Error::Name { .. } | Error::NoNode { .. } => "name the vendor's node, for example node:/dev/akida0",
            Error::Open { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "join the group that owns the node: sudo usermod -aG akida $USER, and log in again"
            }
            Error::Open { .. } => {
                "load the vendor's module (ls /dev/akida* /dev/akd1500_*), or bind the board to vfio-pci"
            }
            Error::Io { .. } => "see the cause; dmesg has what the module says",
            Error::TimedOut { .. } | Error::NoReset { .. } => {
                "unload and load the vendor's module; if that hangs, power-cycle the machine; then look at ASPM (akida-ctl doctor)"
            }
        })
    }
}
