//! One of the three Akida DMAs: its ring and its registers (hardware.md sections 8, 8.1 and 8.4).

use super::core;
use crate::descriptor;
use crate::regs::dma::{self, BufferEnd, Control, Monitor, MonitorStatus};
use crate::regs::top;
use crate::transport::Transport;
use crate::{Error, Result};

/// Descriptors in device memory, processed in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ring {
    /// Device address.
    pub base: u32,
    /// Slots, 2..=254.
    pub slots: u32,
}

/// A DMA controller; its registers are the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Controller {
    /// For messages.
    pub name: &'static str,
    /// Offset of the block in the top-level window.
    pub base: u32,
    /// Bytes of a ring slot.
    pub slot: u32,
    /// Whether output headers are written.
    pub header: bool,
}

/// Config packets to and from NPs.
pub const CONFIG: Controller =
    Controller { name: "config DMA", base: top::CONFIG_DMA, slot: descriptor::WORDS as u32 * 4, header: false };
/// Events in.
pub const EVENT: Controller =
    Controller { name: "event DMA", base: top::EVENT_DMA, slot: descriptor::WORDS as u32 * 4, header: true };
/// Dense input.
pub const HRC: Controller =
    Controller { name: "HRC DMA", base: top::HRC_DMA, slot: descriptor::HRC_WORDS as u32 * 4, header: true };

/// All ends masked.
const ALL_MASKED: Monitor =
    Monitor::MASK_OUTBOUND.union(Monitor::MASK_INBOUND).union(Monitor::MASK_EXTERNAL).union(Monitor::MASK_BURST);

/// Which end is told by an unmasked interrupt bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The output of one descriptor is written.
    Outbound,
    /// A burst of descriptors (a pass) is over.
    Burst,
}

impl Controller {
    pub fn read(&self, transport: &dyn Transport, register: u32) -> Result<u32> {
        core::read(transport, self.base + register)
    }

    pub fn write(&self, transport: &dyn Transport, register: u32, value: u32) -> Result<()> {
        core::write(transport, self.base + register, value)
    }

    /// Writes a register that holds what it is given, and where asked for makes sure that it does: writes are posted, and one
    /// that got lost here would show in wrong numbers, if at all.
    pub fn set(&self, transport: &dyn Transport, register: u32, value: u32, check: bool) -> Result<()> {
        core::set(transport, self.base + register, value, check)
    }

    /// Bytes of a ring of `slots`.
    pub fn ring_bytes(&self, slots: u32) -> usize {
        (self.slot * slots) as usize
    }

    /// Resets this controller. The only way to give it another ring (hardware.md section 20, trap 16).
    pub fn soft_reset(&self, transport: &dyn Transport) -> Result<()> {
        self.write(transport, dma::CONTROL, Control::SOFT_RESET.bits())
    }

    /// The default initialisation: reset, ring, header, one unmasked end, stopped with interrupts on.
    pub fn init(&self, transport: &dyn Transport, ring: Ring, end: End, monitor: Monitor, check: bool) -> Result<()> {
        self.soft_reset(transport)?;
        self.set(transport, dma::RING_BASE, ring.base, check)?;
        let size = dma::SLOT_SIZE.of(self.slot / 32) | dma::MAX_INDEX.of(ring.slots - 1);
        self.set(transport, dma::RING_SIZE, size, check)?;
        self.run(transport, false)?;
        let unmasked = match end {
            End::Outbound => Monitor::MASK_OUTBOUND,
            End::Burst => Monitor::MASK_BURST,
        };
        self.set(transport, dma::MONITOR_CONTROL, ((ALL_MASKED - unmasked) | monitor).bits(), check)
    }

    /// Starts or stops processing; interrupts and header as always.
    pub fn run(&self, transport: &dyn Transport, on: bool) -> Result<()> {
        let mut control = Control::WRITE_INFO_HEADER | Control::INTERRUPT;
        control.set(Control::WRITE_INFO, self.header);
        control.set(Control::RUN, on);
        self.write(transport, dma::CONTROL, control.bits() | dma::HEADER_SIZE.of(dma::HEADER_BYTES))
    }

