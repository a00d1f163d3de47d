//! What enters and leaves the Akida DMAs: input events, the output header, output events and dense payloads
//! (hardware.md section 12).

mod events;
mod output;
mod vectors;

pub use events::InputEvents;
pub use output::{OutputValues, decode_output};

use crate::program::OutputKind;
use crate::regs::Field;

/// Words of an output header.
pub const HEADER_WORDS: usize = 8;
/// Bytes of an output header.
pub const HEADER_BYTES: usize = HEADER_WORDS * 4;

const PAYLOAD_WORDS: Field = Field::bits(27, 0);
const TYPE: Field = Field::bits(31, 28);

const CNP_FIRST: Field = Field::bits(11, 0);
const CNP_SECOND: Field = Field::bits(27, 16);
const CNP_CHANNEL: Field = Field::bits(10, 0);
const CNP_VALUE: Field = Field::bits(23, 16);
const CNP_POTENTIAL: Field = Field::bits(31, 12);
const HRC_POTENTIAL_HIGH: Field = Field::bits(31, 28);
const FNP_INDEX: Field = Field::bits(17, 0);
const FNP_VALUE: Field = Field::bits(25, 0);
const FNP_POLARITY: Field = Field::bit(31);

/// Format type of an output header, bits 31..28 \[E\].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FormatType {
    /// FC potentials, as events.
    FcPotentials = 0x1,
    /// Convolution, as events.
    Convolution = 0x2,
    /// Convolution full potentials, as events.
    ConvolutionPotentials = 0x3,
    /// FC activations, as events.
    FcActivations = 0x5,
    /// Dense CNP full potentials.
    DenseCnpPotentials = 0x8,
    /// Dense CNP short potentials.
    DenseCnpShortPotentials = 0x9,
    /// Dense FNP activations.
    DenseFnpActivations = 0xA,
    /// Dense FNP potentials.
    DenseFnpPotentials = 0xB,
    /// Dense CNP activations.
    DenseCnpActivations = 0xC,
    /// Dense packet SRAM.
    DensePacketSram = 0xD,
    /// Dense FNP short potentials.
    DenseFnpShortPotentials = 0xE,
    /// DMA loopback.
    Loopback = 0xF,
}

impl FormatType {
    /// All of them.
    pub const ALL: [FormatType; 12] = [
        FormatType::FcPotentials,
        FormatType::Convolution,
        FormatType::ConvolutionPotentials,
        FormatType::FcActivations,
        FormatType::DenseCnpPotentials,
        FormatType::DenseCnpShortPotentials,
        FormatType::DenseFnpActivations,
        FormatType::DenseFnpPotentials,
        FormatType::DenseCnpActivations,
        FormatType::DensePacketSram,
        FormatType::DenseFnpShortPotentials,
        FormatType::Loopback,
    ];

    /// Whether the payload is the whole tensor.
    pub fn is_dense(self) -> bool {
        (self as u8) >= 0x8 && self != FormatType::Loopback
    }
}

/// What is wrong with an input or an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The header's format type is none.
    #[error("output header {word:#010x} has the unknown format type {format:#x}")]
    Type {
        /// Header word 0.
        word: u32,
        /// Its type field.
        format: u8,
    },
    /// The format type contradicts the program's output port.
    #[error("output has format {format:?}, the program expects {expected:?}")]
    Unexpected {
        /// What came.
        format: FormatType,
        /// What the program says.
        expected: OutputKind,
    },
    /// The payload has another size than the output.
    #[error("output payload is {words} words instead of {expected}")]
    Size {
        /// Announced words.
        words: usize,
        /// Expected (dense) or possible (events) words.
        expected: usize,
    },
    /// An event lies outside the tensor.
    #[error("output event {event} ({words:08x?}) lies outside the output shape {shape:?}")]
    Outside {
        /// Its number.
        event: usize,
        /// Its words.
        words: [u32; 2],
        /// The tensor (height, width, channels).
        shape: [u32; 3],
    },
    /// A shape or value does not fit an input event.
    #[error("{what} {value} does not fit an input event (at most {limit})")]
    Input {
        /// Which.
        what: &'static str,
        /// Value.
        value: u32,
        /// Largest.
        limit: u32,
    },
}

/// The 32-byte header before an output payload: word 0, then zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputHeader {
    /// Payload words, below 2^28.
    pub words: u32,
    /// What the payload is.
    pub format: FormatType,
}

