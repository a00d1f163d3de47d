//! Quantizer and dequantizers of a graph.

use akida_runtime::model::{DequantizeBy, Dequantizer, Input, InputQuantizer, OnnxLayout, Tensor};

use super::{ImportError, constants::Constants};
use crate::onnx::{Attribute, DType, Graph, Node};

/// The model's input out of its `InputQuantizer`.
pub fn input(graph: &Graph, node: &Node) -> Result<Input, ImportError> {
    let Some(value) = graph.inputs.iter().find(|value| Some(value.name.as_str()) == node.input(0)) else {
        return Err(ImportError::node(node, "does not take an input of the graph"));
    };
    if !matches!(value.ty.dtype, Some(DType::F32 | DType::U8 | DType::I8)) {
        let reason =
            format!("takes '{}' with elements of type {:?}, not FLOAT, UINT8 or INT8", value.name, value.ty.dtype);
        return Err(ImportError::node(node, reason));
    }
    let Some(dims) = value.ty.without_batch() else {
        let reason = format!("takes '{}', whose dimensions after the batch are not all known", value.name);
        return Err(ImportError::node(node, reason));
    };
    let perm: Vec<i64> = match node.attributes.get("perm") {
        Some(Attribute::Ints(perm)) => perm.clone(),
        _ => (0..=dims.len() as i64).collect(),
    };
    // The layout of the float input, and of the integers after the transposition.
    let (float, integer) = match perm.as_slice() {
        [0, 1] => (OnnxLayout::Flat, OnnxLayout::Flat),
        [0, 1, 2, 3] => (OnnxLayout::Nchw, OnnxLayout::Nchw),
        [0, 3, 1, 2] => (OnnxLayout::Nhwc, OnnxLayout::Nchw),
        _ => {
            let reason = format!("perm is {perm:?}; [0, 1], [0, 1, 2, 3] and [0, 3, 1, 2] are supported");
            return Err(ImportError::node(node, reason));
        }
    };
    let Some(shape) = float.shape(&dims) else {
        return Err(ImportError::node(
            node,
            format!("perm {perm:?} does not fit the {} dimensions of its input", dims.len() + 1),
        ));
    };
    let constants = Constants { graph, node, roles: &["X", "scale", "zp"] };
    let (_, zero_point) = constants.tensor("zp")?;
    let signed = zero_point.dtype() == DType::I8;
    let zero_point: Vec<i32> = if signed {
        constants.per_channel::<i8>("zp", shape[2])?.into_iter().map(i32::from).collect()
    } else {
        constants.per_channel::<u8>("zp", shape[2])?.into_iter().map(i32::from).collect()
    };
    let tensor = Tensor { name: node.output().to_owned(), shape, bits: 8, signed, layout: integer };
    let scale = constants.per_channel("scale", shape[2])?;
    let quantizer = InputQuantizer { name: node.name.clone(), scale, zero_point };
    Ok(Input { name: value.name.clone(), layout: float, tensor, quantizer: Some(quantizer) })
}

/// The tensors a `Dequantizer` or `DequantizerN` takes, each with its output and scale. `channels` knows the quantized
/// tensors.
pub fn dequantizers<'a>(
    graph: &'a Graph,
    node: &'a Node,
    channels: impl Fn(&str) -> Option<usize>,
) -> Result<Vec<(&'a str, &'a str, Dequantizer)>, ImportError> {
    let count = match node.op.strip_prefix("Dequantizer") {
        Some("") => 1,
        Some(number) => number.parse().unwrap_or(0),
        None => 0,
    };
    if count == 0 || node.inputs.len() != 2 * count || node.outputs.len() != count {
        let reason = format!(
            "has {} inputs and {} outputs, which is not what its name says",
            node.inputs.len(),
            node.outputs.len()
        );
        return Err(ImportError::node(node, reason));
    }
    let one = |index: usize| {
        let name = node.input(2 * index).unwrap_or("");
        let Some(channels) = channels(name) else {
            return Err(ImportError::node(node, format!("takes '{name}', which no quantized node makes")));
        };
        let mut roles = vec![""; 2 * count];
        roles[2 * index + 1] = "scale";
        let scale = Constants { graph, node, roles: &roles }.per_channel("scale", channels)?;
        let dequantizer =
            Dequantizer { name: node.name.clone(), scale, offset: Vec::new(), by: DequantizeBy::Multiply };
        Ok((name, node.outputs[index].as_str(), dequantizer))
    };
    (0..count).map(one).collect()
}
