//! What goes into a job: its descriptor, and the payload as a DMA carries it or as a network takes it (hardware.md 9, 12.1).

use std::ops::Range;

use akida_hal::descriptor::{EventDescriptor, HrcDescriptor, JobHeader};
use akida_hal::format::EVENT_BYTES;

use super::output::{sum, sum_bytes};
use super::{Buffers, CoreWork, JobError};
use crate::chip::bus::BusError;
use crate::chip::controller::Kind;
use crate::mesh::{MeshError, MeshInput, Port};

/// Largest input of one job. Ours: a 2^32-byte row times 65535 rows can be described, and does not exist.
pub(super) const INPUT_MAX: u64 = 64 << 20;

/// What of an input is reported, and where its output goes.
pub(super) struct Taken {
    pub(super) header: JobHeader,
    pub(super) from: Given,
    /// Where it was, gaps between rows included.
    pub(super) input: Range<u32>,
    pub(super) words: u32,
    pub(super) output: u32,
}

/// Where an input is.
pub(super) enum Given {
    Events(EventDescriptor),
    Dense(HrcDescriptor),
}

/// FNP events have their polarity bit set, which is no bit of a CNP event.
fn of_fnp(events: &[u32]) -> bool {
    events.get(1).is_some_and(|w| w >> 31 != 0)
}

/// Bytes from a row of a dense input to the next.
fn row_step(d: &HrcDescriptor) -> u32 {
    if d.next_row == 0 { d.row_bytes } else { u32::from(d.next_row) }
}

/// Bytes of a dense input.
pub(super) fn dense_bytes(d: &HrcDescriptor) -> usize {
    d.row_bytes as usize * d.rows as usize
}

/// Bytes of events that are looked at together: they stay in a first-level cache.
const EVENTS: usize = 8 << 10;

impl Buffers {
    pub(super) fn mesh(&self, kind: Kind) -> MeshInput<'_> {
        match kind {
            Kind::Event if of_fnp(&self.events) => MeshInput::FnpEvents(&self.events),
            Kind::Event => MeshInput::CnpEvents(&self.events),
            _ => MeshInput::Dense(&self.input),
        }
    }

    pub(super) fn checksum(&self, kind: Kind) -> u32 {
        if kind == Kind::Event { sum(&self.events) } else { sum_bytes(&self.input) }
    }
}

impl CoreWork {
    /// The descriptor.
    pub(super) fn take_input(&self) -> Result<Taken, JobError> {
        if self.kind == Kind::Event {
            let d = EventDescriptor::decode(&self.descriptor(self.slot.0)?)?;
            if !d.input_words.is_multiple_of(2) {
                return Err(JobError::HalfEvent { words: d.input_words });
            }
            let input = d.input..d.input.saturating_add(d.input_words.saturating_mul(4));
            let (header, words, output) = (d.header, d.input_words, d.output);
            return Ok(Taken { header, from: Given::Events(d), input, words, output });
        }
        let d = HrcDescriptor::decode(&self.descriptor(self.slot.0)?)?;
        let bytes = u64::from(d.row_bytes) * u64::from(d.rows);
        if bytes > INPUT_MAX || d.input_bytes() > INPUT_MAX {
            return Err(JobError::TooLarge { bytes });
        }
        // The bus wraps around: then it may have been anything.
        let rows = u64::from(row_step(&d)) * u64::from(d.rows.saturating_sub(1)) + u64::from(d.row_bytes);
        let input = match u32::try_from(u64::from(d.input) + rows) {
            Ok(end) => d.input..end,
            Err(_) => 0..u32::MAX,
        };
        let (header, words, output) = (d.header, bytes.div_ceil(4) as u32, d.output);
        Ok(Taken { header, from: Given::Dense(d), input, words, output })
    }

    /// The payload as it is, into the buffers.
    pub(super) fn load_input(&self, taken: &Taken, buffers: &mut Buffers) -> Result<(), BusError> {
        match &taken.from {
            Given::Events(d) => {
                buffers.events.resize(d.input_words as usize, 0);
                self.reach.bus.fill_words(d.input, &mut buffers.events)
            }
            Given::Dense(d) => {
                buffers.input.resize(dense_bytes(d), 0);
                self.read_rows(d, &mut buffers.input)
            }
        }
    }

    /// The payload as a network takes it: events are put in their places.
    pub(super) fn place_input(&self, taken: &Taken, port: Port, into: &mut [u8]) -> Result<(), JobError> {
        match &taken.from {
            Given::Events(d) => Ok(self.place_events(d, port, into)?),
            Given::Dense(d) if dense_bytes(d) != into.len() => {
                Err(MeshError::InputLength { unit: "bytes", got: dense_bytes(d), expected: into.len() }.into())
            }
            Given::Dense(d) => Ok(self.read_rows(d, into)?),
        }
    }

    fn read_rows(&self, d: &HrcDescriptor, data: &mut [u8]) -> Result<(), BusError> {
        let step = row_step(d);
        if step == d.row_bytes {
            return self.reach.bus.read(d.input, data);
        }
        for (row, into) in data.chunks_mut(d.row_bytes.max(1) as usize).enumerate() {
            self.reach.bus.read(d.input.wrapping_add(step.wrapping_mul(row as u32)), into)?;
        }
        Ok(())
    }

    /// Events from memory to their places.
    fn place_events(&self, d: &EventDescriptor, port: Port, into: &mut [u8]) -> Result<(), BusError> {
        into.fill(0);
        let (mut some, mut fnp) = ([[0; 2]; EVENTS / EVENT_BYTES], None);
        let count = d.input_words as usize / 2;
        for first in (0..count).step_by(some.len()) {
            let events = &mut some[..(count - first).min(EVENTS / EVENT_BYTES)];
            self.reach.bus.fill_words(d.input.wrapping_add((first * EVENT_BYTES) as u32), events.as_flattened_mut())?;
            let fnp = *fnp.get_or_insert(of_fnp(events.as_flattened()));
            port.place_events(events, fnp, into);
        }
        Ok(())
    }
}
