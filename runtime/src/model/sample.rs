//! Small models of every kind of layer, for tests.

use super::*;

/// Weights that differ from one another.
pub fn weights(bits: u8, shape: [usize; 4]) -> Weights {
    let (min, max) = Weights::range(bits);
    let span = i32::from(max) - i32::from(min) + 1;
    let len = shape.iter().product::<usize>() as i32;
    let values: Vec<i8> = (0..len).map(|i| (i32::from(min) + (i * i * 7 + i * 13 + 5) % 251 % span) as i8).collect();
    Weights::new(bits, shape, &values)
}

/// A scale that is not the same for all filters.
pub fn scale(filters: usize) -> ScaleOut {
    ScaleOut { m: (0..filters).map(|f| 128 + (f as u8 * 7) % 128).collect(), k: vec![13; filters] }
}

/// A layer that has its own scale.
fn scaled(kind: ConvKind, weights: Weights) -> Conv {
    let filters = weights.filters();
    Conv { activation: Activation::Relu, scale: Some(scale(filters)), ..Conv::new(kind, weights) }
}

/// Akida 2.0: every kind of layer but the temporal ones.
pub fn akida2() -> Model {
    let input = Input {
        name: "x".into(),
        layout: OnnxLayout::Nchw,
        tensor: Tensor::new("quantize", [8, 8, 3], 8, false),
        quantizer: Some(InputQuantizer {
            name: "quantize".into(),
            scale: vec![0.007_812_38, 0.1, 0.3],
            zero_point: vec![128, 0, 3],
        }),
    };
    let mut model = Model::new("all", Target::Akida2, input);
    let mut add =
        |name: &str, kind: LayerKind, inputs: &[TensorId], bits| model.push(name, kind, inputs, bits).expect(name);
    let conv = |conv: Conv| LayerKind::Conv(Box::new(conv));
    let first = Conv {
        stride: [2, 2],
        pads: [1, 1, 0, 0],
        pad_value: vec![128, 0, 3],
        bias: vec![-300, 0, 5, 70],
        ..scaled(ConvKind::Input, weights(8, [4, 3, 3, 3]))
    };
    let a = add("first", conv(first), &[0], 8);
    let lut = Lut { table: (0..2048).map(|i: i16| i - 1024).collect(), scale: scale(4) };
    let depthwise = Conv {
        pads: [1; 4],
        activation: Activation::Lut(Box::new(lut)),
        ..scaled(ConvKind::Depthwise, weights(8, [4, 3, 3, 1]))
    };
    let b = add("depthwise", conv(depthwise), &[a], 8);
    let c =
        add("add", LayerKind::Add(Add { a_shift: vec![1], b_shift: vec![0, 1, 2, 3], k: Some(vec![1]) }), &[a, b], 8);
    let pool = Pool::Max { size: [2, 2], stride: [2, 2], pads: [0; 4] };
    let pooled = Conv {
        pool,
        activation: Activation::ReluClipped(vec![90; 6]),
        ..scaled(ConvKind::Standard, weights(8, [6, 1, 1, 4]))
    };
    let d = add("pooled", conv(pooled), &[c], 8);
    let up = Conv { stride: [2, 2], ..scaled(ConvKind::Transposed, weights(8, [4, 2, 2, 6])) };
    let e = add("up", conv(up), &[d], 8);
    let f = add("concat", LayerKind::Concat, &[e, a], 8);
    let dwup =
        Conv { stride: [2, 2], pads: [0, 0, 1, 1], ..scaled(ConvKind::DepthwiseTransposed, weights(8, [8, 3, 3, 1])) };
    let g = add("depthwise up", conv(dwup), &[f], 8);
    let global = Conv { pool: Pool::Global, ..scaled(ConvKind::Standard, weights(8, [5, 3, 3, 8])) };
    let h = add("global", conv(global), &[g], 8);
    let i =
        add("head", LayerKind::Dense(Dense { bias: vec![1, 2, 3], ..Dense::new(weights(8, [3, 1, 1, 5])) }), &[h], 32);
    let dequantizer = Dequantizer {
        name: "dequantizer".into(),
        scale: vec![0.5, 0.1, 0.2],
        offset: vec![],
        by: DequantizeBy::Multiply,
    };
    model.output("y", i, Some(dequantizer));
    model.validate().expect("every layer is checked as it is pushed");
    model
}

/// Akida 2.0: temporal layers.
pub fn temporal() -> Model {
    let input = Input::integers(Tensor::new("x", [2, 3, 2], 8, true));
    let mut model = Model::new("temporal", Target::Akida2, input);
    let full = Conv { fifo: 3, ..scaled(ConvKind::Temporal, weights(8, [4, 1, 1, 6])) };
    model.push("full", LayerKind::Conv(Box::new(full)), &[0], 8).expect("full");
    let depthwise = Conv { fifo: 2, ..scaled(ConvKind::DepthwiseTemporal, weights(8, [4, 1, 1, 2])) };
    let last = model.push("depthwise", LayerKind::Conv(Box::new(depthwise)), &[1], 8).expect("depthwise");
    model.output("y", last, None);
    model.validate().expect("every layer is checked as it is pushed");
    model
}

/// Akida 1.0: every kind of layer.
pub fn akida1() -> Model {
    let input = Input::integers(Tensor::new("x", [9, 9, 1], 8, false));
    let mut model = Model::new("v1", Target::Akd1000, input);
    let steps = |filters: usize| Activation::Steps {
        threshold: (0..filters as i32).map(|f| f * 40 - 100).collect(),
        step_16ths: (0..filters as u32).map(|f| 100 + f * 33).collect(),
    };
    let first = Conv {
        pads: [1; 4],
        pad_value: vec![7],
        activation: steps(4),
        ..Conv::new(ConvKind::Input, weights(8, [4, 3, 3, 1]))
    };
    model.push("first", LayerKind::Conv(Box::new(first)), &[0], 4).expect("first");
    let separable = Conv {
        pointwise: Some(weights(2, [6, 1, 1, 4])),
        stride: [2, 2],
        pads: [1; 4],
        activation: steps(6),
        ..Conv::new(ConvKind::Separable, weights(4, [4, 3, 3, 1]))
    };
    model.push("separable", LayerKind::Conv(Box::new(separable)), &[1], 2).expect("separable");
    let global =
        Conv { pool: Pool::Global, activation: steps(3), ..Conv::new(ConvKind::Standard, weights(4, [3, 1, 1, 6])) };
    model.push("global", LayerKind::Conv(Box::new(global)), &[2], 1).expect("global");
    let last = model.push("head", LayerKind::Dense(Dense::new(weights(4, [2, 1, 1, 3]))), &[3], 32).expect("head");
    let dequantizer =
        Dequantizer { name: "scale".into(), scale: vec![3.5, 2.25], offset: vec![-4, 9], by: DequantizeBy::Divide };
    model.output("y", last, Some(dequantizer));
    model.validate().expect("every layer is checked as it is pushed");
    model
}

/// All of them.
pub fn all() -> Vec<Model> {
    vec![akida2(), temporal(), akida1()]
}
