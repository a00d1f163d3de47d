//! A PCI function as the driver sees it. Implemented by the simulated board, a VFIO device, a board in another process.

use std::fmt;
use std::time::Duration;

use crate::Result;
use crate::dma::DmaBuffer;

/// The chip on a board, as told by PCI identity (hardware.md section 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Chip {
    /// AKD1000, PCI 1e7c:bca1, Akida 1.0 IP.
    Akd1000,
    /// AKD1500, PCI 1e7c:a500, Akida 1.0 IP.
    Akd1500,
    /// Akida 2.0 IP. No PCI board of it is public: simulated only, with the host interface of the AKD1000 (ours).
    Akida2,
}

/// Who a board is. Every log line, report and result carries its [`Display`](fmt::Display) form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `0000:03:00.0` for a PCI function, `vfio-noiommu:0000:03:00.0` for one that no IOMMU confines, `sim:akd1000` for a simulated board, `vfio-user:PATH` for a remote one.
    pub name: String,
    /// PCI vendor id, 0x1e7c.
    pub vendor: u16,
    /// PCI device id.
    pub device: u16,
    /// The chip those ids mean.
    pub chip: Chip,
    /// True when no silicon is behind this board.
    pub simulated: bool,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)?;
        if self.simulated { write!(f, " (simulated)") } else { Ok(()) }
    }
}

/// A memory BAR that Akida boards have (hardware.md section 1: 0, 2 and 4 only).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Bar {
    /// BAR 0.
    Bar0,
    /// BAR 2.
    Bar2,
    /// BAR 4.
    Bar4,
}

impl Bar {
    /// All of them, in order.
    pub const ALL: [Bar; 3] = [Bar::Bar0, Bar::Bar2, Bar::Bar4];

    /// The PCI index: 0, 2 or 4.
    pub const fn index(self) -> usize {
        match self {
            Bar::Bar0 => 0,
            Bar::Bar2 => 2,
            Bar::Bar4 => 4,
        }
    }
}

/// What ended an interrupt wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// At least one interrupt arrived since the last wait.
    Interrupt,
    /// The time was over first.
    TimedOut,
}

/// A PCI function: identity, configuration space, BARs, DMA memory, one interrupt, reset, time.
///
/// Time belongs to the board so that a simulated one can run tests in its own time: nobody above this trait sleeps or
/// reads a clock.
pub trait Board: Send + Sync {
    /// Who this is.
    fn identity(&self) -> &Identity;

    /// Reads 32 bits of configuration space; `offset` is a multiple of 4 below 4096.
    fn config_read(&self, offset: u16) -> Result<u32>;
    /// Writes 32 bits of configuration space.
    fn config_write(&self, offset: u16, value: u32) -> Result<()>;

    /// Length of a BAR in bytes, 0 where the board has none.
    fn bar_len(&self, bar: Bar) -> u64;
    /// Reads 32 bits; `offset` is a multiple of 4 below [`bar_len`](Self::bar_len).
    fn read(&self, bar: Bar, offset: u64) -> Result<u32>;
    /// Writes 32 bits.
    fn write(&self, bar: Bar, offset: u64, value: u32) -> Result<()>;

    /// Zeroed host memory the device may reach until the buffer is dropped. `len` is rounded up to pages.
    fn allocate(&self, len: usize) -> Result<DmaBuffer>;

    /// Waits for the board's one interrupt vector (MSI).
    fn wait_interrupt(&self, timeout: Duration) -> Result<Wake>;

    /// Resets the function. DMA buffers of before are stale afterwards ([`DmaBuffer::generation`]) and BAR
    /// translation is lost (hardware.md section 20, trap 1).
    fn reset(&self) -> Result<()>;
    /// How many resets there were; part of every buffer's identity.
    fn generation(&self) -> u64;

    /// Time since some fixed moment, in the board's own time.
    fn now(&self) -> Duration;
    /// Lets time pass: sleeps on a real board, advances the clock of a simulated one.
    fn pause(&self, time: Duration);
}
