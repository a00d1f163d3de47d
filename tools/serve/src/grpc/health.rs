//! gRPC's health protocol: the whole server, or the inference service, which is the same.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::net::Shared;
use crate::proto::health::health_check_response::ServingStatus;
use crate::proto::health::health_server::Health;
use crate::proto::health::{HealthCheckRequest, HealthCheckResponse};

/// How often a watch looks.
const LOOK: Duration = Duration::from_millis(500);

/// Answers.
pub struct Answers {
    shared: Arc<Shared>,
}

impl Answers {
    /// Over what listeners share.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

fn of(shared: &Shared, service: &str) -> Option<ServingStatus> {
    match service {
        "" | "inference.GRPCInferenceService" if shared.service.ready() => Some(ServingStatus::Serving),
        "" | "inference.GRPCInferenceService" => Some(ServingStatus::NotServing),
        _ => None,
    }
}

fn message(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status as i32 }
}

#[tonic::async_trait]
impl Health for Answers {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        match of(&self.shared, &service) {
            Some(status) => Ok(Response::new(message(status))),
            None => Err(Status::not_found(format!("there is no service '{}'", crate::tensor::short(&service)))),
        }
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let (service, shared) = (request.into_inner().service, self.shared.clone());
        let (tell, told) = mpsc::channel(1);
        let mut stop = shared.stopped();
        tokio::spawn(async move {
            let mut last = None;
            loop {
                let stopped = *stop.borrow_and_update();
                let now = match of(&shared, &service) {
                    Some(_) if stopped => ServingStatus::NotServing,
                    now => now.unwrap_or(ServingStatus::ServiceUnknown),
                };
                if last != Some(now) {
                    last = Some(now);
                    if tell.send(Ok(message(now))).await.is_err() {
                        return;
                    }
                }
                if stopped {
                    return;
                }
                tokio::select! {
                    () = tokio::time::sleep(LOOK) => {}
                    _ = stop.changed() => {}
                    () = tell.closed() => return,
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(told))))
    }
}
