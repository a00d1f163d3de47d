//! Float networks of the conformance set on Akida 1.0, from ONNX to both simulated chips: what runs on the hardware
//! alone gives the integers of the reference and stays near the float network; what does not is refused by its rule.

use std::sync::Arc;

use akida_converter::akida1::{Note, Options, Quantized, convert};
use akida_hal::device::{Device, DeviceOptions};
use akida_runtime::mapping::MapOptions;
use akida_runtime::model::{Model, Target};
use akida_runtime::reference::{Reference, Rules};
use akida_runtime::session::{Batch, Session, SessionError, SessionOptions};
use akida_simulator::{Model as BoardModel, SimBoard, SimSpec};
use akida_tests::conformance::Case;
use ndarray::{ArrayD, Axis};

/// Quantized with at most 16 samples.
fn quantize(case: &Case, target: Target) -> Quantized {
    let samples = if case.path("calib.npz").exists() { case.calibration() } else { case.inputs() };
    let count = samples.shape()[0].min(16);
    let samples = samples.slice_axis(Axis(0), (0..count).into());
    convert(&case.path("model.onnx"), samples, &Options::new(target), &mut |_, _| {})
        .unwrap_or_else(|e| panic!("{}: {e}", case.name))
}

fn open(model: Model, board: BoardModel) -> Result<Session, SessionError> {
    let board = Arc::new(SimBoard::open(&SimSpec::new(board)).expect("a simulated board opens"));
    let device = Device::open(board, DeviceOptions::default()).expect("the device opens");
    let map = MapOptions { hw_only: true, ..MapOptions::default() };
    Session::open(Arc::new(model), device, SessionOptions { map, ..SessionOptions::default() })
}

fn cosine(a: &ArrayD<f32>, b: &ArrayD<f32>) -> f64 {
    assert_eq!(a.len(), b.len());
    let sum =
        |x: &ArrayD<f32>, y: &ArrayD<f32>| x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    sum(a, b) / (sum(a, a) * sum(b, b)).sqrt()
}

#[test]
fn float_networks_run_on_the_hardware() {
    // Name, whether the network is turned, least cosine with the float outputs at 8/4/4 (all reach 0.999).
    for (name, turned, least) in [
        ("lenet5", false, 0.99),
        ("akida_mobilenet_025", false, 0.99),
        ("mobilenet_v1_025", true, 0.99),
        ("akidanet_05_160", false, 0.99),
    ] {
        let case = Case::find(name).unwrap_or_else(|| panic!("{name} is missing"));
        let samples = case.inputs();
        let samples = samples.slice_axis(Axis(0), (0..samples.shape()[0].min(3)).into()).to_owned();
        let float = case.npz("float_outputs.npz").expect("float outputs").floats("out0");
        let float = float.slice_axis(Axis(0), (0..samples.shape()[0]).into()).to_owned();
        // The largest takes as long as all others together; one chip is enough for it.
        let boards = [(Target::Akd1000, BoardModel::Akd1000), (Target::Akd1500, BoardModel::Akd1500)];
        for (target, board) in boards.into_iter().take(if name == "akidanet_05_160" { 1 } else { 2 }) {
            let Quantized { model, notes, .. } = quantize(&case, target);
            assert_eq!(notes.iter().any(|note| matches!(note, Note::Turned { .. })), turned, "{name}");
            assert_eq!(model.input.layout.is_turned(), turned, "{name}");
            let bytes = akida_runtime::edge::quantize_input(&model, samples.view()).expect("samples of the model");
            let mut reference = Reference::new(&model, Rules::Chip);
            let last = model.outputs[0].tensor;
            let expected: Vec<Vec<i32>> =
                bytes.iter().map(|b| reference.run(b).expect("a sample")[last].clone()).collect();
            let mut session = open(model, board).unwrap_or_else(|e| panic!("{name} on {board:?}: {e}"));
            let outputs =
                session.infer(Batch::Float(samples.view())).unwrap_or_else(|e| panic!("{name} on {board:?}: {e}"));
            for (sample, (found, expected)) in outputs.raw[0].outer_iter().zip(&expected).enumerate() {
                assert!(found.iter().eq(expected), "{name} on {board:?}, sample {sample}");
            }
            let near = cosine(&outputs.floats[0], &float);
            println!("{name} on {board:?}: cosine {near:.4}");
            assert!(near >= least, "{name} on {board:?}: cosine {near} with the float network, {least} was reached");
        }
    }
}

/// A first kernel of 10x4 is too large for every kernel of the chip.
#[test]
fn what_the_chip_cannot_lay_is_refused_by_its_rule() {
    let case = Case::find("ds_cnn_kws").expect("the case");
    let Quantized { model, .. } = quantize(&case, Target::Akd1000);
    let error = open(model, BoardModel::Akd1000).err().expect("refused");
    let text = format!("{error}: {:?}", std::error::Error::source(&error));
    assert!(text.contains("akida1.input_conv.kernel") && text.contains("10x4"), "{text}");
}
