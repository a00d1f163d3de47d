//! From an exported float graph to one whose chains of nodes are layers of the chip (quantization.md 1).

mod infer;

pub use infer::{ShapeError, infer};

/// Operator set of prepared graphs.
pub const OPSET: i64 = 21;
