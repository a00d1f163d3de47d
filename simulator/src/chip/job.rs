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
use super::memory::{Watch, lock};
use super::passes::{PassStore, Place, Source};
use super::regmap::RegMap;
use crate::mesh::{Elements, MemoryFault, Mesh, MeshError, MeshInput, MeshOutput, ReadMemory};

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
    /// Where its descriptors are.
    pub ring: u32,
    /// Bytes of one.
    pub slot: u32,
    /// Descriptors of one pass.
    pub descriptors: u8,
    /// Whether the mesh is reset between passes.
    pub reset_mesh: bool,
    /// Passes that were played before.
    pub store: Arc<Mutex<PassStore>>,
}

impl Passes {
    /// The config DMA as its registers say.
    pub fn of(registers: &RegMap, reset_mesh: bool, store: Arc<Mutex<PassStore>>) -> Self {
        Self {
            ring: registers.get(dma::RING_BASE),
            slot: dma::SLOT_SIZE.get(registers.get(dma::RING_SIZE)).max(1) * 32,
            descriptors: (dma::BURST_DESCRIPTORS.get(registers.get(dma::REPLAY_BURST)) as u8).max(1),
            reset_mesh,
            store,
        }
    }

    fn place(&self, pass: usize) -> Place {
        Place { ring: self.ring, slot: self.slot, descriptors: self.descriptors, pass }
    }

    fn descriptor(&self, index: usize) -> u32 {
        self.ring.wrapping_add((index as u32).wrapping_mul(self.slot))
    }

    fn indices(&self, pass: usize) -> std::ops::Range<usize> {
        let count = usize::from(self.descriptors);
        pass * count..(pass + 1) * count
    }
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
    events: Vec<u32>,
    output: Vec<u8>,
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
    pub setup: Setup,
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

/// An output that is made and not written.
struct Made {
    taken: Taken,
    checksum_in: u32,
    output: MeshOutput,
}

/// A job that was computed; nobody can see it yet.
pub struct Computed {
    work: CoreWork,
    buffers: Buffers,
    made: Result<Made, JobError>,
}

impl Computed {
    /// Writes the output.
    pub fn finish(self) -> CoreDone {
        let Self { work, mut buffers, made } = self;
        let outcome = made.and_then(|made| work.deliver(made, &mut buffers));
        lock(&work.spare).push(buffers);
        work.done(outcome)
    }
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

/// What of an input is reported, and where its output goes.
struct Taken {
    header: JobHeader,
    address: u32,
    words: u32,
    output: u32,
}

impl Buffers {
    /// FNP events have their polarity bit set, which is no bit of a CNP event.
    fn mesh(&self, kind: Kind) -> MeshInput<'_> {
        match kind {
            Kind::Event if self.events.get(1).is_some_and(|w| w >> 31 != 0) => MeshInput::FnpEvents(&self.events),
            Kind::Event => MeshInput::CnpEvents(&self.events),
            _ => MeshInput::Dense(&self.input),
        }
    }

    fn checksum(&self, kind: Kind) -> u32 {
        if kind == Kind::Event { sum(&self.events) } else { sum_bytes(&self.input) }
    }
}

/// The sum of little-endian words; what is missing of the last one is 0.
fn sum_bytes(bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    words.iter().chain([&last]).fold(0, |sum: u32, word| sum.wrapping_add(u32::from_le_bytes(*word)))
}

fn sum(words: &[u32]) -> u32 {
    words.iter().fold(0, |sum, word| sum.wrapping_add(*word))
}

impl CoreWork {
    /// Does it.
    pub fn run(self) -> CoreDone {
        let outcome = match (self.kind, &self.passes) {
            _ if dma::LOOPBACK.any(self.setup.debug) => self.loopback(),
            (Kind::Config, Some(passes)) => self.burst(passes, 0, &mut None),
            (Kind::Config, None) => self.config(self.slot.0, &mut None),
            (_, passes) => {
                let mut buffers = lock(&self.spare).pop().unwrap_or_default();
                let made = self.make(passes.as_ref(), &mut buffers);
                let outcome = made.and_then(|made| self.deliver(made, &mut buffers));
                lock(&self.spare).push(buffers);
                outcome
            }
        };
        self.done(outcome)
    }

