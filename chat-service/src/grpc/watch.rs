//! Tells a watcher which sockets there are, and then which come and go.

use proto::chat::v1 as wire;
use service_kit::shutdown::Shutdown;
use tokio::{
    sync::{mpsc, watch},
    time::{self, Instant},
};
use tonic::Status;

use crate::{
    socket::Socket,
    socket_registry::{Change, ChangeKind, Cursor, Following, SocketRegistry},
};

/// How many responses may wait for the transport, which has buffers of its own.
pub(super) const RESPONSES_MAX: usize = 4;

/// Most sockets or changes in one response. What each carries comes from a token, which has at most 8 KiB.
const PAGE_MAX: usize = 256;

pub(super) type Response = Result<wire::WatchSocketsResponse, Status>;

/// One call of `WatchSockets`.
#[derive(Debug)]
pub(super) struct Watcher {
    registry: SocketRegistry,
    changed: watch::Receiver<u64>,
    /// None: of all.
    tenant: Option<String>,
    namespace: String,
    /// Until then, edges may come back that an earlier life of this service has known.
    settled_at: Instant,
    responses: mpsc::Sender<Response>,
}

/// Nobody reads the responses any more.
#[derive(Debug)]
struct Unread;

impl Watcher {
    pub(super) fn new(
        registry: SocketRegistry,
        (tenant, namespace): (Option<String>, String),
        settled_at: Instant,
        responses: mpsc::Sender<Response>,
    ) -> Self {
        let changed = registry.watch();
        Self { registry, changed, tenant, namespace, settled_at, responses }
    }

    /// Runs until nobody reads the responses any more, or the service shuts down.
    pub(super) async fn run(mut self, cursor: Option<Cursor>, shutdown: Shutdown) {
        let responses = self.responses.clone();
        tokio::select! {
            _unread = self.follow(cursor) => {}
            () = responses.closed() => {}
            // Where there is no room for it, the stream ends without a word, which says the same.
            () = shutdown.requested() => {
                drop(responses.try_send(Err(Status::unavailable("the service shuts down"))));
            }
        }
    }

    async fn follow(&mut self, cursor: Option<Cursor>) -> Result<(), Unread> {
        let mut place = match cursor {
            Some(cursor) => cursor,
            None => self.send_snapshot().await?,
        };
        loop {
            self.changed.mark_unchanged();
            match self.registry.following(place, PAGE_MAX) {
                Following::Changes(changes, next) if next == place => {
                    debug_assert!(changes.is_empty());
                    // The registry lives as long as this does.
                    self.changed.changed().await.map_err(|_| Unread)?;
                }
                Following::Changes(changes, next) => {
                    place = next;
                    self.send_changes(&changes, place).await?;
                }
                Following::Gone => place = self.send_snapshot().await?,
                Following::OtherLife => {
                    // Sockets that have not been announced yet have not ended.
                    time::sleep_until(self.settled_at).await;
                    place = self.send_snapshot().await?;
                }
            }
        }
    }

    async fn send_changes(&self, changes: &[Change], place: Cursor) -> Result<(), Unread> {
        let ours = changes.iter().filter(|change| self.is_watched(&change.socket));
        let changes = ours.map(wire::SocketChange::from).collect();
        let response =
            wire::WatchSocketsResponse { cursor: place.to_string(), snapshot: None, changes };
        self.send(response).await
    }

    async fn send_snapshot(&self) -> Result<Cursor, Unread> {
        let (mut sockets, place) = self.registry.snapshot();
        sockets.retain(|socket| self.is_watched(socket));
        let mut parts = sockets.chunks(PAGE_MAX).peekable();
        loop {
            let part = parts.next().unwrap_or_default();
            let more = parts.peek().is_some();
            let sockets = part.iter().map(|socket| (&**socket).into()).collect();
            // A watcher that has only a part begins again.
            let cursor = if more { String::new() } else { place.to_string() };
            let snapshot = Some(wire::SocketSnapshot { sockets, more });
            self.send(wire::WatchSocketsResponse { cursor, snapshot, changes: Vec::new() }).await?;
            if !more {
                return Ok(place);
            }
        }
    }

    fn is_watched(&self, socket: &Socket) -> bool {
        let tenant = self.tenant.as_ref();
        *socket.namespace == *self.namespace
            && tenant.is_none_or(|tenant| *tenant == *socket.user.tenant())
    }

    async fn send(&self, response: wire::WatchSocketsResponse) -> Result<(), Unread> {
        self.responses.send(Ok(response)).await.map_err(|_| Unread)
    }
}

impl From<&Socket> for wire::LiveSocket {
    fn from(socket: &Socket) -> Self {
        Self {
            socket_id: socket.id.to_string(),
            subject: socket.user.subject().to_owned(),
            profile: socket.user.profile().get().to_owned(),
            issuer: socket.user.issuer().to_owned(),
            tenant: socket.user.tenant().to_owned(),
        }
    }
}

impl From<&Change> for wire::SocketChange {
    fn from(change: &Change) -> Self {
        let Change { at_ms, socket, kind } = change;
        let kind = match kind {
            ChangeKind::Opened => wire::socket_change::Kind::Opened((&**socket).into()),
            ChangeKind::Closed { reason } => wire::socket_change::Kind::Closed(wire::EndedSocket {
                socket_id: socket.id.to_string(),
                subject: socket.user.subject().to_owned(),
                reason: reason.to_string(),
                issuer: socket.user.issuer().to_owned(),
                tenant: socket.user.tenant().to_owned(),
            }),
        };
        Self { at_unix_ms: *at_ms, kind: Some(kind) }
    }
}
