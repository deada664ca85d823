//! What a request is held against before anything is done about it.

use http::{HeaderValue, Request, Response, header};

use super::Server;
use crate::request::{self, Asked, Refusal};

impl Server {
    /// What a request asks for, if its client may ask at all.
    pub(super) fn asked<B>(&self, request: &Request<B>) -> Result<Asked<'_>, Refusal> {
        let (allows_eio3, bundle) = (self.allows_eio3, self.client_bundle.as_deref());
        let asked = request::classify(request, self.application, allows_eio3, bundle);
        let headers = request.headers();
        if !self.origins.admit(headers) {
            return Err(Refusal::Origin);
        }
        // Where there is none, or another one, it is refused for that.
        if let Some(host) = headers.get(header::HOST)
            && !self.hosts.admit(host.to_str().unwrap_or_default())
        {
            return Err(Refusal::Misdirected);
        }
        asked
    }
}

/// Keeps an answer out of all caches, unless it says for how long it may be kept.
pub(super) fn not_to_be_kept<B>(response: &mut Response<B>) {
    let no_store = HeaderValue::from_static("no-store");
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(no_store);
}
