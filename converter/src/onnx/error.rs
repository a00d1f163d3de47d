//! What can be wrong with an ONNX file.

use std::path::PathBuf;

/// An ONNX file that cannot be used, with the place, the limit and the value found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OnnxError {
    /// The operating system refused a file.
    #[error("{}: {action}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The bytes are not an ONNX model.
    #[error("{file}: not an ONNX model: {reason}")]
    NotOnnx {
        /// The file.
        file: String,
        /// What is wrong with the bytes.
        reason: String,
    },
    /// Something is larger, deeper or more numerous than this reader accepts.
    #[error("{file}: {what} is {value}, the limit is {limit}")]
    Limit {
        /// The file.
        file: String,
        /// What was measured, with the node or tensor it belongs to.
        what: String,
        /// The most that is accepted.
        limit: u64,
        /// What was found.
        value: u64,
    },
    /// A tensor contradicts itself or lies outside the model's folder.
    #[error("{file}: tensor '{tensor}': {reason}")]
    Tensor {
        /// The file.
        file: String,
        /// The tensor's name.
        tensor: String,
        /// What is wrong.
        reason: String,
    },
    /// A tensor is of another type than its use needs.
    #[error("tensor '{tensor}': elements of type {expected} are needed here, it has {found}")]
    Type {
        /// The tensor's name.
        tensor: String,
        /// What is needed.
        expected: super::DType,
        /// What it has.
        found: super::DType,
    },
    /// A node cannot be understood.
    #[error("{file}: node '{node}' ({op}): {reason}")]
    Node {
        /// The file.
        file: String,
        /// The node's name, or its first output's.
        node: String,
        /// Its operator.
        op: String,
        /// What is wrong.
        reason: String,
    },
    /// The graph as a whole is malformed.
    #[error("{file}: graph '{graph}': {reason}")]
    Graph {
        /// The file.
        file: String,
        /// The graph's name.
        graph: String,
        /// What is wrong.
        reason: String,
    },
}
