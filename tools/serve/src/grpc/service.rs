//! The calls of GRPCInferenceService.

use std::pin::Pin;
use std::sync::Arc;

use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use super::convert::{self, Context};
use super::{status, stream};
use crate::error::{Kind, ServeError};
use crate::infer::{Pending, version};
use crate::net::{Caller, Shared};
use crate::proto::inference as proto;
use crate::proto::inference::grpc_inference_service_server::GrpcInferenceService;
use crate::rest;
use crate::service::{ModelInfo, ModelState, Service};

type Answer<T> = Result<Response<T>, Status>;

/// Answers calls.
pub struct Inference {
    shared: Arc<Shared>,
}

impl Inference {
    /// Over what listeners share.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    fn info(&self, name: &str, text: &str) -> Result<ModelInfo, Status> {
        let version = version(text).map_err(|e| status(&e))?;
        self.shared.service.model(name, version).map_err(|e| status(&e))
    }

    async fn control(
        &self,
        caller: Result<Caller, Status>,
        repository: &str,
        model: String,
        parameters: &std::collections::HashMap<String, proto::ModelRepositoryParameter>,
        work: fn(&dyn Service, &str) -> Result<(), ServeError>,
    ) -> Result<(), Status> {
        let refused = |kind, message: String| Err(status(&ServeError::new(kind, message)));
        rest::may_control(&self.shared, &caller?).map_err(|e| status(&e))?;
        if !repository.is_empty() {
            let message =
                format!("there is no repository '{}'; the only one has no name", crate::tensor::short(repository));
            return refused(Kind::NotFound, message);
        }
        if let Some(name) = parameters.keys().find(|n| *n != "unload_dependents") {
            let name = crate::tensor::short(name);
            let message =
                format!("parameter '{name}': models and their configuration come from the repository's folder only");
            return refused(Kind::Invalid, message);
        }
        let service = self.shared.service.clone();
        match tokio::task::spawn_blocking(move || work(&*service, &model)).await {
            Ok(done) => done.map_err(|e| status(&e)),
            Err(e) => refused(Kind::Internal, format!("loading or unloading ended early: {e}")),
        }
    }
}

/// Who calls.
fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    request.extensions().get::<Caller>().cloned().ok_or_else(|| Status::internal("a call without a caller"))
}

#[tonic::async_trait]
impl GrpcInferenceService for Inference {
    async fn server_live(&self, _: Request<proto::ServerLiveRequest>) -> Answer<proto::ServerLiveResponse> {
        Ok(Response::new(proto::ServerLiveResponse { live: self.shared.service.live() }))
    }

    async fn server_ready(&self, _: Request<proto::ServerReadyRequest>) -> Answer<proto::ServerReadyResponse> {
        Ok(Response::new(proto::ServerReadyResponse { ready: self.shared.service.ready() }))
    }

    async fn model_ready(&self, request: Request<proto::ModelReadyRequest>) -> Answer<proto::ModelReadyResponse> {
        let asked = request.into_inner();
        let version = version(&asked.version).map_err(|e| status(&e))?;
        let ready = rest::is_ready(&*self.shared.service, &asked.name, version).map_err(|e| status(&e))?;
        Ok(Response::new(proto::ModelReadyResponse { ready }))
    }

    async fn server_metadata(&self, _: Request<proto::ServerMetadataRequest>) -> Answer<proto::ServerMetadataResponse> {
        Ok(Response::new(proto::ServerMetadataResponse {
            name: "akida-serve".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            extensions: rest::EXTENSIONS.map(str::to_string).to_vec(),
        }))
    }

    async fn model_metadata(
        &self,
        request: Request<proto::ModelMetadataRequest>,
    ) -> Answer<proto::ModelMetadataResponse> {
        let asked = request.into_inner();
        let info = self.info(&asked.name, &asked.version)?;
        Ok(Response::new(proto::ModelMetadataResponse {
            inputs: info.inputs.iter().map(convert::tensor_metadata).collect(),
            outputs: info.outputs.iter().map(convert::tensor_metadata).collect(),
            versions: info.versions.iter().map(u32::to_string).collect(),
            name: info.name,
            platform: info.platform,
        }))
    }

    async fn model_infer(&self, request: Request<proto::ModelInferRequest>) -> Answer<proto::ModelInferResponse> {
        let context = Context::new(caller(&request)?.name, request.metadata());
        let message = request.into_inner();
        let mut claim = self.shared.memory.claim();
        claim.grow(convert::size(&message)).map_err(|e| status(&e))?;
        let request = convert::request(message, &context).map_err(|e| status(&e))?;
        let answer = Pending::submit(&*self.shared.service, request).answer().await.map_err(|e| status(&e))?;
        drop(claim);
        Ok(Response::new(convert::response(answer)))
    }

