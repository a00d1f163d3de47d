//! Jobs: a ring of them in flight, inputs in, outputs back (hardware.md sections 16.5 and 16.6).
//!
//! Register accesses cost more than bytes: a read over PCIe waits a microsecond, and in a virtual machine each access may leave
//! the guest. So jobs go to the device in groups while it has others to work on, each group in one DMA list, handed over with
//! one write, and outputs come back in groups. Lists of the same group are the same each time round, and are not written
//! again ([`crate::transport`]).
//!
//! A device with a program of several passes takes one job at a time, since where its output goes is in a register. Inputs of the
//! next ones are brought to it meanwhile, and each is started as soon as the one before it is seen to be over.

mod fetch;
mod start;

use std::collections::VecDeque;
use std::time::Duration;

use zerocopy::IntoBytes;

use super::controller::{Controller, EVENT, End, HRC, Ring, bytes};
use super::memory::DeviceMemory;
use super::options::{Completion, DeviceOptions, Verify};
use crate::descriptor::{EventDescriptor, HrcDescriptor, JobHeader, JobId};
use crate::dma::DmaBuffer;
use crate::format::{EVENT_BYTES, HEADER_BYTES, InputEvents};
use crate::mesh::Version;
use crate::program::{InputKind, InputPort, OutputKind, OutputPort};
use crate::regs::dma::{self, BufferEnd, Monitor, Replay};
use crate::transport::Transport;
use crate::{Error, Result};

/// Jobs that are taken and not fetched: so many that a board which works on several at once has a group of them left while the host
/// minds another.
pub const MAX_BATCH: usize = 32;
/// Jobs of a group at most.
const GROUP: usize = 8;

/// Most bytes of inputs, and of outputs, of all jobs in flight: with more jobs go alone, else in groups.
const STAGING: usize = 4 << 20;
/// Several passes: bytes of inputs that wait in device memory, about, and jobs at least, whatever their size. Ours: six inputs of 200 KB
/// keep two threads of a simulated board busy, and more drive each other out of a processor's caches.
const CACHED: usize = 5 << 18;
const FEW: usize = 4;
/// Bytes of inputs that are worth a start of their own: copying them takes a processor about as long as a list and a doorbell
/// (some 5 microseconds; ours).
const STARTED_ALONE: usize = 32 << 10;
/// Device memory for buffers is aligned so; host memory follows it, so that neighbours are one piece for the DMA engine.
const STRIDE: usize = 64;

/// A job that was taken and not fetched.
#[derive(Clone, Copy, Debug, Default)]
struct Pending {
    job: JobId,
    slot: usize,
    /// Where its input is in staging memory, and later its output.
    place: usize,
    /// Bytes of input.
    len: usize,
    started: Duration,
    copy_in: Duration,
    /// Set when the output is in host memory.
    run: Duration,
    copy_out: Duration,
}

/// The job side of a loaded program.
pub struct Jobs {
    controller: Controller,
    other: Controller,
    ring: Ring,
    input: InputPort,
    output: OutputPort,
    multi_pass: bool,
    /// Device buffers of each job in flight.
    inputs: Vec<u32>,
    outputs: Vec<u32>,
    /// Bytes of an output buffer, header included.
    output_bytes: usize,
    /// Host side of copies in: inputs, a zeroed header at `no_header`, and from `descriptors` on the ring.
    stage_in: DmaBuffer,
    in_stride: usize,
    no_header: usize,
    descriptors: usize,
    descriptor_bytes: usize,
    /// Host side of copies out: headers and payloads.
    stage_out: DmaBuffer,
    out_stride: usize,
    payload: Vec<u8>,
    events: Vec<u32>,
    /// Slots that go to the device together.
    group: usize,
    /// In order: `arrived` whose outputs are in host memory, then up to `started` those that the device was told of, up to `moved`
    /// those whose inputs it has, and those that wait in staging memory.
    pending: VecDeque<Pending>,
    arrived: usize,
    started: usize,
    moved: usize,
    /// Several passes: how many of the oldest are known to be over.
    ended: usize,
    next_slot: usize,
    last: JobId,
    /// The ring slot handed over last; none was yet when `fresh`.
    last_ring: u32,
    fresh: bool,
    running: bool,
    /// The monitor's control word, status clear left out.
    monitor: u32,
    /// What a job took lately, in groups: when the next look at the device is worth it.
    pace: Duration,
    /// When the device last finished something: the deadline of the next job counts from there.
    finished: Duration,
    timeout: Duration,
    completion: Completion,
    verify: bool,
    /// Whether what only a register write does is looked at afterwards.
    check: bool,
}

