//! Program files between mapper, files and boards: what is refused is refused before anything is written, what is loaded is
//! in the board, and only our own encoding computes.

use std::sync::Arc;
use std::time::Duration;

use akida_hal::device::{Device, DeviceOptions, Verify};
use akida_hal::mesh::Mesh;
use akida_hal::np::registers;
use akida_hal::packet::{Uid, packets};
use akida_hal::program::Program;
use akida_hal::program_file::{Encoding, FileError, ProgramFile};
use akida_hal::{Error, ErrorKind};
use akida_runtime::mapping::{MapOptions, map};
use akida_runtime::model::Target;
use akida_simulator::{Model as BoardModel, SimBoard, SimSpec};
use akida_tests::zoo;

fn program(mesh: &Mesh) -> Program {
    let model = zoo::ds_cnn(Target::of(mesh.version), 12);
    let mapping = map(&model, mesh, &MapOptions { hw_only: true, ..MapOptions::default() }).expect("it fits");
    mapping.hardware().next().expect("hardware only").program.clone()
}

fn open(board: BoardModel) -> Device {
    let board = Arc::new(SimBoard::open(&SimSpec::new(board)).expect("a simulated board opens"));
    let options = DeviceOptions { verify: Verify::Program, ..DeviceOptions::default() };
    Device::open(board, options).expect("the device opens")
}

/// The same program as silicon would have it: without our tag.
fn foreign(mut program: Program) -> Program {
    for word in program.passes.iter_mut().flat_map(|p| &mut p.tracks).flat_map(|t| &mut t.words) {
        if *word == registers::ENCODING {
            *word = 0;
        }
    }
    program
}

#[test]
fn our_programs_go_through_files() {
    for board in [BoardModel::Akd1000, BoardModel::Akd1500] {
        let program = program(&board.mesh());
        let bytes = ProgramFile::new(program.clone()).write().expect("one pass");
        let read = ProgramFile::read(&bytes).expect("our own file").program;
        assert_eq!(read, program);
        assert_eq!(Encoding::of(&read), Encoding::Ours);
        let mut device = open(board);
        device.program(&read).expect("it loads");
        let job = device.enqueue(&vec![9; 490]).expect("a job");
        assert!(job.is_some() && device.fetch(Duration::from_secs(5)).expect("an output").is_some());
    }
}

/// Registers and memories are as the file says; nothing is computed.
#[test]
fn a_program_in_another_encoding_is_held_but_not_computed() {
    let mut device = open(BoardModel::Akd1500);
    let program = foreign(program(&Mesh::akd1500()));
    assert_eq!(Encoding::of(&program), Encoding::Silicon);
    device.program(&program).expect("it loads, and what is read back is equal");
    let mut compared = 0;
    for packet in packets(&program.passes[0].tracks[1].words).map(|p| p.expect("well-formed")) {
        let np = packet.header.target.addresses().next().expect("one NP");
        let read = device.read_np(np, packet.header.uid, packet.header.start, packet.payload.len()).expect("a read");
        let skipped = usize::from(packet.header.uid == Uid::Registers);
        assert_eq!(read[skipped..], packet.payload[skipped..]);
        compared += read.len();
    }
    assert!(compared > 63, "{compared}");
    let error = device.enqueue(&vec![9; 490]).expect_err("nothing to compute with");
    assert!(matches!(error, Error::UnknownEncoding { .. }), "{error}");
    assert!(error.to_string().contains("NP encoding of this program is not public"), "{error}");
}

/// A larger mesh, another chip, damaged files: the board sees no access at all.
#[test]
fn what_does_not_fit_is_refused_before_anything_is_written() {
    let mut device = open(BoardModel::Akd1500);
    let before = device.statistics();
    let larger = Program { version: device.version(), ..program(&Mesh::akd1000()) };
    let error = device.program(&larger).expect_err("NPs that are not there");
    assert!(matches!(error, Error::ProgramTarget { .. }), "{error}");
    let error = device.program(&program(&Mesh::akd1000())).expect_err("another chip");
    assert!(matches!(error, Error::ProgramVersion { .. }), "{error}");
    let mut damaged = program(&Mesh::akd1500());
    damaged.passes[0].tracks[0].words.truncate(20);
    assert_eq!(device.program(&damaged).expect_err("a truncated packet").kind(), ErrorKind::Program);
    let mut bytes = ProgramFile::new(program(&Mesh::akd1500())).write().expect("one pass");
    let at = bytes.windows(5).position(|w| w == b"2.5.0").expect("the version");
    bytes[at] = b'3';
    assert_eq!(ProgramFile::read(&bytes), Err(FileError::Version { found: "3.5.0".into() }));
    let after = device.statistics();
    assert_eq!((before.bytes_in, before.transfers), (after.bytes_in, after.transfers));
}
