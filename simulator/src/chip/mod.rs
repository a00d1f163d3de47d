//! The device model: a PCI function driven by configuration and BAR accesses, that asks for host memory and interrupt
//! messages. It knows nothing of who drives it: [`SimBoard`](crate::SimBoard) does in process, a vfio-user server can.
//!
//! Accesses never block. What moves host memory or computes is handed out as work ([`Chip::link_work`],
//! [`Chip::core_work`]), to be run with or without a lock around the chip, and given back.

pub mod bus;
pub mod channel;
pub mod config;
pub mod controller;
mod edma;
mod hdma;
pub mod iatu;
pub mod job;
pub mod memory;
pub mod regmap;
mod top;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use akida_hal::board::{Bar, Chip as ChipKind};
use akida_hal::memory_map::{DBI, LPDDR_LEN, MEMORY, SRAM_LEN, TOP};
use akida_hal::regs::dma;
use akida_hal::regs::edma::BAR2_BASE;
use akida_hal::regs::top::{self as top_registers, GeneralControl, InterruptSource};
use akida_hal::regs::{self, epg, pci};

use crate::faults::{FaultKind, FaultPlan, Faults, Fired, Occasion};
use crate::mesh::Mesh;
use crate::spec::SimSpec;
use bus::{Bus, HostMemory, Unmapped};
use channel::{Cause, Channel, Direction, Event, Transfer};
use config::{ConfigSpace, Effect};
use controller::{Controller, Kind};
use edma::Edma;
use hdma::Hdma;
use iatu::{Iatu, UNROLLED_END};
use job::{CoreDone, CoreWork, JobError, Passes, Tamper};
use memory::{DeviceMemory, lock};
use regmap::RegMap;
use top::Top;

/// What a dead or undecoded access reads.
const ONES: u32 = u32::MAX;
/// SRAM of the AKD1000 that the kernel driver can use for lists; its length is ours.
const INTERNAL_SRAM: (u32, u32) = (0x1000_0000, 1 << 20);
/// Bytes of TOP that are decoded.
const TOP_LEN: u32 = 0x10_0000;
/// Bytes of one controller's registers.
const CONTROLLER_LEN: u32 = 0x100;
/// Reports kept for inspection.
const RECORDS_MAX: usize = 4096;

/// A memory write the function sends, meant as an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Bus address.
    pub address: u64,
    /// What is written there.
    pub data: u32,
}

/// A message on its way to the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The message.
    pub message: Message,
    /// It is the one of the MSI capability (and its enable and mask bits let it pass). Any other is a plain write.
    pub msi: bool,
    /// How much later it arrives than it should.
    pub late: Duration,
}

/// The register file of a PCIe DMA engine over its channels.
trait LinkEngine: Send {
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
}

enum LinkAction {
    /// Device bytes to the host.
    Write(Vec<u8>),
    /// Host bytes to the device.
    Read,
    /// The device side is a window to the host itself: (from, to).
    Copy(u64, u64),
}

impl LinkWork {
    /// Moves the host's side of it. Needs no chip.
    pub fn run(&self, host: &dyn HostMemory) -> Result<Vec<u8>, Unmapped> {
        let mut bytes = vec![0; self.transfer.len as usize];
        match &self.action {
            LinkAction::Write(data) => host.write(self.transfer.host, data).map(|()| Vec::new()),
            LinkAction::Read => host.read(self.transfer.host, &mut bytes).map(|()| bytes),
            LinkAction::Copy(from, to) => {
                host.read(*from, &mut bytes)?;
                host.write(*to, &bytes).map(|()| Vec::new())
            }
        }
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

/// What the device's side of a transfer is.
enum Local {
    Bytes(Vec<u8>),
    Host(u64),
}

/// Whether the function answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    Here,
    LostUntilReset,
    Lost,
}

/// A job that ended, for inspection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRecord {
    /// Whose.
    pub kind: Kind,
    /// Job id (0 for config jobs), or why it was refused.
    pub outcome: Result<u16, String>,
}

