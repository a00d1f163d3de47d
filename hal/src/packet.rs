//! Config packets: how NP registers and SRAMs are reached (hardware.md section 9). A packet is two header words and a
//! payload; a track is several packets back to back.

use std::fmt;

use crate::mesh::NpAddress;
use crate::regs::Field;

/// Header words of a packet.
pub const HEADER_WORDS: usize = 2;
/// From this length on a packet counts in units of [`XL_UNIT`] words \[E\].
pub const XL_FROM: u32 = (1 << 14) - 1;
/// Words in one unit of an XL length.
pub const XL_UNIT: u32 = 16;
/// The longest payload in words.
pub const MAX_LEN: u32 = XL_FROM * XL_UNIT;

const COLUMN: Field = Field::bits(31, 24);
const ROW: Field = Field::bits(23, 16);
const NPS: Field = Field::bits(11, 8);
const HRC: Field = Field::bits(7, 6);
const UID: Field = Field::bits(3, 0);
/// Word 0 bits without a meaning in hardware.md 9.1.
const RESERVED_0: u32 = !(COLUMN.mask() | ROW.mask() | NPS.mask() | HRC.mask() | UID.mask());
const XL: Field = Field::bit(31);
const RESERVED_1: Field = Field::bit(30);
const LENGTH: Field = Field::bits(29, 16);
const START: Field = Field::bits(15, 0);
/// Value of the HRC field when the target is the HRC.
const HRC_ENABLED: u32 = 2;

/// Which memory of the target a packet addresses \[E\]. With the HRC as target only [`CnpFilter`](Uid::CnpFilter) (the
/// HRC's SRAM) and [`Registers`](Uid::Registers) have a public meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Uid {
    /// CNP filters, SRAM C0. Start addresses count 16 words \[D\]. With HRC enable: the HRC's SRAM.
    CnpFilter = 0x0,
    /// CNP filters, compact (2.0).
    CnpFilterCompact = 0x1,
    /// CNP learn thresholds (1.0), input shifts (2.0), SRAM C2.
    LearnThresholds = 0x2,
    /// Inbound packet SRAM, C3; skip-merge add shift.
    PacketSram = 0x3,
    /// CNP fire thresholds (1.0), bias and output scales (2.0), SRAM C4.
    Thresholds = 0x4,
    /// Look-up table, SRAM C5 (newer IP).
    Lut = 0x5,
    /// FNP weights, SRAM Fw.
    FnpWeights = 0x6,
    /// Registers; the start address is a register index (byte offset / 4).
    Registers = 0x8,
}

impl Uid {
    /// All of them.
    pub const ALL: [Uid; 8] = [
        Uid::CnpFilter,
        Uid::CnpFilterCompact,
        Uid::LearnThresholds,
        Uid::PacketSram,
        Uid::Thresholds,
        Uid::Lut,
        Uid::FnpWeights,
        Uid::Registers,
    ];

    /// The UID of a number.
    pub fn new(value: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|uid| *uid as u8 == value)
    }
}

/// Who a packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// The HRC.
    Hrc,
    /// NPs of one node; several mask bits are presumably a broadcast inside the node \[D\].
    Node {
        /// Column, 1-based.
        column: u8,
        /// Row, 1-based.
        row: u8,
        /// Bit `id` for NP `id`, 1..=15.
        nps: u8,
    },
}

impl Target {
    /// The single addressees, in the order of their ids.
    pub fn addresses(self) -> impl Iterator<Item = NpAddress> {
        let (column, row, nps) = match self {
            Target::Hrc => (0, 0, 1),
            Target::Node { column, row, nps } => (column, row, nps),
        };
        (0..4).filter(move |id| nps & 1 << id != 0).map(move |id| NpAddress { column, row, id })
    }
}

