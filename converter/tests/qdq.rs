//! Forms of QDQ graphs: what becomes of them, and what is refused by name.

use akida_converter::onnx::{DType, Dim, Graph, Node, Tensor, Value, ValueType};
use akida_converter::qdq::{Activation, Imported, WeightsKept, import_qdq, is_qdq};

/// A convolution over 3 channels of 8x8, its input, weights and output quantized; then a dense layer.
struct Net {
    opset: i64,
    activations: DType,
    zero: i32,
    per_channel: bool,
    change: fn(&mut Graph),
}

const PLAIN: Net = Net { opset: 13, activations: DType::I8, zero: 0, per_channel: true, change: |_| {} };

fn integer(dtype: DType, value: i32) -> Tensor {
    match dtype {
        DType::U8 => Tensor::scalar(value as u8),
        _ => Tensor::scalar(value as i8),
    }
}

fn weights(len: usize) -> Vec<i8> {
    (0..len).map(|n| ((n * 37 + 11) % 255) as u8 as i8).collect()
}

impl Net {
    fn graph(&self) -> Graph {
        let mut g = Graph { name: "net".into(), ir_version: 8, ..Graph::default() };
        g.opsets.insert(String::new(), self.opset);
        let image = [1usize, 3, 8, 8].map(Dim::Fixed).to_vec();
        g.inputs.push(Value { name: "x".into(), ty: ValueType::new(DType::F32, image) });
        g.outputs.push(Value { name: "y".into(), ty: ValueType::default() });
        let mut constant = |name: &str, tensor: Tensor| drop(g.initializers.insert(name.into(), tensor));
        constant("x_s", Tensor::scalar(1.0f32 / 64.0));
        constant("h_s", Tensor::scalar(0.25f32));
        constant("z", integer(self.activations, self.zero));
        let filters = if self.per_channel { 4 } else { 1 };
        let scales: Vec<f32> = (0..filters).map(|f| 0.01 + 0.001 * f as f32).collect();
        let dims = if self.per_channel { vec![4] } else { vec![] };
        constant("w_s", Tensor::new(dims.clone(), &scales));
        constant("w_z", Tensor::new(dims, &vec![0i8; filters]));
        constant("w_q", Tensor::new([4, 3, 3, 3], &weights(108)));
        constant("b", Tensor::new([4], &[0.5f32, -0.25, 0.0, 1.0]));
        constant("d_q", Tensor::new([5, 256], &weights(1280)));
        constant("d_s", Tensor::scalar(0.02f32));
        constant("d_z", Tensor::scalar(0i8));
        let mut node = |op: &str, inputs: &[&str], output: &str| g.nodes.push(Node::new(op, inputs, output));
        node("QuantizeLinear", &["x", "x_s", "z"], "x_q");
        node("DequantizeLinear", &["x_q", "x_s", "z"], "x_d");
        node("DequantizeLinear", &["w_q", "w_s", "w_z"], "w");
        node("Conv", &["x_d", "w", "b"], "c");
        node("QuantizeLinear", &["c", "h_s", "z"], "h_q");
        node("DequantizeLinear", &["h_q", "h_s", "z"], "h");
        node("Flatten", &["h"], "f");
        node("DequantizeLinear", &["d_q", "d_s", "d_z"], "d");
        node("Gemm", &["f", "d"], "y");
        for node in &mut g.nodes {
            match node.op.as_str() {
                "Conv" => *node = node.clone().with("pads", vec![1i64; 4]),
                "Gemm" => *node = node.clone().with("transB", 1),
                "DequantizeLinear" if node.output() == "w" && self.per_channel => *node = node.clone().with("axis", 0),
                _ => {}
            }
        }
        (self.change)(&mut g);
        g
    }

    fn import(&self) -> Imported {
        let graph = self.graph();
        assert!(is_qdq(&graph));
        import_qdq(graph).unwrap_or_else(|e| panic!("{e}"))
    }
}