/// Counters for tests and reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Configuration space reads and writes.
    pub config_accesses: u64,
    /// BAR reads and writes.
    pub bar_accesses: u64,
    /// Pieces moved by the PCIe DMA engine.
    pub transfers: u64,
    /// Bytes of them.
    pub transferred_bytes: u64,
    /// Aborted PCIe DMA channels.
    pub aborts: u64,
    /// Messages sent (as interrupts or not).
    pub messages: u64,
    /// Jobs of the Akida DMAs that ended, newest last; the oldest are dropped when there are many.
    pub jobs: Vec<JobRecord>,
}

/// A board's PCI function and everything behind it.
pub struct Chip {
    kind: ChipKind,
    config: ConfigSpace,
    iatu: Iatu,
    link: Box<dyn LinkEngine>,
    memory: Arc<DeviceMemory>,
    top: Top,
    controllers: [Controller; 3],
    epg: RegMap,
    mesh: Arc<Mutex<Mesh>>,
    faults: Faults,
    presence: Presence,
    outbox: Vec<Sent>,
    counters: Counters,
    next_channel: usize,
}

impl Chip {
    /// A board after power-on: nothing translated, no BAR assigned, memory full of noise.
    pub fn new(spec: &SimSpec) -> Self {
        let kind = spec.model.chip();
        let mesh = spec.model.mesh();
        let akd1500 = kind == ChipKind::Akd1500;
        let ranges: &[(u32, u32)] = if akd1500 { &[(MEMORY, SRAM_LEN)] } else { &[INTERNAL_SRAM, (MEMORY, LPDDR_LEN)] };
        let lanes = if akd1500 { 2 } else { 1 };
        let epg_special = [regmap::Register::rw(epg::CONTROL, "").mask(!epg::RESET)];
        Self {
            kind,
            config: ConfigSpace::new(pci::VENDOR, pci::device_id(kind), spec.bar_len, lanes),
            iatu: if akd1500 { Iatu::unrolled() } else { Iatu::viewport() },
            link: if akd1500 { Box::new(Hdma::new()) } else { Box::new(Edma::new()) },
            memory: Arc::new(DeviceMemory::new(ranges)),
            top: Top::new(&mesh),
            controllers: [Kind::Event, Kind::Hrc, Kind::Config].map(Controller::new),
            epg: RegMap::of("epg", epg::NAMES, &epg_special),
            mesh: Arc::new(Mutex::new(Mesh::new(mesh))),
            faults: Faults::new(&spec.faults),
            presence: Presence::Here,
            outbox: Vec::new(),
            counters: Counters::default(),
            next_channel: 0,
        }
    }

    /// Length of a BAR.
    pub fn bar_len(&self, bar: Bar) -> u64 {
        self.config.bar_len(bar)
    }

    /// Board memory.
    pub fn memory(&self) -> &Arc<DeviceMemory> {
        &self.memory
    }

    /// Counters so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Replaces the fault plan.
    pub fn arm(&mut self, plan: &FaultPlan) {
        self.faults.arm(plan);
    }

    /// Faults that happened so far.
    pub fn fired(&self) -> &[Fired] {
        self.faults.fired()
    }

    /// Messages since the last call.
    pub fn messages(&mut self) -> Vec<Sent> {
        std::mem::take(&mut self.outbox)
    }

    /// Counts an allocation of host memory; true when the fault plan refuses it.
    pub fn refuse_allocation(&mut self) -> bool {
        self.faults.on(Occasion::Allocation).any(|f| f == FaultKind::RefuseAllocation)
    }

    /// Reads a 32-bit word of configuration space; `offset` is rounded down to a word.
    pub fn config_read(&mut self, offset: u16) -> u32 {
        self.counters.config_accesses += 1;
        let offset = u32::from(offset & 0xffc);
        let value = if self.access() { self.endpoint_read(offset) } else { ONES };
        self.trace("config", "read", offset, value);
        value
    }

    /// Writes the bytes of a configuration word that `bytes` selects (0xff per byte).
    pub fn config_write(&mut self, offset: u16, value: u32, bytes: u32) {
        self.counters.config_accesses += 1;
        let offset = u32::from(offset & 0xffc);
        self.trace("config", "write", offset, value);
        if self.access() {
            self.endpoint_write(offset, value, bytes);
        }
    }

