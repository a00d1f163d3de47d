//! DMA memory without an IOMMU: huge pages, which the board is told the physical addresses of.
//!
//! A huge page is never swapped and not moved by the kernel's ordinary housekeeping, but nothing pins it: no-IOMMU VFIO has no call for
//! that. What is freed goes back to the kernel's pool of huge pages, so a write of the board that comes late reaches no other memory.
#![allow(unsafe_code)] // One call of mmap over memory that this module has reserved.

use std::fs::File;
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};
use std::{fs, io};

use memmap2::{MmapMut, MmapOptions, MmapRaw};
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap};

use super::Error;
use super::iova::IovaSpace;
use super::memory::Memory;
use crate::Result;
use crate::dma::{DmaMemory, LARGE_PAGE, PAGE};

/// Bytes of a huge page. Others than the architecture's usual ones are not asked for.
const HUGE: u64 = LARGE_PAGE as u64;

/// Physical memory of one board, taken from the kernel's pool of huge pages as it is needed.
pub struct Physical {
    board: String,
    limit: u64,
    runs: Mutex<Vec<Run>>,
}

/// Huge pages side by side, in this process as in the machine.
struct Run {
    first: u64,
    len: u64,
    map: Arc<MmapRaw>,
    /// Bytes of the mapping before the first page.
    skip: usize,
    space: IovaSpace,
}

impl Physical {
    /// No page yet. `limit` is the highest address that the board may be given.
    pub fn new(board: &str, limit: u64) -> Result<Self, Error> {
        // Elsewhere a PCIe bridge may show memory at other addresses than processors use (`dma-ranges` in the device tree).
        if !cfg!(target_arch = "x86_64") {
            return Err(Error::BusAddresses { board: board.into() });
        }
        Ok(Self { board: board.into(), limit, runs: Mutex::default() })
    }

    /// More pages, of which enough for `len` bytes and the gap behind them lie side by side below the limit. Where the first do not,
    /// twice as many are looked at, up to all that are free; those of no use go back.
    fn grow(&self, len: u64) -> Result<Vec<Run>, Error> {
        let needed = (len + PAGE as u64).div_ceil(HUGE);
        let free = free_huge_pages().unwrap_or(0);
        let mut count = needed;
        while count <= free {
            let Some(pages) = self.pages(count)? else { break };
            let runs = pages.runs(self.limit);
            if runs.iter().any(|r| r.len() as u64 >= needed) {
                return pages.keep(&runs).map_err(|source| self.failed("mmap of huge pages", source));
            }
            if count == free {
                break;
            }
            count = (2 * count).min(free);
        }
        Err(Error::NoHugePages { board: self.board.clone(), needed, free, limit: self.limit })
    }

    /// `count` huge pages, `None` where there are not as many.
    fn pages(&self, count: u64) -> Result<Option<Pages>, Error> {
        match Pages::new(count) {
            Ok(pages) if pages.addresses.contains(&0) => {
                let what = "learning physical addresses from /proc/self/pagemap".into();
                Err(Error::Privilege { board: self.board.clone(), what, capability: "CAP_SYS_ADMIN" })
            }
            Ok(pages) => Ok(Some(pages)),
            Err(e) if matches!(e.raw_os_error(), Some(nix::libc::ENOMEM | nix::libc::ENOSPC)) => Ok(None),
            Err(source) => Err(self.failed("allocating huge pages", source)),
        }
    }

    fn failed(&self, call: &'static str, source: io::Error) -> Error {
        Error::Kernel { board: self.board.clone(), call, source }
    }
}

impl Memory for Physical {
    fn take(&self, len: usize) -> Result<(Arc<DmaMemory>, u64)> {
        let len = len.max(1).next_multiple_of(PAGE);
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let found = |runs: &mut Vec<Run>| runs.iter_mut().find_map(|run| run.take(len));
        let part = match found(&mut runs) {
            Some(part) => part,
            None => {
                runs.extend(self.grow(len as u64)?);
                found(&mut runs).ok_or_else(|| {
                    let source = io::Error::other("pages were found and do not fit");
                    self.failed("allocating huge pages", source)
                })?
            }
        };
        drop(runs);
        // It may have been somebody's before.
        let zeros = [0; PAGE];
        for offset in (0..len).step_by(PAGE) {
            part.0.write(offset, &zeros)?;
        }
        Ok(part)
    }

