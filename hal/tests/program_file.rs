//! Program files: what is written is read back, what another writer of FlatBuffers wrote is read, and damaged files are
//! errors, never more.

use akida_hal::mesh::{NpAddress, Version};
use akida_hal::packet::{PacketHeader, Uid};
use akida_hal::program::{
    EpgWrite, ExternalWeights, InputKind, InputPort, OutputKind, OutputPort, Pass, Program, Track,
};
use akida_hal::program_file::{Encoding, FileError, ProgramFile};
use flatbuffers::{FlatBufferBuilder, WIPOffset};
use proptest::prelude::*;

const NP: NpAddress = NpAddress { column: 1, row: 3, id: 0 };

fn track(np: NpAddress, uid: Uid, words: &[u32]) -> Track {
    let mut track = Track::default();
    PacketHeader { target: np.into(), uid, start: 0, len: words.len() as u32 }
        .push(words, &mut track.words)
        .expect("a short packet");
    track
}

fn program(passes: usize) -> Program {
    let pass = |n: usize| Pass {
        tracks: vec![
            track(NP, Uid::Registers, &[n as u32; 50]),
            track(NpAddress { id: 1, ..NP }, Uid::CnpFilter, &[7; 100]),
        ],
        external: vec![ExternalWeights { np: NpAddress { column: 1, row: 2, id: 0 }, words: vec![n as u32; 9] }],
    };
    Program {
        version: Version::AKD1500,
        input: InputPort { shape: [49, 10, 1], bits: 8, signed: false, kind: InputKind::Dense, window: [49, 10] },
        output: OutputPort { shape: [1, 1, 12], bits: 32, signed: true, kind: OutputKind::Dense },
        passes: (0..passes).map(pass).collect(),
        epg: vec![EpgWrite { offset: 0x14, value: 0x100 }, EpgWrite { offset: 0x18, value: 0x01FE_0001 }],
    }
}

#[test]
fn a_file_gives_its_program_back() {
    for passes in 1..5 {
        for (kind, out, bits, signed) in [
            (InputKind::Dense, OutputKind::Dense, 32, true),
            (InputKind::CnpEvents, OutputKind::CnpEvents, 2, false),
            (InputKind::FnpEvents, OutputKind::FnpEvents, 8, true),
            (InputKind::Dense, OutputKind::HrcEvents, 4, false),
        ] {
            let mut program = program(passes);
            (program.input.kind, program.input.bits) = (kind, if kind == InputKind::Dense { 8 } else { 4 });
            (program.output.kind, program.output.bits, program.output.signed) = (out, bits, signed);
            let mut file = ProgramFile::new(program);
            file.shifts = (0..12).collect();
            file.scales = vec![0.25; 12];
            assert_eq!(file.descriptors_per_pass, 3);
            let bytes = file.write().expect("small");
            assert_eq!(ProgramFile::read(&bytes).as_ref(), Ok(&file));
            assert_eq!(bytes, file.write().expect("small"), "other bytes the second time");
        }
    }
}

