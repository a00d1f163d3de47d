//! Requests and responses of inference, free of any protocol.

use std::time::Instant;

use bytes::Bytes;

/// Element types that requests and responses carry. Little-endian, without padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DataType {
    /// 32-bit floats.
    Fp32,
    /// Unsigned bytes: pixels of a first layer.
    Uint8,
    /// Signed bytes.
    Int8,
    /// 32-bit integers: potentials of an output without activation.
    Int32,
    /// 64-bit integers: indices a host segment gives.
    Int64,
    /// Strings, each with a 4-byte little-endian length before it: encoded images in, classifications out.
    Bytes,
}

impl DataType {
    /// All of them.
    pub const ALL: [DataType; 6] =
        [DataType::Fp32, DataType::Uint8, DataType::Int8, DataType::Int32, DataType::Int64, DataType::Bytes];

    /// The protocol's word.
    pub fn as_str(self) -> &'static str {
        match self {
            DataType::Fp32 => "FP32",
            DataType::Uint8 => "UINT8",
            DataType::Int8 => "INT8",
            DataType::Int32 => "INT32",
            DataType::Int64 => "INT64",
            DataType::Bytes => "BYTES",
        }
    }

    /// Bytes of an element; none where elements have different sizes.
    pub fn size(self) -> Option<usize> {
        match self {
            DataType::Uint8 | DataType::Int8 => Some(1),
            DataType::Fp32 | DataType::Int32 => Some(4),
            DataType::Int64 => Some(8),
            DataType::Bytes => None,
        }
    }
}

impl std::fmt::Display for DataType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A tensor with its elements in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor {
    /// Name in the model.
    pub name: String,
    /// Element type.
    pub datatype: DataType,
    /// Dimensions, batch first.
    pub shape: Vec<usize>,
    /// The elements as the binary tensor extension has them.
    pub data: Bytes,
}

/// An output that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestedOutput {
    /// Name in the model.
    pub name: String,
    /// The N best classes as strings `score:index[:label]` instead of numbers; 0: the numbers.
    pub classification: usize,
}

/// One inference of one client.
#[derive(Clone, Debug)]
pub struct InferRequest {
    /// Model name.
    pub model: String,
    /// Version; none: the newest that is ready.
    pub version: Option<u32>,
    /// What the client calls the request; may be empty.
    pub id: String,
    /// Who asks: tells clients apart for fairness (token name, certificate name, or peer address).
    pub client: String,
    /// Inputs.
    pub inputs: Vec<NamedTensor>,
    /// Outputs; empty: all.
    pub outputs: Vec<RequestedOutput>,
    /// 0 is the default class; 1 the most urgent, larger numbers later (Triton's meaning).
    pub priority: u32,
    /// No result is wanted after this.
    pub deadline: Option<Instant>,
    /// The `traceparent` of OpenTelemetry, validated, for logs.
    pub trace: Option<String>,
}

/// The answer to a request.
#[derive(Clone, Debug)]
pub struct InferResponse {
    /// Model name.
    pub model: String,
    /// The version that answered.
    pub version: u32,
    /// The request's id.
    pub id: String,
    /// Which board made it, as its identity says: `sim:akida2 (simulated)`.
    pub device: String,
    /// Outputs in the order asked for.
    pub outputs: Vec<NamedTensor>,
}
