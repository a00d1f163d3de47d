//! The vfio-user protocol, version 0.1, as QEMU speaks it: a header of 16 bytes, a body, file descriptors beside it. One
//! declaration for the client in this crate and the server of the simulator. Integers have the host's byte order: both
//! ends of a UNIX socket are on one machine.
//!
//! Not the crate `vfio_user`: its server neither sends DMA requests nor takes their replies, and its client hides which
//! request failed.

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// Bytes of a [`Header`].
pub const HEADER: usize = 16;
/// Longest body accepted: a region or DMA access of [`MAX_DATA`] and its head.
pub const MAX_BODY: usize = MAX_DATA + 256;
/// Most bytes of data in one access, as announced in the version exchange.
pub const MAX_DATA: usize = 1 << 20;
/// Most descriptors beside one message.
pub const MAX_FDS: usize = 8;
/// What both ends say of themselves after the version numbers, NUL-terminated.
pub const CAPABILITIES: &str = "{\"capabilities\":{\"max_msg_fds\":8,\"max_data_xfer_size\":1048576}}\0";

/// What a message asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Command {
    /// Protocol version and capabilities; the first message.
    Version = 1,
    /// Memory the device may reach.
    DmaMap = 2,
    /// Memory it may no longer reach.
    DmaUnmap = 3,
    /// Number of regions and interrupts.
    DeviceInfo = 4,
    /// One region.
    RegionInfo = 5,
    /// One interrupt index.
    IrqInfo = 7,
    /// Where interrupts go.
    SetIrqs = 8,
    /// Read a region.
    RegionRead = 9,
    /// Write a region.
    RegionWrite = 10,
    /// From the device: read the client's memory.
    DmaRead = 11,
    /// From the device: write the client's memory.
    DmaWrite = 12,
    /// Reset the device.
    Reset = 13,
}

impl Command {
    /// The command of a number, of those this project speaks.
    pub fn new(number: u16) -> Option<Self> {
        use Command::*;
        [
            Version,
            DmaMap,
            DmaUnmap,
            DeviceInfo,
            RegionInfo,
            IrqInfo,
            SetIrqs,
            RegionRead,
            RegionWrite,
            DmaRead,
            DmaWrite,
            Reset,
        ]
        .into_iter()
        .find(|c| *c as u16 == number)
    }
}

/// The message answers one with the same id.
pub const REPLY: u32 = 1;
/// No answer is wanted.
pub const NO_REPLY: u32 = 1 << 4;
/// The reply reports a failure; `errno` says which.
pub const ERROR: u32 = 1 << 5;

/// What every message begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    /// Pairs a reply with its command.
    pub id: u16,
    /// [`Command`].
    pub command: u16,
    /// Bytes of header and body.
    pub size: u32,
    /// [`REPLY`], [`NO_REPLY`], [`ERROR`].
    pub flags: u32,
    /// With [`ERROR`].
    pub errno: u32,
}

/// Body of [`Command::Version`], before the capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Version {
    /// 0.
    pub major: u16,
    /// 1.
    pub minor: u16,
}

/// Body of [`Command::DmaMap`]; the memory's file comes beside it, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DmaMap {
    /// Bytes of this structure.
    pub argsz: u32,
    /// [`DMA_READABLE`], [`DMA_WRITABLE`].
    pub flags: u32,
    /// Where the memory starts in its file.
    pub offset: u64,
    /// I/O virtual address.
    pub address: u64,
    /// Bytes.
    pub size: u64,
}

/// The device may read it.
pub const DMA_READABLE: u32 = 1 << 0;
/// The device may write it.
pub const DMA_WRITABLE: u32 = 1 << 1;

/// Body of [`Command::DmaUnmap`] and of its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DmaUnmap {
    /// Bytes of this structure.
    pub argsz: u32,
    /// [`UNMAP_ALL`].
    pub flags: u32,
    /// I/O virtual address.
    pub address: u64,
    /// Bytes.
    pub size: u64,
}

/// Everything, whatever address and size say.
pub const UNMAP_ALL: u32 = 1 << 2;

