//! Fused operators spelled out in plain ONNX, so that any runtime can run a quantized graph (quantization.md 5).
//!
//! Integers are computed in `f32`, as in the reference's functions. Convolutions over a FIFO of frames have no plain
//! form: graphs with them need a runtime that knows `BufferTempConv`.

use super::layer::{Activation, Kind, Layer, Pool};
use crate::onnx::{Attribute, BRAINCHIP, DType, Function, Node};
use crate::prepare::OPSET;

/// ONNX's number of the attribute type "list of integers".
const INTS: i32 = 7;
/// "integer".
const INT: i32 = 2;
/// "string".
const STRING: i32 = 3;

/// A function body that grows node by node.
struct Body {
    function: Function,
}

impl Body {
    fn new(name: &str, inputs: &[&str], output: &str) -> Self {
        let mut function = Function { name: name.to_owned(), domain: BRAINCHIP.to_owned(), ..Function::default() };
        function.inputs = inputs.iter().map(|&input| input.to_owned()).collect();
        function.outputs = vec![output.to_owned()];
        function.opsets.insert(String::new(), OPSET);
        Self { function }
    }

    fn push(&mut self, node: Node) -> String {
        let output = node.output().to_owned();
        self.function.nodes.push(node);
        output
    }

    fn node(&mut self, op: &str, inputs: &[&str], output: &str) -> String {
        self.push(Node::new(op, inputs, output))
    }

    /// Takes attribute `outer` of whoever calls the function.
    fn caller(&mut self, node: Node, attributes: &[(&str, &str, i32)]) -> Node {
        attributes.iter().fold(node, |mut node, &(inner, outer, kind)| {
            node.attributes.insert(inner.to_owned(), Attribute::Reference { name: outer.to_owned(), kind });
            if !self.function.attributes.iter().any(|known| known == outer) {
                self.function.attributes.push(outer.to_owned());
            }
            node
        })
    }

    fn cast(&mut self, input: &str, to: DType, output: &str) -> String {
        self.push(Node::new("Cast", &[input], output).with("to", to as i64))
    }

    fn float(&mut self, input: &str) -> String {
        self.cast(input, DType::F32, &format!("{input}/float"))
    }

    fn constant(&mut self, name: &str, value: f32) -> String {
        self.push(Node::new("Constant", &[], name).with("value_float", value))
    }

    fn integers(&mut self, name: &str, values: &[i64]) -> String {
        self.push(Node::new("Constant", &[], name).with("value_ints", values.to_vec()))
    }

    /// `clip(floor(x / divisor * multiplier + 1/2))` to `bits` bits.
    fn scale_out(&mut self, x: &str, multiplier: Option<&str>, divisor: &str, bits: u32) -> String {
        let divisor = self.float(divisor);
        let mut y = self.node("Div", &[x, &divisor], &format!("{x}/divided"));
        if let Some(multiplier) = multiplier {
            let multiplier = self.float(multiplier);
            y = self.node("Mul", &[&y, &multiplier], &format!("{x}/scaled"));
        }
        let half = self.constant(&format!("{x}/half"), 0.5);
        y = self.node("Add", &[&y, &half], &format!("{x}/shifted"));
        y = self.node("Floor", &[&y], &format!("{x}/rounded"));
        let top = (1u32 << (bits - 1)) as f32;
        let low = self.constant(&format!("{x}/lowest"), -top);
        let high = self.constant(&format!("{x}/highest"), top - 1.0);
        self.node("Clip", &[&y, &low, &high], &format!("{x}/saturated"))
    }
}

/// `InputQuantizer`.
pub fn input_quantizer() -> Function {
    let mut body = Body::new("InputQuantizer", &["X", "scale", "zp"], "Y");
    let x = body.float("X");
    let node = Node::new("Transpose", &[&x], "X/transposed");
    let node = body.caller(node, &[("perm", "perm", INTS)]);
    let x = body.push(node);
    body.node("QuantizeLinear", &[&x, "scale", "zp"], "Y");
    body.function
}

/// `Dequantizer` of one tensor, `DequantizerN` of several.
pub fn dequantizer(op: &str, tensors: usize) -> Function {
    let mut body = Body::new(op, &[], "");
    body.function.outputs.clear();
    for number in 1..=tensors {
        let (x, scale, y) = match tensors {
            1 => ("X".to_owned(), "scale".to_owned(), "Y".to_owned()),
            _ => (format!("X{number}"), format!("scale_{number}"), format!("Y{number}")),
        };
        body.node("DequantizeLinear", &[&x, &scale], &y);
        body.function.inputs.extend([x, scale]);
        body.function.outputs.push(y);
    }
    body.function
}

/// The operator that `layer` becomes.
pub fn layer(layer: &Layer, biased: bool) -> Function {
    let op = layer.op(biased);
    match layer.kind {
        Kind::Add => add(&op, layer.scaled),
        Kind::Concat => {
            let mut body = Body::new(&op, &["X", "Y"], "Zi");
            body.push(Node::new("Concat", &["X", "Y"], "Zi").with("axis", 1));
            body.function
        }
        _ => weighted(&op, layer, biased),
    }
}

