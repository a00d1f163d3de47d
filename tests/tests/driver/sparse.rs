//! Inputs and outputs as events of what is not 0, through driver and simulated board: the integers of the dense road.

use std::sync::Arc;

use akida_hal::Board;
use akida_hal::device::{Device, DeviceOptions};
use akida_hal::program::{InputKind, OutputKind};
use akida_runtime::mapping::{InputRoad, MapError, MapOptions, Mode, OutputForm, map};
use akida_runtime::model::{Dense, Input, LayerKind, Model, Target, Tensor};
use akida_runtime::reference::{Reference, Rules};
use akida_runtime::session::{Batch, Detail, Session, SessionError, SessionOptions};
use akida_simulator::{Model as BoardModel, SimBoard, SimSpec};
use akida_tests::generate::{self, Random};
use akida_tests::{akida1, zoo};

const CHIPS: [(Target, BoardModel); 2] =
    [(Target::Akd1000, BoardModel::Akd1000), (Target::Akd1500, BoardModel::Akd1500)];
const ROADS: [(InputRoad, OutputForm); 4] = [
    (InputRoad::Auto, OutputForm::Events),
    (InputRoad::Dense, OutputForm::Dense),
    (InputRoad::Dense, OutputForm::Events),
    (InputRoad::Events, OutputForm::Events),
];

fn device(board: BoardModel) -> Device {
    let board: Arc<dyn Board> = Arc::new(SimBoard::open(&SimSpec::new(board)).expect("a simulated board opens"));
    Device::open(board, DeviceOptions::default()).expect("the device opens")
}

/// Nothing, everything at its largest, and samples in between.
fn samples(model: &Model) -> Vec<Vec<u8>> {
    let (mut random, tensor) = (Random::new(17), &model.input.tensor);
    let mut samples: Vec<Vec<u8>> = (0..3).map(|_| random.sample(tensor)).collect();
    samples.push(vec![0; tensor.elements()]);
    samples.push(vec![tensor.range().1 as u8; tensor.elements()]);
    samples
}

/// Runs a model through a session on every road; what is refused is counted by its rule.
fn roads(
    model: Model,
    board: BoardModel,
    mode: Mode,
    what: &str,
    seen: &mut Vec<(InputKind, OutputKind)>,
) -> Vec<&'static str> {
    let dense = MapOptions { hw_only: true, mode, ..MapOptions::default() };
    if map(&model, &board.mesh(), &dense).is_err() {
        return Vec::new();
    }
    let inputs = samples(&model);
    let model = Arc::new(model);
    let mut reference = Reference::new(&model, Rules::Chip);
    let tensor = model.outputs[0].tensor;
    let expected: Vec<Vec<i32>> = inputs.iter().map(|i| reference.run(i).expect("a sample")[tensor].clone()).collect();
    let (mut refused, mut owner) = (Vec::new(), Some(device(board)));
    for (input, output) in ROADS {
        let map = MapOptions { hw_only: true, mode, input, output, ..MapOptions::default() };
        let on = owner.take().unwrap_or_else(|| device(board));
        let what = format!("{what}, {input:?} in, {output:?} out");
        let mut session = match Session::open(model.clone(), on, SessionOptions { map, ..SessionOptions::default() }) {
            Ok(session) => session,
            Err(SessionError::Map { source, .. }) => match *source {
                MapError::NotOnHardware { reason, .. } => {
                    refused.push(reason.rule);
                    continue;
                }
                error => panic!("{what}: {error}"),
            },
            Err(error) => panic!("{what}: {error}"),
        };
        let program = &session.mapping().hardware().next().expect("hardware only").program;
        let kinds = (program.input.kind, program.output.kind);
        assert_eq!(kinds.1 == OutputKind::Dense, output == OutputForm::Dense, "{what}");
        assert!(input == InputRoad::Auto || (kinds.0 == InputKind::Dense) == (input == InputRoad::Dense), "{what}");
        if !seen.contains(&kinds) {
            seen.push(kinds);
        }
        let outputs = session.infer(Batch::Bytes(&inputs)).unwrap_or_else(|e| panic!("{what}: {e}"));
        let t = model.tensor(tensor);
        for (sample, expected) in expected.iter().enumerate() {
            let found = outputs.raw[0].outer_iter().nth(sample).expect("as many as went in");
            let wanted = t.layout.to_onnx(expected, t.shape);
            assert!(found.iter().eq(wanted.iter()), "{what}, sample {sample}");
        }
        owner = Some(session.into_device());
    }
    refused
}

/// Random networks of both chips in all modes.
#[test]
fn random_networks_give_the_same_integers_on_every_road() {
    let mut seen = Vec::new();
    let mut rules = std::collections::BTreeMap::new();
    for (target, board) in CHIPS {
        for seed in 0..60 {
            let model = generate::fitting(target, seed);
            let mode = [Mode::Minimal, Mode::AllNps, Mode::HwPr][seed as usize % 3];
            for rule in roads(model, board, mode, &format!("{target} seed {seed}, {mode:?}"), &mut seen) {
                *rules.entry(rule).or_insert(0) += 1;
            }
        }
    }
    println!("{seen:?}; refused: {rules:?}");
    for kinds in [
        (InputKind::Dense, OutputKind::CnpEvents),
        (InputKind::Dense, OutputKind::FnpEvents),
        (InputKind::CnpEvents, OutputKind::CnpEvents),
        (InputKind::CnpEvents, OutputKind::FnpEvents),
        (InputKind::Dense, OutputKind::HrcEvents),
    ] {
        assert!(seen.contains(&kinds), "never {kinds:?}: {seen:?}");
    }
    // The HRC takes no events; everything else of these networks fits them, or says that its potentials could not.
    assert!(rules.keys().all(|r| ["input.events.hrc", "output.events.range"].contains(r)), "{rules:?}");
}

