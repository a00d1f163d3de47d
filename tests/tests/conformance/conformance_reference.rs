//! The reference arithmetic against the conformance vectors: every stored integer, every float, bit for bit.

use akida_converter::{
    import::{ImportOptions, Imported, import},
    onnx,
};
use akida_runtime::{
    edge,
    model::{Model, TensorId},
    reference::{Reference, Rules},
};
use akida_tests::conformance::{Case, root};
use ndarray::{ArrayD, Axis};

/// Every case, and whether float operations are left behind the dequantizer.
const CASES: [(&str, bool); 34] = [
    ("act_lut", false),
    ("akida_ds_cnn_kws", true),
    ("akida_mobilenet_025", false),
    ("akida_vgg_utk_face", false),
    ("akidanet_05_160", false),
    ("bn_unfolded", false),
    ("branches", false),
    ("conv_zoo", true),
    ("digits_pretrained", false),
    ("ds_cnn_kws", false),
    ("ds_cnn_kws_int8", false),
    ("even_kernels", false),
    ("lenet5", false),
    ("mlp", false),
    ("mlp_flatten", false),
    ("mnist_cnn", false),
    ("mnist_cnn_dynamo", true),
    ("mnist_cnn_last8", false),
    ("mnist_cnn_per_tensor", false),
    ("mobilenet_v1_025", false),
    ("nhwc_input", false),
    ("norm_in_graph", false),
    ("pad_inner", false),
    ("partial_avgpool", true),
    ("partial_softmax", true),
    ("quantize_until", true),
    ("resnet8", false),
    ("resnet8_per_tensor", false),
    ("resnet8_static", false),
    ("temporal_conv", false),
    ("uint8_graph_input", false),
    ("unet_small", false),
    ("unet_upsample", false),
    ("yolo_two_heads", false),
];

fn load(case: &Case, float_tail: bool) -> Model {
    let path = case.path("quantized.onnx");
    let graph = onnx::load(&path).unwrap_or_else(|e| panic!("{e}"));
    let options = ImportOptions { allow_float_tail: float_tail, ..ImportOptions::default() };
    let Imported { model, float_tail: tail } = import(&graph, options).unwrap_or_else(|e| panic!("{}: {e}", case.name));
    assert_eq!(!tail.is_empty(), float_tail, "{}: {tail:?}", case.name);
    if float_tail {
        import(&graph, ImportOptions::default()).expect_err("a float tail is refused unless allowed");
    }
    model
}

/// Values of a tensor in the order of the conformance data.
fn onnx_order(model: &Model, id: TensorId, values: &[i32]) -> Vec<i64> {
    let tensor = model.tensor(id);
    tensor.layout.to_onnx(values, tensor.shape).into_iter().map(i64::from).collect()
}

fn sample<T: Copy>(array: &ArrayD<T>, index: usize) -> Vec<T> {
    array.index_axis(Axis(0), index).iter().copied().collect()
}

#[track_caller]
fn assert_same<T: PartialEq + std::fmt::Debug>(found: &[T], expected: &[T], what: impl Fn() -> String) {
    assert_eq!(found.len(), expected.len(), "{}: length", what());
    let wrong = found.iter().zip(expected).filter(|(f, e)| f != e).count();
    if let Some(at) = found.iter().zip(expected).position(|(f, e)| f != e) {
        panic!("{}: {wrong} of {} differ, first at {at}: {:?}, not {:?}", what(), found.len(), found[at], expected[at]);
    }
}

