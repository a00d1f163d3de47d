//! Traces of the same run on boards of different kinds are equal, access by access; of different runs they are not.

use std::io::{self, Write};
use std::sync::Arc;

use akida_hal::board::Chip;
use akida_hal::device::{Completion, Device, DeviceOptions};
use akida_hal::trace::{Comparison, TracedBoard, compare};
use akida_hal::vfio_user::{Dma as ClientDma, RemoteBoard};
use akida_hal::{Board, selftest};
use akida_runtime::model::Target;
use akida_runtime::session::{Batch, Session, SessionOptions};
use akida_simulator::serve::{Dma, Server};
use akida_simulator::{Model, SimBoard, SimSpec};
use akida_tests::generate::{self, Random};

use crate::text::Text;

/// What `run` makes of a board.
fn traced(board: Arc<dyn Board>, run: impl FnOnce(Arc<dyn Board>)) -> Vec<u8> {
    let text = Text::default();
    let traced = Arc::new(TracedBoard::new(board, Box::new(text.clone())).expect("configuration space can be read"));
    run(traced.clone());
    traced.finish().expect("memory takes everything");
    drop(traced);
    std::mem::take(&mut *text.0.lock().expect("no panic"))
}

fn target(chip: Chip) -> Target {
    match chip {
        Chip::Akd1000 => Target::Akd1000,
        Chip::Akd1500 => Target::Akd1500,
        _ => Target::Akida2,
    }
}

/// The self-test, then a network one job at a time: with more in flight, order is a matter of speed.
fn everything(board: Arc<dyn Board>, completion: Completion, seed: u64) {
    for outcome in selftest::run(board.clone()) {
        assert!(matches!(outcome.verdict, selftest::Verdict::Passed(_)), "{outcome:?}");
    }
    let model = Arc::new(generate::model(target(board.identity().chip), seed));
    let mut random = Random::new(seed);
    let samples: Vec<Vec<u8>> = (0..4).map(|_| random.sample(&model.input.tensor)).collect();
    let device = Device::open(board, DeviceOptions { completion, ..DeviceOptions::default() }).expect("opens");
    let options = SessionOptions { jobs: 1, ..SessionOptions::default() };
    let mut session = Session::open(model, device, options).expect("maps");
    session.infer(Batch::Bytes(&samples)).expect("runs");
}

fn simulated(model: Model) -> Arc<SimBoard> {
    Arc::new(SimBoard::open(&SimSpec::new(model)).expect("opens"))
}

#[test]
fn the_same_run_on_every_kind_of_board_is_the_same_trace() {
    // At once: a board in another process takes its second for translation to settle.
    std::thread::scope(|scope| {
        for model in Model::ALL {
            for completion in [Completion::Poll, Completion::Interrupt] {
                scope.spawn(move || same_here_and_there(model, completion));
            }
        }
    });
}

fn same_here_and_there(model: Model, completion: Completion) {
    let here = traced(simulated(model), |board| everything(board, completion, 3));
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("board");
    let server = Server::bind(&path, &SimSpec::new(model), Dma::Files).expect("listens");
    let stopper = server.stopper();
    let there = std::thread::scope(|scope| {
        scope.spawn(|| server.run());
        let board = Arc::new(RemoteBoard::connect(&path, ClientDma::Files).expect("connects"));
        let there = traced(board, |board| everything(board, completion, 3));
        stopper.stop();
        there
    });
    match compare(&here[..], &there[..]).expect("both are traces") {
        Comparison::Equal(accesses) => assert!(accesses > 5000, "{model}: {accesses} accesses only"),
        Comparison::Different(d) => panic!("{model}, {completion:?}: {d:#?}"),
    }
}

#[test]
fn a_trace_says_what_was_submitted_and_frees_what_was_mapped() {
    let board = simulated(Model::Akd1500);
    let text = traced(board.clone(), |board| everything(board, Completion::Poll, 3));
    let text = String::from_utf8(text).expect("text");
    let lines = |what: &str| text.lines().filter(|l| l.split(' ').nth(1) == Some(what)).count();
    let sum = |field: usize| -> u64 {
        let submitted = text.lines().filter(|l| l.split(' ').nth(1) == Some("dma"));
        submitted.map(|l| l.split(' ').nth(field).and_then(|n| n.parse::<u64>().ok()).expect("a number")).sum()
    };
    assert!(text.starts_with("# akida-trace/1 akd1500 sim:akd1500 (simulated)\n"), "{}", &text[..80]);
    assert_eq!(lines("alloc"), lines("free"));
    assert_eq!(board.inspect().mappings, []);
    let moved = board.inspect().counters;
    assert_eq!((sum(3), sum(4)), (moved.transfers, moved.transferred_bytes), "all that the board moved was submitted");
    assert!(text.contains(" =host#"), "host addresses have names");
}

#[test]
fn other_runs_are_other_traces() {
    let model = Model::Akd1000;
    let run = |seed| traced(simulated(model), |board| everything(board, Completion::Poll, seed));
    let (a, b) = (run(3), run(4));
    let Ok(Comparison::Different(d)) = compare(&a[..], &b[..]) else { panic!("two networks, one trace") };
    assert!(d.equal > 1000 && d.first.is_some(), "the self-test before is the same: {d:?}");
    let Ok(Comparison::Equal(_)) = compare(&a[..], &run(3)[..]) else { panic!("one network, two traces") };
}

/// A sink that is full ends the trace, not the run.
#[test]
fn a_full_disk_is_reported_at_the_end() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let board = Arc::new(TracedBoard::new(simulated(Model::Akd1000), Box::new(Full)).expect("opens"));
    everything(board.clone(), Completion::Poll, 3);
    assert_eq!(board.finish().map_err(|e| e.kind()), Err(io::ErrorKind::StorageFull));
}
