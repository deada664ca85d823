//! Accepts connections of other services, with TLS where there is a certificate.

use std::{
    collections::HashMap,
    error::Error,
    io,
    net::{IpAddr, SocketAddr},
    num::NonZeroUsize,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use metrics::{counter, describe_counter};
use rustls::CertificateError;
use tokio::{
    net::{TcpListener, TcpStream},
    task::{self, JoinSet},
    time::{self, Sleep},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::Stream;

use super::{
    accepted::{Accepted, Caller, Channel},
    open_connections::{OpenConnections, Permit},
};
use crate::{
    audit::{self, AuditEvent, Decision},
    log_rate::LogRate,
    mutual_tls::{MutualTls, dns_names},
};

/// How long a caller may take for the handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// How many callers may be shaking hands. Others wait in the kernel meanwhile.
const HANDSHAKES_MAX: usize = 128;

/// How many of them may be of one address: whoever says nothing must not keep all others waiting.
const HANDSHAKES_PER_ADDRESS_MAX: usize = HANDSHAKES_MAX / 2;

/// How long to wait before accepting again when the process has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

const HANDSHAKES: &str = "sockeye_grpc_handshakes_total";
const ACCEPT_ERRORS: &str = "sockeye_grpc_accept_errors_total";

/// What is said of whoever went away before the handshake's end, as those do that look whether there is a listener. Nobody was
/// refused anything.
const HUNG_UP: &str = "hung_up";

/// Shakes hands with callers, and counts how it went.
#[derive(Debug, Clone)]
struct Handshakes {
    service: &'static str,
    tls: MutualTls,
}

impl Handshakes {
    /// Makes a connection ready to be read; none if there is no TLS with this caller. It takes 5 s at most.
    async fn accept(
        self,
        stream: TcpStream,
        address: SocketAddr,
        permit: Permit,
    ) -> Option<Accepted> {
        let accepting = TlsAcceptor::from(self.tls.server()).accept(stream);
        let outcome = match time::timeout(HANDSHAKE_TIMEOUT, accepting).await {
            Ok(Ok(stream)) => match names(&stream) {
                Some(names) => {
                    self.count("accepted");
                    let caller = Caller { address, names };
                    return Some(Accepted::new(Channel::Tls(Box::new(stream)), caller, permit));
                }
                None => "no_protocol",
            },
            Ok(Err(error)) => reason(&error),
            Err(_) => "timeout",
        };
        self.count(outcome);
        tracing::debug!(service = self.service, outcome, "no TLS with a caller");
        if outcome == HUNG_UP {
            return None;
        }
        let event = AuditEvent::new(self.service, "grpc_tls", Decision::Denied)
            .because(outcome)
            .from_address(Some(address.ip().to_canonical()));
        audit::record(event);
        None
    }

    fn count(&self, outcome: &'static str) {
        counter!(HANDSHAKES, "service" => self.service, "outcome" => outcome).increment(1);
    }
}

/// The names of the caller; none if nothing is said of what will be spoken.
fn names(stream: &TlsStream<TcpStream>) -> Option<Arc<[String]>> {
    let session = stream.get_ref().1;
    session.alpn_protocol()?;
    let own = session.peer_certificates().and_then(|chain| chain.first());
    Some(own.map(dns_names).unwrap_or_default().into())
}

/// Why there is no TLS with a caller. What is no error of TLS is one of the connection.
fn reason(error: &io::Error) -> &'static str {
    let cause = error.get_ref().and_then(|cause| {
        let cause: &(dyn Error + 'static) = cause;
        cause.downcast_ref::<rustls::Error>()
    });
    match cause {
        Some(rustls::Error::NoCertificatesPresented) => "no_certificate",
        Some(rustls::Error::InvalidCertificate(error)) if is_expired(error) => "expired",
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "unknown_issuer"
        }
        Some(rustls::Error::InvalidCertificate(_)) => "bad_certificate",
        Some(rustls::Error::NoApplicationProtocol) => "no_protocol",
        Some(_) => "failed",
        None => HUNG_UP,
    }
}

fn is_expired(error: &CertificateError) -> bool {
    matches!(error, CertificateError::Expired | CertificateError::ExpiredContext { .. })
}

/// The connections of a listener. A handshake that fails, or takes long, delays none of the others and ends nothing but itself.
#[derive(Debug)]
pub struct Incoming {
    listener: TcpListener,
    service: &'static str,
    tls: Option<MutualTls>,
    open: OpenConnections,
    under_way: JoinSet<Option<Accepted>>,
    /// Whose handshakes they are. So few that they can be looked through.
    addresses: HashMap<task::Id, IpAddr>,
    pause: Option<Pin<Box<Sleep>>>,
    /// Those that the system does not give may be many each second.
    accept_errors: LogRate,
}

impl Incoming {
    /// Accepts the connections of `listener`, and closes those beyond `connections_max` at a time, or beyond half of them of
    /// one address. `service` says in metrics and in the audit log whose it is.
    pub fn new(
        listener: TcpListener,
        service: &'static str,
        tls: Option<MutualTls>,
        connections_max: NonZeroUsize,
    ) -> Self {
        describe_counter!(HANDSHAKES, "TLS handshakes with other services, by outcome.");
        describe_counter!(ACCEPT_ERRORS, "Connections of services that could not be accepted.");
        counter!(ACCEPT_ERRORS, "service" => service).increment(0);
        Self {
            listener,
            service,
            tls,
            open: OpenConnections::new(service, connections_max),
            under_way: JoinSet::new(),
            addresses: HashMap::new(),
            pause: None,
            accept_errors: LogRate::default(),
        }
    }

    fn note_error(&mut self, error: &io::Error) {
        let service = self.service;
        counter!(ACCEPT_ERRORS, "service" => service).increment(1);
        if let Some(count) = self.accept_errors.happened() {
            tracing::warn!(service, %error, count, "connections could not be accepted");
        }
    }

    /// Takes a connection, and returns it if there is nothing to wait for.
    fn begin(&mut self, stream: TcpStream, address: SocketAddr) -> Option<Accepted> {
        // Without it small answers wait for an acknowledgement. A socket that refuses is about to fail.
        stream.set_nodelay(true).ok()?;
        let permit = self.open.admit(address.ip().to_canonical())?;
        let Some(tls) = self.tls.clone() else {
            // Whoever is connected when the service is stopped is answered.
            let caller = Caller { address, names: Arc::default() };
            return Some(Accepted::new(Channel::Plain(stream), caller, permit));
        };
        self.shake_hands(Handshakes { service: self.service, tls }, stream, (address, permit));
        None
    }

    /// Begins a handshake, unless too many of the same address are under way.
    fn shake_hands(
        &mut self,
        handshakes: Handshakes,
        stream: TcpStream,
        (address, permit): (SocketAddr, Permit),
    ) {
        let ip = address.ip().to_canonical();
        if self.addresses.values().filter(|other| **other == ip).count()
            >= HANDSHAKES_PER_ADDRESS_MAX
        {
            return handshakes.count("too_many");
        }
        let task = self.under_way.spawn(handshakes.accept(stream, address, permit));
        self.addresses.insert(task.id(), ip);
    }
}

impl Stream for Incoming {
    type Item = io::Result<Accepted>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Poll::Ready(Some(ended)) = self.under_way.poll_join_next_with_id(cx) {
                let id = ended.as_ref().map_or_else(task::JoinError::id, |(id, _)| *id);
                self.addresses.remove(&id);
                if let Ok((_, Some(accepted))) = ended {
                    return Poll::Ready(Some(Ok(accepted)));
                }
                continue;
            }
            if self.under_way.len() >= HANDSHAKES_MAX {
                return Poll::Pending;
            }
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            match ready!(self.listener.poll_accept(cx)) {
                Ok((stream, address)) => {
                    if let Some(accepted) = self.begin(stream, address) {
                        return Poll::Ready(Some(Ok(accepted)));
                    }
                }
                Err(error) => {
                    self.note_error(&error);
                    self.pause = Some(Box::pin(time::sleep(ACCEPT_PAUSE)));
                }
            }
        }
    }
}
