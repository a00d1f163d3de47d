//! What goes into a mesh and comes out of it, as the DMAs carry it (hardware.md 12).

use std::fmt;
use std::sync::Arc;

use akida_hal::format::{CnpEvent, FnpEvent, FormatType};
use akida_hal::np::OutputFormat;
use zerocopy::IntoBytes;

use super::MeshError;
use crate::chip::memory::Watch;

/// A job's input.
#[derive(Clone, Copy, Debug)]
pub enum MeshInput<'a> {
    /// One byte per element in (height, width, channels) order, through the HRC DMA.
    Dense(&'a [u8]),
    /// Two words per event: row | column << 16, channel | value << 16. What gets no event is 0.
    CnpEvents(&'a [u32]),
    /// Two words per event: linear index (hardware.md 12.1: column-major), value | polarity << 31.
    FnpEvents(&'a [u32]),
}

/// Shape and width of what goes in or out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// (height, width, channels).
    pub shape: [usize; 3],
    /// Bits per element: 1, 2, 4, 8, or 32 for potentials.
    pub bits: u8,
    /// Whether elements are signed.
    pub signed: bool,
}

impl Port {
    /// Elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether all that leaves another port can go in here.
    pub fn takes(&self, other: &Self) -> bool {
        let range = |port: &Self| if port.signed { (port.bits - 1, true) } else { (port.bits, false) };
        let ((bits, signed), (others, negative)) = (range(self), range(other));
        // Bytes are all values of 8 bits.
        self.len() == other.len() && other.bits <= 8 && (self.bits == 8 || others <= bits && (signed || !negative))
    }

    /// Puts the values of events, of an FNP or a CNP, where they belong among elements in (height, width, channels) order. One outside
    /// the shape is none: an input without events sends such a one (hardware.md 12.1).
    pub fn place_events(&self, events: &[[u32; 2]], fnp: bool, into: &mut [u8]) {
        let [height, width, channels] = self.shape;
        if fnp {
            for event in events.iter().map(|words| FnpEvent::decode(*words)) {
                let index = event.index as usize;
                let (row, column, channel) = (index % height, index / height % width, index / height / width);
                if channel < channels {
                    into[(row * width + column) * channels + channel] = event.value as u8;
                }
            }
            return;
        }
        // Those of a position come one after another.
        let (mut word, mut position) = (None, &mut [][..]);
        for words in events {
            let event = CnpEvent::decode(*words);
            if word != Some(words[0]) {
                let (row, column) = (usize::from(event.first), usize::from(event.second));
                let first = (row * width + column) * channels;
                let inside = row < height && column < width;
                position = if inside { &mut into[first..first + channels] } else { &mut [] };
                word = Some(words[0]);
            }
            if let Some(element) = position.get_mut(usize::from(event.channel)) {
                *element = event.value;
            }
        }
    }

    /// Refuses what no element of so many bits can be.
    pub fn check(&self, bytes: &[u8]) -> Result<(), MeshError> {
        let (low, high) = if self.signed {
            (-(1i16 << (self.bits - 1)), (1i16 << (self.bits - 1)) - 1)
        } else {
            (0, (1i16 << self.bits) - 1)
        };
        let value = |b: u8| if self.signed { i16::from(b.cast_signed()) } else { i16::from(b) };
        // Bytes are all values of 8 bits.
        if self.bits == 8 {
            return Ok(());
        }
        match bytes.iter().position(|&b| !(low..=high).contains(&value(b))) {
            None => Ok(()),
            Some(index) => Err(MeshError::InputValue { index, value: value(bytes[index]), bits: self.bits }),
        }
    }

    /// Never true: a network makes something.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [h, w, c] = self.shape;
        write!(f, "{h}x{w}x{c} of {}{} bits", self.bits, if self.signed { " signed" } else { "" })
    }
}

/// What kind of component made the output; decides the format type in the output header and the shape of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputSource {
    /// The HRC.
    Hrc,
    /// NPs as CNPs (or TNPs).
    Cnp,
    /// NPs in FNP mode.
    Fnp,
}

/// Gets the input of a job, by its number, to where it is computed.
pub type Fetch<'a, E> = dyn FnMut(usize, &mut [u8]) -> Result<(), E> + 'a;

/// Inputs of jobs as networks take them: a byte an element, (height, width, channels) order.
pub enum Inputs<'a, E> {
    /// One behind the other.
    Here(&'a [u8]),
    /// So many that are fetched when they are needed.
    Fetched(usize, &'a mut Fetch<'a, E>),
}

