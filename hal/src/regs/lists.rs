//! Linked-list elements of eDMA and HDMA, as they lie in device memory (hardware.md section 3.2).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, little_endian::U32};

use super::edma::ChannelControl;

/// Bytes of one slot in a list; link elements fill 16 of them.
pub const SLOT: u32 = 24;

/// Moves bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DataElement {
    /// [`ChannelControl`]: CB, LIE, RIE.
    pub control: U32,
    /// Bytes.
    pub size: U32,
    /// Source address, low.
    pub sar_low: U32,
    /// Source address, high.
    pub sar_high: U32,
    /// Destination address, low.
    pub dar_low: U32,
    /// Destination address, high.
    pub dar_high: U32,
}

/// Continues somewhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct LinkElement {
    /// [`ChannelControl`]: LLP, TCB, CB.
    pub control: U32,
    /// Not used.
    pub reserved: U32,
    /// Device address of the next element, low.
    pub pointer_low: U32,
    /// High half of it.
    pub pointer_high: U32,
}

const _: () = assert!(size_of::<DataElement>() == SLOT as usize);
const _: () = assert!(size_of::<LinkElement>() == 16);

impl DataElement {
    /// Moves `size` bytes from `source` to `destination`.
    pub fn new(control: ChannelControl, size: u32, source: u64, destination: u64) -> Self {
        Self {
            control: U32::new(control.bits()),
            size: U32::new(size),
            sar_low: U32::new(source as u32),
            sar_high: U32::new((source >> 32) as u32),
            dar_low: U32::new(destination as u32),
            dar_high: U32::new((destination >> 32) as u32),
        }
    }

    /// Control word; bits without a name are dropped.
    pub fn control(&self) -> ChannelControl {
        ChannelControl::from_bits_truncate(self.control.get())
    }

    /// Source address.
    pub fn source(&self) -> u64 {
        u64::from(self.sar_high.get()) << 32 | u64::from(self.sar_low.get())
    }

    /// Destination address.
    pub fn destination(&self) -> u64 {
        u64::from(self.dar_high.get()) << 32 | u64::from(self.dar_low.get())
    }
}

impl LinkElement {
    /// Continues at `pointer`.
    pub fn new(control: ChannelControl, pointer: u64) -> Self {
        Self {
            control: U32::new(control.bits()),
            reserved: U32::new(0),
            pointer_low: U32::new(pointer as u32),
            pointer_high: U32::new((pointer >> 32) as u32),
        }
    }

    /// Control word; bits without a name are dropped.
    pub fn control(&self) -> ChannelControl {
        ChannelControl::from_bits_truncate(self.control.get())
    }

    /// Where the list continues.
    pub fn pointer(&self) -> u64 {
        u64::from(self.pointer_high.get()) << 32 | u64::from(self.pointer_low.get())
    }
}

/// How many data elements fit in a list region of `len` bytes, the link not counted.
pub const fn capacity(len: u32) -> u32 {
    (len / SLOT).saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_lie_as_the_engine_reads_them() {
        let control = ChannelControl::CYCLE | ChannelControl::LOCAL_INTERRUPT | ChannelControl::REMOTE_INTERRUPT;
        let data = DataElement::new(control, 0x400, 0x1_2345_6789, 0x2400_0000);
        let words: Vec<u32> =
            data.as_bytes().chunks(4).map(|b| u32::from_le_bytes(b.try_into().expect("four bytes"))).collect();
        assert_eq!(words, [0x19, 0x400, 0x2345_6789, 1, 0x2400_0000, 0]);
        assert_eq!((data.source(), data.destination()), (0x1_2345_6789, 0x2400_0000));

        let link = LinkElement::new(ChannelControl::LINK | ChannelControl::TOGGLE_CYCLE, 0x2000_0040);
        assert_eq!(link.as_bytes()[..4], [6, 0, 0, 0]);
        assert_eq!(link.pointer(), 0x2000_0040);
    }

    #[test]
    fn the_default_region_holds_one_element() {
        assert_eq!([capacity(0x40), capacity(0x30), capacity(0x40000), capacity(0)], [1, 1, 10921, 0]);
    }
}
