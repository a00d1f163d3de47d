//! Address translation between PCIe and the chip's internal bus (hardware.md section 2).
//!
//! The same regions are reached two ways: through a viewport in configuration space (AKD1000, and Akida 2.0, which is
//! given the AKD1000's host interface) and unrolled in BAR 0 (AKD1500). How many regions there are is not public;
//! eight for the viewport and what fits into 4 KiB unrolled are ours. Without a function or bus reset nothing is lost.

use akida_hal::board::Bar;
use akida_hal::regs::iatu::unrolled::{BASE, INBOUND, REGIONS, SLOT};
use akida_hal::regs::iatu::{
    CONTROL1_TYPE, CONTROL2_BAR, CONTROL2_BAR_MATCH, CONTROL2_ENABLE, VIEWPORT_INBOUND, VIEWPORT_REGION,
};

const REGIONS_VIEWPORT: usize = 8;
/// One past the last unrolled register in BAR 0.
pub const UNROLLED_END: u32 = BASE + SLOT * REGIONS;

/// One translation region. Field order is that of the unrolled map; the viewport has the same with the upper limit
/// missing.
#[derive(Clone, Copy, Debug, Default)]
struct Region {
    control1: u32,
    control2: u32,
    base: [u32; 2],
    limit: u32,
    target: [u32; 2],
}

impl Region {
    fn field(&mut self, word: u32) -> Option<&mut u32> {
        Some(match word {
            0 => &mut self.control1,
            1 => &mut self.control2,
            2 => &mut self.base[0],
            3 => &mut self.base[1],
            4 => &mut self.limit,
            5 => &mut self.target[0],
            6 => &mut self.target[1],
            _ => return None,
        })
    }

    fn enabled(&self) -> bool {
        CONTROL2_ENABLE.any(self.control2) && CONTROL1_TYPE.get(self.control1) == 0
    }

    fn base(&self) -> u64 {
        (self.base[1] as u64) << 32 | self.base[0] as u64
    }

    fn target(&self) -> u64 {
        (self.target[1] as u64) << 32 | self.target[0] as u64
    }

    /// Offset of an address inside base..=limit. The limit has 32 bits: the upper half is the base's.
    fn offset(&self, address: u64) -> Option<u64> {
        let end = self.base() & !0xffff_ffff | self.limit as u64 | 0xfff;
        (address >= self.base() && address <= end).then(|| address - self.base())
    }
}

/// The translation unit.
#[derive(Clone, Debug)]
pub struct Iatu {
    inbound: Vec<Region>,
    outbound: Vec<Region>,
    viewport: u32,
}

impl Iatu {
    /// A unit behind the viewport.
    pub fn viewport() -> Self {
        Self::with(REGIONS_VIEWPORT)
    }

    /// A unit mapped in BAR 0.
    pub fn unrolled() -> Self {
        Self::with(REGIONS as usize)
    }

    fn with(regions: usize) -> Self {
        Self { inbound: vec![Region::default(); regions], outbound: vec![Region::default(); regions], viewport: 0 }
    }

    /// All regions off.
    pub fn reset(&mut self) {
        *self = Self::with(self.inbound.len());
    }

    /// Reads viewport register `offset` (0x00..=0x1C from configuration offset 0x900).
    pub fn viewport_read(&mut self, offset: u32) -> u32 {
        if offset == 0 { self.viewport } else { self.viewport_field(offset).map_or(0, |f| *f) }
    }

    /// Writes viewport register `offset`. A region that does not exist swallows the write.
    pub fn viewport_write(&mut self, offset: u32, value: u32) {
        if offset == 0 {
            self.viewport = value & (VIEWPORT_INBOUND.mask() | VIEWPORT_REGION.mask());
        } else if let Some(field) = self.viewport_field(offset) {
            *field = value;
        }
    }

    fn viewport_field(&mut self, offset: u32) -> Option<&mut u32> {
        let region = VIEWPORT_REGION.get(self.viewport) as usize;
        let inbound = VIEWPORT_INBOUND.any(self.viewport);
        let regions = if inbound { &mut self.inbound } else { &mut self.outbound };
        regions.get_mut(region)?.field((offset / 4).checked_sub(1)?)
    }

    /// Reads the unrolled map at BAR 0 `offset`, [`BASE`]..[`UNROLLED_END`].
    pub fn unrolled_read(&mut self, offset: u32) -> u32 {
        self.unrolled_field(offset).map_or(0, |f| *f)
    }

    /// Writes the unrolled map.
    pub fn unrolled_write(&mut self, offset: u32, value: u32) {
        if let Some(field) = self.unrolled_field(offset) {
            *field = value;
        }
    }

    fn unrolled_field(&mut self, offset: u32) -> Option<&mut u32> {
        let offset = offset.checked_sub(BASE)?;
        let slot = (offset / SLOT) as usize;
        let regions = if offset & INBOUND == 0 { &mut self.outbound } else { &mut self.inbound };
        regions.get_mut(slot)?.field((offset & 0xff) / 4)
    }