/// Device bytes of one input.
fn input_bytes(port: &InputPort) -> usize {
    let elements: usize = port.shape.iter().map(|d| *d as usize).product();
    match port.kind {
        InputKind::Dense => elements,
        // One event at least: the dummy.
        InputKind::CnpEvents | InputKind::FnpEvents => elements.max(1) * EVENT_BYTES,
    }
}

/// Device bytes of one output payload.
fn payload_bytes(port: &OutputPort) -> usize {
    match port.kind {
        OutputKind::Dense => port.dense_bytes().next_multiple_of(4),
        _ => port.shape.iter().map(|d| *d as usize).product::<usize>() * EVENT_BYTES,
    }
}

/// Device memory of jobs.
struct Places {
    ring: Ring,
    inputs: Vec<u32>,
    outputs: Vec<u32>,
}

impl Places {
    /// A ring and buffers of `[input, output]` bytes for so many jobs.
    fn new(
        memory: &mut DeviceMemory,
        board: &str,
        controller: Controller,
        jobs: usize,
        [input, output]: [usize; 2],
    ) -> Result<Self> {
        // More than jobs in flight: the controller stops where current equals last, so a full lap would look like none. Twice as
        // many, so that slots of ring and buffers stay in step.
        let slots = (2 * jobs as u32).max(dma::MIN_SLOTS);
        let base = memory.allocate(board, "the input ring", controller.ring_bytes(slots))?;
        let mut buffers = |what, len| (0..jobs).map(|_| memory.allocate(board, what, len)).collect::<Result<_>>();
        let (inputs, outputs) = (buffers("inputs", input)?, buffers("outputs", output)?);
        Ok(Self { ring: Ring { base, slots }, inputs, outputs })
    }
}

