//! Device memory: what the Akida DMAs read and write. Rings last as long as the device, program memory as long as the
//! program, job buffers as long as the batch: lifetimes nest, so a stack per region is enough.

use crate::transport::Region;
use crate::{Error, Result};

/// Everything is aligned so; DMAs need 4, skip-DMA descriptors 16, ring slots 32.
const ALIGNMENT: u32 = 64;

/// Memory in use, per region.
#[derive(Debug)]
pub struct DeviceMemory {
    regions: Vec<(Region, u32)>,
}

/// A point to go back to.
#[derive(Clone, Debug, Default)]
pub struct Mark(Vec<u32>);

impl DeviceMemory {
    pub fn new(regions: Vec<Region>) -> Self {
        Self { regions: regions.into_iter().map(|r| (r, 0)).collect() }
    }

    /// `len` bytes; the device's own memory is used first.
    pub fn allocate(&mut self, board: &str, what: &'static str, len: usize) -> Result<u32> {
        let wanted = (len.max(1) as u64).next_multiple_of(ALIGNMENT.into());
        for (region, used) in &mut self.regions {
            if wanted <= u64::from(region.len - *used) {
                let start = (region.base + *used).next_multiple_of(ALIGNMENT);
                let end = u64::from(start - region.base) + wanted;
                if end <= u64::from(region.len) {
                    *used = end as u32;
                    return Ok(start);
                }
            }
        }
        let free = self.regions.iter().map(|(r, used)| u64::from(r.len - used)).max().unwrap_or(0);
        Err(Error::DeviceMemory { board: board.to_owned(), what, len: len as u64, free })
    }

    pub fn mark(&self) -> Mark {
        Mark(self.regions.iter().map(|(_, used)| *used).collect())
    }

    /// Frees what was allocated since `mark`.
    pub fn release(&mut self, mark: &Mark) {
        for ((_, used), mark) in self.regions.iter_mut().zip(&mark.0) {
            *used = (*used).min(*mark);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_fill_in_order_and_are_freed_as_a_stack() {
        let region = |base, len, host| Region { base, len, host };
        let mut memory =
            DeviceMemory::new(vec![region(0x2000_1000, 0x1000, false), region(0xC000_0000, 0x10000, true)]);
        let mut get = |len| memory.allocate("b", "test", len);
        assert_eq!(get(1).ok(), Some(0x2000_1000));
        assert_eq!(get(0xFC0).ok(), Some(0x2000_1040));
        let mark = memory.mark();
        let mut get = |len| memory.allocate("b", "test", len);
        assert_eq!(get(1).ok(), Some(0xC000_0000));
        assert_eq!(get(0xFFC0).ok(), Some(0xC000_0040));
        assert!(matches!(get(1), Err(Error::DeviceMemory { free: 0, len: 1, .. })));
        memory.release(&mark);
        assert_eq!(memory.allocate("b", "test", 0x10000).ok(), Some(0xC000_0000));
    }
}
