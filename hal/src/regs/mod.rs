//! Every register of the boards, declared once: offsets, fields, values (hardware.md sections 2, 3, 7, 8, 9, 10).
//!
//! One file a block, names as in hardware.md. Each item carries the tag of its source there: \[K\] BrainChip's kernel
//! driver, \[E\] the published engine, \[B\] program blobs, \[S\] an independent driver run on silicon, \[D\] a deduction.
//! The simulated board decodes with the same declarations the driver encodes with.

pub mod dma;
pub mod edma;
pub mod epg;
pub mod hdma;
pub mod iatu;
pub mod lists;
pub mod np;
pub mod pci;
pub mod skip;
pub mod top;

/// A bit field of a 32-bit register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    shift: u32,
    width: u32,
}

impl Field {
    /// Bits `high..=low`, written as in hardware.md ("bits 15..8").
    ///
    /// # Panics
    /// In constant evaluation, when `high < low` or `high > 31`.
    pub const fn bits(high: u32, low: u32) -> Self {
        assert!(high >= low && high < 32);
        Self { shift: low, width: high - low + 1 }
    }

    /// One bit.
    pub const fn bit(index: u32) -> Self {
        Self::bits(index, index)
    }

    /// The largest value the field holds.
    #[inline]
    pub const fn max(self) -> u32 {
        u32::MAX >> (32 - self.width)
    }

    /// All bits of the field, in place.
    #[inline]
    pub const fn mask(self) -> u32 {
        self.max() << self.shift
    }

    /// The field's value in `word`.
    #[inline]
    pub const fn get(self, word: u32) -> u32 {
        (word >> self.shift) & self.max()
    }

    /// `word` with the field replaced by the low bits of `value`.
    #[inline]
    pub const fn set(self, word: u32, value: u32) -> u32 {
        (word & !self.mask()) | self.of(value)
    }

    /// A word with only this field set, to the low bits of `value`.
    #[inline]
    pub const fn of(self, value: u32) -> u32 {
        (value & self.max()) << self.shift
    }

    /// Whether `value` fits.
    #[inline]
    pub const fn fits(self, value: u32) -> bool {
        value <= self.max()
    }

    /// Whether any bit of the field is set in `word`.
    #[inline]
    pub const fn any(self, word: u32) -> bool {
        word & self.mask() != 0
    }
}

/// Declares the registers of one block: a constant each, and `NAMES`, the same list for messages and traces.
macro_rules! registers {
    ($($(#[$doc:meta])* $name:ident = $offset:expr;)*) => {
        $($(#[$doc])* pub const $name: u32 = $offset;)*
        /// The registers of this block by offset, for messages and traces.
        pub const NAMES: &[(u32, &str)] = &[$(($offset, stringify!($name))),*];
    };
}
pub(crate) use registers;

/// The name a block's `NAMES` gives to an offset.
pub fn name(names: &'static [(u32, &'static str)], offset: u32) -> Option<&'static str> {
    names.iter().find(|(o, _)| *o == offset).map(|(_, n)| *n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_move_values_in_and_out() {
        for (high, low) in [(31, 31), (31, 0), (0, 0), (15, 8), (29, 16)] {
            let field = Field::bits(high, low);
            for value in [0, 1, field.max()] {
                assert_eq!(field.get(field.set(0x5A5A_5A5A, value)), value);
                assert_eq!(field.set(0x5A5A_5A5A, value) & !field.mask(), 0x5A5A_5A5A & !field.mask());
            }
            assert_eq!(field.of(u32::MAX), field.mask());
        }
    }

    /// A register declared twice, or out of a block's order, is a typing mistake.
    #[test]
    fn offsets_are_unique_and_rising() {
        for names in [dma::NAMES, edma::NAMES, epg::NAMES, hdma::NAMES, iatu::NAMES, np::NAMES, top::NAMES, skip::NAMES]
        {
            for pair in names.windows(2) {
                assert!(pair[0].0 < pair[1].0, "{pair:x?}");
            }
        }
    }
}
