//! Host memory a device can reach.
//!
//! The device writes this memory while the program runs, so no Rust reference to it may exist: bytes are copied in and
//! out through raw pointers, here and nowhere else.
#![allow(unsafe_code)] // The one module that touches device-visible memory; every block says why it is sound.

use std::fs::File;
use std::io;
use std::sync::Arc;

use memmap2::{MmapMut, MmapOptions, MmapRaw};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::{Error, Result, barrier};

/// What mappings are rounded to: the largest page that kernels for this architecture are built with. Arm64 has kernels with pages of 4,
/// 16 (Raspberry Pi 5) and 64 KiB, and these map whole pages only.
pub const PAGE: usize = if cfg!(target_arch = "aarch64") { 64 << 10 } else { 4 << 10 };

/// A large page of x86 and arm64. Memory of that size and more begins at one and is asked to be made of them, so that the IOMMU
/// can map it in large pieces too: I/O virtual addresses of such sizes are aligned alike.
pub const LARGE_PAGE: usize = 2 << 20;

/// Zeroed memory that begins at a page of the kernel's, outside Rust's aliasing rules. Shared between a driver and a device model.
#[derive(Debug)]
pub struct DmaMemory {
    map: Arc<MmapRaw>,
    /// Bytes of the mapping before the first one that is used.
    skip: usize,
    len: usize,
}

impl DmaMemory {
    /// Anonymous memory of `len` bytes rounded up to pages.
    pub fn new(len: usize) -> Result<Self> {
        let len = len.max(1).next_multiple_of(PAGE);
        let more = if len >= LARGE_PAGE { LARGE_PAGE } else { 0 };
        let map = MmapMut::map_anon(len + more).map_err(|source| Error::host_memory(len, source))?;
        let map = MmapRaw::from(map);
        let skip = if more > 0 { map.as_mut_ptr().align_offset(LARGE_PAGE) } else { 0 };
        // Refused where transparent large pages are switched off: then they are small.
        #[cfg(target_os = "linux")]
        if more > 0
            && let Err(e) = map.advise_range(memmap2::Advice::HugePage, skip, len)
        {
            log::debug!("{len} bytes for DMA stay in small pages: {e}");
        }
        Ok(Self { map: Arc::new(map), skip, len })
    }