/// Every element of an output in (height, width, channels) order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elements<'a> {
    /// Up to 8 bits: a byte each, two's complement where signed.
    Bytes(&'a [u8]),
    /// Potentials.
    Words(&'a [i32]),
}

/// A job's output, where it was computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MeshOutput<'a> {
    /// Shape and width.
    pub port: Port,
    /// Dense or events.
    pub format: OutputFormat,
    /// What made it.
    pub source: OutputSource,
    /// What it is.
    pub elements: Elements<'a>,
}

impl MeshOutput<'_> {
    /// Elements as integers.
    pub fn values(&self) -> Vec<i32> {
        match self.elements {
            Elements::Bytes(bytes) if self.port.signed => bytes.iter().map(|b| b.cast_signed().into()).collect(),
            Elements::Bytes(bytes) => bytes.iter().map(|b| i32::from(*b)).collect(),
            Elements::Words(words) => words.to_vec(),
        }
    }

    /// Format type of the output header.
    pub fn format_type(&self) -> FormatType {
        let potentials = self.port.bits > 8;
        match (self.format, self.source, potentials) {
            (OutputFormat::Dense, OutputSource::Fnp, false) => FormatType::DenseFnpActivations,
            (OutputFormat::Dense, OutputSource::Fnp, true) => FormatType::DenseFnpPotentials,
            (OutputFormat::Dense, _, false) => FormatType::DenseCnpActivations,
            (OutputFormat::Dense, _, true) => FormatType::DenseCnpPotentials,
            (OutputFormat::Events, OutputSource::Fnp, false) => FormatType::FcActivations,
            (OutputFormat::Events, OutputSource::Fnp, true) => FormatType::FcPotentials,
            (OutputFormat::Events, _, false) => FormatType::Convolution,
            (OutputFormat::Events, _, true) => FormatType::ConvolutionPotentials,
        }
    }

    /// Appends the payload behind the header: dense elements (bytes up to 8 bits, padded to a word; 32-bit words above), or
    /// two words per element that is not 0.
    pub fn payload(&self, into: &mut Vec<u8>) {
        match (self.format, self.elements) {
            (OutputFormat::Dense, Elements::Words(words)) => match cfg!(target_endian = "little") {
                true => into.extend_from_slice(words.as_bytes()),
                false => words.iter().for_each(|word| into.extend_from_slice(&word.to_le_bytes())),
            },
            (OutputFormat::Dense, Elements::Bytes(bytes)) => {
                into.extend_from_slice(bytes);
                into.resize(into.len() + bytes.len().next_multiple_of(4) - bytes.len(), 0);
            }
            (OutputFormat::Events, _) => self.events(into),
        }
    }

    fn events(&self, into: &mut Vec<u8>) {
        let [_, width, channels] = self.port.shape;
        let potentials = self.port.bits > 8;
        for (index, value) in self.values().into_iter().enumerate().filter(|(_, v)| *v != 0) {
            let (row, column) = (index / channels / width, index / channels % width);
            let (row, column, channel) = (row as u32, column as u32, (index % channels) as u32);
            let value = value.cast_unsigned();
            let words = match (self.source, potentials) {
                (OutputSource::Fnp, false) => [index as u32, value & 0xFF | 1 << 31],
                (OutputSource::Fnp, true) => [index as u32, value & 0x03FF_FFFF | 1 << 31],
                (OutputSource::Cnp, false) => [row | column << 16, channel | (value & 0xFF) << 16],
                (OutputSource::Cnp, true) => [row | column << 16, channel | value << 12],
                // The HRC exchanges the coordinates of activations, not those of potentials.
                (OutputSource::Hrc, false) => [column | row << 16, channel | (value & 0xFF) << 16],
                (OutputSource::Hrc, true) => [row | column << 16 | (value >> 20 & 0xF) << 28, channel | value << 12],
            };
            words.iter().for_each(|w| into.extend_from_slice(&w.to_le_bytes()));
        }
    }
}

/// Device memory could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("device memory at {address:#x} cannot be read")]
pub struct MemoryFault {
    /// The address.
    pub address: u64,
}

/// Device memory as an FNP2 reads it.
pub trait ReadMemory: Sync {
    /// Value of the FNP2 weight address register TOP + 0x10 + 4 * `id`.
    fn fnp2_address(&self, id: u8) -> u32;

    /// Watches words at a device address, to be read after this call; `None` for memory that cannot be watched.
    fn watch(&self, _address: u64, _words: usize) -> Option<Arc<Watch>> {
        None
    }

    /// Fills `words` from a device address.
    fn read_words(&self, address: u64, words: &mut [u32]) -> Result<(), MemoryFault>;
}