    /// Reads 32 bits of a BAR. All ones when the function does not answer.
    pub fn bar_read(&mut self, bar: Bar, offset: u64) -> u32 {
        self.counters.bar_accesses += 1;
        if !self.access() || !self.config.memory_enabled() || offset >= self.bar_len(bar) {
            log::trace!(target: "akida::sim::reg", "bar{} read {offset:#x}: no answer", bar.index());
            return ONES;
        }
        match self.decode(bar, offset & !3) {
            Place::Controller(offset) => {
                let value = self.controller_read(offset);
                self.trace("bar0", "read", offset, value);
                value
            }
            Place::Device(address) => self.device_read(address),
        }
    }

    /// Writes 32 bits of a BAR.
    pub fn bar_write(&mut self, bar: Bar, offset: u64, value: u32) {
        self.counters.bar_accesses += 1;
        if !self.access() || !self.config.memory_enabled() || offset >= self.bar_len(bar) {
            log::trace!(target: "akida::sim::reg", "bar{} write {offset:#x}: lost", bar.index());
            return;
        }
        match self.decode(bar, offset & !3) {
            Place::Controller(offset) => {
                self.trace("bar0", "write", offset, value);
                self.controller_write(offset, value);
            }
            Place::Device(address) => self.device_write(address, value),
        }
    }

    /// Function level or bus reset: everything but memory goes back to power-on. That the Akida core is included is ours.
    pub fn reset(&mut self) {
        if self.presence == Presence::LostUntilReset {
            self.presence = Presence::Here;
        }
        self.config.reset();
        self.iatu.reset();
        self.link.reset();
        self.top.reset();
        self.epg.reset();
        self.controllers.iter_mut().for_each(Controller::reset);
        lock(&self.mesh).reset();
        self.outbox.clear();
    }

    /// What firmware and kernel do to a function before its driver: BAR addresses, MSI address, data and enable, memory
    /// decoding. Not counted as accesses.
    pub fn plug(&mut self, bars: [u64; 3], msi_address: u64, msi_data: u32) {
        self.config.plug(bars, msi_address, msi_data);
    }

    /// Whether a job could be started now; cheap.
    pub fn core_waits(&self) -> bool {
        self.presence == Presence::Here && self.controllers.iter().any(|c| c.pending().is_some())
    }

    /// The MSI capability's message.
    pub fn msi(&self) -> (u64, u32) {
        self.config.msi()
    }

    /// Counts an access against the fault plan; false when the function does not answer it.
    fn access(&mut self) -> bool {
        let mut answers = true;
        for fault in self.faults.on(Occasion::Access) {
            match fault {
                FaultKind::LoseDevice { forever } if self.presence != Presence::Lost => {
                    self.presence = if forever { Presence::Lost } else { Presence::LostUntilReset };
                    self.link.channels().iter_mut().for_each(Channel::halt);
                    self.controllers.iter_mut().for_each(Controller::reset);
                }
                FaultKind::AllOnes => answers = false,
                _ => {}
            }
        }
        answers && self.presence == Presence::Here
    }

    fn decode(&self, bar: Bar, offset: u64) -> Place {
        if self.kind == ChipKind::Akd1500 && bar == Bar::Bar0 {
            return Place::Controller(offset as u32);
        }
        let bus = self.config.bar_address(bar).wrapping_add(offset);
        Place::Device(self.iatu.inbound(bar, offset, bus).unwrap_or_else(|| {
            // Nothing matches: the raw bus address reaches memory (hardware.md 1.1; which byte is ours).
            let len = self.memory.room(MEMORY);
            u64::from(MEMORY) + bus % u64::from(len)
        }))
    }

    /// The endpoint's registers: configuration space and port logic. Reached by configuration accesses and, on chips
    /// with the AKD1000's host interface, at the DBI address.
    fn endpoint_read(&mut self, offset: u32) -> u32 {
        match self.endpoint(offset) {
            Endpoint::Iatu(register) => self.iatu.viewport_read(register),
            Endpoint::Link(register) => self.link.read(register),
            Endpoint::Config => self.config.read(offset),
        }
    }

