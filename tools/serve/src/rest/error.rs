//! Failures as HTTP has them: a status, `{"error": "..."}`, and when to try again.

use axum::body::Body;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Response, StatusCode};

use crate::error::{Kind, ServeError};

/// The status of a failure.
pub fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::Invalid => StatusCode::BAD_REQUEST,
        Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Kind::Busy | Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Deadline => StatusCode::GATEWAY_TIMEOUT,
        // Nobody reads it; the number is the one proxies log.
        Kind::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The answer to a request that failed.
pub fn response(error: &ServeError) -> Response<Body> {
    #[derive(serde::Serialize)]
    struct Document<'a> {
        error: &'a str,
    }
    let text = serde_json::to_vec(&Document { error: &error.message }).unwrap_or_default();
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status(error.kind);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if error.kind == Kind::Unauthenticated {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(time) = error.retry_after {
        // Whole seconds, and never "at once": who is told so comes back into the same queue.
        headers.insert(RETRY_AFTER, HeaderValue::from(time.as_secs_f64().ceil().max(1.0) as u64));
    }
    if error.kind == Kind::TooLarge {
        // What is left of the body is not read.
        headers.insert(http::header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
