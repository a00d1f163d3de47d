//! One connection: TLS, HTTP/1.1 or HTTP/2, and for each request who calls and which protocol answers.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use super::access::{Caller, Peer, anyone};
use super::body::Messages;
use super::io::{Stream, Watched};
use super::timer::FairTimer;
use super::{Serves, Shared};
use crate::error::{Kind, ServeError};
use crate::{grpc, rest, status};

/// How long a connection that was taken just before the service was told to end may still bring its first request: its client has
/// mostly written it already.
const FIRST: Duration = Duration::from_secs(2);

/// Answers connections of one listener.
#[derive(Clone)]
pub struct Handler {
    pub shared: Arc<Shared>,
    serves: Serves,
    rest: Router,
    grpc: grpc::Services,
}

impl Handler {
    pub fn new(shared: Arc<Shared>, serves: Serves) -> Self {
        let rest = match serves {
            Serves::Status => status::router(shared.clone()),
            _ => rest::router(shared.clone()),
        };
        Self { grpc: grpc::Services::new(shared.clone()), shared, serves, rest }
    }

    /// Serves a connection to its end.
    pub async fn connection(self, stream: Box<dyn Stream>, peer: String, tls: bool, mut stop: watch::Receiver<bool>) {
        let limits = &self.shared.options.limits;
        let known_by = Instant::now() + limits.handshake;
        let mut peer = Peer { name: peer, certificate: None };
        let secure = self.shared.tls().filter(|_| tls && self.serves != Serves::Status);
        let stream: Box<dyn Stream> = match secure {
            None => stream,
            Some(config) => match timeout_at(known_by, TlsAcceptor::from(config).accept(stream)).await {
                Ok(Ok(stream)) => {
                    let certificates = stream.get_ref().1.peer_certificates();
                    peer.certificate = certificates.and_then(|c| c.first()).map(|c| Sha256::digest(c).into());
                    Box::new(stream)
                }
                failed => {
                    self.shared.counters.tls_errors.fetch_add(1, Ordering::Relaxed);
                    let why = failed.map_or_else(
                        |_| "too slow".to_string(),
                        |e| e.err().map_or_else(String::new, |e| e.to_string()),
                    );
                    log::debug!("TLS with {} failed: {why}", peer.name);
                    return;
                }
            },
        };
        let stream = TokioIo::new(Watched::new(stream, known_by, limits.write));
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(FairTimer)
            .header_read_timeout(limits.header)
            .max_buf_size(limits.header_bytes)
            .keep_alive(true);
        builder
            .http2()
            .timer(FairTimer)
            .max_concurrent_streams(limits.streams)
            .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(4 << 20)
            .keep_alive_interval(limits.keepalive)
            .keep_alive_timeout(limits.keepalive);
        let peer = Arc::new(peer);
        let (asks, mut asked) = watch::channel(false);
        let answer = service_fn(|request| {
            asks.send_replace(true);
            let (this, peer) = (self.clone(), peer.clone());
            async move { Ok::<_, Infallible>(this.request(request, &peer).await) }
        });
        let mut connection = pin!(builder.serve_connection(stream, answer));
        let mut told = pin!(async {
            // Whoever cannot be told any more is ended too.
            let _ = stop.wait_for(|&stop| stop).await;
            let _ = timeout(FIRST, asked.wait_for(|&asked| asked)).await;
        });
        let mut stopping = false;
        let end = loop {
            tokio::select! {
                end = connection.as_mut() => break end,
                () = told.as_mut(), if !stopping => {
                    stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        };
        if let Err(e) = end {
            log::debug!("the connection of {} ended: {e}", peer.name);
        }
    }

    async fn request(&self, mut request: Request<Incoming>, peer: &Peer) -> Response<Body> {
        let start = Instant::now();
        let is_grpc = request
            .headers()
            .get(http::header::CONTENT_TYPE)
            .is_some_and(|v| v.as_bytes().starts_with(b"application/grpc"));
        let path = request.uri().path().to_string();
        let trace = crate::trace::parent(request.headers()).map(str::to_string);
        let caller = match self.caller(request.headers(), &path, peer) {
            Ok(caller) => caller,
            Err(e) => return self.refuse(&e, is_grpc, &path, &peer.name),
        };
        let spoken = match self.serves {
            Serves::Both => true,
            Serves::Grpc => is_grpc,
            Serves::Http | Serves::Status => !is_grpc,
        };
        if !spoken {
            let (here, there) = if is_grpc { ("HTTP", "gRPC") } else { ("gRPC", "HTTP") };
            let e = ServeError::new(
                Kind::NotFound,
                format!("this port speaks {here}; {there} has another (--grpc, --http)"),
            );
            return self.refuse(&e, is_grpc, &path, &caller.name);
        }
        let name = caller.name.clone();
        request.extensions_mut().insert(caller);
        let (response, status) = if is_grpc {
            let stream = path == grpc::STREAM_INFER || path == grpc::HEALTH_WATCH;
            let limits = &self.shared.options.limits;
            let request = request.map(|body| Messages::new(body, stream, limits, &self.shared.memory));
            let response = self.grpc.call(request, &path).await;
            // Unary calls that fail have it in the head; streams tell it at their end.
            let code = response.headers().get("grpc-status").and_then(|v| v.to_str().ok()?.parse().ok()).unwrap_or(0);
            (response, code)
        } else {
            let response = match self.rest.clone().oneshot(request.map(Body::new)).await {
                Ok(response) => response,
                Err(never) => match never {},
            };
            let status = response.status().as_u16();
            (response, status)
        };
        self.shared.counters.answered(if is_grpc { "grpc" } else { "http" }, status);
        log::debug!(
            target: "akida_serve::access",
            "path={path} client={name} protocol={} status={status} seconds={:.6} trace={}",
            if is_grpc { "grpc" } else { "http" },
            start.elapsed().as_secs_f64(),
            trace.as_deref().unwrap_or("-"),
        );
        response
    }

    /// Who calls. Health is open to everyone: whoever asks for it has no secrets.
    fn caller(&self, headers: &http::HeaderMap, path: &str, peer: &Peer) -> Result<Caller, ServeError> {
        let open = self.serves == Serves::Status || path.starts_with("/v2/health/") || grpc::is_health(path);
        match self.shared.access() {
            Some(access) if !open => access.caller(headers, peer),
            _ => Ok(anyone(peer)),
        }
    }

    fn refuse(&self, error: &ServeError, is_grpc: bool, path: &str, who: &str) -> Response<Body> {
        log::debug!(target: "akida_serve::access", "path={path} client={who} refused: {error}");
        if is_grpc {
            let status = grpc::status(error);
            self.shared.counters.answered("grpc", status.code() as u16);
            status.into_http()
        } else {
            let response = rest::error::response(error);
            self.shared.counters.answered("http", response.status().as_u16());
            response
        }
    }
}
