//! From bytes to a program. Nothing is believed before it is checked; no input makes this panic or take more memory than the
//! file is long.

use super::flat::{Flat, Table};
use super::{FileError, LARGEST, ProgramFile, SCHEMA, info, np_of, version_of};
use crate::packet::packets;
use crate::program::{EpgWrite, ExternalWeights, InputKind, InputPort, OutputKind, OutputPort, Pass, Program, Track};

impl ProgramFile {
    /// Reads a file's bytes.
    pub fn read(bytes: &[u8]) -> Result<Self, FileError> {
        let (info_bytes, rest) = section(bytes, bytes.len(), "the first length does not fit")?;
        let (_, behind) = section(rest, bytes.len(), "the second length does not fit")?;
        let trailing = behind.iter().any(|b| *b != 0) || behind.len() >= 8;
        if trailing || bytes.len() > LARGEST {
            let (what, value) = ("bytes behind the second section, or too many", behind.len() as u64);
            return Err(FileError::NotAProgram { what, value, len: bytes.len() as u64 });
        }
        let info = Flat::new(info_bytes, "program info").root()?;
        let found = String::from_utf8_lossy(info.bytes(info::VERSION)?).into_owned();
        if found != SCHEMA {
            return Err(FileError::Version { found: found.chars().take(40).collect() });
        }
        // Track offsets count from the length prefix of the data.
        let data = &rest[..rest.len() - behind.len()];
        let data_root = Flat::new(&data[4..], "program data").root()?;
        let mut tracks = Tracks { data, taken: 0 };
        let mut passes = Vec::new();
        for (pass, table) in info.tables(info::PASSES)?.into_iter().enumerate() {
            passes.push(tracks.pass(pass, table)?);
        }
        let [input, output] = ports(&info)?;
        let (input, output) = (input_port(&info, input)?, output_port(&info, output)?);
        let device = match info.table(info::DEVICE)? {
            Some(device) => version_of([device.u8(0)?, device.u8(1)?, device.u8(2)?, device.u8(3)?]),
            None => return Err(FileError::Field { field: "device version", value: 0 }),
        };
        let shifts: Vec<i32> = info.structs::<1>(info::SHIFTS)?.into_iter().map(|[s]| s as i32).collect();
        let scales: Vec<f32> = info.structs::<1>(info::SCALES)?.into_iter().map(|[s]| f32::from_bits(s)).collect();
        let channels = output.shape[2] as usize;
        for (field, len) in [("number of shifts", shifts.len()), ("number of scales", scales.len())] {
            if len != 0 && len != channels {
                return Err(FileError::Field { field, value: len as u64 });
            }
        }
        let epg = info.structs::<2>(info::EPG)?.into_iter().map(|[offset, value]| EpgWrite { offset, value }).collect();
        let descriptors_per_pass = info.u8(info::DESCRIPTORS)?;
        let most = passes.iter().map(|p: &Pass| p.tracks.len()).max().unwrap_or(0);
        if passes.len() > 1 && usize::from(descriptors_per_pass) < most {
            return Err(FileError::Field { field: "descriptors per pass", value: descriptors_per_pass.into() });
        }
        Ok(Self {
            program: Program { version: device, input, output, passes, epg },
            shifts,
            scales,
            descriptors_per_pass,
            dummy_header: data_root.words(2)?.unwrap_or_default(),
            learning: info.has(info::LEARNING)? || data_root.has(1)?,
        })
    }
}

/// The bytes behind a length prefix, and those behind them.
fn section<'a>(bytes: &'a [u8], len: usize, what: &'static str) -> Result<(&'a [u8], &'a [u8]), FileError> {
    let wrong = |value: u64| FileError::NotAProgram { what, value, len: len as u64 };
    let Some((prefix, rest)) = bytes.split_first_chunk::<4>() else { return Err(wrong(bytes.len() as u64)) };
    let length = u32::from_le_bytes(*prefix);
    rest.split_at_checked(length as usize).ok_or_else(|| wrong(length.into()))
}

