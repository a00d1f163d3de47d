//! Four-bit weights and activations on Akida 2.0: every integer of both boards, accuracy, and what is refused.

use std::sync::Arc;

use akida_converter::calibrate::Calibration;
use akida_converter::convert;
use akida_converter::quantize::{Bits, LayerBits, QuantizeOptions, Warning};
use akida_hal::device::{Device, DeviceOptions};
use akida_runtime::edge;
use akida_runtime::model::{LayerKind, Model};
use akida_runtime::reference::{Reference, Rules};
use akida_runtime::session::{Batch, Session, SessionOptions};
use akida_simulator::{Model as BoardModel, SimBoard, SimSpec};
use akida_tests::akida1_nets::correct;
use akida_tests::conformance::Case;
use ndarray::{ArrayD, Axis, Slice};

fn options(bits: &str) -> QuantizeOptions {
    QuantizeOptions { bits: bits.parse().expect("bits"), ..QuantizeOptions::default() }
}

fn quantize(case: &Case, options: &QuantizeOptions) -> (Model, Vec<Warning>) {
    let samples = case.calibration();
    let model = case.path(case.json["model_file"].as_str().unwrap_or("model.onnx"));
    let converted = convert(&model, &Calibration::Samples(samples.view()), options, &mut |_, _| {})
        .unwrap_or_else(|e| panic!("{}: {e}", case.name));
    (converted.network.boards().next().expect("a board part").1.clone(), converted.quantized.warnings)
}

fn open(model: &Arc<Model>, board: BoardModel) -> Session {
    let board = Arc::new(SimBoard::open(&SimSpec::new(board)).expect("a simulated board opens"));
    let device = Device::open(board, DeviceOptions::default()).expect("the device opens");
    Session::open(model.clone(), device, SessionOptions::default()).unwrap_or_else(|e| panic!("{e}"))
}

fn first(array: &ArrayD<f32>, count: usize) -> ArrayD<f32> {
    array.slice_axis(Axis(0), Slice::from(..count.min(array.shape()[0]))).to_owned()
}

