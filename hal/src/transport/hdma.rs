//! The native HDMA of the AKD1500 (hardware.md section 3.3).

use super::engine::{ChannelId, Engine, HALT_LIMIT, MESSAGES, Progress, Way};
use super::io::Io;
use super::msi::Message;
use crate::Result;
use crate::board::Bar;
use crate::regs::hdma::{self, Interrupt};
use crate::wait::Wait;

/// The register blocks in BAR0.
pub struct Hdma;

fn at(channel: ChannelId, register: u32) -> u32 {
    match channel.way {
        Way::ToDevice => hdma::read_channel(channel.number, register),
        Way::ToHost => hdma::write_channel(channel.number, register),
    }
}

fn read(io: &Io, channel: ChannelId, register: u32) -> Result<u32> {
    io.read(Bar::Bar0, at(channel, register))
}

fn write(io: &Io, channel: ChannelId, register: u32, value: u32) -> Result<()> {
    io.write(Bar::Bar0, at(channel, register), value)
}

/// The channels that are used. The kernel driver also disables pairs 2..=7, whose blocks overlap the iATU (hardware.md
/// section 20, trap 9); nothing ever enables them, so they are left alone here.
fn used() -> impl Iterator<Item = ChannelId> {
    (0..hdma::CHANNELS as u32).flat_map(|number| [Way::ToHost, Way::ToDevice].map(|way| ChannelId { way, number }))
}

impl Engine for Hdma {
    fn channels(&self) -> usize {
        hdma::CHANNELS
    }

    fn message(&self, channel: ChannelId) -> usize {
        channel.number as usize * 2 + usize::from(channel.way == Way::ToDevice)
    }

    fn quiet(&self, io: &Io) -> Result<()> {
        for channel in used() {
            write(io, channel, hdma::INTERRUPT_SETUP, Interrupt::BOTH.bits())?;
            write(io, channel, hdma::INTERRUPT_CLEAR, Interrupt::BOTH.bits())?;
            write(io, channel, hdma::ENABLE, 0)?;
        }
        Ok(())
    }

    fn arm(&self, io: &Io, messages: &[Message; MESSAGES]) -> Result<()> {
        for channel in used() {
            let message = messages[self.message(channel)];
            for base in [hdma::STOP_LOW, hdma::ABORT_LOW] {
                write(io, channel, base, message.address as u32)?;
                write(io, channel, base + 4, (message.address >> 32) as u32)?;
            }
            write(io, channel, hdma::MSI_DATA, message.data.into())?;
            let setup = read(io, channel, hdma::INTERRUPT_SETUP)?;
            write(io, channel, hdma::INTERRUPT_SETUP, setup | Interrupt::START.bits())?;
            // The same for every list.
            write(io, channel, hdma::ENABLE, 1)?;
            write(io, channel, hdma::CONTROL1, 1)?;
            write(io, channel, hdma::LIST_HIGH, 0)?;
        }
        Ok(())
    }

    fn running(&self, io: &Io, channel: ChannelId) -> Result<bool> {
        Ok(hdma::CHANNEL_STATUS.get(read(io, channel, hdma::STATUS)?) == hdma::RUNNING)
    }

    fn load(&self, io: &Io, channel: ChannelId, list: u32) -> Result<()> {
        write(io, channel, hdma::LIST_LOW, list)?;
        write(io, channel, hdma::CYCLE, hdma::CYCLE_START)
    }

    fn loaded(&self, io: &Io, channel: ChannelId) -> Result<u32> {
        read(io, channel, hdma::LIST_LOW)
    }

    fn ring(&self, io: &Io, channel: ChannelId) -> Result<()> {
        write(io, channel, hdma::DOORBELL, 1)
    }

    fn status(&self, io: &Io, channel: ChannelId) -> Result<u32> {
        read(io, channel, hdma::INTERRUPT_STATUS)
    }

    fn progress(&self, _: ChannelId, status: u32) -> Progress {
        let status = Interrupt::from_bits_truncate(status);
        if status.contains(Interrupt::ABORT) {
            Progress::Aborted
        } else if status.contains(Interrupt::STOP) {
            Progress::Done
        } else {
            Progress::Running
        }
    }

    fn acknowledge(&self, io: &Io, channel: ChannelId) -> Result<()> {
        write(io, channel, hdma::INTERRUPT_CLEAR, Interrupt::BOTH.bits())
    }

    fn error_status(&self, io: &Io, channel: ChannelId) -> Result<u32> {
        read(io, channel, hdma::STATUS)
    }

    fn halt(&self, io: &Io, channel: ChannelId) -> Result<()> {
        write(io, channel, hdma::ENABLE, 0)?;
        let what = format_args!("stop of DMA {channel}");
        Wait::new(&*io.board, what, HALT_LIMIT)
            .until(|| Ok(u32::from(self.running(io, channel)?)), |running| running == 0)?;
        write(io, channel, hdma::INTERRUPT_CLEAR, Interrupt::BOTH.bits())?;
        write(io, channel, hdma::ENABLE, 1)
    }
}