impl From<NpAddress> for Target {
    fn from(np: NpAddress) -> Self {
        if np == NpAddress::HRC {
            Target::Hrc
        } else {
            Target::Node { column: np.column, row: np.row, nps: 1u8.checked_shl(u32::from(np.id)).unwrap_or(0) & 0xF }
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Hrc => f.write_str("HRC"),
            Target::Node { column, row, nps } => write!(f, "NP({column},{row},mask {nps:#x})"),
        }
    }
}

/// The two header words of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketHeader {
    /// Who it is for.
    pub target: Target,
    /// Which of the target's memories.
    pub uid: Uid,
    /// Start address in that memory, in the memory's own unit.
    pub start: u16,
    /// Payload words, 1..=[`MAX_LEN`]; from [`XL_FROM`] on a multiple of [`XL_UNIT`].
    pub len: u32,
}

/// What is wrong with a packet. Offsets are in words from the start of the track.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// The track ends inside a header.
    #[error("the track ends inside the packet header at word {offset}")]
    HeaderTruncated {
        /// Where the header starts.
        offset: usize,
    },
    /// The track ends inside a payload.
    #[error("the packet at word {offset} announces {len} words of payload, the track has {left}")]
    PayloadTruncated {
        /// Where the header starts.
        offset: usize,
        /// Announced payload words.
        len: u32,
        /// Words left.
        left: usize,
    },
    /// The target memory is unknown.
    #[error("the packet at word {offset} names target memory {uid:#x}, which is none")]
    Uid {
        /// Where the header starts.
        offset: usize,
        /// The number.
        uid: u8,
    },
    /// Neither an NP nor the HRC is addressed, or both are.
    #[error("the packet at word {offset} has the impossible target {word:#010x}")]
    Target {
        /// Where the header starts.
        offset: usize,
        /// Header word 0.
        word: u32,
    },
    /// Bits are set that have no meaning.
    #[error("the packet header at word {offset} has reserved bits set: {word:#010x}")]
    Reserved {
        /// Where the word is.
        offset: usize,
        /// The header word.
        word: u32,
    },
    /// The length cannot be written in a header.
    #[error("a packet of {len} words cannot be made: 1..=16382 words, or a multiple of 16 up to {MAX_LEN}")]
    Length {
        /// Payload words.
        len: u32,
    },
}

impl PacketHeader {
    /// The two words.
    ///
    /// # Errors
    /// [`PacketError::Length`] for a length no header can hold, [`PacketError::Target`] for an empty NP mask.
    pub fn encode(&self) -> Result<[u32; 2], PacketError> {
        let place = match self.target {
            Target::Hrc => HRC.of(HRC_ENABLED),
            Target::Node { column, row, nps } => COLUMN.of(column.into()) | ROW.of(row.into()) | NPS.of(nps.into()),
        };
        let word = place | UID.of(self.uid as u32);
        if let Target::Node { column, row, nps } = self.target
            && (nps == 0 || nps > 0xF || column == 0 || row == 0)
        {
            return Err(PacketError::Target { offset: 0, word });
        }
        let length = match self.len {
            0 => return Err(PacketError::Length { len: 0 }),
            len if len < XL_FROM => LENGTH.of(len),
            len if len <= MAX_LEN && len.is_multiple_of(XL_UNIT) => XL.mask() | LENGTH.of(len / XL_UNIT),
            len => return Err(PacketError::Length { len }),
        };
        Ok([word, length | START.of(self.start.into())])
    }

    /// The header two words make. Offsets in errors are 0 and 1.
    pub fn decode(words: [u32; 2]) -> Result<Self, PacketError> {
        let [first, second] = words;
        if first & RESERVED_0 != 0 {
            return Err(PacketError::Reserved { offset: 0, word: first });
        }
        if RESERVED_1.any(second) {
            return Err(PacketError::Reserved { offset: 1, word: second });
        }
        let number = UID.get(first) as u8;
        let uid = Uid::new(number).ok_or(PacketError::Uid { offset: 0, uid: number })?;
        let (column, row, nps) = (COLUMN.get(first) as u8, ROW.get(first) as u8, NPS.get(first) as u8);
        let target = match HRC.get(first) {
            HRC_ENABLED if column == 0 && row == 0 && nps == 0 => Target::Hrc,
            0 if column != 0 && row != 0 && nps != 0 => Target::Node { column, row, nps },
            _ => return Err(PacketError::Target { offset: 0, word: first }),
        };
        let len = LENGTH.get(second) * if XL.any(second) { XL_UNIT } else { 1 };
        if len == 0 {
            return Err(PacketError::Length { len });
        }
        Ok(Self { target, uid, start: START.get(second) as u16, len })
    }

