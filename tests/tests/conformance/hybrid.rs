//! Networks with float tails and unsupported middles: board parts are the reference's integers, host segments the float
//! network's values, and together they are close to the float network.

use std::sync::Arc;

use akida_converter::import::{ImportOptions, import_network};
use akida_converter::onnx::{self, Attribute, Graph, Tensor};
use akida_converter::quantize::QuantizeOptions;
use akida_runtime::hybrid::{HybridError, HybridModel, HybridSession, PartResults};
use akida_runtime::mapping::MapOptions;
use akida_runtime::session::SessionOptions;
use akida_simulator::Model as BoardModel;
use akida_tests::conformance::Case;

use crate::support::float_nets::Net;
use crate::support::networks::{convert, float_outputs, open, run, same_integers, sqnr};

const BOARDS: [BoardModel; 2] = [BoardModel::Akida2SixNodes, BoardModel::Akida2TwoNodes];

/// What QuantizeML quantized in part: its integers, and behind them its float outputs.
#[test]
fn partial_networks_of_the_reference() {
    for (name, segments) in
        [("partial_softmax", 1), ("partial_avgpool", 1), ("quantize_until", 1), ("yolo_two_heads", 0), ("act_lut", 0)]
    {
        let case = Case::find(name).expect("a case of the repository");
        let graph = onnx::load(&case.path("quantized.onnx")).expect("a graph");
        let network = import_network(&graph, ImportOptions::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(network.segments().count(), segments, "{name}");
        let network = Arc::new(network);
        let inputs = case.inputs();
        let inputs = inputs.slice_axis(ndarray::Axis(0), ndarray::Slice::from(..8.min(inputs.shape()[0])));
        let mut expected = case.npz("quantized_outputs.npz").expect("results");
        for board in BOARDS {
            let found = run(board, &network, inputs.view());
            let integers = same_integers(&network, inputs.view(), &found);
            assert!(integers > 0, "{name}");
            assert_eq!(found.outputs.len(), graph.outputs.len(), "{name}: every output");
            for (index, values) in found.outputs.iter().enumerate() {
                let all = expected.floats(&format!("out{index}"));
                let values = values.to_floats();
                let all = all.slice_axis(ndarray::Axis(0), ndarray::Slice::from(..values.shape()[0]));
                assert_eq!(values.shape(), all.shape(), "{name}");
                let largest = all.iter().fold(0f32, |m, v| m.max(v.abs()));
                for (a, b) in values.iter().zip(all) {
                    // Another float runtime sums in another order.
                    assert!((a - b).abs() <= 2e-6 * largest.max(1.0), "{name} output {index}: {a}, not {b}");
                }
            }
        }
    }
}

/// A generated network: name, board parts and segments expected, smallest SQNR in dB on every output.
struct Row {
    name: &'static str,
    parts: (usize, usize),
    db: f64,
    input: [usize; 3],
    make: fn(&mut Net) -> Vec<String>,
}

const ROWS: &[Row] = &[
    Row { name: "gate of two tensors", parts: (2, 1), db: 20.0, input: [3, 16, 16], make: sigmoid_gate },
    Row { name: "softmax over channels", parts: (2, 1), db: 20.0, input: [3, 16, 16], make: softmax_channels },
    Row { name: "layer normalization", parts: (2, 1), db: 20.0, input: [3, 16, 16], make: layer_norm },
    Row { name: "power", parts: (2, 1), db: 20.0, input: [3, 16, 16], make: power },
    Row { name: "bilinear resize", parts: (2, 1), db: 20.0, input: [3, 16, 12], make: resize },
    Row { name: "transposed map", parts: (2, 1), db: 20.0, input: [3, 16, 12], make: transpose },
    Row { name: "average pool and residual", parts: (2, 1), db: 20.0, input: [3, 16, 16], make: residual },
    Row { name: "three parts", parts: (3, 2), db: 20.0, input: [3, 16, 16], make: three_parts },
    Row { name: "begins on the host", parts: (1, 1), db: 20.0, input: [3, 16, 16], make: host_first },
    Row { name: "two heads and a tail of both", parts: (1, 1), db: 20.0, input: [3, 16, 16], make: heads },
];

fn floats(values: &[f32]) -> Tensor {
    Tensor::new([values.len()], values)
}

fn sigmoid_gate(net: &mut Net) -> Vec<String> {
    let y = net.block("x", [3, 8], 2);
    let a = net.node("Tanh", &[&y], &[]);
    let gate = net.node("Sigmoid", &[&y], &[]);
    let y = net.node("Mul", &[&a, &gate], &[]);
    let y = net.block(&y, [8, 12], 1);
    vec![net.head(&y, 12, 5)]
}

fn softmax_channels(net: &mut Net) -> Vec<String> {
    let y = net.block("x", [3, 8], 2);
    let y = net.node("Softmax", &[&y], &[("axis", 1.into())]);
    let y = net.block(&y, [8, 12], 1);
    vec![net.head(&y, 12, 5)]
}

fn layer_norm(net: &mut Net) -> Vec<String> {
    let y = net.block("x", [3, 8], 2);
    let y = net.node("Transpose", &[&y], &[("perm", vec![0, 2, 3, 1].into())]);
    let (scale, bias) = (net.constant(floats(&[1.0; 8])), net.weights(&[8], 0.1));
    let y = net.node("LayerNormalization", &[&y, &scale, &bias], &[("axis", (-1).into())]);
    let y = net.node("Transpose", &[&y], &[("perm", vec![0, 3, 1, 2].into())]);
    let y = net.block(&y, [8, 12], 1);
    vec![net.head(&y, 12, 5)]
}

fn power(net: &mut Net) -> Vec<String> {
    let y = net.block("x", [3, 8], 2);
    let exponent = net.constant(floats(&[1.5]));
    let y = net.node("Pow", &[&y, &exponent], &[]);
    let y = net.block(&y, [8, 12], 1);
    vec![net.head(&y, 12, 5)]
}

fn resize(net: &mut Net) -> Vec<String> {
    let y = net.block("x", [3, 8], 2);
    let scales = net.constant(floats(&[1.0, 1.0, 2.0, 2.0]));
    let mode: [(&str, Attribute); 2] =
        [("mode", "linear".into()), ("coordinate_transformation_mode", "half_pixel".into())];
    let y = net.node("Resize", &[&y, "", &scales], &mode);
    let y = net.block(&y, [8, 12], 1);
    vec![y]
}

fn transpose(net: &mut Net) -> Vec<String> {
    let y = net.block("x", [3, 8], 2);
    let y = net.node("Transpose", &[&y], &[("perm", vec![0, 1, 3, 2].into())]);
    let y = net.block(&y, [8, 12], 1);
    vec![y]
}

fn average(net: &mut Net, y: &str) -> String {
    net.node("AveragePool", &[y], &[("kernel_shape", vec![2, 2].into()), ("strides", vec![2, 2].into())])
}

fn residual(net: &mut Net) -> Vec<String> {
    let y = net.block("x", [3, 8], 1);
    let y = average(net, &y);
    let z = net.block(&y, [8, 8], 1);
    let z = net.conv(&z, [8, 8], [3, 3], [1, 1], [1; 4]);
    let y = net.node("Add", &[&z, &y], &[]);
    let y = net.node("Relu", &[&y], &[]);
    vec![net.head(&y, 8, 5)]
}

fn three_parts(net: &mut Net) -> Vec<String> {
    let y = net.block("x", [3, 8], 1);
    let y = average(net, &y);
    let y = net.block(&y, [8, 8], 1);
    let y = net.node("Tanh", &[&y], &[]);
    let y = net.block(&y, [8, 12], 1);
    vec![net.head(&y, 12, 5)]
}

fn host_first(net: &mut Net) -> Vec<String> {
    let y = net.node("Tanh", &["x"], &[]);
    let y = net.block(&y, [3, 8], 2);
    vec![net.head(&y, 8, 5)]
}

fn heads(net: &mut Net) -> Vec<String> {
    let y = net.block("x", [3, 8], 2);
    let a = net.conv(&y, [8, 4], [1, 1], [1, 1], [0; 4]);
    let b = net.conv(&y, [8, 6], [1, 1], [1, 1], [0; 4]);
    let p = net.node("Softmax", &[&a], &[("axis", 1.into())]);
    let q = net.node("Sigmoid", &[&b], &[]);
    let all = net.node("Concat", &[&p, &q], &[("axis", 1.into())]);
    vec![all, b]
}

fn build(row: &Row, seed: u64) -> Graph {
    let mut net = Net::new(row.name, seed, &row.input);
    let outputs = (row.make)(&mut net);
    net.done(&outputs.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn unsupported_middles_against_the_float_network() {
    for row in ROWS {
        let graph = build(row, 11);
        let samples = Net::samples(&row.input, 24, 5);
        let network = convert(&graph, samples.view(), &QuantizeOptions::default());
        let network = network.unwrap_or_else(|e| panic!("{}: {e}", row.name));
        let found = (network.boards().count(), network.segments().count());
        assert_eq!(found, row.parts, "{}: board parts and segments", row.name);
        for (_, segment) in network.segments() {
            assert!(segment.operations.iter().all(|o| !o.rule.is_empty() && !o.found.is_empty()), "{}", row.name);
        }
        let network = Arc::new(reread(&network));
        let inputs = Net::samples(&row.input, 6, 77);
        let expected = float_outputs(&graph, inputs.view());
        for board in BOARDS {
            let found = run(board, &network, inputs.view());
            assert!(same_integers(&network, inputs.view(), &found) > 0);
            assert_eq!(found.outputs.len(), expected.len());
            for (expected, found) in expected.iter().zip(&found.outputs) {
                let db = sqnr(expected, &found.to_floats());
                println!("{:30} {board:?} {db:.1} dB", row.name);
                assert!(db >= row.db, "{}: {db:.1} dB", row.name);
            }
        }
    }
}

/// Through a file and back.
fn reread(network: &HybridModel) -> HybridModel {
    let mut bytes = Vec::new();
    network.write(&mut bytes).expect("memory takes every write");
    let read = HybridModel::read(akida_runtime::model::Blob::new(bytes)).expect("what was written");
    assert_eq!(read, *network);
    read
}

#[test]
fn hardware_only_refuses_segments_by_name() {
    let graph = build(&ROWS[0], 11);
    let samples = Net::samples(&ROWS[0].input, 8, 5);
    let network = Arc::new(convert(&graph, samples.view(), &QuantizeOptions::default()).expect("a network"));
    let board = Arc::new(akida_simulator::SimBoard::open(&akida_simulator::SimSpec::new(BOARDS[0])).expect("a board"));
    let device = akida_hal::device::Device::open(board, Default::default()).expect("a device");
    let options =
        SessionOptions { map: MapOptions { hw_only: true, ..MapOptions::default() }, ..SessionOptions::default() };
    let error = HybridSession::open(network, &akida_converter::host::OnnxEngine, device, &options).err();
    let Some(HybridError::HostOperations { operations }) = error else { panic!("not refused: {error:?}") };
    assert!(operations.iter().any(|o| o.contains("(Sigmoid)")), "{operations:?}");
    assert!(operations.iter().any(|o| o.contains("(Mul)")), "{operations:?}");
}

/// Whatever the size of the batch, one program after another on one board: the same results.
#[test]
fn parts_take_turns_on_one_board() {
    let row = &ROWS[7];
    let graph = build(row, 3);
    let network = convert(&graph, Net::samples(&row.input, 12, 5).view(), &QuantizeOptions::default());
    let network = Arc::new(network.expect("a network"));
    let mut session = open(BOARDS[0], &network, &SessionOptions::default());
    let inputs = Net::samples(&row.input, 5, 9);
    let mut infer = |batch: ndarray::ArrayViewD<'_, f32>| {
        session
            .infer(akida_runtime::session::Batch::Float(batch), akida_runtime::session::Detail::Outputs)
            .expect("results")
    };
    let all = infer(inputs.view());
    let boards = |outputs: &akida_runtime::hybrid::HybridOutputs| {
        let programmed = outputs.parts.iter().filter_map(|part| match part {
            PartResults::Board { outputs, .. } => Some(outputs.statistics.sequences.iter().map(|s| s.programmed).sum()),
            PartResults::Host { .. } => None,
        });
        programmed.collect::<Vec<usize>>()
    };
    assert_eq!(boards(&all), [1, 1, 1], "each part is programmed once for a batch");
    for (n, sample) in inputs.axis_iter(ndarray::Axis(0)).enumerate() {
        let one = infer(sample.insert_axis(ndarray::Axis(0)));
        let whole = all.outputs[0].to_floats();
        assert_eq!(
            one.outputs[0].to_floats().iter().collect::<Vec<_>>(),
            whole.index_axis(ndarray::Axis(0), n).iter().collect::<Vec<_>>()
        );
    }
}