    /// The device address that `offset` of `bar` shows, where `bus` is the PCI address of the same byte. `None` when
    /// no inbound region matches. The lowest matching region wins.
    pub fn inbound(&self, bar: Bar, offset: u64, bus: u64) -> Option<u64> {
        self.inbound.iter().filter(|r| r.enabled()).find_map(|region| {
            if CONTROL2_BAR_MATCH.any(region.control2) {
                let number = CONTROL2_BAR.get(region.control2);
                (number as usize == bar.index()).then(|| region.target().wrapping_add(offset))
            } else {
                region.offset(bus).map(|o| region.target().wrapping_add(o))
            }
        })
    }

    /// The host address that a device address reaches, and how many bytes follow it in the same region.
    pub fn outbound(&self, address: u32) -> Option<(u64, u64)> {
        self.outbound.iter().filter(|r| r.enabled()).find_map(|region| {
            let offset = region.offset(address as u64)?;
            let end = region.base() & !0xffff_ffff | region.limit as u64 | 0xfff;
            let room = end - address as u64 + 1;
            Some((region.target().checked_add(offset)?, room))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IN: u32 = 1 << 31;

    fn program(iatu: &mut Iatu, region: u32, target: u32, control2: u32) {
        for (offset, value) in [(0, IN | region), (4, 0), (0x18, target), (8, control2)] {
            iatu.viewport_write(offset, value);
        }
    }

    /// The twelve writes of hardware.md 2.1.
    #[test]
    fn viewport_regions_decide_what_a_bar_shows() {
        let mut iatu = Iatu::viewport();
        assert_eq!(iatu.inbound(Bar::Bar0, 0x50, 0), None);
        program(&mut iatu, 0, 0xfcc0_0000, 0xc008_0000);
        program(&mut iatu, 1, 0xf8c0_0000, 0xc008_0200);
        program(&mut iatu, 2, 0x2000_0000, 0xc008_0400);
        for (bar, offset, device) in
            [(Bar::Bar0, 0x50, 0xfcc0_0050), (Bar::Bar2, 0x978, 0xf8c0_0978), (Bar::Bar4, 0x80, 0x2000_0080)]
        {
            assert_eq!(iatu.inbound(bar, offset, 0x1234_0000), Some(device), "{bar:?}");
        }
        iatu.viewport_write(0, IN | 2);
        assert_eq!(iatu.viewport_read(0x18), 0x2000_0000);
        iatu.viewport_write(8, 0xc008_0400 & !(1 << 31));
        assert_eq!(iatu.inbound(Bar::Bar4, 0x80, 0), None);
        iatu.reset();
        assert_eq!(iatu.inbound(Bar::Bar0, 0x50, 0), None);
        assert_eq!(iatu.viewport_read(0), 0);
    }

    #[test]
    fn address_match_uses_base_and_limit() {
        let mut iatu = Iatu::viewport();
        for (offset, value) in [(0, IN | 3), (0xc, 0x8000_0000), (0x10, 1), (0x14, 0x8000_ffff), (0x18, 0x2000_0000)] {
            iatu.viewport_write(offset, value);
        }
        iatu.viewport_write(8, 1 << 31);
        assert_eq!(iatu.inbound(Bar::Bar4, 0, 0x1_8000_0010), Some(0x2000_0010));
        assert_eq!(iatu.inbound(Bar::Bar4, 0, 0x1_8001_0000), None);
        assert_eq!(iatu.inbound(Bar::Bar4, 0, 0x8000_0010), None);
    }

    /// The writes of hardware.md 2.2.
    #[test]
    fn unrolled_regions_and_the_host_window() {
        let mut iatu = Iatu::unrolled();
        for (offset, value) in [
            (0x700, 0),
            (0x704, 0xc008_0200),
            (0x714, 0xfcc0_0000),
            (0x900, 0),
            (0x904, 0xc008_0400),
            (0x914, 0x2000_0000),
            (0x400, 0),
            (0x408, 0xc000_0000),
            (0x40c, 0),
            (0x410, 0xc00f_ffff),
            (0x414, 0x4567_0000),
            (0x418, 0x1),
            (0x404, 0x8000_0000),
        ] {
            iatu.unrolled_write(offset, value);
        }
        assert_eq!(iatu.inbound(Bar::Bar2, 0x50, 0), Some(0xfcc0_0050));
        assert_eq!(iatu.inbound(Bar::Bar4, 0x100, 0), Some(0x2000_0100));
        assert_eq!(iatu.inbound(Bar::Bar0, 0, 0), None);
        assert_eq!(iatu.outbound(0xc000_0010), Some((0x1_4567_0010, 0xf_fff0)));
        assert_eq!(iatu.outbound(0xc010_0000), None);
        assert_eq!(iatu.outbound(0xbfff_ffff), None);
        // The published driver's disable loop writes zeros over channel blocks 2..7, which are these slots.
        iatu.unrolled_write(0x400, 0);
        iatu.unrolled_write(0x700, 0);
        assert!(iatu.outbound(0xc000_0010).is_some());
    }

    #[test]
    fn regions_that_do_not_exist_swallow_writes() {
        let mut iatu = Iatu::viewport();
        iatu.viewport_write(0, IN | 31);
        iatu.viewport_write(8, !0);
        assert_eq!(iatu.viewport_read(8), 0);
        let mut iatu = Iatu::unrolled();
        iatu.unrolled_write(UNROLLED_END + 4, !0);
        iatu.unrolled_write(0, !0);
        assert_eq!(iatu.unrolled_read(UNROLLED_END + 4), 0);
    }
}