/// What field 32, ours, says of a port: bits and whether they are signed.
type Width = Option<(u8, bool)>;

fn ports(info: &Table) -> Result<[Width; 2], FileError> {
    match *info.bytes(info::PORTS)? {
        [] => Ok([None, None]),
        [input, input_sign @ 0..=1, output, output_sign @ 0..=1] => {
            Ok([Some((input, input_sign == 1)), Some((output, output_sign == 1))])
        }
        ref other => Err(FileError::Field { field: "ports", value: other.len() as u64 }),
    }
}

fn dims(info: &Table, id: u16, field: &'static str) -> Result<[u32; 3], FileError> {
    match info.structs::<1>(id)?[..] {
        [[a], [b], [c]] => Ok([a, b, c]),
        ref other => Err(FileError::Field { field, value: other.len() as u64 }),
    }
}

fn input_port(info: &Table, width: Width) -> Result<InputPort, FileError> {
    let shape = dims(info, info::INPUT_DIMS, "number of input dimensions")?;
    let kind = match info.u8(info::INPUT_TYPE)? {
        0 => InputKind::Dense,
        1 => InputKind::CnpEvents,
        2 => InputKind::FnpEvents,
        value => return Err(FileError::Field { field: "input type", value: value.into() }),
    };
    // Dense inputs seen are images of 8 bits; events carry 8 bits too.
    let (bits, signed) = width.unwrap_or((8, false));
    let window = [info.u32(info::WINDOW_HEIGHT)?, info.u32(info::WINDOW_WIDTH)?];
    Ok(InputPort { shape, bits, signed, kind, window })
}

fn output_port(info: &Table, width: Width) -> Result<OutputPort, FileError> {
    let shape = dims(info, info::OUTPUT_DIMS, "number of output dimensions")?;
    let kind = match info.u8(info::OUTPUT_TYPE)? {
        0 => OutputKind::Dense,
        1 => OutputKind::CnpEvents,
        2 => OutputKind::FnpEvents,
        3 => OutputKind::HrcEvents,
        value => return Err(FileError::Field { field: "output type", value: value.into() }),
    };
    // Akida 1.0 has activations of 4 bits at most, and potentials.
    let activation = info.u8(info::ACTIVATION)? != 0;
    let (bits, signed) = width.unwrap_or(if activation { (4, false) } else { (32, true) });
    Ok(OutputPort { shape, bits, signed, kind })
}

/// Takes tracks out of the data. Together they are not longer than the data: tracks that share words would let a small file
/// ask for much memory.
struct Tracks<'a> {
    data: &'a [u8],
    taken: usize,
}

impl Tracks<'_> {
    fn pass(&mut self, pass: usize, table: Table) -> Result<Pass, FileError> {
        let mut made = Pass::default();
        for record in table.tables(0)? {
            for [offset, words] in record.structs::<2>(0)? {
                let track = made.tracks.len();
                let words = self.take(pass, track, offset, words)?;
                if let Some(source) = packets(&words).find_map(Result::err) {
                    return Err(FileError::Packet { pass, track, source });
                }
                made.tracks.push(Track { words });
            }
            if let Some([np, offset, words]) = record.words::<3>(1)? {
                let words = self.take(pass, made.tracks.len(), offset, words)?;
                made.external.push(ExternalWeights { np: np_of(np), words });
            }
        }
        Ok(made)
    }

    fn take(&mut self, pass: usize, track: usize, offset: u32, words: u32) -> Result<Vec<u32>, FileError> {
        let len = self.data.len() as u64;
        let wrong = FileError::Track { pass, track, offset, words, len };
        let (start, bytes) = (u64::from(offset), u64::from(words) * 4);
        self.taken = self.taken.saturating_add(bytes as usize);
        if words == 0 || !offset.is_multiple_of(4) || start + bytes > len || self.taken > self.data.len() {
            return Err(wrong);
        }
        let bytes = &self.data[offset as usize..][..bytes as usize];
        Ok(bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    }
}
