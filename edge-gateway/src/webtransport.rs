//! Takes clients on WebTransport: a listener of HTTP/3, beside those of the shards.

mod bridge;
mod certificate;
mod session;

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use edge_protocol::engine_io::webtransport::Opening;
use http::{HeaderMap, StatusCode, Uri};
use quinn::{Endpoint, Incoming};
use service_kit::shutdown::Shutdown;
use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time,
};

pub use self::certificate::WebTransportError;
pub(crate) use self::certificate::{QuicListen, server_config};
use self::{
    bridge::Bridge,
    session::{H3_NO_ERROR, OpenError, Requested, Session},
};
use crate::{
    BindError,
    application::Application,
    audit,
    client_address::ClientAddresses,
    client_handshake::Policy,
    config::Config,
    hosts::Hosts,
    namespaces::NamespaceSettings,
    origins::Origins,
    quota::{AddressLimits, Admitted},
    server::{Admission, Open},
    session_binding::SessionBinding,
    session_id::SessionId,
    telemetry::Metrics,
    transport::{
        mailbox::{Mail, Mailboxes},
        standing,
    },
};

/// How long a client may take from its first datagram to the packet that opens a session, as for an upgrade.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// How many clients may be on their way there. More are refused; from half as many on, each has to prove its address first.
const OPENINGS_MAX: usize = 1024;

/// How long a client may take to read what is left for it and to see its session closed.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// How long the last clients may take when the shards have ended.
const LAST_CLOSES: Duration = Duration::from_secs(3);

/// The listener, bound.
pub(crate) struct WebTransport {
    endpoint: Endpoint,
    local_addr: SocketAddr,
    door: Arc<Door>,
}

/// What an address may have, what all together may open, and where it is counted.
type Limits = ((Arc<AddressLimits>, Arc<Admission>), Metrics);

/// Why a client gets no session, as it is told.
enum Refused {
    Address,
    Overloaded,
}

/// What every client needs that comes in.
struct Door {
    application: Application,
    addresses: ClientAddresses,
    origins: Origins,
    hosts: Hosts,
    binding: SessionBinding,
    limits: Limits,
    policy: Policy,
    open: Open,
    mailboxes: Mailboxes,
    edge_number: u16,
    next_shard: AtomicUsize,
    /// How long a client may take nothing of what waits for it.
    stall: Duration,
}

impl std::fmt::Debug for WebTransport {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("WebTransport")
            .field("local_addr", &self.local_addr)
            .finish_non_exhaustive()
    }
}

impl WebTransport {
    /// Binds the listener.
    pub(crate) fn bind(
        (application, config): (Application, &Config),
        (address, server_config): QuicListen,
        namespaces: &[NamespaceSettings],
        mailboxes: Mailboxes,
        limits: Limits,
    ) -> Result<Self, BindError> {
        let listen = |source| BindError::Listen { address, source };
        let endpoint = Endpoint::server(server_config, address).map_err(listen)?;
        let local_addr = endpoint.local_addr().map_err(listen)?;
        tracing::info!(service = "edge-gateway", listener = "webtransport", address = %local_addr, "listening");
        let door = Door {
            application,
            addresses: ClientAddresses::of(&config.client_addresses),
            origins: Origins::of(&config.http.origins.allowed),
            hosts: Hosts::of(&config.http.allowed_hosts),
            binding: SessionBinding::of(&config.http),
            limits,
            policy: Policy::of(namespaces),
            open: Open::of(config),
            mailboxes,
            edge_number: config.number,
            next_shard: AtomicUsize::new(0),
            stall: config.ping_interval.saturating_add(config.ping_timeout),
        };
        Ok(Self { endpoint, local_addr, door: Arc::new(door) })
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Accepts until shutdown is asked for, and returns when the shards have ended and the last clients know it.
    pub(crate) async fn run(self, shutdown: Shutdown, shards_ended: Shutdown) {
        let openings = Arc::new(Semaphore::new(OPENINGS_MAX));
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                incoming = self.endpoint.accept() => {
                    let Some(incoming) = incoming else { break };
                    if let Some((incoming, opening)) = admit(incoming, &openings) {
                        tasks.spawn(Arc::clone(&self.door).serve(incoming, opening));
                    }
                }
                _ = tasks.join_next(), if !tasks.is_empty() => {}
                () = shutdown.requested() => break,
            }
        }
        self.endpoint.set_server_config(None);
        shards_ended.requested().await;
        let last = async { while tasks.join_next().await.is_some() {} };
        if time::timeout(LAST_CLOSES, last).await.is_err() {
            tracing::debug!("webtransport sessions were cut at the end of the drain");
        }
        self.endpoint.close(H3_NO_ERROR, b"");
        time::timeout(CLOSE_DEADLINE, self.endpoint.wait_idle()).await.ok();
    }
}

/// Lets a client begin, if there is room.
fn admit(
    incoming: Incoming,
    openings: &Arc<Semaphore>,
) -> Option<(Incoming, OwnedSemaphorePermit)> {
    let Ok(opening) = Arc::clone(openings).try_acquire_owned() else {
        incoming.refuse();
        return None;
    };
    let is_crowded = openings.available_permits() < OPENINGS_MAX / 2;
    if is_crowded && !incoming.remote_address_validated() {
        // One that cannot be asked again has been asked.
        incoming.retry().ok();
        return None;
    }
    Some((incoming, opening))
}