    type ModelStreamInferStream = Pin<Box<dyn Stream<Item = Result<proto::ModelStreamInferResponse, Status>> + Send>>;

    async fn model_stream_infer(
        &self,
        request: Request<Streaming<proto::ModelInferRequest>>,
    ) -> Answer<Self::ModelStreamInferStream> {
        let mut context = Context::new(caller(&request)?.name, request.metadata());
        // The time-out of a stream is the stream's, not that of a request in it.
        context.deadline = None;
        let strict = request.metadata().get("triton_grpc_error").is_some_and(|v| v.as_bytes() == b"true");
        let answers = stream::answers(self.shared.clone(), request.into_inner(), context, strict);
        Ok(Response::new(Box::pin(answers)))
    }

    async fn model_config(&self, request: Request<proto::ModelConfigRequest>) -> Answer<proto::ModelConfigResponse> {
        let asked = request.into_inner();
        let info = self.info(&asked.name, &asked.version)?;
        let dims = |shape: &[i64]| shape.get(1..).unwrap_or(&[]).to_vec();
        let inputs = info.inputs.iter().map(|t| proto::ModelInput {
            name: t.name.clone(),
            data_type: convert::configuration_type(t.datatype),
            dims: dims(&t.shape),
        });
        let outputs = info.outputs.iter().map(|t| proto::ModelOutput {
            name: t.name.clone(),
            data_type: convert::configuration_type(t.datatype),
            dims: dims(&t.shape),
        });
        let parameters = rest::parameters_of(&info)
            .into_iter()
            .map(|(name, string_value)| (name, proto::ModelParameter { string_value }));
        let config = proto::ModelConfig {
            input: inputs.collect(),
            output: outputs.collect(),
            parameters: parameters.collect(),
            max_batch_size: i32::try_from(info.max_batch).unwrap_or(i32::MAX),
            name: info.name,
            platform: info.platform,
            backend: "akida".into(),
        };
        Ok(Response::new(proto::ModelConfigResponse { config: Some(config) }))
    }

    async fn model_statistics(
        &self,
        request: Request<proto::ModelStatisticsRequest>,
    ) -> Answer<proto::ModelStatisticsResponse> {
        let asked = request.into_inner();
        let version = version(&asked.version).map_err(|e| status(&e))?;
        let name = Some(asked.name.as_str()).filter(|n| !n.is_empty());
        let all = self.shared.service.statistics(name, version).map_err(|e| status(&e))?;
        let model_stats = all.into_iter().map(convert::statistics).collect();
        Ok(Response::new(proto::ModelStatisticsResponse { model_stats }))
    }

    async fn repository_index(
        &self,
        request: Request<proto::RepositoryIndexRequest>,
    ) -> Answer<proto::RepositoryIndexResponse> {
        let asked = request.into_inner();
        let all = self.shared.service.models().into_iter();
        let chosen = all
            .filter(|_| asked.repository_name.is_empty())
            .filter(|e| !asked.ready || e.state == ModelState::Ready)
            .map(|e| proto::repository_index_response::ModelIndex {
                name: e.name,
                version: e.version.to_string(),
                state: e.state.as_str().into(),
                reason: e.reason,
            });
        Ok(Response::new(proto::RepositoryIndexResponse { models: chosen.collect() }))
    }

    async fn repository_model_load(
        &self,
        request: Request<proto::RepositoryModelLoadRequest>,
    ) -> Answer<proto::RepositoryModelLoadResponse> {
        let (caller, asked) = (caller(&request), request.into_inner());
        self.control(caller, &asked.repository_name, asked.model_name, &asked.parameters, |s, m| s.load(m)).await?;
        Ok(Response::new(proto::RepositoryModelLoadResponse {}))
    }

    async fn repository_model_unload(
        &self,
        request: Request<proto::RepositoryModelUnloadRequest>,
    ) -> Answer<proto::RepositoryModelUnloadResponse> {
        let (caller, asked) = (caller(&request), request.into_inner());
        self.control(caller, &asked.repository_name, asked.model_name, &asked.parameters, |s, m| s.unload(m)).await?;
        Ok(Response::new(proto::RepositoryModelUnloadResponse {}))
    }
}
