//! Bytes to and from *device* addresses (hardware.md sections 2, 3, 16.1 to 16.3).
//!
//! [`PcieTransport`] does it over any [`Board`](crate::Board): it programs address translation, reads and writes registers
//! through BAR windows, and moves everything else with the board's DMA engine.

mod bring_up;
mod channel;
mod edma;
mod engine;
mod hdma;
mod io;
mod list;
mod mailbox;
mod msi;
mod pcie;

use std::time::Duration;

pub(crate) use msi::find_capability;
pub use pcie::PcieTransport;

use crate::Result;
use crate::board::{Identity, Wake};
use crate::device::{Completion, DeviceOptions, Verify};
use crate::dma::DmaBuffer;

/// Device memory that programs and jobs may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// First device address.
    pub base: u32,
    /// Bytes.
    pub len: u32,
    /// Whether this is host memory seen through the AKD1500's window.
    pub host: bool,
}

/// A piece of a zero-copy transfer: `len` bytes of a host buffer from `offset` on, and as many device bytes.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// Host memory.
    pub buffer: &'a DmaBuffer,
    /// First byte there.
    pub offset: usize,
    /// Device address.
    pub address: u32,
    /// Bytes.
    pub len: usize,
}

/// How a transport works.
#[derive(Clone, Debug)]
pub struct TransportOptions {
    /// Deadline of one linked list.
    pub timeout: Duration,
    /// How the end of a transfer is noticed.
    pub completion: Completion,
    /// Most bytes one list element moves.
    pub element_bytes: u32,
    /// Whether lists are read back whole when they are written, and the channel's pointer before each doorbell. Otherwise one
    /// word of each list is, as the kernel driver does; a single write that gets lost may then move other bytes.
    pub read_back: bool,
}

impl Default for TransportOptions {
    fn default() -> Self {
        let DeviceOptions { timeout, completion, element_bytes, verify, .. } = DeviceOptions::default();
        Self { timeout, completion, element_bytes, read_back: verify > Verify::Off }
    }
}

/// What a transport moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes to the device.
    pub bytes_in: u64,
    /// Bytes from the device.
    pub bytes_out: u64,
    /// Doorbells of the DMA engine.
    pub transfers: u64,
    /// Transfers that did not end in time.
    pub timeouts: u64,
    /// Function resets.
    pub resets: u64,
}

/// Access to a device's address space. All methods may be called from several threads; transfers run on as many channels
/// as the engine has.
pub trait Transport: Send + Sync {
    /// Who the board is.
    fn identity(&self) -> &Identity;
    /// Device memory that programs and jobs may use; the first region is the device's own.
    fn memory(&self) -> Vec<Region>;

    /// Reads a 32-bit register at a device address shown by a BAR.
    fn read32(&self, address: u32) -> Result<u32>;
    /// Writes a 32-bit register at a device address shown by a BAR.
    fn write32(&self, address: u32, value: u32) -> Result<()>;

    /// Copies bytes into device memory; returns when they are there.
    fn write(&self, address: u32, bytes: &[u8]) -> Result<()>;
    /// Copies bytes out of device memory.
    fn read(&self, address: u32, bytes: &mut [u8]) -> Result<()>;

    /// Host memory for the zero-copy calls.
    fn allocate(&self, len: usize) -> Result<DmaBuffer>;
    /// Moves pieces of host buffers into device memory, in order, in as few transfers as possible.
    fn write_from(&self, segments: &[Segment<'_>]) -> Result<()>;
    /// Moves pieces of device memory into host buffers.
    fn read_into(&self, segments: &[Segment<'_>]) -> Result<()>;

    /// Waits for the board's interrupt.
    fn wait_interrupt(&self, timeout: Duration) -> Result<Wake>;
    /// Resets the function and brings it up again. Ends a quarantine when it succeeds; buffers of before are stale.
    fn reset(&self) -> Result<()>;
    /// How many resets there were.
    fn generation(&self) -> u64;
    /// Why the board is refused, when it is: a failure it did not recover from.
    fn quarantine(&self) -> Option<String>;
    /// Time since some fixed moment, in the board's own time.
    fn now(&self) -> Duration;
    /// Lets time pass.
    fn pause(&self, time: Duration);
    /// What was moved so far.
    fn counters(&self) -> Counters;
}
