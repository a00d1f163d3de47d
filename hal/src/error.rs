//! What can go wrong between a program and a board. Errors carry data: which board, register, address, value.

use std::io;

/// Shorthand.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Which family an error belongs to, for programs that decide what to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The caller asked for something impossible; the board was not touched.
    Usage,
    /// Host resources: memory, permissions, limits, kernel calls.
    Host,
    /// Something did not finish in time.
    TimedOut,
    /// The device reported a failure (DMA abort, refused packet, wrong answer).
    Device,
    /// The device no longer answers (all ones).
    Lost,
    /// The program does not fit this board.
    Program,
}

/// An error of the hardware layer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Host memory could not be had.
    #[error("cannot get {len} bytes of host memory for DMA")]
    HostMemory {
        /// Bytes asked for.
        len: usize,
        /// The kernel's answer.
        source: io::Error,
    },
    /// An access outside a DMA buffer.
    #[error("bytes {offset}..{offset}+{len} are outside a DMA buffer of {size} bytes")]
    BufferRange {
        /// First byte.
        offset: usize,
        /// Bytes.
        len: usize,
        /// The buffer's length.
        size: usize,
    },
}

impl Error {
    pub(crate) fn host_memory(len: usize, source: io::Error) -> Self {
        Self::HostMemory { len, source }
    }

    pub(crate) fn buffer_range(offset: usize, len: usize, size: usize) -> Self {
        Self::BufferRange { offset, len, size }
    }

    /// The family.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::HostMemory { .. } => ErrorKind::Host,
            Error::BufferRange { .. } => ErrorKind::Usage,
        }
    }
}
