//! One job of an Akida DMA controller: everything it needs is taken when it starts, so that it can run while registers
//! stay readable (hardware.md sections 8, 9, 12 and 16).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use akida_hal::descriptor::{
    self, ConfigDescriptor, DescriptorError, Direction, EventDescriptor, HrcDescriptor, JobHeader,
};
use akida_hal::format::{FormatType, OutputHeader};
use akida_hal::packet::{self, PacketError, PacketHeader};
use akida_hal::regs::dma::{self, Control, MonitorStatus};

use super::bus::{Bus, BusError};
use super::controller::{Completed, Kind};
use super::memory::lock;
use super::regmap::RegMap;
use crate::mesh::{MemoryFault, Mesh, MeshError, MeshInput, MeshOutput, ReadMemory};

/// Largest input of one job. Ours: a 2^32-byte row times 65535 rows can be described, and does not exist.
const INPUT_MAX: u64 = 64 << 20;

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

/// The config DMA as a multi-pass job drives it.
pub struct Passes {
    /// Config DMA registers.
    pub registers: RegMap,
    /// Descriptors of one pass.
    pub descriptors: u8,
    /// Whether the mesh is reset between passes.
    pub reset_mesh: bool,
}

/// A job that can be run on any thread.
pub struct CoreWork {
    /// Whose.
    pub kind: Kind,
    /// Ring index.
    pub index: u8,
    /// Reset counter when it started, and now.
    pub started: u64,
    /// See `started`.
    pub epoch: Arc<AtomicU64>,
    /// The controller's registers.
    pub registers: RegMap,
    /// Slot address and length.
    pub slot: (u32, u32),
    /// Multi-pass, both for the first burst of the config DMA and for input jobs.
    pub passes: Option<Passes>,
    /// What it may touch.
    pub bus: Bus,
    /// Where packets go.
    pub mesh: Arc<Mutex<Mesh>>,
    /// External weight addresses.
    pub fnp2: [u32; 4],
    /// Injected faults.
    pub tamper: Tamper,
}

/// How a job ended.
pub struct CoreDone {
    /// Whose.
    pub kind: Kind,
    /// Reset counter when it started.
    pub started: u64,
    /// What to put into registers, or why not.
    pub outcome: Result<Completed, JobError>,
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
        let read = self.bus.read_words(at, words.len()).map_err(|_| fault)?;
        words.copy_from_slice(&read);
        Ok(())
    }
}

/// Input as it was read, before it is given to the mesh.
enum Input {
    Dense(Vec<u8>),
    Events(Vec<u32>),
}

impl Input {
    fn words(&self) -> u32 {
        match self {
            Input::Dense(bytes) => bytes.len().div_ceil(4) as u32,
            Input::Events(words) => words.len() as u32,
        }
    }

    fn checksum(&self) -> u32 {
        match self {
            Input::Dense(bytes) => bytes.chunks(4).fold(0, |sum: u32, chunk| {
                let mut word = [0; 4];
                word[..chunk.len()].copy_from_slice(chunk);
                sum.wrapping_add(u32::from_le_bytes(word))
            }),
            Input::Events(words) => sum(words),
        }
    }

    /// FNP events have their polarity bit set, which is no bit of a CNP event.
    fn mesh(&self) -> MeshInput<'_> {
        match self {
            Input::Dense(bytes) => MeshInput::Dense(bytes),
            Input::Events(words) if words.get(1).is_some_and(|w| w >> 31 != 0) => MeshInput::FnpEvents(words),
            Input::Events(words) => MeshInput::CnpEvents(words),
        }
    }
}

fn sum(words: &[u32]) -> u32 {
    words.iter().fold(0, |sum, word| sum.wrapping_add(*word))
}

impl CoreWork {
    /// Does it.
    pub fn run(self) -> CoreDone {
        let outcome = match (self.kind, &self.passes) {
            _ if dma::LOOPBACK.any(self.registers.get(dma::DEBUG_CONTROL)) => self.loopback(),
            (Kind::Config, Some(passes)) => self.burst(passes, 0),
            (Kind::Config, None) => self.config(self.slot.0),
            (_, passes) => self.input(passes.as_ref()),
        };
        CoreDone { kind: self.kind, started: self.started, outcome }
    }

    fn descriptor<const N: usize>(&self, slot: u32) -> Result<[u32; N], JobError> {
        let read = self.bus.read_words(slot, N)?;
        let mut words = [0; N];
        words.copy_from_slice(&read);
        if let Some((word, bits)) = self.tamper.descriptor
            && let Some(word) = words.get_mut(usize::from(word))
        {
            *word ^= bits;
        }
        Ok(words)
    }

    fn live(&self) -> Result<(), JobError> {
        if self.epoch.load(Ordering::SeqCst) == self.started { Ok(()) } else { Err(JobError::Cancelled) }
    }

