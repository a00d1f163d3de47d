//! Constants of a QDQ graph: integers with scales, and the float tensors they stand for.

use std::collections::HashMap;

use super::QdqError;
use super::error::STATIC_INT8;
use super::params::{Quantization, is_dequantize, is_quantize};
use crate::onnx::{Attribute, DType, Graph, Node, Tensor};

/// A quantized constant: integers without their zero point.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// Dimensions.
    pub dims: Vec<usize>,
    /// Row-major, zero point subtracted.
    pub integers: Vec<i32>,
    /// Real per integer: one, or one per index of `axis`.
    pub scale: Vec<f32>,
    /// The axis of several scales.
    pub axis: usize,
    /// Type of the integers.
    pub dtype: DType,
}

impl Known {
    /// The real numbers.
    pub fn floats(&self) -> Vec<f32> {
        let stride: usize = self.dims.get(self.axis + 1..).unwrap_or(&[]).iter().product();
        let real = |(at, &integer): (usize, &i32)| {
            let channel = if self.scale.len() == 1 { 0 } else { at / stride.max(1) % self.scale.len() };
            (f64::from(integer) * f64::from(self.scale[channel])) as f32
        };
        self.integers.iter().enumerate().map(real).collect()
    }

    /// The constant with its axes in another order.
    fn transposed(&self, order: &[usize]) -> Option<Self> {
        let array = ndarray::ArrayD::from_shape_vec(self.dims.clone(), self.integers.clone()).ok()?;
        let mut sorted = order.to_vec();
        sorted.sort_unstable();
        if sorted.len() != self.dims.len() || sorted.iter().enumerate().any(|(n, &axis)| n != axis) {
            return None;
        }
        let turned = array.permuted_axes(order.to_vec());
        let axis = order.iter().position(|&old| old == self.axis).unwrap_or(0);
        Some(Self {
            dims: turned.shape().to_vec(),
            integers: turned.iter().copied().collect(),
            scale: self.scale.clone(),
            axis,
            dtype: self.dtype,
        })
    }
}

/// Constant nodes, and Identity nodes on constants, become initializers, so that scales and zero points are found.
pub fn gather(graph: &mut Graph) {
    let Graph { nodes, initializers, .. } = graph;
    nodes.retain(|node| {
        let value = match (node.op.as_str(), node.attributes.values().next()) {
            _ if !node.domain.is_empty() => None,
            ("Constant", Some(Attribute::Tensor(tensor))) => Some(tensor.clone()),
            ("Constant", Some(Attribute::Float(value))) => Some(Tensor::scalar(*value)),
            ("Constant", Some(Attribute::Int(value))) => Some(Tensor::scalar(*value)),
            ("Identity", _) => node.input(0).and_then(|name| initializers.get(name).cloned()),
            _ => None,
        };
        match value {
            Some(value) => drop(initializers.insert(node.output().to_owned(), value)),
            None => return true,
        }
        false
    });
}

/// Replaces all quantized constants by float initializers of the same names. Returns what they were.
pub fn fold(graph: &mut Graph) -> Result<HashMap<String, Known>, QdqError> {
    let mut known: HashMap<String, Known> = HashMap::new();
    // Integers that a QuantizeLinear or Clip inside the graph makes of a constant.
    let mut integers: HashMap<String, (Tensor, Option<Quantization>)> = HashMap::new();
    let mut done = Vec::new();
    for (number, node) in graph.nodes.iter().enumerate() {
        let source = node.input(0).unwrap_or_default();
        if is_quantize(node) && graph.initializers.contains_key(source) {
            let tensor = quantize(graph, node, &graph.initializers[source], source)?;
            integers.insert(node.output().to_owned(), tensor);
        } else if node.is("Clip") && integers.contains_key(source) {
            let (tensor, quantization) = &integers[source];
            let tensor = clip(graph, node, tensor)?;
            let entry = (tensor, quantization.clone());
            integers.insert(node.output().to_owned(), entry);
        } else if is_dequantize(node)
            && let Some(tensor) =
                graph.initializers.get(source).or_else(|| integers.get(source).map(|(tensor, _)| tensor))
        {
            known.insert(node.output().to_owned(), dequantize(graph, node, tensor, source)?);
        } else if node.is("Transpose")
            && let Some(constant) = known.get(source)
        {
            let order: Vec<usize> = match node.ints("perm") {
                Some(perm) => perm.iter().map(|&axis| axis.max(0) as usize).collect(),
                None => (0..constant.dims.len()).rev().collect(),
            };
            let turned = constant.transposed(&order).ok_or_else(|| {
                QdqError::node(node, "perm must name every axis once", format!("{order:?}"), "Export the network again")
            })?;
            known.insert(node.output().to_owned(), turned);
        } else if node.is("Identity")
            && let Some(constant) = known.get(source).cloned()
        {
            known.insert(node.output().to_owned(), constant);
        } else {
            continue;
        }
        done.push(number);
    }
    let mut done = done.into_iter().peekable();
    let mut number = 0;
    graph.nodes.retain(|_| {
        number += 1;
        done.next_if_eq(&(number - 1)).is_none()
    });
    Ok(own_copies(graph, known))
}

