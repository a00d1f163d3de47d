//! What the reference converts wrongly, or not at all (quantization.md 9.1), and kernels, pads and strides of every shape:
//! each case works, and is right against the float network and in every integer, on the reference arithmetic and on two
//! simulated boards; or it is refused with rule, limit, value and remedy. One row a case; docs/converter.md has the table.

use std::sync::Arc;

use akida_converter::onnx::{Attribute, Graph, Tensor};
use akida_converter::quantize::{InputType, QuantizeOptions};
use akida_simulator::Model as BoardModel;

use crate::support::float_nets::Net;
use crate::support::networks::{convert, float_outputs, run, same_integers, sqnr};

/// How a case ends.
enum Expect {
    /// All of it in board parts, with at least so many dB against the float network.
    Board(f64),
    /// The same with this operator on the host.
    Host(f64, &'static str),
    /// Refused, with all of these in the message.
    Refused(&'static [&'static str]),
}
use Expect::{Board, Host, Refused};

struct Row {
    /// Number in quantization.md 9.1; 0 for shapes.
    defect: u32,
    name: &'static str,
    input: &'static [usize],
    signed: bool,
    make: fn(&mut Net) -> String,
    expect: Expect,
}

const fn row(defect: u32, name: &'static str, make: fn(&mut Net) -> String, expect: Expect) -> Row {
    Row { defect, name, input: &[3, 16, 16], signed: false, make, expect }
}

const fn on(row: Row, input: &'static [usize], signed: bool) -> Row {
    Row { input, signed, ..row }
}

const ROWS: &[Row] = &[
    row(1, "depthwise, max pool, Relu, dense", depthwise_max, Board(20.0)),
    row(1, "depthwise, Relu, global average, dense", depthwise_average, Board(20.0)),
    row(2, "valid convolution with max pool", valid_pool, Board(20.0)),
    row(3, "max pool 3x3/2 padded, even map", padded_pool, Board(20.0)),
    row(4, "normalized, padded first convolution, uint8", normalized, Board(20.0)),
    on(row(4, "the same with int8", normalized, Refused(&["padding", "int8", "uint8"])), &[3, 16, 16], true),
    on(row(5, "first convolution of 2 channels, uint8", first_of_two, Board(20.0)), &[2, 16, 16], false),
    on(row(5, "the same with int8", first_of_two, Board(20.0)), &[2, 16, 16], true),
    on(
        row(5, "dense first layer, uint8", first_dense, Refused(&["uint8", "Gemm", "--input-dtype int8"])),
        &[24],
        false,
    ),
    on(row(5, "dense first layer, int8", first_dense, Board(20.0)), &[24], true),
    on(row(5, "depthwise first layer, uint8", first_depthwise, Refused(&["uint8", "group 3"])), &[3, 16, 16], false),
    on(row(5, "depthwise first layer, int8", first_depthwise, Board(20.0)), &[3, 16, 16], true),
    on(
        row(5, "transposed first layer, uint8", first_transposed, Refused(&["uint8", "ConvTranspose"])),
        &[3, 8, 8],
        false,
    ),
    on(row(5, "transposed first layer, int8", first_transposed, Board(20.0)), &[3, 8, 8], true),
    row(8, "Clip at every power of two", clips, Board(20.0)),
    row(9, "filters that never fire", dead, Board(20.0)),
    row(10, "weights far below the smallest amplitude", tiny, Refused(&["amplitude", "Scale"])),
    row(11, "depthwise transposed convolution", depthwise_transposed, Board(18.0)),
    row(12, "concatenation of unlike ranges", concat, Board(20.0)),
    on(row(18, "Conv3d with attribute kernel_shape", conv3d, Board(20.0)), &[3, 1, 16, 16], false),
    on(
        row(
            18,
            "Conv3d over space and time at once",
            conv3d_mixed,
            Refused(&["space and time", "[8, 3, 3, 3, 3]", "(2+1)D"]),
        ),
        &[3, 4, 8, 8],
        false,
    ),
    row(19, "Flatten of a map with a range per channel", flatten, Board(20.0)),
    row(20, "Gemm with alpha 0.5", gemm_alpha, Host(20.0, "Gemm")),
    row(20, "Clip from -1", clip_from, Host(20.0, "Clip")),
    row(0, "kernel 3x5", |n| shape(n, [3, 5], [1, 1], [1, 2, 1, 2]), Board(20.0)),
    row(0, "kernel 5x1", |n| shape(n, [5, 1], [1, 1], [2, 0, 2, 0]), Board(20.0)),
    row(0, "kernel 1x7", |n| shape(n, [1, 7], [1, 1], [0, 3, 0, 3]), Board(20.0)),
    row(0, "kernel 4x4", |n| shape(n, [4, 4], [1, 1], [1, 1, 2, 2]), Board(20.0)),
    row(0, "pads 0,1,2,1", |n| shape(n, [3, 3], [1, 1], [0, 1, 2, 1]), Board(20.0)),
    row(0, "pads 2,2,0,0", |n| shape(n, [3, 3], [1, 1], [2, 2, 0, 0]), Board(20.0)),
    row(0, "strides 2,1", |n| shape(n, [3, 3], [2, 1], [1, 1, 1, 1]), Board(20.0)),
    row(0, "strides 1,3", |n| shape(n, [3, 3], [1, 3], [1, 1, 1, 1]), Board(20.0)),
    row(0, "stride 3", |n| shape(n, [3, 3], [3, 3], [0, 0, 0, 0]), Board(20.0)),
    row(0, "max pool 2x1", |n| pool(n, [2, 1], [2, 1]), Board(20.0)),
    row(0, "max pool 3x2, strides 1,2", |n| pool(n, [3, 2], [1, 2]), Board(20.0)),
    row(0, "dilation 2", dilated, Host(20.0, "Conv")),
    row(0, "grouped convolution", grouped, Host(20.0, "Conv")),
];