    fn done(&self, outcome: Result<Completed, JobError>) -> CoreDone {
        CoreDone { kind: self.kind, index: self.index, started: self.started, outcome }
    }

    /// Whether jobs like this one can be computed at the same time: each sees its own input and nothing of the others.
    pub fn side_by_side(&self) -> bool {
        self.kind != Kind::Config
            && self.passes.is_none()
            && !dma::LOOPBACK.any(self.setup.debug)
            && lock(&self.mesh).network().is_ok_and(|n| !n.keeps_frames())
    }

    /// Does all but to write the output, which [`Computed::finish`] does in the order of the ring, of jobs that can be
    /// computed side by side: together, so that weights are read once for all, unless one of them is refused.
    pub fn compute_together(works: Vec<Self>) -> Vec<Computed> {
        let mut read: Vec<(Self, Buffers, Result<Taken, JobError>)> = works
            .into_iter()
            .map(|work| {
                let mut buffers = lock(&work.spare).pop().unwrap_or_default();
                let taken = work.read_input(&mut buffers);
                (work, buffers, taken)
            })
            .collect();
        let Some(outputs) = Self::outputs(&read) else {
            return read
                .into_iter()
                .map(|(work, mut buffers, _)| {
                    let made = work.make(None, &mut buffers);
                    Computed { work, buffers, made }
                })
                .collect();
        };
        read.drain(..)
            .zip(outputs)
            .map(|((work, buffers, taken), output)| {
                let made = taken.map(|taken| Made { taken, checksum_in: work.checksum_in(&buffers), output });
                Computed { work, buffers, made }
            })
            .collect()
    }

    /// What jobs make, where none of them is refused.
    fn outputs(read: &[(Self, Buffers, Result<Taken, JobError>)]) -> Option<Vec<MeshOutput>> {
        let (first, ..) = read.first().filter(|_| read.len() > 1)?;
        if read.iter().any(|(work, _, taken)| taken.is_err() || work.live().is_err()) {
            return None;
        }
        let network = lock(&first.mesh).network().ok()?;
        let inputs: Vec<MeshInput<'_>> = read.iter().map(|(work, buffers, _)| buffers.mesh(work.kind)).collect();
        network.run_batch(&inputs, &Weights { bus: &first.bus, addresses: first.fnp2 }).ok()
    }

    fn checksum_in(&self, buffers: &Buffers) -> u32 {
        if dma::CHECKSUM_ENABLE.any(self.setup.debug) { buffers.checksum(self.kind) } else { 0 }
    }

    fn descriptor<const N: usize>(&self, slot: u32) -> Result<[u32; N], JobError> {
        let mut words = [0; N];
        self.bus.fill_words(slot, &mut words)?;
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
        let header = OutputHeader { words, format: FormatType::Loopback };
        let mut output = self.framed(header);
        data.iter().for_each(|w| output.extend_from_slice(&w.to_le_bytes()));
        self.write(destination, &output)?;
        Ok(self.completed(source, words, sum(&data), destination, &output[self.header_bytes()..]))
    }