/// Every reader of a quantized constant gets one of its own, so that the name says what a weight was.
fn own_copies(graph: &mut Graph, known: HashMap<String, Known>) -> HashMap<String, Known> {
    let mut copies = HashMap::new();
    let mut readers: HashMap<String, usize> = HashMap::new();
    for number in 0..graph.nodes.len() {
        for index in 0..graph.nodes[number].inputs.len() {
            let name = graph.nodes[number].inputs[index].clone();
            let Some(constant) = known.get(&name) else { continue };
            let count = readers.entry(name.clone()).or_default();
            let own = if *count == 0 { name } else { format!("{name}/{count}") };
            *count += 1;
            let tensor = Tensor::new(constant.dims.clone(), &constant.floats());
            graph.initializers.insert(own.clone(), tensor);
            graph.nodes[number].inputs[index].clone_from(&own);
            copies.insert(own, constant.clone());
        }
    }
    copies
}

/// QuantizeLinear of a constant.
fn quantize(
    graph: &Graph,
    node: &Node,
    tensor: &Tensor,
    name: &str,
) -> Result<(Tensor, Option<Quantization>), QdqError> {
    let quantization = Quantization::read(graph, node, Some(tensor.dims().len()))?;
    let floats = tensor.values::<f32>(name)?;
    let stride = stride(node, tensor.dims(), &quantization)?;
    let (low, high) = quantization.range;
    let integer = |(at, &value): (usize, &f32)| {
        let channel = at / stride % quantization.scale.len();
        let scaled = f64::from((value / quantization.scale[channel]).round_ties_even());
        (scaled + f64::from(quantization.zero[channel])).clamp(low.into(), high.into()) as i32
    };
    let integers: Vec<i32> = floats.iter().enumerate().map(integer).collect();
    let tensor = if low < 0 {
        Tensor::new(tensor.dims(), &integers.iter().map(|&v| v as i8).collect::<Vec<_>>())
    } else {
        Tensor::new(tensor.dims(), &integers.iter().map(|&v| v as u8).collect::<Vec<_>>())
    };
    Ok((tensor, Some(quantization)))
}

/// Clip of integers: PyTorch's way to say that a type is not used to its ends.
fn clip(graph: &Graph, node: &Node, tensor: &Tensor) -> Result<Tensor, QdqError> {
    let (low, high) = clip_bounds(graph, node)?;
    let held = |value: i32| value.clamp(low, high.max(low));
    let values = integers_of(node, tensor, "")?;
    Ok(match tensor.dtype() {
        DType::I8 => Tensor::new(tensor.dims(), &values.iter().map(|&v| held(v) as i8).collect::<Vec<_>>()),
        _ => Tensor::new(tensor.dims(), &values.iter().map(|&v| held(v) as u8).collect::<Vec<_>>()),
    })
}

/// Bounds of a Clip of integers.
pub fn clip_bounds(graph: &Graph, node: &Node) -> Result<(i32, i32), QdqError> {
    let bound = |index: usize, default: i32| match node.input(index) {
        None => Ok(default),
        Some(name) => match graph.initializers.get(name).map(|tensor| integers_of(node, tensor, name)).transpose()? {
            Some(values) if values.len() == 1 => Ok(values[0]),
            _ => Err(QdqError::node(node, "bounds of a Clip must be constant", format!("'{name}'"), STATIC_INT8)),
        },
    };
    Ok((bound(1, i32::MIN)?, bound(2, i32::MAX)?))
}

fn integers_of(node: &Node, tensor: &Tensor, name: &str) -> Result<Vec<i32>, QdqError> {
    Ok(match tensor.dtype() {
        DType::I8 => tensor.values::<i8>(name)?.into_iter().map(i32::from).collect(),
        DType::U8 => tensor.values::<u8>(name)?.into_iter().map(i32::from).collect(),
        DType::I32 => tensor.values::<i32>(name)?,
        other => return Err(QdqError::node(node, "integers must be INT8, UINT8 or INT32", other, STATIC_INT8)),
    })
}

fn dequantize(graph: &Graph, node: &Node, tensor: &Tensor, name: &str) -> Result<Known, QdqError> {
    let quantization = Quantization::read(graph, node, Some(tensor.dims().len()))?;
    let stride = stride(node, tensor.dims(), &quantization)?;
    let values = integers_of(node, tensor, name)?;
    let wide = tensor.dtype() == DType::I32;
    let mut integers = Vec::with_capacity(values.len());
    for (at, &value) in values.iter().enumerate() {
        let zero = quantization.zero[at / stride % quantization.zero.len()];
        let integer = i64::from(value) - i64::from(zero);
        match i32::try_from(integer) {
            Ok(integer) if wide || (-128..=127).contains(&integer) => integers.push(integer),
            _ => {
                let rule = "weights must fit into signed 8 bits without their zero point";
                let found = format!("{value} with zero point {zero}");
                let remedy = "Quantize weights symmetrically, to int8 (WeightSymmetric; torch.per_channel_symmetric)";
                return Err(QdqError::node(node, rule, found, remedy));
            }
        }
    }
    let (scale, axis) = (quantization.scale, quantization.axis);
    Ok(Known { dims: tensor.dims().to_vec(), integers, scale, axis, dtype: tensor.dtype() })
}

/// Elements between two of the quantized axis.
fn stride(node: &Node, dims: &[usize], quantization: &Quantization) -> Result<usize, QdqError> {
    if quantization.scale.len() == 1 {
        return Ok(1);
    }
    if dims.get(quantization.axis) != Some(&quantization.scale.len()) {
        let found = format!("{} scales on axis {} of {dims:?}", quantization.scale.len(), quantization.axis);
        return Err(QdqError::node(node, "one scale, or one for each index of its axis", found, "Export it again"));
    }
    Ok(dims[quantization.axis + 1..].iter().product::<usize>().max(1))
}
