//! The graph on its way, stage by stage, for people who look at it.

use crate::onnx::{BRAINCHIP, Graph, OnnxError};

/// A point on the way from a float network to a quantized one (quantization.md 1 and 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// As read.
    Imported,
    /// In operator set 21, with the size of the input set.
    Shaped,
    /// After the first simplification.
    Simplified1,
    /// After the first round of rewrites towards layers.
    Base1,
    /// After the first round of rewrites for the hardware.
    Hardware1,
    /// After the second simplification.
    Simplified2,
    /// After the second round towards layers.
    Base2,
    /// After the second round for the hardware.
    Hardware2,
    /// What is calibrated.
    Prepared,
    /// The same, each node named after the layer that takes it in.
    Patterns,
    /// Integers.
    Quantized,
}

impl Stage {
    /// All, in order.
    pub const ALL: [Stage; 11] = [
        Stage::Imported,
        Stage::Shaped,
        Stage::Simplified1,
        Stage::Base1,
        Stage::Hardware1,
        Stage::Simplified2,
        Stage::Base2,
        Stage::Hardware2,
        Stage::Prepared,
        Stage::Patterns,
        Stage::Quantized,
    ];

    /// Its name, and what it is.
    pub fn describe(self) -> (&'static str, &'static str) {
        match self {
            Stage::Imported => ("imported", "the network as read"),
            Stage::Shaped => ("shaped", "operator set 21, size of the input set (1.1)"),
            Stage::Simplified1 => ("simplified-1", "constants folded, BatchNorm and Pad fused, no-ops gone (1.3)"),
            Stage::Base1 => ("base-1", "rewrites towards layers (1.4, 1 to 21)"),
            Stage::Hardware1 => ("hardware-1", "rewrites for the hardware (1.4, 22 to 25)"),
            Stage::Simplified2 => ("simplified-2", "the same once more"),
            Stage::Base2 => ("base-2", "the same once more"),
            Stage::Hardware2 => ("hardware-2", "the same once more"),
            Stage::Prepared => ("prepared", "what is calibrated; the reference calls it sanitized"),
            Stage::Patterns => ("patterns", "prepared, each node named after the layer that takes it in (2.1)"),
            Stage::Quantized => ("quantized", "one operator a layer, each with the function that defines it (2.5)"),
        }
    }

    /// The stage of this name.
    pub fn named(name: &str) -> Option<Stage> {
        Stage::ALL.into_iter().find(|stage| stage.describe().0 == name)
    }
}

/// The graph as an ONNX file that viewers and checkers take: operators of our own have their operator set declared.
pub fn to_bytes(graph: &Graph) -> Result<Vec<u8>, OnnxError> {
    let mut graph = graph.clone();
    if graph.nodes.iter().any(|node| node.domain == BRAINCHIP) {
        graph.opsets.entry(BRAINCHIP.to_owned()).or_insert(1);
    }
    graph.to_bytes()
}
