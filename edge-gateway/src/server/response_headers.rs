//! What every answer on the client listener says to browsers.

use http::{HeaderMap, HeaderValue, header};

use crate::config::TlsConfig;

/// Headers that are the same for all answers.
#[derive(Debug)]
pub(crate) struct ResponseHeaders {
    strict_transport_security: Option<HeaderValue>,
}

impl ResponseHeaders {
    pub(crate) fn of(config: &TlsConfig) -> Self {
        let value = |seconds| HeaderValue::try_from(format!("max-age={seconds}")).ok();
        Self { strict_transport_security: config.hsts_seconds.and_then(value) }
    }

    /// Adds them to an answer.
    pub(super) fn mark(&self, headers: &mut HeaderMap) {
        let nosniff = HeaderValue::from_static("nosniff");
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
        if let Some(value) = &self.strict_transport_security {
            headers.insert(header::STRICT_TRANSPORT_SECURITY, value.clone());
        }
    }
}
