//! Notes in the audit log who entered, who was turned away, and whose connection was ended.

use std::net::IpAddr;

use service_kit::audit::{self, AuditEvent, Decision};

use crate::{
    close_reason::CloseReason,
    quota::AddressRefusal,
    shard::{ConnectionKey, ConnectionLimit, Shard},
    socket::Identity,
};

/// What this service is called in the audit log.
pub(crate) const SERVICE: &str = "edge-gateway";

/// A client wants into a namespace.
const CONNECT: &str = "connect";
/// A client sends a new token.
const REFRESH: &str = "refresh";
/// A connection is ended, for what its client did or since it may be there no more.
const CLOSE: &str = "close";
/// A request names a session.
const SESSION: &str = "session";
/// An address or a connection wants more than one may have.
const LIMIT: &str = "limit";
/// A client wants to speak TLS.
const TLS: &str = "tls";

impl Shard {
    /// A client has the right to enter.
    pub(crate) fn audit_entry(&self, connection: ConnectionKey, identity: Option<&Identity>) {
        self.audit(connection, CONNECT, (Decision::Allowed, None), identity);
    }

    /// A client is turned away, since its token does not do or nobody could be asked about it.
    pub(crate) fn audit_refused_entry(
        &self,
        connection: ConnectionKey,
        decision: Decision,
        reason: &'static str,
    ) {
        self.audit(connection, CONNECT, (decision, Some(reason)), None);
    }

    /// A socket of this identity has brought a new token.
    pub(crate) fn audit_refresh(
        &self,
        connection: ConnectionKey,
        decision: Decision,
        identity: Option<&Identity>,
    ) {
        self.audit(connection, REFRESH, (decision, None), identity);
    }

    /// A connection is about to be ended. Those that came to an ordinary end are no security events.
    pub(crate) fn audit_close(&self, connection: ConnectionKey, reason: CloseReason) {
        if !audit::is_on() || !is_security_event(reason) {
            return;
        }
        self.audit_all(connection, CLOSE, reason.label());
    }

    /// A connection has come to one of its limits and goes on. The first time is noted for each of them, since clients decide how
    /// often it comes there.
    pub(crate) fn audit_limit(&mut self, connection: ConnectionKey, limit: ConnectionLimit) {
        if audit::is_on()
            && self.entry(connection).is_some_and(|entry| entry.noted_limits.note(limit))
        {
            self.audit_all(connection, LIMIT, limit.label());
        }
    }

    /// Notes something of all whom a connection has let in, or of its address alone.
    fn audit_all(&self, connection: ConnectionKey, name: &'static str, reason: &'static str) {
        let verdict = (Decision::Denied, Some(reason));
        let mut identities = self.identities_of(connection);
        self.audit(connection, name, verdict, identities.next().as_deref());
        for identity in identities {
            self.audit(connection, name, verdict, Some(&identity));
        }
    }

    fn audit(
        &self,
        connection: ConnectionKey,
        name: &'static str,
        (decision, reason): (Decision, Option<&'static str>),
        identity: Option<&Identity>,
    ) {
        if !audit::is_on() {
            return;
        }
        let mut event =
            AuditEvent::new(SERVICE, name, decision).from_address(self.address_of(connection));
        if let Some(reason) = reason {
            event = event.because(reason);
        }
        if let Some(identity) = identity {
            event = event.of_issuer(&identity.issuer).of_subject(&identity.subject);
        }
        audit::record(event);
    }
}

/// An address has come to one of its limits.
pub(crate) fn limit(address: IpAddr, limit: &'static str) {
    let event = AuditEvent::new(SERVICE, LIMIT, Decision::Denied).because(limit);
    audit::record(event.from_address(Some(address)));
}

/// There is no TLS with a client, for what it sent or did not send.
pub(crate) fn tls_refused(address: IpAddr, outcome: &'static str) {
    let event = AuditEvent::new(SERVICE, TLS, Decision::Denied).because(outcome);
    audit::record(event.from_address(Some(address)));
}

/// A request names a session that another client has opened.
pub(crate) fn foreign_session(address: IpAddr) {
    let event = AuditEvent::new(SERVICE, SESSION, Decision::Denied).because("not_its_client");
    audit::record(event.from_address(Some(address)));
}

/// An address has no room for one more client.
pub(crate) fn address_refused(address: IpAddr, refusal: AddressRefusal) {
    limit(
        address,
        match refusal {
            AddressRefusal::Opens { .. } => "address_opens",
            AddressRefusal::Connections { .. } => "address_connections",
        },
    );
}

fn is_security_event(reason: CloseReason) -> bool {
    match reason {
        CloseReason::SlowConsumer
        | CloseReason::ConnectTimeout
        | CloseReason::TokenExpired
        | CloseReason::TokenRevoked
        | CloseReason::RateLimited
        | CloseReason::ClosedByBackend
        | CloseReason::DisconnectedByBackend
        | CloseReason::InternalError
        | CloseReason::BadFrame
        | CloseReason::BadText
        | CloseReason::TooManyFragments
        | CloseReason::PayloadTooLarge
        | CloseReason::MalformedPacket
        | CloseReason::TokenRejected
        | CloseReason::ProtocolViolation => true,
        CloseReason::ShuttingDown
        | CloseReason::PingTimeout
        | CloseReason::Replaced
        | CloseReason::Unavailable
        | CloseReason::ClosedByClient
        | CloseReason::TransportClosed => false,
    }
}
