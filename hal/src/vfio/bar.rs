//! A BAR: mapped where the kernel allows it, read and written through the device's file elsewhere.
#![allow(unsafe_code)] // Volatile access to mapped registers; one module, two blocks.

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;

use memmap2::{MmapOptions, MmapRaw};
use nix::sys::uio::{pread, pwrite};

use super::ioctl::Region;
use crate::barrier;

/// Access to one region in 32-bit words.
pub struct BarMap {
    region: Region,
    windows: Vec<(Range<u64>, MmapRaw)>,
}

impl BarMap {
    /// Maps every mappable part of `region`.
    pub fn new(device: BorrowedFd<'_>, region: Region) -> io::Result<Self> {
        let mut windows = Vec::new();
        for part in &region.mappable {
            let len = usize::try_from(part.end - part.start).map_err(io::Error::other)?;
            let map = MmapOptions::new().offset(region.offset + part.start).len(len).map_raw(&device)?;
            windows.push((part.clone(), map));
        }
        Ok(Self { region, windows })
    }

    /// Bytes.
    pub fn len(&self) -> u64 {
        self.region.size
    }

    /// Whether a word at `offset` is inside and aligned.
    pub fn has(&self, offset: u64) -> bool {
        offset.is_multiple_of(4) && offset.checked_add(4).is_some_and(|end| end <= self.region.size)
    }

    /// The mapped word at `offset`, which the caller has checked with [`has`](Self::has).
    fn word(&self, offset: u64) -> Option<*mut u32> {
        let (range, map) = self.windows.iter().find(|(r, _)| r.start <= offset && offset + 4 <= r.end)?;
        Some(map.as_mut_ptr().wrapping_add((offset - range.start) as usize).cast())
    }

    /// Reads a little-endian word.
    pub fn read(&self, device: BorrowedFd<'_>, offset: u64) -> io::Result<u32> {
        debug_assert!(self.has(offset));
        match self.word(offset) {
            Some(word) => {
                // SAFETY: `word` found the four bytes inside a live mapping; mappings are page-aligned and `offset` is a
                // multiple of 4. No reference to this memory exists anywhere.
                let value = u32::from_le(unsafe { word.read_volatile() });
                barrier::after_read();
                Ok(value)
            }
            None => read_word(device, self.region.offset + offset),
        }
    }

    /// Writes a little-endian word.
    pub fn write(&self, device: BorrowedFd<'_>, offset: u64, value: u32) -> io::Result<()> {
        debug_assert!(self.has(offset));
        match self.word(offset) {
            Some(word) => {
                barrier::before_register_write();
                // SAFETY: as in `read`.
                unsafe { word.write_volatile(value.to_le()) };
                Ok(())
            }
            None => write_word(device, self.region.offset + offset, value),
        }
    }
}

/// Reads four bytes of the device's file, all or an error.
pub fn read_word(device: BorrowedFd<'_>, at: u64) -> io::Result<u32> {
    let mut bytes = [0; 4];
    let at = i64::try_from(at).map_err(io::Error::other)?;
    match pread(device, &mut bytes, at)? {
        4 => Ok(u32::from_le_bytes(bytes)),
        n => Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{n} of 4 bytes read"))),
    }
}

/// Writes four bytes of the device's file, all or an error.
pub fn write_word(device: BorrowedFd<'_>, at: u64, value: u32) -> io::Result<()> {
    let at = i64::try_from(at).map_err(io::Error::other)?;
    match pwrite(device, &value.to_le_bytes(), at)? {
        4 => Ok(()),
        n => Err(io::Error::new(io::ErrorKind::WriteZero, format!("{n} of 4 bytes written"))),
    }
}
