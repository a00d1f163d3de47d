//! The AKD1500's PCIe DMA engine: native register map in BAR 0 (hardware.md section 3.3).
//!
//! Only channel pairs 0 and 1 exist here: the blocks of the others lie where the translation unit is (hardware.md
//! section 20, trap 9). The stop and abort bits of the set-up register do not keep messages back, as the published
//! driver sets them and still gets interrupts.

use akida_hal::regs::edma::ChannelControl;
use akida_hal::regs::hdma::{self, CHANNELS, Interrupt, PAIR, READ_BLOCK};

use super::Message;
use super::channel::{Channel, Direction, Event};
use super::edma::{set_high, set_low};
use super::link::LinkEngine;
use super::regmap::{RegMap, Register};

const CCS: u32 = ChannelControl::CYCLE_STATE.bits();
const LLE: u32 = ChannelControl::LIST_ENABLE.bits();
/// Bit 1 of the cycle register: consumer cycle state.
const CYCLE_STATE: u32 = 1 << 1;

/// The engine.
pub struct Hdma {
    /// In the order of `channels`.
    registers: Vec<RegMap>,
    /// Write channels, then read channels.
    channels: Vec<Channel>,
}

impl Hdma {
    /// Two channel pairs, idle.
    pub fn new() -> Self {
        let both = Interrupt::BOTH.bits();
        let special = [
            Register::rw(hdma::ENABLE, "").mask(1),
            Register::ro(hdma::DOORBELL, ""),
            Register::rw(hdma::CYCLE, "").mask(3),
            Register::rw(hdma::CONTROL1, "").mask(1),
            Register::ro(hdma::STATUS, ""),
            Register::ro(hdma::INTERRUPT_STATUS, ""),
            Register::rw(hdma::INTERRUPT_SETUP, "").mask(0x7f).reset(both),
            Register::ro(hdma::INTERRUPT_CLEAR, ""),
        ];
        let channels: Vec<Channel> = [Direction::Write, Direction::Read]
            .into_iter()
            .flat_map(|d| (0..CHANNELS).map(move |n| Channel::new(d, n)))
            .collect();
        let registers = RegMap::of("hdma", hdma::NAMES, &special);
        Self { registers: vec![registers; channels.len()], channels }
    }

    fn locate(&self, offset: u32) -> Option<(usize, u32)> {
        let pair = (offset / PAIR) as usize;
        let base = if offset & READ_BLOCK == 0 { 0 } else { CHANNELS };
        (pair < CHANNELS).then_some((base + pair, offset % READ_BLOCK))
    }
}

impl LinkEngine for Hdma {
    fn name(&self, offset: u32) -> (&'static str, &'static str) {
        ("hdma", self.locate(offset).map_or("reserved", |(i, register)| self.registers[i].name(register)))
    }

    fn read(&mut self, offset: u32) -> u32 {
        let Some((i, register)) = self.locate(offset) else { return 0 };
        let channel = &self.channels[i];
        match register {
            hdma::LIST_LOW => channel.list as u32,
            hdma::LIST_HIGH => (channel.list >> 32) as u32,
            hdma::CYCLE => {
                self.registers[i].get(register) & 1 | if channel.control & CCS != 0 { CYCLE_STATE } else { 0 }
            }
            hdma::SIZE => channel.size,
            hdma::SAR_LOW => channel.source as u32,
            hdma::SAR_HIGH => (channel.source >> 32) as u32,
            hdma::DAR_LOW => channel.destination as u32,
            hdma::DAR_HIGH => (channel.destination >> 32) as u32,
            hdma::STATUS => channel.status() as u32,
            _ => self.registers[i].get(register),
        }
    }

    fn write(&mut self, offset: u32, value: u32) {
        let Some((i, register)) = self.locate(offset) else { return };
        let (registers, channel) = (&mut self.registers[i], &mut self.channels[i]);
        registers.write(register, value);
        match register {
            hdma::ENABLE if value & 1 == 0 => channel.halt(),
            hdma::DOORBELL if value & 1 != 0 && registers.get(hdma::ENABLE) & 1 != 0 => channel.start(),
            hdma::LIST_LOW => set_low(&mut channel.list, value),
            hdma::LIST_HIGH => set_high(&mut channel.list, value),
            hdma::CYCLE if value & CYCLE_STATE != 0 => channel.control |= CCS,
            hdma::CYCLE => channel.control &= !CCS,
            hdma::SIZE => channel.size = value,
            hdma::SAR_LOW => set_low(&mut channel.source, value),
            hdma::SAR_HIGH => set_high(&mut channel.source, value),
            hdma::DAR_LOW => set_low(&mut channel.destination, value),
            hdma::DAR_HIGH => set_high(&mut channel.destination, value),
            hdma::CONTROL1 if value & 1 != 0 => channel.control |= LLE,
            hdma::CONTROL1 => channel.control &= !LLE,
            hdma::INTERRUPT_CLEAR => registers.update(hdma::INTERRUPT_STATUS, 0, value),
            _ => {}
        }
    }