    fn endpoint_write(&mut self, offset: u32, value: u32, bytes: u32) {
        match self.endpoint(offset) {
            Endpoint::Iatu(register) => {
                let old = if bytes == ONES { 0 } else { self.iatu.viewport_read(register) };
                self.iatu.viewport_write(register, value & bytes | old & !bytes);
            }
            Endpoint::Link(register) => self.link.write(register, value),
            Endpoint::Config => match self.config.write(offset, value, bytes) {
                Effect::None => {}
                Effect::Reset => self.reset(),
                Effect::Message => {
                    let (address, data) = self.config.msi();
                    self.send(Message { address, data }, true);
                }
            },
        }
    }

    fn endpoint(&self, offset: u32) -> Endpoint {
        const VIEWPORT: u32 = regs::iatu::VIEWPORT;
        const VIEWPORT_END: u32 = regs::iatu::VIEWPORT_TARGET_HIGH;
        const LINK_END: u32 = BAR2_BASE + regs::edma::LEN - 1;
        match offset {
            _ if self.kind == ChipKind::Akd1500 => Endpoint::Config,
            VIEWPORT..=VIEWPORT_END => Endpoint::Iatu(offset - VIEWPORT),
            BAR2_BASE..=LINK_END => Endpoint::Link(offset - BAR2_BASE),
            _ => Endpoint::Config,
        }
    }

    /// The AKD1500's BAR 0: HDMA and unrolled translation.
    fn controller_read(&mut self, offset: u32) -> u32 {
        match offset {
            regs::iatu::unrolled::BASE..UNROLLED_END => self.iatu.unrolled_read(offset),
            _ => self.link.read(offset),
        }
    }

    fn controller_write(&mut self, offset: u32, value: u32) {
        match offset {
            regs::iatu::unrolled::BASE..UNROLLED_END => self.iatu.unrolled_write(offset, value),
            _ => self.link.write(offset, value),
        }
    }

    /// A 32-bit read on the internal bus. Nothing there: all ones, as the endpoint answers with an error.
    fn device_read(&mut self, address: u64) -> u32 {
        let Ok(address) = u32::try_from(address) else { return ONES };
        if let Some(offset) = within(address, TOP, TOP_LEN) {
            let value = self.top_read(offset);
            self.trace("top", "read", offset, value);
            return value;
        }
        if let Some(offset) = within(address, DBI, 0x1000)
            && self.kind != ChipKind::Akd1500
        {
            let value = self.endpoint_read(offset);
            self.trace("dbi", "read", offset, value);
            return value;
        }
        let mut bytes = [0; 4];
        self.memory.read(address, &mut bytes).map_or(ONES, |()| u32::from_le_bytes(bytes))
    }

    fn device_write(&mut self, address: u64, value: u32) {
        let Ok(address) = u32::try_from(address) else { return };
        if let Some(offset) = within(address, TOP, TOP_LEN) {
            self.trace("top", "write", offset, value);
            self.top_write(offset, value);
        } else if let Some(offset) = within(address, DBI, 0x1000)
            && self.kind != ChipKind::Akd1500
        {
            self.trace("dbi", "write", offset, value);
            self.endpoint_write(offset, value, ONES);
        } else if self.memory.write(address, &value.to_le_bytes()).is_err() {
            log::trace!(target: "akida::sim::reg", "write to nothing at {address:#010x}");
        }
    }

    fn top_read(&mut self, offset: u32) -> u32 {
        match block(offset) {
            Block::Dma(kind, register) => self.controllers[kind.index()].read(register),
            Block::Epg(register) => self.epg.get(register),
            Block::Top(top_registers::INTERRUPT_SOURCE) => self.interrupt_source().bits(),
            Block::Top(register) => self.top.read(register),
        }
    }

    fn top_write(&mut self, offset: u32, value: u32) {
        match block(offset) {
            Block::Dma(kind, register) => self.controllers[kind.index()].write(register, value),
            Block::Epg(epg::CONTROL) if value & epg::RESET != 0 => self.epg.reset(),
            Block::Epg(register) => {
                self.epg.write(register, value);
            }
            Block::Top(register) => {
                let Some(written) = self.top.write(register, value) else { return };
                if register == top_registers::GENERAL_CONTROL {
                    self.general_control(
                        GeneralControl::from_bits_truncate(written.old),
                        GeneralControl::from_bits_truncate(written.new),
                    );
                }
            }
        }
    }

