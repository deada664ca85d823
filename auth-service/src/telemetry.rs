//! Names this service's span and metrics, each in one place.

use service_kit::trace::{Span, SpanKind, TraceParent, Tracer};

use crate::deny_list::Tokens;
use crate::refusal::Refusal;

const AUTHENTICATIONS: &str = "sockeye_auth_authentications_total";
const TOKENS_ISSUED: &str = "sockeye_auth_tokens_issued_total";
const REVOKED: &str = "sockeye_auth_revoked_total";
const REVOCATIONS: &str = "sockeye_auth_revocations";
const ACCEPTED: &str = "accepted";

/// Begins the span of one call of `Authenticate`, where the caller's trace is sampled.
pub(crate) fn authenticate_span(tracer: &Tracer, parent: Option<TraceParent>) -> Option<Span> {
    let mut span = tracer.follow("auth.authenticate", SpanKind::Server, parent)?;
    span.set("rpc.system.name", "grpc");
    span.set("rpc.service", "sockeye.auth.v1.AuthService");
    span.set("rpc.method", "Authenticate");
    Some(span)
}

/// Records what was decided about a token, in the metrics and in the call's span.
pub(crate) fn record_outcome(span: Option<&mut Span>, refusal: Option<Refusal>) {
    let outcome = refusal.map_or(ACCEPTED, Refusal::label);
    metrics::counter!(AUTHENTICATIONS, "outcome" => outcome).increment(1);
    if let Some(span) = span {
        span.set("sockeye.outcome", outcome);
    }
}

pub(crate) fn record_issued_token() {
    metrics::counter!(TOKENS_ISSUED).increment(1);
}

pub(crate) fn record_revoked(tokens: &'static str) {
    metrics::counter!(REVOKED, "tokens" => tokens).increment(1);
}

pub(crate) fn record_revocation_count(count: usize) {
    metrics::gauge!(REVOCATIONS).set(count as f64);
}

/// Makes every counter known at zero, so that the first refusal of a kind shows as an increase.
pub(crate) fn describe_metrics() {
    metrics::describe_counter!(AUTHENTICATIONS, "tokens looked at, by what was decided");
    metrics::describe_counter!(TOKENS_ISSUED, "tokens signed for development");
    metrics::describe_counter!(REVOKED, "answered revocations, by what they name");
    metrics::describe_gauge!(REVOCATIONS, "revocations that are kept");
    metrics::counter!(TOKENS_ISSUED).increment(0);
    for tokens in Tokens::LABELS {
        metrics::counter!(REVOKED, "tokens" => tokens).increment(0);
    }
    for outcome in Refusal::ALL.into_iter().map(Refusal::label).chain([ACCEPTED]) {
        metrics::counter!(AUTHENTICATIONS, "outcome" => outcome).increment(0);
    }
}