#[test]
fn operator_sets_and_types() {
    for opset in [10, 13, 17, 19, 21] {
        for (activations, zero, output) in [
            (DType::I8, 0, Activation::Exact),
            (DType::U8, 128, Activation::Exact),
            (DType::U8, 0, Activation::Steps(2.0)),
            (DType::I8, -128, Activation::Steps(2.0)),
        ] {
            // Scales per channel came with operator set 13.
            let net = Net { opset, activations, zero, per_channel: opset >= 13, ..PLAIN };
            let imported = net.import();
            let [conv, dense] = imported.layers.as_slice() else { panic!("{:?}", imported.layers) };
            assert_eq!((conv.weights, dense.weights), (WeightsKept::Exact, WeightsKept::Exact));
            match (conv.output, output) {
                (Activation::Steps(found), Activation::Steps(steps)) => assert!((found - steps).abs() < 1e-4),
                (found, wanted) => assert_eq!(found, wanted, "{activations} {zero}"),
            }
            assert_eq!(dense.output, Activation::Sums);
            let kept = |suffix: &str, dims: &[usize]| {
                let tensor = imported.graph.initializers.values().find(|t| t.dims() == dims).expect(suffix);
                assert_eq!(tensor.values::<i8>(suffix).expect("int8"), weights(dims.iter().product()));
            };
            kept("conv", &[4, 3, 3, 3]);
            kept("dense", &[5, 256]);
            // A zero point at the end of the integers is a rectifier.
            let rectified = imported.model.layers[0].op.contains("ReLU");
            assert_eq!(rectified, zero == if activations == DType::U8 { 0 } else { -128 });
            let quantizer = imported.model.input.quantizer.as_ref().expect("a quantizer");
            assert_eq!(quantizer.zero_point, [zero + if activations == DType::I8 { 128 } else { 0 }]);
        }
    }
}

/// PyTorch's export: float weights behind a QuantizeLinear, activations cut at 127.
#[test]
fn fake_quantization_of_training() {
    let net = Net {
        activations: DType::U8,
        change: |g| {
            let scales: Vec<f32> = (0..4).map(|f| 0.01 + 0.001 * f as f32).collect();
            let floats: Vec<f32> =
                weights(108).iter().enumerate().map(|(n, &w)| f32::from(w) * scales[n / 27]).collect();
            g.initializers.insert("w_f".into(), Tensor::new([4, 3, 3, 3], &floats));
            g.initializers.insert("top".into(), Tensor::scalar(127u8));
            let at = g.nodes.iter().position(|n| n.output() == "w").expect("weights");
            g.nodes[at].inputs[0] = "w_i".into();
            g.nodes.insert(at, Node::new("QuantizeLinear", &["w_f", "w_s", "w_z"], "w_i").with("axis", 0));
            let at = g.nodes.iter().position(|n| n.output() == "h").expect("activation");
            g.nodes[at].inputs[0] = "h_c".into();
            g.nodes.insert(at, Node::new("Clip", &["h_q", "", "top"], "h_c"));
        },
        ..PLAIN
    };
    let imported = net.import();
    assert_eq!(imported.layers[0].weights, WeightsKept::Exact);
    assert_eq!(imported.layers[0].output, Activation::Exact, "7 bits fit");
}

#[test]
fn factors_folded_into_weights_are_reported() {
    let net = Net {
        change: |g| {
            g.initializers.insert("gain".into(), Tensor::new([1, 4, 1, 1], &[1.3f32, 0.7, 1.1, 0.9]));
            g.nodes[3].outputs[0] = "before".into();
            g.nodes.insert(4, Node::new("Mul", &["before", "gain"], "c"));
        },
        ..PLAIN
    };
    assert_eq!(net.import().layers[0].weights, WeightsKept::Changed);
}

fn put(g: &mut Graph, name: &str, tensor: Tensor) {
    g.initializers.insert(name.into(), tensor);
}

