//! From a program to bytes.

use super::flat::{Field, Node, Writer};
use super::{FileError, ProgramFile, SCHEMA, info};
use crate::mesh::NpAddress;
use crate::program::{InputKind, OutputKind, Pass, Program};

impl ProgramFile {
    /// A file of a program, without a dequantizer.
    pub fn new(program: Program) -> Self {
        let most = program.passes.iter().map(|p| p.tracks.len()).max().unwrap_or(0);
        Self {
            program,
            shifts: Vec::new(),
            scales: Vec::new(),
            descriptors_per_pass: u8::try_from(most + 1).unwrap_or(u8::MAX),
            dummy_header: [0; 2],
            learning: false,
        }
    }

    /// The file's bytes.
    ///
    /// # Errors
    /// A learning layer, whose contents are not known, and more tracks in a pass of several than a byte counts.
    pub fn write(&self) -> Result<Vec<u8>, FileError> {
        let program = &self.program;
        let most = program.passes.iter().map(|p| p.tracks.len()).max().unwrap_or(0);
        for (what, value, limit) in [
            ("learning layers", usize::from(self.learning), 0),
            ("tracks in one of several passes", if program.passes.len() > 1 { most } else { 0 }, 255),
        ] {
            if value > limit {
                return Err(FileError::TooLarge { what, value: value as u64, limit: limit as u64 });
            }
        }
        let data = Node::Table(vec![
            (0, Field::Child(Node::Tables(program.passes.iter().map(pass_data).collect()))),
            (2, Field::Inline(self.dummy_header.to_vec())),
        ]);
        let (data, at) = Writer::default().section(&data);
        let mut at = at.into_iter().map(|offset| offset as u32);
        let passes = program.passes.iter().map(|pass| pass_span(pass, &mut at)).collect();

        let version = program.version;
        let device = [version.vendor, version.product, version.major, version.minor];
        let input = match program.input.kind {
            InputKind::Dense => 0,
            InputKind::CnpEvents => 1,
            InputKind::FnpEvents => 2,
        };
        let output = match program.output.kind {
            OutputKind::Dense => 0,
            OutputKind::CnpEvents => 1,
            OutputKind::FnpEvents => 2,
            OutputKind::HrcEvents => 3,
        };
        let ports =
            vec![program.input.bits, program.input.signed.into(), program.output.bits, program.output.signed.into()];
        let words = |words: Vec<u32>| Field::Child(Node::Structs(1, words));
        let info = Node::Table(vec![
            (info::VERSION, Field::Child(Node::Text(SCHEMA))),
            (
                info::DEVICE,
                Field::Child(Node::Table((0..).zip(device).map(|(id, byte)| (id, Field::U8(byte))).collect())),
            ),
            (info::INPUT_DIMS, words(program.input.shape.to_vec())),
            (info::OUTPUT_DIMS, words(program.output.shape.to_vec())),
            (info::INPUT_TYPE, Field::U8(input)),
            (info::OUTPUT_TYPE, Field::U8(output)),
            (info::ACTIVATION, Field::U8((program.output.bits <= 8).into())),
            (info::WINDOW_WIDTH, Field::U32(program.input.window[1])),
            (info::WINDOW_HEIGHT, Field::U32(program.input.window[0])),
            (info::SHIFTS, words(self.shifts.iter().map(|s| *s as u32).collect())),
            (info::SCALES, words(self.scales.iter().map(|s| s.to_bits()).collect())),
            (info::DESCRIPTORS, Field::U8(self.descriptors_per_pass)),
            (info::EPG, Field::Child(Node::Structs(2, program.epg.iter().flat_map(|w| [w.offset, w.value]).collect()))),
            (info::PASSES, Field::Child(Node::Tables(passes))),
            (info::PORTS, Field::Child(Node::Bytes(ports))),
        ]);
        let (mut file, _) = Writer::default().section(&info);
        file.extend(data);
        Ok(file)
    }
}

fn track(words: &[u32]) -> Node<'_> {
    Node::Table(vec![(0, Field::Child(Node::Words(words)))])
}

/// One record with all tracks, then one for each FNP2.
fn pass_data(pass: &Pass) -> Node<'_> {
    let tracks = pass.tracks.iter().map(|t| track(&t.words)).collect();
    let mut records = vec![Node::Table(vec![(0, Field::Child(Node::Tables(tracks)))])];
    records.extend(pass.external.iter().map(|e| Node::Table(vec![(1, Field::Child(track(&e.words)))])));
    Node::Table(vec![(0, Field::Child(Node::Tables(records)))])
}

fn pass_span(pass: &Pass, at: &mut impl Iterator<Item = u32>) -> Node<'static> {
    let mut next = |words: &[u32]| [at.next().unwrap_or(0), words.len() as u32];
    let spans = pass.tracks.iter().flat_map(|t| next(&t.words)).collect();
    let mut records = vec![Node::Table(vec![(0, Field::Child(Node::Structs(2, spans)))])];
    for external in &pass.external {
        let NpAddress { column, row, id } = external.np;
        let [offset, words] = next(&external.words);
        let np = u32::from_le_bytes([column, row, id, 0]);
        records.push(Node::Table(vec![(1, Field::Inline(vec![np, offset, words]))]));
    }
    Node::Table(vec![(0, Field::Child(Node::Tables(records)))])
}
