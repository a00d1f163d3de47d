//! Why a graph is no quantized model.

use akida_runtime::model::ModelError;

use crate::onnx::{Node, OnnxError};

/// A graph that does not become a model, with node, initializer and what is wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// Not the output of a quantizer.
    #[error("graph '{graph}' is not quantized: {reason}; quantize it first")]
    NotQuantized {
        /// Name of the graph.
        graph: String,
        /// What is missing.
        reason: &'static str,
    },
    /// A node that breaks a rule.
    #[error("node '{node}' ({op}): {reason}")]
    Node {
        /// Its name.
        node: String,
        /// Its operator.
        op: String,
        /// What is wrong.
        reason: String,
    },
    /// A constant that breaks a rule.
    #[error("node '{node}' ({op}): initializer '{initializer}': {reason}")]
    Constant {
        /// Name of the node that uses it.
        node: String,
        /// The node's operator.
        op: String,
        /// Name of the initializer.
        initializer: String,
        /// What is wrong.
        reason: String,
    },
    /// Float operations behind the board's part.
    #[error(
        "{} operation{} stayed float and no board computes {}: {}; allow a float tail to import the part before",
        nodes.len(),
        if nodes.len() == 1 { "" } else { "s" },
        if nodes.len() == 1 { "it" } else { "them" },
        nodes.join(", ")
    )]
    FloatTail {
        /// Name and operator of each.
        nodes: Vec<String>,
    },
    /// The integers of a constant cannot be read.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    /// The parts fit ONNX but not together.
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl ImportError {
    pub(super) fn node(node: &Node, reason: impl Into<String>) -> Self {
        Self::Node { node: node.name.clone(), op: node.op.clone(), reason: reason.into() }
    }

    pub(super) fn constant(node: &Node, initializer: &str, reason: impl Into<String>) -> Self {
        let (node, op, initializer) = (node.name.clone(), node.op.clone(), initializer.to_owned());
        Self::Constant { node, op, initializer, reason: reason.into() }
    }
}
