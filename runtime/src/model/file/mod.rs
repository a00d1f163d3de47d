//! Model files (`.akm`): docs/model-format.md, byte by byte.
//!
//! A file is a header, the metadata in JSON, and the weights as blobs aligned for any processor. It is opened by mapping
//! it: weights are used where they lie. The checksum covers every byte; what it cannot tell (a file made in bad faith)
//! [`Model::validate`] finds.

pub(crate) mod header;
pub(crate) mod read;
pub(crate) mod write;

use std::{io, path::PathBuf};

use super::ModelError;

/// What the metadata holds: the model without its weights, and where these are.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Metadata<M> {
    pub model: M,
    /// Weights in the order of the layers, for separable layers the depthwise ones first.
    pub blobs: Vec<Extent>,
}

/// Where a blob lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Extent {
    /// First byte, counted from the start of the blob area; a multiple of [`header::ALIGNMENT`].
    offset: u64,
    /// Number of bytes.
    len: u64,
}

/// Why a model file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The operating system refused.
    #[error("{}: cannot {operation}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        operation: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// A directory, a device, a pipe.
    #[error("{}: is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// The content is wrong.
    #[error("{}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<FormatError>,
    },
    /// A model that breaks an invariant is not written.
    #[error("{}: the model was not saved", path.display())]
    Model {
        /// The file.
        path: PathBuf,
        /// The broken invariant.
        source: Box<ModelError>,
    },
}

/// What is wrong with the bytes of a model file.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// Too short, or something else.
    #[error("is not an Akida model: it does not begin with the model header")]
    NotAModel,
    /// Made by another release.
    #[error("has format version {found}; this release reads versions 1 to {supported}: convert the network again")]
    Version {
        /// In the file.
        found: u32,
        /// What this release reads.
        supported: u32,
    },
    /// A network of several parts, opened as a model.
    #[error("holds a network of board parts and host segments, which is not one model: open it as a hybrid network")]
    Hybrid,
    /// Cut off or grown.
    #[error("is {actual} bytes long where its header says {expected}: it was cut off or changed")]
    Length {
        /// By the header.
        expected: u64,
        /// Of the file.
        actual: u64,
    },
    /// Damaged.
    #[error("is damaged: its checksum is {computed:#010x} where the header says {stored:#010x}")]
    Checksum {
        /// In the header.
        stored: u32,
        /// Of the bytes.
        computed: u32,
    },
    /// A header field that contradicts another.
    #[error("header field {field} (byte {offset}) is {value}, not {expected}")]
    Header {
        /// Which.
        field: &'static str,
        /// Where it is.
        offset: usize,
        /// What it holds.
        value: u64,
        /// What it must hold.
        expected: u64,
    },
    /// The metadata is more than any model needs.
    #[error("has {len} bytes of metadata; the limit is {limit}")]
    MetadataSize {
        /// Bytes.
        len: u64,
        /// Most allowed.
        limit: u64,
    },
    /// The metadata is not what this format has there.
    #[error("has metadata (from byte {offset}) that cannot be read")]
    Metadata {
        /// Where it begins.
        offset: u64,
        /// Line and column, and why.
        source: serde_json::Error,
    },
    /// Weights that are missing or too many.
    #[error("has {found} blobs for {expected} sets of weights")]
    BlobCount {
        /// In the file.
        found: usize,
        /// In the layers.
        expected: usize,
    },
    /// Weights that are not where they must be.
    #[error("blob {index} is at {offset} + {len} of the blob area, not at {expected} within its {area} bytes")]
    Blob {
        /// Which.
        index: usize,
        /// Its offset.
        offset: u64,
        /// Its length.
        len: u64,
        /// Where it must begin.
        expected: u64,
        /// Bytes of the blob area.
        area: u64,
    },
    /// The model breaks an invariant.
    #[error("holds a model that cannot be right")]
    Model(#[from] ModelError),
}

#[cfg(test)]
mod tests;
