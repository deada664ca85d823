//! What a request is held against before anything is done about it.

use std::net::IpAddr;

use http::{HeaderValue, Request, Response, header};

use super::Server;
use crate::{
    audit,
    request::{self, Asked, Client, EngineIoError, Refusal},
    session_id::SessionId,
};

impl Server {
    /// What a request asks for, if its client may ask at all.
    pub(super) fn asked<B>(
        &self,
        request: &Request<B>,
        peer: IpAddr,
    ) -> Result<Asked<'_>, Refusal> {
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
        let asked = asked?;
        if let Some((session, is_upgrade)) = named(&asked)
            && !self.binding.holds(session, headers)
        {
            audit::foreign_session(self.addresses.client(peer, headers));
            let unknown = EngineIoError::SessionIdUnknown;
            return Err(if is_upgrade {
                Refusal::Upgrade(unknown)
            } else {
                Refusal::EngineIo(unknown)
            });
        }
        Ok(asked)
    }
}

/// The session that a request names, and whether it is to move to a WebSocket.
fn named(asked: &Asked<'_>) -> Option<(SessionId, bool)> {
    match asked {
        Asked::Poll { session } | Asked::Post { session } => Some((*session, false)),
        Asked::Upgrade { client: Client::Probe { session, .. }, .. } => Some((*session, true)),
        Asked::Upgrade { client: Client::SocketIo { .. } | Client::PlainJson { .. }, .. }
        | Asked::OpenPolling { .. }
        | Asked::ClientFile(_)
        | Asked::Preflight
        | Asked::Page => None,
    }
}

/// Keeps an answer out of all caches, unless it says for how long it may be kept.
pub(super) fn not_to_be_kept<B>(response: &mut Response<B>) {
    let no_store = HeaderValue::from_static("no-store");
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(no_store);
}
