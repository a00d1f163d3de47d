//! The vendor's device node as a road to a board (hardware.md section 4): for machines without an IOMMU, where that kernel
//! module stays.
//!
//! The module does translation and DMA; a position in the node is a device address. [`NodeTransport`] puts the interface of
//! [`Transport`] on it. What the node cannot do is said as errors, never papered over:
//!
//! - **No interrupts.** Jobs are polled for.
//! - **No function reset.** [`Transport::reset`] only begins a new generation, after which [`Device`](crate::Device) resets core
//!   and mesh through their registers.
//! - **A transfer that timed out is the end.** The published module leaves its channel running then and takes the memory away
//!   under it (hardware.md section 20, trap 10), so nothing more is sent to the board: it is quarantined until the module has
//!   been loaded again.
//! - **No zero copy.** Every byte goes through the module's buffer, 1 KiB at a time.

mod error;
mod file;

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub use error::Error;
pub use file::{NodeFile, VendorNode};

use crate::board::{Chip, Identity, Wake};
use crate::dma::{DmaBuffer, DmaMemory, Unmap};
use crate::memory_map::{self, ListLayout};
use crate::regs::{pci, top};
use crate::transport::{Counters, Region, Segment, Transport};
use crate::{Error as HalError, Result};

/// Most bytes of one call: a signal or a failure costs no more than this.
const CALL: usize = 256 << 10;
/// How often a call that a signal interrupted is repeated before it is an error.
const INTERRUPTIONS: u32 = 100;
/// Bytes of the top-level window that are mapped: up to the interrupt controller.
pub(crate) const REGISTERS: usize = 0x8_0000;

/// Bytes to and from device addresses through the vendor's node.
pub struct NodeTransport {
    identity: Identity,
    file: Box<dyn NodeFile>,
    /// Why nothing is sent any more.
    quarantine: Mutex<Option<String>>,
    generation: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    transfers: AtomicU64,
    timeouts: AtomicU64,
}