impl Jobs {
    /// Makes rings and buffers for up to `wanted` jobs in flight, as many as device memory has room for, and sets the input DMA up.
    pub fn new(
        transport: &dyn Transport,
        memory: &mut DeviceMemory,
        version: Version,
        (input, output): (&InputPort, &OutputPort),
        passes: usize,
        wanted: usize,
        options: &DeviceOptions,
    ) -> Result<Self> {
        let board = transport.identity().to_string();
        let multi_pass = passes > 1;
        let verify = options.verify >= Verify::Jobs;
        let (controller, other) = match input.kind {
            InputKind::Dense => (HRC, EVENT),
            InputKind::CnpEvents | InputKind::FnpEvents => (EVENT, HRC),
        };
        let replay = if multi_pass {
            let generated = memory.allocate(&board, "generated descriptors", 2 * passes * controller.slot as usize)?;
            Some((generated, memory.allocate(&board, "scratch output", 4)?))
        } else {
            None
        };
        let (in_bytes, payload) = (input_bytes(input), payload_bytes(output));
        let output_bytes = HEADER_BYTES + payload;
        // One at a time is worked on: of large inputs more than a few only take memory, and the processor's cache.
        let few = (CACHED / in_bytes.max(1)).clamp(FEW, MAX_BATCH / 2);
        let grouped = STAGING / in_bytes.max(output_bytes).next_multiple_of(STRIDE);
        let most = if multi_pass { few } else { grouped.clamp(MAX_BATCH / 2, MAX_BATCH) };
        let mut jobs = wanted.clamp(1, if verify { 1 } else { most });
        let mark = memory.mark();
        let Places { ring, inputs, outputs } = loop {
            match Places::new(memory, &board, controller, jobs, [in_bytes, output_bytes]) {
                Err(Error::DeviceMemory { .. }) if jobs > 1 => {
                    memory.release(&mark);
                    jobs /= 2;
                }
                places => break places?,
            }
        };

        let check = options.verify >= Verify::Program;
        controller.init(transport, ring, End::Outbound, Monitor::TIMER, check)?;
        other.run(transport, false)?;
        let clear = match output.kind {
            OutputKind::Dense if version != Version::AKD1000 => {
                dma::CLEAR_ENABLE.mask() | dma::CLEAR_WORDS.of((payload / 4) as u32)
            }
            _ => 0,
        };
        // Not to be used on the AKD1000 (hardware.md section 20, trap 23).
        if version != Version::AKD1000 {
            controller.set(transport, dma::OUTPUT_CLEAR, clear, check)?;
        }
        let end = if multi_pass { BufferEnd::Outbound } else { BufferEnd::Inbound };
        controller.set_buffer_end(transport, end, check)?;
        other.set_buffer_end(transport, end, check)?;
        if let Some((generated, scratch)) = replay {
            init_multi_pass(transport, controller, passes as u32, generated, scratch, check)?;
        }
        let (in_stride, out_stride) = (in_bytes.next_multiple_of(STRIDE), output_bytes.next_multiple_of(STRIDE));
        let grouped = jobs > 1 && jobs * in_stride.max(out_stride) <= STAGING;
        let group = if grouped { jobs.div_ceil(2).min(GROUP) } else { 1 };
        let no_header = group * in_stride;
        let descriptors = no_header + STRIDE;
        let stage_in = transport.allocate(descriptors + controller.ring_bytes(ring.slots))?;
        let stage_out = transport.allocate(group * out_stride)?;
        let monitor = controller.read(transport, dma::MONITOR_CONTROL)? & !Monitor::STATUS_CLEAR.bits();
        let last = JobId(dma::STATUS_JOB.get(controller.read(transport, dma::DESCRIPTOR_STATUS)?) as u16);
        Ok(Self {
            controller,
            other,
            ring,
            input: input.clone(),
            output: output.clone(),
            multi_pass,
            inputs,
            outputs,
            output_bytes,
            stage_in,
            in_stride,
            no_header,
            descriptors,
            descriptor_bytes: controller.slot as usize,
            stage_out,
            out_stride,
            payload: Vec::new(),
            events: Vec::new(),
            group,
            pending: VecDeque::with_capacity(jobs),
            arrived: 0,
            started: 0,
            moved: 0,
            ended: 0,
            next_slot: 0,
            last,
            last_ring: ring.slots - 1,
            fresh: true,
            running: false,
            monitor,
            pace: Duration::ZERO,
            finished: transport.now(),
            timeout: options.timeout,
            completion: options.completion,
            verify,
            check,
        })
    }

    pub fn capacity(&self) -> usize {
        self.inputs.len()
    }

    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Takes a job; `None` when as many are in flight as may be. It is started at once when the device has nothing else to do,
    /// unless there are `more` and staging them takes less time than starting one alone; and with others when a group is full.
    /// [`fetch`](Self::fetch) starts what is left before it waits.
    pub fn enqueue(&mut self, transport: &dyn Transport, input: &[u8], more: bool) -> Result<Option<JobId>> {
        let board = || transport.identity().to_string();
        let expected: usize = self.input.shape.iter().map(|d| *d as usize).product();
        if input.len() != expected {
            return Err(Error::InputLength { board: board(), actual: input.len(), expected });
        }
        if self.pending.len() == self.capacity() {
            return Ok(None);
        }
        if self.pending.is_empty() {
            // Jobs that come one by one use the same memory, which is in caches.
            self.next_slot = 0;
        }
        let begin = transport.now();
        // Those that nobody needs any more are taken again at once: so little of this memory is used, and stays in a processor's caches.
        let (job, slot, place) = (self.last.next(), self.next_slot, self.staged());
        let ring_slot = self.ring_slot(self.pending.len());
        let len = self.stage(transport, job, (slot, place), ring_slot, input)?;
        let now = transport.now();
        let copy_in = now.saturating_sub(begin);
        self.pending.push_back(Pending { job, slot, place, len, started: now, copy_in, ..Pending::default() });
        self.last = job;
        self.next_slot = (slot + 1) % self.capacity();
        let idle = self.started == self.over();
        let worth_it = !more || self.staged() * self.in_stride >= STARTED_ALONE;
        if idle && worth_it || self.next_slot.is_multiple_of(self.group) {
            self.submit(transport)?;
        }
        Ok(Some(job))
    }

