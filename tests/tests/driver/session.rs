//! Models on simulated boards, through the driver: every integer is that of the reference.

use std::sync::Arc;

use akida_converter::import::{ImportOptions, import};
use akida_converter::onnx;
use akida_hal::device::{Device, DeviceOptions};
use akida_hal::memory_map;
use akida_hal::regs::top;
use akida_runtime::mapping::{MapOptions, Mode, Sequences};
use akida_runtime::model::{Model, Target};
use akida_runtime::reference::{Reference, Rules};
use akida_runtime::session::{Batch, ComputedBy, Detail, HostNetwork, Outputs, Session, SessionError, SessionOptions};
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

/// With each fault of the plan the same calls end in an error or in right numbers, and the call after it is right.
#[test]
fn faults_end_in_errors_or_recovery_never_in_wrong_numbers() {
    let model = Arc::new(generate::fitting(Target::Akida2, 5));
    let inputs = samples(&model, 1, 24);
    let expected = expected(&model, &inputs);
    let (mut recovered, mut failed, mut fired) = (0, 0, 0);
    for fault in [
        "abort-link",
        "stall-link",
        "stall-config",
        "stall-input",
        "wrong-job-id",
        "truncate-header",
        "all-ones",
        "lose-device",
        "drop-interrupt",
        "stuck-reset",
        "flip-descriptor:word=1,bits=0x80000000",
        "flip-element:word=0,bits=0x1",
        "refuse-allocation",
    ] {
        for at in [3u64, 20, 60, 150, 400] {
            let (name, rest) = fault.split_once(':').map_or((fault, String::new()), |(n, r)| (n, format!(":{r}")));
            let plan = format!("{name}@{at}{rest}");
            let spec = SimSpec::new(BoardModel::Akida2SixNodes).with_faults(plan.parse().expect("a fault plan"));
            let board = Arc::new(SimBoard::open(&spec).expect("a simulated board opens"));
            let Ok(device) = Device::open(board.clone(), DeviceOptions::default()) else {
                failed += 1; // Opening is the driver's business; it said what was wrong.
                continue;
            };
            let mut session = match Session::open(model.clone(), device, SessionOptions::default()) {
                Ok(session) => session,
                Err(e) => panic!("{plan}: {e}"),
            };
            match session.infer(Batch::Bytes(&inputs)) {
                Ok(outputs) => {
                    same(&model, &expected, &outputs, &plan);
                    recovered += outputs.statistics.recoveries;
                }
                Err(e) => {
                    assert!(std::error::Error::source(&e).is_some(), "{plan}: {e}");
                    failed += 1;
                }
            }
            let again = session.infer(Batch::Bytes(&inputs)).unwrap_or_else(|e| panic!("{plan}, second call: {e}"));
            same(&model, &expected, &again, &plan);
            fired += usize::from(!board.faults_fired().is_empty());
        }
    }
    println!("{fired} faults fired, {recovered} recoveries, {failed} errors");
    assert!(fired > 15 && recovered > 5, "{fired} {recovered}");
}

/// A device that stays away is an error each time, not a hang.
#[test]
fn a_board_that_is_gone_for_good_is_an_error() {
    let model = Arc::new(generate::fitting(Target::Akida2, 5));
    let inputs = samples(&model, 1, 4);
    let plan = "lose-device@20000:forever".parse().expect("a fault plan");
    let spec = SimSpec::new(BoardModel::Akida2SixNodes).with_faults(plan);
    let device = Device::open(Arc::new(SimBoard::open(&spec).unwrap()), DeviceOptions::default()).unwrap();
    let mut session = Session::open(model, device, SessionOptions::default()).unwrap();
    let error = (0..2000).find_map(|_| session.infer(Batch::Bytes(&inputs)).err()).expect("the device is lost");
    assert!(matches!(error, SessionError::Device { recovered: true, .. }), "{error}");
    assert!(session.infer(Batch::Bytes(&inputs)).is_err());
}

/// Weights that change in device memory while they are in use are found by the known-answer test, which names layer and
/// integers; nothing is inferred after that. (Damage on the way in is found by the driver, which reads back.)
#[test]
fn damaged_weights_are_found_before_they_matter() {
    let case = Case::find("mnist_cnn").expect("mnist_cnn is part of the repository");
    let model = imported(&case);
    let mut session = open(BoardModel::Akida2SixNodes, &model, MapOptions::default());
    session.self_test(2).expect("the board is sound");
    // The FNP2 reads its weights from where this register says.
    let transport = session.device().transport().clone();
    let mut address = [0; 4];
    transport.read(memory_map::TOP + top::FNP2_ADDRESS_0, &mut address).expect("a register");
    let at = u32::from_le_bytes(address) + 4000;
    let mut weights = [0; 8];
    transport.read(at, &mut weights).expect("weights");
    transport.write(at, &weights.map(|w| w ^ 0x44)).expect("damage");
    match session.self_test(2) {
        Err(SessionError::KnownAnswer { expected, found, layer, .. }) => {
            assert_ne!(expected, found);
            assert_eq!(layer, "/10/Gemm");
        }
        other => panic!("{other:?}"),
    }
    let refused = session.infer(Batch::Bytes(&samples(&model, 1, 1)));
    assert!(matches!(refused, Err(SessionError::Refused { .. })));
}

