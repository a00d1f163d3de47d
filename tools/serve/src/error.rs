//! What a request can end in, once for all protocols.

use std::time::Duration;

/// Why a request got no answer. [`ServeError::kind`] decides the status of each protocol.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct ServeError {
    /// What class of failure this is.
    pub kind: Kind,
    /// What failed, with the limit, the value and what to do.
    pub message: String,
    /// When trying again makes sense.
    pub retry_after: Option<Duration>,
}

/// Classes of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The request is wrong: shape, type, size, name of a tensor. HTTP 400, gRPC INVALID_ARGUMENT.
    Invalid,
    /// No such model or version. HTTP 404, gRPC NOT_FOUND.
    NotFound,
    /// Larger than the service takes. HTTP 413, gRPC INVALID_ARGUMENT.
    TooLarge,
    /// No or a wrong token. HTTP 401, gRPC UNAUTHENTICATED.
    Unauthenticated,
    /// Known caller, but not for this. HTTP 403, gRPC PERMISSION_DENIED.
    Forbidden,
    /// Queues are full: refused before any work. HTTP 503 with Retry-After, gRPC RESOURCE_EXHAUSTED.
    Busy,
    /// The model is not ready, no board is healthy, or the service drains. HTTP 503, gRPC UNAVAILABLE.
    Unavailable,
    /// The deadline passed before the result. HTTP 504, gRPC DEADLINE_EXCEEDED.
    Deadline,
    /// The client went away. HTTP 499, gRPC CANCELLED.
    Cancelled,
    /// A board failed twice, or this software is wrong. HTTP 500, gRPC INTERNAL.
    Internal,
}

impl ServeError {
    /// A failure without a hint when to try again.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry_after: None }
    }
}
