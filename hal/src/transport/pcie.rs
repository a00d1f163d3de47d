//! The transport over a PCI function.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use super::bring_up::{self, Window};
use super::channel::{Channel, Road};
use super::edma::Edma;
use super::engine::{ChannelId, Engine, MESSAGES, Way};
use super::hdma::Hdma;
use super::io::Io;
use super::list;
use super::mailbox::Mailbox;
use super::msi;
use super::{Counters, Region, Segment, Transport, TransportOptions};
use crate::board::{Bar, Board, Chip, Identity, Wake};
use crate::device::Completion;
use crate::dma::DmaBuffer;
use crate::memory_map::{self, ListLayout};
use crate::{Error, Result};

/// Bounce memory of one channel: larger copies go through it in pieces.
const BOUNCE: usize = 256 * 1024;
/// Up to here a BAR window is used for memory: a few posted writes cost less than a transfer. Reads wait for each word.
const WINDOW_WRITE: usize = 64;
const WINDOW_READ: usize = 16;

/// Bytes to and from device addresses over a [`Board`].
///
/// A transfer that fails leads to recovery before its call returns, so that no buffer is released under a running DMA: first
/// its channel is stopped; where that fails the function is reset and brought up; where that fails too the board is
/// quarantined, with bus mastering off, until [`Transport::reset`] succeeds.
pub struct PcieTransport {
    io: Io,
    engine: Box<dyn Engine>,
    layout: ListLayout,
    windows: Vec<Window>,
    options: TransportOptions,
    to_device: Vec<Mutex<Channel>>,
    to_host: Vec<Mutex<Channel>>,
    /// Transfers share it, recovery owns it.
    gate: RwLock<Gate>,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    transfers: AtomicU64,
    timeouts: AtomicU64,
    resets: AtomicU64,
}

/// What recovery changes.
struct Gate {
    quarantine: Option<String>,
    /// The board's generation that was brought up.
    generation: u64,
    /// The AKD1500's window on host memory.
    host: Option<DmaBuffer>,
    /// Where the engine's messages go while nobody waits for interrupts.
    messages: Option<Mailbox>,
}

impl PcieTransport {
    /// Brings the board up: checks it, enables memory and bus mastering, programs translation, makes the DMA engine ready.
    pub fn open(board: Arc<dyn Board>, options: TransportOptions) -> Result<Self> {
        let chip = board.identity().chip;
        let layout = ListLayout::of(chip);
        let engine: Box<dyn Engine> = match chip {
            Chip::Akd1500 => Box::new(Hdma),
            _ => Box::new(Edma::new()),
        };
        let channel = |way, lists: &[u32]| {
            let make = |(number, offset): (u32, &u32)| {
                Mutex::new(Channel::new(ChannelId { way, number }, layout.base + offset, *offset, layout.len))
            };
            (0u32..).zip(lists).map(make).collect()
        };
        let io = Io::new(board);
        bring_up::check(&io)?;
        let transport = Self {
            windows: bring_up::windows(&io),
            to_host: channel(Way::ToHost, &layout.offsets[..2]),
            to_device: channel(Way::ToDevice, &layout.offsets[2..]),
            io,
            engine,
            layout,
            options: TransportOptions { element_bytes: options.element_bytes.max(1), ..options },
            gate: RwLock::new(Gate { quarantine: None, generation: 0, host: None, messages: None }),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            transfers: AtomicU64::new(0),
            timeouts: AtomicU64::new(0),
            resets: AtomicU64::new(0),
        };
        {
            let mut gate = transport.gate.write().unwrap_or_else(PoisonError::into_inner);
            transport.bring_up(&mut gate)?;
        }
        Ok(transport)
    }

    /// hardware.md 16.1 steps 2 to 5, 16.2 steps 1 to 4.
    fn bring_up(&self, gate: &mut Gate) -> Result<()> {
        self.io.clear_known();
        gate.generation = self.io.board.generation();
        bring_up::enable(&self.io)?;
        if self.io.board.identity().chip == Chip::Akd1500 {
            gate.host = self.host_window();
        }
        bring_up::translate(&self.io, gate.host.as_ref())?;
        bring_up::sanity(&self.io)?;
        self.engine.quiet(&self.io)?;
        let messages = match self.options.completion {
            Completion::Interrupt => [msi::message(&*self.io.board)?; MESSAGES],
            // List elements ask for a message even so. It has to land in memory of ours: an address register left at 0 would
            // make the device write to address 0 of the host.
            Completion::Poll => gate.messages.insert(Mailbox::new(&*self.io.board)?).messages(),
        };
        self.engine.arm(&self.io, &messages)
    }