impl Door {
    /// Serves one client to its end.
    async fn serve(self: Arc<Self>, incoming: Incoming, opening: OwnedSemaphorePermit) {
        // Boxed: needed for a moment.
        let opened = Box::pin(time::timeout(OPEN_TIMEOUT, self.open(incoming))).await;
        drop(opening);
        match opened {
            Ok(Ok(bridge)) => bridge.run(self.stall).await,
            Ok(Err(error)) => tracing::debug!(%error, "webtransport client opened no session"),
            Err(_) => tracing::debug!("webtransport client did not open a session in time"),
        }
    }

    /// From the first datagram to a session that is a shard's, or is on its way to one.
    async fn open(&self, incoming: Incoming) -> Result<Bridge, OpenError> {
        let connection = incoming.await?;
        let peer = connection.remote_address().ip();
        let requested = Requested::accept(connection).await?;
        let (path, uri) = (requested.path(), requested.uri());
        let speaks_4 = eio(&uri).is_none_or(|revision| revision == "4");
        if !path.starts_with(self.application.engine_io_path()) {
            requested.refuse(StatusCode::NOT_FOUND).await;
            return Err(OpenError::Refused);
        }
        if !self.origins.admit(requested.headers()) {
            requested.refuse(StatusCode::FORBIDDEN).await;
            return Err(OpenError::Refused);
        }
        if !self.hosts.admit(requested.authority()) {
            requested.refuse(StatusCode::MISDIRECTED_REQUEST).await;
            return Err(OpenError::Refused);
        }
        if !speaks_4 {
            requested.refuse(StatusCode::BAD_REQUEST).await;
            return Err(OpenError::Refused);
        }
        let address = self.addresses.client(peer, requested.headers());
        let client = match self.admitted(address) {
            Ok(client) => client,
            Err(refused) => {
                let status = match refused {
                    Refused::Address => StatusCode::TOO_MANY_REQUESTS,
                    Refused::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
                };
                requested.refuse(status).await;
                return Err(OpenError::Refused);
            }
        };
        time::sleep(client.delay).await;
        let headers = requested.headers().clone();
        let mut session = requested.accept_stream().await?;
        match self.bring(&mut session, client, (&uri, &headers)).await {
            Ok(shard) => Ok(Bridge { session, shard }),
            Err(error) => {
                session.close().await;
                Err(error)
            }
        }
    }

    /// Lets a client in if there is room for it. A delay is part of the time that the client has to open a session. That it moves a
    /// session here it says only later, so such a client needs room, too, and is [taken back](Self::moves) then.
    fn admitted(&self, address: IpAddr) -> Result<Admitted, Refused> {
        let ((limits, admission), metrics) = &self.limits;
        let (now, delay_max) = (time::Instant::now().into_std(), OPEN_TIMEOUT / 2);
        // Its own limits first: one address must not take up what all share.
        let client = limits.open(address, now, delay_max).map_err(|refusal| {
            metrics.limit_hits.address(refusal).increment(1);
            audit::address_refused(address, refusal);
            Refused::Address
        })?;
        if !client.delay.is_zero() {
            metrics.limit_hits.address_delays.increment(1);
        }
        let shared = admission.counted_delay(None, delay_max, metrics);
        let shared = shared.map_err(|_| Refused::Overloaded)?;
        Ok(Admitted { delay: client.delay.max(shared), ..client })
    }

    /// A client has opened no session: it moves one here that has been counted.
    fn moves(&self, client: Admitted) {
        let ((limits, admission), _) = &self.limits;
        limits.opened_none(client);
        admission.opened_none();
    }

    /// Brings a client to the shard that is to have its session, or has it.
    async fn bring(
        &self,
        session: &mut Session,
        client: Admitted,
        (uri, headers): (&Uri, &HeaderMap),
    ) -> Result<TcpStream, OpenError> {
        let opening = session.opening().await?;
        let (near, far) = bridge::pair()?;
        let mail = match opening {
            Opening::New => {
                let ((_, admission), _) = &self.limits;
                let turn = self.next_shard.fetch_add(1, Ordering::Relaxed);
                let shard = admission.overload().roomiest(turn);
                let handshake = self.policy.keep(uri, headers, client);
                let session = SessionId::random(self.edge_number, shard);
                let packet = self.open.frame(session, &[]).into();
                Mail::Open { session, stream: far.into(), packet, handshake }
            }
            Opening::Upgrade { sid } => {
                let session = SessionId::parse(&sid).ok_or(OpenError::UnknownSession)?;
                if !self.binding.holds(session, headers) {
                    audit::foreign_session(client.address);
                    return Err(OpenError::UnknownSession);
                }
                let standing = standing::ask(&self.mailboxes, session).await;
                if standing.is_older {
                    return Err(OpenError::OtherRevision);
                }
                if standing.refusal.is_none() {
                    self.moves(client);
                }
                Mail::Probe { session, stream: far.into(), early: Bytes::new() }
            }
        };
        self.mailboxes.send(mail).await.map_err(|_| OpenError::UnknownSession)?;
        Ok(near)
    }
}

/// The revision of Engine.IO that a client says it speaks.
fn eio(uri: &Uri) -> Option<&str> {
    let mut parameters = uri.query()?.split('&');
    parameters.find_map(|parameter| parameter.strip_prefix("EIO="))
}
