//! The PCIe DMA engine at work: list elements into pieces to move, events into status and messages.

use std::sync::Arc;
use std::time::Duration;

use akida_hal::board::Chip as ChipKind;
use akida_hal::memory_map::{DBI, TOP};

use super::bus::HostMemory;
use super::channel::{Cause, Channel, Direction, Event, Status, Transfer};
use super::map::{DBI_LEN, TOP_LEN, within};
use super::memory::DeviceMemory;
use super::{Chip, Message, Presence, Sent};
use crate::faults::{FaultKind, Occasion};

/// The register file of a PCIe DMA engine over its channels.
pub(super) trait LinkEngine: Send {
    /// Block and register name.
    fn name(&self, offset: u32) -> (&'static str, &'static str);
    fn read(&mut self, offset: u32) -> u32;
    fn write(&mut self, offset: u32, value: u32);
    /// Write channels, then read channels.
    fn channels(&mut self) -> &mut [Channel];
    /// What a channel's event does to status; the message it sends, if any.
    fn event(&mut self, index: usize, event: Event) -> Option<Message>;
    fn reset(&mut self);
}

/// Bytes to move between host and device for the PCIe DMA engine.
pub struct LinkWork {
    transfer: Transfer,
    index: usize,
    action: LinkAction,
    memory: Arc<DeviceMemory>,
    /// What is moved, at the beginning of memory that is used again.
    bytes: Vec<u8>,
}

#[derive(Clone, Copy)]
enum LinkAction {
    /// Device bytes to the host.
    Write,
    /// Host bytes to the device.
    Read,
    /// Straight to or from device memory, from this address on.
    Straight(u32),
    /// The device side is a window to the host itself: (from, to).
    Copy(u64, u64),
}

impl LinkWork {
    /// Moves the host's side of it. Needs no chip.
    pub fn run(&mut self, host: &dyn HostMemory) -> Result<(), Cause> {
        let Transfer { direction, host: iova, len, .. } = self.transfer;
        let len = len as usize;
        let bytes = &mut self.bytes[..];
        match (self.action, direction) {
            (LinkAction::Write, _) => host.write(iova, &bytes[..len])?,
            (LinkAction::Read, _) => host.read(iova, &mut bytes[..len])?,
            (LinkAction::Copy(from, to), _) => {
                host.read(from, &mut bytes[..len])?;
                host.write(to, &bytes[..len])?;
            }
            (LinkAction::Straight(address), Direction::Write) => {
                let piece = |place: usize, bytes: &[u8]| Ok(host.write(iova.wrapping_add(place as u64), bytes)?);
                self.memory.show::<Cause>(address, len, piece)?;
            }
            (LinkAction::Straight(address), Direction::Read) => {
                let piece = |place: usize, bytes: &mut [u8]| Ok(host.read(iova.wrapping_add(place as u64), bytes)?);
                self.memory.fill::<Cause>(address, len, piece)?;
            }
        }
        Ok(())
    }

    /// Bytes it moves.
    pub fn len(&self) -> u32 {
        self.transfer.len
    }

    /// Never true.
    pub fn is_empty(&self) -> bool {
        self.transfer.len == 0
    }
}

/// Bytes of a list element.
const ELEMENT: usize = 24;

/// What the device's side of a transfer is.
enum Local {
    /// Its own; those that the host gets were taken.
    Bytes,
    /// Its own, in memory, and nothing was taken.
    Memory(u32),
    Host(u64),
}

impl Chip {
    /// The next bytes the PCIe DMA engine wants to move. Channels take turns. `straight`: they are moved before anybody else comes to
    /// the chip, and by a host that answers at once, so that they need not be taken out of memory for that.
    pub fn link_work(&mut self, straight: bool) -> Option<LinkWork> {
        if self.presence != Presence::Here {
            return None;
        }
        let channels = self.link.channels().len();
        for turn in 0..channels {
            let index = (self.next_channel + turn) % channels;
            while let Some(transfer) = self.next_transfer(index) {
                if let Some(work) = self.prepare(index, transfer, straight) {
                    self.next_channel = index + 1;
                    return Some(work);
                }
            }
        }
        None
    }