/// A file as hardware.md 13.1 describes those seen: one pass, a record a layer, enumerations absent, written with the usual
/// library. `schema` and `device` may be wrong.
fn vendor(schema: &str, device: [u8; 4], learning: bool) -> Vec<u8> {
    let tracks = program(1).passes.remove(0).tracks;
    // The data: only where words lie matters to a reader that follows the info.
    let mut data = FlatBufferBuilder::new();
    let mut parts = Vec::new();
    for t in &tracks {
        let words = data.create_vector(&t.words);
        let start = data.start_table();
        data.push_slot_always(4, words);
        parts.push(data.end_table(start));
    }
    let list = data.create_vector(&parts);
    let start = data.start_table();
    data.push_slot_always(4, list);
    let record = data.end_table(start);
    let records = data.create_vector(&[record]);
    let start = data.start_table();
    data.push_slot_always(4, records);
    let pass = data.end_table(start);
    let passes = data.create_vector(&[pass]);
    let start = data.start_table();
    data.push_slot_always(4, passes);
    let root = data.end_table(start);
    data.finish_size_prefixed(root, None);
    let data = data.finished_data();
    let find = |words: &[u32]| {
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        data.windows(bytes.len()).position(|w| w == bytes).expect("the words are there") as u64
    };

    let mut info = FlatBufferBuilder::new();
    let mut records = Vec::new();
    for t in &tracks {
        // A struct of two words has the bytes of one word of 64 bits.
        let span = info.create_vector(&[find(&t.words) | (t.words.len() as u64) << 32]);
        let start = info.start_table();
        info.push_slot_always(4, span);
        records.push(info.end_table(start));
    }
    let records = info.create_vector(&records);
    let start = info.start_table();
    info.push_slot_always(4, records);
    let pass = info.end_table(start);
    let passes = info.create_vector(&[pass]);
    let epg = info.create_vector(&[0x14u64 | 0x100 << 32]);
    let version: WIPOffset<&str> = info.create_string(schema);
    let start = info.start_table();
    for (id, byte) in (0u16..).zip(device) {
        info.push_slot_always(4 + 2 * id, byte);
    }
    let device = info.end_table(start);
    let [inputs, outputs] = [[49u32, 10, 1], [1, 1, 12]].map(|dims| info.create_vector(&dims));
    let shifts = info.create_vector(&[1i32; 12]);
    let scales = info.create_vector(&[2f32; 12]);
    let slot = |id: u16| 4 + 2 * id;
    let empty = info.start_table();
    let empty = info.end_table(empty);
    let start = info.start_table();
    info.push_slot_always(slot(0), version);
    info.push_slot_always(slot(1), device);
    info.push_slot_always(slot(2), inputs);
    info.push_slot_always(slot(3), outputs);
    info.push_slot_always(slot(7), 10u32);
    info.push_slot_always(slot(8), 49u32);
    info.push_slot_always(slot(9), shifts);
    info.push_slot_always(slot(10), scales);
    info.push_slot_always(slot(11), 3u8);
    info.push_slot_always(slot(12), epg);
    info.push_slot_always(slot(13), passes);
    if learning {
        info.push_slot_always(slot(14), empty);
    }
    let root = info.end_table(start);
    info.finish_size_prefixed(root, None);
    let mut file = info.finished_data().to_vec();
    file.extend(data);
    file
}

#[test]
fn a_file_of_another_writer_is_read() {
    let file = ProgramFile::read(&vendor("2.5.0", [0xBC, 0xA1, 3, 9], false)).expect("a good file");
    let expected = program(1);
    assert_eq!(file.program.passes[0].tracks, expected.passes[0].tracks);
    assert_eq!(file.program.input, expected.input);
    assert_eq!(file.program.output, expected.output);
    assert_eq!(file.program.version, Version::AKD1500);
    assert_eq!(file.program.epg, expected.epg[..1]);
    assert_eq!((file.shifts.len(), file.scales[11], file.descriptors_per_pass), (12, 2.0, 3));
    assert!(!file.learning);
    assert_eq!(Encoding::of(&file.program), Encoding::Silicon);
    assert!(ProgramFile::read(&vendor("2.5.0", [0xBC, 0xA1, 3, 9], true)).expect("a good file").learning);
}

#[test]
fn another_version_is_refused_by_name() {
    let error = ProgramFile::read(&vendor("2.6.0", [0xBC, 0xA1, 3, 9], false)).expect_err("another schema");
    assert_eq!(error, FileError::Version { found: "2.6.0".into() });
}

#[test]
fn what_is_cut_off_anywhere_is_refused() {
    let bytes = vendor("2.5.0", [0xBC, 0xA1, 3, 9], false);
    for len in 0..bytes.len() {
        assert!(ProgramFile::read(&bytes[..len]).is_err(), "{len} bytes of {}", bytes.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// Any damage: an error, or a program that is still well-formed; never a panic.
    #[test]
    fn damage_is_an_error_or_harmless(
        ours in any::<bool>(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        cut in any::<Option<prop::sample::Index>>(),
    ) {
        let mut bytes = match ours {
            true => ProgramFile::new(program(3)).write().expect("small"),
            false => vendor("2.5.0", [0xBC, 0xA1, 3, 9], false),
        };
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(file) = ProgramFile::read(&bytes) {
            prop_assert!(file.program.size() <= bytes.len());
        }
    }

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = ProgramFile::read(&bytes);
    }
}
