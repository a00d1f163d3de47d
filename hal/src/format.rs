//! What enters and leaves the Akida DMAs: input events, the output header, output events and dense payloads
//! (hardware.md section 12).

use crate::program::{OutputKind, OutputPort};
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

/// The events of a dense input as a CNP takes them. `values` in (height, width, channels) order. An input without any
/// event becomes one dummy event outside the shape, which the AKD1000 needs (hardware.md section 12.1).
///
/// They are made in `words`, whose memory can so be used again.
pub fn cnp_events<'a>(shape: [u32; 3], values: &[u8], words: &'a mut Vec<u32>) -> Result<&'a [u32], FormatError> {
    let [height, width, channels] = shape;
    // The dummy event lies one past the end, so every dimension must leave room for it.
    for (what, value, limit) in [
        ("height", height, CNP_FIRST.max()),
        ("width", width, CNP_SECOND.max()),
        ("channel count", channels, CNP_CHANNEL.max()),
    ] {
        if value > limit {
            return Err(FormatError::Input { what, value, limit });
        }
    }
    check_len(shape, values.len())?;
    let count = events(shape, values, words, |[first, second, channel], value| {
        CnpEvent { first: first as u16, second: second as u16, channel: channel as u16, value }.encode()
    });
    let dummy = CnpEvent { first: height as u16, second: width as u16, channel: channels as u16, value: 1 };
    Ok(or_dummy(words, count, dummy.encode()))
}

/// The events of a dense input as an FNP takes them: a (1, 1, n) shape is indexed by channel, others column-major
/// (hardware.md section 12.1). An input without any event becomes one dummy event outside the shape.
///
/// They are made in `words`, whose memory can so be used again.
pub fn fnp_events<'a>(shape: [u32; 3], values: &[u8], words: &'a mut Vec<u32>) -> Result<&'a [u32], FormatError> {
    check_len(shape, values.len())?;
    let [d0, d1, d2] = shape;
    let outside = column_major(shape, [d0, d1, d2]);
    if outside > u64::from(FNP_INDEX.max()) {
        let value = u32::try_from(outside).unwrap_or(u32::MAX);
        return Err(FormatError::Input { what: "event index", value, limit: FNP_INDEX.max() });
    }
    let count = events(shape, values, words, |at, value| {
        FnpEvent { index: column_major(shape, at) as u32, value: value.into() }.encode()
    });
    Ok(or_dummy(words, count, FnpEvent { index: outside as u32, value: 1 }.encode()))
}

/// The first words, or the dummy where there are none. No input is empty, so there is room for it.
fn or_dummy(words: &mut [u32], count: usize, dummy: [u32; 2]) -> &[u32] {
    if count == 0 {
        words[..2].copy_from_slice(&dummy);
    }
    &words[..count.max(2)]
}

/// Bytes of an event: a word of place, a word of value.
pub const EVENT_BYTES: usize = 8;
/// Channels that are looked at together.
const BLOCK: usize = 8;

/// The events of all values but zeros, in their order, at the beginning of `words`; how many words.
fn events(shape: [u32; 3], values: &[u8], words: &mut Vec<u32>, encode: impl Fn([u32; 3], u8) -> [u32; 2]) -> usize {
    let [_, width, channels] = shape.map(|d| d as usize);
    // One block more, into which nothing is kept.
    let room = 2 * (values.len() + BLOCK);
    if words.len() < room {
        words.resize(room, 0);
    }
    let (events, _) = words.as_chunks_mut::<2>();
    let mut at = 0;
    for (row, values) in (0..).zip(values.chunks_exact(width * channels)) {
        for (column, values) in (0..).zip(values.chunks_exact(channels)) {
            for (first, values) in (0..).step_by(BLOCK).zip(values.chunks(BLOCK)) {
                let Some(room) = events[at..].first_chunk_mut::<BLOCK>() else { return 2 * at };
                let mut made = 0;
                for (channel, &value) in (first..).zip(values) {
                    // Written anyway and kept if it is no zero: about half of activations are, which no processor foresees.
                    room[made % BLOCK] = encode([row, column, channel], value);
                    made += usize::from(value != 0);
                }
                at += made;
            }
        }
    }
    2 * at
}

fn column_major(shape: [u32; 3], at: [u32; 3]) -> u64 {
    let [d0, d1, _] = shape.map(u64::from);
    let [i, j, k] = at.map(u64::from);
    i + d0 * (j + d1 * k)
}

fn check_len(shape: [u32; 3], len: usize) -> Result<(), FormatError> {
    let elements = shape.iter().try_fold(1u32, |n, d| n.checked_mul(*d)).unwrap_or(u32::MAX);
    if elements == 0 || elements as usize != len {
        let value = u32::try_from(len).unwrap_or(u32::MAX);
        return Err(FormatError::Input { what: "number of elements", value, limit: elements });
    }
    Ok(())
}