    /// Appends a packet to a track.
    ///
    /// # Errors
    /// As [`encode`](Self::encode), and [`PacketError::Length`] when `payload` has another length than the header says;
    /// nothing is appended then.
    pub fn push(&self, payload: &[u32], track: &mut Vec<u32>) -> Result<(), PacketError> {
        if payload.len() != self.len as usize {
            return Err(PacketError::Length { len: payload.len() as u32 });
        }
        track.extend_from_slice(&self.encode()?);
        track.extend_from_slice(payload);
        Ok(())
    }
}

impl PacketError {
    /// The same, `by` words further into a track.
    fn shifted(mut self, by: usize) -> Self {
        match &mut self {
            PacketError::HeaderTruncated { offset }
            | PacketError::PayloadTruncated { offset, .. }
            | PacketError::Uid { offset, .. }
            | PacketError::Target { offset, .. }
            | PacketError::Reserved { offset, .. } => *offset += by,
            PacketError::Length { .. } => {}
        }
        self
    }
}

/// A packet inside a track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Header.
    pub header: PacketHeader,
    /// Payload words.
    pub payload: &'a [u32],
    /// Where the header starts in the track, in words.
    pub offset: usize,
}

/// The packets of a track. Ends after the first error.
#[derive(Clone, Debug)]
pub struct Packets<'a> {
    words: &'a [u32],
    offset: usize,
}

/// The packets of a track's words.
pub fn packets(words: &[u32]) -> Packets<'_> {
    Packets { words, offset: 0 }
}

impl<'a> Packets<'a> {
    fn parse(&self) -> Result<Packet<'a>, PacketError> {
        let offset = self.offset;
        let rest = &self.words[offset..];
        let (head, body) = rest.split_first_chunk::<2>().ok_or(PacketError::HeaderTruncated { offset })?;
        let header = PacketHeader::decode(*head).map_err(|e| e.shifted(offset))?;
        let payload = body.get(..header.len as usize).ok_or(PacketError::PayloadTruncated {
            offset,
            len: header.len,
            left: body.len(),
        })?;
        Ok(Packet { header, payload, offset })
    }
}

