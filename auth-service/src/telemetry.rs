//! Names this service's span and metrics, each in one place.

use service_kit::trace::{Span, SpanKind, TraceParent, Tracer};

use crate::deny_list::Tokens;
use crate::key_set::SkipReason;
use crate::outage::VerifyError;
use crate::refusal::Refusal;

const AUTHENTICATIONS: &str = "sockeye_auth_authentications_total";
const TOKENS_ISSUED: &str = "sockeye_auth_tokens_issued_total";
const TICKETS_ISSUED: &str = "sockeye_auth_tickets_issued_total";
const REVOKED: &str = "sockeye_auth_revoked_total";
const REVOCATIONS: &str = "sockeye_auth_revocations";
const KEY_FETCHES: &str = "sockeye_auth_key_fetches_total";
const KEYS: &str = "sockeye_auth_keys";
const KEYS_FETCHED_AT: &str = "sockeye_auth_keys_fetched_timestamp_seconds";
const KEYS_SKIPPED: &str = "sockeye_auth_keys_skipped_total";
const INTROSPECTIONS: &str = "sockeye_auth_introspections_total";
const INTROSPECTIONS_REMEMBERED: &str = "sockeye_auth_introspections_remembered_total";
const REVOCATION_WATCHERS: &str = "sockeye_auth_revocation_watchers";
const ACCEPTED: &str = "accepted";
const UNDECIDED: &str = "undecided";

/// Begins the span of the verification of one token, where the caller's trace is sampled.
pub(crate) fn authenticate_span(
    tracer: &Tracer,
    parent: Option<TraceParent>,
    method: &'static str,
) -> Option<Span> {
    let mut span = tracer.follow("auth.authenticate", SpanKind::Server, parent)?;
    span.set("rpc.system.name", "grpc");
    span.set("rpc.service", "sockeye.auth.v1.AuthService");
    span.set("rpc.method", method);
    Some(span)
}

/// Records what was decided about a token, in the metrics and in the call's span.
pub(crate) fn record_outcome(span: Option<&mut Span>, error: Option<VerifyError>) {
    let outcome = match error {
        None => ACCEPTED,
        Some(VerifyError::Refused(refusal)) => refusal.label(),
        Some(VerifyError::Undecided(_)) => UNDECIDED,
    };
    metrics::counter!(AUTHENTICATIONS, "outcome" => outcome).increment(1);
    if let Some(span) = span {
        span.set("sockeye.outcome", outcome);
    }
}

pub(crate) fn record_issued_token() {
    metrics::counter!(TOKENS_ISSUED).increment(1);
}

pub(crate) fn record_issued_ticket() {
    metrics::counter!(TICKETS_ISSUED).increment(1);
}

pub(crate) fn record_revoked(tokens: &'static str) {
    metrics::counter!(REVOKED, "tokens" => tokens).increment(1);
}

pub(crate) fn record_revocation_count(count: usize) {
    metrics::gauge!(REVOCATIONS).set(count as f64);
}

pub(crate) fn record_key_fetch(issuer: &str, has_succeeded: bool) {
    let outcome = if has_succeeded { "fetched" } else { "failed" };
    metrics::counter!(KEY_FETCHES, "issuer" => issuer.to_owned(), "outcome" => outcome)
        .increment(1);
}

/// Records how many keys an issuer has, and when that was found out.
pub(crate) fn record_keys(issuer: &str, count: usize, now_unix_ms: u64) {
    metrics::gauge!(KEYS, "issuer" => issuer.to_owned()).set(count as f64);
    metrics::gauge!(KEYS_FETCHED_AT, "issuer" => issuer.to_owned())
        .set((now_unix_ms / 1000) as f64);
}

pub(crate) fn record_skipped_key(reason: SkipReason) {
    metrics::counter!(KEYS_SKIPPED, "reason" => reason.label()).increment(1);
}

/// Records whether an issuer has said what it thinks of a token.
pub(crate) fn record_introspection(issuer: &str, is_answered: bool) {
    let outcome = if is_answered { "answered" } else { "failed" };
    metrics::counter!(INTROSPECTIONS, "issuer" => issuer.to_owned(), "outcome" => outcome)
        .increment(1);
}

pub(crate) fn record_remembered_introspection() {
    metrics::counter!(INTROSPECTIONS_REMEMBERED).increment(1);
}

/// Counts one reader of the revocations until it is dropped.
#[derive(Debug)]
pub(crate) struct CountedWatcher(());

pub(crate) fn count_watcher() -> CountedWatcher {
    metrics::gauge!(REVOCATION_WATCHERS).increment(1.0);
    CountedWatcher(())
}

impl Drop for CountedWatcher {
    fn drop(&mut self) {
        metrics::gauge!(REVOCATION_WATCHERS).decrement(1.0);
    }
}

/// Makes every counter known at zero, so that the first refusal of a kind shows as an increase.
pub(crate) fn describe_metrics() {
    metrics::describe_counter!(AUTHENTICATIONS, "tokens looked at, by what was decided");
    metrics::describe_counter!(TOKENS_ISSUED, "tokens signed for development");
    metrics::describe_counter!(REVOKED, "answered revocations, by what they name");
    metrics::describe_gauge!(REVOCATIONS, "revocations that are kept");
    metrics::describe_counter!(KEY_FETCHES, "fetches of the keys that an issuer publishes");
    metrics::describe_gauge!(KEYS, "keys of those that an issuer publishes which are of use");
    metrics::describe_gauge!(KEYS_FETCHED_AT, "when an issuer's keys were fetched last");
    metrics::describe_counter!(KEYS_SKIPPED, "published keys that are of no use, by why");
    metrics::describe_counter!(INTROSPECTIONS, "questions to issuers about their tokens");
    metrics::describe_counter!(INTROSPECTIONS_REMEMBERED, "tokens that were asked about before");
    metrics::counter!(INTROSPECTIONS_REMEMBERED).increment(0);
    metrics::describe_gauge!(REVOCATION_WATCHERS, "edges' shards that are told of revocations");
    metrics::gauge!(REVOCATION_WATCHERS).set(0.0);
    metrics::counter!(TOKENS_ISSUED).increment(0);
    metrics::describe_counter!(TICKETS_ISSUED, "tickets given for tokens");
    metrics::counter!(TICKETS_ISSUED).increment(0);
    for reason in SkipReason::ALL {
        metrics::counter!(KEYS_SKIPPED, "reason" => reason.label()).increment(0);
    }
    for tokens in Tokens::LABELS {
        metrics::counter!(REVOKED, "tokens" => tokens).increment(0);
    }
    for outcome in Refusal::ALL.into_iter().map(Refusal::label).chain([ACCEPTED, UNDECIDED]) {
        metrics::counter!(AUTHENTICATIONS, "outcome" => outcome).increment(0);
    }
}
