//! The way back: waiting for jobs, outputs into host memory, outputs to the caller.

use std::time::Duration;

use super::{Jobs, Pending};
use crate::descriptor::JobId;
use crate::device::controller::compare;
use crate::device::options::{Completion, JobTiming, OutputValues};
use crate::format::{self, FormatError, HEADER_BYTES, OutputHeader};
use crate::program::OutputKind;
use crate::regs::dma::{self, MonitorStatus};
use crate::transport::{Segment, Transport};
use crate::wait::{SPIN_TIME, Wait};
use crate::{Error, Result};

/// Buffers of events up to this size are moved whole; of larger outputs the header is read first.
pub const WHOLE_EVENTS: usize = 8192;
/// Pauses between looks at a single job, once it was looked at without any for [`SPIN_TIME`]. Looks are not counted: one takes about a
/// microsecond over PCIe and much less on a simulated board in process, where any number of them may be over before the job is.
const FIRST_PAUSE: Duration = Duration::from_micros(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(1);

impl Jobs {
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
        if self.arrived == 0 {
            if self.pending.is_empty() {
                return Ok(None);
            }
            self.submit(transport)?;
            let finished = self.finished(transport, wait)?;
            if finished == 0 {
                return Ok(None);
            }
            self.arrive(transport, finished)?;
        }
        let Some(front) = self.pending.front().copied() else { return Ok(None) };
        let begin = transport.now();
        self.hand_out(transport, &front, values)?;
        self.pending.pop_front();
        (self.arrived, self.started, self.moved) = (self.arrived - 1, self.started - 1, self.moved - 1);
        self.ended = self.ended.saturating_sub(1);
        let copy_out = front.copy_out + transport.now().saturating_sub(begin);
        Ok(Some((front.job, JobTiming { copy_in: front.copy_in, run: front.run, copy_out })))
    }

    /// How many of the oldest jobs are over, waiting for at most `wait`; what told of them is cleared.
    fn finished(&mut self, transport: &dyn Transport, wait: Duration) -> Result<usize> {
        if self.ended > 0 {
            return Ok(self.ended);
        }
        let finished = self.wait(transport, wait)?;
        if finished > 0 && self.multi_pass {
            self.end_one(transport)?;
            self.go_on(transport)?;
            return Ok(self.ended);
        }
        if finished > 0 {
            self.clear_status(transport)?;
        }
        Ok(finished)
    }

    /// How many of the oldest jobs are waited for: all of their group while the device has more to do after them, else one.
    fn wanted(&self) -> usize {
        let Some(front) = self.pending.front() else { return 0 };
        let to_end = self.to_group_end(front.slot);
        if self.started > to_end { to_end } else { 1 }
    }

    /// Slots from this one to the end of its group.
    fn to_group_end(&self, slot: usize) -> usize {
        (self.group - slot % self.group).min(self.capacity() - slot)
    }

    /// Waits until the oldest jobs are finished, at most `wait`; how many are.
    fn wait(&mut self, transport: &dyn Transport, wait: Duration) -> Result<usize> {
        let (wanted, begin) = (self.wanted(), transport.now());
        let (mut seen, mut pause) = (0, FIRST_PAUSE);
        if wanted > 1 {
            let over = begin.saturating_sub(self.finished);
            self.pass(transport, (self.pace * wanted as u32).saturating_sub(over).min(wait))?;
        }
        loop {
            let now = transport.now();
            let (status, finished) = self.look(transport)?;
            if finished > seen {
                if wanted > 1 {
                    // Half of what was believed, half of what is seen.
                    let each = now.saturating_sub(self.finished) / (finished - seen) as u32;
                    self.pace = if self.pace.is_zero() { each } else { (self.pace + each) / 2 };
                }
                (seen, self.finished) = (finished, now);
            }
            if seen >= wanted || now.saturating_sub(begin) >= wait {
                return Ok(seen);
            }
            if now >= self.finished + self.timeout {
                return if seen > 0 { Ok(seen) } else { Err(self.timed_out(transport, status)) };
            }
            let left = wait.saturating_sub(now.saturating_sub(begin)).min((self.finished + self.timeout) - now);
            if wanted > 1 && !self.pace.is_zero() {
                let rest = self.pace * (wanted - seen) as u32;
                self.pass(transport, rest.max(pause).min(left))?;
            } else if now.saturating_sub(begin) < SPIN_TIME && self.completion == Completion::Poll {
                std::hint::spin_loop();
                continue;
            } else {
                self.pass(transport, pause.min(left))?;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Lets time pass. Interrupts end it early: one may get lost or be that of another channel, so it is never the reason to
    /// believe anything.
    fn pass(&self, transport: &dyn Transport, time: Duration) -> Result<()> {
        match self.completion {
            _ if time.is_zero() => {}
            Completion::Poll => transport.pause(time),
            Completion::Interrupt => {
                transport.wait_interrupt(time)?;
            }
        }
        Ok(())
    }

    /// The status word, and how many of the oldest jobs it says are finished.
    fn look(&self, transport: &dyn Transport) -> Result<(u32, usize)> {
        if self.multi_pass {
            let (status, over) = self.look_for_end(transport)?;
            return Ok((status, usize::from(over)));
        }
        let status = self.controller.read(transport, dma::DESCRIPTOR_STATUS)?;
        let Some(front) = self.pending.front() else { return Ok((status, 0)) };
        // Jobs end in order: the last processed one tells of all before it, modulo 2^16.
        let ahead = usize::from((dma::STATUS_JOB.get(status) as u16).wrapping_sub(front.job.0));
        Ok((status, if ahead < self.started { ahead + 1 } else { 0 }))
    }

    /// Several passes: the status word, and whether it says that the job which runs is over.
    pub(super) fn look_for_end(&self, transport: &dyn Transport) -> Result<(u32, bool)> {
        let status = self.controller.read(transport, dma::MONITOR_STATUS)?;
        Ok((status, status & MonitorStatus::BURST.bits() != 0))
    }

    fn timed_out(&self, transport: &dyn Transport, last: u32) -> Error {
        let (job, started) = self.pending.front().map_or((JobId(0), Duration::ZERO), |f| (f.job, f.started));
        let what = format_args!("end of job {job} ({})", self.controller.name);
        Wait::new(transport, what, self.timeout).timed_out(last, transport.now().saturating_sub(started))
    }

    fn whole(&self) -> bool {
        self.output.kind == OutputKind::Dense || self.output_bytes <= WHOLE_EVENTS
    }

    /// Outputs of finished jobs into host memory: of all in the oldest one's group, in one transfer.
    fn arrive(&mut self, transport: &dyn Transport, finished: usize) -> Result<()> {
        let Some(front) = self.pending.front().copied() else { return Ok(()) };
        if self.verify {
            self.check_addresses(transport, front.slot, front.len)?;
        }
        let begin = transport.now();
        let count = if self.group > 1 && self.whole() { finished.min(self.to_group_end(front.slot)) } else { 1 };
        let len = match (self.whole(), self.group > 1) {
            (true, true) => self.out_stride,
            (true, false) => self.output_bytes,
            (false, _) => HEADER_BYTES,
        };
        let mut segments = Vec::with_capacity(count);
        for (place, job) in self.pending.iter_mut().take(count).enumerate() {
            job.place = place;
            let offset = place * self.out_stride;
            // No header has type 0: what a transfer leaves untouched is not taken for an output.
            self.stage_out.write(offset, &[0; HEADER_BYTES])?;
            segments.push(Segment { buffer: &self.stage_out, offset, address: self.outputs[job.slot], len });
        }
        transport.read_into(&segments)?;
        let now = transport.now();
        for job in self.pending.iter_mut().take(count) {
            job.run = begin.saturating_sub(job.started);
            job.copy_out = now.saturating_sub(begin) / count as u32;
        }
        self.arrived = count;
        Ok(())
    }

    /// What the DMA says it used for the only job there is.
    fn check_addresses(&self, transport: &dyn Transport, slot: usize, len: usize) -> Result<()> {
        for (register, name, expected) in [
            (dma::INPUT_ADDRESS, "input DMA INPUT_ADDRESS", self.inputs[slot]),
            (dma::OUTPUT_ADDRESS, "input DMA OUTPUT_ADDRESS", self.outputs[slot]),
            (dma::INPUT_WORDS, "input DMA INPUT_WORDS", len.div_ceil(4) as u32 & 0xFFFF),
        ] {
            let value = self.controller.read(transport, register)?;
            if value != expected {
                let (board, expected) = (transport.identity().to_string(), format!("{expected:#010x}"));
                return Err(Error::Register { board, register: name, value, expected });
            }
        }
        Ok(())
    }

    /// An output that is in host memory, to the caller.
    fn hand_out(&mut self, transport: &dyn Transport, job: &Pending, values: &mut OutputValues) -> Result<()> {
        let format = |source| Error::Format { board: transport.identity().to_string(), job: job.job.0, source };
        let (at, address) = (job.place * self.out_stride, self.outputs[job.slot] + HEADER_BYTES as u32);
        let mut word = [0; 4];
        self.stage_out.read(at, &mut word)?;
        let header = OutputHeader::decode(u32::from_le_bytes(word)).map_err(format)?;
        let (words, room) = (header.words as usize, self.output_bytes - HEADER_BYTES);
        let len = words.saturating_mul(4);
        if len > room {
            return Err(format(FormatError::Size { words, expected: room / 4 }));
        }
        let payload = at + HEADER_BYTES;
        if !self.whole() && len > 0 {
            transport.read_into(&[Segment { buffer: &self.stage_out, offset: payload, address, len }])?;
        }
        self.payload.resize(len, 0);
        self.stage_out.read(payload, &mut self.payload)?;
        if self.verify {
            let mut again = vec![0; len];
            transport.read(address, &mut again)?;
            compare(transport, address, &self.payload, &again)?;
        }
        format::decode_output(&self.output, header, &self.payload, values).map_err(format)
    }
}