fn ints(values: &[i64]) -> Attribute {
    Attribute::Ints(values.to_vec())
}

fn start(net: &mut Net) -> String {
    net.block("x", [3, 8], 1)
}

fn depthwise(net: &mut Net, x: &str, channels: usize) -> String {
    let (w, b) = (net.weights(&[channels, 1, 3, 3], 0.6), net.weights(&[channels], 0.2));
    net.node("Conv", &[x, &w, &b], &[("group", (channels as i64).into()), ("pads", ints(&[1; 4]))])
}

fn max_pool(net: &mut Net, x: &str, size: [i64; 2], stride: [i64; 2], pads: [i64; 4]) -> String {
    net.node("MaxPool", &[x], &[("kernel_shape", ints(&size)), ("strides", ints(&stride)), ("pads", ints(&pads))])
}

fn relu(net: &mut Net, x: &str) -> String {
    net.node("Relu", &[x], &[])
}

fn flat_dense(net: &mut Net, x: &str, inputs: usize) -> String {
    let x = net.node("Flatten", &[x], &[("axis", 1.into())]);
    net.dense(&x, inputs, 5)
}

fn depthwise_max(net: &mut Net) -> String {
    let y = start(net);
    let y = depthwise(net, &y, 8);
    let y = max_pool(net, &y, [2, 2], [2, 2], [0; 4]);
    let y = relu(net, &y);
    flat_dense(net, &y, 8 * 8 * 8)
}

fn depthwise_average(net: &mut Net) -> String {
    let y = start(net);
    let y = depthwise(net, &y, 8);
    let y = relu(net, &y);
    net.head(&y, 8, 5)
}

fn valid_pool(net: &mut Net) -> String {
    let y = start(net);
    let y = net.conv(&y, [8, 8], [3, 3], [1, 1], [0; 4]);
    let y = max_pool(net, &y, [2, 2], [2, 2], [0; 4]);
    let y = relu(net, &y);
    flat_dense(net, &y, 8 * 7 * 7)
}