/// Runs all inputs of a case and compares whatever is stored. Says how many integers were compared.
fn check(case: &Case, float_tail: bool) -> usize {
    let model = load(case, float_tail);
    let name = &case.name;
    let bytes = edge::quantize_input(&model, case.inputs().view()).unwrap_or_else(|e| panic!("{name}: {e}"));

    // Tensors of the first samples, by the name of the tensor.
    let mut stored: Vec<(TensorId, ArrayD<i64>)> = Vec::new();
    if let Some(mut npz) = case.npz("intermediates.npz") {
        for node in case.json["nodes"].as_array().expect("a list") {
            let output = node["outputs"][0].as_str().expect("a name");
            let Some(key) = node["keys"][0].as_str().filter(|key| npz.has(key)) else { continue };
            if node["op"].as_str().is_some_and(|op| op.starts_with("Dequantizer")) {
                continue;
            }
            let id = (0..=model.layers.len()).find(|&id| model.tensor(id).name == output);
            stored.push((id.unwrap_or_else(|| panic!("{name}: no tensor {output}")), npz.integers(key)));
        }
        assert!(stored.len() > 1, "{name}: only {} tensors to compare", stored.len());
    }
    let mut npz = case.npz("quantized_outputs.npz").unwrap_or_else(|| panic!("{name}: no outputs"));
    let raw: Vec<(TensorId, ArrayD<i64>)> = case
        .strings("raw_outputs")
        .iter()
        .enumerate()
        .map(|(index, output)| {
            let id = (0..=model.layers.len()).find(|&id| model.tensor(id).name == *output);
            let exact = format!("exact_raw{index}");
            let key = if npz.has(&exact) { exact } else { format!("raw{index}") };
            (id.unwrap_or_else(|| panic!("{name}: no tensor {output}")), npz.integers(&key))
        })
        .collect();
    let chip: Vec<Option<ArrayD<i64>>> = (0..raw.len())
        .map(|index| {
            let key = format!("int32_raw{index}");
            npz.has(&key).then(|| npz.integers(&key))
        })
        .collect();
    let floats: Vec<ArrayD<f32>> =
        if float_tail { Vec::new() } else { (0..raw.len()).map(|index| npz.floats(&format!("out{index}"))).collect() };

    // Thousands of digits take minutes without optimisation; the first ones tell as much.
    let samples = if cfg!(debug_assertions) { 50 } else { usize::MAX };
    let mut compared = 0;
    let mut graph = Reference::new(&model, Rules::Graph);
    let mut akida = Reference::new(&model, Rules::Chip);
    for (index, input) in bytes.iter().enumerate().take(samples) {
        let tensors = graph.run(input).unwrap_or_else(|e| panic!("{name}: {e}"));
        for (id, array) in stored.iter().filter(|(_, array)| index < array.len_of(Axis(0))) {
            let what = || format!("{name}, sample {index}, {}", model.tensor(*id).name);
            assert_same(&onnx_order(&model, *id, &tensors[*id]), &sample(array, index), what);
            compared += tensors[*id].len();
        }
        for (id, array) in &raw {
            let what = || format!("{name}, sample {index}, output {}", model.tensor(*id).name);
            assert_same(&onnx_order(&model, *id, &tensors[*id]), &sample(array, index), what);
            compared += tensors[*id].len();
        }
        for (output, array) in model.outputs.iter().zip(&floats) {
            let found: Vec<u32> =
                edge::dequantize(&model, output, &tensors[output.tensor]).iter().map(|v| v.to_bits()).collect();
            let expected: Vec<u32> = sample(array, index).iter().map(|v| v.to_bits()).collect();
            assert_same(&found, &expected, || format!("{name}, sample {index}, float output {}", output.name));
        }
        for ((id, _), array) in raw.iter().zip(&chip) {
            let Some(array) = array else { continue };
            let tensors = akida.run(input).unwrap_or_else(|e| panic!("{name}: {e}"));
            let what = || format!("{name}, sample {index}, output {} of the chip", model.tensor(*id).name);
            assert_same(&onnx_order(&model, *id, &tensors[*id]), &sample(array, index), what);
            compared += tensors[*id].len();
        }
    }
    assert!(compared > 0, "{name}: nothing was compared");
    compared
}

#[test]
fn every_integer_of_every_case() {
    let (mut cases, mut integers) = (0, 0);
    for (name, float_tail) in CASES {
        let Some(case) = Case::find(name) else {
            println!("SKIP {name}: not in {} (too large for the repository)", root().display());
            continue;
        };
        integers += check(&case, float_tail);
        cases += 1;
    }
    println!("{integers} integers of {cases} cases are equal");
    assert!(cases >= 30, "only {cases} cases found");
}

#[test]
fn damaged_graphs_are_refused_by_name() {
    for (file, words) in [
        ("01_shift_not_power_of_two.onnx", &["Conv_1", "S_out", "not a power of two"][..]),
        ("02_shift_zero.onnx", &["S_out", "holds 0", "not a power of two"]),
        ("03_scale_wrong_length.onnx", &["Conv_1", "_M", "channels need"]),
        ("04_missing_function.onnx", &["QuantizedInputConv2DBiasedMaxPoolReLUScaled", "no function"]),
        ("05_unknown_quantized_op.onnx", &["QuantizedFooBar", "no operator"]),
        ("06_weights_wrong_channels.onnx", &["_Wi", "8 channels"]),
    ] {
        let graph = onnx::load(&root().join("broken_quantized").join(file));
        let graph = graph.unwrap_or_else(|e| panic!("{file} can be read: {e}"));
        let error = import(&graph, ImportOptions::default()).expect_err(file).to_string();
        for word in words {
            assert!(error.contains(word), "{file}: '{word}' is missing in: {error}");
        }
    }
    let graph = onnx::load(&root().join("broken_quantized/00_intact.onnx")).expect("intact");
    import(&graph, ImportOptions::default()).expect("intact");
}