    /// Asks for 16 MB, then halves, as the kernel driver does. Without it programs are limited to the SRAM.
    fn host_window(&self) -> Option<DmaBuffer> {
        let mut len = memory_map::HOST_WINDOW_MAX;
        while len >= memory_map::HOST_WINDOW_MIN {
            match self.io.board.allocate(len as usize) {
                Ok(buffer) => return Some(buffer),
                Err(error) => log::debug!("{}: no host window of {len} bytes: {error}", self.io.name()),
            }
            len /= 2;
        }
        log::warn!("{}: no host memory window; programs are limited to the device's SRAM", self.io.name());
        None
    }

    fn quarantined(&self, gate: &Gate) -> Result<()> {
        match &gate.quarantine {
            Some(reason) => Err(Error::Quarantined { board: self.io.name(), reason: reason.clone() }),
            None => Ok(()),
        }
    }

    fn window(&self, address: u32, len: u64) -> Option<(Bar, u32)> {
        self.windows.iter().find_map(|w| {
            let offset = address.checked_sub(w.base)?;
            (u64::from(offset) + len <= w.len).then_some((w.bar, offset))
        })
    }

    fn register(&self, address: u32) -> Result<(Bar, u32)> {
        self.quarantined(&self.gate.read().unwrap_or_else(PoisonError::into_inner))?;
        let range = |reason| Error::DeviceRange { board: self.io.name(), address, len: 4, reason };
        if !address.is_multiple_of(4) {
            return Err(range("are no aligned word"));
        }
        self.window(address, 4).ok_or_else(|| range("are shown by no BAR"))
    }

    /// Refuses ranges that wrap and the reserved lists (hardware.md section 3.5).
    fn check_range(&self, address: u32, len: usize) -> Result<()> {
        let range = |reason| Error::DeviceRange { board: self.io.name(), address, len: len as u64, reason };
        let end = u64::from(address) + len as u64;
        if end > 1 << 32 {
            return Err(range("reach beyond the 32-bit address space"));
        }
        let reserved = u64::from(self.layout.base)..u64::from(self.layout.base) + u64::from(self.layout.reserved);
        if u64::from(address) < reserved.end && end > reserved.start {
            return Err(range("belong to the DMA engine's linked lists"));
        }
        Ok(())
    }