fn padded_pool(net: &mut Net) -> String {
    let y = start(net);
    let y = net.conv(&y, [8, 8], [3, 3], [1, 1], [1; 4]);
    let y = max_pool(net, &y, [3, 3], [2, 2], [1; 4]);
    let y = relu(net, &y);
    flat_dense(net, &y, 8 * 8 * 8)
}

fn normalized(net: &mut Net) -> String {
    let (mean, scale) =
        (net.constant(Tensor::new([1, 3, 1, 1], &[0.4f32, 0.2, 0.6])), net.constant(Tensor::scalar(2f32)));
    let y = net.node("Sub", &["x", &mean], &[]);
    let y = net.node("Mul", &[&y, &scale], &[]);
    let y = net.block(&y, [3, 8], 1);
    net.block(&y, [8, 8], 2)
}

fn first_of_two(net: &mut Net) -> String {
    let y = net.block("x", [2, 8], 2);
    net.block(&y, [8, 8], 1)
}

fn first_dense(net: &mut Net) -> String {
    let y = net.dense("x", 24, 16);
    let y = relu(net, &y);
    net.dense(&y, 16, 5)
}

fn first_depthwise(net: &mut Net) -> String {
    let y = depthwise(net, "x", 3);
    let y = relu(net, &y);
    net.block(&y, [3, 8], 2)
}

fn transposed(net: &mut Net, x: &str, [channels, filters]: [usize; 2], group: i64) -> String {
    let (w, b) = (net.weights(&[channels, filters, 3, 3], 0.5), net.weights(&[filters * group as usize], 0.2));
    let attributes = [
        ("strides", ints(&[2, 2])),
        ("pads", ints(&[0, 0, 1, 1])),
        ("kernel_shape", ints(&[3, 3])),
        ("group", group.into()),
    ];
    net.node("ConvTranspose", &[x, &w, &b], &attributes)
}

fn first_transposed(net: &mut Net) -> String {
    let y = transposed(net, "x", [3, 8], 1);
    let y = relu(net, &y);
    net.block(&y, [8, 8], 1)
}

fn clips(net: &mut Net) -> String {
    let mut y = start(net);
    for maximum in [4f32, 2.0, 1.0, 0.996, 0.5] {
        let (low, high) = (net.constant(Tensor::scalar(0f32)), net.constant(Tensor::scalar(maximum)));
        y = net.conv(&y, [8, 8], [3, 3], [1, 1], [1; 4]);
        y = net.node("Clip", &[&y, &low, &high], &[]);
    }
    net.head(&y, 8, 5)
}

fn dead(net: &mut Net) -> String {
    let y = start(net);
    let y = net.conv(&y, [8, 8], [3, 3], [1, 1], [1; 4]);
    let node = net.graph.nodes.last().expect("just made").clone();
    let bias = net.graph.initializers.get_mut(&node.inputs[2]).expect("a bias");
    *bias = Tensor::new([8], &[-1e6f32, 0.1, -1e6, 0.2, 0.0, 0.1, -1e6, 0.3]);
    let y = relu(net, &y);
    net.head(&y, 8, 5)
}

fn tiny(net: &mut Net) -> String {
    let y = start(net);
    let w = net.weights(&[8, 8, 3, 3], 1e-9);
    let y = net.node("Conv", &[&y, &w], &[("pads", ints(&[1; 4]))]);
    relu(net, &y)
}

fn depthwise_transposed(net: &mut Net) -> String {
    let y = net.block("x", [3, 8], 2);
    let y = transposed(net, &y, [8, 1], 8);
    let y = relu(net, &y);
    net.block(&y, [8, 8], 1)
}

