//! Models on simulated boards, through the driver: every integer is that of the reference.

use std::sync::Arc;

use akida_converter::import::{ImportOptions, import};
use akida_converter::onnx;
use akida_hal::device::{Device, DeviceOptions};
use akida_runtime::mapping::{MapOptions, Mode, Sequences};
use akida_runtime::model::{Model, Target};
use akida_runtime::reference::{Reference, Rules};
use akida_runtime::session::{Batch, ComputedBy, Detail, Outputs, Session, SessionOptions};
use akida_simulator::{Model as BoardModel, SimBoard, SimSpec};
use akida_tests::conformance::{Case, root};
use akida_tests::generate::{self, Random};

fn boards(target: Target) -> &'static [BoardModel] {
    match target {
        Target::Akd1000 => &[BoardModel::Akd1000],
        Target::Akd1500 => &[BoardModel::Akd1500],
        Target::Akida2 => &[BoardModel::Akida2TwoNodes, BoardModel::Akida2SixNodes],
    }
}

fn open(board: BoardModel, model: &Arc<Model>, map: MapOptions) -> Session {
    let board = Arc::new(SimBoard::open(&SimSpec::new(board)).expect("a simulated board opens"));
    let device = Device::open(board, DeviceOptions::default()).expect("the device opens");
    let options = SessionOptions { map, ..SessionOptions::default() };
    Session::open(model.clone(), device, options).unwrap_or_else(|e| panic!("{e}: {:?}", std::error::Error::source(&e)))
}

fn samples(model: &Model, seed: u64, count: usize) -> Vec<Vec<u8>> {
    let mut random = Random::new(seed);
    (0..count).map(|_| random.sample(&model.input.tensor)).collect()
}

/// All integers of the reference: by sample, by tensor.
fn expected(model: &Model, samples: &[Vec<u8>]) -> Vec<Vec<Vec<i32>>> {
    let mut reference = Reference::new(model, Rules::Chip);
    samples.iter().map(|s| reference.run(s).expect("a sample of the model")).collect()
}

fn same(model: &Model, expected: &[Vec<Vec<i32>>], outputs: &Outputs, what: &str) {
    let check = |tensor: usize, values: &ndarray::ArrayD<i32>, what: &str| {
        let t = model.tensor(tensor);
        assert_eq!(values.shape()[0], expected.len(), "{what}");
        for (sample, found) in values.outer_iter().enumerate() {
            let found: Vec<i32> = found.iter().copied().collect();
            let wanted = t.layout.to_onnx(&expected[sample][tensor], t.shape);
            let first = wanted.iter().zip(&found).position(|(a, b)| a != b);
            assert!(
                first.is_none() && wanted.len() == found.len(),
                "{what}: tensor {tensor} ({}) sample {sample}: element {first:?} is {:?} instead of {:?}",
                t.name,
                first.map(|i| found[i]),
                first.map(|i| wanted[i]),
            );
        }
    };
    for i in &outputs.intermediates {
        check(i.tensor, &i.values, what);
    }
    for (output, raw) in model.outputs.iter().zip(&outputs.raw) {
        check(output.tensor, raw, what);
    }
}

/// `0..usual`, or what AKIDA_SEEDS=FIRST..END asks for: long runs, or one seed again.
fn seeds(usual: u64) -> std::ops::Range<u64> {
    let asked = std::env::var("AKIDA_SEEDS").ok();
    let range = asked.as_deref().and_then(|s| s.split_once("..")).map(|(a, b)| (a.parse(), b.parse()));
    match range {
        Some((Ok(first), Ok(end))) => first..end,
        _ => 0..usual,
    }
}

#[test]
fn random_models_give_the_integers_of_the_reference() {
    let mut board_tensors = 0;
    for target in [Target::Akida2, Target::Akd1000, Target::Akd1500] {
        for seed in seeds(40) {
            let model = Arc::new(generate::model(target, seed));
            let inputs = samples(&model, seed, 3);
            let expected = expected(&model, &inputs);
            for &board in boards(target) {
                for (mode, sequences) in [(Mode::Minimal, Sequences::Auto), (Mode::AllNps, Sequences::All)] {
                    let what = format!("{target} seed {seed} on {board} {mode:?}");
                    println!("{what}");
                    let mut session = open(board, &model, MapOptions { mode, sequences, ..MapOptions::default() });
                    let detail = if mode == Mode::Minimal { Detail::AllTensors } else { Detail::Outputs };
                    let outputs = session
                        .infer_with(Batch::Bytes(&inputs), detail)
                        .unwrap_or_else(|e| panic!("{what}: {e} ({:?})", std::error::Error::source(&e)));
                    same(&model, &expected, &outputs, &what);
                    board_tensors += outputs.intermediates.iter().filter(|i| i.by == ComputedBy::Board).count();
                }
            }
        }
    }
    assert!(board_tensors > 0);
}

