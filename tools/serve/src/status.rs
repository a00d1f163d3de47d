//! The address of operators: `/metrics`, the status page and its document. It needs no network: everything is in the page.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::routing::get;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{Response, StatusCode};

use crate::net::Shared;

/// The page. It reads `status.json` and draws it.
const PAGE: &str = include_str!("status/index.html");

/// Styles and scripts are in the page, so nothing else may be loaded or asked than its own document.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
    img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// All paths.
pub fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(async || text("text/html; charset=utf-8", PAGE.to_string())))
        .route("/status.json", get(document))
        .route("/metrics", get(metrics))
        .route("/live", get(async |State(s): State<Arc<Shared>>| truth(s.service.live())))
        .route("/ready", get(async |State(s): State<Arc<Shared>>| truth(s.service.ready())))
        .with_state(shared)
}

fn text(kind: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response
}

/// For probes, which look at the status only.
fn truth(value: bool) -> Response<Body> {
    let mut response = text("text/plain; charset=utf-8", if value { "yes\n" } else { "no\n" }.into());
    *response.status_mut() = if value { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    response
}

async fn document(State(shared): State<Arc<Shared>>) -> Response<Body> {
    match serde_json::to_string(&shared.service.status()) {
        Ok(document) => text("application/json", document),
        Err(e) => {
            let mut response = text("text/plain; charset=utf-8", format!("cannot write the status: {e}\n"));
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response
        }
    }
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response<Body> {
    let mut all = String::new();
    shared.service.metrics(&mut all);
    shared.counters.metrics(shared.memory.used(), &mut all);
    all.push_str("# EOF\n");
    text("application/openmetrics-text; version=1.0.0; charset=utf-8", all)
}
