//! Jobs: a ring of them in flight, inputs in, outputs back (hardware.md sections 16.5 and 16.6).

use std::collections::VecDeque;
use std::time::Duration;

use super::controller::{Controller, EVENT, End, HRC, Ring, bytes, compare};
use super::memory::DeviceMemory;
use super::options::{Completion, DeviceOptions, JobTiming, OutputValues, Verify};
use crate::descriptor::{EventDescriptor, HrcDescriptor, JobHeader, JobId};
use crate::dma::DmaBuffer;
use crate::format::{self, HEADER_BYTES, OutputHeader};
use crate::mesh::Version;
use crate::program::{InputKind, InputPort, OutputKind, OutputPort};
use crate::regs::dma::{self, BufferEnd, Monitor, MonitorStatus, Replay};
use crate::transport::{Segment, Transport};
use crate::wait::{Between, Wait};
use crate::{Error, Result};

/// Jobs in flight, single pass.
pub const MAX_BATCH: usize = 16;
/// Outputs of events up to this size are fetched whole; of larger ones the header is read first.
const WHOLE_EVENTS: usize = 4096;

/// A job that was started and not fetched.
#[derive(Clone, Copy, Debug)]
struct Pending {
    job: JobId,
    slot: usize,
    /// Words of input, as the DMA counts them.
    words: u32,
    started: Duration,
    copy_in: Duration,
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
    /// Host side of copies: input, descriptor and a zeroed header; header and payload.
    stage_in: DmaBuffer,
    stage_out: DmaBuffer,
    payload: Vec<u8>,
    pending: VecDeque<Pending>,
    next_slot: usize,
    last: JobId,
    running: bool,
    /// When the device last finished something: the deadline of the next job counts from there.
    finished: Duration,
    timeout: Duration,
    completion: Completion,
    verify: bool,
}

/// Device bytes of one input.
fn input_bytes(port: &InputPort) -> usize {
    let elements: usize = port.shape.iter().map(|d| *d as usize).product();
    match port.kind {
        InputKind::Dense => elements,
        // One event at least: the dummy.
        InputKind::CnpEvents | InputKind::FnpEvents => elements.max(1) * 8,
    }
}

/// Device bytes of one output payload.
fn payload_bytes(port: &OutputPort) -> usize {
    match port.kind {
        OutputKind::Dense => port.dense_bytes().next_multiple_of(4),
        _ => port.shape.iter().map(|d| *d as usize).product::<usize>() * 8,
    }
}

impl Jobs {
    /// Makes rings and buffers for up to `wanted` jobs in flight and sets the input DMA up.
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
        let jobs = wanted.clamp(1, if multi_pass || verify { 1 } else { MAX_BATCH });
        let (controller, other) = match input.kind {
            InputKind::Dense => (HRC, EVENT),
            InputKind::CnpEvents | InputKind::FnpEvents => (EVENT, HRC),
        };
        // One more than jobs in flight: the controller stops where current equals last, so a full lap would look like none.
        let slots = (jobs as u32 + 1).max(dma::MIN_SLOTS);
        let base = memory.allocate(&board, "the input ring", controller.ring_bytes(slots))?;
        let ring = Ring { base, slots };
        let (in_bytes, payload) = (input_bytes(input), payload_bytes(output));
        let output_bytes = HEADER_BYTES + payload;
        let mut buffers = |what, len| (0..jobs).map(|_| memory.allocate(&board, what, len)).collect::<Result<Vec<_>>>();
        let inputs = buffers("inputs", in_bytes)?;
        let outputs = buffers("outputs", output_bytes)?;

