//! Look-up tables of activations (quantization.md 4.6).

use crate::onnx::Node;

/// Entries of a table: indices 0..=1023, then -1024..=-1.
pub const ENTRIES: usize = 2048;

/// An activation that becomes a table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Function {
    /// `x / 2 * (1 + erf(x / sqrt 2))`
    Gelu,
    /// `x * sigmoid(x)`
    Swish,
    /// `x * clip(x / 6 + 1/2, 0, 1)`
    HardSwish,
    /// `x`, or `alpha * x` below 0.
    LeakyRelu {
        /// Slope below 0.
        alpha: f32,
    },
}

impl Function {
    /// The activation a prepared `activation` node stands for.
    pub fn of(node: &Node) -> Option<Self> {
        Some(match node.string("main_op_type")? {
            "Gelu" => Function::Gelu,
            "Swish" => Function::Swish,
            "HardSwish" => Function::HardSwish,
            "LeakyRelu" => Function::LeakyRelu { alpha: node.float("alpha").unwrap_or(0.01) },
            _ => return None,
        })
    }

    /// Its value, computed in `f64` and rounded once.
    pub fn value(self, x: f32) -> f32 {
        let x = f64::from(x);
        let y = match self {
            Function::Gelu => x / 2.0 * (1.0 + libm::erf(x / std::f64::consts::SQRT_2)),
            Function::Swish => x / (1.0 + (-x).exp()),
            Function::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
            Function::LeakyRelu { alpha } => x * if x < 0.0 { f64::from(alpha) } else { 1.0 },
        };
        y as f32
    }
}

/// A table and the scale of its values.
pub struct Table {
    /// [`ENTRIES`] values of 14 bits.
    pub values: Vec<i32>,
    /// Integer per real.
    pub scale: f32,
}

/// Tabulates `function` over 11-bit integers on scale `input` (integer per real).
pub fn table(function: Function, input: f32) -> Table {
    let index = |n: usize| if n < ENTRIES / 2 { n as f64 } else { n as f64 - ENTRIES as f64 };
    let outputs: Vec<f32> = (0..ENTRIES).map(|n| function.value((index(n) / f64::from(input)) as f32)).collect();
    let amplitude = outputs.iter().fold(1.0 / 65536.0, |largest: f32, y| largest.max(y.abs()));
    let scale = 8191f32 / amplitude;
    let integer = |y: &f32| (y * scale).round_ties_even().clamp(-8192.0, 8191.0) as i32;
    Table { values: outputs.iter().map(integer).collect(), scale }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_have_their_known_values() {
        for (function, x, y) in [
            (Function::Gelu, 1.0, 0.841_344_8),
            (Function::Gelu, -1.0, -0.158_655_26),
            (Function::Swish, 1.0, 0.731_058_6),
            (Function::HardSwish, 1.0, 0.666_666_7),
            (Function::HardSwish, -4.0, 0.0),
            (Function::LeakyRelu { alpha: 0.1 }, -2.0, -0.2),
        ] {
            assert!((function.value(x) - y).abs() < 1e-6, "{function:?}({x}) = {}", function.value(x));
        }
    }

    #[test]
    fn tables_reach_13_bits_and_wrap() {
        let table = table(Function::LeakyRelu { alpha: 0.5 }, 1023.0 / 4.0);
        assert_eq!(table.values.len(), ENTRIES);
        assert_eq!(table.values[1023], 8191);
        assert_eq!(table.values[0], 0);
        assert!(table.values[ENTRIES - 1] < 0 && table.values[ENTRIES / 2] >= -8192);
    }
}