/// Which way a call goes, with its bytes.
enum Call<'a> {
    Read(&'a mut [u8]),
    Write(&'a [u8]),
}

impl NodeTransport {
    /// Opens `/dev/akidaN` or `/dev/akd1500_N`; the name tells the chip.
    ///
    /// # Errors
    /// [`Error`] when there is no such node or it cannot be opened, and [`crate::Error::Register`] when no Akida core answers.
    pub fn open(path: &Path) -> Result<Self> {
        let chip = chip_of(path).ok_or_else(|| Error::Name { path: path.into() })?;
        let file = VendorNode::open(path, chip)?;
        let identity = Identity {
            name: format!("node:{}", path.display()),
            vendor: pci::VENDOR,
            device: pci::device_id(chip),
            chip,
            simulated: false,
        };
        Self::over(Box::new(file), identity)
    }

    /// The same over anything that behaves like the node.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn over(file: Box<dyn NodeFile>, identity: Identity) -> Result<Self> {
        let transport = Self {
            identity,
            file,
            quarantine: Mutex::new(None),
            generation: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            transfers: AtomicU64::new(0),
            timeouts: AtomicU64::new(0),
        };
        transport.check_alive()?;
        Ok(transport)
    }

    /// A register that is never all ones, and never zero.
    fn check_alive(&self) -> Result<()> {
        let mesh = self.read32(memory_map::TOP + top::MESH_INFO_1)?;
        if mesh == u32::MAX {
            return Err(HalError::DeviceLost { board: self.identity.to_string(), register: "TOP MESH_INFO_1".into() });
        }
        if top::ROWS.get(mesh) == 0 || top::COLUMNS.get(mesh) == 0 {
            let (board, expected) = (self.identity.to_string(), "at least one row and column".into());
            return Err(HalError::Register { board, register: "TOP MESH_INFO_1", value: mesh, expected });
        }
        Ok(())
    }

    fn quarantined(&self) -> Result<()> {
        match self.quarantine() {
            Some(reason) => Err(HalError::Quarantined { board: self.identity.to_string(), reason }),
            None => Ok(()),
        }
    }

    /// The module's rule, strict at the lower end (hardware.md section 3.5), and the address space.
    fn check_range(&self, address: u32, len: usize) -> Result<()> {
        let range =
            |reason| HalError::DeviceRange { board: self.identity.to_string(), address, len: len as u64, reason };
        let (start, end) = (u64::from(address), u64::from(address) + len as u64);
        let base = u64::from(ListLayout::DEFAULT.base);
        if end > 1 << 32 {
            return Err(range("reach beyond the 32-bit address space"));
        }
        if end >= base && start < base + u64::from(ListLayout::DEFAULT.reserved) {
            return Err(range("touch the module's linked lists"));
        }
        Ok(())
    }

    fn check_segments(&self, segments: &[Segment<'_>]) -> Result<()> {
        let generation = self.generation();
        for s in segments {
            self.check_range(s.address, s.len)?;
            if s.offset.checked_add(s.len).is_none_or(|end| end > s.buffer.len()) {
                return Err(HalError::buffer_range(s.offset, s.len, s.buffer.len()));
            }
            if s.buffer.generation() != generation {
                let board = self.identity.to_string();
                return Err(HalError::StaleBuffer { board, buffer: s.buffer.generation(), generation });
            }
        }
        Ok(())
    }

    /// Moves all bytes, however many calls that takes.
    fn transfer(&self, address: u32, mut call: Call<'_>) -> Result<()> {
        let len = match &call {
            Call::Read(bytes) => bytes.len(),
            Call::Write(bytes) => bytes.len(),
        };
        self.check_range(address, len)?;
        self.quarantined()?;
        let (mut done, mut interrupted) = (0, 0);
        while done < len {
            let part = done..len.min(done + CALL);
            let at = u64::from(address) + done as u64;
            let moved = match &mut call {
                Call::Read(bytes) => self.file.read_at(&mut bytes[part.clone()], at),
                Call::Write(bytes) => self.file.write_at(&bytes[part.clone()], at),
            };
            self.transfers.fetch_add(1, Ordering::Relaxed);
            match moved {
                Ok(n) if n > 0 && n <= part.len() => (done, interrupted) = (done + n, 0),
                Ok(n) => {
                    return Err(self.failed(&call, at, part.len(), io::Error::other(format!("{n} bytes were moved"))));
                }
                // Nothing that was moved is lost by moving it again: addresses are absolute.
                Err(e) if e.kind() == io::ErrorKind::Interrupted && interrupted < INTERRUPTIONS => interrupted += 1,
                Err(e) => return Err(self.failed(&call, at, part.len(), e)),
            }
        }
        let counter = if matches!(call, Call::Write(_)) { &self.bytes_in } else { &self.bytes_out };
        counter.fetch_add(len as u64, Ordering::Relaxed);
        Ok(())
    }

    fn failed(&self, call: &Call<'_>, address: u64, len: usize, source: io::Error) -> HalError {
        let operation = if matches!(call, Call::Write(_)) { "write" } else { "read" };
        let node = self.identity.name.clone();
        if source.raw_os_error() != Some(nix::errno::Errno::ETIMEDOUT as i32) {
            return Error::Io { node, operation, address, len, source }.into();
        }
        self.timeouts.fetch_add(1, Ordering::Relaxed);
        let error = Error::TimedOut { node, operation, address, len };
        log::error!("{error}; nothing more is sent to this board");
        let mut quarantine = self.quarantine.lock().unwrap_or_else(PoisonError::into_inner);
        quarantine.get_or_insert_with(|| error.to_string());
        error.into()
    }

    /// The register's offset from the top-level block, where the node shows registers by mapping.
    fn register(&self, address: u32) -> Result<Option<usize>> {
        if !address.is_multiple_of(4) {
            let (board, reason) = (self.identity.to_string(), "are no aligned word");
            return Err(HalError::DeviceRange { board, address, len: 4, reason });
        }
        self.quarantined()?;
        let offset = address.checked_sub(memory_map::TOP).map(|o| o as usize).filter(|o| o + 4 <= REGISTERS);
        Ok(offset.filter(|_| self.file.maps_registers()))
    }
}

/// The chip that a node's name means.
fn chip_of(path: &Path) -> Option<Chip> {
    let name = path.file_name()?.to_str()?;
    let numbered = |prefix: &str| {
        name.strip_prefix(prefix).is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    };
    if numbered("akd1500_") { Some(Chip::Akd1500) } else { numbered("akida").then_some(Chip::Akd1000) }
}

/// Host memory that no device sees needs no unmapping.
struct Plain;

impl Unmap for Plain {
    fn unmap(&self, _: u64, _: usize) {}
}

impl Transport for NodeTransport {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Without the AKD1500's window on host memory: how much of it the module has got, the node does not tell.
    fn memory(&self) -> Vec<Region> {
        let (base, len) = match self.identity.chip {
            // Room for every list layout there is, as with a board of our own.
            Chip::Akd1500 => {
                let reserved = ListLayout::SMALL.reserved;
                (memory_map::MEMORY + reserved, memory_map::SRAM_LEN - reserved)
            }
            _ => (memory_map::SCRATCH, memory_map::SCRATCH_LEN),
        };
        vec![Region { base, len, host: false }]
    }

    fn read32(&self, address: u32) -> Result<u32> {
        if let Some(offset) = self.register(address)? {
            let failed = |e| self.failed(&Call::Read(&mut []), address.into(), 4, e);
            return self.file.read_register(offset).map_err(failed);
        }
        let mut word = [0; 4];
        self.transfer(address, Call::Read(&mut word))?;
        Ok(u32::from_le_bytes(word))
    }

    fn write32(&self, address: u32, value: u32) -> Result<()> {
        if let Some(offset) = self.register(address)? {
            let failed = |e| self.failed(&Call::Write(&[]), address.into(), 4, e);
            return self.file.write_register(offset, value).map_err(failed);
        }
        self.transfer(address, Call::Write(&value.to_le_bytes()))
    }

    fn write(&self, address: u32, bytes: &[u8]) -> Result<()> {
        self.transfer(address, Call::Write(bytes))
    }

    fn read(&self, address: u32, bytes: &mut [u8]) -> Result<()> {
        self.transfer(address, Call::Read(bytes))
    }

    /// Plain memory: the module copies.
    fn allocate(&self, len: usize) -> Result<DmaBuffer> {
        let memory = Arc::new(DmaMemory::new(len)?);
        Ok(DmaBuffer::new(memory, 0, self.generation(), Arc::new(Plain)))
    }

    fn write_from(&self, segments: &[Segment<'_>]) -> Result<()> {
        self.check_segments(segments)?;
        for s in segments {
            let mut bytes = vec![0; s.len];
            s.buffer.read(s.offset, &mut bytes)?;
            self.write(s.address, &bytes)?;
        }
        Ok(())
    }

    fn read_into(&self, segments: &[Segment<'_>]) -> Result<()> {
        self.check_segments(segments)?;
        for s in segments {
            let mut bytes = vec![0; s.len];
            self.read(s.address, &mut bytes)?;
            s.buffer.write(s.offset, &bytes)?;
        }
        Ok(())
    }

    /// # Errors
    /// Always: the node has none.
    fn wait_interrupt(&self, _: Duration) -> Result<Wake> {
        let reason = "the vendor's node has none";
        Err(HalError::Interrupts { board: self.identity.to_string(), reason })
    }

    /// Begins a new generation; the function itself is not reset, which the node cannot do.
    ///
    /// # Errors
    /// [`Error::NoReset`] after a time-out, which only loading the module again ends; and when the board does not answer.
    fn reset(&self) -> Result<()> {
        if let Some(reason) = self.quarantine() {
            return Err(Error::NoReset { node: self.identity.name.clone(), reason }.into());
        }
        log::warn!("{}: the vendor's node cannot reset the function; only the core is reset", self.identity);
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.check_alive()
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    fn quarantine(&self) -> Option<String> {
        self.quarantine.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn now(&self) -> Duration {
        self.file.now()
    }

    fn pause(&self, time: Duration) {
        self.file.pause(time);
    }

    fn counters(&self) -> Counters {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            bytes_in: get(&self.bytes_in),
            bytes_out: get(&self.bytes_out),
            transfers: get(&self.transfers),
            timeouts: get(&self.timeouts),
            resets: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_chip() {
        for (path, chip) in [
            ("/dev/akida0", Some(Chip::Akd1000)),
            ("/dev/akida12", Some(Chip::Akd1000)),
            ("/dev/akd1500_3", Some(Chip::Akd1500)),
            ("/dev/akida", None),
            ("/dev/akida0a", None),
            ("/dev/akd1500_", None),
            ("/dev/vfio/14", None),
            ("/", None),
        ] {
            assert_eq!(chip_of(Path::new(path)), chip, "{path}");
        }
    }

    #[test]
    fn what_is_no_node_is_refused_by_name() {
        use crate::{Error as E, node::Error as N};
        assert!(matches!(NodeTransport::open(Path::new("/dev/null")), Err(E::Node(N::Name { .. }))));
        assert!(matches!(NodeTransport::open(Path::new("/dev/akida4711")), Err(E::Node(N::Open { .. }))));
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("akida0");
        std::fs::write(&file, [0; 64]).expect("written");
        assert!(matches!(NodeTransport::open(&file), Err(E::Node(N::NoNode { .. }))));
    }
}
