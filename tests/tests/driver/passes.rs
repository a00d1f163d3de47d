//! Akida 1.0 networks, hardware only, on both simulated boards: the integers of the reference, whatever the number of
//! passes; the same program every time.

use std::sync::Arc;
use std::time::Duration;

use akida_hal::device::{Device, DeviceOptions, OutputValues};
use akida_hal::mesh::{Mesh, NpTypes};
use akida_runtime::mapping::{HardwareSequence, MapError, MapOptions, Mode, map};
use akida_runtime::model::{Model, Target};
use akida_runtime::reference::{Reference, Rules};
use akida_simulator::{Model as BoardModel, SimBoard, SimSpec};
use akida_tests::generate::{self, Random};
use akida_tests::{akida1, zoo};

const MODES: [Mode; 3] = [Mode::Minimal, Mode::AllNps, Mode::HwPr];
const CHIPS: [(Target, BoardModel); 2] =
    [(Target::Akd1000, BoardModel::Akd1000), (Target::Akd1500, BoardModel::Akd1500)];

fn open(board: BoardModel) -> Device {
    let board = Arc::new(SimBoard::open(&SimSpec::new(board)).expect("a simulated board opens"));
    Device::open(board, DeviceOptions::default()).expect("the device opens")
}

fn hw_only(mode: Mode) -> MapOptions {
    MapOptions { hw_only: true, mode, ..MapOptions::default() }
}

/// The only sequence of a mapping, mapped twice with the same result.
fn mapped(model: &Model, mesh: &Mesh, mode: Mode) -> Result<HardwareSequence, MapError> {
    let mapping = map(model, mesh, &hw_only(mode))?;
    assert_eq!(mapping, map(model, mesh, &hw_only(mode))?, "{}: another mapping the second time", model.name);
    let sequence = mapping.hardware().next().expect("hardware only").clone();
    assert_eq!(mapping.sequences.len(), 1);
    for (pass, plan) in sequence.passes.iter().enumerate() {
        let mut used: Vec<_> = plan.placed.iter().map(|p| p.np).collect();
        used.sort();
        used.dedup();
        assert_eq!(used.len(), plan.placed.len(), "{}: an NP twice in pass {pass}", model.name);
    }
    Ok(sequence)
}

/// Runs samples and compares them with the reference.
fn equal(device: &mut Device, model: &Model, sequence: &HardwareSequence, samples: &[Vec<u8>], what: &str) {
    device.program(&sequence.program).unwrap_or_else(|e| panic!("{what}: {e}"));
    let mut reference = Reference::new(model, Rules::Chip);
    let output = model.outputs[0].tensor;
    for (index, sample) in samples.iter().enumerate() {
        let expected = reference.run(sample).expect("a sample")[output].clone();
        assert!(device.enqueue(sample).unwrap_or_else(|e| panic!("{what}: {e}")).is_some());
        let made = device.fetch(Duration::from_secs(20)).unwrap_or_else(|e| panic!("{what}: {e}")).expect("an output");
        let values: Vec<i32> = wide(&made.values);
        assert!(values == expected, "{what}, sample {index}: {values:?} instead of {expected:?}");
    }
}

fn wide(values: &OutputValues) -> Vec<i32> {
    (0..values.len()).filter_map(|i| values.get(i)).collect()
}

fn samples(model: &Model, count: usize) -> Vec<Vec<u8>> {
    let mut random = Random::new(11);
    (0..count).map(|_| random.sample(&model.input.tensor)).collect()
}

