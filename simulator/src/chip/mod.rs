//! The device model: a PCI function driven by configuration and BAR accesses, that asks for host memory and interrupt
//! messages. It knows nothing of who drives it: [`SimBoard`](crate::SimBoard) does in process, a vfio-user server can.
//!
//! Accesses never block. What moves host memory or computes is handed out as work ([`Chip::link_work`],
//! [`Chip::core_work`]), to be run with or without a lock around the chip, and given back.

pub mod bus;
pub mod channel;
pub mod config;
pub mod controller;
mod core;
mod edma;
mod hdma;
pub mod iatu;
pub mod job;
mod late;
mod link;
mod map;
pub mod memory;
pub mod passes;
pub mod regmap;
mod top;
mod trace;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use akida_hal::board::{Bar, Chip as ChipKind};
use akida_hal::memory_map::{LPDDR_LEN, MEMORY, SRAM_LEN};
use akida_hal::regs::{epg, pci};

pub use self::core::CoreBatch;
use crate::faults::{FaultKind, FaultPlan, Faults, Fired, Occasion};
use crate::mesh::Mesh;
use crate::spec::SimSpec;

use channel::Channel;
use config::ConfigSpace;
use controller::{Controller, Kind};
use edma::Edma;
use hdma::Hdma;
use iatu::Iatu;
use job::Buffers;
use late::Late;
use link::LinkEngine;
pub use link::LinkWork;
use map::{ONES, Place};
use memory::DeviceMemory;
use passes::PassStore;
use regmap::RegMap;
use top::Top;

/// SRAM of the AKD1000 that the kernel driver can use for lists; its length is ours.
const INTERNAL_SRAM: (u32, u32) = (0x1000_0000, 1 << 20);

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
    iatu: Arc<Iatu>,
    link: Box<dyn LinkEngine>,
    memory: Arc<DeviceMemory>,
    top: Top,
    controllers: [Controller; 3],
    epg: RegMap,
    mesh: Arc<Mutex<Mesh>>,
    passes: Arc<Mutex<PassStore>>,
    /// Memory of pieces that the PCIe DMA engine moved.
    moved: Vec<u8>,
    /// Buffers of jobs that ended.
    spare: Arc<Mutex<Vec<Buffers>>>,
    late: Option<Late>,
    /// Something happened since no job of the core could be started.
    attention: bool,
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
            iatu: Arc::new(if akd1500 { Iatu::unrolled() } else { Iatu::viewport() }),
            link: if akd1500 { Box::new(Hdma::new()) } else { Box::new(Edma::new()) },
            memory: Arc::new(DeviceMemory::new(ranges)),
            top: Top::new(&mesh),
            controllers: [Kind::Event, Kind::Hrc, Kind::Config].map(Controller::new),
            epg: RegMap::of("epg", epg::NAMES, &epg_special),
            mesh: Arc::new(Mutex::new(Mesh::new(mesh))),
            passes: Arc::default(),
            moved: Vec::new(),
            spare: Arc::default(),
            late: None,
            attention: true,
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
        self.catch_up();
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
        self.attention = true;
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
        self.attention = true;
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
        self.catch_up();
        if self.presence == Presence::LostUntilReset {
            self.presence = Presence::Here;
        }
        self.config.reset();
        Arc::make_mut(&mut self.iatu).reset();
        self.link.reset();
        self.top.reset();
        self.epg.reset();
        self.controllers.iter_mut().for_each(Controller::reset);
        self.reset_mesh();
        self.outbox.clear();
    }

    /// Brings a function back that `lose-device` has taken away, as it is: a card that is pushed into its slot again.
    pub fn reconnect(&mut self) {
        self.presence = Presence::Here;
    }

    /// What firmware and kernel do to a function before its driver: BAR addresses, MSI address, data and enable, memory
    /// decoding. Not counted as accesses.
    pub fn plug(&mut self, bars: [u64; 3], msi_address: u64, msi_data: u32) {
        self.config.plug(bars, msi_address, msi_data);
    }

    /// Whether a job could be started now; cheap.
    pub fn core_waits(&self) -> bool {
        self.attention && self.presence == Presence::Here && self.controllers.iter().any(|c| c.pending().is_some())
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
}
