//! What goes into a mesh and comes out of it, as the DMAs carry it (hardware.md 12).

use std::fmt;

use akida_hal::format::FormatType;
use akida_hal::np::OutputFormat;

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

/// A job's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshOutput {
    /// Shape and width.
    pub port: Port,
    /// Dense or events.
    pub format: OutputFormat,
    /// What made it.
    pub source: OutputSource,
    /// Every element in (height, width, channels) order.
    pub values: Vec<i32>,
}

impl MeshOutput {
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

    /// The payload behind the header: dense elements (bytes up to 8 bits, padded to a word; 32-bit words above), or two
    /// words per element that is not 0.
    pub fn payload(&self) -> Vec<u32> {
        match self.format {
            OutputFormat::Dense if self.port.bits > 8 => self.values.iter().map(|v| v.cast_unsigned()).collect(),
            OutputFormat::Dense => self
                .values
                .chunks(4)
                .map(|four| four.iter().enumerate().fold(0, |word, (i, &v)| word | u32::from(v as u8) << (8 * i)))
                .collect(),
            OutputFormat::Events => self.events(),
        }
    }

    fn events(&self) -> Vec<u32> {
        let [_, width, channels] = self.port.shape;
        let potentials = self.port.bits > 8;
        let mut words = Vec::new();
        for (index, &value) in self.values.iter().enumerate().filter(|(_, v)| **v != 0) {
            let (row, column) = (index / channels / width, index / channels % width);
            let (row, column, channel) = (row as u32, column as u32, (index % channels) as u32);
            let value = value.cast_unsigned();
            words.extend(match (self.source, potentials) {
                (OutputSource::Fnp, false) => [index as u32, value & 0xFF | 1 << 31],
                (OutputSource::Fnp, true) => [index as u32, value & 0x03FF_FFFF | 1 << 31],
                (OutputSource::Cnp, false) => [row | column << 16, channel | (value & 0xFF) << 16],
                (OutputSource::Cnp, true) => [row | column << 16, channel | value << 12],
                // The HRC exchanges the coordinates of activations, not those of potentials.
                (OutputSource::Hrc, false) => [column | row << 16, channel | (value & 0xFF) << 16],
                (OutputSource::Hrc, true) => [row | column << 16 | (value >> 20 & 0xF) << 28, channel | value << 12],
            });
        }
        words
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

    /// Fills `words` from a device address.
    fn read_words(&self, address: u64, words: &mut [u32]) -> Result<(), MemoryFault>;
}
