//! The way there: inputs and descriptors into device memory, and the device told of them.

use super::{Jobs, Pending, fetch};
use crate::Result;
use crate::device::controller::compare;
use crate::format::HEADER_BYTES;
use crate::program::InputKind;
use crate::regs::dma::{self, MonitorStatus};
use crate::transport::{Segment, Transport};

impl Jobs {
    /// Jobs that wait in host memory.
    pub(super) fn staged(&self) -> usize {
        self.pending.len() - self.moved
    }

    /// The oldest jobs that are known to be over.
    pub(super) fn over(&self) -> usize {
        self.ended.max(self.arrived)
    }

    /// Where the descriptor of the job goes that is at this place of those pending.
    pub(super) fn ring_slot(&self, place: usize) -> u32 {
        (self.last_ring + 1 + (place - self.started) as u32) % self.ring.slots
    }

    /// Moves all staged jobs to the device in one transfer, and starts those that it takes now.
    pub(super) fn submit(&mut self, transport: &dyn Transport) -> Result<()> {
        self.move_staged(transport)?;
        self.start(transport)?;
        self.go_on(transport)
    }

    fn move_staged(&mut self, transport: &dyn Transport) -> Result<()> {
        let jobs: Vec<Pending> = self.pending.range(self.moved..).copied().collect();
        if jobs.is_empty() {
            return Ok(());
        }
        let begin = transport.now();
        let segment = |offset, address, len| Segment { buffer: &self.stage_in, offset, address, len };
        // Inputs, then headers that no finished job has, then the descriptors that make all that matter.
        let inputs = jobs.iter().map(|j| {
            // Of events there are more or fewer: as long as that saves little, all of the buffer goes, so that the list stays.
            let whole =
                self.group > 1 && (self.input.kind == InputKind::Dense || self.in_stride <= fetch::WHOLE_EVENTS);
            let len = if whole { self.in_stride } else { j.len };
            segment(j.place * self.in_stride, self.inputs[j.slot], len)
        });
        let headers = jobs.iter().map(|j| segment(self.no_header, self.outputs[j.slot], HEADER_BYTES));
        let bytes = self.controller.slot as usize;
        let descriptors = (self.moved..self.pending.len()).map(|place| {
            let ring_slot = self.ring_slot(place);
            let offset = self.descriptors + ring_slot as usize * bytes;
            segment(offset, self.ring.base + ring_slot * self.controller.slot, self.descriptor_bytes)
        });
        let segments: Vec<_> = inputs.chain(headers).chain(descriptors).collect();
        transport.write_from(&segments)?;
        if self.verify {
            for s in &segments {
                let (mut wrote, mut read) = (vec![0; s.len], vec![0; s.len]);
                s.buffer.read(s.offset, &mut wrote)?;
                transport.read(s.address, &mut read)?;
                compare(transport, s.address, &wrote, &read)?;
            }
        }
        let share = transport.now().saturating_sub(begin) / jobs.len() as u32;
        for job in self.pending.range_mut(self.moved..) {
            job.copy_in += share;
        }
        self.moved = self.pending.len();
        Ok(())
    }

    /// Tells the device with one write of the jobs that it has and takes: all, or with several passes one when it has nothing to do.
    fn start(&mut self, transport: &dyn Transport) -> Result<()> {
        let idle = self.started == self.over();
        let count = match self.moved - self.started {
            waiting if !self.multi_pass => waiting,
            waiting => waiting.min(usize::from(idle)),
        };
        if count == 0 {
            return Ok(());
        }
        if !self.running {
            self.other.run(transport, false)?;
            self.controller.run(transport, true)?;
            self.running = true;
        }
        if self.multi_pass {
            let output = self.outputs[self.pending[self.started].slot];
            self.controller.write(transport, dma::REPLAY_OUTPUT, output)?;
        }
        let now = transport.now();
        let last = self.ring_slot(self.started + count - 1);
        let before = if self.fresh { dma::LAST_AFTER_RESET } else { self.last_ring };
        self.controller.hand_over(transport, before, last)?;
        (self.last_ring, self.fresh) = (last, false);
        if idle {
            self.finished = now;
        }
        for job in self.pending.range_mut(self.started..self.started + count) {
            job.started = now;
        }
        self.started += count;
        Ok(())
    }

    /// Several passes: as long as the job that runs is over, starts the next one.
    pub(super) fn go_on(&mut self, transport: &dyn Transport) -> Result<()> {
        while self.multi_pass && self.started > self.over() && self.look_for_end(transport)?.1 {
            self.end_one(transport)?;
        }
        Ok(())
    }

    /// Several passes: the job that ran is over. The status that told of it is cleared, and the next one started.
    pub(super) fn end_one(&mut self, transport: &dyn Transport) -> Result<()> {
        self.clear_status(transport)?;
        if self.check {
            self.controller.check_cleared(transport, MonitorStatus::BURST)?;
        }
        self.ended = self.over() + 1;
        self.start(transport)
    }

    pub(super) fn clear_status(&self, transport: &dyn Transport) -> Result<()> {
        self.controller.write(transport, dma::MONITOR_CONTROL, self.monitor | dma::Monitor::STATUS_CLEAR.bits())
    }
}
