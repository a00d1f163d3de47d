//! What the importer refuses, case by case, on damaged copies of good graphs.

use akida_converter::{
    import::{ImportOptions, import},
    onnx::{self, Attribute, Dim, Graph, Node, Tensor},
};
use akida_tests::conformance::{Case, root};
use proptest::prelude::*;

fn graph(case: &str) -> Graph {
    let case = Case::find(case).unwrap_or_else(|| panic!("{case} is missing"));
    onnx::load(&case.path("quantized.onnx")).unwrap_or_else(|e| panic!("{e}"))
}

fn node<'g>(graph: &'g mut Graph, op: &str) -> &'g mut Node {
    graph.nodes.iter_mut().find(|node| node.op.starts_with(op)).unwrap_or_else(|| panic!("no {op}"))
}

/// Replaces the first initializer whose name ends so.
fn put(graph: &mut Graph, suffix: &str, tensor: Tensor) {
    let found = graph.initializers.iter_mut().find(|(name, _)| name.ends_with(suffix));
    *found.unwrap_or_else(|| panic!("no {suffix}")).1 = tensor;
}

/// What is changed, and the words of the error.
type Row = (&'static str, fn(&mut Graph), &'static [&'static str]);

const MNIST: &[Row] = &[
    ("not quantized", |g| g.nodes.retain(|n| n.op != "InputQuantizer"), &["not quantized", "InputQuantizer"]),
    ("nothing quantized", |g| g.nodes.truncate(1), &["not quantized"]),
    (
        "two quantizers",
        |g| {
            let mut second = g.nodes[0].clone();
            second.name = "second".into();
            g.nodes.push(second);
        },
        &["second", "one input"],
    ),
    ("permutation", |g| put_ints(g, "InputQuantizer", "perm", &[0, 2, 3, 1]), &["quantize", "perm", "[0, 2, 3, 1]"]),
    ("rank", |g| put_ints(g, "InputQuantizer", "perm", &[0, 1]), &["perm", "4 dimensions"]),
    (
        "open dimensions",
        |g| g.inputs[0].ty.shape = Some(vec![Dim::Unknown, Dim::Fixed(1), Dim::Unknown, Dim::Fixed(28)]),
        &["quantize", "dimensions"],
    ),
    (
        "huge input",
        |g| g.inputs[0].ty.shape = Some(vec![Dim::Unknown, Dim::Fixed(1), Dim::Fixed(1 << 60), Dim::Fixed(1 << 60)]),
        &["input", "dimension"],
    ),
    ("input scale", |g| put(g, "quantize_scale", Tensor::new([1], &[0f32])), &["quantize", "scale", "0"]),
    ("input scale type", |g| put(g, "quantize_scale", Tensor::new([1], &[1f64])), &["quantize_scale", "DOUBLE"]),
    ("zero points", |g| put(g, "quantize_zp", Tensor::new([2], &[0u8, 0])), &["quantize_zp", "[2]"]),
    ("operator", |g| node(g, "QuantizedConv2D").op.push_str("Scaled"), &["/3/Conv", "no operator"]),
    ("inputs", |g| drop(node(g, "QuantizedConv2D").inputs.pop()), &["/3/Conv", "5 inputs", "Shift"]),
    (
        "function inputs",
        |g| {
            let function = g.functions.iter_mut().find(|f| f.name.starts_with("QuantizedConv2D")).expect("defined");
            function.inputs.swap(1, 2);
        },
        &["/3/Conv", "bias, W"],
    ),
    (
        "function body",
        |g| {
            let function = g.functions.iter_mut().find(|f| f.name.starts_with("QuantizedConv2D")).expect("defined");
            function.nodes.retain(|node| node.op != "Floor");
        },
        &["/3/Conv", "its function computes", "its name says", "Floor"],
    ),
    (
        "unknown tensor",
        |g| node(g, "QuantizedConv2D").inputs[0] = "quantize_scale".into(),
        &["/3/Conv", "quantize_scale"],
    ),
    (
        "weights from nowhere",
        |g| node(g, "QuantizedConv2D").inputs[1] = "quantize".into(),
        &["/3/Conv", "W", "quantize"],
    ),
    (
        "attribute",
        |g| drop(node(g, "QuantizedConv2D").attributes.insert("dilations".into(), Attribute::Ints(vec![2, 2]))),
        &["/3/Conv", "dilations"],
    ),
    ("strides", |g| put_ints(g, "QuantizedConv2D", "strides", &[2, -2]), &["/3/Conv", "strides", "-2"]),
    ("stride 0", |g| put_ints(g, "QuantizedConv2D", "strides", &[0, 2]), &["/3/Conv", "stride", "is 0"]),
    ("three strides", |g| put_ints(g, "QuantizedConv2D", "strides", &[2, 2, 2]), &["/3/Conv", "strides"]),
    ("pool", |g| put_ints(g, "QuantizedInputConv2D", "pool_size", &[0, 2]), &["/0/Conv", "pool size"]),
    ("channel pads", |g| put(g, "/3/Conv_pads", Tensor::new([8], &[0i64, 1, 0, 0, 0, 0, 0, 0])), &["/3/Conv_pads"]),
    ("negative pads", |g| put(g, "/3/Conv_pads", Tensor::new([8], &[0i64, 0, 0, 0, 0, 0, -1, 0])), &["/3/Conv_pads"]),
    ("pads", |g| put(g, "/3/Conv_pads", Tensor::new([4], &[0i64; 4])), &["/3/Conv_pads"]),
    ("declared shape", |g| put(g, "/3/Conv_pads", Tensor::new([8], &[0i64, 0, 1, 1, 0, 0, 1, 1])), &["declares"]),
    (
        "weights type",
        |g| put(g, "/3/Conv_Wi", Tensor::new([64, 32, 3, 3], &[0u8; 18432])),
        &["/3/Conv_Wi", "UINT8", "INT8"],
    ),
    ("weights rank", |g| put(g, "/3/Conv_Wi", Tensor::new([18432], &[0i8; 18432])), &["/3/Conv_Wi", "four dimensions"]),
    ("no weights", |g| put(g, "/3/Conv_Wi", Tensor::new::<i8>([0, 32, 1 << 40, 1 << 40], &[])), &["/3/Conv_Wi"]),
    ("dense weights", |g| put(g, "/10/Gemm_Wi", Tensor::new([10, 511], &[0i8; 5110])), &["/10/Gemm_Wi", "511"]),
    ("bias", |g| put(g, "/3/Conv_B", Tensor::new([63], &[0i32; 63])), &["/3/Conv_B", "64 channels"]),
    ("bias axis", |g| put(g, "/3/Conv_B", Tensor::new([64, 1], &[0i32; 64])), &["/3/Conv_B", "[64, 1]"]),
    ("clip", |g| put(g, "/0/Conv_max_value", Tensor::new([1, 1, 1, 1], &[-1i32])), &["/0/Conv", "max_value", "-1"]),
    ("padding value", |g| put(g, "/0/Conv_Xpad", Tensor::new([1], &[256i32])), &["/0/Conv", "pad_value", "256"]),
    ("S_out negative", |g| put(g, "/3/Conv_S_out", Tensor::new([1], &[-2f32])), &["/3/Conv_S_out", "-2"]),
    ("S_out infinite", |g| put(g, "/3/Conv_S_out", Tensor::new([1], &[f32::INFINITY])), &["/3/Conv_S_out", "inf"]),
    ("M type", |g| put(g, "/3/Conv_M", Tensor::new([1], &[1i8])), &["/3/Conv_M", "INT8", "UINT8"]),
    ("dequantizer", |g| put(g, "dequantizer_scale", Tensor::new([9], &[1f32; 9])), &["dequantizer_scale", "[9]"]),
    ("dequantizer name", |g| node(g, "Dequantizer").op = "Dequantizer2".into(), &["dequantizer", "2 inputs"]),
    ("dequantizer input", |g| node(g, "Dequantizer").inputs[0] = "inputs".into(), &["dequantizer", "inputs"]),
    (
        "float tail",
        |g| {
            g.nodes.push(Node::new("Softmax", &["outputs/dequantize"], "probabilities"));
            g.outputs[0].name = "probabilities".into();
        },
        &["probabilities (Softmax)", "stayed float"],
    ),
    ("output", |g| g.outputs[0].name = "quantize_scale".into(), &["output"]),
];

const OTHERS: &[(&str, &[Row])] = &[
    (
        "act_lut",
        &[
            ("table", |g| put(g, "/0/Conv_LUT", Tensor::new([2048], &[40_000i32; 2048])), &["/0/Conv_LUT", "40000"]),
            ("table length", |g| put(g, "/0/Conv_LUT", Tensor::new([1024], &[0i32; 1024])), &["/0/Conv_LUT", "[1024]"]),
            ("S_act", |g| put(g, "/0/Conv_S_act", Tensor::new([1], &[3f32])), &["/0/Conv_S_act", "3"]),
            (
                "groups",
                |g| drop(node(g, "QuantizedDepthwise2D").attributes.insert("groups".into(), Attribute::Int(8))),
                &["/4/Conv", "groups"],
            ),
        ],
    ),
    (
        "branches",
        &[
            ("shift", |g| put(g, "Add_x1_shift", Tensor::new([1, 1, 1, 1], &[3i32])), &["Add_x1_shift", "3"]),
            ("shift 0", |g| put(g, "Add_x1_shift", Tensor::new([1, 1, 1, 1], &[0i32])), &["Add_x1_shift", "0"]),
            ("large shift", |g| put(g, "Add_x1_shift", Tensor::new([1], &[1i32 << 30])), &["/Add", "a_shift", "30"]),
        ],
    ),
    (
        "temporal_conv",
        &[
            (
                "fifo",
                |g| drop(node(g, "QuantizedBufferTempConv").attributes.insert("fifo_size".into(), Attribute::Int(4))),
                &["frames"],
            ),
            (
                "no fifo",
                |g| drop(node(g, "QuantizedBufferTempConv").attributes.shift_remove("fifo_size")),
                &["fifo_size"],
            ),
            (
                "long fifo",
                |g| {
                    drop(
                        node(g, "QuantizedDepthwiseBufferTempConv")
                            .attributes
                            .insert("fifo_size".into(), Attribute::Int(i64::MAX)),
                    )
                },
                &["frames"],
            ),
        ],
    ),
];

fn put_ints(graph: &mut Graph, op: &str, name: &str, values: &[i64]) {
    node(graph, op).attributes.insert(name.into(), Attribute::Ints(values.to_vec()));
}

#[test]
fn damaged_graphs_are_refused() {
    let mut wrong = Vec::new();
    for (case, rows) in std::iter::once(&("mnist_cnn", MNIST)).chain(OTHERS) {
        let good = graph(case);
        import(&good, ImportOptions::default()).unwrap_or_else(|e| panic!("{case}: {e}"));
        for (name, change, words) in *rows {
            let mut graph = good.clone();
            change(&mut graph);
            match import(&graph, ImportOptions::default()) {
                Ok(_) => wrong.push(format!("{case}, {name}: accepted")),
                Err(error) => {
                    let text = error.to_string();
                    if !words.iter().all(|word| text.contains(word)) {
                        wrong.push(format!("{case}, {name}: {text}"));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn functions_may_be_ignored_and_scales_shared() {
    let mut changed = graph("mnist_cnn");
    changed.functions.clear();
    let options = ImportOptions { require_functions: false, ..ImportOptions::default() };
    let model = import(&changed, options).expect("its functions are not asked for").model;
    assert_eq!(model, import(&graph("mnist_cnn"), ImportOptions::default()).expect("as it is").model);
    // One scale for all filters is a valid form of one for each.
    put(&mut changed, "/3/Conv_S_out", Tensor::new([1, 1, 1, 1], &[1024f32]));
    import(&changed, options).expect("one exponent for all filters");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..ProptestConfig::default() })]

    /// Whatever bytes are changed: an error, or a model that keeps every promise. Never a panic.
    #[test]
    fn changed_bytes_do_no_harm(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut bytes = std::fs::read(root().join("broken_quantized/00_intact.onnx")).expect("is there");
        for (position, value) in &changes {
            let at = position.index(bytes.len());
            bytes[at] = *value;
        }
        let Ok(graph) = onnx::parse(bytes.into(), "changed", None) else { return Ok(()) };
        for require_functions in [false, true] {
            let options = ImportOptions { allow_float_tail: true, require_functions };
            if let Ok(imported) = import(&graph, options) {
                prop_assert_eq!(imported.model.validate(), Ok(()));
            }
        }
    }
}
