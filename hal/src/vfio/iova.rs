//! I/O virtual addresses: which ranges the IOMMU lets us use, and which of them are free.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use crate::dma::PAGE;

/// Pages left unmapped after every mapping, so that a device that runs over the end faults instead of reaching a
/// neighbour.
const GUARD: u64 = PAGE as u64;
/// From this size on mappings are aligned so that the IOMMU can use its large pages.
const LARGE: u64 = 2 << 20;

/// First-fit allocator over the allowed ranges.
#[derive(Debug)]
pub struct IovaSpace {
    /// Free ranges: first address to last address, both inclusive, never touching each other.
    free: BTreeMap<u64, u64>,
    /// What is handed out: first address to number of bytes, guard included.
    used: BTreeMap<u64, u64>,
}

impl IovaSpace {
    /// A space of the parts of `allowed` inside `window`; page 0 is never given out, so that a device address of zero is
    /// always a fault.
    pub fn new(allowed: &[RangeInclusive<u64>], window: RangeInclusive<u64>) -> Self {
        let page = PAGE as u64;
        let mut free = BTreeMap::new();
        for range in allowed {
            let first = (*range.start()).max(*window.start()).max(page);
            let last = (*range.end()).min(*window.end());
            // Whole pages only; in 128 bits, since a range may end at the very top of the address space.
            let (first, end) =
                (u128::from(first).next_multiple_of(page.into()), (u128::from(last) + 1) / u128::from(page));
            let end = end * u128::from(page);
            if first < end {
                free.insert(first as u64, (end - 1) as u64);
            }
        }
        Self { free, used: BTreeMap::new() }
    }

    /// Takes `len` bytes (a multiple of the page size), or nothing where no range is long enough.
    pub fn take(&mut self, len: u64) -> Option<u64> {
        let align = if len >= LARGE { LARGE } else { PAGE as u64 };
        let size = len.checked_add(GUARD)?;
        let (first, last, at) = self.free.iter().find_map(|(&first, &last)| {
            let at = first.checked_next_multiple_of(align)?;
            (at.checked_add(size - 1)? <= last).then_some((first, last, at))
        })?;
        self.free.remove(&first);
        if at > first {
            self.free.insert(first, at - 1);
        }
        if at + (size - 1) < last {
            self.free.insert(at + size, last);
        }
        self.used.insert(at, size);
        Some(at)
    }

    /// Gives back what [`take`](Self::take) returned; false when `iova` is not the start of anything taken.
    pub fn give(&mut self, iova: u64) -> bool {
        let Some(size) = self.used.remove(&iova) else { return false };
        let (mut first, mut last) = (iova, iova + (size - 1));
        if let Some((&before, &end)) = self.free.range(..first).next_back()
            && end + 1 == first
        {
            self.free.remove(&before);
            first = before;
        }
        if let Some(after) = last.checked_add(1)
            && let Some(end) = self.free.remove(&after)
        {
            last = end;
        }
        self.free.insert(first, last);
        true
    }

    /// Number of mappings handed out.
    pub fn in_use(&self) -> usize {
        self.used.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What an x86 machine with an Intel IOMMU reports: everything but the interrupt window.
    const X86: [RangeInclusive<u64>; 2] = [0..=0xfedf_ffff, 0xfef0_0000..=0x7f_ffff_ffff];

    const ONE: u64 = PAGE as u64;

    #[test]
    fn starts_above_page_zero_and_aligns_large_mappings() {
        let mut space = IovaSpace::new(&X86, 0..=u64::from(u32::MAX));
        assert_eq!(space.take(ONE), Some(ONE));
        assert_eq!(space.take(ONE), Some(3 * ONE), "one guard page between mappings");
        assert_eq!(space.take(4 << 20), Some(0x20_0000));
        assert!(space.give(ONE) && !space.give(ONE) && !space.give(4 * ONE));
    }

    #[test]
    fn odd_limits_lose_only_the_broken_page() {
        let mut space = IovaSpace::new(&[0..=5 * ONE - 2], 0..=u64::MAX);
        assert_eq!(space.take(2 * ONE), Some(ONE), "two pages, and a guard up to the broken one");
        assert_eq!(space.take(ONE), None);
        let first = u64::MAX - (3 * ONE - 1);
        let mut top = IovaSpace::new(&[first..=u64::MAX], 0..=u64::MAX);
        assert_eq!((top.take(ONE), top.take(ONE)), (Some(first), None));
    }

    proptest! {
        #[test]
        fn never_overlaps_never_leaves_the_ranges_and_returns_everything(
            steps in prop::collection::vec((any::<bool>(), 1u64..600), 1..200)
        ) {
            let mut space = IovaSpace::new(&X86, 0..=u64::from(u32::MAX));
            let pristine = format!("{:?}", space.free);
            let mut live: Vec<(u64, u64)> = Vec::new();
            for (take, n) in steps {
                if take || live.is_empty() {
                    let len = n * n * PAGE as u64;
                    if let Some(at) = space.take(len) {
                        prop_assert!(at >= PAGE as u64 && at % PAGE as u64 == 0);
                        prop_assert!(X86.iter().any(|r| r.contains(&at) && r.contains(&(at + len - 1))));
                        prop_assert!(at + len - 1 <= u64::from(u32::MAX));
                        prop_assert!(live.iter().all(|&(a, l)| at + len < a || a + l < at), "touches a neighbour");
                        live.push((at, len));
                    }
                } else {
                    let (at, _) = live.swap_remove(n as usize % live.len());
                    prop_assert!(space.give(at));
                }
            }
            prop_assert_eq!(space.in_use(), live.len());
            for (at, _) in live {
                space.give(at);
            }
            prop_assert_eq!(format!("{:?}", space.free), pristine);
        }
    }
}
