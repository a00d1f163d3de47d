//! One row for each layer.

use super::Form;
use crate::model::{Conv, ConvKind, LayerKind, Model, OnnxLayout, Shape, Target, Weights};

/// A layer in the table.
#[derive(Clone, Debug)]
pub struct Row {
    /// Name of the layer.
    pub name: String,
    /// Its type, in the vendor's words.
    pub kind: &'static str,
    /// Shape of its output.
    pub output: String,
    /// Shapes of its weights, one line each; at least one.
    pub kernel: Vec<String>,
    /// What of the mesh holds it.
    pub components: String,
}

impl Row {
    fn new(name: &str, kind: &'static str, output: &[usize]) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            output: list(output),
            kernel: vec!["N/A".into()],
            components: String::new(),
        }
    }
}

/// `[28, 28, 1]`
pub fn list(dims: &[usize]) -> String {
    format!("{dims:?}")
}

/// `(5, 5, 1, 32)`
fn tuple(dims: &[usize]) -> String {
    format!("({})", dims.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
}

/// What the quantizer makes, as the vendor's quantizer calls it: a flat input counts as one channel of one row.
pub fn quantized_shape(model: &Model) -> Shape {
    let shape = model.input.tensor.shape;
    match model.input.tensor.layout {
        OnnxLayout::Flat => [1, shape[2], 1],
        _ => shape,
    }
}

/// Whether integers enter through a layer of their own: the first layer is no input layer.
fn has_input_data(model: &Model) -> bool {
    let input_layer = |kind: &LayerKind| matches!(kind, LayerKind::Conv(conv) if conv.kind == ConvKind::Input);
    model.layers.first().is_some_and(|layer| !input_layer(&layer.kind))
}

fn shows_quantizer(model: &Model, form: Form) -> bool {
    model.input.quantizer.is_some() && form == Form::WithQuantizer
}

/// Whether that layer is the very first: then it is counted but has no row.
pub fn hides_input_data(model: &Model, form: Form) -> bool {
    has_input_data(model) && !shows_quantizer(model, form)
}

/// What stands before the first layer.
pub fn front_rows(model: &Model, form: Form) -> Vec<Row> {
    let mut rows = Vec::new();
    if let (Some(quantizer), Form::WithQuantizer) = (&model.input.quantizer, form) {
        let shape = quantized_shape(model);
        rows.push(Row::new(&quantizer.name, "Quantizer", &shape));
        if has_input_data(model) {
            // Named by the vendor's tools after its place.
            rows.push(Row::new("InputData_2", "InputData", &shape));
        }
    }
    rows
}

/// The dequantizer, for all outputs; on Akida 1.0 it is part of the last layer.
pub fn dequantizer_row(model: &Model) -> Option<Row> {
    let output = model.outputs.iter().find(|output| output.dequantizer.is_some())?;
    let dequantizer = output.dequantizer.as_ref().filter(|_| !model.target.is_v1())?;
    Some(Row::new(&dequantizer.name, "Dequantizer", &model.tensor(output.tensor).shape))
}

/// The row of layer `index`.
pub fn layer_row(model: &Model, index: usize) -> Row {
    let layer = &model.layers[index];
    let row = Row::new(&layer.name, kind(&layer.kind, model.target), &layer.output.shape);
    match &layer.kind {
        LayerKind::Conv(conv) => Row { kernel: conv_kernel(conv), ..row },
        LayerKind::Dense(dense) => Row { kernel: vec![dense_kernel(&dense.weights, model.target)], ..row },
        LayerKind::Add(_) | LayerKind::Concat => row,
    }
}

fn kind(kind: &LayerKind, target: Target) -> &'static str {
    match kind {
        LayerKind::Conv(conv) => match (conv.kind, target.is_v1()) {
            (ConvKind::Input, false) => "InputConv2D",
            (ConvKind::Input, true) => "InputConv.",
            (ConvKind::Standard, false) => "Conv2D",
            (ConvKind::Standard, true) => "Conv.",
            (ConvKind::Separable, _) => "Sep.Conv.",
            (ConvKind::Depthwise, _) => "DepthwiseConv2D",
            (ConvKind::Transposed, _) => "Conv2DTranspose",
            (ConvKind::DepthwiseTransposed, _) => "DepthwiseConv2DTranspose",
            (ConvKind::Temporal, _) => "BufferTempConv",
            (ConvKind::DepthwiseTemporal, _) => "DepthwiseBufferTempConv",
        },
        LayerKind::Dense(_) if target.is_v1() => "Fully.",
        LayerKind::Dense(_) => "Dense1D",
        LayerKind::Add(_) => "Add",
        LayerKind::Concat => "Concatenate",
    }
}

/// (height, width, channels, filters), the filters last; depthwise kernels have channels instead of filters.
fn conv_kernel(conv: &Conv) -> Vec<String> {
    let shape = |weights: &Weights, depthwise: bool| {
        let [filters, height, width, channels] = weights.shape;
        tuple(&if depthwise { [height, width, filters, channels] } else { [height, width, channels, filters] })
    };
    let depthwise = conv.kind.per_channel() || conv.kind == ConvKind::Separable;
    let mut kernel = vec![shape(&conv.weights, depthwise)];
    kernel.extend(conv.pointwise.as_ref().map(|weights| shape(weights, false)));
    kernel
}

fn dense_kernel(weights: &Weights, target: Target) -> String {
    let [inputs, units] = [weights.filter_len(), weights.filters()];
    if target.is_v1() { tuple(&[1, 1, inputs, units]) } else { tuple(&[inputs, units]) }
}