    /// Resets act when their bits are set; releasing them is the other write (hardware.md 7.2).
    fn general_control(&mut self, old: GeneralControl, new: GeneralControl) {
        let core = GeneralControl::CORE_RESET;
        let np = GeneralControl::LOGIC_RESET | GeneralControl::MESH_RESET;
        let resets = core | np | GeneralControl::SCC_RESET;
        if old.intersects(resets) && !new.intersects(resets) {
            let stuck = self.faults.on(Occasion::Release).any(|f| f == FaultKind::StuckReset);
            if stuck {
                return self.top.set_control(new | old & resets);
            }
        }
        if new.contains(core) {
            self.controllers.iter_mut().for_each(Controller::reset);
        }
        if new.intersects(np) {
            // Config jobs that are out must not write into the mesh after it.
            self.controllers[Kind::Config.index()].epoch().fetch_add(1, Ordering::SeqCst);
            self.controllers[Kind::Config.index()].busy = false;
            lock(&self.mesh).reset();
        }
    }

    /// Whether the core is held in reset.
    fn held(&self) -> bool {
        self.top
            .control()
            .intersects(GeneralControl::CORE_RESET | GeneralControl::LOGIC_RESET | GeneralControl::MESH_RESET)
    }

    /// The Akida interrupt controller. Nothing public routes it to the host (hardware.md section 15), so it is only read.
    fn interrupt_source(&self) -> InterruptSource {
        let mut source = InterruptSource::empty();
        for (kind, bit) in [
            (Kind::Event, InterruptSource::AEDMA),
            (Kind::Hrc, InterruptSource::HRC),
            (Kind::Config, InterruptSource::CONFIG_DMA),
        ] {
            source.set(bit, self.controllers[kind.index()].interrupting());
        }
        source
    }

    /// The next bytes the PCIe DMA engine wants to move. Channels take turns.
    pub fn link_work(&mut self) -> Option<LinkWork> {
        if self.presence != Presence::Here {
            return None;
        }
        let channels = self.link.channels().len();
        for turn in 0..channels {
            let index = (self.next_channel + turn) % channels;
            while let Some(transfer) = self.next_transfer(index) {
                if let Some(work) = self.prepare(index, transfer) {
                    self.next_channel = index + 1;
                    return Some(work);
                }
            }
        }
        None
    }