fn concat(net: &mut Net) -> String {
    let y = start(net);
    let a = net.block(&y, [8, 8], 1);
    let b = net.block(&y, [8, 4], 1);
    let y = net.node("Concat", &[&a, &b], &[("axis", 1.into())]);
    net.block(&y, [12, 8], 1)
}

fn conv3d(net: &mut Net) -> String {
    let (w, b) = (net.weights(&[8, 3, 1, 3, 3], 0.5), net.weights(&[8], 0.2));
    let attributes =
        [("kernel_shape", ints(&[1, 3, 3])), ("pads", ints(&[0, 1, 1, 0, 1, 1])), ("strides", ints(&[1, 1, 1]))];
    let y = net.node("Conv", &["x", &w, &b], &attributes);
    relu(net, &y)
}

fn conv3d_mixed(net: &mut Net) -> String {
    let (w, b) = (net.weights(&[8, 3, 3, 3, 3], 0.5), net.weights(&[8], 0.2));
    let attributes = [("kernel_shape", ints(&[3, 3, 3])), ("pads", ints(&[1; 6])), ("strides", ints(&[1, 1, 1]))];
    let y = net.node("Conv", &["x", &w, &b], &attributes);
    relu(net, &y)
}

fn flatten(net: &mut Net) -> String {
    let y = net.block("x", [3, 8], 2);
    flat_dense(net, &y, 8 * 8 * 8)
}

fn gemm_alpha(net: &mut Net) -> String {
    let y = net.block("x", [3, 8], 2);
    let y = net.node("GlobalAveragePool", &[&y], &[]);
    let y = net.node("Flatten", &[&y], &[("axis", 1.into())]);
    let (w, b) = (net.weights(&[5, 8], 0.6), net.weights(&[5], 0.2));
    net.node("Gemm", &[&y, &w, &b], &[("transB", 1.into()), ("alpha", 0.5f32.into())])
}

fn clip_from(net: &mut Net) -> String {
    let y = start(net);
    let y = net.conv(&y, [8, 8], [3, 3], [1, 1], [1; 4]);
    let (low, high) = (net.constant(Tensor::scalar(-1f32)), net.constant(Tensor::scalar(1f32)));
    let y = net.node("Clip", &[&y, &low, &high], &[]);
    net.block(&y, [8, 8], 2)
}

fn shape(net: &mut Net, kernel: [usize; 2], stride: [i64; 2], pads: [i64; 4]) -> String {
    let y = start(net);
    let y = net.conv(&y, [8, 8], kernel, stride, pads);
    let y = relu(net, &y);
    net.block(&y, [8, 6], 1)
}

fn pool(net: &mut Net, size: [i64; 2], stride: [i64; 2]) -> String {
    let y = start(net);
    let y = net.conv(&y, [8, 8], [3, 3], [1, 1], [1; 4]);
    let y = max_pool(net, &y, size, stride, [0; 4]);
    let y = relu(net, &y);
    net.block(&y, [8, 6], 1)
}

fn dilated(net: &mut Net) -> String {
    let y = start(net);
    let w = net.weights(&[8, 8, 3, 3], 0.3);
    let y = net.node("Conv", &[&y, &w], &[("pads", ints(&[2; 4])), ("dilations", ints(&[2, 2]))]);
    let y = relu(net, &y);
    net.block(&y, [8, 6], 1)
}

fn grouped(net: &mut Net) -> String {
    let y = start(net);
    let w = net.weights(&[8, 4, 3, 3], 0.4);
    let y = net.node("Conv", &[&y, &w], &[("pads", ints(&[1; 4])), ("group", 2.into())]);
    let y = relu(net, &y);
    net.block(&y, [8, 6], 1)
}

fn build(row: &Row) -> Graph {
    let mut net = Net::new(row.name, 23, row.input);
    let output = (row.make)(&mut net);
    net.done(&[&output])
}

