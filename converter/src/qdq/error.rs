//! What of QDQ is not supported, and what to do instead.

use crate::onnx::{Node, OnnxError};

/// A refusal, with the node, the rule, what was found and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QdqError {
    /// A node that breaks a rule.
    #[error("node '{node}' ({op}): {rule}: {found}. {remedy}")]
    Node {
        /// Its name.
        node: String,
        /// Its operator.
        op: String,
        /// What must hold.
        rule: &'static str,
        /// What was found instead.
        found: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// A tensor that nothing quantizes.
    #[error("tensor '{tensor}': {rule}. {remedy}")]
    Tensor {
        /// Its name.
        tensor: String,
        /// What must hold.
        rule: &'static str,
        /// What to do about it.
        remedy: &'static str,
    },
    /// A constant of the graph cannot be used.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
}

impl QdqError {
    pub(super) fn node(node: &Node, rule: &'static str, found: impl ToString, remedy: &'static str) -> Self {
        Self::Node { node: node.name.clone(), op: node.op.clone(), rule, found: found.to_string(), remedy }
    }
}

/// What to do about most of it.
pub(super) const STATIC_INT8: &str = "Quantize statically to QDQ with int8 weights and int8 or uint8 activations";