    /// Puts an input and its descriptor into staging memory; returns the input's length.
    fn stage(
        &mut self,
        transport: &dyn Transport,
        job: JobId,
        (slot, place): (usize, usize),
        ring_slot: u32,
        input: &[u8],
    ) -> Result<usize> {
        let at = place * self.in_stride;
        let descriptor_at = self.descriptors + (ring_slot * self.controller.slot) as usize;
        let board = || transport.identity().to_string();
        let (source, output) = (self.inputs[slot], self.outputs[slot]);
        let events = match self.input.kind {
            InputKind::Dense => {
                self.stage_in.write(at, input)?;
                let words = HrcDescriptor::dense(job, self.input.shape, self.input.window, source, output)
                    .and_then(|d| d.encode())
                    .map_err(|source| Error::Descriptor { board: board(), source })?;
                self.stage_in.write(descriptor_at, &bytes(&words))?;
                return Ok(input.len());
            }
            InputKind::CnpEvents => InputEvents::cnp(self.input.shape, input),
            InputKind::FnpEvents => InputEvents::fnp(self.input.shape, input),
        };
        let mut events = events.map_err(|source| Error::Format { board: board(), job: job.0, source })?;
        let mut len = 0;
        while let Some(row) = events.next_row(&mut self.events) {
            match cfg!(target_endian = "little") {
                true => self.stage_in.write(at + len, row.as_bytes())?,
                false => self.stage_in.write(at + len, &bytes(row))?,
            }
            len += row.len() * 4;
        }
        let descriptor = EventDescriptor {
            header: JobHeader::new(job),
            input: source,
            input_words: (len / 4) as u32,
            output,
            learn_class: 0,
            mode: 0,
        };
        let words = descriptor.encode().map_err(|source| Error::Descriptor { board: board(), source })?;
        self.stage_in.write(descriptor_at, &bytes(&words))?;
        Ok(len)
    }
}

/// hardware.md section 8.4, "input DMA multi-pass".
fn init_multi_pass(
    transport: &dyn Transport,
    controller: Controller,
    passes: u32,
    generated: u32,
    scratch: u32,
    check: bool,
) -> Result<()> {
    let monitor = controller.read(transport, dma::MONITOR_CONTROL)?;
    let monitor = monitor & !Monitor::MASK_BURST.bits() | Monitor::MASK_OUTBOUND.bits();
    controller.set(transport, dma::MONITOR_CONTROL, monitor, check)?;
    let replay = Replay::BURST_MODE | Replay::OUTPUT_ADDRESS | Replay::DYNAMIC_OUTPUT | Replay::REPLAY_BUFFER;
    for (register, value) in [
        (dma::REPLAY_CONTROL, replay.bits()),
        (dma::REPLAY_BURST, dma::BURST_LOOPS.of(passes) | dma::BURST_LAYER_LOOPS.of(passes)),
        (dma::REPLAY_MAIN, generated),
        (dma::REPLAY_SCRATCH, generated),
        (dma::REPLAY_OUTPUT_SCRATCH, scratch),
    ] {
        controller.set(transport, register, value, check)?;
    }
    Ok(())
}