/// A network of convolutions over one frame, as one without time.
fn without_time(mut graph: Graph) -> Graph {
    if let Some(shape) = &mut graph.inputs[0].ty.shape {
        shape.remove(2);
    }
    for node in graph.nodes.iter_mut().filter(|node| node.op == "Conv") {
        let weights = &mut graph.initializers[&node.inputs[1]];
        let dims = weights.dims().to_vec();
        *weights = weights.reshaped([dims[0], dims[1], dims[3], dims[4]]).expect("kernels of one frame");
        for (name, kept) in
            [("strides", &[1, 2][..]), ("dilations", &[1, 2]), ("kernel_shape", &[1, 2]), ("pads", &[1, 2, 4, 5])]
        {
            if let Some(values) = node.ints(name).map(<[i64]>::to_vec) {
                node.attributes.insert(name.to_owned(), ints(&kept.iter().map(|&n| values[n]).collect::<Vec<_>>()));
            }
        }
    }
    graph
}

fn check(row: &Row) -> Result<String, String> {
    let graph = build(row);
    let input_dtype = if row.signed { InputType::I8 } else { InputType::U8 };
    let options = QuantizeOptions { input_dtype, ..QuantizeOptions::default() };
    let samples = Net::samples(row.input, 24, 5);
    let converted = convert(&graph, samples.view(), &options);
    let (db, host) = match (&row.expect, converted) {
        (Refused(words), Err(error)) => {
            let text = error.to_string();
            return match words.iter().find(|word| !text.contains(**word)) {
                None => Ok(format!("refused: {text}")),
                Some(word) => Err(format!("the refusal does not say {word:?}: {text}")),
            };
        }
        (Refused(_), Ok(_)) => return Err("is not refused".into()),
        (_, Err(error)) => return Err(format!("is refused: {error}")),
        (Board(db), Ok(network)) => ((*db, network), None),
        (Host(db, op), Ok(network)) => ((*db, network), Some(*op)),
    };
    let (least, network) = db;
    let operations: Vec<&str> = network.segments().flat_map(|(_, s)| &s.operations).map(|o| o.op.as_str()).collect();
    match host {
        None if !operations.is_empty() => return Err(format!("{operations:?} are on the host")),
        Some(op) if !operations.contains(&op) => return Err(format!("{op} is not on the host: {operations:?}")),
        _ => {}
    }
    let network = Arc::new(network);
    let inputs = Net::samples(row.input, 4, 77);
    let expected = match row.input.len() {
        // The float runtime has no convolution over time: the same network without that axis.
        4 => {
            let one_frame = inputs.clone().index_axis_move(ndarray::Axis(2), 0);
            float_outputs(&without_time(graph), one_frame.view())
        }
        _ => float_outputs(&graph, inputs.view()),
    };
    let dims: Vec<usize> = [4].iter().chain(&network.input.dims[1..]).copied().collect();
    let inputs = inputs.into_shape_with_order(dims).map_err(|e| e.to_string())?;
    let mut worst = f64::INFINITY;
    for board in [BoardModel::Akida2SixNodes, BoardModel::Akida2TwoNodes] {
        let found = run(board, &network, inputs.view());
        if same_integers(&network, inputs.view(), &found) == 0 {
            return Err("no integers were compared".into());
        }
        let values = found.outputs[0].to_floats();
        let values = values.clone().into_shape_with_order(expected[0].shape()).map_err(|e| e.to_string())?;
        worst = worst.min(sqnr(&expected[0], &values));
    }
    match worst >= least {
        true => Ok(format!("{worst:.1} dB{}", host.map_or(String::new(), |op| format!(", {op} on the host")))),
        false => Err(format!("{worst:.1} dB, at least {least} are wanted")),
    }
}

#[test]
fn every_case_is_right_or_refused() {
    let mut wrong = Vec::new();
    for row in ROWS {
        let outcome = check(row);
        println!("{:>3} {:45} {outcome:?}", row.defect, row.name);
        if let Err(error) = outcome {
            wrong.push(format!("{}: {error}", row.name));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