impl OutputHeader {
    /// The header as it lies in memory. Payload words above 2^28 - 1 are cut off.
    pub fn encode(&self) -> [u32; HEADER_WORDS] {
        let mut words = [0; HEADER_WORDS];
        words[0] = PAYLOAD_WORDS.of(self.words) | TYPE.of(self.format as u32);
        words
    }

    /// The header of word 0.
    pub fn decode(word: u32) -> Result<Self, FormatError> {
        let number = TYPE.get(word) as u8;
        let format = FormatType::ALL
            .into_iter()
            .find(|f| *f as u8 == number)
            .ok_or(FormatError::Type { word, format: number })?;
        Ok(Self { words: PAYLOAD_WORDS.get(word), format })
    }
}

/// Bytes of an event: a word of place, a word of value.
pub const EVENT_BYTES: usize = 8;

/// An event of a CNP or the HRC: one non-zero element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CnpEvent {
    /// Coordinate in the first dimension (row; for the HRC the column), below 4096.
    pub first: u16,
    /// Coordinate in the second dimension (column; for the HRC the row), below 4096.
    pub second: u16,
    /// Channel, below 2048.
    pub channel: u16,
    /// Activation.
    pub value: u8,
}

impl CnpEvent {
    /// The two words. Bits outside the fields are cut off.
    pub fn encode(&self) -> [u32; 2] {
        [
            CNP_FIRST.of(self.first.into()) | CNP_SECOND.of(self.second.into()),
            CNP_CHANNEL.of(self.channel.into()) | CNP_VALUE.of(self.value.into()),
        ]
    }

    /// The event of two words.
    pub fn decode(words: [u32; 2]) -> Self {
        Self {
            first: CNP_FIRST.get(words[0]) as u16,
            second: CNP_SECOND.get(words[0]) as u16,
            channel: CNP_CHANNEL.get(words[1]) as u16,
            value: CNP_VALUE.get(words[1]) as u8,
        }
    }
}

/// An event of an FNP: one non-zero element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FnpEvent {
    /// Linear index, below 2^18.
    pub index: u32,
    /// Activation, below 2^26.
    pub value: u32,
}

impl FnpEvent {
    /// The two words, polarity bit set. Bits outside the fields are cut off.
    pub fn encode(&self) -> [u32; 2] {
        [FNP_INDEX.of(self.index), FNP_VALUE.of(self.value) | FNP_POLARITY.mask()]
    }

    /// The event of two words.
    pub fn decode(words: [u32; 2]) -> Self {
        Self { index: FNP_INDEX.get(words[0]), value: FNP_VALUE.get(words[1]) }
    }
}

/// Sign-extends the low `bits` of `value`.
fn signed(value: u32, bits: u32) -> i32 {
    (value << (32 - bits)).cast_signed() >> (32 - bits)
}

/// Potential of a CNP event: 20 bits signed \[E\].
pub fn cnp_potential(words: [u32; 2]) -> i32 {
    signed(CNP_POTENTIAL.get(words[1]), 20)
}

/// Potential of an FNP event: 26 bits signed \[E\].
pub fn fnp_potential(words: [u32; 2]) -> i32 {
    signed(FNP_VALUE.get(words[1]), 26)
}

/// Potential of an HRC event: 24 bits signed, four of them in word 0 \[E\].
pub fn hrc_potential(words: [u32; 2]) -> i32 {
    signed(HRC_POTENTIAL_HIGH.get(words[0]) << 20 | CNP_POTENTIAL.get(words[1]), 24)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn headers_round_trip(words in 0u32..1 << 28, format in prop::sample::select(&FormatType::ALL[..])) {
            let header = OutputHeader { words, format };
            prop_assert_eq!(OutputHeader::decode(header.encode()[0])?, header);
        }
    }

    #[test]
    fn potentials_are_signed() {
        assert_eq!(cnp_potential([0, 0xFFFF_F000]), -1);
        assert_eq!(cnp_potential([0, 0x7FFF_F000]), 0x7FFFF);
        assert_eq!(fnp_potential([0, 0x03FF_FFFE]), -2);
        assert_eq!(hrc_potential([0xF000_0000, 0xFFFF_F000]), -1);
        assert_eq!(hrc_potential([0x1000_0000, 0]), 1 << 20);
    }
}
