//! Quantization with ranges observed here: nearly all integers equal, none off by more than one.

mod support;

use akida_converter::calibrate::{Calibration, load_ranges};
use akida_converter::onnx::{self, DType, Graph, Tensor};
use akida_converter::{convert, quantize};
use support::{Case, samples};

/// Integers of a tensor; scales are not among them.
fn integers(tensor: &Tensor) -> Vec<i64> {
    let wide = |values: Vec<i32>| values.into_iter().map(i64::from).collect();
    match tensor.dtype() {
        DType::I8 => tensor.values::<i8>("").unwrap().into_iter().map(i64::from).collect(),
        DType::U8 => tensor.values::<u8>("").unwrap().into_iter().map(i64::from).collect(),
        DType::I32 => wide(tensor.values("").unwrap()),
        _ => Vec::new(),
    }
}

/// How many integers differ, of how many, and by how much at most.
fn differences(ours: &Graph, reference: &Graph) -> (usize, usize, i64) {
    let (mut wrong, mut all, mut largest) = (0, 0, 0);
    for (name, theirs) in &reference.initializers {
        if name.len() > 36 && support::is_random(&name[..36]) {
            continue; // a name the reference drew
        }
        let mine = ours.initializers.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", ours.initializers.keys()));
        let (a, b) = (integers(mine), integers(theirs));
        assert_eq!(a.len(), b.len(), "{name}");
        all += b.len();
        for (a, b) in a.iter().zip(&b).filter(|(a, b)| a != b) {
            wrong += 1;
            largest = largest.max((a - b).abs());
        }
    }
    (wrong, all, largest)
}

const CASES: [&str; 12] = [
    "mnist_cnn",
    "lenet5",
    "mlp",
    "digits_pretrained",
    "ds_cnn_kws_int8",
    "bn_unfolded",
    "act_lut",
    "resnet8_per_tensor",
    "norm_in_graph",
    "nhwc_input",
    "temporal_conv",
    "uint8_graph_input",
];

#[test]
fn own_ranges_give_the_same_integers() {
    for name in CASES {
        let case = Case::load(name);
        let samples = samples(&case);
        let graph = onnx::load(&case.model()).unwrap();
        let mut steps = 0;
        let result = quantize(graph, &Calibration::Samples(samples.view()), &case.options(), &mut |_, _| steps += 1);
        let quantized = result.unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(steps, samples.shape()[0] + 1);
        let reference = onnx::load(&case.file("quantized.onnx")).unwrap();
        let (wrong, all, largest) = differences(&quantized.graph, &reference);
        println!("{name}: {wrong} of {all} integers differ, by {largest} at most");
        assert!(wrong * 1000 <= all && largest <= 1, "{name}");
        let theirs = load_ranges(&case.file("calibration_ranges.npz")).unwrap();
        for (tensor, range) in quantized.ranges.iter() {
            if let Some(expected) = theirs.get(tensor) {
                for (a, b) in range.max.iter().zip(&expected.max).chain(range.min.iter().zip(&expected.min)) {
                    assert!((a - b).abs() <= 1e-5 * b.abs().max(1.0), "{name}: {tensor}: {a}, not {b}");
                }
            }
        }
    }
}

#[test]
fn a_file_becomes_a_model() {
    let case = Case::load("mnist_cnn");
    let samples = samples(&case);
    let converted =
        convert(&case.model(), &Calibration::Samples(samples.view()), &case.options(), &mut |_, _| {}).unwrap();
    let model = converted.network.whole().expect("one board part");
    let names: Vec<&str> = model.layers.iter().map(|layer| layer.name.as_str()).collect();
    assert_eq!(names, ["/0/Conv", "/3/Conv", "/7/Gemm", "/10/Gemm"]);
    assert!(converted.quantized.warnings.is_empty());
}
