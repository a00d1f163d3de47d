//! The host's side of DMA: which host memory the device was given, and what it did with it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use akida_hal::dma::{DmaMemory, PAGE, Unmap};

use crate::chip::bus::{HostMemory, Unmapped};
use crate::chip::memory::lock;

/// First IOVA given out: above 4 GiB, so that an address cut to 32 bits does not hit a mapping.
const FIRST: u64 = 0x1_0000_0000;
/// Unmapped bytes after each mapping, so that one byte too many is refused.
const GUARD: u64 = PAGE as u64;
/// Accesses remembered.
const LOG_MAX: usize = 65536;

/// What the device did, or wanted to do, to host memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostAccess {
    /// First byte.
    pub iova: u64,
    /// Bytes. Neighbouring accesses of the same kind are counted as one.
    pub len: u64,
    /// It wrote.
    pub write: bool,
}

#[derive(Default)]
struct State {
    mappings: BTreeMap<u64, Arc<DmaMemory>>,
    next: u64,
    accesses: Vec<HostAccess>,
    refused: Vec<HostAccess>,
}

/// A table of IOVA -> host memory. What is not in it cannot be reached.
pub struct DmaMap {
    state: Mutex<State>,
}

impl DmaMap {
    /// An empty table.
    pub fn new() -> Self {
        Self { state: Mutex::new(State { next: FIRST, ..State::default() }) }
    }

    /// Makes memory reachable and says where. Addresses are never given out twice.
    pub fn map(&self, memory: Arc<DmaMemory>) -> u64 {
        let mut state = lock(&self.state);
        let iova = state.next;
        state.next += memory.len() as u64 + GUARD;
        state.mappings.insert(iova, memory);
        iova
    }

    /// (IOVA, bytes) of every live mapping.
    pub fn mappings(&self) -> Vec<(u64, usize)> {
        lock(&self.state).mappings.iter().map(|(iova, memory)| (*iova, memory.len())).collect()
    }

    /// Accesses that were made.
    pub fn accesses(&self) -> Vec<HostAccess> {
        lock(&self.state).accesses.clone()
    }

    /// Accesses that were refused.
    pub fn refused(&self) -> Vec<HostAccess> {
        lock(&self.state).refused.clone()
    }

    /// Copies under the lock: once `unmap` has returned, no copy is under way.
    fn access(
        &self,
        iova: u64,
        len: usize,
        write: bool,
        copy: impl FnOnce(&DmaMemory, usize) -> akida_hal::Result<()>,
    ) -> Result<(), Unmapped> {
        let mut state = lock(&self.state);
        let this = HostAccess { iova, len: len as u64, write };
        let found = state.mappings.range(..=iova).next_back().map(|(base, memory)| (memory.clone(), iova - base));
        // The memory checks the end of the range.
        let done = found
            .is_some_and(|(memory, offset)| usize::try_from(offset).is_ok_and(|offset| copy(&memory, offset).is_ok()));
        note(if done { &mut state.accesses } else { &mut state.refused }, this);
        if done { Ok(()) } else { Err(Unmapped { iova, len }) }
    }
}

fn note(list: &mut Vec<HostAccess>, access: HostAccess) {
    if let Some(last) = list.last_mut()
        && last.write == access.write
        && last.iova.checked_add(last.len) == Some(access.iova)
    {
        last.len += access.len;
    } else if list.len() < LOG_MAX {
        list.push(access);
    }
}

impl HostMemory for DmaMap {
    fn read(&self, iova: u64, bytes: &mut [u8]) -> Result<(), Unmapped> {
        self.access(iova, bytes.len(), false, |memory, offset| memory.read(offset, bytes))
    }

    fn write(&self, iova: u64, bytes: &[u8]) -> Result<(), Unmapped> {
        self.access(iova, bytes.len(), true, |memory, offset| memory.write(offset, bytes))
    }
}

impl Unmap for DmaMap {
    fn unmap(&self, iova: u64, _len: usize) {
        lock(&self.state).mappings.remove(&iova);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mapped_ranges_are_reached_and_everything_is_noted() {
        let map = DmaMap::new();
        let memory = Arc::new(DmaMemory::new(2 * PAGE).unwrap());
        let iova = map.map(memory.clone());
        let end = iova + 2 * PAGE as u64;
        for (at, len, ok) in [
            (iova, 8, true),
            (end - 8, 8, true),
            (end - 8, 9, false),
            (iova - 1, 1, false),
            (end, 1, false),
            (iova & 0xffff_ffff, 1, false),
            (u64::MAX, 8, false),
        ] {
            assert_eq!(map.write(at, &vec![7; len]).is_ok(), ok, "{at:#x}+{len}");
            assert_eq!(map.read(at, &mut vec![0; len]).is_ok(), ok, "{at:#x}+{len}");
        }
        assert_eq!(map.refused().len(), 10);
        assert_eq!(map.accesses()[0], HostAccess { iova, len: 8, write: true });
        map.unmap(iova, 2 * PAGE);
        assert_eq!(map.read(iova, &mut [0; 1]), Err(Unmapped { iova, len: 1 }));
        assert_ne!(map.map(memory), iova, "an address is not used again");
    }
}