fn imported(case: &Case) -> Arc<Model> {
    let graph = onnx::load(&case.path("quantized.onnx")).unwrap_or_else(|e| panic!("{e}"));
    let options = ImportOptions { allow_float_tail: true, ..ImportOptions::default() };
    Arc::new(import(&graph, options).unwrap_or_else(|e| panic!("{}: {e}", case.name)).model)
}

/// Every imported network of the conformance data on both boards of its generation; what is not on the board says why.
#[test]
fn conformance_networks_give_the_integers_of_the_reference() {
    let mut names: Vec<_> = std::fs::read_dir(root()).expect("conformance data").flatten().collect();
    names.sort_by_key(std::fs::DirEntry::file_name);
    let (mut networks, mut layers, mut on_board) = (0, 0, 0);
    for name in names {
        let name = name.file_name().to_string_lossy().into_owned();
        let Some(case) = Case::find(&name).filter(|c| c.path("quantized.onnx").exists()) else { continue };
        let model = imported(&case);
        let inputs = samples(&model, 7, 2);
        let expected = expected(&model, &inputs);
        for board in [BoardModel::Akida2SixNodes, BoardModel::Akida2TwoNodes] {
            let map = MapOptions { sequences: Sequences::All, mode: Mode::Minimal, ..MapOptions::default() };
            let mut session = open(board, &model, map);
            let started = std::time::Instant::now();
            let outputs = session
                .infer(Batch::Bytes(&inputs))
                .unwrap_or_else(|e| panic!("{name} on {board}: {e} ({:?})", std::error::Error::source(&e)));
            same(&model, &expected, &outputs, &name);
            let mapped: usize = session.mapping().hardware().map(|h| h.layers.len()).sum();
            println!(
                "{name} on {board}: {mapped} of {} layers on the board in {} sequences, {:?}",
                model.layers.len(),
                session.mapping().hardware().count(),
                started.elapsed()
            );
            for (step, reason) in session.mapping().host_steps() {
                println!("    {}: {reason}", model.layers[step.layer()].name);
            }
            layers += model.layers.len();
            on_board += mapped;
        }
        networks += 1;
    }
    println!("{networks} networks, {on_board} of {layers} layers on boards");
    assert!(networks > 25, "{networks}");
}

/// The tutorial network on all its digits: every stored integer and every float, from floats and from raw pixels.
#[test]
fn mnist_cnn_gives_the_stored_vectors() {
    let case = Case::find("mnist_cnn").expect("mnist_cnn is part of the repository");
    let model = imported(&case);
    let mut session = open(BoardModel::Akida2SixNodes, &model, MapOptions::default());
    session.self_test(4).expect("a simulated board gives known answers");
    let inputs = case.inputs();
    let outputs = session.infer(Batch::Float(inputs.view())).expect("runs");
    let mut stored = case.npz("quantized_outputs.npz").expect("outputs");
    assert_eq!(outputs.raw[0].mapv(i64::from), stored.integers("raw0"));
    assert_eq!(outputs.floats[0], stored.floats("out0"));
    println!("{:?}", outputs.statistics);

    let mut stored = case.npz("intermediates.npz").expect("intermediates");
    let vectors: Vec<_> = (1..=3).map(|j| stored.integers(&format!("t{j}"))).collect();
    let some = inputs.slice_axis(ndarray::Axis(0), (0..vectors[0].shape()[0]).into());
    let detailed = session.infer_with(Batch::Float(some), Detail::AllTensors).expect("runs");
    let by = [ComputedBy::Board, ComputedBy::Board, ComputedBy::BoardAndHost];
    for ((made, vectors), by) in detailed.intermediates.iter().zip(vectors).zip(by) {
        assert_eq!(made.by, by, "{}", made.name);
        assert_eq!(made.values.mapv(i64::from), vectors, "{}", made.name);
    }
}