/// Every single layer and chain of the vectors that the table allows, in every mode.
#[test]
fn conformance_vectors_run_hardware_only() {
    for (target, board) in CHIPS {
        let (mut device, mut ran, mut refused) = (open(board), 0, Vec::new());
        for (file, params) in akida1::cases() {
            let akida1::Chain { mut model, inputs, .. } = akida1::chain(&file, &params);
            model.target = target;
            let samples: Vec<Vec<u8>> =
                inputs.outer_iter().take(2).map(|sample| sample.iter().map(|&v| v as u8).collect()).collect();
            for mode in MODES {
                match mapped(&model, &device.mesh().clone(), mode) {
                    Ok(sequence) => {
                        equal(&mut device, &model, &sequence, &samples, &format!("{file} on {target}, {mode:?}"));
                        ran += 1;
                    }
                    Err(MapError::NotOnHardware { reason, .. }) => refused.push((file.clone(), reason.rule)),
                    Err(error) => panic!("{file}: {error}"),
                }
            }
        }
        refused.dedup();
        // One vector: potentials behind max pooling, which the table does not allow at the end (targets.md 1.2).
        println!("{target}: {ran} programs, refused: {refused:?}");
        assert_eq!(refused, [("separable_013.npz".to_owned(), "conv.max_pool.followed")]);
        assert!(ran > 300, "only {ran}");
    }
}

/// The shapes of the zoo: (network, passes on AKD1000, passes on AKD1500) in the mode for few NPs.
#[test]
fn networks_of_the_zoo_run_hardware_only() {
    let several = |model: fn(Target) -> Model| model;
    for (make, passes) in [
        (several(zoo::lenet), [1, 1]),
        (several(|t| zoo::ds_cnn(t, 12)), [1, 1]),
        (several(zoo::vgg_utkface), [1, 1]),
        (several(zoo::vgg), [2, 3]),
        (several(|t| zoo::mobilenet_v1(t, 1, 96, 100)), [1, 1]),
        (several(|t| zoo::akidanet(t, 4, 96, 100)), [1, 3]),
    ] {
        for ((target, board), passes) in CHIPS.into_iter().zip(passes) {
            let (mut device, model) = (open(board), make(target));
            for mode in MODES {
                let sequence =
                    mapped(&model, &board.mesh(), mode).unwrap_or_else(|e| panic!("{} on {target}: {e}", model.name));
                let what = format!("{} on {target}, {mode:?}, {} passes", model.name, sequence.passes.len());
                println!("{what}, {} bytes", sequence.bytes());
                assert!(mode == Mode::HwPr || sequence.passes.len() == passes, "{what}");
                assert!(sequence.passes.len() >= passes, "{what}");
                equal(&mut device, &model, &sequence, &samples(&model, 1), &what);
            }
        }
    }
}

/// A mesh with fewer NPs takes more passes and gives the same integers.
#[test]
fn fewer_nps_make_more_passes() {
    let mut several = [0; 2];
    for ((target, board), several) in CHIPS.into_iter().zip(&mut several) {
        let mut device = open(board);
        for seed in 0..100 {
            let model = generate::fitting(target, seed);
            let full = board.mesh();
            let mut random = Random::new(seed);
            let mut mesh = full.clone();
            mesh.nps.retain(|_| random.once_in(full.nps.len() / 5));
            let mode = random.one(&MODES);
            let what = format!("{target} seed {seed}, {} NPs, {mode:?}", mesh.nps.len());
            let sequence = match mapped(&model, &mesh, mode) {
                Ok(sequence) => sequence,
                Err(MapError::NotOnHardware { reason, .. }) => {
                    // What no number of passes helps.
                    let lacks = |t| !mesh.nps.iter().any(|(_, types)| types.contains(t));
                    let excused = match reason.rule {
                        "mesh.nps.cnp2" => lacks(NpTypes::CNP2) || mesh.nps.len() < 4,
                        "mesh.nps.fnp2" | "mesh.nps.fnp3" => lacks(NpTypes::FNP3) || lacks(NpTypes::FNP2),
                        "mesh.nps" => mesh.nps.len() < 6,
                        _ => mapped(&model, &full, mode).is_err(),
                    };
                    assert!(excused, "{what}: {reason}");
                    continue;
                }
                Err(error) => panic!("{what}: {error}"),
            };
            *several += usize::from(sequence.passes.len() > 1);
            equal(&mut device, &model, &sequence, &samples(&model, 2), &what);
        }
    }
    println!("{several:?} of 100 took several passes");
    assert!(several.iter().all(|n| *n > 5), "{several:?}");
}
