//! What does not belong on a board is refused before the board sees a single access: shown by its access trace.

use std::sync::Arc;

use akida_hal::device::{Device, DeviceOptions};
use akida_hal::mesh::{Mesh, NpAddress, Version};
use akida_hal::program::{ExternalWeights, Program};
use akida_hal::program_file::{FileError, ProgramFile};
use akida_hal::trace::TracedBoard;
use akida_hal::{Error, ErrorKind};
use akida_runtime::mapping::{MapError, MapOptions, Mode, map};
use akida_runtime::model::{Model, Target};
use akida_runtime::session::{Session, SessionError, SessionOptions};
use akida_simulator::{Model as BoardModel, SimBoard, SimSpec};
use akida_tests::zoo;

use crate::text::Text;

/// An opened device, and what its board has seen.
struct Watched {
    board: Arc<TracedBoard>,
    text: Text,
}

impl Watched {
    fn open(model: BoardModel) -> (Device, Watched) {
        let text = Text::default();
        let board = Arc::new(SimBoard::open(&SimSpec::new(model)).expect("a simulated board opens"));
        let board = Arc::new(TracedBoard::new(board, Box::new(text.clone())).expect("it has a configuration space"));
        let device = Device::open(board.clone(), DeviceOptions::default()).expect("the device opens");
        (device, Watched { board, text })
    }

    /// Lines of accesses so far.
    fn lines(&self) -> usize {
        self.board.finish().expect("memory takes everything");
        self.text.0.lock().expect("no panic").iter().filter(|b| **b == b'\n').count()
    }

    /// Runs something that must fail and must not reach the board.
    fn refused<T>(&self, what: &str, run: impl FnOnce() -> Result<T, String>) -> String {
        let before = self.lines();
        let error = run().err().unwrap_or_else(|| panic!("{what}: it was not refused"));
        assert_eq!(self.lines(), before, "{what}: the board was accessed; refused with {error}");
        error
    }
}

fn program(mesh: &Mesh, mode: Mode) -> Program {
    let model = zoo::ds_cnn(Target::of(mesh.version), 12);
    let options = MapOptions { hw_only: true, mode, ..MapOptions::default() };
    let mapping = map(&model, mesh, &options).expect("it fits");
    mapping.hardware().next().expect("hardware only").program.clone()
}

/// The first packet of weights goes to the last address there could be.
fn beyond_memory(program: &mut Program) {
    use akida_hal::packet::{Uid, packets};
    let words = &mut program.passes[0].tracks[1].words;
    let found = packets(words).flatten().find(|p| p.header.uid == Uid::CnpFilter).map(|p| p.offset);
    words[found.expect("a packet of weights") + 1] |= 0xFFFF;
}

