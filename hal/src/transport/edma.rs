//! The legacy eDMA of the AKD1000 (hardware.md section 3.2).

use std::sync::{Mutex, PoisonError};

use super::engine::{ChannelId, Engine, HALT_LIMIT, MESSAGES, Progress, Way};
use super::io::Io;
use super::msi::Message;
use crate::Result;
use crate::board::Bar;
use crate::regs::edma::{self, ChannelControl, Side};
use crate::wait::Wait;

/// The register block in BAR2.
pub struct Edma {
    /// What the channel window shows, as far as is known. Selecting a channel and touching its registers belong together.
    viewport: Mutex<Option<u32>>,
}

fn side(way: Way) -> &'static Side {
    match way {
        Way::ToDevice => &edma::READ,
        Way::ToHost => &edma::WRITE,
    }
}

fn read(io: &Io, register: u32) -> Result<u32> {
    io.read(Bar::Bar2, edma::BAR2_BASE + register)
}

fn write(io: &Io, register: u32, value: u32) -> Result<()> {
    io.write(Bar::Bar2, edma::BAR2_BASE + register, value)
}

impl Edma {
    pub fn new() -> Self {
        Self { viewport: Mutex::new(None) }
    }

    /// Runs `f` while the channel window shows `channel`; it is not selected again where it is already.
    fn window<T>(&self, io: &Io, channel: ChannelId, f: impl FnOnce() -> Result<T>) -> Result<T> {
        let mut shown = self.viewport.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = side(channel.way).viewport | edma::CHANNEL.of(channel.number);
        if *shown != Some(wanted) {
            *shown = None;
            write(io, edma::VIEWPORT, wanted)?;
            *shown = Some(wanted);
        }
        f()
    }

    /// After a failure nothing is believed of it.
    fn forget(&self) {
        *self.viewport.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn bits(channel: ChannelId) -> u32 {
    edma::DONE.of(1 << channel.number) | edma::ABORT.of(1 << channel.number)
}

/// Bits of all channels that are used.
fn used() -> u32 {
    let channels = (1 << edma::CHANNELS) - 1;
    edma::DONE.of(channels) | edma::ABORT.of(channels)
}

impl Engine for Edma {
    fn channels(&self) -> usize {
        edma::CHANNELS
    }

    /// A direction has one address for the messages of its channels.
    fn message(&self, channel: ChannelId) -> usize {
        match channel.way {
            Way::ToHost => 0,
            Way::ToDevice => 1,
        }
    }

    fn quiet(&self, io: &Io) -> Result<()> {
        self.forget();
        for side in [&edma::WRITE, &edma::READ] {
            write(io, side.mask, edma::ALL)?;
            write(io, side.clear, edma::ALL)?;
            write(io, side.enable, 0)?;
        }
        Ok(())
    }

    /// Enables, unmasks and sets list errors once for both channels, where the kernel driver repeats it before each transfer:
    /// nothing changes these registers in between. The same goes for the high half of list addresses, which is 0.
    fn arm(&self, io: &Io, messages: &[Message; MESSAGES]) -> Result<()> {
        for (side, message) in [&edma::WRITE, &edma::READ].into_iter().zip(messages) {
            for base in [side.done_address, side.abort_address] {
                write(io, base, message.address as u32)?;
                write(io, base + 4, (message.address >> 32) as u32)?;
            }
            write(io, side.data, u32::from(message.data) << 16 | u32::from(message.data))?;
            write(io, side.enable, 1)?;
            let mask = read(io, side.mask)?;
            write(io, side.mask, mask & !used())?;
            let errors = read(io, side.list_error)?;
            write(io, side.list_error, errors | ((1 << edma::CHANNELS) - 1))?;
        }
        for way in [Way::ToHost, Way::ToDevice] {
            for number in 0..edma::CHANNELS as u32 {
                self.window(io, ChannelId { way, number }, || write(io, edma::CHANNEL_LIST_HIGH, 0))?;
            }
        }
        Ok(())
    }

    fn running(&self, io: &Io, channel: ChannelId) -> Result<bool> {
        let control = self.window(io, channel, || read(io, edma::CHANNEL_CONTROL1))?;
        Ok(edma::CHANNEL_STATUS.get(control) == edma::RUNNING)
    }

    fn load(&self, io: &Io, channel: ChannelId, list: u32) -> Result<()> {
        let control = ChannelControl::CYCLE_STATE | ChannelControl::LIST_ENABLE;
        self.window(io, channel, || {
            write(io, edma::CHANNEL_CONTROL1, control.bits())?;
            write(io, edma::CHANNEL_LIST_LOW, list)
        })
    }

    fn loaded(&self, io: &Io, channel: ChannelId) -> Result<u32> {
        self.window(io, channel, || read(io, edma::CHANNEL_LIST_LOW))
    }

    fn ring(&self, io: &Io, channel: ChannelId) -> Result<()> {
        write(io, side(channel.way).doorbell, edma::CHANNEL.of(channel.number))
    }

    fn status(&self, io: &Io, channel: ChannelId) -> Result<u32> {
        read(io, side(channel.way).status)
    }

    fn progress(&self, channel: ChannelId, status: u32) -> Progress {
        if edma::ABORT.get(status) & 1 << channel.number != 0 {
            Progress::Aborted
        } else if edma::DONE.get(status) & 1 << channel.number != 0 {
            Progress::Done
        } else {
            Progress::Running
        }
    }

    fn acknowledge(&self, io: &Io, channel: ChannelId) -> Result<()> {
        write(io, side(channel.way).clear, bits(channel))
    }

    fn error_status(&self, io: &Io, channel: ChannelId) -> Result<u32> {
        match channel.way {
            Way::ToDevice => read(io, edma::READ_ERROR_LOW),
            Way::ToHost => read(io, edma::WRITE_ERROR),
        }
    }

    /// Switching the engine off is the only public way to stop a channel; it stops its whole direction.
    fn halt(&self, io: &Io, channel: ChannelId) -> Result<()> {
        let side = side(channel.way);
        self.forget();
        write(io, side.enable, 0)?;
        let what = format_args!("stop of DMA {channel}");
        Wait::new(&*io.board, what, HALT_LIMIT)
            .until(|| Ok(u32::from(self.running(io, channel)?)), |running| running == 0)?;
        write(io, side.clear, used())?;
        write(io, side.enable, 1)
    }
}