/// Vectors, among them potentials of every kind of layer.
#[test]
fn vectors_give_the_same_integers_on_every_road() {
    let mut seen = Vec::new();
    for (file, params) in akida1::cases().into_iter().step_by(3) {
        let akida1::Chain { mut model, .. } = akida1::chain(&file, &params);
        for (target, board) in CHIPS {
            model.target = target;
            let refused = roads(model.clone(), board, Mode::AllNps, &format!("{file} on {target}"), &mut seen);
            let known = ["input.events.hrc", "output.events.range"];
            assert!(refused.iter().all(|r| known.contains(r)), "{file}: {refused:?}");
        }
    }
    println!("{seen:?}");
}

/// Several passes: activations between them stay dense on the board.
#[test]
fn several_passes_end_in_events() {
    let mut seen = Vec::new();
    for (target, board) in CHIPS {
        let model = zoo::vgg(target);
        let refused = roads(model, board, Mode::Minimal, &format!("VGG on {target}"), &mut seen);
        assert_eq!(refused, ["input.events.hrc"]);
    }
    assert!(seen.contains(&(InputKind::Dense, OutputKind::FnpEvents)), "{seen:?}");
}

/// A long vector has events of an FNP, by linear index.
#[test]
fn long_vectors_enter_by_index() {
    let mut seen = Vec::new();
    for (target, board) in CHIPS {
        let tensor = Tensor::new("x", [1, 1, 5000], 4, false);
        let mut model = Model::new("long", target, Input::integers(tensor));
        let weights = Random::new(1).weights(4, [6, 1, 1, 5000]);
        let last = model.push("dense", LayerKind::Dense(Dense::new(weights)), &[0], 32).expect("within the limits");
        model.output("y", last, None);
        assert!(roads(model, board, Mode::Minimal, &format!("{target}"), &mut seen).is_empty());
    }
    assert!(seen.contains(&(InputKind::FnpEvents, OutputKind::FnpEvents)), "{seen:?}");
}

/// Potentials that an event could not hold are refused, not cut off; so is everything that has no place in one.
#[test]
fn what_events_cannot_say_is_refused_by_name() {
    use akida_runtime::model::{Conv, ConvKind, Weights};
    let mesh = BoardModel::Akd1000.mesh();
    let reason = |model: &Model, options: MapOptions| match map(model, &mesh, &options) {
        Err(MapError::NotOnHardware { reason, .. }) => Some(reason.rule),
        Ok(_) => None,
        Err(error) => panic!("{error}"),
    };
    let events = MapOptions { hw_only: true, output: OutputForm::Events, ..MapOptions::default() };
    // 20 bits: 9 * 555 * 7 * 15 = 524,475 is above 2^19 - 1, with one channel less it is below.
    for (channels, refused) in [(555, Some("output.events.range")), (554, None)] {
        let tensor = Tensor::new("x", [4, 4, channels], 4, false);
        let mut model = Model::new("wide", Target::Akd1000, Input::integers(tensor));
        let weights = Weights::new(4, [1, 3, 3, channels], &vec![7; 9 * channels]);
        let conv = Conv { pads: [1; 4], ..Conv::new(ConvKind::Standard, weights) };
        let last = model.push("conv", LayerKind::Conv(Box::new(conv)), &[0], 32).expect("within the limits");
        model.output("y", last, None);
        assert_eq!(reason(&model, events.clone()), refused, "{channels} channels");
    }
    let image = zoo::lenet(Target::Akd1000);
    let into = MapOptions { hw_only: true, input: InputRoad::Events, ..MapOptions::default() };
    assert_eq!(reason(&image, into), Some("input.events.hrc"));
}

/// Tensors inside are looked at in the dense form whatever was asked for.
#[test]
fn inner_tensors_do_not_depend_on_the_road() {
    let model = Arc::new(zoo::lenet(Target::Akd1500));
    let map = MapOptions { hw_only: true, output: OutputForm::Events, ..MapOptions::default() };
    let options = SessionOptions { map, self_test: 1, ..SessionOptions::default() };
    let mut session = Session::open(model.clone(), device(BoardModel::Akd1500), options).expect("it maps");
    let inputs = samples(&model);
    let outputs = session.infer_with(Batch::Bytes(&inputs), Detail::AllTensors).expect("it runs");
    let mut reference = Reference::new(&model, Rules::Chip);
    for (sample, input) in inputs.iter().enumerate() {
        let expected = reference.run(input).expect("a sample");
        for inner in &outputs.intermediates {
            let t = model.tensor(inner.tensor);
            let found = inner.values.outer_iter().nth(sample).expect("a sample");
            assert!(found.iter().eq(t.layout.to_onnx(&expected[inner.tensor], t.shape).iter()), "{}", inner.name);
        }
    }
}
