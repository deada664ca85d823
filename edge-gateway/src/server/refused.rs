//! The answers to requests that are refused, which are the last of their connection.

use std::time::Duration;

use axum::body::Body;
use http::{HeaderValue, Response, header};

use crate::request::Refusal;

pub(super) fn refused(refusal: Refusal) -> Response<Body> {
    let mut response = Response::new(Body::from(refusal.body()));
    *response.status_mut() = refusal.status();
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    let content_type = match refusal {
        Refusal::EngineIo(_)
        | Refusal::Origin
        | Refusal::Overloaded
        | Refusal::Address(_)
        | Refusal::ShuttingDown => "application/json",
        Refusal::Upgrade(_) => "text/html; charset=utf-8",
        Refusal::Host
        | Refusal::Misdirected
        | Refusal::Method { .. }
        | Refusal::NotWebSocket
        | Refusal::Version => "text/plain; charset=utf-8",
    };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Some(after) = refusal.retry_after() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(after)));
    }
    if let Refusal::Method { allowed } = refusal {
        headers.insert(header::ALLOW, HeaderValue::from_static(allowed));
    }
    if matches!(refusal, Refusal::Version | Refusal::NotWebSocket) {
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    }
    response
}

/// As many as must pass: whoever comes a second too early waits in vain.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}