/// Widths are in the file, and both boards give the reference's integers.
#[test]
fn boards_compute_what_the_reference_does() {
    for (name, bits, count) in [
        ("mnist_cnn", "4/4", 4),
        ("lenet5", "4/4", 6),
        ("lenet5", "8/4", 6),
        ("ds_cnn_kws", "4/8", 2),
        ("ds_cnn_kws", "4/4", 2),
        ("resnet8", "4/4", 2),
        ("conv_zoo", "4/4", 2),
    ] {
        let Some(case) = Case::find(name) else { panic!("{name} is missing") };
        let (made, _) = quantize(&case, &options(bits));
        let four = |f: fn(&akida_runtime::model::Layer) -> bool| made.layers.iter().filter(|layer| f(layer)).count();
        let weights = four(|layer| layer.kind.weights().any(|w| w.bits == 4));
        let unsigned = four(|layer| layer.output.bits == 4 && !layer.output.signed);
        assert_eq!((weights > 0, unsigned > 0), (bits.starts_with('4'), bits.ends_with('4')), "{name} {bits}");

        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("model.akm");
        made.save(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
        let model = Arc::new(Model::open(&path).unwrap_or_else(|e| panic!("{name}: {e}")));
        assert_eq!(*model, made, "{name} {bits}: what is read is what was written");

        let x = first(&case.inputs(), count);
        let samples = edge::quantize_input(&model, x.view()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let mut reference = Reference::new(&model, Rules::Chip);
        let expected: Vec<_> = samples.iter().map(|sample| reference.run(sample).expect("a sample")).collect();
        let nibbles = model.layers.iter().zip(1..).filter(|(layer, _)| layer.output.bits == 4 && !layer.output.signed);
        for (layer, id) in nibbles {
            let most = expected.iter().flat_map(|tensors| &tensors[id]).copied().max();
            let least = expected.iter().flat_map(|tensors| &tensors[id]).copied().min();
            assert!(
                least >= Some(0) && most <= Some(15) && most > Some(7),
                "{name} {}: {least:?} {most:?}",
                layer.name
            );
        }
        for board in [BoardModel::Akida2TwoNodes, BoardModel::Akida2SixNodes] {
            let outputs = open(&model, board).infer(Batch::Float(x.view())).unwrap_or_else(|e| panic!("{name}: {e}"));
            for (raw, output) in outputs.raw.iter().zip(&model.outputs) {
                let tensor = model.tensor(output.tensor);
                for (sample, found) in expected.iter().zip(raw.outer_iter()) {
                    let wanted = tensor.layout.to_onnx(&sample[output.tensor], tensor.shape);
                    assert_eq!(found.iter().copied().collect::<Vec<i32>>(), wanted, "{name} {bits} on {board:?}");
                }
            }
        }
    }
}

/// Floors in images of 500; the whole table is in docs/converter.md.
#[test]
fn accuracy_is_kept() {
    let case = Case::find("mnist_cnn").expect("mnist_cnn");
    let x = first(&case.inputs(), 500);
    let labels = case.npz("inputs.npz").expect("inputs").integers("labels");
    let labels: Vec<usize> = labels.iter().take(500).map(|&label| label as usize).collect();
    for (bits, floor) in [("8/8", 494), ("4/8", 494), ("4/4", 492)] {
        let model = Arc::new(quantize(&case, &options(bits)).0);
        let outputs = open(&model, BoardModel::Akida2SixNodes).infer(Batch::Float(x.view())).expect("answers");
        let right = correct(&outputs.floats[0], &labels);
        println!("mnist_cnn {bits}: {right} of 500");
        assert!(right >= floor, "mnist_cnn {bits}: {right} of 500");
    }
}

#[test]
fn one_layer_has_other_bits() {
    let case = Case::find("lenet5").expect("lenet5");
    let layer =
        |name: &str, weights, activations| LayerBits { layer: name.into(), bits: Bits { weights, activations } };
    let options =
        QuantizeOptions { layer_bits: vec![layer("/3/Conv", 4, 4), layer("/7/Gemm", 4, 8)], ..options("8/8") };
    let (model, warnings) = quantize(&case, &options);
    let bits = |name: &str| {
        let layer = model.layers.iter().find(|layer| layer.name == name).unwrap_or_else(|| panic!("no {name}"));
        let weights = match &layer.kind {
            LayerKind::Conv(conv) => conv.weights.bits,
            LayerKind::Dense(dense) => dense.weights.bits,
            _ => 0,
        };
        (weights, layer.output.bits, layer.output.signed)
    };
    assert_eq!(bits("/0/Conv"), (8, 8, true));
    assert_eq!(bits("/3/Conv"), (4, 4, false));
    assert_eq!(bits("/7/Gemm"), (4, 8, true));
    assert!(!warnings.iter().any(|w| matches!(w, Warning::EightBits { .. })), "{warnings:?}");
}

/// What is asked for, of which network, and the words of the refusal: layer or option, rule, value, remedy.
#[test]
fn other_widths_are_refused_by_name() {
    let layer =
        |name: &str, weights, activations| LayerBits { layer: name.into(), bits: Bits { weights, activations } };
    let rows: Vec<(&str, LayerBits, &[&str])> = vec![
        (
            "lenet5",
            layer("/0/Conv", 4, 8),
            &["/0/Conv", "weights of 8 bits", "2.1", "weights of 4 bits", "--layer-bits"],
        ),
        ("lenet5", layer("/11/Gemm", 8, 4), &["/11/Gemm", "leave the model", "activations of 4 bits", "--layer-bits"]),
        ("lenet5", layer("/3/Conv", 2, 8), &["--layer-bits", "8 or 4", "2/8", "/3/Conv"]),
        ("lenet5", layer("/3/Conv", 8, 16), &["--layer-bits", "8 or 4", "8/16"]),
        ("lenet5", layer("nothing", 4, 4), &["--layer-bits", "Conv or Gemm", "'nothing'"]),
        ("resnet8", layer("/1/c2/c2.0/Conv", 8, 4), &["/1/c2/c2.0/Conv", "sums", "activations of 4 bits"]),
    ];
    for (name, asked, words) in rows {
        let case = Case::find(name).unwrap_or_else(|| panic!("{name} is missing"));
        let samples = first(&case.calibration(), 2);
        let options = QuantizeOptions { layer_bits: vec![asked.clone()], ..options("8/8") };
        let error = convert(&case.path("model.onnx"), &Calibration::Samples(samples.view()), &options, &mut |_, _| {});
        let text = error.err().unwrap_or_else(|| panic!("{asked:?} passed")).to_string();
        for word in words {
            assert!(text.contains(word), "{asked:?}: no {word:?} in: {text}");
        }
    }
    for text in ["2/4", "4/2", "8/4/4", "16/8", "four"] {
        let error = text.parse::<Bits>().expect_err(text).to_string();
        assert!(error.contains("--bits") && error.contains("8 or 4") && error.contains(text), "{error}");
    }
}