    fn give(&self, address: u64, _: usize) {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let run = runs.iter_mut().find(|r| (r.first..r.first + r.len).contains(&address));
        if !run.is_some_and(|r| r.space.give(address)) {
            log::error!("{}: memory at {address:#x} was given back and is not of this board", self.board);
        }
    }

    fn in_use(&self) -> usize {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|r| r.space.in_use()).sum()
    }
}

impl Run {
    fn take(&mut self, len: usize) -> Option<(Arc<DmaMemory>, u64)> {
        let address = self.space.take(len as u64)?;
        let memory = DmaMemory::part(self.map.clone(), self.skip + (address - self.first) as usize, len)?;
        Some((Arc::new(memory), address))
    }
}

/// Fresh huge pages in a file of their own, and where they are in the machine.
struct Pages {
    file: File,
    addresses: Vec<u64>,
}

impl Pages {
    fn new(count: u64) -> io::Result<Self> {
        let bytes = count.checked_mul(HUGE).and_then(|n| i64::try_from(n).ok()).ok_or(io::ErrorKind::OutOfMemory)?;
        let file = File::from(memfd_create(
            c"akida-dma",
            MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_HUGETLB | MFdFlags::MFD_HUGE_2MB,
        )?);
        // Allocates or fails; a page that is missing when it is touched would be SIGBUS.
        fallocate(&file, FallocateFlags::empty(), 0, bytes)?;
        let map = MmapOptions::new().len(bytes as usize).populate().map_raw(&file)?;
        let table = File::open("/proc/self/pagemap")?;
        let addresses = (0..count)
            .map(|page| physical_address(&table, map.as_ptr().addr() as u64 + page * HUGE))
            .collect::<io::Result<_>>()?;
        Ok(Self { file, addresses })
    }

    /// The pages that end at `limit` or below, by number, sorted into such as lie side by side in the machine.
    fn runs(&self, limit: u64) -> Vec<Vec<usize>> {
        let usable = |&i: &usize| self.addresses[i].checked_add(HUGE - 1).is_some_and(|last| last <= limit);
        let mut order: Vec<usize> = (0..self.addresses.len()).filter(usable).collect();
        order.sort_by_key(|&i| self.addresses[i]);
        let mut runs: Vec<Vec<usize>> = Vec::new();
        for i in order {
            match runs.last_mut() {
                Some(run) if run.last().is_some_and(|&l| self.addresses[l] + HUGE == self.addresses[i]) => run.push(i),
                _ => runs.push(vec![i]),
            }
        }
        runs
    }

    /// Maps each run in the order of its addresses, and gives back the pages that are in none.
    fn keep(self, runs: &[Vec<usize>]) -> io::Result<Vec<Run>> {
        for unused in (0..self.addresses.len()).filter(|i| !runs.iter().flatten().any(|kept| kept == i)) {
            let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
            fallocate(&self.file, hole, (unused as u64 * HUGE) as i64, HUGE as i64)?;
        }
        runs.iter().map(|run| self.map(run)).collect()
    }

    fn map(&self, run: &[usize]) -> io::Result<Run> {
        let len = run.len() * LARGE_PAGE;
        let reserved = MmapRaw::from(MmapMut::map_anon(len + LARGE_PAGE)?);
        let skip = reserved.as_mut_ptr().align_offset(LARGE_PAGE);
        for (i, &page) in run.iter().enumerate() {
            let at = reserved.as_mut_ptr().wrapping_add(skip + i * LARGE_PAGE);
            let (rights, flags) =
                (ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED | MapFlags::MAP_FIXED);
            // SAFETY: replaces a part of `reserved`, which is this function's own and which nobody has an address of; `reserved`
            // unmaps the whole when it is dropped.
            unsafe {
                let size = NonZeroUsize::new(LARGE_PAGE);
                let place = NonZeroUsize::new(at.addr());
                let size = size.ok_or(io::ErrorKind::InvalidInput)?;
                let mapped: NonNull<_> =
                    mmap(place, size, rights, flags | MapFlags::MAP_POPULATE, &self.file, (page as u64 * HUGE) as i64)?;
                debug_assert_eq!(mapped.as_ptr().addr(), at.addr());
            }
        }
        let first = self.addresses[run[0]];
        let table = File::open("/proc/self/pagemap")?;
        for i in 0..run.len() as u64 {
            // What the board is told is what this very mapping shows.
            let here = physical_address(&table, reserved.as_ptr().addr() as u64 + skip as u64 + i * HUGE)?;
            if here != first + i * HUGE {
                return Err(io::Error::other(format!("a huge page moved from {:#x} to {here:#x}", first + i * HUGE)));
            }
        }
        let space = IovaSpace::new(&[first..=first + (len as u64 - 1)], 0..=u64::MAX);
        Ok(Run { first, len: len as u64, map: Arc::new(reserved), skip, space })
    }
}