    /// Memory that another process can map too: the file is given to it.
    pub fn shared(len: usize) -> Result<(Self, File)> {
        let len = len.max(1).next_multiple_of(PAGE);
        let make = || -> io::Result<(Self, File)> {
            let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
            let file = File::from(memfd_create(c"akida-dma", flags)?);
            file.set_len(len as u64)?;
            // A file that shrank would kill whoever has it mapped.
            fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW))?;
            Ok((Self::of_file(&file, len)?, file))
        };
        make().map_err(|source| Error::host_memory(len, source))
    }

    /// Another process's memory: the first `len` bytes of its file, which must not shrink.
    pub fn of_file(file: &File, len: usize) -> io::Result<Self> {
        let there = file.metadata()?.len();
        if (len as u64) > there || len == 0 {
            let reason = format!("{len} bytes of a file of {there}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        Ok(Self { map: Arc::new(MmapOptions::new().len(len).map_raw(file)?), skip: 0, len })
    }

    /// A part of a mapping that others have parts of; `None` where it would leave it. Both numbers are multiples of the page size.
    pub(crate) fn part(map: Arc<MmapRaw>, skip: usize, len: usize) -> Option<Self> {
        let whole = skip.is_multiple_of(PAGE) && len.is_multiple_of(PAGE) && len > 0;
        (whole && skip.checked_add(len)? <= map.len()).then_some(Self { map, skip, len })
    }

    /// Length in bytes, a multiple of the page size.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never true: a mapping has at least one page.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The address the kernel needs to map this memory for a device. Not to be turned into a reference.
    pub fn as_ptr(&self) -> *mut u8 {
        self.map.as_mut_ptr().wrapping_add(self.skip)
    }

    /// Copies bytes in.
    pub fn write(&self, offset: usize, bytes: &[u8]) -> Result<()> {
        self.check(offset, bytes.len())?;
        // SAFETY: the range lies inside the mapping (checked above), which lives as long as `self`; `bytes` is a Rust
        // slice and so cannot overlap memory to which no reference ever exists. A concurrent device access may tear
        // bytes, which the ring protocol (descriptor index after data) rules out for data that matters.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.as_ptr().add(offset), bytes.len()) };
        Ok(())
    }

    /// Copies bytes out.
    pub fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<()> {
        self.check(offset, bytes.len())?;
        // SAFETY: as in `write`, with source and destination exchanged.
        unsafe { std::ptr::copy_nonoverlapping(self.as_ptr().add(offset), bytes.as_mut_ptr(), bytes.len()) };
        // This may have been the word that says that others are there; and it is read anew each time.
        barrier::after_read();
        Ok(())
    }

    fn check(&self, offset: usize, len: usize) -> Result<()> {
        match offset.checked_add(len) {
            Some(end) if end <= self.len() => Ok(()),
            _ => Err(Error::buffer_range(offset, len, self.len())),
        }
    }
}

/// Takes a buffer's memory out of the device's reach. Called once, when the buffer is dropped.
pub trait Unmap: Send + Sync {
    /// Removes the mapping at `iova`.
    fn unmap(&self, iova: u64, len: usize);
}

/// Host memory mapped for one device at an I/O virtual address; unmapped when dropped.
pub struct DmaBuffer {
    memory: Arc<DmaMemory>,
    iova: u64,
    generation: u64,
    owner: Arc<dyn Unmap>,
}

impl DmaBuffer {
    /// Made by boards only: `memory` is reachable by the device at `iova` until `owner.unmap` is called.
    pub fn new(memory: Arc<DmaMemory>, iova: u64, generation: u64, owner: Arc<dyn Unmap>) -> Self {
        Self { memory, iova, generation, owner }
    }

    /// The memory itself, for who wraps a buffer in one of its own.
    pub(crate) fn memory(&self) -> &Arc<DmaMemory> {
        &self.memory
    }

    /// Where the device finds the first byte.
    pub fn iova(&self) -> u64 {
        self.iova
    }

    /// The board generation this buffer was mapped in. After a reset it may not be submitted any more.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.memory.len()
    }

    /// Never true.
    pub fn is_empty(&self) -> bool {
        self.memory.is_empty()
    }

    /// Copies bytes in.
    pub fn write(&self, offset: usize, bytes: &[u8]) -> Result<()> {
        self.memory.write(offset, bytes)
    }

    /// Copies bytes out.
    pub fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<()> {
        self.memory.read(offset, bytes)
    }
}

impl Drop for DmaBuffer {
    fn drop(&mut self) {
        self.owner.unmap(self.iova, self.memory.len());
    }
}

impl std::fmt::Debug for DmaBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DmaBuffer({:#x}+{:#x}, generation {})", self.iova, self.len(), self.generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_memory_begins_at_a_large_page_and_all_of_it_is_there() -> Result<()> {
        for len in [1, PAGE + 1, LARGE_PAGE - 1, LARGE_PAGE, 5 * LARGE_PAGE + 1] {
            let memory = DmaMemory::new(len)?;
            assert_eq!(memory.len(), len.next_multiple_of(PAGE));
            // Of kernels with smaller pages than `PAGE`, one of theirs.
            let aligned = if len >= LARGE_PAGE { LARGE_PAGE } else { 4 << 10 };
            assert!((memory.as_ptr() as usize).is_multiple_of(aligned), "{len}: {:?}", memory.as_ptr());
            let mut read = [7; 4];
            memory.read(memory.len() - 4, &mut read)?;
            assert_eq!(read, [0; 4]);
            memory.write(memory.len() - 4, &[1, 2, 3, 4])?;
            memory.read(memory.len() - 4, &mut read)?;
            assert_eq!(read, [1, 2, 3, 4]);
            assert!(memory.write(memory.len() - 3, &[0; 4]).is_err() && memory.read(memory.len(), &mut read).is_err());
        }
        Ok(())
    }
}
