//! The node itself, and what a stand-in of it must do.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::Path;
use std::time::{Duration, Instant};

use super::{Error, REGISTERS};
use crate::board::Chip;
use crate::memory_map;
use crate::vfio::{BarMap, Region};

/// A file whose positions are device addresses.
pub trait NodeFile: Send + Sync {
    /// Reads at a device address; may return fewer bytes.
    fn read_at(&self, bytes: &mut [u8], address: u64) -> io::Result<usize>;
    /// Writes at a device address; may take fewer bytes.
    fn write_at(&self, bytes: &[u8], address: u64) -> io::Result<usize>;
    /// Whether registers of the top-level block can be reached by mapping; else they are read and written like memory.
    fn maps_registers(&self) -> bool;
    /// Reads a mapped register; `offset` is a multiple of 4 inside the block.
    fn read_register(&self, offset: usize) -> io::Result<u32>;
    /// Writes a mapped register.
    fn write_register(&self, offset: usize, value: u32) -> io::Result<()>;
    /// Time since some fixed moment.
    fn now(&self) -> Duration;
    /// Lets time pass.
    fn pause(&self, time: Duration);
}

/// The node of the vendor's kernel module.
pub struct VendorNode {
    file: File,
    registers: Option<BarMap>,
    opened: Instant,
}

impl VendorNode {
    /// Opens it and maps the core's registers; without a mapping they go through the module's DMA, slower.
    ///
    /// # Errors
    /// [`Error::Open`], [`Error::NoNode`].
    pub fn open(path: &Path, chip: Chip) -> Result<Self, Error> {
        let open = |source| Error::Open { path: path.into(), source };
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(open)?;
        if !file.metadata().map_err(open)?.file_type().is_char_device() {
            return Err(Error::NoNode { path: path.into() });
        }
        // AKD1000: offset 0 is BAR 0, which shows the core; AKD1500: the offset is the device address.
        let offset = if chip == Chip::Akd1500 { u64::from(memory_map::TOP) } else { 0 };
        let all = 0..REGISTERS as u64;
        let region = Region { size: REGISTERS as u64, offset, mappable: vec![all], ..Region::default() };
        let registers = BarMap::new(file.as_fd(), region)
            .inspect_err(|e| log::info!("{}: registers cannot be mapped ({e}); reading them by DMA", path.display()))
            .ok();
        Ok(Self { file, registers, opened: Instant::now() })
    }
}

impl NodeFile for VendorNode {
    fn read_at(&self, bytes: &mut [u8], address: u64) -> io::Result<usize> {
        FileExt::read_at(&self.file, bytes, address)
    }

    fn write_at(&self, bytes: &[u8], address: u64) -> io::Result<usize> {
        FileExt::write_at(&self.file, bytes, address)
    }

    fn maps_registers(&self) -> bool {
        self.registers.is_some()
    }

    fn read_register(&self, offset: usize) -> io::Result<u32> {
        let registers = self.registers.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        registers.read(self.file.as_fd(), offset as u64)
    }

    fn write_register(&self, offset: usize, value: u32) -> io::Result<()> {
        let registers = self.registers.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        registers.write(self.file.as_fd(), offset as u64, value)
    }

    fn now(&self) -> Duration {
        self.opened.elapsed()
    }

    fn pause(&self, time: Duration) {
        std::thread::sleep(time);
    }
}