    fn next_transfer(&mut self, index: usize) -> Option<Transfer> {
        let channel = &self.link.channels()[index];
        if channel.status() != Status::Running {
            return None;
        }
        let list = channel.list;
        self.reads(list, ELEMENT);
        let (memory, faults) = (&self.memory, &mut self.faults);
        let mut events = Vec::new();
        let fetch = |at: u64| {
            let mut bytes = [0; ELEMENT];
            let at = u32::try_from(at).ok()?;
            // A link element fills only 16 bytes of its slot.
            if memory.read(at, &mut bytes).is_err() {
                memory.read(at, &mut bytes[..16]).ok()?;
            }
            for fault in faults.on(Occasion::Element) {
                if let FaultKind::FlipElement { word, bits } = fault {
                    let at = usize::from(word) * 4;
                    for (byte, flip) in bytes[at..at + 4].iter_mut().zip(bits.to_le_bytes()) {
                        *byte ^= flip;
                    }
                }
            }
            Some(bytes)
        };
        let transfer = self.link.channels()[index].next(fetch, &mut events);
        self.raise(index, events);
        transfer
    }

    /// Finds the device's side of a transfer, or ends the channel.
    fn prepare(&mut self, index: usize, transfer: Transfer, straight: bool) -> Option<LinkWork> {
        for fault in self.faults.on(Occasion::Transfer) {
            match fault {
                FaultKind::StallLink => {
                    self.link.channels()[index].stall();
                    return None;
                }
                FaultKind::AbortLink => {
                    self.finish(index, &transfer, Err(Cause::Injected));
                    return None;
                }
                _ => {}
            }
        }
        if !self.config.bus_master() {
            self.finish(index, &transfer, Err(Cause::Host));
            return None;
        }
        let mut bytes = std::mem::take(&mut self.moved);
        let action = match (transfer.direction, self.local(&transfer, straight, &mut bytes)) {
            (_, Some(Local::Memory(address))) => LinkAction::Straight(address),
            (Direction::Write, Some(Local::Bytes)) => LinkAction::Write,
            (Direction::Write, Some(Local::Host(from))) => LinkAction::Copy(from, transfer.host),
            (Direction::Read, Some(Local::Bytes)) => LinkAction::Read,
            (Direction::Read, Some(Local::Host(to))) => LinkAction::Copy(transfer.host, to),
            (_, None) => {
                self.finish(index, &transfer, Err(Cause::Local));
                return None;
            }
        };
        Some(LinkWork { transfer, index, action, memory: self.memory.clone(), bytes })
    }

    /// The device's side: bytes (a read channel only asks whether they can be written) or a window.
    fn local(&mut self, transfer: &Transfer, straight: bool, bytes: &mut Vec<u8>) -> Option<Local> {
        let (address, len) = (u32::try_from(transfer.local).ok()?, transfer.len as usize);
        let writing = transfer.direction == Direction::Read;
        let memory = self.memory.contains(address, len);
        if memory && straight {
            match writing {
                true => self.writes(address.into(), len),
                false => self.reads(address.into(), len),
            }
            return Some(Local::Memory(address));
        }
        bytes.resize(bytes.len().max(len), 0);
        let bytes = &mut bytes[..len];
        if memory {
            if !writing {
                self.reads(address.into(), len);
                self.memory.read(address, bytes).ok()?;
            }
            return Some(Local::Bytes);
        }
        if let Some((iova, room)) = self.iatu.outbound(address) {
            return (room >= len as u64).then_some(Local::Host(iova));
        }
        // Registers: whole words only.
        let last = address.checked_add(transfer.len - 1)?;
        let registers = |base, size| within(address, base, size).is_some() && within(last, base, size).is_some();
        let dbi = self.kind != ChipKind::Akd1500 && registers(DBI, DBI_LEN);
        if !(dbi || registers(TOP, TOP_LEN)) || !address.is_multiple_of(4) || !len.is_multiple_of(4) {
            return None;
        }
        if !writing {
            for (at, word) in (address..).step_by(4).zip(bytes.as_chunks_mut::<4>().0) {
                *word = self.device_read(at.into()).to_le_bytes();
            }
        }
        Some(Local::Bytes)
    }

