//! The board's own memory: sparse, and full of noise until something is written, as DRAM is after power-up.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

const PAGE: usize = 64 * 1024;

/// A device address that no memory answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no device memory at {address:#010x}+{len:#x}")]
pub struct NoMemory {
    /// First byte asked for.
    pub address: u32,
    /// Bytes.
    pub len: usize,
}

struct Region {
    base: u32,
    state: Mutex<State>,
    len: u32,
}

struct State {
    pages: Vec<Option<Box<[u8]>>>,
    watches: Vec<(Range<usize>, Weak<Watch>)>,
    /// From the first byte that is watched to the last.
    watched: Range<usize>,
}

/// Tells whether bytes of device memory were written since it was made: what was worked out of them still holds as long as
/// they were not.
#[derive(Debug, Default)]
pub struct Watch {
    written: AtomicBool,
}

impl Watch {
    /// Whether nothing was written there so far.
    pub fn untouched(&self) -> bool {
        !self.written.load(Ordering::Acquire)
    }
}

/// RAM behind device addresses. Pages are allocated when first written; what was never written reads as noise that
/// depends on the address only, so runs repeat exactly.
pub struct DeviceMemory {
    regions: Vec<Region>,
}

impl DeviceMemory {
    /// Memory of these (base, length) ranges, which must not overlap.
    pub fn new(ranges: &[(u32, u32)]) -> Self {
        let region = |&(base, len): &(u32, u32)| Region {
            base,
            len,
            state: Mutex::new(State {
                pages: (0..len.div_ceil(PAGE as u32)).map(|_| None).collect(),
                watches: Vec::new(),
                watched: 0..0,
            }),
        };
        Self { regions: ranges.iter().map(region).collect() }
    }

    /// Whether the whole range is memory.
    pub fn contains(&self, address: u32, len: usize) -> bool {
        self.region(address, len).is_ok()
    }

    /// Bytes from `address` to the end of its region, 0 where there is no memory.
    pub fn room(&self, address: u32) -> u32 {
        self.regions
            .iter()
            .find(|r| address >= r.base && address - r.base < r.len)
            .map_or(0, |r| r.len - (address - r.base))
    }

    /// Copies bytes out.
    pub fn read(&self, address: u32, bytes: &mut [u8]) -> Result<(), NoMemory> {
        let len = bytes.len();
        self.show(address, len, |place, shown| {
            bytes[place..place + shown.len()].copy_from_slice(shown);
            Ok(())
        })
    }

    /// Copies bytes in.
    pub fn write(&self, address: u32, bytes: &[u8]) -> Result<(), NoMemory> {
        self.fill(address, bytes.len(), |place, into| {
            into.copy_from_slice(&bytes[place..place + into.len()]);
            Ok(())
        })
    }