    /// One config descriptor. What it takes from memory is noted, where a list is given and that is all there is to it.
    fn config(&self, slot: u32, sources: &mut Option<Vec<Source>>) -> Result<Completed, JobError> {
        let descriptor = ConfigDescriptor::decode(&self.descriptor(slot)?)?;
        let (at, len) = (descriptor.input, usize::from(descriptor.input_words));
        let mut words = match (descriptor.direction, sources.as_mut()) {
            (Direction::Write, Some(noted)) => {
                // A read before it may have seen what this changes.
                let reads = noted.iter().any(Source::is_read);
                let source = Source::track(&self.bus, slot, at, len)?;
                let words = source.words().to_vec();
                if reads {
                    *sources = None
                } else {
                    noted.push(source)
                }
                words
            }
            (Direction::Read, Some(noted)) => {
                noted.push(Source::read(&self.bus, slot)?);
                self.bus.read_words(at, len)?
            }
            (_, None) => self.bus.read_words(at, len)?,
        };
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
        let bytes: Vec<u8> = read.iter().flat_map(|w| w.to_le_bytes()).collect();
        Ok(self.completed(descriptor.input, descriptor.input_words.into(), checksum, descriptor.output, &bytes))
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
    fn burst(&self, passes: &Passes, pass: usize, sources: &mut Option<Vec<Source>>) -> Result<Completed, JobError> {
        let mut done = Completed::default();
        for index in passes.indices(pass) {
            done = Completed { index: index as u8, ..self.config(passes.descriptor(index), sources)? };
        }
        Ok(Completed { burst: true, ..done })
    }

    /// From the input to the last pass's output.
    fn make(&self, passes: Option<&Passes>, buffers: &mut Buffers) -> Result<Made, JobError> {
        let mut taken = self.read_input(buffers)?;
        let checksum_in = self.checksum_in(buffers);
        let mut made = self.compute(buffers.mesh(self.kind))?;
        if let Some(passes) = passes {
            let loops = dma::BURST_LOOPS.get(self.setup.burst).max(1) as usize;
            taken.output = self.setup.replay_output;
            for pass in 1..loops {
                let Elements::Bytes(bytes) = &made.elements else {
                    return Err(JobError::Potentials { pass: pass - 1 });
                };
                self.next_pass(passes, pass)?;
                made = self.compute(MeshInput::Dense(bytes))?;
            }
            if loops > 1 {
                self.next_pass(passes, 0)?;
            }
        }
        Ok(Made { taken, checksum_in, output: made })
    }

    /// The output to where it belongs.
    fn deliver(&self, made: Made, buffers: &mut Buffers) -> Result<Completed, JobError> {
        let Made { taken: Taken { header, address, words, output }, checksum_in, output: made } = made;
        let framed = &mut buffers.output;
        framed.clear();
        framed.resize(self.header_bytes(), 0);
        made.payload(framed);
        let payload = framed.len() - self.header_bytes();
        let format = OutputHeader { words: (payload / 4) as u32, format: made.format_type() };
        self.frame(format, framed);
        self.write(output, framed)?;
        let job = header.job.0 ^ if self.tamper.job_id { 0x5555 } else { 0 };
        let mut quiet = MonitorStatus::empty();
        quiet.set(MonitorStatus::OUTBOUND_INTERRUPT, header.no_outbound_interrupt);
        quiet.set(MonitorStatus::INBOUND_INTERRUPT, header.no_inbound_interrupt);
        Ok(Completed {
            job,
            burst: self.passes.is_some(),
            quiet: quiet.bits(),
            ..self.completed(address, words, checksum_in, output, &framed[self.header_bytes()..])
        })
    }

    /// The mesh goes to another pass: its tracks are played, unless they are what they were the last time and the mesh they
    /// made is still there.
    fn next_pass(&self, passes: &Passes, pass: usize) -> Result<(), JobError> {
        if !passes.reset_mesh {
            return self.burst(passes, pass, &mut None).map(drop);
        }
        let place = passes.place(pass);
        // A descriptor that the fault plan changes is to be seen.
        let mut sources = self.tamper.descriptor.is_none().then(Vec::new);
        {
            let mut mesh = lock(&self.mesh);
            self.live()?;
            let mut store = lock(&passes.store);
            if sources.is_some()
                && let Some(reads) = store.bring(place, &mut mesh, &self.bus)
            {
                drop((mesh, store));
                return reads.into_iter().try_for_each(|slot| self.config(slot, &mut None).map(drop));
            }
            store.clear_mesh(&mut mesh);
        }
        self.burst(passes, pass, &mut sources)?;
        if let Some(sources) = sources {
            let mesh = lock(&self.mesh);
            lock(&passes.store).note(place, sources, &mesh);
        }
        Ok(())
    }

    fn compute(&self, input: MeshInput<'_>) -> Result<MeshOutput, JobError> {
        self.live()?;
        let network = lock(&self.mesh).network()?;
        Ok(network.run(input, &Weights { bus: &self.bus, addresses: self.fnp2 })?)
    }

    /// Descriptor and payload, the payload into the buffers.
    fn read_input(&self, buffers: &mut Buffers) -> Result<Taken, JobError> {
        if self.kind == Kind::Event {
            let d = EventDescriptor::decode(&self.descriptor(self.slot.0)?)?;
            if !d.input_words.is_multiple_of(2) {
                return Err(JobError::HalfEvent { words: d.input_words });
            }
            buffers.events.resize(d.input_words as usize, 0);
            self.bus.fill_words(d.input, &mut buffers.events)?;
            return Ok(Taken { header: d.header, address: d.input, words: d.input_words, output: d.output });
        }
        let d = HrcDescriptor::decode(&self.descriptor(self.slot.0)?)?;
        let bytes = u64::from(d.row_bytes) * u64::from(d.rows);
        if bytes > INPUT_MAX || d.input_bytes() > INPUT_MAX {
            return Err(JobError::TooLarge { bytes });
        }
        let stride = if d.next_row == 0 { d.row_bytes } else { u32::from(d.next_row) };
        let data = &mut buffers.input;
        data.resize(bytes as usize, 0);
        if stride == d.row_bytes {
            self.bus.read(d.input, data)?;
        } else {
            for (row, into) in data.chunks_mut(d.row_bytes.max(1) as usize).enumerate() {
                self.bus.read(d.input.wrapping_add(stride.wrapping_mul(row as u32)), into)?;
            }
        }
        let words = data.len().div_ceil(4) as u32;
        Ok(Taken { header: d.header, address: d.input, words, output: d.output })
    }

    fn header_bytes(&self) -> usize {
        let control = self.setup.control;
        if control & Control::WRITE_INFO.bits() == 0 { 0 } else { dma::HEADER_SIZE.get(control) as usize }
    }

    /// An output header, as long as the controller writes it.
    fn framed(&self, header: OutputHeader) -> Vec<u8> {
        let mut bytes = vec![0; self.header_bytes()];
        self.frame(header, &mut bytes);
        bytes
    }

    /// Puts a header before a payload for which room was left.
    fn frame(&self, header: OutputHeader, framed: &mut [u8]) {
        let room = self.header_bytes();
        for (into, word) in framed[..room].chunks_exact_mut(4).zip(header.encode()) {
            into.copy_from_slice(&word.to_le_bytes());
        }
    }

    /// Clears what is behind the output where asked to, then writes header and payload.
    fn write(&self, output: u32, framed: &[u8]) -> Result<(), JobError> {
        let header = self.header_bytes();
        let clear = self.setup.clear;
        let cleared = if dma::CLEAR_ENABLE.any(clear) { dma::CLEAR_WORDS.get(clear) as usize * 4 } else { 0 };
        let len = framed.len().max(header + cleared);
        if !self.bus.decodes(output, len) {
            return Err(BusError::Decode { address: output, len }.into());
        }
        self.live()?;
        let zeros = [0; 4096];
        let mut at = framed.len();
        while at < header + cleared {
            let n = zeros.len().min(header + cleared - at);
            self.bus.write(output.wrapping_add(at as u32), &zeros[..n])?;
            at += n;
        }
        // Half a header: the word with the length is the one that is missing.
        let from = if self.tamper.header { header / 2 } else { 0 };
        Ok(self.bus.write(output.wrapping_add(from as u32), &framed[from..])?)
    }

    fn completed(&self, input: u32, input_words: u32, checksum_in: u32, output: u32, payload: &[u8]) -> Completed {
        let (words, checksums) = ((payload.len() / 4) as u32, dma::CHECKSUM_ENABLE.any(self.setup.debug));
        Completed {
            index: self.index,
            job: 0,
            input,
            input_words,
            output,
            output_words: words,
            checksum_in,
            checksum_out: if checksums { sum_bytes(payload) } else { 0 },
            cycles: input_words.saturating_add(words).saturating_add(64),
            burst: false,
            quiet: 0,
        }
    }
}
