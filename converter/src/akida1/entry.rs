//! What comes before the first layer: type, layout and padding of the input.

use akida_runtime::model::OnnxLayout;

use super::chain::{Layer, Operator};
use super::read::{CHANGE, Reader, refuse};
use crate::onnx::Node;
use crate::quantize::QuantizeError;

/// Padding of the input by a number of its own, [`BRNPad`](crate::prepare): what normalization makes of the zeros that
/// a convolution behind it pads with.
pub struct Pad {
    node: Node,
    /// [top, left, bottom, right].
    pads: [usize; 4],
    /// The number.
    value: f64,
}

/// An Akida 1.0 chip has one padding value for all channels (targets.md 1.1).
const ONE_NUMBER: &str = "Normalize all channels by one mean, or before the network: then the padding is 0";

impl Reader<'_> {
    /// Takes a type conversion, a transposition from (batch, height, width, channels) and padding, in this order.
    /// Returns the layout of the graph's input when it is channels last.
    pub fn entry(&mut self) -> Result<(Option<OnnxLayout>, Option<Pad>), QuantizeError> {
        self.take_if(&["Cast"])?;
        let mut layout = None;
        if let Some(node) = self.take_if(&["Transpose"])? {
            if node.ints("perm") != Some(&[0, 3, 1, 2]) {
                let found = format!("{:?}", node.ints("perm"));
                return Err(refuse(node, "the input is transposed from NHWC to NCHW: [0, 3, 1, 2]", found, CHANGE));
            }
            // The graph's input was read as (channels, height, width).
            let [width, channels, height] = self.shape;
            self.shape = [height, width, channels];
            layout = Some(OnnxLayout::Nhwc);
        }
        // A node of graph preparation, with a domain of its own.
        let Some(node) = self.peek()?.filter(|node| node.op == "BRNPad") else { return Ok((layout, None)) };
        self.take()?;
        let rule = "the input is padded in height and width, with one number";
        let refuse = |found: String| refuse(node, rule, found, CHANGE);
        let (_, values) = self.constant(node, 2)?;
        let Some((&value, _)) = values.split_first().filter(|(first, rest)| rest.iter().all(|v| v == *first)) else {
            return Err(super::read::refuse(node, rule, format!("{values:?}"), ONE_NUMBER));
        };
        let name = node.input(1).unwrap_or_default();
        let numbers = match self.graph.initializers.get(name) {
            Some(tensor) => tensor.values::<i64>(name)?,
            None => return Err(refuse(format!("'{name}' is not constant"))),
        };
        let pads: Option<Vec<usize>> = numbers.iter().map(|&pad| usize::try_from(pad).ok()).collect();
        match pads.as_deref() {
            Some(&[0, 0, top, left, 0, 0, bottom, right] | &[top, left, bottom, right]) => {
                Ok((layout, Some(Pad { node: node.clone(), pads: [top, left, bottom, right], value })))
            }
            _ => Err(refuse(format!("pads {numbers:?}"))),
        }
    }
}

impl Pad {
    /// Moves the padding into the first layer.
    pub fn into_layer(self, mut layer: Layer) -> Result<Layer, QuantizeError> {
        match &mut layer.operator {
            Operator::Conv { window, .. } if window.pads == [0; 4] && [1, 3].contains(&layer.input[2]) => {
                window.pads = self.pads;
            }
            _ => {
                let rule = "a padded input goes into a convolution over 1 or 3 channels that pads not";
                return Err(refuse(&self.node, rule, format!("'{}' behind it", layer.name), CHANGE));
            }
        }
        layer.padding = self.value;
        Ok(layer)
    }
}
