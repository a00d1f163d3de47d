//! Accuracy of Akida 2.0 with weights and activations of 8 and 4 bits on a simulated six-node board: the table of
//! docs/converter.md. `cargo run --release -p akida-tests --example akida2-bits [NET...]`

use std::path::PathBuf;
use std::sync::Arc;

use akida_converter::calibrate::Calibration;
use akida_converter::convert;
use akida_converter::quantize::QuantizeOptions;
use akida_hal::device::{Device, DeviceOptions};
use akida_runtime::session::{Batch, Session, SessionOptions};
use akida_simulator::{Model as BoardModel, SimBoard, SimSpec};
use akida_tests::akida1_nets::{correct, net};
use akida_tests::conformance::Case;
use ndarray::ArrayD;

/// A float network with digits.
struct Digits {
    name: String,
    model: PathBuf,
    per_tensor: bool,
    calibration: ArrayD<f32>,
    samples: ArrayD<f32>,
    labels: Vec<usize>,
    /// Correct answers of the float network, where they are stored.
    float: Option<usize>,
}

/// Cases of the conformance data.
fn case(name: &str) -> Digits {
    let case = Case::find(name).unwrap_or_else(|| panic!("{name} is missing"));
    let inputs = case.npz("inputs.npz").unwrap_or_else(|| panic!("{name}: no inputs"));
    let labels: Vec<usize> = { inputs }.integers("labels").iter().map(|&label| label as usize).collect();
    let float = case.npz("float_outputs.npz").map(|mut npz| correct(&npz.floats("out0"), &labels));
    Digits {
        name: name.to_owned(),
        model: case.path(case.json["model_file"].as_str().unwrap_or("model.onnx")),
        per_tensor: case.json["quantization_params"]["per_tensor_activations"] == true,
        calibration: case.calibration(),
        samples: case.inputs(),
        labels,
        float,
    }
}

/// Networks that were trained for Akida 1.0.
fn trained(name: &str) -> Vec<Digits> {
    let net = net(name);
    let digits = |test: &akida_tests::akida1_nets::Test| Digits {
        name: format!("{name} {}", test.name),
        model: net.model.clone(),
        per_tensor: false,
        calibration: net.calibration.clone(),
        samples: test.samples.clone(),
        labels: test.labels.clone(),
        float: Some(net.float(test.name)),
    };
    net.tests.iter().map(digits).collect()
}

/// None when a part of the network stays float: its answers are then not those of the model.
fn on_board(digits: &Digits, bits: &str) -> Result<Option<usize>, Box<dyn std::error::Error>> {
    let options = QuantizeOptions { bits: bits.parse()?, per_tensor: digits.per_tensor, ..QuantizeOptions::default() };
    let calibration = Calibration::Samples(digits.calibration.view());
    let converted = convert(&digits.model, &calibration, &options, &mut |_, _| {})?;
    let Some(model) = converted.network.whole().cloned() else {
        return Ok(None);
    };
    let device =
        Device::open(Arc::new(SimBoard::open(&SimSpec::new(BoardModel::Akida2SixNodes))?), DeviceOptions::default())?;
    let mut session = Session::open(Arc::new(model), device, SessionOptions::default())?;
    let outputs = session.infer(Batch::Float(digits.samples.view()))?;
    Ok(Some(correct(&outputs.floats[0], &digits.labels)))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let asked: Vec<String> = std::env::args().skip(1).collect();
    let cases = ["mnist_cnn", "mnist_cnn_per_tensor", "lenet5", "digits_pretrained"].into_iter().map(case);
    let trained = ["vgg_mnist", "vgg_digits8", "dscnn_mnist"].into_iter().flat_map(trained);
    println!("| network | images | float | 8/8 | 4/8 | 8/4 | 4/4 |");
    println!("|---|---|---|---|---|---|---|");
    for digits in cases.chain(trained) {
        if !asked.is_empty() && !asked.iter().any(|name| digits.name.starts_with(name.as_str())) {
            continue;
        }
        let float = digits.float.map_or("-".to_owned(), |count| count.to_string());
        let mut line = format!("| {} | {} | {float} |", digits.name, digits.labels.len());
        for bits in ["8/8", "4/8", "8/4", "4/4"] {
            line += &on_board(&digits, bits)?.map_or(" float tail |".to_owned(), |count| format!(" {count} |"));
        }
        println!("{line}");
    }
    Ok(())
}
