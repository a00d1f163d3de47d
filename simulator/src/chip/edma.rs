//! The AKD1000's PCIe DMA engine: legacy register map with a channel viewport (hardware.md section 3.2).
//!
//! Deduced or ours: a masked channel latches status but sends no message; error status bits; abort messages do not need
//! the remote half of the list error enable, which the published driver never sets.

use akida_hal::regs::edma::{self, CHANNEL, CHANNELS, ChannelControl, READ, Side, VIEWPORT_READ, WRITE};

use super::Message;
use super::channel::{Cause, Channel, Direction, Event};
use super::link::LinkEngine;
use super::regmap::{RegMap, Register};

/// Bits of control 1 that can be written; the status bits are the channel's.
const CONTROL_WRITABLE: u32 = ChannelControl::all().bits();

/// The engine.
pub struct Edma {
    registers: RegMap,
    /// Write channels, then read channels.
    channels: Vec<Channel>,
}

impl Edma {
    /// Two write and two read channels, idle.
    pub fn new() -> Self {
        let all = edma::ALL;
        let special = [
            Register::ro(edma::CONTROL, "").reset(CHANNELS as u32 | (CHANNELS as u32) << 16),
            Register::rw(edma::WRITE_ENABLE, "").mask(1),
            Register::rw(edma::READ_ENABLE, "").mask(1),
            Register::ro(edma::WRITE_STATUS, ""),
            Register::ro(edma::READ_STATUS, ""),
            Register::rw(edma::WRITE_MASK, "").mask(all),
            Register::rw(edma::READ_MASK, "").mask(all),
            Register::ro(edma::WRITE_CLEAR, ""),
            Register::ro(edma::READ_CLEAR, ""),
            Register::ro(edma::WRITE_ERROR, ""),
            Register::ro(edma::READ_ERROR_LOW, ""),
            Register::ro(edma::READ_ERROR_HIGH, ""),
            Register::ro(edma::WRITE_DOORBELL, ""),
            Register::ro(edma::READ_DOORBELL, ""),
            Register::rw(edma::VIEWPORT, "").mask(VIEWPORT_READ.mask() | CHANNEL.mask()),
        ];
        Self {
            registers: RegMap::of("edma", edma::NAMES, &special),
            channels: [Direction::Write, Direction::Read]
                .into_iter()
                .flat_map(|d| (0..CHANNELS).map(move |n| Channel::new(d, n)))
                .collect(),
        }
    }

    fn window(&mut self) -> Option<&mut Channel> {
        let viewport = self.registers.get(edma::VIEWPORT);
        let number = CHANNEL.get(viewport) as usize;
        let base = if VIEWPORT_READ.any(viewport) { CHANNELS } else { 0 };
        (number < CHANNELS).then(|| &mut self.channels[base + number])
    }

    fn doorbell(&mut self, side: &Side, value: u32) {
        let number = CHANNEL.get(value) as usize;
        if number < CHANNELS && self.registers.get(side.enable) & 1 != 0 {
            self.channels[side_base(side) + number].start();
        }
    }

    fn clear(&mut self, side: &Side, bits: u32) {
        self.registers.update(side.status, 0, bits);
        let aborts = edma::ABORT.get(bits);
        if *side == WRITE {
            self.registers.update(edma::WRITE_ERROR, 0, aborts | aborts << 16);
        } else {
            self.registers.update(edma::READ_ERROR_LOW, 0, aborts | aborts << 16);
            self.registers.update(edma::READ_ERROR_HIGH, 0, aborts | aborts << 8 | aborts << 16 | aborts << 24);
        }
    }

