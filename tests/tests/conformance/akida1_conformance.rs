//! Float networks of the conformance set on Akida 1.0, from ONNX to both simulated chips: what runs on the hardware
//! alone gives the integers of the reference and stays near the float network; what does not is refused by its rule.

use std::sync::Arc;

use akida_converter::ConvertError;
use akida_converter::akida1::{Note, Options, Quantized, convert};
use akida_hal::device::{Device, DeviceOptions};
use akida_runtime::mapping::MapOptions;
use akida_runtime::model::{Model, Target};
use akida_runtime::reference::{Reference, Rules};
use akida_runtime::session::{Batch, Session, SessionError, SessionOptions};
use akida_simulator::{Model as BoardModel, SimBoard, SimSpec};
use akida_tests::conformance::Case;
use ndarray::{ArrayD, Axis};

/// Quantized with at most 16 samples, as far as tensor `until` or the output.
fn quantize(case: &Case, target: Target, until: Option<&str>) -> Result<Quantized, ConvertError> {
    let samples = if case.path("calib.npz").exists() { case.calibration() } else { case.inputs() };
    let count = samples.shape()[0].min(16);
    let samples = samples.slice_axis(Axis(0), (0..count).into());
    let options = Options { until: until.map(str::to_owned), ..Options::new(target) };
    convert(&case.path("model.onnx"), samples, &options, &mut |_, _| {})
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

/// A network that the chips hold.
struct Network {
    case: &'static str,
    /// Tensor to end at, where the rest of the network is a function that no layer computes.
    until: Option<&'static str>,
    /// Whether it is turned by 180 degrees for the padding of the chips.
    turned: bool,
}

const fn network(case: &'static str) -> Network {
    Network { case, until: None, turned: false }
}

/// Cosine with the float outputs, at least, at 8/4/4 from 16 samples.
const NEAR: f64 = 0.99;

/// All layers on both chips, hardware only: integers those of the reference, outputs near the float network's.
fn run_on_the_hardware(network: &Network, boards: &[(Target, BoardModel)]) {
    let Network { case: name, until, turned } = *network;
    let case = Case::find(name).unwrap_or_else(|| panic!("{name} is missing"));
    let samples = case.inputs();
    let samples = samples.slice_axis(Axis(0), (0..samples.shape()[0].min(3)).into()).to_owned();
    for &(target, board) in boards {
        let Quantized { model, notes, .. } =
            quantize(&case, target, until).unwrap_or_else(|e| panic!("{name} for {target}: {e}"));
        assert_eq!(notes.iter().any(|note| matches!(note, Note::Turned { .. })), turned, "{name}");
        assert_eq!(model.input.layout.is_turned(), turned, "{name}");
        let bytes = akida_runtime::edge::quantize_input(&model, samples.view()).expect("samples of the model");
        let mut reference = Reference::new(&model, Rules::Chip);
        let last = model.outputs[0].tensor;
        let shape = model.tensor(last).shape;
        let layout = model.input.layout;
        let run = |bytes: &Vec<u8>| layout.to_onnx(&reference.run(bytes).expect("a sample")[last], shape);
        let expected: Vec<Vec<i32>> = bytes.iter().map(run).collect();
        let mut session = open(model, board).unwrap_or_else(|e| panic!("{name} on {board:?}: {e}"));
        let outputs =
            session.infer(Batch::Float(samples.view())).unwrap_or_else(|e| panic!("{name} on {board:?}: {e}"));
        for (sample, (found, expected)) in outputs.raw[0].outer_iter().zip(&expected).enumerate() {
            assert!(found.iter().eq(expected), "{name} on {board:?}, sample {sample}");
        }
        // The float outputs are those of the whole network.
        if until.is_some() {
            continue;
        }
        let float = case.npz("float_outputs.npz").expect("float outputs").floats("out0");
        let float = float.slice_axis(Axis(0), (0..samples.shape()[0]).into()).to_owned();
        let near = cosine(&outputs.floats[0], &float);
        println!("{name} on {board:?}: cosine {near:.4}");
        assert!(near >= NEAR, "{name} on {board:?}: cosine {near} with the float network");
    }
}

const BOTH: [(Target, BoardModel); 2] =
    [(Target::Akd1000, BoardModel::Akd1000), (Target::Akd1500, BoardModel::Akd1500)];

#[test]
fn small_networks_run_on_the_hardware() {
    for network in [
        // Keyword spotting; its Softmax is no layer.
        Network { until: Some("ds_cnn_kws/dense_5/MatMul:0"), ..network("akida_ds_cnn_kws") },
        network("akida_vgg_utk_face"),
        network("bn_unfolded"),
        network("digits_pretrained"),
        network("lenet5"),
        network("mnist_cnn"),
        network("nhwc_input"),
        // 5x5 with stride 2, in two layers.
        network("pad_inner"),
        network("uint8_graph_input"),
    ] {
        run_on_the_hardware(&network, &BOTH);
    }
}

#[test]
fn mobilenets_and_akidanet_run_on_the_hardware() {
    run_on_the_hardware(&network("akida_mobilenet_025"), &BOTH);
    run_on_the_hardware(&Network { turned: true, ..network("mobilenet_v1_025") }, &BOTH);
    // It takes as long as all others together; one chip is enough for it.
    run_on_the_hardware(&network("akidanet_05_160"), &BOTH[..1]);
}

/// What is no chain of layers, or has none of Akida 1.0's functions, is refused before anything is quantized: the node and
/// what to do are named.
#[test]
fn other_networks_are_refused_by_name() {
    for (name, node, remedy) in [
        ("resnet8", "/1/Add", "remove the branch"),
        ("branches", "/a/a.0/Conv", "remove the branch"),
        ("unet_small", "/Concat_1", "remove the branch"),
        ("unet_upsample", "/Concat_1", "remove the branch"),
        ("yolo_two_heads", "/heads.0/heads.0.0/heads.0.0.0/Conv", "remove the branch"),
        ("act_lut", "/1/Mul_1_output_0", "--quantize-until"),
        ("temporal_conv", "conv3d_1", "--quantize-until"),
        ("partial_avgpool", "/4/AveragePool", "--quantize-until"),
        ("partial_softmax", "/Softmax", "--quantize-until"),
        ("conv_zoo", "node_Flatten_1", "--quantize-until"),
        ("norm_in_graph", "node_BRNPad_0", "by one mean"),
        ("even_kernels", "node_Conv_0", "Put a ReLU"),
        ("mlp", "inputs", "feed values that are not negative"),
    ] {
        let case = Case::find(name).unwrap_or_else(|| panic!("{name} is missing"));
        let error = quantize(&case, Target::Akd1000, None).err().unwrap_or_else(|| panic!("{name} was not refused"));
        let text = error.to_string();
        assert!(text.contains(node), "{name}: {text}");
        assert!(text.contains(remedy), "{name}: {text}");
    }
}

/// What no exact rewriting makes a layer of the tables is refused by the mapper, with rule and value.
#[test]
fn what_the_chip_cannot_lay_is_refused_by_its_rule() {
    for (name, rule, value) in
        [("ds_cnn_kws", "akida1.input_conv.kernel", "10x4"), ("ds_cnn_kws_int8", "akida1.input_conv.kernel", "10x4")]
    {
        let case = Case::find(name).unwrap_or_else(|| panic!("{name} is missing"));
        let Quantized { model, .. } = quantize(&case, Target::Akd1000, None).unwrap_or_else(|e| panic!("{name}: {e}"));
        let error = open(model, BoardModel::Akd1000).err().unwrap_or_else(|| panic!("{name} was not refused"));
        let text = format!("{error}: {:?}", std::error::Error::source(&error));
        assert!(text.contains(rule) && text.contains(value), "{name}: {text}");
    }
}