    /// Selects when a job counts as over.
    pub fn set_buffer_end(&self, transport: &dyn Transport, end: BufferEnd, check: bool) -> Result<()> {
        let monitor = self.read(transport, dma::MONITOR_CONTROL)?;
        self.set(transport, dma::MONITOR_CONTROL, dma::BUFFER_END.set(monitor, end as u32), check)
    }

    /// Where the next descriptor goes: the last slot, the next one and its device address. The index after reset is 0xFF, so it is
    /// compared, not taken modulo (hardware.md section 8.1).
    pub fn next_slot(&self, transport: &dyn Transport, ring: Ring) -> Result<(u32, u32, u32)> {
        let last = dma::LAST.get(self.read(transport, dma::DESCRIPTOR)?);
        let next = match (last + 1) & dma::LAST.max() {
            next if next < ring.slots => next,
            _ => 0,
        };
        Ok((last, next, ring.base + next * self.slot))
    }

    /// Hands all slots from the one after `before` to `last` over, once their descriptors are in memory.
    ///
    /// # Errors
    /// [`Error::Register`] when the controller's last slot is not `before`: what it would work on is not what is meant.
    pub fn hand_over(&self, transport: &dyn Transport, before: u32, last: u32) -> Result<()> {
        let value = self.read(transport, dma::DESCRIPTOR)?;
        if dma::LAST.get(value) != before {
            let (board, expected) = (transport.identity().to_string(), format!("last container {before:#x}"));
            return Err(Error::Register { board, register: "Akida DMA DESCRIPTOR", value, expected });
        }
        self.write(transport, dma::DESCRIPTOR, dma::LAST.set(value, last))
    }

    /// An end in the latched status is the only sign of the next job's, so that of the one before must be gone, should the write that
    /// cleared it have got lost: it is cleared once more.
    ///
    /// # Errors
    /// [`Error::Register`] when it stays.
    pub fn check_cleared(&self, transport: &dyn Transport, end: MonitorStatus) -> Result<()> {
        let stays =
            || self.read(transport, dma::MONITOR_STATUS).map(|status| Some(status).filter(|s| s & end.bits() != 0));
        if stays()?.is_none() {
            return Ok(());
        }
        self.clear(transport)?;
        let Some(value) = stays()? else { return Ok(()) };
        let board = transport.identity().to_string();
        let expected = format!("the last end of the {} clear after it was cleared", self.name);
        Err(Error::Register { board, register: "Akida DMA MONITOR_STATUS", value, expected })
    }

    /// Clears the latched status.
    pub fn clear(&self, transport: &dyn Transport) -> Result<()> {
        let monitor = self.read(transport, dma::MONITOR_CONTROL)?;
        self.write(transport, dma::MONITOR_CONTROL, monitor | Monitor::STATUS_CLEAR.bits())
    }
}

/// Writes device memory, and where asked for reads it back.
pub fn put(transport: &dyn Transport, address: u32, bytes: &[u8], verify: bool) -> Result<()> {
    transport.write(address, bytes)?;
    if !verify {
        return Ok(());
    }
    let mut read = vec![0; bytes.len()];
    transport.read(address, &mut read)?;
    compare(transport, address, bytes, &read)
}

/// Refuses device memory that does not hold what was written.
pub fn compare(transport: &dyn Transport, address: u32, wrote: &[u8], read: &[u8]) -> Result<()> {
    // All at once first: mostly they are.
    if wrote == read {
        return Ok(());
    }
    let Some(i) = wrote.iter().zip(read).position(|(a, b)| a != b) else { return Ok(()) };
    let word = |bytes: &[u8]| bytes[i..].iter().take(4).rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
    Err(Error::ReadBack {
        board: transport.identity().to_string(),
        what: format!("device memory {address:#010x}"),
        offset: i as u64,
        wrote: word(wrote),
        read: word(read),
    })
}

/// Words as they lie in device memory.
pub fn bytes(words: &[u32]) -> Vec<u8> {
    let mut bytes = vec![0; words.len() * 4];
    for (to, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(words) {
        *to = word.to_le_bytes();
    }
    bytes
}
