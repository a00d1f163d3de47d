//! Program files in the vendor's format (hardware.md section 13): a FlatBuffer "program info" and a FlatBuffer "program
//! data", each behind its length. Schema 2.5.0 is the one whose field numbers are known; others are refused by name.
//!
//! Played through [`Device::program`](crate::device::Device::program), such a file puts registers and memories into the state
//! it describes. What NPs compute from them is the silicon's encoding, which is not public, unless the file is one of ours.
//!
//! Field 32 of the info table is ours: widths and signs of input and output, which schema 2.5.0 has no place for. Readers
//! that do not know it skip it. What else is deduced is marked in docs/silicon.md.

mod flat;
mod read;
mod write;

use crate::mesh::{NpAddress, Version};
use crate::np::registers;
use crate::packet::{PacketError, Uid, packets};
use crate::program::Program;

/// The version string of the schema.
pub const SCHEMA: &str = "2.5.0";

/// Largest file that is read: above the memory of any board.
pub const LARGEST: usize = 256 << 20;

/// Field numbers of the program info.
mod info {
    pub const VERSION: u16 = 0;
    pub const DEVICE: u16 = 1;
    pub const INPUT_DIMS: u16 = 2;
    pub const OUTPUT_DIMS: u16 = 3;
    pub const INPUT_TYPE: u16 = 4;
    pub const OUTPUT_TYPE: u16 = 5;
    pub const ACTIVATION: u16 = 6;
    pub const WINDOW_WIDTH: u16 = 7;
    pub const WINDOW_HEIGHT: u16 = 8;
    pub const SHIFTS: u16 = 9;
    pub const SCALES: u16 = 10;
    pub const DESCRIPTORS: u16 = 11;
    pub const EPG: u16 = 12;
    pub const PASSES: u16 = 13;
    pub const LEARNING: u16 = 14;
    /// Ours.
    pub const PORTS: u16 = 32;
}

/// Whose words NPs are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// This project's, for simulated boards (docs/np-program.md).
    Ours,
    /// The silicon's, or none.
    Silicon,
}

impl Encoding {
    /// Of a program: ours when an NP's encoding register says so.
    pub fn of(program: &Program) -> Encoding {
        let place = 0xF8usize / 4;
        let tagged = program.passes.iter().flat_map(|p| &p.tracks).any(|track| {
            packets(&track.words).map_while(Result::ok).any(|packet| {
                let start = usize::from(packet.header.start);
                let word = place.checked_sub(start).and_then(|at| packet.payload.get(at));
                packet.header.uid == Uid::Registers && word == Some(&registers::ENCODING)
            })
        });
        if tagged { Encoding::Ours } else { Encoding::Silicon }
    }
}

/// A program with what its file says beside it.
#[derive(Clone, Debug, PartialEq)]
pub struct ProgramFile {
    /// What a device is programmed with.
    pub program: Program,
    /// Subtracted from potentials, one per output channel; empty when outputs stay integers.
    pub shifts: Vec<i32>,
    /// Then divided by these.
    pub scales: Vec<f32>,
    /// Descriptors of a pass, as the file says: one more than its tracks in those seen.
    pub descriptors_per_pass: u8,
    /// Header of the packets that pad multi-pass rings.
    pub dummy_header: [u32; 2],
    /// Whether there is a learning layer. Its contents are not public.
    pub learning: bool,
}

/// Why a file is no program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// Not two sections that fill the file.
    #[error("this is no program file: {what} ({value} bytes, the file has {len})")]
    NotAProgram {
        /// What is wrong.
        what: &'static str,
        /// The length found.
        value: u64,
        /// Bytes of the file.
        len: u64,
    },
    /// Another schema.
    #[error("the program file has schema version {found:?}; {SCHEMA} is the one that is known")]
    Version {
        /// What the file says.
        found: String,
    },
    /// An offset, a size or a field that cannot be.
    #[error("the {section} of the program file is damaged: {what} at byte {at}")]
    Structure {
        /// Which half.
        section: &'static str,
        /// What.
        what: &'static str,
        /// Where, from behind the length prefix.
        at: u64,
    },
    /// A field with a value that means nothing.
    #[error("field {field} of the program file is {value}, which means nothing")]
    Field {
        /// Its name.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// A track outside the data.
    #[error("track {track} of pass {pass} is {words} words at byte {offset}; the data has {len} bytes")]
    Track {
        /// Pass.
        pass: usize,
        /// Track in the pass.
        track: usize,
        /// Where.
        offset: u32,
        /// How long.
        words: u32,
        /// Bytes of data.
        len: u64,
    },
    /// Packets that contradict themselves.
    #[error("track {track} of pass {pass} is malformed")]
    Packet {
        /// Pass.
        pass: usize,
        /// Track in the pass.
        track: usize,
        /// What is wrong.
        source: PacketError,
    },
    /// More than the format can say.
    #[error("the program has {value} {what}, a program file takes {limit}")]
    TooLarge {
        /// What.
        what: &'static str,
        /// How many.
        value: u64,
        /// At most.
        limit: u64,
    },
}

/// A version as the file has it.
fn version_of([vendor, product, major, minor]: [u8; 4]) -> Version {
    Version { vendor, product, major, minor }
}

/// An NP identity in one word: column, row, id, lowest byte first (deduced).
fn np_of(word: u32) -> NpAddress {
    let [column, row, id, _] = word.to_le_bytes();
    NpAddress { column, row, id }
}