    fn check_segments(&self, segments: &[Segment<'_>]) -> Result<()> {
        for s in segments {
            self.check_range(s.address, s.len)?;
            if s.offset.checked_add(s.len).is_none_or(|end| end > s.buffer.len()) {
                return Err(Error::BufferRange { offset: s.offset, len: s.len, size: s.buffer.len() });
            }
            self.check_generation(s.buffer)?;
        }
        Ok(())
    }

    fn check_generation(&self, buffer: &DmaBuffer) -> Result<()> {
        let generation = self.io.board.generation();
        if buffer.generation() == generation {
            return Ok(());
        }
        Err(Error::StaleBuffer { board: self.io.name(), buffer: buffer.generation(), generation })
    }

    /// Whichever channel is free, else the first.
    fn channel(&self, way: Way) -> MutexGuard<'_, Channel> {
        let channels = match way {
            Way::ToDevice => &self.to_device,
            Way::ToHost => &self.to_host,
        };
        let channels = &channels[..self.engine.channels().min(channels.len())];
        let free = channels.iter().find_map(|c| c.try_lock().ok());
        free.unwrap_or_else(|| channels[0].lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Moves the segments over a channel unless the board is quarantined, and recovers the channel when that fails.
    fn run(&self, channel: &mut Channel, segments: &[Segment<'_>]) -> Result<()> {
        let id = channel.id;
        let result = {
            let gate = self.gate.read().unwrap_or_else(PoisonError::into_inner);
            self.quarantined(&gate)?;
            self.check_segments(segments)?;
            // Reset by somebody else: translation is lost, and what a BAR shows now may well look like a list.
            let (expected, generation) = (gate.generation, self.io.board.generation());
            if generation != expected {
                return Err(Error::WasReset { board: self.io.name(), generation, expected });
            }
            let (io, engine, options) = (&self.io, &*self.engine, &self.options);
            let road = Road { io, engine, options, mailbox: gate.messages.as_ref() };
            let count = || {
                self.transfers.fetch_add(1, Ordering::Relaxed);
            };
            channel.run(&road, &list::pieces(segments, options.element_bytes), count)
        };
        result.inspect_err(|error| self.recover_channel(id, error))?;
        let total: u64 = segments.iter().map(|s| s.len as u64).sum();
        let bytes = if id.way == Way::ToDevice { &self.bytes_in } else { &self.bytes_out };
        bytes.fetch_add(total, Ordering::Relaxed);
        Ok(())
    }

    /// After a failed transfer nothing may still run: stop the channel, else reset the function, else cut it off.
    fn recover_channel(&self, id: ChannelId, error: &Error) {
        if matches!(error, Error::TimedOut { .. }) {
            self.timeouts.fetch_add(1, Ordering::Relaxed);
        }
        // Waits until transfers on other channels ended: stopping one channel stops its direction.
        let mut gate = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        if gate.quarantine.is_some() {
            return;
        }
        log::warn!("{error}; stopping DMA {id}");
        let Err(stop) = self.engine.halt(&self.io, id) else { return };
        log::warn!("{stop}; resetting the function");
        if let Err(reset) = self.reset_function(&mut gate) {
            self.cut_off(&mut gate, format!("{error}, and recovery failed: {reset}"));
        }
    }

    fn reset_function(&self, gate: &mut Gate) -> Result<()> {
        self.resets.fetch_add(1, Ordering::Relaxed);
        self.io.board.reset()?;
        // Reset ended all DMA: these may go.
        (gate.host, gate.messages) = (None, None);
        self.bring_up(gate)
    }

    fn cut_off(&self, gate: &mut Gate, reason: String) {
        if let Err(error) = bring_up::disable_bus_master(&self.io) {
            log::error!("{}: cannot switch bus mastering off: {error}", self.io.name());
        }
        log::error!("{}: quarantined: {reason}", self.io.name());
        gate.quarantine = Some(reason);
    }

    /// Offset in the host window, where a range lies wholly inside.
    fn in_host_window(gate: &Gate, address: u32, len: usize) -> Option<(&DmaBuffer, usize)> {
        let buffer = gate.host.as_ref()?;
        let offset = address.checked_sub(memory_map::HOST_WINDOW)? as usize;
        (offset.checked_add(len)? <= buffer.len()).then_some((buffer, offset))
    }

    /// Bytes through a channel's bounce buffer.
    fn bounced(
        &self,
        way: Way,
        address: u32,
        len: usize,
        mut copy: impl FnMut(&DmaBuffer, usize, usize) -> Result<()>,
    ) -> Result<()> {
        let mut channel = self.channel(way);
        if channel.bounce.as_ref().is_none_or(|b| b.generation() != self.io.board.generation()) {
            channel.bounce = Some(self.io.board.allocate(BOUNCE)?);
        }
        let Some(buffer) = channel.bounce.take() else { return Ok(()) };
        let mut done = 0;
        while done < len {
            let part = (len - done).min(BOUNCE);
            if way == Way::ToDevice {
                copy(&buffer, done, part)?;
            }
            let segment = Segment { buffer: &buffer, offset: 0, address: address + done as u32, len: part };
            self.run(&mut channel, &[segment])?;
            if way == Way::ToHost {
                copy(&buffer, done, part)?;
            }
            done += part;
        }
        // Not after a failure: what follows gets another one.
        channel.bounce = Some(buffer);
        Ok(())
    }

    /// Runs zero-copy segments; those in the host window are copied by the processor.
    fn segments(&self, way: Way, segments: &[Segment<'_>]) -> Result<()> {
        self.check_segments(segments)?;
        let mut direct = Vec::with_capacity(segments.len());
        {
            let gate = self.gate.read().unwrap_or_else(PoisonError::into_inner);
            self.quarantined(&gate)?;
            for s in segments.iter().filter(|s| s.len > 0) {
                let Some((window, offset)) = Self::in_host_window(&gate, s.address, s.len) else {
                    direct.push(*s);
                    continue;
                };
                let mut bytes = vec![0; s.len];
                match way {
                    Way::ToDevice => {
                        s.buffer.read(s.offset, &mut bytes)?;
                        window.write(offset, &bytes)?;
                    }
                    Way::ToHost => {
                        window.read(offset, &mut bytes)?;
                        s.buffer.write(s.offset, &bytes)?;
                    }
                }
            }
        }
        if direct.is_empty() {
            return Ok(());
        }
        self.run(&mut self.channel(way), &direct)
    }

    /// The words of a range that a BAR shows, when it is short and aligned enough for register access.
    fn short(&self, address: u32, len: usize, limit: usize) -> Option<(Bar, u32)> {
        let whole = len <= limit && address.is_multiple_of(4) && len.is_multiple_of(4);
        if whole { self.window(address, len as u64) } else { None }
    }

    /// Words through a BAR. They are posted: what is read back has them in order before whatever is started next. Where memory
    /// lies behind the BAR, all of it is read back, since nobody else would notice a word that got lost.
    fn write_words(&self, bar: Bar, offset: u32, words: &[[u8; 4]]) -> Result<()> {
        let words = || (offset..).step_by(4).zip(words.iter().map(|word| u32::from_le_bytes(*word)));
        for (at, word) in words() {
            self.io.write(bar, at, word)?;
        }
        let memory = bar == Bar::Bar4 && self.options.read_back;
        for (at, wrote) in words().take(if memory { usize::MAX } else { 1 }) {
            let read = self.io.read(bar, at)?;
            if memory && read != wrote {
                let what = format!("memory behind BAR{}", bar.index());
                return Err(Error::ReadBack { board: self.io.name(), what, offset: at.into(), wrote, read });
            }
        }
        Ok(())
    }
}

impl Transport for PcieTransport {
    fn identity(&self) -> &Identity {
        self.io.board.identity()
    }

    fn memory(&self) -> Vec<Region> {
        if self.io.board.identity().chip != Chip::Akd1500 {
            return vec![Region { base: memory_map::SCRATCH, len: memory_map::SCRATCH_LEN, host: false }];
        }
        let base = self.layout.base + self.layout.reserved;
        let mut regions = vec![Region { base, len: memory_map::SRAM_LEN - self.layout.reserved, host: false }];
        let gate = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        regions.extend(gate.host.as_ref().map(|buffer| Region {
            base: memory_map::HOST_WINDOW,
            len: buffer.len() as u32,
            host: true,
        }));
        regions
    }

    fn read32(&self, address: u32) -> Result<u32> {
        let (bar, offset) = self.register(address)?;
        self.io.read(bar, offset)
    }

    fn write32(&self, address: u32, value: u32) -> Result<()> {
        let (bar, offset) = self.register(address)?;
        self.io.write(bar, offset, value)
    }

    fn write(&self, address: u32, bytes: &[u8]) -> Result<()> {
        self.check_range(address, bytes.len())?;
        {
            let gate = self.gate.read().unwrap_or_else(PoisonError::into_inner);
            self.quarantined(&gate)?;
            if let Some((window, offset)) = Self::in_host_window(&gate, address, bytes.len()) {
                return window.write(offset, bytes);
            }
            if let Some((bar, offset)) = self.short(address, bytes.len(), WINDOW_WRITE) {
                return self.write_words(bar, offset, bytes.as_chunks::<4>().0);
            }
        }
        self.bounced(Way::ToDevice, address, bytes.len(), |buffer, at, len| buffer.write(0, &bytes[at..at + len]))
    }

    fn read(&self, address: u32, bytes: &mut [u8]) -> Result<()> {
        self.check_range(address, bytes.len())?;
        {
            let gate = self.gate.read().unwrap_or_else(PoisonError::into_inner);
            self.quarantined(&gate)?;
            if let Some((window, offset)) = Self::in_host_window(&gate, address, bytes.len()) {
                return window.read(offset, bytes);
            }
            if let Some((bar, offset)) = self.short(address, bytes.len(), WINDOW_READ) {
                for (i, word) in bytes.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                    *word = self.io.read(bar, offset + 4 * i as u32)?.to_le_bytes();
                }
                return Ok(());
            }
        }
        let len = bytes.len();
        self.bounced(Way::ToHost, address, len, |buffer, at, len| buffer.read(0, &mut bytes[at..at + len]))
    }

    fn allocate(&self, len: usize) -> Result<DmaBuffer> {
        self.io.board.allocate(len)
    }

    fn write_from(&self, segments: &[Segment<'_>]) -> Result<()> {
        self.segments(Way::ToDevice, segments)
    }

    fn read_into(&self, segments: &[Segment<'_>]) -> Result<()> {
        self.segments(Way::ToHost, segments)
    }

    fn wait_interrupt(&self, timeout: Duration) -> Result<Wake> {
        self.io.board.wait_interrupt(timeout)
    }

    fn reset(&self) -> Result<()> {
        let mut gate = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        match self.reset_function(&mut gate) {
            Ok(()) => {
                gate.quarantine = None;
                Ok(())
            }
            Err(error) => {
                self.cut_off(&mut gate, format!("a reset failed: {error}"));
                Err(error)
            }
        }
    }

    fn generation(&self) -> u64 {
        self.io.board.generation()
    }

    fn quarantine(&self) -> Option<String> {
        self.gate.read().unwrap_or_else(PoisonError::into_inner).quarantine.clone()
    }

    fn now(&self) -> Duration {
        self.io.board.now()
    }

    fn pause(&self, time: Duration) {
        self.io.board.pause(time);
    }

    fn counters(&self) -> Counters {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            bytes_in: get(&self.bytes_in),
            bytes_out: get(&self.bytes_out),
            transfers: get(&self.transfers),
            timeouts: get(&self.timeouts),
            resets: get(&self.resets),
        }
    }
}

impl Drop for PcieTransport {
    /// Engines off and bus mastering off, before any buffer is unmapped.
    fn drop(&mut self) {
        if let Err(error) = self.engine.quiet(&self.io).and_then(|()| bring_up::disable_bus_master(&self.io)) {
            log::debug!("{}: not quieted: {error}", self.io.name());
        }
    }
}
