//! One shard's client listener: HTTP until a connection is upgraded, then the shard's.

mod admission;
mod announced;
mod checks;
pub(crate) mod client_bundle;
mod clients;
mod content_coding;
mod engine_io;
mod large_payload;
mod open;
mod paced_body;
mod patient;
mod refused;
mod response_headers;
mod withheld;

use std::{cell::Cell, mem, net::IpAddr, rc::Rc, sync::Arc, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use hyper::{body::Incoming, server::conn::http1, service::service_fn, upgrade::OnUpgrade};
use hyper_util::rt::{TokioIo, TokioTimer};
use service_kit::{log_rate::LogRate, shutdown::Shutdown};
use tokio::{io::AsyncWriteExt, net::TcpStream, task::JoinSet, time};
use tower::ServiceExt;

pub(crate) use self::{
    admission::{Admission, DELAY_MAX},
    clients::Clients,
    open::Open,
    response_headers::ResponseHeaders,
};
use self::{
    announced::{ReadProxyHeaderError, read_proxy_header},
    checks::not_to_be_kept,
    client_bundle::ClientBundle,
    content_coding::ContentCoding,
    engine_io::CutOff,
    patient::Patient,
    refused::refused,
    withheld::{IsLast, Withheld},
};
use crate::{
    application::Application,
    audit,
    client_address::ClientAddresses,
    client_handshake::{ClientHandshake, Policy},
    client_stream::ClientStream,
    client_tls::ClientTls,
    connection::{self, Common, Connection},
    cors::Cors,
    hosts::Hosts,
    origins::Origins,
    quota::{AddressLimits, Admitted, Held},
    request::{self, Asked, Client, EngineIoError, Refusal},
    session_binding::SessionBinding,
    session_id::SessionId,
    shard::{ConnectionKey, Flow, JsonSession, SharedShard, Wire},
    transport::mailbox::{Mail, Mailboxes},
};

/// How long a client may take to send a request's headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Most headers of a request, and most bytes of them together.
const HEADERS_MAX: usize = 64;
const HEADER_BYTES_MAX: usize = 16 * 1024;

/// How long to wait before accepting again when the process has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What serves the client listener of one shard.
pub(crate) struct Server {
    pub(crate) application: Application,
    pub(crate) allows_eio3: bool,
    pub(crate) shard: SharedShard,
    pub(crate) common: Rc<Common>,
    pub(crate) pages: axum::Router,
    pub(crate) open: Open,
    pub(crate) client_bundle: Option<Arc<ClientBundle>>,
    pub(crate) origins: Origins,
    pub(crate) hosts: Hosts,
    pub(crate) binding: SessionBinding,
    pub(crate) cors: Cors,
    pub(crate) addresses: ClientAddresses,
    pub(crate) address_limits: Arc<AddressLimits>,
    pub(crate) policy: Policy,
    pub(crate) admission: Arc<Admission>,
    pub(crate) tls: Option<ClientTls>,
    pub(crate) response_headers: ResponseHeaders,
    pub(crate) mailboxes: Mailboxes,
    pub(crate) edge_number: u16,
    pub(crate) shard_number: u8,
    /// Asks the whole edge to end, and is seen by all of it at once: its shards are told one after the other.
    pub(crate) edge_shutdown: Shutdown,
}

impl Server {
    /// Accepts until shutdown is asked for. The connections go on, and end with the returned set.
    pub(crate) async fn accept(
        self: Rc<Self>,
        mut clients: Clients,
        shutdown: &Shutdown,
    ) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        let mut accept_errors = LogRate::default();
        loop {
            tokio::select! {
                accepted = clients.accept() => match accepted {
                    Ok((stream, peer)) => {
                        tasks.spawn_local(Rc::clone(&self).serve(stream, peer));
                    }
                    Err(error) => {
                        self.common.metrics.accept_errors.increment(1);
                        if let Some(count) = accept_errors.happened() {
                            tracing::warn!(%error, count, "connections could not be accepted");
                        }
                        time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                _ = tasks.join_next(), if !tasks.is_empty() => {}
                () = shutdown.requested() => {
                    let take = |stream, peer| {
                        tasks.spawn_local(Rc::clone(&self).serve(stream, peer));
                    };
                    clients.take_last(take).await;
                    return tasks;
                }
            }
        }
    }

    /// Serves one TCP connection to its end.
    async fn serve(self: Rc<Self>, stream: TcpStream, peer: IpAddr) {
        // Boxed, and gone when the connection is the shard's: it must not widen the future of every idle connection.
        let adopted = Box::pin(self.begin(stream, peer)).await;
        if let Some(Adopted { connection, shard, key, early, flow }) = adopted {
            connection::run(connection, shard, key, early, flow).await;
        }
    }

    /// Serves a connection until it ends or is the shard's.
    async fn begin(self: Rc<Self>, mut stream: TcpStream, peer: IpAddr) -> Option<Adopted> {
        let peer = match self.announced(&mut stream, peer).await {
            Ok(peer) => peer,
            Err(error) => {
                self.common.metrics.proxy_headers_refused.increment(1);
                tracing::debug!(%error, "connection without a proxy's header");
                return None;
            }
        };
        let _held = self.http_connection(peer)?;
        // Boxed: needed for a moment, and far larger than what a client that polls needs.
        let stream = Box::pin(self.secured(stream, peer)).await?;
        self.serve_http(stream, peer).await
    }

    /// Shakes hands with a client, where there is TLS; none if that came to nothing.
    async fn secured(&self, stream: TcpStream, peer: IpAddr) -> Option<ClientStream> {
        match &self.tls {
            Some(tls) => tls.accept(stream, peer, &self.common.metrics).await,
            None => Some(stream.into()),
        }
    }

    /// Where a connection is from, which a proxy says first if that is how clients come.
    async fn announced(
        &self,
        stream: &mut TcpStream,
        peer: IpAddr,
    ) -> Result<IpAddr, ReadProxyHeaderError> {
        if !self.addresses.are_announced {
            return Ok(peer);
        }
        if !self.addresses.trusts(peer.to_canonical()) {
            return Err(ReadProxyHeaderError::Stranger);
        }
        Ok(read_proxy_header(stream).await?.unwrap_or(peer))
    }

    /// Counts a connection as one of its address's that speak HTTP; none if it has too many. A proxy brings those of all its
    /// clients.
    fn http_connection(&self, peer: IpAddr) -> Option<Option<Held>> {
        let peer = peer.to_canonical();
        if self.addresses.trusts(peer) {
            return Some(None);
        }
        let held = self.address_limits.connect(peer, time::Instant::now().into_std());
        if held.is_none() {
            self.common.metrics.limit_hits.address_http_connections.increment(1);
            audit::limit(peer, "address_http_connections");
        }
        held
    }

    /// Serves HTTP until the connection ends or is the shard's.
    async fn serve_http(self: Rc<Self>, stream: ClientStream, peer: IpAddr) -> Option<Adopted> {
        let slot = Rc::new(Slot::default());
        let stream = Withheld::new(Patient::new(stream), slot.is_filled.clone());
        let service =
            service_fn(|request| Rc::clone(&self).answer(request, peer, Rc::clone(&slot)));
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_headers(HEADERS_MAX)
            .max_buf_size(HEADER_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        if let Err(error) = served.await {
            self.note_limit(&error, peer);
            tracing::debug!(%error, "http connection ended");
        }
        let upgrade = slot.upgrade.take()?;
        self.take_over(upgrade).await
    }

    /// Counts a connection that has ended since its headers were too many, or too slow. Who asks for nothing is slow, too, and no
    /// news for the audit log.
    fn note_limit(&self, error: &hyper::Error, peer: IpAddr) {
        let hits = &self.common.metrics.limit_hits;
        if error.is_parse_too_large() {
            hits.headers.increment(1);
            audit::limit(peer.to_canonical(), "headers");
        } else if error.is_timeout() {
            hits.header_time.increment(1);
        }
    }

    async fn answer(
        self: Rc<Self>,
        request: Request<Incoming>,
        peer: IpAddr,
        slot: Rc<Slot>,
    ) -> Result<Response<Body>, CutOff> {
        // Proxies have read such bodies otherwise than servers, and hyper keeps quiet about a length beside the chunks.
        let is_last = request.headers().contains_key(header::TRANSFER_ENCODING);
        let mut response = self.respond(request, peer, slot).await?;
        if is_last {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        self.response_headers.mark(response.headers_mut());
        Ok(response)
    }

    async fn respond(
        &self,
        mut request: Request<Incoming>,
        peer: IpAddr,
        slot: Rc<Slot>,
    ) -> Result<Response<Body>, CutOff> {
        let origin = request.headers().get(header::ORIGIN).cloned();
        let asked = self.asked(&request, peer);
        let (asked, client) = match self.admitted(asked, peer, request.headers()).await {
            Ok((asked, client)) => (Ok(asked), client),
            Err(refusal) => (Err(refusal), Admitted::freely(peer)),
        };
        let mut response = match asked {
            Ok(Asked::Page) => return Ok(self.page(request).await),
            Ok(Asked::ClientFile(file)) => file.answer(request.headers()),
            Ok(Asked::Preflight) if self.cors.is_on() => return Ok(self.preflight(&request)),
            Ok(Asked::Preflight) => refused(Refusal::EngineIo(EngineIoError::BadHandshakeMethod)),
            Ok(Asked::OpenPolling { older }) => self.open_polling(&request, client, older),
            Ok(Asked::Poll { session }) => {
                let coding = ContentCoding::accepted(request.headers());
                self.poll(session, coding).await?
            }
            Ok(Asked::Post { session }) => self.post(session, request).await?,
            Ok(Asked::Upgrade { accept, client: speaks }) => {
                if let Client::Probe { session, is_older } = speaks
                    && let Err(error) = self.may_probe(session, is_older).await
                {
                    return Ok(refused(Refusal::Upgrade(error)));
                }
                let handshake = self.policy.keep(request.uri(), request.headers(), client);
                let subprotocol = request::first_subprotocol(request.headers());
                let on_upgrade = hyper::upgrade::on(&mut request);
                slot.fill(Upgrade { on_upgrade, client: speaks, handshake });
                return Ok(switching_protocols(&accept, subprotocol));
            }
            Err(refusal) => refused(refusal),
        };
        self.cors.mark(origin.as_ref(), response.headers_mut());
        not_to_be_kept(&mut response);
        if self.edge_shutdown.is_requested() {
            // The next request may find another edge, which has the session or knows who has.
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        Ok(response)
    }

    /// Has a client wait that would open a session while too many do. Once the edge is being stopped it opens none: the client
    /// is to find another one, and not to be sent away from here as soon as it is in.
    async fn admitted<'a>(
        &self,
        asked: Result<Asked<'a>, Refusal>,
        peer: IpAddr,
        headers: &HeaderMap,
    ) -> Result<(Asked<'a>, Admitted), Refusal> {
        let opens = match &asked {
            Ok(Asked::OpenPolling { .. }) => true,
            Ok(Asked::Upgrade { client, .. }) => !matches!(client, Client::Probe { .. }),
            Ok(
                Asked::Poll { .. }
                | Asked::Post { .. }
                | Asked::Preflight
                | Asked::ClientFile(_)
                | Asked::Page,
            )
            | Err(_) => false,
        };
        if !opens {
            return Ok((asked?, Admitted::freely(peer)));
        }
        let client = self.has_room(self.addresses.client(peer, headers))?;
        if !client.delay.is_zero() {
            tokio::select! {
                () = time::sleep(client.delay) => {}
                () = self.edge_shutdown.requested() => {}
            }
        }
        if self.edge_shutdown.is_requested() {
            return Err(Refusal::ShuttingDown);
        }
        Ok((asked?, client))
    }

    /// Whether there is room for one more client of an address, by what that may have and by what all may.
    fn has_room(&self, address: IpAddr) -> Result<Admitted, Refusal> {
        let (now, metrics) = (time::Instant::now(), &self.common.metrics);
        // Its own limits first: one address must not take up what all share.
        let client = self.address_limits.open(address, now.into_std(), DELAY_MAX);
        let client = client.map_err(|refusal| {
            metrics.limit_hits.address(refusal).increment(1);
            audit::address_refused(address, refusal);
            Refusal::Address(refusal)
        })?;
        if !client.delay.is_zero() {
            metrics.limit_hits.address_delays.increment(1);
        }
        let shard = Some(self.shard_number);
        let shared = self.admission.counted_delay(shard, DELAY_MAX, metrics);
        let shared = shared.map_err(|_| Refusal::Overloaded)?;
        Ok(Admitted { delay: client.delay.max(shared), ..client })
    }

    async fn page(&self, request: Request<Incoming>) -> Response<Body> {
        let asks_for_upgrade = request.headers().contains_key(header::UPGRADE);
        let Ok(mut response) = self.pages.clone().oneshot(request.map(Body::new)).await;
        if asks_for_upgrade {
            // What follows is not HTTP to a client that takes the answer for an upgrade.
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        response
    }

    /// Takes the socket back from hyper and gives it to the shard that has its session, for the rest of its life.
    async fn take_over(&self, upgrade: Upgrade) -> Option<Adopted> {
        let upgraded = upgrade.on_upgrade.await.ok()?;
        let parts = upgraded.downcast::<TokioIo<Withheld<Patient<ClientStream>>>>().ok()?;
        let (mut stream, mut answer) = parts.io.into_inner().into_parts();
        let early = parts.read_buf;
        if !matches!(upgrade.client, Client::SocketIo { .. }) {
            // Nothing follows at once.
            stream.write_all(&mem::take(&mut answer)).await.ok()?;
            stream.flush().await.ok()?;
        }
        let stream = stream.into_inner();
        let (wire, session, token) = match upgrade.client {
            Client::Probe { session, .. } => {
                let stream = stream.detach().ok()?;
                // A shard that has ended has no session to take over.
                self.mailboxes.send(Mail::Probe { session, stream, early }).await.ok();
                return None;
            }
            Client::SocketIo { older } => {
                let session = SessionId::random(self.edge_number, self.shard_number);
                (Wire::socket_io(older), Some(session), None)
            }
            Client::PlainJson { token } => (Wire::PlainJson(JsonSession::default()), None, token),
        };
        let connection = Rc::new(Connection::websocket(stream, Rc::clone(&self.common)));
        let (key, flow) = {
            let mut shard = self.shard.borrow_mut();
            let key = shard.adopt(&connection, wire, session, upgrade.handshake);
            let flow = match session {
                Some(session) => {
                    answer.extend(self.open.frame(session, &[]));
                    shard.send(key, answer);
                    shard.enter_main_namespace(key)
                }
                None => shard.json_opened(key, token),
            };
            (key, flow)
        };
        Some(Adopted { connection, shard: Rc::clone(&self.shard), key, early, flow })
    }
}

/// A connection that is the shard's, and what its task needs.
struct Adopted {
    connection: Rc<Connection>,
    shard: SharedShard,
    key: ConnectionKey,
    /// What the client sent right behind its upgrade request.
    early: Bytes,
    flow: Flow,
}

/// A connection that hyper is to give back, once it has made its `101`.
struct Upgrade {
    on_upgrade: OnUpgrade,
    client: Client,
    handshake: ClientHandshake,
}

/// What becomes of a connection after its last request.
#[derive(Default)]
struct Slot {
    upgrade: Cell<Option<Upgrade>>,
    is_filled: IsLast,
}

impl Slot {
    fn fill(&self, upgrade: Upgrade) {
        self.upgrade.set(Some(upgrade));
        self.is_filled.set();
    }
}

fn switching_protocols(accept: &str, subprotocol: Option<HeaderValue>) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Ok(accept) = HeaderValue::from_str(accept) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    if let Some(subprotocol) = subprotocol {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, subprotocol);
    }
    response
}
