//! What one QuantizeLinear or DequantizeLinear says.

use super::QdqError;
use super::error::STATIC_INT8;
use crate::onnx::{DType, Graph, Node, Tensor};

/// Scale and zero point of a tensor: real = (integer - zero) x scale.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantization {
    /// Real per integer: one, or one per index of `axis`.
    pub scale: Vec<f32>,
    /// Zero points, as many.
    pub zero: Vec<i32>,
    /// The axis of several scales.
    pub axis: usize,
    /// Smallest and largest integer.
    pub range: (i32, i32),
}

/// Whether a node is QuantizeLinear, in the standard domain or ONNX Runtime's.
pub fn is_quantize(node: &Node) -> bool {
    node.op == "QuantizeLinear" && ["", "com.microsoft"].contains(&node.domain.as_str())
}

/// Same for DequantizeLinear.
pub fn is_dequantize(node: &Node) -> bool {
    node.op == "DequantizeLinear" && ["", "com.microsoft"].contains(&node.domain.as_str())
}

impl Quantization {
    /// Reads a node whose integers are of rank `rank` where that is known. Constants must be initializers.
    pub fn read(graph: &Graph, node: &Node, rank: Option<usize>) -> Result<Self, QdqError> {
        if let Some(size) = node.int("block_size").filter(|&size| size != 0) {
            let found = format!("block_size {size}");
            return Err(QdqError::node(
                node,
                "one scale for a tensor or a channel, not for blocks",
                found,
                STATIC_INT8,
            ));
        }
        let constant = |index: usize| match node.input(index) {
            None => Ok(None),
            Some(name) => match graph.initializers.get(name) {
                Some(tensor) => Ok(Some((name, tensor))),
                None => {
                    let rule = "scales and zero points must be constant: dynamic quantization needs no board";
                    Err(QdqError::node(node, rule, format!("'{name}' is computed"), STATIC_INT8))
                }
            },
        };
        let (name, scale) = constant(1)?
            .ok_or_else(|| QdqError::node(node, "it must have a scale", "none", "Export the network again"))?;
        let scale = scale.values::<f32>(name)?;
        if let Some(bad) = scale.iter().find(|s| !s.is_finite() || **s <= 0.0) {
            return Err(QdqError::node(node, "scales must be positive numbers", bad, "Quantize the network again"));
        }
        let zero = constant(2)?;
        // Without a zero point, operator set 21 may name the type; the data of a DequantizeLinear has one of its own.
        let data = node.input(0).and_then(|name| graph.initializers.get(name)).map(Tensor::dtype);
        let named = node.int("output_dtype").filter(|&ty| is_quantize(node) && ty != 0);
        let dtype = match (zero, named) {
            (Some((_, zero)), _) => Some(zero.dtype()),
            (None, Some(number)) => DType::from_onnx(number as i32),
            (None, None) => Some(data.filter(|_| is_dequantize(node)).unwrap_or(DType::U8)),
        };
        let range = match dtype {
            Some(DType::U8) => (0, 255),
            Some(DType::I8) => (-128, 127),
            Some(DType::I32) if is_dequantize(node) => (i32::MIN, i32::MAX),
            other => {
                let found = other.map_or_else(|| "another type".to_owned(), |dtype| dtype.to_string());
                return Err(QdqError::node(node, "integers must be INT8 or UINT8", found, STATIC_INT8));
            }
        };
        let zero = match zero {
            Some((name, tensor)) => match tensor.dtype() {
                DType::I8 => tensor.values::<i8>(name)?.into_iter().map(i32::from).collect(),
                DType::U8 => tensor.values::<u8>(name)?.into_iter().map(i32::from).collect(),
                _ => tensor.values::<i32>(name)?,
            },
            None => vec![0; scale.len()],
        };
        if scale.is_empty() || zero.len() != scale.len() {
            let found = format!("{} scales and {} zero points", scale.len(), zero.len());
            return Err(QdqError::node(node, "as many zero points as scales", found, "Export the network again"));
        }
        let axis = node.int("axis").unwrap_or(1);
        let axis = if axis < 0 { axis + rank.unwrap_or(0) as i64 } else { axis };
        let axis = usize::try_from(axis).map_err(|_| {
            QdqError::node(node, "the axis must be one of the tensor's", axis, "Export the network again")
        })?;
        Ok(Self { scale, zero, axis, range })
    }

    /// Whether nothing below zero can be said: the integers end at the zero point.
    pub fn rectifies(&self) -> bool {
        self.zero[0] <= self.range.0
    }

    /// Real per integer of the signed 8 bits without zero point that hold the same numbers. The same scale when the
    /// integers only move; a larger one when there are more of them than fit.
    pub fn symmetric_scale(&self) -> f64 {
        let (below, above) = (f64::from(self.zero[0] - self.range.0), f64::from(self.range.1 - self.zero[0]));
        let scale = f64::from(self.scale[0]);
        if below <= 128.0 && above <= 127.0 {
            return scale;
        }
        // The largest number may lose the last half step: 0..=255 become 0..=127 of twice the size.
        scale * (below / 128.0).max(above / 127.5)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_that_fit_keep_their_scale() {
        let case = |zero, range| {
            let q = Quantization { scale: vec![0.5], zero: vec![zero], axis: 1, range };
            q.symmetric_scale() / 0.5
        };
        assert_eq!(case(0, (-128, 127)), 1.0);
        assert_eq!(case(128, (0, 255)), 1.0);
        assert_eq!(case(0, (0, 127)), 1.0); // 7 bits, as PyTorch trains for x86
        assert_eq!(case(0, (0, 255)), 2.0);
        assert_eq!(case(-128, (-128, 127)), 2.0);
        assert_eq!(case(255, (0, 255)), 255.0 / 128.0);
        assert!(case(100, (0, 255)) > 1.2);
    }
}
