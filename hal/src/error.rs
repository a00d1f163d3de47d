//! What can go wrong between a program and a board. Errors carry data: which board, register, address, value.

use std::borrow::Cow;
use std::io;
use std::time::Duration;

use crate::descriptor::DescriptorError;
use crate::format::FormatError;
use crate::mesh::{NpAddress, Version};
use crate::packet::PacketError;

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
    /// A call into the operating system failed.
    #[error("{board}: {operation} failed")]
    System {
        /// Board.
        board: String,
        /// What was tried.
        operation: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// An access outside configuration space or a BAR, or not at a multiple of 4.
    #[error("{board}: no 32-bit word at {space} + {offset:#x} ({limit:#x} bytes)")]
    Access {
        /// Board.
        board: String,
        /// "configuration space", "BAR0".
        space: &'static str,
        /// Byte offset.
        offset: u64,
        /// Bytes there are.
        limit: u64,
    },
    /// Vendor and device id are none of ours.
    #[error("{board}: PCI {vendor:04x}:{device:04x} is no Akida board")]
    NotAkida {
        /// Board.
        board: String,
        /// Vendor id.
        vendor: u16,
        /// Device id.
        device: u16,
    },
    /// A BAR is too small for the registers in it.
    #[error("{board}: BAR{bar} has {len:#x} bytes, at least {needed:#x} are needed")]
    BarTooSmall {
        /// Board.
        board: String,
        /// Index.
        bar: usize,
        /// Length in bytes.
        len: u64,
        /// What the driver needs.
        needed: u64,
    },
    /// All ones were read, and from a register of known value too.
    #[error("{board}: reads all ones at {register}: the device is gone from the bus")]
    DeviceLost {
        /// Board.
        board: String,
        /// Where it was noticed.
        register: String,
    },
    /// A register has a value it cannot have.
    #[error("{board}: {register} reads {value:#010x}, expected {expected}")]
    Register {
        /// Board.
        board: String,
        /// Name.
        register: &'static str,
        /// Value.
        value: u32,
        /// What it should be.
        expected: String,
    },
    /// Something did not happen in time.
    #[error("{board}: {what} did not happen in {limit:?} (last value {last:#010x} after {waited:?})")]
    TimedOut {
        /// Board.
        board: String,
        /// What was waited for.
        what: String,
        /// The register's last value.
        last: u32,
        /// Time waited.
        waited: Duration,
        /// Deadline.
        limit: Duration,
    },
    /// The PCIe DMA engine aborted a channel.
    #[error(
        "{board}: DMA {channel} aborted between host {iova:#x} and device {address:#010x} ({len} bytes, error status \
         {status:#010x})"
    )]
    DmaAbort {
        /// Board.
        board: String,
        /// "read 0" (host to device) or "write 1" (device to host).
        channel: String,
        /// Host side of the first element, an IOVA.
        iova: u64,
        /// Device side of the first element.
        address: u32,
        /// Bytes of the whole list.
        len: u64,
        /// The engine's error status register, 0 where there is none.
        status: u32,
    },
    /// A channel's status is neither running nor stopped, or another channel's recovery stopped it.
    #[error("{board}: DMA {channel} failed: {reason}")]
    DmaChannel {
        /// Board.
        board: String,
        /// Channel.
        channel: String,
        /// What was seen.
        reason: String,
    },
    /// A buffer was mapped before the board's last reset.
    #[error("{board}: a DMA buffer of generation {buffer} was submitted in generation {generation}")]
    StaleBuffer {
        /// Board.
        board: String,
        /// The buffer's generation.
        buffer: u64,
        /// The board's.
        generation: u64,
    },
    /// A device address range that cannot be accessed so.
    #[error("{board}: device addresses {address:#010x}+{len:#x} {reason}")]
    DeviceRange {
        /// Board.
        board: String,
        /// First.
        address: u32,
        /// Bytes.
        len: u64,
        /// Why not.
        reason: &'static str,
    },
    /// Device memory is full.
    #[error("{board}: {len} bytes of device memory are needed for {what}, {free} in one piece are free")]
    DeviceMemory {
        /// Board.
        board: String,
        /// For what.
        what: &'static str,
        /// Bytes needed.
        len: u64,
        /// Largest free piece.
        free: u64,
    },
    /// Interrupts cannot be used.
    #[error("{board}: cannot wait for interrupts: {reason}")]
    Interrupts {
        /// Board.
        board: String,
        /// Why.
        reason: &'static str,
    },
    /// The board is refused after a failure it did not recover from.
    #[error("{board}: quarantined, since {reason}")]
    Quarantined {
        /// Board.
        board: String,
        /// The failure.
        reason: String,
    },
    /// The board was reset since; program and jobs are lost.
    #[error("{board}: was reset (generation {generation} instead of {expected}); its program and jobs are lost")]
    WasReset {
        /// Board.
        board: String,
        /// The board's generation.
        generation: u64,
        /// The one the device was opened in.
        expected: u64,
    },
    /// There is no program.
    #[error("{board}: has no program")]
    NotProgrammed {
        /// Board.
        board: String,
    },
    /// The program is for other hardware.
    #[error("{board}: is {device}, the program was made for {program}")]
    ProgramVersion {
        /// Board.
        board: String,
        /// The board's version.
        device: Version,
        /// The program's.
        program: Version,
    },
    /// A simulated board cannot compute with words it does not know.
    #[error(
        "{board}: the NP encoding of this program is not public: registers and memories are as it says, but nothing can be computed here"
    )]
    UnknownEncoding {
        /// Board.
        board: String,
    },
    /// The program needs an NP that is not there.
    #[error("{board}: has no {np} (pass {pass}, track {track}, word {word})")]
    ProgramTarget {
        /// Board.
        board: String,
        /// The NP.
        np: NpAddress,
        /// Pass.
        pass: usize,
        /// Track in the pass.
        track: usize,
        /// Word in the track.
        word: usize,
    },
    /// A track is malformed.
    #[error("pass {pass}, track {track} of the program is malformed")]
    ProgramPacket {
        /// Pass.
        pass: usize,
        /// Track in the pass.
        track: usize,
        /// What is wrong.
        source: PacketError,
    },
    /// Something about the program is out of range.
    #[error("the program's {what} is {value}, the limit is {limit}")]
    ProgramLimit {
        /// What.
        what: &'static str,
        /// Its value.
        value: u64,
        /// The limit.
        limit: u64,
    },
    /// A packet that the driver made is malformed.
    #[error("{board}: malformed config packet")]
    Packet {
        /// Board.
        board: String,
        /// What is wrong.
        source: PacketError,
    },
    /// A descriptor cannot be made.
    #[error("{board}: cannot make the descriptor")]
    Descriptor {
        /// Board.
        board: String,
        /// What is wrong.
        source: DescriptorError,
    },
    /// An input cannot be encoded, or an output not decoded.
    #[error("{board}: job {job}")]
    Format {
        /// Board.
        board: String,
        /// Job id.
        job: u16,
        /// What is wrong.
        source: FormatError,
    },
    /// A job input of the wrong length.
    #[error("{board}: an input of {actual} bytes was given, the program takes {expected}")]
    InputLength {
        /// Board.
        board: String,
        /// Bytes given.
        actual: usize,
        /// Bytes wanted.
        expected: usize,
    },
    /// What was written to an NP or to memory reads back differently.
    #[error("{board}: {what} + {offset:#x} reads back {read:#010x} after {wrote:#010x} was written")]
    ReadBack {
        /// Board.
        board: String,
        /// Where.
        what: String,
        /// Offset there, in the place's own unit.
        offset: u64,
        /// Expected.
        wrote: u32,
        /// Got.
        read: u32,
    },
    /// The kernel's VFIO refused, or what sysfs says forbids to open the board.
    #[error(transparent)]
    Vfio(#[from] crate::vfio::Error),
    /// The process in which the board is, or the way to it.
    #[error(transparent)]
    Remote(#[from] crate::vfio_user::Error),
    /// The vendor's device node.
    #[error(transparent)]
    Node(#[from] crate::node::Error),
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
            Error::HostMemory { .. } | Error::System { .. } => ErrorKind::Host,
            Error::Vfio(e) => e.kind(),
            Error::Remote(e) => e.kind(),
            Error::Node(e) => e.kind(),
            Error::BufferRange { .. }
            | Error::Access { .. }
            | Error::NotAkida { .. }
            | Error::StaleBuffer { .. }
            | Error::DeviceRange { .. }
            | Error::DeviceMemory { .. }
            | Error::Interrupts { .. }
            | Error::NotProgrammed { .. }
            | Error::Packet { .. }
            | Error::Descriptor { .. }
            | Error::InputLength { .. } => ErrorKind::Usage,
            Error::TimedOut { .. } => ErrorKind::TimedOut,
            Error::DeviceLost { .. } => ErrorKind::Lost,
            Error::BarTooSmall { .. }
            | Error::Register { .. }
            | Error::DmaAbort { .. }
            | Error::DmaChannel { .. }
            | Error::Quarantined { .. }
            | Error::WasReset { .. }
            | Error::Format { .. }
            | Error::ReadBack { .. } => ErrorKind::Device,
            Error::UnknownEncoding { .. }
            | Error::ProgramVersion { .. }
            | Error::ProgramTarget { .. }
            | Error::ProgramPacket { .. }
            | Error::ProgramLimit { .. } => ErrorKind::Program,
        }
    }

    /// What to do next, in one line.
    pub fn advice(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Error::Vfio(e) => return e.advice(),
            Error::Remote(e) => return e.advice(),
            Error::Node(e) => return e.advice(),
            Error::HostMemory { .. } => "free memory, or raise the locked-memory limit (ulimit -l, LimitMEMLOCK=)",
            Error::System { .. } => "see the cause; check permissions and that the board is bound to vfio-pci",
            Error::BufferRange { .. } | Error::Access { .. } | Error::DeviceRange { .. } => {
                "this is a mistake in the calling program: check address and length"
            }
            Error::NotAkida { .. } => "name an Akida board: vendor 1e7c, device bca1 or a500",
            Error::BarTooSmall { .. } => "check that firmware assigned all BARs of the board (lspci -v)",
            Error::DeviceLost { .. } => "check that ASPM is off on the link, then reset or power-cycle the board",
            Error::Register { .. } => "reset the board; if it stays, this is another board or a broken one",
            Error::TimedOut { .. } => "recover the device and try again; if it stays, power-cycle the board",
            Error::DmaAbort { .. } => {
                "check that the host buffer is mapped for this board and the device address exists"
            }
            Error::DmaChannel { .. } => "try again; if it stays, recover the device",
            Error::StaleBuffer { .. } => "allocate the buffer anew: the board was reset since",
            Error::DeviceMemory { .. } => "use a smaller batch or program, or unprogram the device first",
            Error::Interrupts { .. } => "use polling",
            Error::Quarantined { .. } => "recover the device; until that succeeds it refuses all work",
            Error::WasReset { .. } => "recover the device and program it again",
            Error::NotProgrammed { .. } => "program the device first",
            Error::UnknownEncoding { .. } => "run it on the silicon it was made for, or map a model with akida-convert",
            Error::ProgramVersion { .. } => "make the program for this hardware",
            Error::ProgramTarget { .. } => "make the program for this mesh",
            Error::ProgramPacket { .. } | Error::ProgramLimit { .. } => {
                "the program file is damaged or was made by another version: make it again"
            }
            Error::Packet { .. } | Error::Descriptor { .. } => "check addresses and sizes of the request",
            Error::Format { .. } => "recover the device; if it stays, program and board do not belong together",
            Error::InputLength { .. } => "give one byte per element of the program's input shape",
            Error::ReadBack { .. } => "recover the device and try again; if it stays, do not trust this board",
        })
    }
}
