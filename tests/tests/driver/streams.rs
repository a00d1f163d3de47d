//! Streams of frames through temporal layers: two that take turns on one board give what each gives alone, and a reset
//! begins anew.

use std::sync::Arc;

use akida_converter::import::{ImportOptions, import};
use akida_converter::onnx;
use akida_hal::device::{Device, DeviceOptions};
use akida_runtime::mapping::{MapOptions, Sequences};
use akida_runtime::model::Model;
use akida_runtime::session::{Batch, Session, SessionOptions};
use akida_simulator::{Model as BoardModel, SimBoard, SimSpec};
use akida_tests::conformance::Case;
use akida_tests::generate::Random;
use ndarray::Axis;

fn model() -> Arc<Model> {
    let case = Case::find("temporal_conv").expect("a case of the repository");
    let graph = onnx::load(&case.path("quantized.onnx")).expect("a graph");
    Arc::new(import(&graph, ImportOptions::default()).expect("a model").model)
}

fn session(model: &Arc<Model>, board: BoardModel, sequences: Sequences) -> Session {
    let board = Arc::new(SimBoard::open(&SimSpec::new(board)).expect("a board"));
    let device = Device::open(board, DeviceOptions::default()).expect("a device");
    let map = MapOptions { sequences, ..MapOptions::default() };
    Session::open(model.clone(), device, SessionOptions { map, ..SessionOptions::default() }).expect("a session")
}

fn frames(model: &Model, seed: u64, count: usize) -> Vec<Vec<u8>> {
    let mut random = Random::new(seed);
    (0..count).map(|_| random.sample(&model.input.tensor)).collect()
}

fn rows(outputs: &akida_runtime::session::Outputs) -> Vec<Vec<i32>> {
    outputs.raw[0].axis_iter(Axis(0)).map(|frame| frame.iter().copied().collect()).collect()
}

#[test]
fn two_streams_in_turns_are_two_separate_runs() {
    let model = model();
    assert_eq!(model.memory(), 4, "two FIFOs of 3 frames in a row");
    for board in [BoardModel::Akida2SixNodes, BoardModel::Akida2TwoNodes] {
        let mut session = session(&model, board, Sequences::Auto);
        let (a, b) = (frames(&model, 1, 12), frames(&model, 2, 12));
        let mut alone = |frames: &[Vec<u8>]| {
            session.reset();
            rows(&session.infer(Batch::Bytes(frames)).expect("results"))
        };
        let expected = [alone(&a), alone(&b)];
        assert_ne!(alone(&a[5..])[0], expected[0][5], "frames before matter");

        // Turns of different lengths, shorter and longer than the network's memory.
        let (mut first, mut second) = (session.stream(), session.stream());
        let mut found: [Vec<Vec<i32>>; 2] = [Vec::new(), Vec::new()];
        let turns = [1, 2, 1, 5, 3];
        let mut at = 0;
        for turn in turns {
            for (n, (stream, frames)) in [(&mut first, &a), (&mut second, &b)].into_iter().enumerate() {
                let outputs = session.infer_stream(stream, Batch::Bytes(&frames[at..at + turn])).expect("results");
                found[n].extend(rows(&outputs));
            }
            at += turn;
        }
        assert_eq!(at, 12);
        assert_eq!(found, expected, "{board:?}");
        assert_eq!(first.remembered(), 4);

        // A stream that begins anew, while the other one goes on.
        first.reset();
        let again = session.infer_stream(&mut first, Batch::Bytes(&a[..3])).expect("results");
        assert_eq!(rows(&again), expected[0][..3]);
        // Inferring without a stream in between disturbs none.
        session.infer(Batch::Bytes(&b[..2])).expect("results");
        let on = session.infer_stream(&mut first, Batch::Bytes(&a[3..7])).expect("results");
        assert_eq!(rows(&on), expected[0][3..7]);
    }
}
