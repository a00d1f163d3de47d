//! Models on simulated boards, through the driver: every integer is that of the reference.

use std::sync::Arc;

use akida_hal::device::{Device, DeviceOptions};
use akida_runtime::mapping::{MapOptions, Mode, Sequences};
use akida_runtime::model::{Model, Target};
use akida_runtime::reference::{Reference, Rules};
use akida_runtime::session::{Batch, Detail, Outputs, Session, SessionOptions};
use akida_simulator::{Model as BoardModel, SimBoard, SimSpec};
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

/// As many seeds as asked for by AKIDA_SEEDS, for long runs.
fn seeds(usual: u64) -> std::ops::Range<u64> {
    0..std::env::var("AKIDA_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
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
                    board_tensors += outputs
                        .intermediates
                        .iter()
                        .filter(|i| i.by == akida_runtime::session::ComputedBy::Board)
                        .count();
                }
            }
        }
    }
    assert!(board_tensors > 200, "{board_tensors}");
}
