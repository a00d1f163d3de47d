//! One job of an Akida DMA controller: everything it needs is taken when it starts, so that it can run while registers
//! stay readable (hardware.md sections 8, 9, 12 and 16).

mod config;
mod input;
mod output;
mod together;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use akida_hal::descriptor::{self, DescriptorError};
use akida_hal::format::{FormatType, OutputHeader};
use akida_hal::packet::PacketError;
use akida_hal::regs::dma;

use super::bus::{Bus, BusError};
use super::controller::{Completed, Kind};
use super::memory::{Watch, lock};
use super::regmap::RegMap;
use crate::mesh::{Elements, MemoryFault, Mesh, MeshError, MeshInput, MeshOutput, Network, ReadMemory};
pub use config::Passes;
use input::{Given, INPUT_MAX, Taken, dense_bytes};
use output::sum;
pub use together::{Begun, Computed, Foreseen, around, meet};

/// Why a controller stopped instead of finishing.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The descriptor makes no sense.
    #[error(transparent)]
    Descriptor(#[from] DescriptorError),
    /// A packet in a track makes no sense.
    #[error(transparent)]
    Packet(#[from] PacketError),
    /// The mesh refused a packet, its configuration or the input.
    #[error(transparent)]
    Mesh(#[from] MeshError),
    /// An address did not answer.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The descriptor asks for more than any input.
    #[error("an input of {bytes} bytes is more than {INPUT_MAX}")]
    TooLarge {
        /// Bytes asked for.
        bytes: u64,
    },
    /// Events come in pairs of words.
    #[error("{words} words are no list of events")]
    HalfEvent {
        /// Words.
        words: u32,
    },
    /// Potentials cannot be the input of another pass.
    #[error("pass {pass} makes potentials, the next pass takes activations")]
    Potentials {
        /// The pass, from 0.
        pass: usize,
    },
    /// The controller was reset meanwhile.
    #[error("the controller was reset while the job ran")]
    Cancelled,
    /// The last container index is outside the ring and replay is off.
    #[error("container index {last} is outside the ring")]
    Ring {
        /// The index.
        last: u32,
    },
}

/// What the fault plan does to this job.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tamper {
    /// Descriptor word and bits to invert.
    pub descriptor: Option<(u8, u32)>,
    /// Track word and bits to invert.
    pub packet: Option<(u32, u32)>,
    /// Report another job id.
    pub job_id: bool,
    /// Write half a header.
    pub header: bool,
}

/// What a job uses of its controller's registers, as they were when it started.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    control: u32,
    debug: u32,
    clear: u32,
    burst: u32,
    replay_output: u32,
}

impl Setup {
    /// Takes them.
    pub fn of(registers: &RegMap) -> Self {
        Self {
            control: registers.get(dma::CONTROL),
            debug: registers.get(dma::DEBUG_CONTROL),
            clear: registers.get(dma::OUTPUT_CLEAR),
            burst: registers.get(dma::REPLAY_BURST),
            replay_output: registers.get(dma::REPLAY_OUTPUT),
        }
    }
}

/// Memory of a job, kept for the next one.
#[derive(Debug, Default)]
pub struct Buffers {
    input: Vec<u8>,
    /// Events of the input, unless they are in their places in `input`.
    events: Vec<u32>,
    /// Tensors from pass to pass.
    between: [Vec<u8>; 2],
    output: Vec<u8>,
}

/// A job that can be run on any thread.
pub struct CoreWork {
    /// Whose.
    pub kind: Kind,
    /// Ring index.
    pub index: u8,
    /// Reset counter when it started.
    pub started: u64,
    /// The controller's registers.
    pub setup: Setup,
    /// Slot address and length.
    pub slot: (u32, u32),
    /// Multi-pass, both for the first burst of the config DMA and for input jobs.
    pub passes: Option<Passes>,
    /// Injected faults.
    pub tamper: Tamper,
    /// What it may touch.
    pub reach: Arc<Reach>,
}

/// What jobs that are taken together touch: one for all, since threads that count references to many things wait for each other.
pub struct Reach {
    /// Reset counter of their controller.
    pub epoch: Arc<AtomicU64>,
    /// Device and host memory.
    pub bus: Bus,
    /// Where packets go.
    pub mesh: Arc<Mutex<Mesh>>,
    /// External weight addresses.
    pub fnp2: [u32; 4],
    /// Buffers that no job uses.
    pub spare: Arc<Mutex<Vec<Buffers>>>,
}

/// How a job ended.
pub struct CoreDone {
    /// Whose.
    pub kind: Kind,
    /// Its ring index.
    pub index: u8,
    /// Reset counter when it started.
    pub started: u64,
    /// What to put into registers, or why not.
    pub outcome: Result<Completed, JobError>,
}

/// An output that is made, in the buffers of its job, and not written.
struct Made {
    taken: Taken,
    checksum_in: u32,
    output: Framed,
}

/// An output as it is written.
struct Framed {
    /// Bytes behind the header.
    payload: usize,
    checksum: u32,
}

struct Weights<'a> {
    bus: &'a Bus,
    addresses: [u32; 4],
}