    /// Error status as a DesignWare engine sorts it: list and device-side errors apart, host-side ones only for reads.
    fn error(&mut self, side: &Side, number: usize, cause: Cause) {
        let bit = 1 << number;
        match (*side == WRITE, cause) {
            (true, Cause::List | Cause::Endless) => self.registers.update(edma::WRITE_ERROR, bit << 16, 0),
            (true, _) => self.registers.update(edma::WRITE_ERROR, bit, 0),
            (false, Cause::List | Cause::Endless) => self.registers.update(edma::READ_ERROR_LOW, bit << 16, 0),
            (false, Cause::Local) => self.registers.update(edma::READ_ERROR_LOW, bit, 0),
            (false, Cause::Host) => self.registers.update(edma::READ_ERROR_HIGH, bit, 0),
            (false, Cause::Injected) => self.registers.update(edma::READ_ERROR_HIGH, bit << 8, 0),
        }
    }

    fn message(&self, side: &Side, number: usize, address: u32) -> Message {
        let pair = self.registers.get(side.data + 4 * (number as u32 / 2));
        Message {
            address: (self.registers.get(address + 4) as u64) << 32 | self.registers.get(address) as u64,
            data: pair >> (16 * (number % 2)) & 0xffff,
        }
    }
}

fn side_base(side: &Side) -> usize {
    if *side == WRITE { 0 } else { CHANNELS }
}

impl LinkEngine for Edma {
    fn name(&self, offset: u32) -> (&'static str, &'static str) {
        ("edma", self.registers.name(offset))
    }

    fn read(&mut self, offset: u32) -> u32 {
        if offset < edma::CHANNEL_CONTROL1 {
            return self.registers.get(offset);
        }
        let Some(channel) = self.window() else { return 0 };
        match offset {
            edma::CHANNEL_CONTROL1 => channel.control | edma::CHANNEL_STATUS.of(channel.status() as u32),
            edma::CHANNEL_SIZE => channel.size,
            edma::CHANNEL_SAR_LOW => channel.source as u32,
            edma::CHANNEL_SAR_HIGH => (channel.source >> 32) as u32,
            edma::CHANNEL_DAR_LOW => channel.destination as u32,
            edma::CHANNEL_DAR_HIGH => (channel.destination >> 32) as u32,
            edma::CHANNEL_LIST_LOW => channel.list as u32,
            edma::CHANNEL_LIST_HIGH => (channel.list >> 32) as u32,
            _ => 0,
        }
    }

    fn write(&mut self, offset: u32, value: u32) {
        match offset {
            edma::WRITE_DOORBELL => self.doorbell(&WRITE, value),
            edma::READ_DOORBELL => self.doorbell(&READ, value),
            edma::WRITE_CLEAR => self.clear(&WRITE, value),
            edma::READ_CLEAR => self.clear(&READ, value),
            edma::WRITE_ENABLE | edma::READ_ENABLE => {
                self.registers.write(offset, value);
                if value & 1 == 0 {
                    let base = if offset == edma::WRITE_ENABLE { 0 } else { CHANNELS };
                    self.channels[base..base + CHANNELS].iter_mut().for_each(Channel::halt);
                }
            }
            edma::CHANNEL_CONTROL1.. => {
                let Some(channel) = self.window() else { return };
                match offset {
                    edma::CHANNEL_CONTROL1 => channel.control = value & CONTROL_WRITABLE,
                    edma::CHANNEL_SIZE => channel.size = value,
                    edma::CHANNEL_SAR_LOW => set_low(&mut channel.source, value),
                    edma::CHANNEL_SAR_HIGH => set_high(&mut channel.source, value),
                    edma::CHANNEL_DAR_LOW => set_low(&mut channel.destination, value),
                    edma::CHANNEL_DAR_HIGH => set_high(&mut channel.destination, value),
                    edma::CHANNEL_LIST_LOW => set_low(&mut channel.list, value),
                    edma::CHANNEL_LIST_HIGH => set_high(&mut channel.list, value),
                    _ => {}
                }
            }
            _ => {
                self.registers.write(offset, value);
            }
        }
    }

    fn channels(&mut self) -> &mut [Channel] {
        &mut self.channels
    }