impl<'a> Iterator for Packets<'a> {
    type Item = Result<Packet<'a>, PacketError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.offset >= self.words.len() {
            return None;
        }
        let packet = self.parse();
        self.offset = match &packet {
            Ok(packet) => self.offset + HEADER_WORDS + packet.payload.len(),
            Err(_) => self.words.len(),
        };
        Some(packet)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header() -> impl Strategy<Value = PacketHeader> {
        let target = prop_oneof![
            Just(Target::Hrc),
            (1u8.., 1u8.., 1u8..=15).prop_map(|(column, row, nps)| Target::Node { column, row, nps }),
        ];
        let len = prop_oneof![1u32..XL_FROM, (1024u32..=XL_FROM).prop_map(|units| units * XL_UNIT)];
        (target, prop::sample::select(&Uid::ALL[..]), any::<u16>(), len)
            .prop_map(|(target, uid, start, len)| PacketHeader { target, uid, start, len })
    }

    proptest! {
        #[test]
        fn headers_round_trip(header in header()) {
            prop_assert_eq!(PacketHeader::decode(header.encode()?)?, header);
        }

        /// Whatever decodes encodes to the same words, unless it used XL where none was needed.
        #[test]
        fn words_round_trip(words: [u32; 2]) {
            if let Ok(header) = PacketHeader::decode(words) && (header.len >= XL_FROM || !XL.any(words[1])) {
                prop_assert_eq!(header.encode()?, words);
            }
        }

        #[test]
        fn tracks_round_trip(headers in prop::collection::vec(header(), 0..6)) {
            let mut track = Vec::new();
            for (i, header) in headers.iter().enumerate() {
                header.push(&vec![i as u32; header.len as usize], &mut track)?;
            }
            let read: Vec<_> = packets(&track).collect::<Result<_, _>>()?;
            prop_assert_eq!(read.len(), headers.len());
            for (i, (packet, header)) in read.iter().zip(&headers).enumerate() {
                prop_assert_eq!(packet.header, *header);
                prop_assert!(packet.payload.iter().all(|w| *w == i as u32));
            }
        }

        #[test]
        fn any_words_end_in_packets_or_one_error(words in prop::collection::vec(any::<u32>(), 0..64)) {
            let results: Vec<_> = packets(&words).collect();
            prop_assert!(results.iter().rev().skip(1).all(Result::is_ok));
        }
    }

    /// The worked example of hardware.md section 9.2: the first track of a vendor program.
    #[test]
    fn vendor_track_decodes() {
        let mut track = vec![0x0103_0108, 0x0032_0000];
        track.extend([0; 50]);
        track.extend([0x0103_0106, 0x00C0_0000]);
        track.extend([0; 192]);
        let np = Target::Node { column: 1, row: 3, nps: 1 };
        let headers: Vec<_> = packets(&track).map(|p| p.expect("well-formed").header).collect();
        assert_eq!(
            headers,
            [
                PacketHeader { target: np, uid: Uid::Registers, start: 0, len: 50 },
                PacketHeader { target: np, uid: Uid::FnpWeights, start: 0, len: 192 },
            ]
        );
        assert_eq!(np.addresses().collect::<Vec<_>>(), [NpAddress { column: 1, row: 3, id: 0 }]);
    }

    #[test]
    fn malformed_packets_are_named() {
        let np = |nps| Target::Node { column: 1, row: 1, nps };
        let header = |target, len| PacketHeader { target, uid: Uid::Registers, start: 0, len };
        for (header, error) in [
            (header(np(1), 0), PacketError::Length { len: 0 }),
            (header(np(1), 16383), PacketError::Length { len: 16383 }),
            (header(np(1), 16385), PacketError::Length { len: 16385 }),
            (header(np(1), MAX_LEN + 16), PacketError::Length { len: MAX_LEN + 16 }),
            (header(np(0), 1), PacketError::Target { offset: 0, word: 0x0101_0008 }),
        ] {
            assert_eq!(header.encode(), Err(error));
        }
        let good = [0x0103_0108, 0x0001_0000, 0];
        for (tail, error) in [
            (&[0x0103_0108][..], PacketError::HeaderTruncated { offset: 3 }),
            (&[0x0103_0108, 0x0002_0000, 7][..], PacketError::PayloadTruncated { offset: 3, len: 2, left: 1 }),
            (&[0x0103_0107, 0x0001_0000, 7][..], PacketError::Uid { offset: 3, uid: 7 }),
            (&[0x0000_0108, 0x0001_0000, 7][..], PacketError::Target { offset: 3, word: 0x0000_0108 }),
            (&[0x0103_1108, 0x0001_0000, 7][..], PacketError::Reserved { offset: 3, word: 0x0103_1108 }),
            (&[0x0103_0108, 0x4001_0000, 7][..], PacketError::Reserved { offset: 4, word: 0x4001_0000 }),
            (&[0x0103_0108, 0x0000_0000, 7][..], PacketError::Length { len: 0 }),
        ] {
            let track: Vec<u32> = good.iter().chain(tail).copied().collect();
            let results: Vec<_> = packets(&track).collect();
            assert_eq!(results.len(), 2, "{tail:x?}");
            assert_eq!(results[1].as_ref().err(), Some(&error), "{tail:x?}");
        }
    }
}