/// The elements of one output, dense in (height, width, channels) order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutputValues {
    /// Signed bytes: signed activations of up to 8 bits.
    I8(Vec<i8>),
    /// Unsigned bytes: unsigned activations of up to 8 bits.
    U8(Vec<u8>),
    /// Potentials, and anything above 8 bits.
    I32(Vec<i32>),
}

impl OutputValues {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            OutputValues::I8(v) => v.len(),
            OutputValues::U8(v) => v.len(),
            OutputValues::I32(v) => v.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Element `i` as a wide integer.
    pub fn get(&self, i: usize) -> Option<i32> {
        match self {
            OutputValues::I8(v) => v.get(i).map(|v| i32::from(*v)),
            OutputValues::U8(v) => v.get(i).map(|v| i32::from(*v)),
            OutputValues::I32(v) => v.get(i).copied(),
        }
    }

    /// An empty value of the type a port gives. Bytes of 8 bits are signed when the port says so; the vendor engine
    /// takes 8 bits as signed always, and fewer as unsigned (hardware.md section 12.2), which its ports must say too.
    pub fn empty(port: &OutputPort) -> Self {
        match (port.bits > 8, port.signed) {
            (true, _) => OutputValues::I32(Vec::new()),
            (false, true) => OutputValues::I8(Vec::new()),
            (false, false) => OutputValues::U8(Vec::new()),
        }
    }
}

/// Decodes the payload of an output (without its header) into `values`, which keeps its memory when it has the right
/// type. `payload` is as long as the header says.
///
/// # Errors
/// [`FormatError`] when the header or an event contradicts the port; `values` is unspecified then.
pub fn decode_output(
    port: &OutputPort,
    header: OutputHeader,
    payload: &[u8],
    values: &mut OutputValues,
) -> Result<(), FormatError> {
    let dense = port.kind == OutputKind::Dense;
    if header.format == FormatType::Loopback || header.format.is_dense() != dense {
        return Err(FormatError::Unexpected { format: header.format, expected: port.kind });
    }
    let empty = OutputValues::empty(port);
    if std::mem::discriminant(values) != std::mem::discriminant(&empty) {
        *values = empty;
    }
    if dense { decode_dense(port, header, payload, values) } else { decode_events(port, payload, values) }
}

fn decode_dense(
    port: &OutputPort,
    header: OutputHeader,
    payload: &[u8],
    values: &mut OutputValues,
) -> Result<(), FormatError> {
    let bytes = port.dense_bytes();
    let expected = bytes.div_ceil(4);
    if header.words as usize != expected || payload.len() < bytes {
        return Err(FormatError::Size { words: header.words as usize, expected });
    }
    let payload = &payload[..bytes];
    match values {
        OutputValues::U8(out) => {
            out.clear();
            out.extend_from_slice(payload);
        }
        OutputValues::I8(out) => {
            out.clear();
            out.extend(payload.iter().map(|b| b.cast_signed()));
        }
        OutputValues::I32(out) => {
            out.clear();
            out.extend(payload.as_chunks::<4>().0.iter().map(|b| i32::from_le_bytes(*b)));
        }
    }
    Ok(())
}

fn decode_events(port: &OutputPort, payload: &[u8], values: &mut OutputValues) -> Result<(), FormatError> {
    let elements: usize = port.shape.iter().map(|d| *d as usize).product();
    match values {
        OutputValues::U8(out) => {
            out.clear();
            out.resize(elements, 0);
        }
        OutputValues::I8(out) => {
            out.clear();
            out.resize(elements, 0);
        }
        OutputValues::I32(out) => {
            out.clear();
            out.resize(elements, 0);
        }
    }
    let (pairs, rest) = payload.as_chunks::<8>();
    if !rest.is_empty() || pairs.len() > elements {
        return Err(FormatError::Size { words: payload.len() / 4, expected: elements * 2 });
    }
    for (event, pair) in pairs.iter().enumerate() {
        let word = |i: usize| u32::from_le_bytes([pair[i], pair[i + 1], pair[i + 2], pair[i + 3]]);
        let words = [word(0), word(4)];
        let (at, activation, potential) = match port.kind {
            OutputKind::FnpEvents => {
                let e = FnpEvent::decode(words);
                (fnp_position(port.shape, e.index), e.value, fnp_potential(words))
            }
            OutputKind::HrcEvents => {
                let e = CnpEvent::decode(words);
                // Activations have the coordinates exchanged, potentials have those of a CNP (hardware.md 12.2).
                let [row, column] = if port.bits > 8 { [e.first, e.second] } else { [e.second, e.first] };
                ([row, column, e.channel].map(u32::from), e.value.into(), hrc_potential(words))
            }
            OutputKind::CnpEvents | OutputKind::Dense => {
                let e = CnpEvent::decode(words);
                ([e.first, e.second, e.channel].map(u32::from), e.value.into(), cnp_potential(words))
            }
        };
        if at.iter().zip(port.shape).any(|(c, d)| *c >= d) {
            return Err(FormatError::Outside { event, words, shape: port.shape });
        }
        let index = ((at[0] * port.shape[1] + at[1]) * port.shape[2] + at[2]) as usize;
        match values {
            OutputValues::U8(out) => out[index] = activation as u8,
            OutputValues::I8(out) => out[index] = (activation as u8).cast_signed(),
            OutputValues::I32(out) => out[index] = potential,
        }
    }
    Ok(())
}