    fn next_transfer(&mut self, index: usize) -> Option<Transfer> {
        let (memory, faults) = (&self.memory, &mut self.faults);
        let mut events = Vec::new();
        let fetch = |at: u64| {
            let mut bytes = [0; 24];
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
    fn prepare(&mut self, index: usize, transfer: Transfer) -> Option<LinkWork> {
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
        let action = match (transfer.direction, self.local(&transfer)) {
            (Direction::Write, Some(Local::Bytes(bytes))) => LinkAction::Write(bytes),
            (Direction::Write, Some(Local::Host(from))) => LinkAction::Copy(from, transfer.host),
            (Direction::Read, Some(Local::Bytes(_))) => LinkAction::Read,
            (Direction::Read, Some(Local::Host(to))) => LinkAction::Copy(transfer.host, to),
            (_, None) => {
                self.finish(index, &transfer, Err(Cause::Local));
                return None;
            }
        };
        Some(LinkWork { transfer, index, action })
    }

    /// The device's side: bytes (empty for a read channel, which only asks whether they can be written) or a window.
    fn local(&mut self, transfer: &Transfer) -> Option<Local> {
        let (address, len) = (u32::try_from(transfer.local).ok()?, transfer.len as usize);
        let writing = transfer.direction == Direction::Read;
        if self.memory.contains(address, len) {
            let mut bytes = vec![0; if writing { 0 } else { len }];
            self.memory.read(address, &mut bytes).ok()?;
            return Some(Local::Bytes(bytes));
        }
        if let Some((iova, room)) = self.iatu.outbound(address) {
            return (room >= len as u64).then_some(Local::Host(iova));
        }
        // Registers: whole words only.
        let last = address.checked_add(transfer.len - 1)?;
        let registers = |base, size| within(address, base, size).is_some() && within(last, base, size).is_some();
        let dbi = self.kind != ChipKind::Akd1500 && registers(DBI, 0x1000);
        if !(dbi || registers(TOP, TOP_LEN)) || !address.is_multiple_of(4) || !len.is_multiple_of(4) {
            return None;
        }
        if writing {
            return Some(Local::Bytes(Vec::new()));
        }
        let words = (0..transfer.len / 4).map(|i| self.device_read(u64::from(address + 4 * i)));
        Some(Local::Bytes(words.flat_map(u32::to_le_bytes).collect()))
    }

    /// Gives moved bytes back.
    pub fn link_done(&mut self, work: LinkWork, result: Result<Vec<u8>, Unmapped>) {
        let LinkWork { transfer, index, action } = work;
        if !self.link.channels()[index].awaits(&transfer) {
            return;
        }
        let result = match (result, action) {
            (Err(refused), _) => {
                log::debug!(target: "akida::sim::dma", "{:?} channel {}: {refused}", transfer.direction, transfer.channel);
                Err(Cause::Host)
            }
            (Ok(bytes), LinkAction::Read) => self.store(transfer.local, &bytes),
            (Ok(_), _) => Ok(()),
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
        let address = u32::try_from(local).map_err(|_| Cause::Local)?;
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

    fn send(&mut self, message: Message, msi: bool) {
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

    /// The next job of the Akida core: config before input, so that a program is complete before it runs.
    pub fn core_work(&mut self, host: &Arc<dyn HostMemory>) -> Option<CoreWork> {
        if self.presence != Presence::Here || self.held() {
            return None;
        }
        [Kind::Config, Kind::Event, Kind::Hrc].into_iter().find_map(|kind| self.start(kind, host))
    }

    fn start(&mut self, kind: Kind, host: &Arc<dyn HostMemory>) -> Option<CoreWork> {
        let controller = &self.controllers[kind.index()];
        let index = controller.pending()?;
        let config = &self.controllers[Kind::Config.index()];
        let replaying = controller.replaying();
        // An input waits for its program: for the config DMA to be done, and in multi-pass for its first pass.
        if kind != Kind::Config && (config.busy || replaying && !config.primed) {
            return None;
        }
        if !replaying && !controller.last_in_ring() {
            let last = dma::LAST.get(controller.registers.get(dma::DESCRIPTOR));
            self.refuse(kind, &JobError::Ring { last });
            return None;
        }
        let mut tamper = Tamper::default();
        let occasion = if kind == Kind::Config { Occasion::ConfigJob } else { Occasion::InputJob };
        for fault in self.faults.on(occasion) {
            match fault {
                FaultKind::StallConfig | FaultKind::StallInput => {
                    self.controllers[kind.index()].stalled = true;
                    return None;
                }
                FaultKind::WrongJobId => tamper.job_id = true,
                FaultKind::TruncateHeader => tamper.header = true,
                _ => {}
            }
        }
        for fault in self.faults.on(Occasion::Descriptor) {
            if let FaultKind::FlipDescriptor { word, bits } = fault {
                tamper.descriptor = Some((word, bits));
            }
        }
        if kind == Kind::Config {
            for fault in self.faults.on(Occasion::Track) {
                if let FaultKind::CorruptPacket { word, bits } = fault {
                    tamper.packet = Some((word, bits));
                }
            }
        }
        let config = &self.controllers[Kind::Config.index()].registers;
        let passes = replaying.then(|| Passes {
            registers: config.clone(),
            descriptors: dma::BURST_DESCRIPTORS.get(config.get(dma::REPLAY_BURST)) as u8,
            reset_mesh: self.top.control().contains(GeneralControl::MULTI_PASS),
        });
        let controller = &mut self.controllers[kind.index()];
        controller.take(index);
        Some(CoreWork {
            kind,
            index,
            started: controller.epoch().load(Ordering::SeqCst),
            epoch: controller.epoch().clone(),
            registers: controller.registers.clone(),
            slot: controller.slot(index),
            passes,
            bus: Bus {
                memory: self.memory.clone(),
                outbound: self.config.bus_master().then(|| self.iatu.clone()),
                host: host.clone(),
            },
            mesh: self.mesh.clone(),
            fnp2: self.top.fnp2_addresses(),
            tamper,
        })
    }

    /// Gives a job back; the clock cycles it took.
    pub fn core_done(&mut self, done: CoreDone) -> u32 {
        let controller = &mut self.controllers[done.kind.index()];
        if controller.epoch().load(Ordering::SeqCst) != done.started {
            return 0;
        }
        match done.outcome {
            Ok(completed) => {
                if done.kind == Kind::Config && completed.burst {
                    controller.primed = true;
                }
                controller.complete(&completed);
                log::trace!(target: "akida::sim::dma", "{:?} job {} done: {completed:x?}", done.kind, completed.job);
                self.record(JobRecord { kind: done.kind, outcome: Ok(completed.job) });
                completed.cycles
            }
            Err(error) => {
                self.refuse(done.kind, &error);
                0
            }
        }
    }

    fn refuse(&mut self, kind: Kind, error: &JobError) {
        log::debug!(target: "akida::sim::dma", "{kind:?} job refused: {error}");
        self.controllers[kind.index()].halt(matches!(error, JobError::Bus(_)));
        self.record(JobRecord { kind, outcome: Err(error.to_string()) });
    }

    fn record(&mut self, record: JobRecord) {
        if self.counters.jobs.len() == RECORDS_MAX {
            self.counters.jobs.drain(..RECORDS_MAX / 2);
        }
        self.counters.jobs.push(record);
    }

    /// Every register access, by name.
    fn trace(&self, road: &str, what: &str, offset: u32, value: u32) {
        if !log::log_enabled!(target: "akida::sim::reg", log::Level::Trace) {
            return;
        }
        let (block, name) = match road {
            "top" => match block(offset) {
                Block::Dma(kind, register) => {
                    let registers = &self.controllers[kind.index()].registers;
                    (registers.block(), registers.name(register))
                }
                Block::Epg(register) => ("epg", self.epg.name(register)),
                Block::Top(register) => ("top", self.top.name(register)),
            },
            "bar0" if (regs::iatu::unrolled::BASE..UNROLLED_END).contains(&offset) => ("iatu", "REGION"),
            "bar0" => self.link.name(offset),
            _ => match self.endpoint(offset) {
                Endpoint::Iatu(_) => ("iatu", regs::name(regs::iatu::NAMES, offset).unwrap_or("reserved")),
                Endpoint::Link(register) => self.link.name(register),
                Endpoint::Config => ("config", self.config.name(offset)),
            },
        };
        log::trace!(target: "akida::sim::reg", "{what} {block}.{name} ({offset:#x}) = {value:#010x}");
    }
}

/// Where a BAR access goes.
enum Place {
    /// A register of the PCIe controller itself (AKD1500 BAR 0).
    Controller(u32),
    /// The internal bus.
    Device(u64),
}

/// What an endpoint register belongs to.
enum Endpoint {
    Iatu(u32),
    Link(u32),
    Config,
}

/// A block inside TOP and the offset inside it.
enum Block {
    Top(u32),
    Dma(Kind, u32),
    Epg(u32),
}

fn block(offset: u32) -> Block {
    for (base, kind) in [
        (top_registers::EVENT_DMA, Kind::Event),
        (top_registers::HRC_DMA, Kind::Hrc),
        (top_registers::CONFIG_DMA, Kind::Config),
    ] {
        if let Some(register) = within(offset, base, CONTROLLER_LEN) {
            return Block::Dma(kind, register);
        }
    }
    match within(offset, top_registers::EPG, 0x100) {
        Some(register) => Block::Epg(register),
        None => Block::Top(offset),
    }
}

fn within(address: u32, base: u32, len: u32) -> Option<u32> {
    address.checked_sub(base).filter(|offset| *offset < len)
}