    /// The memory-to-memory test mode of hardware.md 8.2: {0, source, words, destination}.
    fn loopback(&self) -> Result<Completed, JobError> {
        let [_, source, words, destination, ..] = self.descriptor::<{ descriptor::WORDS }>(self.slot.0)?;
        let words = words & 0x00ff_ffff;
        let data = self.bus.read_words(source, words as usize)?;
        self.write(destination, FormatType::Loopback, &data)?;
        Ok(self.completed(source, words, sum(&data), destination, &data))
    }

    /// One config descriptor.
    fn config(&self, slot: u32) -> Result<Completed, JobError> {
        let descriptor = ConfigDescriptor::decode(&self.descriptor(slot)?)?;
        let mut words = self.bus.read_words(descriptor.input, usize::from(descriptor.input_words))?;
        let checksum = sum(&words);
        let read = match descriptor.direction {
            Direction::Write => {
                if let Some((at, bits)) = self.tamper.packet
                    && !words.is_empty()
                {
                    let at = at as usize % words.len();
                    words[at] ^= bits;
                }
                self.play(&words)?;
                Vec::new()
            }
            Direction::Read => self.read_back(&words)?,
        };
        if descriptor.direction == Direction::Read && !read.is_empty() {
            self.write_read_back(descriptor.output, &read)?;
        }
        // What the mesh got counts, not what was in memory.
        let checksum = if descriptor.direction == Direction::Write { sum(&words) } else { checksum };
        Ok(self.completed(descriptor.input, descriptor.input_words.into(), checksum, descriptor.output, &read))
    }

    /// Gives the packets of a track to the mesh, up to the first one that is wrong.
    fn play(&self, words: &[u32]) -> Result<(), JobError> {
        for packet in packet::packets(words) {
            let packet = packet?;
            let mut mesh = lock(&self.mesh);
            self.live()?;
            mesh.write(&packet.header, packet.payload)?;
        }
        Ok(())
    }

    /// What a config read gives. The dummy descriptors of multi-pass rings have a header of zeros and read nothing
    /// (hardware.md 9.4). An NP that does not exist reads as zeros (ours), which a mesh scan takes for "empty".
    fn read_back(&self, header: &[u32]) -> Result<Vec<u32>, JobError> {
        if header.iter().all(|w| *w == 0) {
            return Ok(Vec::new());
        }
        let Some(words) = header.first_chunk::<2>() else {
            return Err(PacketError::HeaderTruncated { offset: 0 }.into());
        };
        let header = PacketHeader::decode(*words)?;
        match lock(&self.mesh).read(&header) {
            Ok(words) => Ok(words),
            Err(MeshError::NoSuchNp { .. }) => Ok(vec![0; header.len as usize]),
            Err(error) => Err(error.into()),
        }
    }

    /// With the output header on, the older engine finds the length in bits 15..0 of its first word.
    fn write_read_back(&self, output: u32, words: &[u32]) -> Result<(), JobError> {
        let header = self.header_bytes();
        let mut bytes = vec![0; header];
        if let Some(first) = bytes.first_chunk_mut::<4>() {
            *first = (words.len() as u32 & 0xffff).to_le_bytes();
        }
        bytes.extend(words.iter().flat_map(|w| w.to_le_bytes()));
        self.live()?;
        Ok(self.bus.write(output, &bytes)?)
    }

    /// Plays one pass's descriptors.
    fn burst(&self, passes: &Passes, pass: usize) -> Result<Completed, JobError> {
        let count = usize::from(passes.descriptors.max(1));
        let slot_bytes = dma::SLOT_SIZE.get(passes.registers.get(dma::RING_SIZE)).max(1) * 32;
        let base = passes.registers.get(dma::RING_BASE);
        let mut done = Completed::default();
        for index in pass * count..(pass + 1) * count {
            let slot = base.wrapping_add((index as u32).wrapping_mul(slot_bytes));
            done = Completed { index: index as u8, ..self.config(slot)? };
        }
        Ok(Completed { burst: true, ..done })
    }

    fn input(&self, passes: Option<&Passes>) -> Result<Completed, JobError> {
        let (header, address, input, mut output) = self.read_input()?;
        let (words_in, checksum_in) = (input.words(), input.checksum());
        let mut made = self.compute(input.mesh())?;
        if let Some(passes) = passes {
            let loops = dma::BURST_LOOPS.get(self.registers.get(dma::REPLAY_BURST)).max(1) as usize;
            output = self.registers.get(dma::REPLAY_OUTPUT);
            for pass in 1..loops {
                if made.port.bits > 8 {
                    return Err(JobError::Potentials { pass: pass - 1 });
                }
                let bytes: Vec<u8> = made.values.iter().map(|v| *v as u8).collect();
                self.next_pass(passes, pass)?;
                made = self.compute(MeshInput::Dense(&bytes))?;
            }
            if loops > 1 {
                self.next_pass(passes, 0)?;
            }
        }
        let payload = made.payload();
        self.write(output, made.format_type(), &payload)?;
        let job = header.job.0 ^ if self.tamper.job_id { 0x5555 } else { 0 };
        let mut quiet = MonitorStatus::empty();
        quiet.set(MonitorStatus::OUTBOUND_INTERRUPT, header.no_outbound_interrupt);
        quiet.set(MonitorStatus::INBOUND_INTERRUPT, header.no_inbound_interrupt);
        Ok(Completed {
            job,
            burst: passes.is_some(),
            quiet: quiet.bits(),
            ..self.completed(address, words_in, checksum_in, output, &payload)
        })
    }

