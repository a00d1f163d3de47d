//! What leaves a job: the output with its header, and what registers say of it (hardware.md 8.5, 12).

use akida_hal::format::OutputHeader;
use akida_hal::regs::dma::{self, Control, MonitorStatus};

use super::{Buffers, CoreWork, Framed, JobError, Made, Taken};
use crate::chip::bus::BusError;
use crate::chip::controller::Completed;
use crate::mesh::MeshOutput;

/// The sum of little-endian words; what is missing of the last one is 0.
pub(super) fn sum_bytes(bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    words.iter().chain([&last]).fold(0, |sum: u32, word| sum.wrapping_add(u32::from_le_bytes(*word)))
}

pub(super) fn sum(words: &[u32]) -> u32 {
    words.iter().fold(0, |sum, word| sum.wrapping_add(*word))
}

/// Bytes of an output header, by a controller's control register.
pub(super) fn header_bytes(control: u32) -> usize {
    if control & Control::WRITE_INFO.bits() == 0 { 0 } else { dma::HEADER_SIZE.get(control) as usize }
}

/// How long a job takes. Ours.
fn cycles(input_words: u32, output_words: u32) -> u32 {
    input_words.saturating_add(output_words).saturating_add(64)
}

impl CoreWork {
    /// An output as it is written: header and payload.
    pub(super) fn frame_output(&self, output: MeshOutput<'_>, framed: &mut Vec<u8>) -> Framed {
        framed.clear();
        framed.resize(self.header_bytes(), 0);
        output.payload(framed);
        let payload = framed.len() - self.header_bytes();
        let format = OutputHeader { words: (payload / 4) as u32, format: output.format_type() };
        self.frame(format, framed);
        Framed { payload, checksum: self.checksum(&framed[self.header_bytes()..]) }
    }

    /// The output to where it belongs.
    pub(super) fn deliver(&self, made: &Made, buffers: &Buffers) -> Result<Completed, JobError> {
        let Made { taken, checksum_in, output } = made;
        self.write(taken.output, &buffers.output)?;
        Ok(self.ended(taken, *checksum_in, output.payload, output.checksum))
    }

    /// What registers say of an input job with so many bytes of output behind its header.
    pub(super) fn ended(&self, taken: &Taken, checksum_in: u32, payload: usize, checksum_out: u32) -> Completed {
        let Taken { header, input, words, output, .. } = taken;
        let mut quiet = MonitorStatus::empty();
        quiet.set(MonitorStatus::OUTBOUND_INTERRUPT, header.no_outbound_interrupt);
        quiet.set(MonitorStatus::INBOUND_INTERRUPT, header.no_inbound_interrupt);
        let output_words = (payload / 4) as u32;
        Completed {
            index: self.index,
            job: header.job.0 ^ if self.tamper.job_id { 0x5555 } else { 0 },
            input: input.start,
            input_words: *words,
            output: *output,
            output_words,
            checksum_in,
            checksum_out,
            cycles: cycles(*words, output_words),
            burst: self.passes.is_some(),
            quiet: quiet.bits(),
        }
    }

    /// The sum over what is written, where it is asked for.
    fn checksum(&self, payload: &[u8]) -> u32 {
        if dma::CHECKSUM_ENABLE.any(self.setup.debug) { sum_bytes(payload) } else { 0 }
    }

    pub(super) fn header_bytes(&self) -> usize {
        header_bytes(self.setup.control)
    }

    /// An output header, as long as the controller writes it.
    pub(super) fn framed(&self, header: OutputHeader) -> Vec<u8> {
        let mut bytes = vec![0; self.header_bytes()];
        self.frame(header, &mut bytes);
        bytes
    }

    /// Puts a header before a payload for which room was left.
    pub(super) fn frame(&self, header: OutputHeader, framed: &mut [u8]) {
        let room = self.header_bytes();
        for (into, word) in framed[..room].chunks_exact_mut(4).zip(header.encode()) {
            into.copy_from_slice(&word.to_le_bytes());
        }
    }

    /// Bytes behind the header that are cleared first.
    pub(super) fn cleared(&self) -> usize {
        let clear = self.setup.clear;
        if dma::CLEAR_ENABLE.any(clear) { dma::CLEAR_WORDS.get(clear) as usize * 4 } else { 0 }
    }

    /// Clears what is behind the output where asked to, then writes header and payload.
    pub(super) fn write(&self, output: u32, framed: &[u8]) -> Result<(), JobError> {
        let header = self.header_bytes();
        let cleared = self.cleared();
        let len = framed.len().max(header + cleared);
        if !self.reach.bus.decodes(output, len) {
            return Err(BusError::Decode { address: output, len }.into());
        }
        self.live()?;
        let zeros = [0; 4096];
        let mut at = framed.len();
        while at < header + cleared {
            let n = zeros.len().min(header + cleared - at);
            self.reach.bus.write(output.wrapping_add(at as u32), &zeros[..n])?;
            at += n;
        }
        // Half a header: the word with the length is the one that is missing.
        let from = if self.tamper.header { header / 2 } else { 0 };
        Ok(self.reach.bus.write(output.wrapping_add(from as u32), &framed[from..])?)
    }

    pub(super) fn completed(
        &self,
        input: u32,
        input_words: u32,
        checksum_in: u32,
        output: u32,
        payload: &[u8],
    ) -> Completed {
        let words = (payload.len() / 4) as u32;
        Completed {
            index: self.index,
            job: 0,
            input,
            input_words,
            output,
            output_words: words,
            checksum_in,
            checksum_out: self.checksum(payload),
            cycles: cycles(input_words, words),
            burst: false,
            quiet: 0,
        }
    }
}