/// Where a linear FNP index lies: the inverse of the column-major order.
fn fnp_position(shape: [u32; 3], index: u32) -> [u32; 3] {
    let [d0, d1, _] = shape.map(|d| d.max(1));
    [index % d0, index / d0 % d1, index / d0 / d1]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn port(shape: [u32; 3], bits: u8, kind: OutputKind) -> OutputPort {
        OutputPort { shape, bits, signed: bits > 8, kind }
    }

    fn bytes(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|w| w.to_le_bytes()).collect()
    }

    proptest! {
        /// Input events read back as output events give the dense tensor.
        #[test]
        fn events_round_trip(shape in [1u32..7, 1u32..7, 1u32..7], seed: u64) {
            let n: u32 = shape.iter().product();
            let values: Vec<u8> = (0..n).map(|i| {
                let hash = (u64::from(i) ^ seed).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56;
                if hash < 128 { 0 } else { hash as u8 }
            }).collect();
            prop_assume!(values.iter().any(|v| *v != 0));
            for (kind, words, format) in [
                (OutputKind::CnpEvents, cnp_events(shape, &values, &mut Vec::new())?.to_vec(), FormatType::Convolution),
                (OutputKind::FnpEvents, fnp_events(shape, &values, &mut Vec::new())?.to_vec(), FormatType::FcActivations),
            ] {
                let header = OutputHeader { words: words.len() as u32, format };
                let mut out = OutputValues::U8(vec![9; 3]);
                decode_output(&port(shape, 8, kind), header, &bytes(&words), &mut out)?;
                prop_assert_eq!(out, OutputValues::U8(values.clone()));
            }
        }

        #[test]
        fn headers_round_trip(words in 0u32..1 << 28, format in prop::sample::select(&FormatType::ALL[..])) {
            let header = OutputHeader { words, format };
            prop_assert_eq!(OutputHeader::decode(header.encode()[0])?, header);
        }

        #[test]
        fn any_payload_is_decoded_or_refused(payload in prop::collection::vec(any::<u8>(), 0..256), kind in 0..4) {
            let kind = [OutputKind::Dense, OutputKind::CnpEvents, OutputKind::FnpEvents, OutputKind::HrcEvents]
                [kind as usize];
            let format = if kind == OutputKind::Dense { FormatType::DenseCnpActivations } else { FormatType::Convolution };
            let header = OutputHeader { words: payload.len() as u32 / 4, format };
            let _ = decode_output(&port([3, 4, 5], 8, kind), header, &payload, &mut OutputValues::U8(Vec::new()));
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

    #[test]
    fn the_hrc_exchanges_its_coordinates() {
        let event = CnpEvent { first: 3, second: 1, channel: 0, value: 7 }.encode();
        let header = OutputHeader { words: 2, format: FormatType::Convolution };
        let mut out = OutputValues::U8(Vec::new());
        decode_output(&port([2, 4, 1], 8, OutputKind::HrcEvents), header, &bytes(&event), &mut out).expect("inside");
        assert_eq!(out, OutputValues::U8(vec![0, 0, 0, 0, 0, 0, 0, 7]));
    }

    #[test]
    fn an_input_without_events_sends_one_outside() {
        let mut words = vec![7; 2];
        assert_eq!(cnp_events([2, 3, 4], &[0; 24], &mut words), Ok(&[3 << 16 | 2, 1 << 16 | 4][..]));
        assert_eq!(fnp_events([1, 1, 5], &[0; 5], &mut words), Ok(&[1 + 1 + 5, 0x8000_0001][..]));
    }

    #[test]
    fn dense_outputs_are_checked_for_size_and_type() {
        let port = port([1, 1, 3], 32, OutputKind::Dense);
        let payload = bytes(&[1, u32::MAX, 3]);
        let header = |words, format| OutputHeader { words, format };
        let mut out = OutputValues::U8(Vec::new());
        decode_output(&port, header(3, FormatType::DenseFnpPotentials), &payload, &mut out).expect("fits");
        assert_eq!(out, OutputValues::I32(vec![1, -1, 3]));
        for (header, payload) in [
            (header(2, FormatType::DenseFnpPotentials), &payload[..]),
            (header(3, FormatType::DenseFnpPotentials), &payload[..8]),
            (header(3, FormatType::Loopback), &payload[..]),
            (header(3, FormatType::FcPotentials), &payload[..]),
        ] {
            assert!(decode_output(&port, header, payload, &mut out).is_err(), "{header:?}");
        }
    }
}