    fn next_pass(&self, passes: &Passes, pass: usize) -> Result<(), JobError> {
        if passes.reset_mesh {
            let mut mesh = lock(&self.mesh);
            self.live()?;
            mesh.reset();
        }
        self.burst(passes, pass).map(drop)
    }

    fn compute(&self, input: MeshInput<'_>) -> Result<MeshOutput, JobError> {
        self.live()?;
        let network = lock(&self.mesh).network()?;
        Ok(network.run(input, &Weights { bus: &self.bus, addresses: self.fnp2 })?)
    }

    /// Descriptor and payload: (job, address, input, output address).
    fn read_input(&self) -> Result<(JobHeader, u32, Input, u32), JobError> {
        if self.kind == Kind::Event {
            let d = EventDescriptor::decode(&self.descriptor(self.slot.0)?)?;
            if !d.input_words.is_multiple_of(2) {
                return Err(JobError::HalfEvent { words: d.input_words });
            }
            let words = self.bus.read_words(d.input, d.input_words as usize)?;
            return Ok((d.header, d.input, Input::Events(words), d.output));
        }
        let d = HrcDescriptor::decode(&self.descriptor(self.slot.0)?)?;
        let bytes = u64::from(d.row_bytes) * u64::from(d.rows);
        if bytes > INPUT_MAX || d.input_bytes() > INPUT_MAX {
            return Err(JobError::TooLarge { bytes });
        }
        let stride = if d.next_row == 0 { d.row_bytes } else { u32::from(d.next_row) };
        let mut data = vec![0; bytes as usize];
        if stride == d.row_bytes {
            self.bus.read(d.input, &mut data)?;
        } else {
            for (row, into) in data.chunks_mut(d.row_bytes.max(1) as usize).enumerate() {
                self.bus.read(d.input.wrapping_add(stride.wrapping_mul(row as u32)), into)?;
            }
        }
        Ok((d.header, d.input, Input::Dense(data), d.output))
    }

    fn header_bytes(&self) -> usize {
        let control = self.registers.get(dma::CONTROL);
        if control & Control::WRITE_INFO.bits() == 0 { 0 } else { dma::HEADER_SIZE.get(control) as usize }
    }

    /// Clears the output area if asked to, then writes header and payload.
    fn write(&self, output: u32, format: FormatType, payload: &[u32]) -> Result<(), JobError> {
        let header = self.header_bytes();
        let clear = self.registers.get(dma::OUTPUT_CLEAR);
        let cleared = if dma::CLEAR_ENABLE.any(clear) { dma::CLEAR_WORDS.get(clear) as usize * 4 } else { 0 };
        let len = header + cleared.max(payload.len() * 4);
        if !self.bus.decodes(output, len) {
            return Err(BusError::Decode { address: output, len }.into());
        }
        self.live()?;
        let zeros = [0; 4096];
        let mut at = payload.len() * 4;
        while at < cleared {
            let n = zeros.len().min(cleared - at);
            self.bus.write(output.wrapping_add((header + at) as u32), &zeros[..n])?;
            at += n;
        }
        let words = OutputHeader { words: payload.len() as u32, format }.encode();
        let mut bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        bytes.resize(header, 0);
        if self.tamper.header {
            // The word with the length is the one that is missing.
            let half = bytes.split_off(header / 2);
            self.bus.write(output.wrapping_add((header / 2) as u32), &half)?;
            bytes.clear();
        }
        let at = output.wrapping_add((header - bytes.len()) as u32);
        bytes.extend(payload.iter().flat_map(|w| w.to_le_bytes()));
        Ok(self.bus.write(if self.tamper.header { output.wrapping_add(header as u32) } else { at }, &bytes)?)
    }

    fn completed(&self, input: u32, input_words: u32, checksum_in: u32, output: u32, payload: &[u32]) -> Completed {
        Completed {
            index: self.index,
            job: 0,
            input,
            input_words,
            output,
            output_words: payload.len() as u32,
            checksum_in,
            checksum_out: sum(payload),
            cycles: input_words.saturating_add(payload.len() as u32).saturating_add(64),
            burst: false,
            quiet: 0,
        }
    }
}
