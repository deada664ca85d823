//! Accepts connections of other services, with TLS where there is a certificate.

use std::{
    collections::HashMap,
    error::Error,
    io::{self, IoSlice},
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use metrics::{counter, describe_counter};
use rustls::{CertificateError, ServerConnection};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    task::{self, JoinSet},
    time::{self, Sleep},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::Stream;
use tonic::transport::server::Connected;

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

/// The other side of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Where it is.
    pub address: SocketAddr,
    /// The DNS names in its certificate, in lower case. None without TLS.
    pub names: Arc<[String]>,
}

impl Caller {
    /// Who sent a request, where that is known.
    pub fn of<T>(request: &tonic::Request<T>) -> Option<Self> {
        request.extensions().get().cloned()
    }

    /// Says in an event of the audit log who called, where that is known.
    #[must_use]
    pub fn note(caller: Option<&Self>, event: AuditEvent) -> AuditEvent {
        let Some(Self { address, names }) = caller else { return event };
        let event = event.from_address(Some(address.ip().to_canonical()));
        match names.first() {
            Some(name) => event.by_caller(name),
            None => event,
        }
    }
}

/// A connection that was accepted.
#[derive(Debug)]
pub struct Accepted {
    stream: Channel,
    caller: Caller,
}

#[derive(Debug)]
enum Channel {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Shakes hands with callers, and counts how it went.
#[derive(Debug, Clone)]
struct Handshakes {
    service: &'static str,
    tls: MutualTls,
}

impl Handshakes {
    /// Makes a connection ready to be read; none if there is no TLS with this caller. It takes 5 s at most.
    async fn accept(self, stream: TcpStream, address: SocketAddr) -> Option<Accepted> {
        let accepting = TlsAcceptor::from(self.tls.server()).accept(stream);
        let outcome = match time::timeout(HANDSHAKE_TIMEOUT, accepting).await {
            Ok(Ok(stream)) => match names(&stream) {
                Some(names) => {
                    self.count("accepted");
                    let caller = Caller { address, names };
                    return Some(Accepted { stream: Channel::Tls(Box::new(stream)), caller });
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
    under_way: JoinSet<Option<Accepted>>,
    /// Whose handshakes they are. So few that they can be looked through.
    addresses: HashMap<task::Id, IpAddr>,
    pause: Option<Pin<Box<Sleep>>>,
    /// Those that the system does not give may be many each second.
    accept_errors: LogRate,
}

impl Incoming {
    /// Accepts the connections of `listener`. `service` says in metrics and in the audit log whose it is.
    pub fn new(listener: TcpListener, service: &'static str, tls: Option<MutualTls>) -> Self {
        describe_counter!(HANDSHAKES, "TLS handshakes with other services, by outcome.");
        describe_counter!(ACCEPT_ERRORS, "Connections of services that could not be accepted.");
        counter!(ACCEPT_ERRORS, "service" => service).increment(0);
        Self {
            listener,
            service,
            tls,
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

    /// Begins a handshake, unless too many of the same address are under way.
    fn shake_hands(&mut self, tls: MutualTls, stream: TcpStream, address: SocketAddr) {
        let handshakes = Handshakes { service: self.service, tls };
        let ip = address.ip().to_canonical();
        if self.addresses.values().filter(|other| **other == ip).count()
            >= HANDSHAKES_PER_ADDRESS_MAX
        {
            return handshakes.count("too_many");
        }
        let task = self.under_way.spawn(handshakes.accept(stream, address));
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
                // Without it small answers wait for an acknowledgement. A socket that refuses is about to fail.
                Ok((stream, _)) if stream.set_nodelay(true).is_err() => {}
                Ok((stream, address)) => match self.tls.clone() {
                    Some(tls) => self.shake_hands(tls, stream, address),
                    // There is nothing to wait for: whoever is connected when the service is stopped is answered.
                    None => return Poll::Ready(Some(Ok(Accepted::plain(stream, address)))),
                },
                Err(error) => {
                    self.note_error(&error);
                    self.pause = Some(Box::pin(time::sleep(ACCEPT_PAUSE)));
                }
            }
        }
    }
}

impl Accepted {
    fn plain(stream: TcpStream, address: SocketAddr) -> Self {
        let caller = Caller { address, names: Arc::default() };
        Self { stream: Channel::Plain(stream), caller }
    }

    /// Who is on the other side.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The connection of TCP, and what is spoken on it if that is TLS.
    pub fn into_parts(self) -> (TcpStream, Option<ServerConnection>) {
        match self.stream {
            Channel::Plain(stream) => (stream, None),
            Channel::Tls(stream) => {
                let (stream, session) = stream.into_inner();
                (stream, Some(session))
            }
        }
    }
}

impl Connected for Accepted {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Channel::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Channel::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Channel::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Channel::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Channel::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Channel::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Channel::Plain(stream) => stream.is_write_vectored(),
            Channel::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Channel::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Channel::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Channel::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Channel::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_audit_log_is_told_a_callers_address_and_the_first_of_its_names() {
        let event = || AuditEvent::new("test", "kick", Decision::Allowed);
        let caller = |names: &[&str]| Caller {
            address: ([127, 0, 0, 2], 7).into(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
        };
        let at_address = event().from_address(Some([127, 0, 0, 2].into()));

        assert_eq!(Caller::note(None, event()), event());
        assert_eq!(Caller::note(Some(&caller(&[])), event()), at_address);
        let named = Caller::note(Some(&caller(&["a.example", "b.example"])), event());
        assert_eq!(named, at_address.by_caller("a.example"));
    }
}