/// One stream in one call, the same in several calls, and again after a reset; intermediates start a stream of their own.
#[test]
fn streams_go_on_from_call_to_call() {
    let case = Case::find("temporal_conv").expect("temporal_conv is part of the repository");
    let model = imported(&case);
    let inputs = samples(&model, 3, 12);
    let expected = expected(&model, &inputs);
    for board in [BoardModel::Akida2SixNodes, BoardModel::Akida2TwoNodes] {
        let mut session = open(board, &model, MapOptions { sequences: Sequences::All, ..MapOptions::default() });
        for round in 0..2 {
            for (at, part) in inputs.chunks(5).enumerate() {
                let outputs = session.infer(Batch::Bytes(part)).expect("runs");
                let from = at * 5;
                same(&model, &expected[from..from + part.len()], &outputs, &format!("{board} round {round}"));
            }
            session.reset();
        }
        let detailed = session.infer_with(Batch::Bytes(&inputs), Detail::AllTensors).expect("runs");
        same(&model, &expected, &detailed, &format!("{board} in detail"));
        let outputs = session.infer(Batch::Bytes(&inputs)).expect("runs");
        same(&model, &expected, &outputs, &format!("{board} afterwards"));
    }
}

#[test]
fn what_is_no_batch_is_refused() {
    let case = Case::find("mnist_cnn").expect("mnist_cnn is part of the repository");
    let model = imported(&case);
    let mut session = open(BoardModel::Akida2SixNodes, &model, MapOptions::default());
    let floats = ndarray::ArrayD::<f32>::zeros(vec![2, 28, 28, 1]);
    let error = session.infer(Batch::Float(floats.view())).expect_err("wrong layout");
    assert!(error.to_string().contains("1, 28, 28"), "{error}");
    let mut nan = ndarray::ArrayD::<f32>::zeros(vec![3, 1, 28, 28]);
    nan[[2, 0, 3, 3]] = f32::NAN;
    assert!(matches!(session.infer(Batch::Float(nan.view())), Err(SessionError::Edge { sample: 2, .. })));
    let short = [vec![0; 784], vec![0; 783]];
    assert!(matches!(session.infer(Batch::Bytes(&short)), Err(SessionError::Input { sample: 1, .. })));
    // None of this disturbs what comes after; an empty batch is a batch.
    let empty = session.infer(Batch::Bytes(&[])).expect("an empty batch");
    assert_eq!(empty.raw[0].shape(), [0, 10]);
    let raw = ndarray::ArrayD::<u8>::zeros(vec![2, 28, 28, 1]);
    assert_eq!(session.infer(Batch::Raw(raw.view())).expect("runs").floats[0].shape(), [2, 10]);
}

#[test]
fn the_host_alone_gives_the_integers_of_the_reference() {
    for target in [Target::Akida2, Target::Akd1000] {
        for seed in seeds(40) {
            let model = generate::model(target, seed);
            let samples = samples(&model, seed, 3);
            let mut host = HostNetwork::prepare(&model).unwrap_or_else(|e| panic!("{target:?} seed {seed}: {e}"));
            for (sample, expected) in samples.iter().zip(expected(&model, &samples)) {
                let outputs = host.run(sample).expect("a sample of the model");
                for (output, values) in model.outputs.iter().zip(outputs) {
                    let tensor = model.tensor(output.tensor);
                    assert!(
                        values.integers(tensor) == expected[output.tensor],
                        "{target:?} seed {seed}: {}",
                        tensor.name
                    );
                }
            }
            host.run(&samples[0][1..]).expect_err("too short an input is refused");
        }
    }
}

/// Jobs of a ring that are computed side by side: results, the board's time, every access and what comes of a fault in their
/// middle are those of one after another.
#[test]
fn threads_of_a_board_change_nothing_that_can_be_seen() {
    let faults = ["", "flip-descriptor@30:word=0,bits=0x1", "stall-input@21", "wrong-job-id@7", "truncate-header@19"];
    let mut jobs = 0;
    for (target, seed) in [(Target::Akida2, 3), (Target::Akida2, 11), (Target::Akd1000, 5), (Target::Akd1500, 2)] {
        let model = Arc::new(generate::model(target, seed));
        let inputs = samples(&model, seed, 40);
        for plan in faults {
            let run = |threads: usize| {
                let spec = SimSpec::new(boards(target)[0]).with_threads(threads);
                let board = Arc::new(SimBoard::open(&spec).expect("a simulated board opens"));
                let device = Device::open(board.clone(), DeviceOptions::default()).expect("the device opens");
                let mut session = Session::open(model.clone(), device, SessionOptions::default()).expect("a session");
                // Programmed before anything goes wrong.
                session.infer(Batch::Bytes(&inputs[..1])).expect("a sample");
                board.arm(&plan.parse().expect("a fault plan"));
                let outputs = session.infer(Batch::Bytes(&inputs)).map(|o| o.raw).map_err(|e| e.to_string());
                let seen = board.inspect();
                (outputs, akida_hal::Board::now(&*board), seen.counters, seen.host_accesses, board.faults_fired())
            };
            let alone = run(1);
            jobs += alone.2.jobs.len();
            for threads in [2, 5] {
                assert!(alone == run(threads), "{target} seed {seed}, {plan:?}, {threads} threads");
            }
        }
    }
    assert!(jobs > 40 * faults.len(), "{jobs}");
}
