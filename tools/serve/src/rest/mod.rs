//! Open Inference Protocol v2 over HTTP/REST, with the binary tensor, classification, statistics, model repository and model
//! configuration extensions.

mod compress;
pub mod error;
mod infer;
mod models;
mod parameters;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, RawQuery, Request, State};
use axum::routing::{any, get, post};
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use serde::Serialize;

use crate::error::{Kind, ServeError};
use crate::infer::version;
use crate::net::body::{Collected, collect};
use crate::net::{Caller, Role, Shared};
use crate::service::Service;
use crate::tensor::{invalid, short};

/// Bodies of everything but inference.
const SMALL_BODY: usize = 1 << 20;

/// Extensions that the server's metadata names.
pub const EXTENSIONS: [&str; 6] = [
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "model_repository(unload_dependents)",
    "statistics",
];

pub use infer::HEADER_LENGTH;
pub use models::parameters as parameters_of;

type Answer = Result<Response<Body>, ServeError>;
type Ask = State<Arc<Shared>>;

/// All paths.
pub fn router(shared: Arc<Shared>) -> Router {
    let model = Router::new()
        .route("/", get(metadata))
        .route("/ready", get(model_ready))
        .route("/config", get(config))
        .route("/stats", get(model_statistics))
        .route("/infer", post(infer_one));
    Router::new()
        .route("/v2", get(server))
        .route("/v2/", get(server))
        .route("/v2/health/live", get(live))
        .route("/v2/health/ready", get(ready))
        .route("/v2/models/stats", get(statistics))
        .nest("/v2/models/{model}", model.clone())
        .nest("/v2/models/{model}/versions/{version}", model)
        .route("/v2/repository/index", post(index))
        .route("/v2/repository/models/{model}/load", post(load))
        .route("/v2/repository/models/{model}/unload", post(unload))
        .fallback(any(unknown))
        .method_not_allowed_fallback(wrong_method)
        .with_state(shared)
}

/// A document as an answer.
fn document(value: &impl Serialize) -> Answer {
    let text = serde_json::to_vec(value)
        .map_err(|e| ServeError::new(Kind::Internal, format!("cannot write an answer: {e}")))?;
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

fn answer(outcome: Answer) -> Response<Body> {
    outcome.unwrap_or_else(|e| error::response(&e))
}

/// Yes or no, as the protocol has it: 200 or 400.
fn truth(value: bool) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = if value { StatusCode::OK } else { StatusCode::BAD_REQUEST };
    response
}

async fn server() -> Response<Body> {
    answer(document(&models::Server {
        name: "akida-serve",
        version: env!("CARGO_PKG_VERSION"),
        extensions: &EXTENSIONS,
    }))
}

async fn live(State(shared): Ask) -> Response<Body> {
    truth(shared.service.live())
}

async fn ready(State(shared): Ask) -> Response<Body> {
    truth(shared.service.ready())
}

/// Whether a version answers requests. One that is in the repository and not served does not.
///
/// # Errors
///
/// [`Kind::NotFound`].
pub fn is_ready(service: &dyn Service, model: &str, version: Option<u32>) -> Result<bool, ServeError> {
    match service.model(model, version) {
        Ok(info) => Ok(info.ready),
        Err(e) if e.kind == Kind::Unavailable => Ok(false),
        Err(e) => Err(e),
    }
}

/// Model and version of a path.
#[derive(serde::Deserialize)]
struct Name {
    model: String,
    #[serde(default)]
    version: String,
}

async fn metadata(State(shared): Ask, Path(name): Path<Name>) -> Response<Body> {
    answer((|| document(&models::metadata(&shared.service.model(&name.model, version(&name.version)?)?)))())
}

async fn config(State(shared): Ask, Path(name): Path<Name>) -> Response<Body> {
    answer((|| document(&models::config(&shared.service.model(&name.model, version(&name.version)?)?)))())
}

async fn model_ready(State(shared): Ask, Path(name): Path<Name>) -> Response<Body> {
    answer((|| Ok(truth(is_ready(&*shared.service, &name.model, version(&name.version)?)?)))())
}

async fn model_statistics(State(shared): Ask, Path(name): Path<Name>) -> Response<Body> {
    let counted = || shared.service.statistics(Some(&name.model), version(&name.version)?);
    answer(counted().and_then(|all| document(&models::statistics(&all))))
}

async fn statistics(State(shared): Ask) -> Response<Body> {
    answer(shared.service.statistics(None, None).and_then(|all| document(&models::statistics(&all))))
}