impl ReadMemory for Weights<'_> {
    fn fnp2_address(&self, id: u8) -> u32 {
        self.addresses[usize::from(id & 3)]
    }

    fn read_words(&self, address: u64, words: &mut [u32]) -> Result<(), MemoryFault> {
        let fault = MemoryFault { address };
        let at = u32::try_from(address).map_err(|_| fault)?;
        self.bus.fill_words(at, words).map_err(|_| fault)
    }

    fn watch(&self, address: u64, words: usize) -> Option<Arc<Watch>> {
        self.bus.memory.watch(u32::try_from(address).ok()?, words * 4)
    }
}

impl CoreWork {
    /// Does it.
    pub fn run(self) -> CoreDone {
        let outcome = match (self.kind, &self.passes) {
            _ if dma::LOOPBACK.any(self.setup.debug) => self.loopback(),
            (Kind::Config, Some(passes)) => self.burst(passes, 0, &mut None),
            (Kind::Config, None) => self.config(self.slot.0, &mut None),
            (_, passes) => {
                let mut buffers = lock(&self.reach.spare).pop().unwrap_or_default();
                let made = self.make(passes.as_ref(), &mut buffers);
                let outcome = made.and_then(|made| self.deliver(&made, &buffers));
                lock(&self.reach.spare).push(buffers);
                outcome
            }
        };
        self.done(outcome)
    }

    fn done(&self, outcome: Result<Completed, JobError>) -> CoreDone {
        CoreDone { kind: self.kind, index: self.index, started: self.started, outcome }
    }

    /// Whether the fault plan does anything to it.
    fn tampered(&self) -> bool {
        let Tamper { descriptor, packet, job_id, header } = self.tamper;
        descriptor.is_some() || packet.is_some() || job_id || header
    }

    fn checksum_in(&self, buffers: &Buffers) -> u32 {
        if dma::CHECKSUM_ENABLE.any(self.setup.debug) { buffers.checksum(self.kind) } else { 0 }
    }

    fn descriptor<const N: usize>(&self, slot: u32) -> Result<[u32; N], JobError> {
        let mut words = [0; N];
        self.reach.bus.fill_words(slot, &mut words)?;
        if let Some((word, bits)) = self.tamper.descriptor
            && let Some(word) = words.get_mut(usize::from(word))
        {
            *word ^= bits;
        }
        Ok(words)
    }

    fn live(&self) -> Result<(), JobError> {
        if self.reach.epoch.load(Ordering::SeqCst) == self.started { Ok(()) } else { Err(JobError::Cancelled) }
    }

    /// The memory-to-memory test mode of hardware.md 8.2: {0, source, words, destination}.
    fn loopback(&self) -> Result<Completed, JobError> {
        let [_, source, words, destination, ..] = self.descriptor::<{ descriptor::WORDS }>(self.slot.0)?;
        let words = words & 0x00ff_ffff;
        let data = self.reach.bus.read_words(source, words as usize)?;
        let header = OutputHeader { words, format: FormatType::Loopback };
        let mut output = self.framed(header);
        data.iter().for_each(|w| output.extend_from_slice(&w.to_le_bytes()));
        self.write(destination, &output)?;
        Ok(self.completed(source, words, sum(&data), destination, &output[self.header_bytes()..]))
    }

    /// From the input to the last pass's output.
    fn make(&self, passes: Option<&Passes>, buffers: &mut Buffers) -> Result<Made, JobError> {
        let mut taken = self.take_input()?;
        self.load_input(&taken, buffers)?;
        let checksum_in = self.checksum_in(buffers);
        let inner = if passes.is_some() { self.loops() - 1 } else { 0 };
        let mut network = None;
        let [mut from, mut into] = std::mem::take(&mut buffers.between);
        if let Some(passes) = passes {
            taken.output = self.setup.replay_output;
            for pass in 0..inner {
                let input = if pass == 0 { buffers.mesh(self.kind) } else { MeshInput::Dense(&from) };
                let (next, kept) = self.compute(input, network.as_deref(), |output| match output.elements {
                    Elements::Words(_) => Err(JobError::Potentials { pass }),
                    Elements::Bytes(bytes) => {
                        into.clear();
                        into.extend_from_slice(bytes);
                        Ok(())
                    }
                })?;
                kept?;
                network = Some(next);
                std::mem::swap(&mut from, &mut into);
                self.next_pass(passes, pass + 1)?;
            }
        }
        let mut framed = std::mem::take(&mut buffers.output);
        let input = if inner == 0 { buffers.mesh(self.kind) } else { MeshInput::Dense(&from) };
        let (_, output) = self.compute(input, network.as_deref(), |output| self.frame_output(output, &mut framed))?;
        (buffers.output, buffers.between) = (framed, [from, into]);
        if let (Some(passes), true) = (passes, inner > 0) {
            self.next_pass(passes, 0)?;
        }
        Ok(Made { taken, checksum_in, output })
    }

    /// Passes of a job.
    fn loops(&self) -> usize {
        dma::BURST_LOOPS.get(self.setup.burst).max(1) as usize
    }

    /// One pass behind another: its network, and what `take` makes of the output.
    fn compute<T>(
        &self,
        input: MeshInput<'_>,
        before: Option<&Network>,
        take: impl FnOnce(MeshOutput<'_>) -> T,
    ) -> Result<(Arc<Network>, T), JobError> {
        self.live()?;
        let network = lock(&self.reach.mesh).network_behind(before)?;
        let taken = network.run(input, &Weights { bus: &self.reach.bus, addresses: self.reach.fnp2 }, take)?;
        Ok((network, taken))
    }
}
