//! What may be chosen about quantization for Akida 1.0.

use std::str::FromStr;

use akida_runtime::model::Target;

use crate::quantize::QuantizeError;

/// Bits of weights and activations, written `8/4/4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bits {
    /// Weights of a first layer that takes 8-bit images: 8, 4 or 2.
    pub first_weights: u8,
    /// Weights of all other layers: 4 or 2.
    pub weights: u8,
    /// Activations: 4, 2 or 1.
    pub activations: u8,
}

impl Default for Bits {
    fn default() -> Self {
        Self { first_weights: 8, weights: 4, activations: 4 }
    }
}

impl FromStr for Bits {
    type Err = QuantizeError;

    fn from_str(text: &str) -> Result<Self, QuantizeError> {
        let parts: Option<Vec<u8>> = text.split('/').map(|part| part.parse().ok()).collect();
        match parts.as_deref() {
            Some(&[first_weights, weights, activations])
                if [2, 4, 8].contains(&first_weights)
                    && [2, 4].contains(&weights)
                    && [1, 2, 4].contains(&activations) =>
            {
                Ok(Self { first_weights, weights, activations })
            }
            _ => Err(QuantizeError::Option {
                option: "--bits",
                rule: "first layer's weights (8, 4, 2) / weights (4, 2) / activations (4, 2, 1)",
                found: format!("'{text}'"),
            }),
        }
    }
}

impl std::fmt::Display for Bits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.first_weights, self.weights, self.activations)
    }
}

/// Bits of one layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerBits {
    /// Name of its Conv or Gemm node.
    pub layer: String,
    /// Of its weights: 8 (first layer only), 4 or 2.
    pub weights: u8,
    /// Of its output: 4, 2 or 1.
    pub activations: u8,
}

/// Tools against the error of few bits. All are on by default; each can be measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tools {
    /// Cross-layer equalization: channels of an activation are scaled against the next layer's weights so that one
    /// range serves all of them.
    pub equalize: bool,
    /// Ranges of weights and activations with the least squared error, instead of the largest value.
    pub search_ranges: bool,
    /// Weights rounded together, so that the layer's output on real data has the least squared error, instead of each
    /// to the nearest.
    pub adaptive_rounding: bool,
    /// Thresholds and steps corrected to the least error of the layer's output on real data.
    pub correct_thresholds: bool,
    /// The whole network tuned at once, so that its output is near that of the float network.
    pub tune: bool,
}

impl Tools {
    /// None of them.
    pub const NONE: Self = Self {
        equalize: false,
        search_ranges: false,
        adaptive_rounding: false,
        correct_thresholds: false,
        tune: false,
    };
    /// All of them.
    pub const ALL: Self =
        Self { equalize: true, search_ranges: true, adaptive_rounding: true, correct_thresholds: true, tune: true };
}

impl Default for Tools {
    fn default() -> Self {
        Self::ALL
    }
}

/// Options of [`super::quantize`].
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// AKD1000 or AKD1500.
    pub target: Target,
    /// Bits of all layers.
    pub bits: Bits,
    /// Exceptions from it.
    pub layers: Vec<LayerBits>,
    /// Tools in use.
    pub tools: Tools,
    /// Stop at this tensor of the prepared graph.
    pub until: Option<String>,
}

impl Options {
    /// The defaults for a target.
    pub fn new(target: Target) -> Self {
        Self { target, bits: Bits::default(), layers: Vec::new(), tools: Tools::default(), until: None }
    }

    /// Checks each option by itself.
    pub fn check(&self) -> Result<(), QuantizeError> {
        if !self.target.is_v1() {
            return Err(QuantizeError::Option {
                option: "--target",
                rule: "akd1000 or akd1500 for thresholds and steps",
                found: self.target.to_string(),
            });
        }
        let bits = |b: &LayerBits| [2, 4, 8].contains(&b.weights) && [1, 2, 4].contains(&b.activations);
        match self.layers.iter().find(|b| !bits(b)) {
            None => Ok(()),
            Some(b) => Err(QuantizeError::Option {
                option: "bits of a layer",
                rule: "weights of 8 (first layer), 4 or 2 bits, activations of 4, 2 or 1",
                found: format!("{}/{} for '{}'", b.weights, b.activations, b.layer),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_read_and_written() {
        for text in ["8/4/4", "8/2/2", "4/4/2", "2/2/1"] {
            assert_eq!(text.parse::<Bits>().unwrap().to_string(), text);
        }
        for text in ["", "8", "8/4", "8/8/4", "8/4/8", "1/4/4", "8/1/4", "8/4/4/4", "a/b/c"] {
            assert!(matches!(text.parse::<Bits>(), Err(QuantizeError::Option { .. })), "{text}");
        }
    }
}
