//! Why a graph is not quantized.

use crate::onnx::OnnxError;
use crate::prepare::ShapeError;

/// A refusal, with what it is about and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuantizeError {
    /// A rule about one node is broken.
    #[error("node '{node}' ({op}): {rule}: {found}. {remedy}")]
    Node {
        /// Its name.
        node: String,
        /// Its operator.
        op: String,
        /// What must hold.
        rule: String,
        /// What was found instead.
        found: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// A rule about the whole graph is broken.
    #[error("graph '{graph}': {rule}: {found}. {remedy}")]
    Graph {
        /// Its name.
        graph: String,
        /// What must hold.
        rule: &'static str,
        /// What was found instead.
        found: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// A tensor's calibration range is missing or cannot be used.
    #[error("tensor '{tensor}': {reason}. {remedy}")]
    Range {
        /// Its name.
        tensor: String,
        /// What is wrong with its range.
        reason: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// An option is outside what is supported.
    #[error("option {option}: {rule}, not {found}")]
    Option {
        /// Its name.
        option: &'static str,
        /// What it may be.
        rule: &'static str,
        /// What it is.
        found: String,
    },
    /// A constant of the graph cannot be used.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    /// Operands of a node do not fit.
    #[error(transparent)]
    Shape(#[from] ShapeError),
}
