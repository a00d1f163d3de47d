//! Open Inference Protocol v2 over gRPC, and gRPC's own health protocol.

mod convert;
mod health;
mod service;
mod stream;

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response};
use tonic::codec::CompressionEncoding;
use tonic::{Code, Status};
use tower::Service;

use crate::error::{Kind, ServeError};
use crate::net::Shared;
use crate::proto::health::health_server::HealthServer;
use crate::proto::inference::grpc_inference_service_server::GrpcInferenceServiceServer;

pub use service::Inference;

/// The call whose messages come when the client likes.
pub const STREAM_INFER: &str = "/inference.GRPCInferenceService/ModelStreamInfer";
/// The call that never ends.
pub const HEALTH_WATCH: &str = "/grpc.health.v1.Health/Watch";

/// Trailer that tells a client how long to wait before it tries again, as gRPC's retries have it.
const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// Whether a path is open to everyone.
pub fn is_health(path: &str) -> bool {
    let server = ["/inference.GRPCInferenceService/ServerLive", "/inference.GRPCInferenceService/ServerReady"];
    server.contains(&path) || path.starts_with("/grpc.health.v1.Health/")
}

/// A failure as gRPC has it.
pub fn status(error: &ServeError) -> Status {
    let code = match error.kind {
        Kind::Invalid | Kind::TooLarge => Code::InvalidArgument,
        Kind::NotFound => Code::NotFound,
        Kind::Unauthenticated => Code::Unauthenticated,
        Kind::Forbidden => Code::PermissionDenied,
        Kind::Busy => Code::ResourceExhausted,
        Kind::Unavailable => Code::Unavailable,
        Kind::Deadline => Code::DeadlineExceeded,
        Kind::Cancelled => Code::Cancelled,
        Kind::Internal => Code::Internal,
    };
    let mut status = Status::new(code, error.message.clone());
    if let Some(time) = error.retry_after {
        let ms = time.as_millis().clamp(1, u128::from(u32::MAX)).to_string();
        if let Ok(value) = ms.parse() {
            status.metadata_mut().insert(PUSHBACK, value);
        }
    }
    status
}

/// All services of gRPC.
#[derive(Clone)]
pub struct Services {
    inference: GrpcInferenceServiceServer<Inference>,
    health: HealthServer<health::Answers>,
}

impl Services {
    /// Over what listeners share.
    pub fn new(shared: Arc<Shared>) -> Self {
        let most = shared.options.limits.body_bytes;
        let inference = GrpcInferenceServiceServer::new(Inference::new(shared.clone()))
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Deflate)
            .send_compressed(CompressionEncoding::Gzip)
            .send_compressed(CompressionEncoding::Deflate)
            .max_decoding_message_size(most)
            .max_encoding_message_size(usize::MAX);
        let health = HealthServer::new(health::Answers::new(shared)).max_decoding_message_size(4 << 10);
        Self { inference, health }
    }

    /// Answers a call.
    pub async fn call<B>(&self, request: Request<B>, path: &str) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
    {
        let answer = if path.starts_with("/grpc.health.v1.Health/") {
            self.health.clone().call(request).await
        } else if path.starts_with("/inference.GRPCInferenceService/") {
            self.inference.clone().call(request).await
        } else {
            let message = format!("there is no service at {}", crate::tensor::short(path));
            return Status::unimplemented(message).into_http();
        };
        match answer {
            Ok(response) => response.map(Body::new),
            Err(never) => match never {},
        }
    }
}
