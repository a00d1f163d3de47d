//! Graphs and options that cannot be quantized, or only in part: each gives its reason, and names the place.

mod support;

use akida_converter::calibrate::Calibration;
use akida_converter::onnx;
use akida_converter::quantize::{InputType, QuantizeOptions};
use akida_converter::{Quantized, quantize};
use serde_json::Value;

/// What we make of a case.
enum Outcome {
    /// Refused; the error contains this.
    Refused(&'static str),
    /// Quantized in part; a warning contains this.
    Partial(&'static str),
    /// Quantized as a whole.
    Accepted,
}
use Outcome::*;

/// The cases, and where we differ from the reference why.
const CASES: [(&str, Outcome); 31] = [
    // There are no options for other widths here, so nothing has to be refused.
    ("bits_4_4_8", Accepted),
    ("bits_8_4_8", Accepted),
    ("output_bits_4", Accepted),
    ("buffer_bits_24", Accepted),
    ("last_output_bits_4", Refused("option --last-output-bits")),
    ("dynamic_spatial", Refused("input 'inputs' has open dimensions (N, 3, H, W)")),
    ("wrong_channels", Refused("node 'Conv_1' (Conv): input of 4 channels, the kernel takes 3")),
    ("two_inputs", Refused("2 inputs (inputs, other)")),
    ("avgpool_first", Refused("node 'AveragePool_1' (AveragePool)")),
    ("dilated_conv_first", Refused("dilations [2, 2]")),
    ("group2_conv", Partial("'Conv_3' (Conv), 'Relu_4' (Relu) cannot become a layer of integers")),
    ("depthwise_first_uint8", Refused("node 'Conv_1' (Conv): the first layer on a uint8 input")),
    ("gemm_first_uint8", Refused("node 'Gemm_1' (Gemm): the first layer on a uint8 input")),
    // Stored is the float model; `a_quantized_graph_is_refused` quantizes the result again.
    ("already_quantized", Accepted),
    // A convolution of integers is not ONNX: the reference computes one by chance.
    ("int64_input", Refused("input 'inputs' has type INT64")),
    ("until_unknown", Refused("'nope'")),
    ("pad_constant_nonzero", Refused("node 'Pad_1' (Pad)")),
    ("clip_negative_min", Refused("the minimum of a Clip must be 0: -1")),
    ("sigmoid_between", Partial("'Sigmoid_4' (Sigmoid), 'Conv_5' (Conv) stay in floating point")),
    ("convtranspose_output_padding", Partial("output_padding: [1, 1]")),
    ("concat_axis2", Partial("axis 1: axis 2")),
    ("mul_two_tensors", Partial("'Mul_6' (Mul)")),
    ("resize_linear", Partial("'Resize_3' (Resize)")),
    ("constant_input_range", Refused("tensor 'inputs': channel 0 of the model's input ranges from 0.5 to 0.5")),
    ("inf_weights", Refused("node 'Conv_1' (Conv): weights must be finite: 'w0'")),
    ("zero_filter", Accepted),
    ("conv1d", Refused("must have 4 dimensions: [8, 4, 3]")),
    ("lstm", Refused("(LSTM)")),
    ("opset_99", Refused("version 99: versions 7 to 25 are supported")),
    ("custom_domain_op", Refused("node 'm' (org.example:Magic)")),
    ("matmul_only_int8", Accepted),
];

fn run(case: &Value) -> Result<Quantized, String> {
    let dir = support::data().join("negative").join(case["name"].as_str().unwrap());
    let parameters = &case["quantization_params"];
    let options = QuantizeOptions {
        input_dtype: if parameters["input_dtype"] == "int8" { InputType::I8 } else { InputType::U8 },
        last_output_bits: parameters["last_output_bits"].as_u64().map(|bits| bits as u32),
        quantize_until: case["quantize_kwargs"]["quantize_until"].as_str().map(str::to_owned),
        ..QuantizeOptions::default()
    };
    let graph = onnx::load(&dir.join("model.onnx")).map_err(|e| e.to_string())?;
    let samples = support::array(&dir.join("samples.npz"));
    let calibration = match &samples {
        Some(samples) => Calibration::Samples(samples.view()),
        None => Calibration::Random(2),
    };
    quantize(graph, &calibration, &options, &mut |_, _| {}).map_err(|e| e.to_string())
}

fn manifest() -> Vec<Value> {
    let text = std::fs::read_to_string(support::data().join("negative/manifest.json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()["cases"].as_array().unwrap().clone()
}

#[test]
fn every_case_gives_its_reason() {
    let manifest = manifest();
    assert_eq!(manifest.len(), CASES.len());
    for case in &manifest {
        let name = case["name"].as_str().unwrap();
        let (_, expected) = CASES.iter().find(|(known, _)| *known == name).unwrap();
        let ops = |quantized: &Quantized| -> Vec<String> {
            let integer = |node: &&onnx::Node| node.domain == onnx::BRAINCHIP;
            quantized.graph.nodes.iter().filter(integer).map(|node| node.op.clone()).collect()
        };
        match (run(case), expected) {
            (Err(error), Refused(text)) => assert!(error.contains(text), "{name}: {error}"),
            (Ok(quantized), Partial(text)) => {
                let warnings: Vec<String> = quantized.warnings.iter().map(ToString::to_string).collect();
                assert!(warnings.iter().any(|warning| warning.contains(text)), "{name}: {warnings:?}");
                let theirs: Vec<String> = serde_json::from_value(case["quantizeml"]["quantized_ops"].clone()).unwrap();
                assert_eq!(ops(&quantized), theirs, "{name}");
            }
            (Ok(quantized), Accepted) => {
                assert!(quantized.warnings.is_empty(), "{name}: {:?}", quantized.warnings);
                if let Ok(theirs) = serde_json::from_value::<Vec<String>>(case["quantizeml"]["quantized_ops"].clone()) {
                    assert_eq!(ops(&quantized), theirs, "{name}");
                }
            }
            (Ok(_), _) => panic!("{name} was quantized"),
            (Err(error), _) => panic!("{name}: {error}"),
        }
    }
}

#[test]
fn a_quantized_graph_is_refused() {
    let cases = manifest();
    let case = cases.iter().find(|case| case["name"] == "already_quantized").unwrap();
    let quantized = run(case).unwrap();
    let again = quantize(quantized.graph, &Calibration::Random(1), &QuantizeOptions::default(), &mut |_, _| {});
    let error = again.unwrap_err().to_string();
    assert!(error.contains("node 'quantize' (InputQuantizer)") && error.contains("import"), "{error}");
}