    fn event(&mut self, index: usize, event: Event) -> Option<Message> {
        let (side, number) = if index < CHANNELS { (&WRITE, index) } else { (&READ, index - CHANNELS) };
        let (bit, address, remote) = match event {
            Event::Element { local: false, remote: false } | Event::Stopped => return None,
            Event::Element { remote, .. } => (1 << number, side.done_address, remote),
            Event::Aborted(cause) => {
                self.error(side, number, cause);
                (1 << (16 + number), side.abort_address, true)
            }
        };
        self.registers.update(side.status, bit, 0);
        (remote && self.registers.get(side.mask) & bit == 0).then(|| self.message(side, number, address))
    }

    fn reset(&mut self) {
        self.registers.reset();
        self.channels.iter_mut().for_each(Channel::reset);
    }
}

/// Replaces the low half of an address.
pub(super) fn set_low(address: &mut u64, value: u32) {
    *address = *address & !0xffff_ffff | value as u64;
}

/// Replaces the high half of an address.
pub(super) fn set_high(address: &mut u64, value: u32) {
    *address = *address & 0xffff_ffff | (value as u64) << 32;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_viewport_selects_channels() {
        let mut edma = Edma::new();
        assert_eq!(edma.read(edma::CONTROL), 0x0002_0002);
        for (viewport, list) in [(0u32, 0x10), (1, 0x11), (1 << 31, 0x20), (1 << 31 | 1, 0x21)] {
            edma.write(edma::VIEWPORT, viewport);
            edma.write(edma::CHANNEL_LIST_LOW, list);
            edma.write(edma::CHANNEL_LIST_HIGH, list + 1);
        }
        assert_eq!(
            edma.channels.iter().map(|c| c.list).collect::<Vec<_>>(),
            [0x11_0000_0010, 0x12_0000_0011, 0x21_0000_0020, 0x22_0000_0021]
        );
        edma.write(edma::VIEWPORT, 7);
        edma.write(edma::CHANNEL_LIST_LOW, 5);
        assert_eq!(edma.read(edma::CHANNEL_LIST_LOW), 0, "channel 7 does not exist");
    }

    #[test]
    fn status_mask_and_clear_work_per_channel() {
        let mut edma = Edma::new();
        edma.write(edma::READ_DONE_LOW, 0xfee0_0000);
        edma.write(edma::READ_DATA_01, 0x0022_0011);
        let done = Event::Element { local: true, remote: true };
        assert_eq!(edma.event(3, done), Some(Message { address: 0xfee0_0000, data: 0x22 }));
        assert_eq!(edma.read(edma::READ_STATUS), 0b10);
        edma.write(edma::READ_MASK, 1);
        assert_eq!(edma.event(2, done), None, "masked");
        assert_eq!(edma.read(edma::READ_STATUS), 0b11, "but latched");
        edma.event(2, Event::Aborted(Cause::Host));
        assert_eq!((edma.read(edma::READ_STATUS), edma.read(edma::READ_ERROR_HIGH)), (0x1_0003, 1));
        edma.write(edma::READ_CLEAR, 0x1_0001);
        assert_eq!((edma.read(edma::READ_STATUS), edma.read(edma::READ_ERROR_HIGH)), (2, 0));
        assert_eq!(edma.read(edma::WRITE_STATUS), 0);
    }

    #[test]
    fn a_doorbell_needs_the_engine_enabled() {
        let mut edma = Edma::new();
        edma.write(edma::WRITE_DOORBELL, 0);
        assert_eq!(edma.read(edma::CHANNEL_CONTROL1), 0);
        edma.write(edma::WRITE_ENABLE, 1);
        edma.write(edma::WRITE_DOORBELL, 0);
        assert_eq!(edma::CHANNEL_STATUS.get(edma.read(edma::CHANNEL_CONTROL1)), edma::RUNNING);
        edma.write(edma::WRITE_ENABLE, 0);
        assert_eq!(edma::CHANNEL_STATUS.get(edma.read(edma::CHANNEL_CONTROL1)), edma::STOPPED);
    }
}