/// What is changed, and the words of the refusal: node, rule, value, remedy.
type Row = (&'static str, fn(&mut Graph), &'static [&'static str]);

const REFUSED: &[Row] = &[
    ("16 bits", |g| put(g, "z", Tensor::scalar(0u16)), &["x_q", "INT8 or UINT8", "UINT16", "Quantize statically"]),
    ("blocks", |g| g.nodes[2] = g.nodes[2].clone().with("block_size", 16), &["'w'", "blocks", "16"]),
    (
        "per-channel activation",
        |g| {
            put(g, "h_s", Tensor::new([4], &[0.25f32; 4]));
            put(g, "z", Tensor::new([4], &[0i8; 4]));
            put(g, "x_s", Tensor::new([4], &[0.25f32; 4]));
        },
        &["x_q", "one scale for the whole tensor", "4 scales"],
    ),
    ("computed scale", |g| g.nodes[0].inputs[1] = "x".into(), &["x_q", "must be constant", "'x' is computed"]),
    ("scale of zero", |g| put(g, "w_s", Tensor::new([4], &[0.1f32, 0.0, 0.1, 0.1])), &["'w'", "positive", "0"]),
    ("scale NaN", |g| put(g, "h_s", Tensor::scalar(f32::NAN)), &["h_q", "positive", "NaN"]),
    (
        "weights with a zero point",
        |g| put(g, "w_z", Tensor::new([4], &[0i8, 100, 0, 0])),
        &["'w'", "signed 8 bits", "zero point 100", "symmetrically"],
    ),
    (
        "scales per input channel",
        |g| {
            put(g, "w_s", Tensor::new([3], &[0.1f32; 3]));
            put(g, "w_z", Tensor::new([3], &[0i8; 3]));
            g.nodes[2] = g.nodes[2].clone().with("axis", 1);
        },
        &["'c'", "each output channel", "axis 1"],
    ),
    (
        "scales that do not fit",
        |g| put(g, "w_s", Tensor::new([3], &[0.1f32; 3])),
        &["'w'", "as many", "3 scales and 4"],
    ),
    ("axis beyond", |g| g.nodes[2] = g.nodes[2].clone().with("axis", 9), &["'w'", "axis 9"]),
    (
        "dynamic",
        |g| g.nodes[0].op = "DynamicQuantizeLinear".into(),
        &["x_q", "DynamicQuantizeLinear", "quantize_static"],
    ),
    ("operators", |g| g.nodes[3].op = "QLinearConv".into(), &["'c'", "QLinearConv", "QuantFormat.QDQ"]),
    ("integer operators", |g| g.nodes[3].op = "ConvInteger".into(), &["'c'", "ConvInteger", "QDQ"]),
    (
        "arithmetic on integers",
        |g| {
            let relu = Node::new("Relu", &["h_q"], "h_r");
            g.nodes.insert(5, relu);
            g.nodes[6].inputs[0] = "h_r".into();
        },
        &["h_r", "only data may be moved", "Relu"],
    ),
    (
        "integer input",
        |g| g.nodes[1].inputs[0] = "x".into(),
        &["x_d", "must undo", "'x'", "QuantizeLinear at its input"],
    ),
    (
        "input not quantized",
        |g| {
            g.nodes[3].inputs[0] = "x".into();
            g.nodes.drain(0..2);
        },
        &["'x'", "must be quantized"],
    ),
    (
        "activation not quantized",
        |g| {
            g.nodes[6].inputs[0] = "c".into();
            g.nodes.drain(4..6);
        },
        &["'c'", "range"],
    ),
    (
        "float8",
        |g| {
            g.nodes[0].inputs.truncate(2);
            g.nodes[0] = g.nodes[0].clone().with("output_dtype", 17);
        },
        &["x_q", "INT8 or UINT8"],
    ),
];

#[test]
fn other_forms_are_refused_by_name() {
    for (what, change, words) in REFUSED {
        let error =
            import_qdq(Net { change: *change, ..PLAIN }.graph()).err().unwrap_or_else(|| panic!("{what} passed"));
        let text = error.to_string();
        println!("{what}: {text}");
        for word in *words {
            assert!(text.contains(word), "{what}: no {word:?} in: {text}");
        }
    }
}