async fn infer_one(
    State(shared): Ask,
    Path(name): Path<Name>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Response<Body> {
    let outcome = async {
        let target = infer::Target {
            model: name.model,
            version: version(&name.version)?,
            classification: classification(query.as_deref())?,
        };
        let (caller, headers, body) = read(&shared, request, shared.options.limits.body_bytes).await?;
        infer::infer(shared, caller, target, headers, body).await
    };
    answer(outcome.await)
}

/// `classification` of a query; anything else is not this service's.
fn classification(query: Option<&str>) -> Result<Option<usize>, ServeError> {
    let value = query.into_iter().flat_map(|q| q.split('&')).find_map(|item| item.strip_prefix("classification="));
    let Some(value) = value else { return Ok(None) };
    let number = value.parse().ok().filter(|&n: &usize| n <= 1 << 20);
    number.map(Some).ok_or_else(|| invalid(format!("classification={}: give the number of classes", short(value))))
}

/// Who calls, and the body.
async fn read(shared: &Shared, request: Request, most: usize) -> Result<(Caller, HeaderMap, Collected), ServeError> {
    let (mut parts, body) = request.into_parts();
    let caller = parts.extensions.remove::<Caller>();
    let caller = caller.ok_or_else(|| ServeError::new(Kind::Internal, "a request without a caller"))?;
    let body = collect(&parts.headers, body, most, &shared.options.limits, &shared.memory).await?;
    Ok((caller, parts.headers, body))
}

async fn index(State(shared): Ask, request: Request) -> Response<Body> {
    let outcome = async {
        let (_, _, body) = read(&shared, request, SMALL_BODY).await?;
        let wanted: models::IndexRequest = parse_or_default(&body.bytes)?;
        let all = shared.service.models();
        document(&models::index(&all, &wanted))
    };
    answer(outcome.await)
}

async fn load(State(shared): Ask, Path(name): Path<Name>, request: Request) -> Response<Body> {
    answer(control(shared, name, request, |service, model| service.load(model)).await)
}

async fn unload(State(shared): Ask, Path(name): Path<Name>, request: Request) -> Response<Body> {
    answer(control(shared, name, request, |service, model| service.unload(model)).await)
}

async fn control(
    shared: Arc<Shared>,
    name: Name,
    request: Request,
    work: impl FnOnce(&dyn Service, &str) -> Result<(), ServeError> + Send + 'static,
) -> Answer {
    let (caller, _, body) = read(&shared, request, SMALL_BODY).await?;
    let asked: models::ControlRequest = parse_or_default(&body.bytes)?;
    asked.check()?;
    may_control(&shared, &caller)?;
    let service = shared.service.clone();
    let done = tokio::task::spawn_blocking(move || work(&*service, &name.model)).await;
    done.map_err(|e| ServeError::new(Kind::Internal, format!("loading or unloading ended early: {e}")))??;
    Ok(Response::new(Body::empty()))
}

/// Whether a caller may load and unload.
///
/// # Errors
///
/// [`Kind::Forbidden`].
pub fn may_control(shared: &Shared, caller: &Caller) -> Result<(), ServeError> {
    if shared.options.no_repository_control {
        let message = "models are not loaded or unloaded by requests here: change the repository's folder";
        return Err(ServeError::new(Kind::Forbidden, message));
    }
    match caller.role {
        Role::Admin => Ok(()),
        Role::Infer => {
            let message = format!("'{}' may infer, not load or unload models; that takes the role admin", caller.name);
            Err(ServeError::new(Kind::Forbidden, message))
        }
    }
}

/// A small document; an empty body is an empty one.
fn parse_or_default<T: serde::de::DeserializeOwned + Default>(body: &[u8]) -> Result<T, ServeError> {
    match body.trim_ascii().is_empty() {
        true => Ok(T::default()),
        false => serde_json::from_slice(body).map_err(|e| invalid(format!("the body is not what belongs here: {e}"))),
    }
}

async fn unknown(request: Request) -> Response<Body> {
    let path = short(request.uri().path());
    error::response(&ServeError::new(Kind::NotFound, format!("there is nothing at {path}; the protocol begins at /v2")))
}

async fn wrong_method(request: Request) -> Response<Body> {
    let message = format!("{} is not the method of {}", short(request.method().as_str()), short(request.uri().path()));
    let mut response = error::response(&invalid(message));
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response
}