    /// Gives moved bytes back.
    pub fn link_done(&mut self, work: LinkWork, result: Result<(), Cause>) {
        let LinkWork { transfer, index, action, bytes, .. } = work;
        self.moved_back(transfer, index, action, &bytes, result);
        self.moved = bytes;
    }

    fn moved_back(
        &mut self,
        transfer: Transfer,
        index: usize,
        action: LinkAction,
        bytes: &[u8],
        result: Result<(), Cause>,
    ) {
        if !self.link.channels()[index].awaits(&transfer) {
            return;
        }
        let result = match action {
            LinkAction::Read => result.and_then(|()| self.store(transfer.local, &bytes[..transfer.len as usize])),
            LinkAction::Straight(_) => {
                self.attention |= transfer.direction == Direction::Read;
                result
            }
            LinkAction::Write | LinkAction::Copy(..) => result,
        };
        if result.is_ok() {
            self.counters.transfers += 1;
            self.counters.transferred_bytes += u64::from(transfer.len);
            log::trace!(
                target: "akida::sim::dma", "{:?} channel {}: {} bytes, host {:#x}, device {:#x}",
                transfer.direction, transfer.channel, transfer.len, transfer.host, transfer.local
            );
        }
        self.finish(index, &transfer, result);
    }

    fn store(&mut self, local: u64, bytes: &[u8]) -> Result<(), Cause> {
        self.attention = true;
        let address = u32::try_from(local).map_err(|_| Cause::Local)?;
        self.writes(local, bytes.len());
        if self.memory.write(address, bytes).is_err() {
            for (i, word) in bytes.as_chunks::<4>().0.iter().enumerate() {
                self.device_write(local + 4 * i as u64, u32::from_le_bytes(*word));
            }
        }
        Ok(())
    }

    fn finish(&mut self, index: usize, transfer: &Transfer, result: Result<(), Cause>) {
        let mut events = Vec::new();
        self.link.channels()[index].finish(transfer, result, &mut events);
        self.raise(index, events);
        // The end of the list is seen at once, so that status and interrupt agree.
        if result.is_ok() && self.link.channels()[index].element_done() {
            self.settle(index);
        }
    }

    /// Lets a channel whose element is done look at what follows; a further piece stays for the next turn.
    fn settle(&mut self, index: usize) {
        if let Some(transfer) = self.next_transfer(index) {
            self.link.channels()[index].put_back(&transfer);
        }
    }

    /// Status first, then messages.
    fn raise(&mut self, index: usize, events: Vec<Event>) {
        for event in events {
            if let Event::Aborted(cause) = event {
                self.counters.aborts += 1;
                log::debug!(target: "akida::sim::dma", "PCIe DMA channel {index} aborts: {cause:?}");
            }
            if let Some(message) = self.link.event(index, event) {
                let msi = self.config.msi();
                if (message.address, message.data) != msi {
                    self.send(message, false);
                } else if let Some((address, data)) = self.config.message() {
                    self.send(Message { address, data }, true);
                }
            }
        }
    }

    pub(super) fn send(&mut self, message: Message, msi: bool) {
        if !self.config.bus_master() {
            return;
        }
        self.counters.messages += 1;
        let mut late = Duration::ZERO;
        for fault in self.faults.on(Occasion::Message) {
            match fault {
                FaultKind::DropInterrupt => return,
                FaultKind::LateInterrupt { by } => late = by,
                _ => {}
            }
        }
        self.outbox.push(Sent { message, msi, late });
    }
}
