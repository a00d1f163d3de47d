//! From a file to the first result.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use akida_converter::import::{ImportOptions, import};
use akida_converter::onnx;
use akida_hal::device::{Device, DeviceOptions};
use akida_runtime::model::Model;
use akida_runtime::session::{Batch, Session, SessionOptions};
use akida_simulator::{Model as BoardModel, SimBoard, SimSpec};

use crate::digits;
use crate::measure::{Effort, Steps, in_turns};
use crate::table;

pub fn measure() {
    table::heading(
        "Opening",
        "mnist_cnn from its `.akm` file to the first integers on `sim:akida2`, everything new each time. At its \
         first inference the simulated board also unpacks its NPs' memories for the kernels. The peer of \
         opening the file is reading and importing the quantized ONNX graph it was made of.",
    );
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("digits.akm");
    digits::model().save(&file).expect("saved");
    let digit = &digits::pixels()[..1];
    let mut steps = Steps::default();
    let mut once = || {
        let model = Arc::new(steps.step("open the .akm file", || Model::open(&file).expect("the file")));
        let board = SimBoard::open(&SimSpec::new(BoardModel::Akida2SixNodes)).expect("a board");
        let board = Arc::new(board);
        let options = DeviceOptions::default();
        let device = steps.step("open the device, scan the mesh", || Device::open(board, options).expect("a device"));
        let open = || Session::open(model, device, SessionOptions::default()).expect("a session");
        let mut session = steps.step("map the model", open);
        let start = Instant::now();
        let outputs = session.infer(Batch::Bytes(digit)).expect("an inference");
        let programming = outputs.statistics.sequences.iter().map(|s| s.programming).sum();
        steps.note("program the board", programming);
        steps.note("first inference", start.elapsed().saturating_sub(programming));
        steps.step("second inference", || black_box(session.infer(Batch::Bytes(digit)).expect("an inference")));
    };
    let mut graph = || {
        let graph = onnx::load(&digits::quantized_file()).expect("the graph");
        black_box(import(&graph, ImportOptions::default()).expect("a model"));
    };
    let effort = Effort { least: std::time::Duration::ZERO, ..Effort::SHORT };
    let times = in_turns(effort, &mut [("whole", &mut once), ("graph", &mut graph)]);
    let steps = steps.summary();
    let mut rows: Vec<_> = steps.iter().map(|(name, time)| vec![(*name).to_owned(), table::time(*time)]).collect();
    rows.push(vec!["all of it".into(), table::time(times[0])]);
    table::table(&["step", "time"], &rows);
    let megabytes = std::fs::metadata(&file).expect("the file").len() as f64 / 1e6;
    println!(
        "\nReading and importing the ONNX graph takes {}, **{:.0}** times as long as opening the file of {megabytes:.1} MB.",
        table::time(times[1]),
        times[1].median / steps[0].1.median,
    );
}
