use super::super::{sample, *};
use super::{ModelError, limits};

fn conv(model: &mut Model, index: usize) -> &mut Conv {
    match &mut model.layers[index].kind {
        LayerKind::Conv(conv) => conv,
        other => panic!("layer {index} is {other:?}"),
    }
}

/// One change each, with the words that must be in the error.
type Case = (&'static str, fn(&mut Model), &'static [&'static str]);

fn check(make: fn() -> Model, cases: &[Case]) {
    let mut wrong = Vec::new();
    for (name, change, words) in cases {
        let mut model = make();
        change(&mut model);
        match model.validate() {
            Ok(()) => wrong.push(format!("{name}: accepted")),
            Err(error) => {
                let text = error.to_string();
                if !words.iter().all(|word| text.contains(word)) {
                    wrong.push(format!("{name}: {text}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn broken_models_are_refused_by_name() {
    check(
        sample::akida2,
        &[
            ("dimension", |m| m.input.tensor.shape[0] = 0, &["input", "dimension", "is 0", "1..=65535"]),
            ("elements", |m| m.input.tensor.shape = [60_000, 60_000, 3], &["number of elements", "10800000000"]),
            ("input bits", |m| m.input.tensor.bits = 32, &["input", "bits"]),
            ("odd bits", |m| m.layers[0].output.bits = 7, &["first", "bits", "is 7"]),
            ("flat", |m| m.layers[0].output.layout = OnnxLayout::Flat, &["first", "layout"]),
            ("flat input", |m| m.input.layout = OnnxLayout::Flat, &["input", "layout"]),
            (
                "quantizer scale",
                |m| m.input.quantizer.as_mut().unwrap().scale[1] = f32::NAN,
                &["quantizer", "scale", "NaN"],
            ),
            (
                "quantizer scales",
                |m| m.input.quantizer.as_mut().unwrap().scale.truncate(2),
                &["scale", "2 values", "1 or 3"],
            ),
            (
                "zero points",
                |m| m.input.quantizer.as_mut().unwrap().zero_point.truncate(2),
                &["zero_point", "2 values"],
            ),
            (
                "zero point",
                |m| m.input.quantizer.as_mut().unwrap().zero_point[0] = 256,
                &["zero_point", "256", "0..=255"],
            ),
            ("no layers", |m| m.layers.clear(), &["layers"]),
            ("no outputs", |m| m.outputs.clear(), &["outputs"]),
            ("output id", |m| m.outputs[0].tensor = 10, &["output y", "10"]),
            ("output scale", |m| m.outputs[0].dequantizer.as_mut().unwrap().scale[0] = 0.0, &["output y", "0"]),
            ("future input", |m| m.layers[1].inputs[0] = 2, &["depthwise", "input tensor", "is 2"]),
            ("inputs", |m| m.layers[2].inputs.truncate(1), &["add", "inputs", "1 values", "2"]),
            ("stride", |m| conv(m, 0).stride[0] = 0, &["first", "stride", "is 0"]),
            ("pads", |m| conv(m, 0).pads[3] = usize::MAX, &["first", "padding"]),
            ("pad value", |m| conv(m, 0).pad_value[0] = -1, &["pad_value", "-1"]),
            ("pad values", |m| conv(m, 0).pad_value.truncate(2), &["pad_value", "2 values"]),
            ("bias", |m| conv(m, 0).bias.truncate(3), &["first", "bias", "3 values", "0 or 4"]),
            ("output shape", |m| m.layers[0].output.shape[1] += 1, &["first", "[4, 5, 4]", "[4, 4, 4]"]),
            ("output sign", |m| m.layers[0].output.signed = false, &["first", "sign"]),
            ("output bits", |m| m.layers[0].output.bits = 2, &["first", "output bits", "4 or 8"]),
            ("weights shape", |m| conv(m, 0).weights.shape[3] = 4, &["first", "weights"]),
            ("weights overflow", |m| conv(m, 0).weights.shape = [usize::MAX; 4], &["first", "weights"]),
            ("big filter", |m| conv(m, 0).weights.shape = [1, 2000, 2000, 3], &["weights of a filter", "12000000"]),
            ("weights data", |m| conv(m, 0).weights.data = Blob::from_i8(&[0; 107]), &["weights", "107", "108"]),
            ("weight bits", |m| conv(m, 0).weights.bits = 3, &["weight bits", "is 3"]),
            ("weight range", |m| conv(m, 0).weights.bits = 4, &["weights", "-8..=7"]),
            ("big kernel", |m| conv(m, 7).weights = Weights::new(8, [5, 17, 1, 8], &[0; 680]), &["global", "kernel"]),
            ("fifo", |m| conv(m, 0).fifo = 2, &["first", "fifo"]),
            ("pointwise", |m| conv(m, 0).pointwise = Some(sample::weights(8, [1, 1, 1, 3])), &["first", "pointwise"]),
            ("separable", |m| conv(m, 1).kind = ConvKind::Separable, &["depthwise", "pointwise"]),
            ("second input convolution", |m| conv(m, 3).kind = ConvKind::Input, &["pooled", "kind"]),
            (
                "pool size",
                |m| conv(m, 3).pool = Pool::Max { size: [0, 1], stride: [1, 1], pads: [0; 4] },
                &["pool size"],
            ),
            (
                "pool pads",
                |m| conv(m, 3).pool = Pool::Max { size: [2, 2], stride: [1, 1], pads: [0, 0, 0, 2] },
                &["pool padding"],
            ),
            ("clip", |m| conv(m, 3).activation = Activation::ReluClipped(vec![-1]), &["max_value", "-1"]),
            (
                "steps",
                |m| conv(m, 3).activation = Activation::Steps { threshold: vec![], step_16ths: vec![] },
                &["pooled", "steps"],
            ),
            (
                "table",
                |m| match &mut conv(m, 1).activation {
                    Activation::Lut(lut) => lut.table.truncate(2047),
                    other => panic!("{other:?}"),
                },
                &["depthwise", "look-up table", "2047"],
            ),
            ("scale m", |m| conv(m, 0).scale.as_mut().unwrap().m.truncate(3), &["scale m", "3"]),
            ("scale k", |m| conv(m, 0).scale.as_mut().unwrap().k.truncate(1), &["scale k", "1 values", "4"]),
            ("scale k range", |m| conv(m, 0).scale.as_mut().unwrap().k[2] = 33, &["scale k", "33", "-31..=32"]),
            ("no scale", |m| conv(m, 0).scale = None, &["first", "output bits", "8, not 32"]),
            (
                "add shift",
                |m| m.layers[2].kind = LayerKind::Add(Add { a_shift: vec![25], b_shift: vec![0], k: None }),
                &["add", "a_shift", "25"],
            ),
            ("add shapes", |m| m.layers[2].inputs[1] = 0, &["add", "second input"]),
            ("concat shapes", |m| m.layers[5].inputs[1] = 0, &["concat", "second input"]),
            ("dense shape", |m| m.layers[8].inputs[0] = 4, &["head", "weights"]),
            (
                "potentials inside",
                |m| {
                    let head = m.layers[8].clone();
                    m.layers.push(Layer { inputs: vec![9], ..head });
                },
                &["head", "potentials"],
            ),
            ("target", |m| m.target = Target::Akd1500, &["Akida 1.0"]),
        ],
    );
    check(
        sample::temporal,
        &[
            ("fifo", |m| conv(m, 0).fifo = 0, &["full", "fifo", "is 0"]),
            ("fifo length", |m| conv(m, 0).fifo = 2, &["full", "weights"]),
            ("stride", |m| conv(m, 0).stride = [2, 1], &["full", "1x1"]),
        ],
    );
    check(
        sample::akida1,
        &[
            ("target", |m| m.target = Target::Akida2, &["first", "steps"]),
            ("scale", |m| conv(m, 0).scale = Some(sample::scale(4)), &["first", "scale"]),
            ("bits", |m| m.layers[0].output.bits = 8, &["first", "output bits", "1 or 2 or 4"]),
            (
                "step",
                |m| match &mut conv(m, 1).activation {
                    Activation::Steps { step_16ths, .. } => step_16ths[1] = 0,
                    other => panic!("{other:?}"),
                },
                &["separable", "step", "is 0"],
            ),
            (
                "threshold",
                |m| match &mut conv(m, 1).activation {
                    Activation::Steps { threshold, .. } => threshold[1] = 1 << 19,
                    other => panic!("{other:?}"),
                },
                &["separable", "threshold", "524288"],
            ),
        ],
    );
}

#[test]
fn a_refused_layer_leaves_the_model_unchanged() {
    let mut model = sample::akida2();
    let before = model.clone();
    let error = model.push("late", LayerKind::Dense(Dense::new(sample::weights(8, [1, 1, 1, 4]))), &[8], 32);
    let error: ModelError = error.expect_err("five channels, four weights");
    assert_eq!(&*error.place, "layer late");
    assert_eq!(model, before);
    assert!(model.push("late", LayerKind::Concat, &[99, 0], 8).is_err());
}

#[test]
fn macs_are_those_of_the_layers() {
    assert_eq!(
        sample::akida2().macs(),
        // first 4x4x4x27, depthwise 4x4x4x9, add, pooled 4x4x6x4, up 2x2 inputs x 96, concat, depthwise up 4x4 x 72,
        // global 6x6x5x72, head 15
        [1728, 576, 0, 384, 384, 0, 1152, 12_960, 15]
    );
    assert!(limits::ELEMENTS < i64::MAX as usize);
}
