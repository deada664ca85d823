//! Serves `/healthz`, `/readyz` and `/metrics` on a listener of their own.

use std::{convert::Infallible, io, net::SocketAddr, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Bytes,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time,
};

use super::{MetricsHandle, Readiness};
use crate::shutdown::Shutdown;

/// Connections served at once. Above it, the next waits in the kernel's queue.
const CONNECTION_COUNT_MAX: usize = 64;
/// For how long a client may take to send the head of its request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// For how long a connection may last: one request and its answer.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(15);
/// How often histograms are folded.
const FOLD_INTERVAL: Duration = Duration::from_secs(5);
/// How long to wait after the system refused to accept, for want of descriptors most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PROMETHEUS: HeaderValue =
    HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// The listener for operators.
#[derive(Debug)]
pub struct OpsServer {
    listener: TcpListener,
    address: SocketAddr,
    answers: Answers,
}

/// What is known to answer with.
#[derive(Debug, Clone)]
struct Answers {
    readiness: Readiness,
    metrics: MetricsHandle,
}

impl OpsServer {
    /// Binds the listener. Nobody is served before [`run`](Self::run).
    ///
    /// # Errors
    ///
    /// When the address cannot be bound.
    pub async fn bind(
        address: SocketAddr,
        readiness: Readiness,
        metrics: MetricsHandle,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, answers: Answers { readiness, metrics } })
    }

    /// Returns the address that was bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until shutdown is requested. A service that drains gives it a shutdown of its own, which comes after that:
    /// operators watch the drain here.
    pub async fn run(self, shutdown: Shutdown) {
        let mut connections = JoinSet::new();
        let mut fold = time::interval(FOLD_INTERVAL);
        loop {
            tokio::select! {
                () = shutdown.requested() => return,
                _ = fold.tick() => self.answers.metrics.fold(),
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept(), if connections.len() < CONNECTION_COUNT_MAX => match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(serve(stream, self.answers.clone()));
                    }
                    Err(error) => {
                        tracing::warn!(error = &error as &dyn std::error::Error, "accepting an operator failed");
                        time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }
}

async fn serve(stream: TcpStream, answers: Answers) {
    let service = service_fn(move |request| {
        let response = answers.answer(&request);
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match time::timeout(CONNECTION_TIMEOUT, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "operator's connection failed"
            );
        }
        Err(_) => tracing::debug!("operator's connection took too long"),
    }
}

impl Answers {
    fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            let mut response = respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, "method not allowed");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match request.uri().path() {
            "/healthz" => respond(StatusCode::OK, TEXT, "ok"),
            "/readyz" => self.answer_readiness(),
            "/metrics" => respond(StatusCode::OK, PROMETHEUS, self.metrics.render()),
            _ => respond(StatusCode::NOT_FOUND, TEXT, "not found"),
        }
    }

    fn answer_readiness(&self) -> Response<Full<Bytes>> {
        let missing = self.readiness.missing();
        if missing.is_empty() {
            respond(StatusCode::OK, TEXT, "ready")
        } else {
            let list = serde_json::Value::from(missing).to_string();
            respond(StatusCode::SERVICE_UNAVAILABLE, JSON, list)
        }
    }
}

fn respond(
    status: StatusCode,
    content_type: HeaderValue,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