        controller.init(transport, ring, End::Outbound, Monitor::TIMER)?;
        other.run(transport, false)?;
        let clear = match output.kind {
            OutputKind::Dense if version != Version::AKD1000 => {
                dma::CLEAR_ENABLE.mask() | dma::CLEAR_WORDS.of((payload / 4) as u32)
            }
            _ => 0,
        };
        // Not to be used on the AKD1000 (hardware.md section 20, trap 23).
        if version != Version::AKD1000 {
            controller.write(transport, dma::OUTPUT_CLEAR, clear)?;
        }
        let end = if multi_pass { BufferEnd::Outbound } else { BufferEnd::Inbound };
        controller.set_buffer_end(transport, end)?;
        other.set_buffer_end(transport, end)?;
        if multi_pass {
            let generated = memory.allocate(&board, "generated descriptors", 2 * passes * controller.slot as usize)?;
            let scratch = memory.allocate(&board, "scratch output", 4)?;
            init_multi_pass(transport, controller, passes as u32, generated, scratch)?;
        }
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
            stage_in: transport.allocate(in_bytes.next_multiple_of(8) + HRC.slot as usize + HEADER_BYTES)?,
            stage_out: transport.allocate(output_bytes)?,
            payload: Vec::new(),
            pending: VecDeque::with_capacity(jobs),
            next_slot: 0,
            last,
            running: false,
            finished: transport.now(),
            timeout: options.timeout,
            completion: options.completion,
            verify,
        })
    }

    pub fn capacity(&self) -> usize {
        self.inputs.len()
    }

    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Starts a job; `None` when as many are in flight as may be.
    pub fn enqueue(&mut self, transport: &dyn Transport, input: &[u8]) -> Result<Option<JobId>> {
        let board = || transport.identity().to_string();
        let expected: usize = self.input.shape.iter().map(|d| *d as usize).product();
        if input.len() != expected {
            return Err(Error::InputLength { board: board(), actual: input.len(), expected });
        }
        if self.pending.len() == self.capacity() {
            return Ok(None);
        }
        let begin = transport.now();
        let job = self.last.next();
        let slot = self.next_slot;
        let (ring_slot, descriptor_at) = self.controller.next_slot(transport, self.ring)?;
        let (len, descriptor) = self.stage(transport, job, slot, input)?;
        // One transfer: the input, a header that no finished job has, then the descriptor that makes them matter.
        let offset = self.stage_in.len() - self.controller.slot as usize - HEADER_BYTES;
        self.stage_in.write(offset, &[0; HEADER_BYTES])?;
        self.stage_in.write(offset + HEADER_BYTES, &descriptor)?;
        let segment = |offset, address, len| Segment { buffer: &self.stage_in, offset, address, len };
        let segments = [
            segment(0, self.inputs[slot], len),
            segment(offset, self.outputs[slot], HEADER_BYTES),
            segment(offset + HEADER_BYTES, descriptor_at, descriptor.len()),
        ];
        transport.write_from(&segments)?;
        if self.verify {
            for s in &segments {
                let (mut wrote, mut read) = (vec![0; s.len], vec![0; s.len]);
                s.buffer.read(s.offset, &mut wrote)?;
                transport.read(s.address, &mut read)?;
                compare(transport, s.address, &wrote, &read)?;
            }
        }
        if !self.running {
            self.other.run(transport, false)?;
            self.controller.run(transport, true)?;
            self.running = true;
        }
        if self.multi_pass {
            self.controller.write(transport, dma::REPLAY_OUTPUT, self.outputs[slot])?;
        }
        let started = transport.now();
        self.controller.hand_over(transport, ring_slot)?;
        self.last = job;
        self.next_slot = (slot + 1) % self.capacity();
        if self.pending.is_empty() {
            self.finished = started;
        }
        let words = len.div_ceil(4) as u32;
        self.pending.push_back(Pending { job, slot, words, started, copy_in: started.saturating_sub(begin) });
        Ok(Some(job))
    }

    /// Puts an input into staging memory; returns its length and the descriptor.
    fn stage(&self, transport: &dyn Transport, job: JobId, slot: usize, input: &[u8]) -> Result<(usize, Vec<u8>)> {
        let board = || transport.identity().to_string();
        let (source, output) = (self.inputs[slot], self.outputs[slot]);
        let events = match self.input.kind {
            InputKind::Dense => {
                self.stage_in.write(0, input)?;
                let words = HrcDescriptor::dense(job, self.input.shape, self.input.window, source, output)
                    .and_then(|d| d.encode())
                    .map_err(|source| Error::Descriptor { board: board(), source })?;
                return Ok((input.len(), bytes(&words)));
            }
            InputKind::CnpEvents => format::cnp_events(self.input.shape, input),
            InputKind::FnpEvents => format::fnp_events(self.input.shape, input),
        };
        let events = events.map_err(|source| Error::Format { board: board(), job: job.0, source })?;
        let event_bytes = bytes(&events);
        self.stage_in.write(0, &event_bytes)?;
        let descriptor = EventDescriptor {
            header: JobHeader::new(job),
            input: source,
            input_words: events.len() as u32,
            output,
            learn_class: 0,
            mode: 0,
        };
        let words = descriptor.encode().map_err(|source| Error::Descriptor { board: board(), source })?;
        Ok((event_bytes.len(), bytes(&words)))
    }

    /// The oldest job's output, if it is finished within `wait`.
    ///
    /// # Errors
    /// [`Error::TimedOut`] when the device finished nothing for the device's deadline.
    pub fn fetch(
        &mut self,
        transport: &dyn Transport,
        wait: Duration,
        values: &mut OutputValues,
    ) -> Result<Option<(JobId, JobTiming)>> {
        let Some(front) = self.pending.front().copied() else { return Ok(None) };
        if !self.wait(transport, front, wait)? {
            return Ok(None);
        }
        let noticed = transport.now();
        self.finished = noticed;
        self.controller.clear(transport)?;
        if self.verify {
            self.check_addresses(transport, front)?;
        }
        self.copy_out(transport, front, values)?;
        self.pending.pop_front();
        let timing = JobTiming {
            copy_in: front.copy_in,
            run: noticed.saturating_sub(front.started),
            copy_out: transport.now().saturating_sub(noticed),
        };
        Ok(Some((front.job, timing)))
    }

    /// Whether the job is finished within `wait`.
    fn wait(&self, transport: &dyn Transport, front: Pending, wait: Duration) -> Result<bool> {
        let deadline = self.finished + self.timeout;
        let what = format!("end of job {} ({})", front.job, self.controller.name);
        let between = match self.completion {
            Completion::Poll => Between::Pause,
            Completion::Interrupt => Between::Interrupt,
        };
        let left = deadline.saturating_sub(transport.now());
        let limit = wait.min(left);
        let look = Wait { between, ..Wait::new(transport, &what, limit) };
        let result = if self.multi_pass {
            let end = MonitorStatus::BURST.bits();
            look.look(|| self.controller.read(transport, dma::MONITOR_STATUS), |status| status & end != 0)?
        } else {
            // Jobs end in order: the last processed one tells of all before it, modulo 2^16.
            let done = |status| {
                let ahead = (dma::STATUS_JOB.get(status) as u16).wrapping_sub(front.job.0);
                usize::from(ahead) < self.pending.len()
            };
            look.look(|| self.controller.read(transport, dma::DESCRIPTOR_STATUS), done)?
        };
        match result {
            Ok(_) => Ok(true),
            Err(last) if transport.now() >= deadline => {
                let waited = transport.now().saturating_sub(front.started);
                Err(Wait::new(transport, &what, self.timeout).timed_out(last, waited))
            }
            Err(_) => Ok(false),
        }
    }

    /// What the DMA says it used for the only job there is.
    fn check_addresses(&self, transport: &dyn Transport, front: Pending) -> Result<()> {
        for (register, name, expected) in [
            (dma::INPUT_ADDRESS, "input DMA INPUT_ADDRESS", self.inputs[front.slot]),
            (dma::OUTPUT_ADDRESS, "input DMA OUTPUT_ADDRESS", self.outputs[front.slot]),
            (dma::INPUT_WORDS, "input DMA INPUT_WORDS", front.words & 0xFFFF),
        ] {
            let value = self.controller.read(transport, register)?;
            if value != expected {
                let (board, expected) = (transport.identity().to_string(), format!("{expected:#010x}"));
                return Err(Error::Register { board, register: name, value, expected });
            }
        }
        Ok(())
    }

    fn copy_out(&mut self, transport: &dyn Transport, front: Pending, values: &mut OutputValues) -> Result<()> {
        let format = |source| Error::Format { board: transport.identity().to_string(), job: front.job.0, source };
        let address = self.outputs[front.slot];
        let dense = self.output.kind == OutputKind::Dense;
        let first = if dense || self.output_bytes <= WHOLE_EVENTS { self.output_bytes } else { HEADER_BYTES };
        let segment =
            |offset: usize, len| Segment { buffer: &self.stage_out, offset, address: address + offset as u32, len };
        // No header has type 0: what a transfer leaves untouched is not taken for an output.
        self.stage_out.write(0, &[0; HEADER_BYTES])?;
        transport.read_into(&[segment(0, first)])?;
        let mut word = [0; 4];
        self.stage_out.read(0, &mut word)?;
        let header = OutputHeader::decode(u32::from_le_bytes(word)).map_err(format)?;
        let len = header.words as usize * 4;
        let room = self.output_bytes - HEADER_BYTES;
        if len > room {
            let words = header.words as usize;
            return Err(format(format::FormatError::Size { words, expected: room / 4 }));
        }
        if HEADER_BYTES + len > first {
            transport.read_into(&[segment(HEADER_BYTES, len)])?;
        }
        self.payload.resize(len, 0);
        self.stage_out.read(HEADER_BYTES, &mut self.payload)?;
        if self.verify {
            let mut again = vec![0; len];
            transport.read(address + HEADER_BYTES as u32, &mut again)?;
            compare(transport, address + HEADER_BYTES as u32, &self.payload, &again)?;
        }
        format::decode_output(&self.output, header, &self.payload, values).map_err(format)
    }
}

/// hardware.md section 8.4, "input DMA multi-pass".
fn init_multi_pass(
    transport: &dyn Transport,
    controller: Controller,
    passes: u32,
    generated: u32,
    scratch: u32,
) -> Result<()> {
    let monitor = controller.read(transport, dma::MONITOR_CONTROL)?;
    let monitor = monitor & !Monitor::MASK_BURST.bits() | Monitor::MASK_OUTBOUND.bits();
    controller.write(transport, dma::MONITOR_CONTROL, monitor)?;
    let replay = Replay::BURST_MODE | Replay::OUTPUT_ADDRESS | Replay::DYNAMIC_OUTPUT | Replay::REPLAY_BUFFER;
    for (register, value) in [
        (dma::REPLAY_CONTROL, replay.bits()),
        (dma::REPLAY_BURST, dma::BURST_LOOPS.of(passes) | dma::BURST_LAYER_LOOPS.of(passes)),
        (dma::REPLAY_MAIN, generated),
        (dma::REPLAY_SCRATCH, generated),
        (dma::REPLAY_OUTPUT_SCRATCH, scratch),
    ] {
        controller.write(transport, register, value)?;
    }
    Ok(())
}