    /// Shows bytes where they are, with the place of each piece among them. Memory is locked meanwhile.
    pub fn show<E: From<NoMemory>>(
        &self,
        address: u32,
        len: usize,
        mut show: impl FnMut(usize, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let (region, offset) = self.region(address, len)?;
        let pages = &lock(&region.state).pages;
        each_page(offset, len, |page, at, range| match &pages[page] {
            Some(data) => show(range.start, &data[at..at + range.len()]),
            None => {
                let mut bytes = vec![0; range.len()];
                noise(region.base, page * PAGE + at, &mut bytes);
                show(range.start, &bytes)
            }
        })
    }

    /// Has bytes put in where they belong, with the place of each piece among them. Memory is locked meanwhile.
    pub fn fill<E: From<NoMemory>>(
        &self,
        address: u32,
        len: usize,
        mut fill: impl FnMut(usize, &mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let (region, offset) = self.region(address, len)?;
        let mut state = lock(&region.state);
        let State { pages, watches, watched } = &mut *state;
        let end = offset + len;
        // One write is all that a watch tells.
        let mut left: Option<Range<usize>> = None;
        let near = watched.start < end && offset < watched.end;
        let mut stays = |(range, watch): &(Range<usize>, Weak<Watch>)| {
            let Some(watch) = watch.upgrade() else { return false };
            let hit = range.start < end && offset < range.end;
            if hit {
                watch.written.store(true, Ordering::Release);
            } else {
                left = Some(left.as_ref().map_or(range.clone(), |l| l.start.min(range.start)..l.end.max(range.end)));
            }
            !hit
        };
        if near {
            watches.retain(|watch| stays(watch));
            *watched = left.unwrap_or(0..0);
        }
        each_page(offset, len, |page, at, range| {
            let data = pages[page].get_or_insert_with(|| {
                let mut data = vec![0; PAGE];
                if range.len() < PAGE {
                    noise(region.base, page * PAGE, &mut data);
                }
                data.into()
            });
            fill(range.start, &mut data[at..at + range.len()])
        })
    }

    /// Watches a range from now on; `None` where there is no memory. Bytes are to be read after this call: then they are at
    /// least as new as the watch.
    pub fn watch(&self, address: u32, len: usize) -> Option<Arc<Watch>> {
        let (region, offset) = self.region(address, len).ok()?;
        let watch = Arc::new(Watch::default());
        let mut state = lock(&region.state);
        let watched = &state.watched;
        let one = watched.is_empty();
        let (start, end) =
            if one { (offset, offset + len) } else { (watched.start.min(offset), watched.end.max(offset + len)) };
        state.watched = start..end;
        state.watches.push((offset..offset + len, Arc::downgrade(&watch)));
        Some(watch)
    }

    /// Host memory this object holds, in bytes: what was ever written, rounded up to pages.
    pub fn resident(&self) -> usize {
        self.regions.iter().map(|r| lock(&r.state).pages.iter().flatten().count() * PAGE).sum()
    }

    fn region(&self, address: u32, len: usize) -> Result<(&Region, usize), NoMemory> {
        self.regions
            .iter()
            .find(|r| address >= r.base && (address - r.base) as u64 + len as u64 <= r.len as u64)
            .map(|r| (r, (address - r.base) as usize))
            .ok_or(NoMemory { address, len })
    }
}

/// Calls `f(page, offset in page, range of the caller's bytes)` for every page touched, until it fails.
fn each_page<E>(
    mut offset: usize,
    len: usize,
    mut f: impl FnMut(usize, usize, Range<usize>) -> Result<(), E>,
) -> Result<(), E> {
    let mut done = 0;
    while done < len {
        let at = offset % PAGE;
        let n = (PAGE - at).min(len - done);
        f(offset / PAGE, at, done..done + n)?;
        done += n;
        offset += n;
    }
    Ok(())
}

/// Power-up contents (one round of splitmix64 per 8 bytes) from an offset on.
fn noise(base: u32, offset: usize, bytes: &mut [u8]) {
    let word = |n: usize| {
        let mut z = (base as u64) << 32 | (n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31).to_le_bytes()
    };
    let (first, rest) = bytes.split_at_mut((offset.next_multiple_of(8) - offset).min(bytes.len()));
    let from = offset % 8;
    if !first.is_empty() {
        first.copy_from_slice(&word(offset / 8)[from..from + first.len()]);
    }
    let (whole, last) = rest.as_chunks_mut::<8>();
    let end = offset.div_ceil(8) + whole.len();
    whole.iter_mut().zip(offset.div_ceil(8)..).for_each(|(into, n)| *into = word(n));
    last.copy_from_slice(&word(end)[..last.len()]);
}

/// Memory stays usable when some other thread panicked while copying.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: u32 = 0x2000_0000;

    #[test]
    fn what_is_written_is_read_across_pages() {
        let memory = DeviceMemory::new(&[(BASE, 1 << 20)]);
        let data: Vec<u8> = (0..200_000).map(|i| (i * 7 % 251) as u8).collect();
        memory.write(BASE + 13, &data).unwrap();
        let mut back = vec![0; data.len()];
        memory.read(BASE + 13, &mut back).unwrap();
        assert!(back == data);
    }

    #[test]
    fn bounds_are_those_of_the_ranges() {
        let memory = DeviceMemory::new(&[(0x1000_0000, 0x1000), (BASE, 0x10000)]);
        for (address, len, ok) in [
            (BASE, 0x10000, true),
            (BASE, 0x10001, false),
            (BASE + 0xffff, 1, true),
            (BASE + 0x10000, 1, false),
            (BASE - 1, 2, false),
            (0x1000_0ffc, 4, true),
            (0, 1, false),
            (u32::MAX, 4, false),
        ] {
            assert_eq!(memory.contains(address, len), ok, "{address:#x}+{len:#x}");
            assert_eq!(memory.write(address, &vec![1; len]).is_ok(), ok, "{address:#x}+{len:#x}");
        }
    }

    #[test]
    fn a_watch_tells_of_writes_into_its_range_only() {
        let memory = DeviceMemory::new(&[(BASE, 1 << 20)]);
        let watch = || memory.watch(BASE + 100, 50).unwrap();
        for (at, len, hit) in
            [(0, 100, false), (150, 10, false), (0, 101, true), (149, 1, true), (120, 1, true), (0, 1000, true)]
        {
            let (watch, ended) = (watch(), watch());
            drop(ended);
            memory.read(BASE + 100, &mut [0; 50]).unwrap();
            assert!(watch.untouched());
            memory.write(BASE + at, &vec![1; len]).unwrap();
            assert_eq!(!watch.untouched(), hit, "{at}+{len}");
        }
        assert!(memory.watch(BASE - 1, 2).is_none());
        assert!(lock(&memory.regions[0].state).watches.len() <= 2, "those that ended are gone at the next write");
    }

    #[test]
    fn power_up_noise_is_repeatable_dense_and_costs_nothing() {
        let memory = DeviceMemory::new(&[(BASE, 256 << 20)]);
        let mut first = vec![0; 65536];
        memory.read(BASE + 0x40_0000, &mut first).unwrap();
        let zero_words = first.chunks(4).filter(|w| w.iter().all(|&b| b == 0)).count();
        assert!(zero_words < 4);
        assert_eq!(memory.resident(), 0);
        memory.write(BASE + 0x40_0000, &[first[0]]).unwrap();
        let mut second = vec![0; 65536];
        memory.read(BASE + 0x40_0000, &mut second).unwrap();
        assert!(first == second);
        assert_eq!(memory.resident(), 65536);
    }
}