/// Body of [`Command::DeviceInfo`] and of its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DeviceInfo {
    /// Bytes of this structure.
    pub argsz: u32,
    /// Resettable (bit 0), PCI (bit 1).
    pub flags: u32,
    /// Regions: 9 for PCI.
    pub regions: u32,
    /// Interrupt indexes: 5 for PCI.
    pub irqs: u32,
}

/// The device can be reset.
pub const DEVICE_RESETTABLE: u32 = 1 << 0;
/// The device is a PCI function.
pub const DEVICE_PCI: u32 = 1 << 1;

/// Body of [`Command::RegionInfo`] and of its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RegionInfo {
    /// Bytes of this structure.
    pub argsz: u32,
    /// Readable (bit 0), writable (bit 1).
    pub flags: u32,
    /// Which region: BARs 0 to 5, configuration space 7.
    pub index: u32,
    /// 0: no capabilities.
    pub capabilities: u32,
    /// Bytes.
    pub size: u64,
    /// Not used without mapping.
    pub offset: u64,
}

/// Configuration space among the regions.
pub const REGION_CONFIG: u32 = 7;
/// Regions of a PCI device.
pub const REGIONS: u32 = 9;
/// The region may be read and written.
pub const REGION_READ_WRITE: u32 = 3;

/// Body of [`Command::IrqInfo`] and of its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IrqInfo {
    /// Bytes of this structure.
    pub argsz: u32,
    /// Signalled by eventfd (bit 0), all vectors at once (bit 3).
    pub flags: u32,
    /// Which: INTx 0, MSI 1, MSI-X 2, error 3, request 4.
    pub index: u32,
    /// Vectors.
    pub count: u32,
}

/// MSI among the interrupts.
pub const IRQ_MSI: u32 = 1;
/// Interrupt indexes of a PCI device.
pub const IRQS: u32 = 5;
/// Signalled by eventfd, all vectors at once.
pub const IRQ_EVENTFD_NORESIZE: u32 = 1 | 1 << 3;

/// Body of [`Command::SetIrqs`]; eventfds come beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SetIrqs {
    /// Bytes of this structure.
    pub argsz: u32,
    /// One of the data kinds and one of the actions below.
    pub flags: u32,
    /// Which interrupt index.
    pub index: u32,
    /// First vector.
    pub start: u32,
    /// Vectors.
    pub count: u32,
}

/// No data: act now, or with count 0 disable.
pub const IRQ_DATA_NONE: u32 = 1 << 0;
/// An eventfd for each vector.
pub const IRQ_DATA_EVENTFD: u32 = 1 << 2;
/// Signal the eventfd when the interrupt comes.
pub const IRQ_ACTION_TRIGGER: u32 = 1 << 5;

/// Body of [`Command::RegionRead`], [`Command::RegionWrite`] and their replies; data follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RegionAccess {
    /// Byte offset in the region.
    pub offset: u64,
    /// Which region.
    pub region: u32,
    /// Bytes.
    pub count: u32,
}

/// Body of [`Command::DmaRead`], [`Command::DmaWrite`] and their replies; data follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DmaAccess {
    /// I/O virtual address.
    pub address: u64,
    /// Bytes.
    pub count: u64,
}

/// A structure at the start of a body, and what follows it. `None` when the body is too short.
pub fn head<T: FromBytes + KnownLayout + Immutable>(body: &[u8]) -> Option<(T, &[u8])> {
    T::read_from_prefix(body).ok()
}

/// The bytes of a structure and of data behind it.
pub fn body<T: IntoBytes + Immutable>(head: &T, data: &[u8]) -> Vec<u8> {
    [head.as_bytes(), data].concat()
}

/// A zeroed structure.
pub fn zeroed<T: FromZeros>() -> T {
    T::new_zeroed()
}

// Sizes of the protocol's structures; padding would be sent.
const _: () = assert!(size_of::<Header>() == HEADER);
const _: () = assert!(size_of::<DmaMap>() == 32 && size_of::<DmaUnmap>() == 24);
const _: () = assert!(size_of::<RegionInfo>() == 32 && size_of::<SetIrqs>() == 20);
const _: () = assert!(size_of::<RegionAccess>() == 16 && size_of::<DmaAccess>() == 16);