/// What is wrong, the program, and whether an error is the one that refuses it.
type Case = (&'static str, Program, fn(&Error) -> bool);

/// Changes to a program that runs.
fn damaged(good: &Program) -> Vec<Case> {
    let change = |edit: &dyn Fn(&mut Program)| {
        let mut program = good.clone();
        edit(&mut program);
        program
    };
    let tracks = |edit: fn(&mut Vec<u32>)| change(&|p| edit(&mut p.passes[0].tracks[0].words));
    let program_error = |e: &Error| e.kind() == ErrorKind::Program;
    vec![
        ("a truncated track", tracks(|w| w.truncate(w.len() - 1)), program_error),
        ("a header cut in half", tracks(|w| w.truncate(1)), program_error),
        ("a length beyond the track", tracks(|w| w[1] |= 0x1FFF_0000), program_error),
        ("registers that no NP has", change(&|p| p.passes[0].tracks[1].words[1] |= 0x20), program_error),
        ("an SRAM address beyond the memory", change(&beyond_memory), program_error),
        ("an empty track", tracks(Vec::clear), program_error),
        ("a track of 65536 words", tracks(|w| w.resize(65536, 0)), program_error),
        ("reserved bits of a header", tracks(|w| w[0] = u32::MAX), program_error),
        ("no passes", change(&|p| p.passes.clear()), program_error),
        ("no rows", change(&|p| p.input.shape[0] = 0), program_error),
        ("inputs of 3 bits", change(&|p| p.input.bits = 3), program_error),
        ("outputs of 33 bits", change(&|p| p.output.bits = 33), program_error),
        ("more outputs than memory", change(&|p| p.output.shape = [4096, 4096, 4096]), program_error),
        ("an event generator register that is none", change(&|p| p.epg[0].offset = 0x1000), program_error),
        ("an odd event generator register", change(&|p| p.epg[0].offset += 1), program_error),
        (
            "external weights of an NP that is no FNP2",
            change(&|p| {
                let np = NpAddress { column: 2, row: 3, id: 1 };
                p.passes[0].external.push(ExternalWeights { np, words: vec![1; 4] });
            }),
            |e| matches!(e, Error::ProgramTarget { .. }),
        ),
        (
            "more passes than the config ring has slots",
            change(&|p| p.passes = vec![p.passes[0].clone(); 300]),
            program_error,
        ),
        (
            "another hardware version",
            change(&|p| p.version = Version { minor: p.version.minor + 1, ..p.version }),
            |e| matches!(e, Error::ProgramVersion { .. }),
        ),
    ]
}

#[test]
fn programs_that_do_not_fit_never_reach_the_board() {
    for (board, other) in [(BoardModel::Akd1000, BoardModel::Akd1500), (BoardModel::Akd1500, BoardModel::Akd1000)] {
        let (mut device, watched) = Watched::open(board);
        let good = program(&board.mesh(), Mode::Minimal);
        let mut cases = damaged(&good);
        cases.push(("a program of the other chip", program(&other.mesh(), Mode::Minimal), |e| {
            matches!(e, Error::ProgramVersion { .. })
        }));
        if board == BoardModel::Akd1500 {
            // Nothing but its NPs tells that it is for the larger mesh.
            let larger = Program { version: device.version(), ..program(&other.mesh(), Mode::AllNps) };
            cases.push(("a program for a larger mesh", larger, |e| matches!(e, Error::ProgramTarget { .. })));
        }
        for (what, program, expected) in &cases {
            let text = watched.refused(what, || match device.program(program) {
                Ok(()) => Ok(()),
                Err(error) => {
                    assert!(expected(&error), "{what}: {error}");
                    Err(error.to_string())
                }
            });
            assert!(!text.is_empty());
        }
        // A program that is loaded stays loaded, and is what runs.
        device.program(&good).expect("the good one");
        watched.refused("the first case again", || device.program(&cases[0].1).map_err(|e| e.to_string()));
        assert!(device.enqueue(&vec![9; 490]).expect("the good one runs").is_some());
        println!("{board}: {} programs refused without an access", cases.len() + 1);
    }
}

/// Every byte of a file inverted, every length of it: what reading or checking refuses never reaches the board.
#[test]
fn damaged_program_files_never_reach_the_board() {
    let (device, watched) = Watched::open(BoardModel::Akd1500);
    let whole = ProgramFile::new(program(&Mesh::akd1500(), Mode::Minimal)).write().expect("one pass");
    let read = |bytes: &[u8]| -> Result<(), String> {
        let file = ProgramFile::read(bytes).map_err(|e| e.to_string())?;
        device.check(&file.program).map_err(|e| e.to_string())
    };
    assert_eq!(read(&whole), Ok(()));
    let before = watched.lines();
    let (mut refused, mut same) = (0, 0);
    // Beyond the info and the first packets it is all payload, where every value may be meant.
    let edges: Vec<usize> = (0..whole.len()).filter(|i| *i < 600 || i % 97 == 0).collect();
    for &at in &edges {
        let mut bytes = whole.clone();
        bytes[at] ^= 0xFF;
        match read(&bytes) {
            Err(error) => refused += usize::from(!error.is_empty()),
            Ok(()) => same += 1,
        }
        assert!(read(&whole[..at]).is_err(), "the first {at} bytes of {} are no program", whole.len());
    }
    let mut bytes = whole.clone();
    let at = bytes.windows(5).position(|w| w == b"2.5.0").expect("the version");
    bytes[at] = b'3';
    assert_eq!(ProgramFile::read(&bytes).err(), Some(FileError::Version { found: "3.5.0".into() }));
    assert_eq!(watched.lines(), before, "reading and checking files accessed the board");
    println!("{} files cut short, {refused} damaged ones refused, {same} with other values in them", edges.len());
    assert!(refused > 100, "{refused}");
}

#[test]
fn models_for_another_target_or_a_smaller_network_never_reach_the_board() {
    let cases: [(BoardModel, Model, MapOptions); 5] = [
        (BoardModel::Akd1000, zoo::lenet(Target::Akd1500), MapOptions::default()),
        (BoardModel::Akd1500, zoo::lenet(Target::Akd1000), MapOptions::default()),
        (BoardModel::Akida2SixNodes, zoo::lenet(Target::Akd1000), MapOptions::default()),
        (BoardModel::Akd1000, akida_tests::generate::model(Target::Akida2, 4), MapOptions::default()),
        // On this target, but a part of it is beyond a limit.
        (BoardModel::Akd1000, too_wide(), MapOptions { hw_only: true, ..MapOptions::default() }),
    ];
    for (board, model, map) in cases {
        let (device, watched) = Watched::open(board);
        let what = format!("{} on {board}", model.name);
        let before = watched.lines();
        let options = SessionOptions { map, ..SessionOptions::default() };
        // The session has the device, so that dropping it may reset the board: nothing was loaded, so it does not.
        let error = Session::open(Arc::new(model), device, options).err().unwrap_or_else(|| panic!("{what}: accepted"));
        match error {
            SessionError::Map { source, .. } => {
                assert!(
                    matches!(*source, MapError::Target { .. } | MapError::NotOnHardware { .. }),
                    "{what}: {source}"
                );
            }
            error => panic!("{what}: {error}"),
        }
        let writes = {
            watched.lines();
            let text = String::from_utf8(watched.text.0.lock().expect("no panic").clone()).expect("text");
            let after = text.lines().skip(before);
            // Letting the device go stops the DMA engine, which reads and writes its registers; nothing of the core.
            after.filter(|l| l.contains(" dma ") || l.contains(" reset")).map(String::from).collect::<Vec<_>>()
        };
        assert!(writes.is_empty(), "{what}: {writes:?}");
    }
}

/// A first layer of 513 filters.
fn too_wide() -> Model {
    use akida_runtime::model::{Conv, ConvKind, Input, LayerKind, Tensor, Weights};
    let mut model = Model::new("wide", Target::Akd1000, Input::integers(Tensor::new("x", [8, 8, 1], 8, false)));
    let conv = Conv { pads: [1; 4], ..Conv::new(ConvKind::Input, Weights::new(8, [513, 3, 3, 1], &[1; 513 * 9])) };
    let last = model.push("conv", LayerKind::Conv(Box::new(conv)), &[0], 32).expect("a model of its own rules");
    model.output("y", last, None);
    model
}
