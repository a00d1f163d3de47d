//! Four-bit weights and activations for Akida 2.0: who may have them (targets.md 2), and which layer gets what.
//!
//! The arithmetic is that of 8 bits with fewer levels, which is also that of the Keras quantizers after cross-layer
//! equalization (quantization.md 6.2): weights reach 7, rectified activations 0..=15 without sign, others -8..=7; biases
//! keep 8 bits.

use std::str::FromStr;

use super::layer::{Activation, Kind, Layer};
use super::{QuantizeError, Warning};
use crate::onnx::Graph;

/// Bits of weights and activations, written `4/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bits {
    /// Of weights: 8 or 4. Those of a first convolution on images have 8 always.
    pub weights: u8,
    /// Of activations: 8 or 4.
    pub activations: u8,
}

impl Default for Bits {
    fn default() -> Self {
        Self { weights: 8, activations: 8 }
    }
}

impl FromStr for Bits {
    type Err = QuantizeError;

    fn from_str(text: &str) -> Result<Self, QuantizeError> {
        let parts: Option<Vec<u8>> = text.split('/').map(|part| part.parse().ok()).collect();
        match parts.as_deref() {
            Some(&[weights, activations]) if [4, 8].contains(&weights) && [4, 8].contains(&activations) => {
                Ok(Self { weights, activations })
            }
            _ => Err(QuantizeError::Option {
                option: "--bits",
                rule: "weights (8 or 4) / activations (8 or 4) for akida2, as in 4/8",
                found: format!("'{text}'"),
            }),
        }
    }
}

impl std::fmt::Display for Bits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.weights, self.activations)
    }
}

/// Bits of one layer, by the name of its Conv or Gemm node in the prepared graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerBits {
    /// Its name.
    pub layer: String,
    /// Its weights and its output.
    pub bits: Bits,
}

/// Widths of a layer's integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Widths {
    /// Of its weights.
    pub weights: u8,
    /// Of its output, where that is reduced at all.
    pub output: u8,
    /// Whether output elements are signed.
    pub signed: bool,
}

impl Widths {
    /// What the reference has.
    pub const EIGHT: Self = Self { weights: 8, output: 8, signed: true };

    /// Largest weight in use.
    pub fn weight_levels(self) -> f64 {
        f64::from((1u32 << (self.weights - 1)) - 1)
    }

    /// Largest output.
    pub fn output_levels(self) -> f32 {
        let bits = if self.signed { self.output - 1 } else { self.output };
        ((1u32 << bits) - 1) as f32
    }
}

/// Gives every layer its widths: those asked for where the chip has them, 8 bits elsewhere, with a warning. A layer that
/// is named must be able to have what it is given.
pub fn assign(
    graph: &Graph,
    layers: &mut [Layer],
    bits: Bits,
    named: &[LayerBits],
) -> Result<Vec<Warning>, QuantizeError> {
    for one in named {
        if layers.iter().all(|layer| graph.nodes[layer.main].name != one.layer) {
            return Err(QuantizeError::Option {
                option: "--layer-bits",
                rule: "the name of a Conv or Gemm node of the prepared graph",
                found: format!("'{}'", one.layer),
            });
        }
        if ![one.bits.weights, one.bits.activations].iter().all(|bits| [4, 8].contains(bits)) {
            return Err(QuantizeError::Option {
                option: "--layer-bits",
                rule: "weights of 8 or 4 bits, activations of 8 or 4 for akida2",
                found: format!("{} for '{}'", one.bits, one.layer),
            });
        }
    }
    let mut warnings = Vec::new();
    for number in 0..layers.len() {
        let layer = &layers[number];
        let node = &graph.nodes[layer.main];
        let own = named.iter().find(|one| one.layer == node.name);
        let wanted = own.map_or(bits, |own| own.bits);
        let mut widths = Widths::EIGHT;
        for (what, asked, rule) in [
            ("weights", wanted.weights, eight_bit_weights(layer)),
            ("activations", wanted.activations, eight_bit_output(graph, layers, number)),
        ] {
            let rule = match rule {
                _ if asked == 8 => continue,
                Some(rule) => rule,
                None if what == "weights" => {
                    widths.weights = 4;
                    continue;
                }
                None => {
                    widths.output = 4;
                    widths.signed = !matches!(layer.activation, Activation::Relu | Activation::Clip(_));
                    continue;
                }
            };
            // What is wanted of all layers is not an error where a layer has nothing of the kind.
            match own {
                Some(_) => {
                    return Err(QuantizeError::Node {
                        node: node.name.clone(),
                        op: node.op.clone(),
                        rule: rule.to_owned(),
                        found: format!("{what} of {asked} bits"),
                        remedy: "Give this layer 8 bits with --layer-bits LAYER=W/A",
                    });
                }
                None => warnings.push(Warning::EightBits { layer: node.name.clone(), what, rule }),
            }
        }
        layers[number].widths = widths;
    }
    Ok(warnings)
}

/// Why the weights of a layer have 8 bits; None when they may have 4.
fn eight_bit_weights(layer: &Layer) -> Option<&'static str> {
    match layer.kind {
        Kind::Conv { input: false } | Kind::Depthwise | Kind::Dense { .. } => None,
        Kind::Conv { input: true } => Some("a first convolution on images has weights of 8 bits (targets.md 2.1)"),
        Kind::Add | Kind::Concat => Some("it has no weights"),
        _ => Some("transposed and temporal convolutions have weights of 8 bits (targets.md 2.3, 2.6)"),
    }
}

/// Why the output of a layer has 8 bits; None when it may have 4.
fn eight_bit_output(graph: &Graph, layers: &[Layer], number: usize) -> Option<&'static str> {
    let layer = &layers[number];
    let narrow = |kind: &Kind| matches!(kind, Kind::Conv { .. } | Kind::Depthwise | Kind::Dense { .. });
    match &layer.kind {
        kind if !narrow(kind) => {
            return Some("only convolutions and dense layers make activations of 4 bits (targets.md 2.1-2.6)");
        }
        _ if !layer.scaled => return Some("its 32-bit sums leave the model"),
        _ if graph.is_output(&layer.output) => return Some("what leaves the model has 8 bits"),
        _ => {}
    }
    let mut readers = layers.iter().filter(|reader| reader.inputs.contains(&layer.output));
    if readers.clone().count() == 0 {
        return Some("what leaves the model has 8 bits");
    }
    let wide = readers.any(|reader| !narrow(&reader.kind));
    wide.then_some(
        "what sums, concatenations, transposed and temporal convolutions read has 8 bits (targets.md 2.3-2.6)",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_read_and_written() {
        for text in ["8/8", "4/8", "8/4", "4/4"] {
            assert_eq!(text.parse::<Bits>().unwrap().to_string(), text);
        }
        for text in ["", "4", "8/4/4", "2/4", "4/2", "16/8", "4/1", "a/b", "8/"] {
            assert!(matches!(text.parse::<Bits>(), Err(QuantizeError::Option { .. })), "{text}");
        }
    }

    #[test]
    fn levels() {
        assert_eq!((Widths::EIGHT.weight_levels(), Widths::EIGHT.output_levels()), (127.0, 127.0));
        let four = Widths { weights: 4, output: 4, signed: false };
        assert_eq!((four.weight_levels(), four.output_levels()), (7.0, 15.0));
        assert_eq!(Widths { signed: true, ..four }.output_levels(), 7.0);
    }
}
