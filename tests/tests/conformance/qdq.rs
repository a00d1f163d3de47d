//! QDQ models of ONNX Runtime and PyTorch: weights kept, answers those of ONNX Runtime, boards equal to the reference.

use std::path::PathBuf;
use std::sync::Arc;

use akida_converter::onnx::{self, Graph, Tensor};
use akida_converter::qdq::{Imported, WeightsKept, import_qdq, is_qdq};
use akida_hal::device::{Device, DeviceOptions};
use akida_runtime::edge;
use akida_runtime::model::Model;
use akida_runtime::reference::{Reference, Rules};
use akida_runtime::session::{Batch, Session, SessionOptions};
use akida_simulator::{Model as BoardModel, SimBoard, SimSpec};
use akida_tests::conformance::{Case, Npz};
use ndarray::{ArrayD, Axis, Slice};

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/data/qdq"))
}

fn load(name: &str) -> Imported {
    let graph = onnx::load(&folder().join(format!("{name}.onnx"))).unwrap_or_else(|e| panic!("{e}"));
    assert!(is_qdq(&graph), "{name}");
    import_qdq(graph).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Test inputs of a network.
fn inputs(net: &str) -> ArrayD<f32> {
    let all = match Case::find(net) {
        Some(case) => case.inputs(),
        None => Npz::open(&folder().join(format!("{net}-inputs.npz"))).floats("x"),
    };
    // A large network: fewer inputs, to be short.
    let count = all.shape()[0].min(if net == "mobilenet_v1_025" { 12 } else { 200 });
    all.slice_axis(Axis(0), Slice::from(..count)).to_owned()
}

fn outputs(net: &str, scheme: &str) -> ArrayD<f32> {
    Npz::open(&folder().join(format!("{net}-outputs.npz"))).floats(scheme)
}

fn argmax(row: impl IntoIterator<Item = f32>) -> usize {
    row.into_iter().enumerate().max_by(|a, b| a.1.total_cmp(&b.1)).map_or(0, |(at, _)| at)
}

/// Floats of the reference, one row a sample.
fn run(model: &Model, x: &ArrayD<f32>) -> Vec<Vec<f32>> {
    let mut reference = Reference::new(model, Rules::Chip);
    let samples = edge::quantize_input(model, x.view()).unwrap_or_else(|e| panic!("{e}"));
    let row = |sample: &Vec<u8>| {
        let values = reference.run(sample).expect("a sample of the model");
        let output = &model.outputs[0];
        edge::dequantize(model, output, &values[output.tensor]).iter().copied().collect()
    };
    samples.iter().map(row).collect()
}

/// A file: how many of the arg-maxima may differ from ONNX Runtime's, and the least ratio of signal to noise of the
/// outputs in dB.
type File = (&'static str, usize, f64);

/// Every network with its files.
const FILES: &[(&str, &[File])] = &[
    ("mnist_cnn", &[("pc_u8", 1, 38.0), ("pc_sym", 1, 38.0)]),
    ("lenet5", &[("pc_u8", 1, 33.0), ("pc_s8", 1, 33.0), ("pt_u8", 1, 33.0), ("pt_s8", 1, 33.0), ("pc_sym", 1, 33.0)]),
    ("resnet8", &[("pc_u8", 0, 28.0), ("pc_s8", 0, 28.0), ("pt_u8", 0, 28.0), ("pt_s8", 0, 28.0), ("pc_sym", 0, 28.0)]),
    (
        "ds_cnn_kws",
        &[("pc_u8", 3, 22.0), ("pc_s8", 3, 22.0), ("pt_u8", 3, 22.0), ("pt_s8", 3, 22.0), ("pc_sym", 3, 22.0)],
    ),
    (
        "mobilenet_v1_025",
        &[("pc_u8", 0, 23.0), ("pc_s8", 0, 23.0), ("pt_u8", 0, 23.0), ("pt_s8", 0, 23.0), ("pc_sym", 0, 25.0)],
    ),
    ("pytorch_qat", &[("fbgemm", 2, 25.0), ("qnnpack", 2, 25.0)]),
];

#[test]
fn answers_are_those_of_onnx_runtime() {
    let mut failed = Vec::new();
    for (net, schemes) in FILES {
        let x = inputs(net);
        for &(scheme, may_differ, decibels) in *schemes {
            let imported = load(&format!("{net}-{scheme}"));
            let expected = outputs(net, scheme);
            let found = run(&imported.model, &x);
            // A file that quantizes its outputs cuts them; the model gives sums.
            let (low, high) = expected.iter().fold((f32::MAX, f32::MIN), |(low, high), &v| (low.min(v), high.max(v)));
            let (mut agree, mut noise, mut signal) = (0, 0f64, 0f64);
            for (found, expected) in found.iter().zip(expected.outer_iter()) {
                agree += usize::from(argmax(found.iter().copied()) == argmax(expected.iter().copied()));
                for (a, b) in found.iter().zip(expected) {
                    noise += f64::from(a.clamp(low, high) - b).powi(2);
                    signal += f64::from(*b).powi(2);
                }
            }
            let ratio = 10.0 * (signal / noise).log10();
            println!("{net} {scheme}: {agree} of {} arg-maxima, {ratio:.1} dB", found.len());
            if agree + may_differ < found.len() || ratio < decibels {
                failed.push(format!("{net} {scheme}"));
            }
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn trained_accuracy_is_kept() {
    let x = inputs("pytorch_qat");
    let labels = Npz::open(&folder().join("pytorch_qat-inputs.npz")).integers("labels");
    for scheme in ["fbgemm", "qnnpack"] {
        let right = |rows: &[Vec<f32>]| {
            rows.iter().zip(&labels).filter(|(row, label)| argmax(row.iter().copied()) as i64 == **label).count()
        };
        let theirs: Vec<Vec<f32>> =
            outputs("pytorch_qat", scheme).outer_iter().take(200).map(|row| row.iter().copied().collect()).collect();
        let (ours, theirs) = (right(&run(&load(&format!("pytorch_qat-{scheme}")).model, &x)), right(&theirs));
        println!("{scheme}: {ours} of 200 right, ONNX Runtime {theirs}");
        assert!(ours + 1 >= theirs, "{scheme}: {ours}, ONNX Runtime has {theirs}");
    }
}

/// The integers of the file, tensor by tensor, are those of the model.
#[test]
fn weights_are_kept_to_the_bit() {
    for (net, schemes) in FILES {
        for (scheme, ..) in *schemes {
            let name = format!("{net}-{scheme}");
            let file = onnx::load(&folder().join(format!("{name}.onnx"))).unwrap_or_else(|e| panic!("{e}"));
            let imported = load(&name);
            let ours: Vec<&Tensor> =
                imported.graph.initializers.iter().filter(|(n, _)| n.ends_with("_Wi")).map(|(_, t)| t).collect();
            let theirs = integer_weights(&file);
            assert!(theirs.len() >= 4, "{name}: {} weights", theirs.len());
            for weights in &theirs {
                assert!(ours.contains(&weights), "{name}: weights of {:?} changed", weights.dims());
            }
            let exact = imported.layers.iter().filter(|layer| layer.weights == WeightsKept::Exact).count();
            assert_eq!(exact, theirs.len(), "{name}");
            assert!(imported.layers.iter().all(|layer| layer.weights != WeightsKept::Changed), "{name}");
        }
    }
}

/// int8 weights of a file, or those its QuantizeLinear nodes make of float ones.
fn integer_weights(file: &Graph) -> Vec<Tensor> {
    let mut found = Vec::new();
    for node in &file.nodes {
        let tensor = |index: usize| node.input(index).and_then(|name| file.initializers.get(name));
        let Some(source) = tensor(0).filter(|tensor| tensor.dims().len() >= 2) else { continue };
        match node.op.as_str() {
            "DequantizeLinear" => found.push(source.clone()),
            "QuantizeLinear" => {
                let scale: Vec<f32> = tensor(1).expect("a scale").values("scale").expect("floats");
                let floats: Vec<f32> = source.values("weights").expect("floats");
                let per_filter = floats.len() / source.dims()[0];
                let integer = |(at, w): (usize, &f32)| {
                    let scale = if scale.len() == 1 { scale[0] } else { scale[at / per_filter] };
                    (w / scale).round_ties_even().clamp(-128.0, 127.0) as i8
                };
                found.push(Tensor::new(source.dims(), &floats.iter().enumerate().map(integer).collect::<Vec<i8>>()));
            }
            _ => {}
        }
    }
    found
}

/// Every integer that leaves either board of Akida 2.0 is the reference's.
#[test]
fn boards_compute_what_the_reference_does() {
    for (name, count) in [
        ("lenet5-pc_u8", 6),
        ("resnet8-pt_s8", 2),
        ("ds_cnn_kws-pc_sym", 2),
        ("mobilenet_v1_025-pc_u8", 1),
        ("pytorch_qat-fbgemm", 6),
    ] {
        let model = Arc::new(load(name).model);
        let net = name.split_once('-').map_or(name, |(net, _)| net);
        let x = inputs(net).slice_axis(Axis(0), Slice::from(..count)).to_owned();
        let mut reference = Reference::new(&model, Rules::Chip);
        let samples = edge::quantize_input(&model, x.view()).unwrap_or_else(|e| panic!("{name}: {e}"));
        for board in [BoardModel::Akida2TwoNodes, BoardModel::Akida2SixNodes] {
            let device = Device::open(
                Arc::new(SimBoard::open(&SimSpec::new(board)).expect("a simulated board opens")),
                DeviceOptions::default(),
            );
            let mut session =
                Session::open(model.clone(), device.expect("the device opens"), SessionOptions::default())
                    .unwrap_or_else(|e| panic!("{name}: {e}"));
            let outputs = session.infer(Batch::Float(x.view())).unwrap_or_else(|e| panic!("{name}: {e}"));
            for (sample, raw) in samples.iter().zip(outputs.raw[0].outer_iter()) {
                let id = model.outputs[0].tensor;
                let tensor = model.tensor(id);
                let expected = tensor.layout.to_onnx(&reference.run(sample).expect("a sample")[id], tensor.shape);
                assert_eq!(raw.iter().copied().collect::<Vec<i32>>(), expected, "{name} on {board:?}");
            }
        }
    }
}