fn add(op: &str, scaled: bool) -> Function {
    let inputs: &[&str] = if scaled { &["X", "Y", "Xs", "Ys", "Shift"] } else { &["X", "Y", "Xs", "Ys"] };
    let mut body = Body::new(op, inputs, "Z");
    let [x, y, xs, ys] = ["X", "Y", "Xs", "Ys"].map(|input| body.float(input));
    let x = body.node("Mul", &[&x, &xs], "X/shifted");
    let y = body.node("Mul", &[&y, &ys], "Y/shifted");
    let sum = body.node("Add", &[&x, &y], "Zi");
    if scaled {
        let z = body.scale_out(&sum, None, "Shift", 8);
        body.cast(&z, DType::I8, "Z");
    } else {
        body.cast(&sum, DType::I32, "Z");
    }
    body.function
}

fn weighted(op: &str, layer: &Layer, biased: bool) -> Function {
    let first = layer.kind == (Kind::Conv { input: true });
    let padded = matches!(layer.kind, Kind::Conv { .. } | Kind::Depthwise);
    let table = matches!(layer.activation, Activation::Lut(_));
    let optional = [
        (true, "X"),
        (first, "x_pad_value"),
        (true, "W"),
        (biased, "bias"),
        (padded, "pads"),
        (matches!(layer.activation, Activation::Clip(_)), "max_value"),
        (table, "ActScale"),
        (table, "ActShift"),
        (table, "LUT_values"),
        (layer.scaled, "Scale"),
        (layer.scaled, "Shift"),
    ];
    let inputs: Vec<&str> = optional.iter().filter(|(present, _)| *present).map(|(_, name)| *name).collect();
    let mut body = Body::new(op, &inputs, "Y");
    let (mut x, w) = (body.float("X"), body.float("W"));
    let bias = if biased { body.float("bias") } else { String::new() };
    if padded {
        x = pad(&mut body, &x, first);
    }
    let operands: Vec<&str> =
        if biased { vec![x.as_str(), w.as_str(), bias.as_str()] } else { vec![x.as_str(), w.as_str()] };
    let strides = ("strides", "strides", INTS);
    let group = ("group", "groups", INT);
    let pads = ("pads", "pads", INTS);
    let mut y = match layer.kind {
        Kind::Dense { flatten } => {
            let flat = if flatten { body.node("Flatten", &[&x], "X/flat") } else { x.clone() };
            let operands: Vec<&str> = [flat.as_str()].into_iter().chain(operands[1..].iter().copied()).collect();
            body.push(Node::new("Gemm", &operands, "Sum").with("transB", 1))
        }
        _ => {
            let (inner, attributes): (&str, &[_]) = match layer.kind {
                Kind::Depthwise => ("Conv", &[strides, group]),
                Kind::ConvTranspose => ("ConvTranspose", &[strides, pads]),
                Kind::DepthwiseTranspose => ("ConvTranspose", &[strides, pads, group]),
                Kind::TemporalConv => ("BufferTempConv", &FIFO),
                Kind::DepthwiseTemporalConv => ("DepthwiseBufferTempConv", &FIFO),
                _ => ("Conv", &[strides]),
            };
            let mut node = Node::new(inner, &operands, "Sum");
            if inner.ends_with("BufferTempConv") {
                node.domain = BRAINCHIP.to_owned();
                body.function.opsets.insert(BRAINCHIP.to_owned(), 1);
            }
            let node = body.caller(node, attributes);
            body.push(node)
        }
    };
    if layer.pool == Pool::Max {
        let attributes =
            [("kernel_shape", "pool_size", INTS), ("strides", "pool_strides", INTS), ("pads", "pool_pads", INTS)];
        let node = body.caller(Node::new("MaxPool", &[&y], "Pooled"), &attributes);
        y = body.push(node);
    }
    y = activation(&mut body, &layer.activation, y);
    if layer.pool == Pool::GlobalAverage {
        let axes = body.integers("Pooled/axes", &[-2, -1]);
        y = body.node("ReduceSum", &[&y, &axes], "Pooled");
    }
    if layer.scaled {
        y = body.scale_out(&y, Some("Scale"), "Shift", 8);
        body.cast(&y, DType::I8, "Y");
    } else {
        body.cast(&y, DType::I32, "Y");
    }
    body.function
}

const FIFO: [(&str, &str, i32); 3] =
    [("fifo_name", "fifo_name", STRING), ("fifo_size", "fifo_size", INT), ("model_id", "model_id", STRING)];

/// Pads with zeros, or in a first layer with one value per channel.
fn pad(body: &mut Body, x: &str, first: bool) -> String {
    if !first {
        return body.node("Pad", &[x, "pads"], "X/padded");
    }
    let value = body.float("x_pad_value");
    let axes = body.integers("x_pad_value/axes", &[1, 2]);
    let value = body.node("Unsqueeze", &[&value, &axes], "x_pad_value/column");
    let low = body.node("Sub", &[x, &value], "X/low");
    let padded = body.node("Pad", &[&low, "pads"], "X/low/padded");
    body.node("Add", &[&padded, &value], "X/padded")
}

fn activation(body: &mut Body, activation: &Activation, y: String) -> String {
    match activation {
        Activation::None => y,
        Activation::Relu => body.node("Relu", &[&y], "Activated"),
        Activation::Clip(_) => {
            let positive = body.node("Relu", &[&y], "Positive");
            let maximum = body.float("max_value");
            body.node("Min", &[&positive, &maximum], "Activated")
        }
        Activation::Lut(_) => {
            let index = body.scale_out(&y, Some("ActScale"), "ActShift", 11);
            let index = body.cast(&index, DType::I32, "Index");
            let entry = body.node("Gather", &["LUT_values", &index], "Entry");
            body.cast(&entry, DType::F32, "Activated")
        }
    }
}
