//! Akida 1.0 vectors as models (tests/data/conformance/akida1 and its README).

use akida_runtime::model::{
    Activation, Conv, ConvKind, Dense, DequantizeBy, Dequantizer, Input, LayerKind, Model, Pool, Target, Tensor,
    Weights,
};
use ndarray::ArrayD;
use serde_json::Value;

use crate::conformance::{Case, Npz, root};

/// A chain of layers (or a single one) with its inputs and results.
pub struct Chain {
    /// The layers as a model for AKD1000. Without activation in the last layer its output has a dequantizer.
    pub model: Model,
    /// Inputs: (batch, height, width, channels).
    pub inputs: ArrayD<i64>,
    /// What each layer gives: (batch, height, width, channels).
    pub outputs: Vec<ArrayD<i64>>,
    /// Potentials of a single layer with activation.
    pub potentials: Option<ArrayD<i64>>,
    /// Floats, when the last layer has no activation.
    pub predict: Option<ArrayD<f32>>,
}

/// All cases: file name and parameters, single layers first.
pub fn cases() -> Vec<(String, Value)> {
    let file = root().join("akida1/manifest.json");
    let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let manifest: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let list = |key: &str| manifest[key].as_array().cloned().unwrap_or_default();
    let case = |case: Value| (case["file"].as_str().unwrap_or_default().to_owned(), case["params"].clone());
    list("single").into_iter().chain(list("chains")).map(case).collect()
}

/// The arrays of a file.
pub fn npz(file: &str) -> Npz {
    let case = Case { name: file.to_owned(), folder: root().join("akida1"), json: Value::Null };
    case.npz(file).unwrap_or_else(|| panic!("akida1/{file} is missing"))
}

/// One case of [`cases`].
pub fn chain(file: &str, params: &Value) -> Chain {
    let mut npz = npz(file);
    let single = [params.clone()];
    let (layers, prefixed) = match params["layers"].as_array() {
        Some(layers) => (layers.as_slice(), true),
        None => (&single[..], false),
    };
    let bits = size(&layers[0], "input_bits") as u8;
    let mut model = Model::new(
        file,
        Target::Akd1000,
        Input::integers(Tensor::new("x", shape(&layers[0], "input_shape"), bits, false)),
    );
    let mut outputs = Vec::new();
    let mut last = 0;
    for (index, params) in layers.iter().enumerate() {
        let key = |name: &str| if prefixed { format!("l{index}_{name}") } else { name.to_owned() };
        let bits = params["act_bits"].as_u64().map_or(32, |bits| bits as u8);
        let layer = layer(&mut npz, &key, params, bits);
        let name = params["name"].as_str().unwrap_or_default();
        last = model.push(name, layer, &[last], bits).unwrap_or_else(|e| panic!("{file}: {e}"));
        assert_eq!(model.tensor(last).shape, shape(params, "output_shape"), "{file}: {name}");
        outputs.push(npz.integers(&key(if bits == 32 { "potentials" } else { "activations" })));
    }
    let predict = npz.has("predict").then(|| npz.floats("predict"));
    let dequantizer = predict.as_ref().map(|_| {
        let key = |name: &str| if prefixed { format!("l{}_{name}", layers.len() - 1) } else { name.to_owned() };
        let scale = npz.floats(&key("act_step")).into_raw_vec_and_offset().0;
        let offset = npz.integers(&key("threshold")).iter().map(|&t| t as i32).collect();
        Dequantizer { name: "dequantizer".into(), scale, offset, by: DequantizeBy::Divide }
    });
    model.output("y", last, dequantizer);
    let potentials = (!prefixed && npz.has("potentials")).then(|| npz.integers("potentials"));
    Chain { model, inputs: npz.integers("x"), outputs, potentials, predict }
}

fn layer(npz: &mut Npz, key: &impl Fn(&str) -> String, params: &Value, bits: u8) -> LayerKind {
    let activation = if bits == 32 {
        Activation::None
    } else {
        Activation::Steps {
            threshold: npz.integers(&key("threshold")).iter().map(|&t| t as i32).collect(),
            // A multiplication by 16 is exact; what remains is cut off.
            step_16ths: npz.floats(&key("act_step")).iter().map(|&step| (step * 16.0).floor() as u32).collect(),
        }
    };
    let weight_bits = size(params, "weights_bits") as u8;
    // (height, width, channels, neurons) to neurons first; depthwise kernels are (height, width, channels, 1).
    let mut weights = |name: &str, order: [usize; 4]| {
        let array = npz.integers(&key(name)).permuted_axes(&order[..]);
        let values: Vec<i8> = array.iter().map(|&w| w as i8).collect();
        let dims = array.shape();
        Weights::new(weight_bits, [dims[0], dims[1], dims[2], dims[3]], &values)
    };
    const NEURONS_FIRST: [usize; 4] = [3, 0, 1, 2];
    const CHANNELS_FIRST: [usize; 4] = [2, 0, 1, 3];
    let kind = match params["type"].as_str() {
        Some("FullyConnected") => {
            return LayerKind::Dense(Dense { activation, ..Dense::new(weights("weights", NEURONS_FIRST)) });
        }
        Some("InputConvolutional") => ConvKind::Input,
        Some("Convolutional") => ConvKind::Standard,
        Some("SeparableConvolutional") => ConvKind::Separable,
        other => panic!("{}: no layer type {other:?}", key("type")),
    };
    let separable = kind == ConvKind::Separable;
    let pointwise = separable.then(|| weights("weights_pw", NEURONS_FIRST));
    let main = weights("weights", if separable { CHANNELS_FIRST } else { NEURONS_FIRST });

    let same = params["padding"] == "same";
    let [height, width, _] = shape(params, "input_shape");
    let (kernel, stride) = (size(params, "kernel"), size(params, "stride"));
    let pads = pads(same, [height, width], [kernel; 2], [stride; 2]);
    let mut conv = Conv { pointwise, stride: [stride; 2], pads, activation, ..Conv::new(kind, main) };
    if let Some(value) = params["padding_value"].as_i64() {
        conv.pad_value = vec![value as i32];
    }
    conv.pool = match params["pool"].as_str() {
        Some("max") => {
            let pair = |name: &str| [index(&params[name], 0), index(&params[name], 1)];
            let (size, stride) = (pair("pool_size"), pair("pool_stride"));
            let map = conv.conv_size([height, width]).expect("the kernel fits");
            Pool::Max { size, stride, pads: self::pads(same, map, size, stride) }
        }
        Some("average") => Pool::Global,
        _ => Pool::None,
    };
    LayerKind::Conv(Box::new(conv))
}

/// SAME: `total = max(0, (ceil(n / stride) - 1) * stride + k - n)`, the smaller half before.
fn pads(same: bool, map: [usize; 2], kernel: [usize; 2], stride: [usize; 2]) -> [usize; 4] {
    let total = |axis: usize| {
        let span = (map[axis].div_ceil(stride[axis]) - 1) * stride[axis] + kernel[axis];
        if same { span.saturating_sub(map[axis]) } else { 0 }
    };
    let [rows, columns] = [total(0), total(1)];
    [rows / 2, columns / 2, rows - rows / 2, columns - columns / 2]
}

fn size(params: &Value, name: &str) -> usize {
    params[name].as_u64().unwrap_or_else(|| panic!("no {name} in {params}")) as usize
}

fn index(list: &Value, at: usize) -> usize {
    list[at].as_u64().unwrap_or_else(|| panic!("no number {at} in {list}")) as usize
}

fn shape(params: &Value, name: &str) -> [usize; 3] {
    [0, 1, 2].map(|at| index(&params[name], at))
}