    fn channels(&mut self) -> &mut [Channel] {
        &mut self.channels
    }

    fn event(&mut self, index: usize, event: Event) -> Option<Message> {
        let registers = &mut self.registers[index];
        let (bit, enable, address) = match event {
            Event::Element { .. } => return None,
            Event::Stopped => (Interrupt::STOP, Interrupt::REMOTE_STOP, hdma::STOP_LOW),
            Event::Aborted(_) => (Interrupt::ABORT, Interrupt::REMOTE_ABORT, hdma::ABORT_LOW),
        };
        registers.update(hdma::INTERRUPT_STATUS, bit.bits(), 0);
        (registers.get(hdma::INTERRUPT_SETUP) & enable.bits() != 0).then(|| Message {
            address: (registers.get(address + 4) as u64) << 32 | registers.get(address) as u64,
            data: registers.get(hdma::MSI_DATA),
        })
    }

    fn reset(&mut self) {
        self.registers.iter_mut().for_each(RegMap::reset);
        self.channels.iter_mut().for_each(Channel::reset);
    }
}

#[cfg(test)]
mod tests {
    use akida_hal::regs::hdma::{read_channel, write_channel};

    use super::*;

    #[test]
    fn blocks_are_write_and_read_halves_of_pairs() {
        let mut hdma = Hdma::new();
        for (offset, index) in
            [(write_channel(0, 0), 0), (write_channel(1, 0), 1), (read_channel(0, 0), 2), (read_channel(1, 0), 3)]
        {
            hdma.write(offset + hdma::LIST_LOW, 0x40 + index);
            assert_eq!(hdma.channels[index as usize].list, 0x40 + index as u64);
        }
        hdma.write(write_channel(2, hdma::LIST_LOW), 9);
        assert_eq!(hdma.read(write_channel(2, hdma::LIST_LOW)), 0);
    }

    #[test]
    fn stop_and_abort_are_latched_and_cleared() {
        let mut hdma = Hdma::new();
        let at = |register| read_channel(1, register);
        hdma.write(at(hdma::STOP_LOW), 0xfee0_1000);
        hdma.write(at(hdma::MSI_DATA), 0x33);
        assert_eq!(hdma.event(3, Event::Stopped), None, "no remote enable");
        hdma.write(at(hdma::INTERRUPT_SETUP), Interrupt::START.bits());
        assert_eq!(hdma.event(3, Event::Stopped), Some(Message { address: 0xfee0_1000, data: 0x33 }));
        hdma.event(3, Event::Aborted(super::super::channel::Cause::Host));
        assert_eq!(hdma.read(at(hdma::INTERRUPT_STATUS)), 5);
        hdma.write(at(hdma::INTERRUPT_CLEAR), 1);
        assert_eq!(hdma.read(at(hdma::INTERRUPT_STATUS)), 4);
    }

    #[test]
    fn a_doorbell_starts_an_enabled_channel() {
        let mut hdma = Hdma::new();
        hdma.write(write_channel(0, hdma::DOORBELL), 1);
        assert_eq!(hdma.read(write_channel(0, hdma::STATUS)), 0);
        hdma.write(write_channel(0, hdma::ENABLE), 1);
        hdma.write(write_channel(0, hdma::CYCLE), hdma::CYCLE_START);
        hdma.write(write_channel(0, hdma::CONTROL1), 1);
        hdma.write(write_channel(0, hdma::DOORBELL), 1);
        assert_eq!(hdma.read(write_channel(0, hdma::STATUS)), hdma::RUNNING);
        assert_eq!(hdma.read(write_channel(0, hdma::CYCLE)), hdma::CYCLE_START);
        hdma.write(write_channel(0, hdma::ENABLE), 0);
        assert_eq!(hdma.read(write_channel(0, hdma::STATUS)), hdma::STOPPED);
    }
}