/// Physical address of the page at a virtual one (Documentation/admin-guide/mm/pagemap.rst); 0 where the kernel does not tell.
fn physical_address(table: &File, at: u64) -> io::Result<u64> {
    const PRESENT: u64 = 1 << 63;
    const FRAME: u64 = (1 << 55) - 1;
    let mut entry = [0; 8];
    table.read_exact_at(&mut entry, at / PAGE as u64 * 8)?;
    let entry = u64::from_ne_bytes(entry);
    match entry & PRESENT {
        0 => Err(io::Error::other("a huge page that was touched is not present")),
        _ => Ok((entry & FRAME) * PAGE as u64),
    }
}

/// Huge pages that nobody has; `None` where the kernel has no such pages.
pub fn free_huge_pages() -> Option<u64> {
    fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages").ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(addresses: &[u64]) -> Pages {
        let file = tempfile::tempfile().expect("a file");
        Pages { file, addresses: addresses.iter().map(|a| a * HUGE).collect() }
    }

    #[test]
    fn pages_are_sorted_into_runs_below_the_limit() {
        // As the kernel hands them out: downwards, with gaps; page 2048 begins at 4 GiB.
        let some = pages(&[9, 8, 7, 3, 2, 2048, 2047, 12]);
        assert_eq!(some.runs(u32::MAX.into()), [vec![4, 3], vec![2, 1, 0], vec![7], vec![6]]);
        assert_eq!(some.runs(u64::MAX).last(), Some(&vec![6, 5]));
        assert_eq!(some.runs(3 * HUGE - 1), [vec![4]], "a page that ends above is not used");
        assert!(some.runs(HUGE).is_empty());
    }

    /// Real huge pages, where this machine has free ones and shows their addresses.
    #[test]
    fn buffers_are_contiguous_zeroed_apart_and_used_again() -> Result<()> {
        if free_huge_pages().is_none_or(|free| free < 8) {
            println!("SKIP: needs 8 free huge pages (echo 8 | sudo tee /proc/sys/vm/nr_hugepages)");
            return Ok(());
        }
        let memory = Physical::new("test", u64::MAX)?;
        let (a, at) = match memory.take(5000) {
            Err(crate::Error::Vfio(Error::Privilege { .. })) => {
                println!("SKIP: needs CAP_SYS_ADMIN");
                return Ok(());
            }
            other => other?,
        };
        assert_eq!(a.len(), 2 * PAGE);
        let (b, beside) = memory.take(1 << 20)?;
        assert!(beside >= at + 3 * PAGE as u64 || at > beside + b.len() as u64, "{at:#x} {beside:#x}: a page apart");
        let table = File::open("/proc/self/pagemap").expect("there");
        for offset in (0..b.len()).step_by(PAGE) {
            let here = physical_address(&table, b.as_ptr().addr() as u64 + offset as u64).expect("present");
            assert_eq!(here, beside + offset as u64);
        }
        a.write(4999, &[7])?;
        assert_eq!(memory.in_use(), 2);
        memory.give(at, a.len());
        drop(a);
        let (again, there) = memory.take(5000)?;
        let mut byte = [1];
        again.read(4999, &mut byte)?;
        assert_eq!((there, byte), (at, [0]), "the same place, empty");
        memory.give(there, again.len());
        memory.give(beside, b.len());
        assert_eq!(memory.in_use(), 0);
        Ok(())
    }

    #[test]
    fn says_how_many_pages_there_are_and_how_many_it_takes() {
        let memory = match Physical::new("test", HUGE) {
            Ok(memory) => memory,
            Err(e) => {
                assert!(!cfg!(target_arch = "x86_64") && matches!(e, Error::BusAddresses { .. }), "{e}");
                return;
            }
        };
        // No page ends at 2 MiB or below, whether there are pages or none.
        match memory.take(3 << 20) {
            Err(crate::Error::Vfio(Error::NoHugePages { needed: 2, limit: HUGE, .. } | Error::Privilege { .. })) => {}
            other => panic!("{:?}", other.map(|(m, at)| (m.len(), at))),
        }
        assert_eq!(memory.in_use(), 0);
    }
}
