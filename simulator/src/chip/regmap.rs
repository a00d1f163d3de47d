//! Register files of whole 32-bit registers, made from the name tables of the hardware layer.
//!
//! A block's behaviour (what a write starts, which bits the hardware sets) is in the block's own file; what is common
//! to all registers is here: names, reset values, read-only, reserved and write-1-to-clear bits.

use std::sync::Arc;

/// One register of a block.
#[derive(Clone, Copy, Debug)]
pub struct Register {
    /// Byte offset inside the block, a multiple of 4.
    pub offset: u32,
    /// Name, as in the register declarations of the hardware layer.
    pub name: &'static str,
    /// Value after reset.
    pub reset: u32,
    /// Bits a host write changes; the others are read-only or reserved.
    pub writable: u32,
    /// Bits that a host write of 1 clears.
    pub write_1_clears: u32,
}

impl Register {
    /// A register all of whose bits can be written and read back.
    pub const fn rw(offset: u32, name: &'static str) -> Self {
        Self { offset, name, reset: 0, writable: !0, write_1_clears: 0 }
    }

    /// A register the host can only read.
    pub const fn ro(offset: u32, name: &'static str) -> Self {
        Self { offset, name, reset: 0, writable: 0, write_1_clears: 0 }
    }

    /// The same with another reset value.
    pub const fn reset(mut self, value: u32) -> Self {
        self.reset = value;
        self
    }

    /// The same with only these bits writable.
    pub const fn mask(mut self, writable: u32) -> Self {
        self.writable = writable;
        self
    }

    /// The same with these bits cleared by writing 1.
    pub const fn w1c(mut self, bits: u32) -> Self {
        self.write_1_clears = bits;
        self.writable &= !bits;
        self
    }
}

/// What a host write did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// The register's value before.
    pub old: u32,
    /// Its value now.
    pub new: u32,
}

/// In the place of a register: there is none.
const RESERVED: u16 = u16::MAX;

/// The registers of one block and their values.
#[derive(Clone, Debug)]
pub struct RegMap {
    block: &'static str,
    /// By rising offset.
    registers: Arc<[Register]>,
    /// For every word of the block where its register is in `registers`: every access looks some registers up.
    places: Arc<[u16]>,
    values: Vec<u32>,
}

impl RegMap {
    /// These registers at their reset values. Other offsets are reserved: they read 0 and ignore writes.
    pub fn new(block: &'static str, mut registers: Vec<Register>) -> Self {
        registers.sort_by_key(|r| r.offset);
        debug_assert!(registers.windows(2).all(|r| r[0].offset < r[1].offset), "{block} declares an offset twice");
        let words = registers.last().map_or(0, |r| r.offset as usize / 4 + 1);
        let mut places = vec![RESERVED; words];
        for (place, register) in (0..RESERVED).zip(&registers) {
            places[register.offset as usize / 4] = place;
        }
        Self {
            block,
            values: registers.iter().map(|r| r.reset).collect(),
            registers: registers.into(),
            places: places.into(),
        }
    }

    /// A block of the hardware layer's name table: read-write registers, but for those of `special`, whose names are
    /// taken from the table.
    pub fn of(block: &'static str, names: &[(u32, &'static str)], special: &[Register]) -> Self {
        let register = |&(offset, name): &(u32, &'static str)| match special.iter().find(|r| r.offset == offset) {
            Some(register) => Register { name, ..*register },
            None => Register::rw(offset, name),
        };
        Self::new(block, names.iter().map(register).collect())
    }

    /// Back to reset values.
    pub fn reset(&mut self) {
        for (value, register) in self.values.iter_mut().zip(self.registers.iter()) {
            *value = register.reset;
        }
    }

    /// The block's name.
    pub fn block(&self) -> &'static str {
        self.block
    }

    /// The name of a register, `reserved` where none is declared.
    pub fn name(&self, offset: u32) -> &'static str {
        self.find(offset).map_or("reserved", |i| self.registers[i].name)
    }

    /// A host write: only writable bits change, write-1-to-clear bits clear. `None` at reserved offsets.
    pub fn write(&mut self, offset: u32, value: u32) -> Option<Written> {
        let i = self.find(offset)?;
        let register = &self.registers[i];
        let old = self.values[i];
        let kept = old & !register.writable & !(register.write_1_clears & value);
        let new = kept | value & register.writable;
        self.values[i] = new;
        Some(Written { old, new })
    }

    /// The value, for the host and for the hardware; 0 at reserved offsets.
    pub fn get(&self, offset: u32) -> u32 {
        self.find(offset).map_or(0, |i| self.values[i])
    }

    /// Sets a value from the hardware's side; reserved offsets stay reserved.
    pub fn set(&mut self, offset: u32, value: u32) {
        if let Some(i) = self.find(offset) {
            self.values[i] = value;
        }
    }

    /// Sets and clears bits from the hardware's side.
    pub fn update(&mut self, offset: u32, set: u32, clear: u32) {
        self.set(offset, self.get(offset) & !clear | set);
    }

    fn find(&self, offset: u32) -> Option<usize> {
        let place = *self.places.get(offset as usize / 4).filter(|_| offset.is_multiple_of(4))?;
        (place != RESERVED).then_some(place.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: &[(u32, &str)] = &[(0x00, "CONTROL"), (0x04, "STATUS"), (0x0c, "PLAIN"), (0x10, "LATCHED")];

    fn map() -> RegMap {
        RegMap::of(
            "test",
            NAMES,
            &[
                Register::rw(0x00, "").mask(0x0000_ff00).reset(0x8300_0002),
                Register::ro(0x04, "").reset(7),
                Register::rw(0x10, "").mask(0x0000_ffff).w1c(0x00ff_0000),
            ],
        )
    }

    #[test]
    fn writes_touch_only_what_they_may() {
        for (offset, before, written, after) in [
            (0x00, 0x8300_0002, 0xffff_ffff, 0x8300_ff02),
            (0x00, 0x8300_ff02, 0x0000_0000, 0x8300_0002),
            (0x04, 7, 0xffff_ffff, 7),
            (0x0c, 7, 0xffff_fff0, 0xffff_fff0),
            (0x10, 0x00ff_0000, 0x0001_1234, 0x00fe_1234),
            (0x10, 0x00fe_1234, 0x0000_0000, 0x00fe_0000),
            (0x08, 0, 0xffff_ffff, 0),
            (0xfffc, 0, 0xffff_ffff, 0),
        ] {
            let mut map = map();
            map.set(offset, before);
            map.write(offset, written);
            assert_eq!(map.get(offset), after, "{} <- {written:#x}", map.name(offset));
        }
    }

    #[test]
    fn reset_restores_and_names_are_those_of_the_table() {
        let mut map = map();
        assert_eq!(map.write(0, 0x100), Some(Written { old: 0x8300_0002, new: 0x8300_0102 }));
        assert_eq!(map.write(8, 1), None);
        map.reset();
        assert_eq!(map.get(0), 0x8300_0002);
        assert_eq!((map.name(4), map.name(8), map.name(0x4000)), ("STATUS", "reserved", "reserved"));
    }
}
