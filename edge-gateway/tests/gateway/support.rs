//! An edge on port 0 with a scripted business service behind it.

pub(crate) mod authority;
mod client;
pub(crate) mod echo;
mod fake_auth;
pub(crate) mod poller;
pub(crate) mod tls;
pub(crate) mod webtransport;

use std::{
    io::Write,
    net::SocketAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::Parser;
use edge_gateway::{Config, EdgeGateway};
use proto::{
    auth::v1::auth_service_server::AuthServiceServer,
    edge::v1::{
        Accept, BackendFrame, EdgeEvent, EdgeFrame, Hello, Instruction, SocketOpened, Welcome,
        edge_event,
        edge_link_server::{EdgeLink, EdgeLinkServer},
        instruction,
    },
};
use service_kit::{
    ops::Readiness,
    shutdown::{Shutdown, ShutdownTrigger},
    trace::Tracer,
};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle, time};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tonic::{Request, Response, Status, Streaming};

use self::tls::{IS_OVER_TLS, Relay, TlsFiles};
pub(crate) use self::{
    client::{Client, get, limit_hits, status_becomes},
    fake_auth::FakeAuth,
};

/// How long anything may take before a test fails, on a machine that may be busy.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Waits for something that must happen.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not happen in time"),
    }
}

pub(crate) fn unix_ms() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "a test is an edge of the system")]
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

/// A business service whose side of each stream is in the test's hands.
#[derive(Clone)]
struct Scripted {
    streams: mpsc::Sender<Stream>,
}

/// One attached stream, after its hello.
pub(crate) struct Stream {
    pub(crate) hello: Hello,
    inbound: Streaming<EdgeFrame>,
    outbound: mpsc::Sender<Result<BackendFrame, Status>>,
    events: std::collections::VecDeque<EdgeEvent>,
    /// Number of the last frame received.
    pub(crate) received: u64,
    /// Number of the last frame sent.
    pub(crate) sent: u64,
    /// The last of our frames that the edge acknowledged.
    pub(crate) acknowledged: u64,
    /// Whether received frames are acknowledged at once.
    pub(crate) acknowledges: bool,
    /// Whether the last one still has to be.
    owes_acknowledgement: bool,
    /// Whether the edge has said that all live sockets are announced; a resumed stream needs no announcements.
    all_announced: bool,
}

#[tonic::async_trait]
impl EdgeLink for Scripted {
    type AttachStream = ReceiverStream<Result<BackendFrame, Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<EdgeFrame>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let mut inbound = request.into_inner();
        let first = inbound.message().await?.ok_or_else(|| Status::aborted("no hello"))?;
        let hello = first.hello.ok_or_else(|| Status::invalid_argument("no hello"))?;
        let (outbound, frames) = mpsc::channel(64);
        let stream = Stream {
            hello,
            inbound,
            outbound,
            events: std::collections::VecDeque::new(),
            received: 0,
            sent: 0,
            acknowledged: 0,
            acknowledges: true,
            owes_acknowledgement: false,
            all_announced: false,
        };
        self.streams.send(stream).await.map_err(|_| Status::aborted("test is over"))?;
        Ok(Response::new(ReceiverStream::new(frames)))
    }
}

impl Stream {
    /// Answers the hello as a business service that starts with nothing.
    pub(crate) async fn welcome(self, backend_id: &str) -> Self {
        let backend_id = backend_id.to_owned();
        self.welcome_with(Welcome { backend_id, ..Welcome::default() }).await
    }

    pub(crate) async fn welcome_with(self, welcome: Welcome) -> Self {
        self.send_frame(BackendFrame { welcome: Some(welcome), ..BackendFrame::default() }).await;
        self
    }

    /// Answers the hello as one that starts with nothing and has logs of its rooms.
    pub(crate) async fn welcome_with_logs(self, backend_id: &str) -> Self {
        let backend_id = backend_id.to_owned();
        let welcome = Welcome { backend_id, refills: true, memory: 7, ..Welcome::default() };
        self.send_frame(BackendFrame { welcome: Some(welcome), ..BackendFrame::default() }).await;
        self
    }

    /// Answers the hello as one that has everything up to `received`.
    pub(crate) async fn resume(mut self, received: u64, sent: u64) -> Self {
        let backend_id = self.hello.backend_id.clone();
        let welcome = Welcome { backend_id, resumed: true, received, ..Welcome::default() };
        self.received = received;
        self.sent = sent;
        self.all_announced = true;
        self.send_frame(BackendFrame { welcome: Some(welcome), ..BackendFrame::default() }).await;
        self
    }

    pub(crate) async fn send_frame(&self, frame: BackendFrame) {
        self.outbound.send(Ok(frame)).await.unwrap();
    }

    /// Sends instructions in a numbered frame.
    pub(crate) async fn instruct(&mut self, kinds: impl IntoIterator<Item = instruction::Kind>) {
        self.sent += 1;
        let instructions = kinds
            .into_iter()
            .map(|kind| Instruction { traceparent: String::new(), kind: Some(kind) })
            .collect();
        let ack = if self.acknowledges { self.received } else { 0 };
        self.send_frame(BackendFrame { seq: self.sent, ack, welcome: None, instructions }).await;
    }

    /// The next event, which must come. Nothing is lost where a test waits for something else at the same time.
    pub(crate) async fn next(&mut self) -> EdgeEvent {
        loop {
            self.acknowledge().await;
            if let Some(event) = self.events.pop_front() {
                return event;
            }
            self.read().await;
        }
    }

    /// Reads frames, most of which may only acknowledge, until `done`.
    pub(crate) async fn read_until(&mut self, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            self.read().await;
            self.acknowledge().await;
        }
    }

    async fn read(&mut self) {
        let frame = within("a frame of the edge", self.inbound.message()).await.unwrap();
        self.take(frame.expect("the edge ended the stream"));
    }

    async fn acknowledge(&mut self) {
        if self.owes_acknowledgement {
            let ack = self.received;
            self.send_frame(BackendFrame { ack, ..BackendFrame::default() }).await;
            self.owes_acknowledgement = false;
        }
    }

    fn take(&mut self, frame: EdgeFrame) {
        self.acknowledged = frame.ack;
        if frame.seq > 0 {
            assert_eq!(frame.seq, self.received + 1, "a hole in the edge's frames");
            self.received = frame.seq;
            self.owes_acknowledgement = self.acknowledges;
        }
        for event in frame.events {
            match &event.kind {
                Some(edge_event::Kind::AllAnnounced(_)) => {
                    assert!(!self.all_announced, "announcements end once");
                    self.all_announced = true;
                    continue;
                }
                Some(edge_event::Kind::Event(event)) => {
                    assert!(self.all_announced, "{} came among the announcements", event.name);
                }
                _ => {}
            }
            self.events.push_back(event);
        }
    }

    /// The next event, which must be a socket that opens.
    pub(crate) async fn opened(&mut self) -> (u64, SocketOpened) {
        let event = self.next().await;
        match event.kind {
            Some(edge_event::Kind::Opened(opened)) => (event.socket, *opened),
            kind => panic!("{kind:?}"),
        }
    }

    /// The next event, which must be a client's.
    pub(crate) async fn event(&mut self) -> (u64, proto::edge::v1::ClientEvent) {
        let event = self.next().await;
        match event.kind {
            Some(edge_event::Kind::Event(client_event)) => (event.socket, client_event),
            kind => panic!("{kind:?}"),
        }
    }

    /// The next event, which must be a socket's end.
    pub(crate) async fn closed(&mut self) -> (u64, String) {
        let event = self.next().await;
        match event.kind {
            Some(edge_event::Kind::Closed(closed)) => (event.socket, closed.reason),
            kind => panic!("{kind:?}"),
        }
    }
}

/// A running edge with its doubles.
pub(crate) struct Edge {
    pub(crate) address: SocketAddr,
    pub(crate) ops: SocketAddr,
    /// Where other edges connect.
    pub(crate) peers: Option<SocketAddr>,
    pub(crate) webtransport: Option<SocketAddr>,
    pub(crate) auth: FakeAuth,
    streams: mpsc::Receiver<Stream>,
    shutdown: ShutdownTrigger,
    running: JoinHandle<()>,
    _servers: Vec<AbortOnDrop>,
    _relay: Option<Relay>,
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    config: Config,
}

fn config(flags: impl IntoIterator<Item = String>) -> Config {
    let fixed = ["edge-gateway", "--edge-listen=127.0.0.1:0", "--edge-ops-listen=127.0.0.1:0"];
    Flags::parse_from(fixed.map(str::to_owned).into_iter().chain(flags)).config
}

/// What gives an edge TLS, where these tests are about that and its flags do not.
fn tls_of(flags: &[&str]) -> (Vec<String>, Option<TlsFiles>) {
    if !IS_OVER_TLS || flags.iter().any(|flag| flag.starts_with("--edge-tls-cert-file")) {
        return (Vec::new(), None);
    }
    let files = TlsFiles::new();
    (files.flags().into(), Some(files))
}

fn relay(edge: SocketAddr, files: Option<TlsFiles>, has_proxy_header: bool) -> Option<Relay> {
    files.map(|files| Relay::start(edge, files, has_proxy_header))
}

impl Edge {
    /// One shard unless the flags say otherwise, with `/` and `/chat` routed to the scripted business service.
    pub(crate) async fn start(flags: &[&str]) -> Self {
        let auth = FakeAuth::default();
        let (auth_url, auth_server) = serve(AuthServiceServer::new(auth.clone())).await;
        let (sender, streams) = mpsc::channel(8);
        let (backend_url, backend) = serve(EdgeLinkServer::new(Scripted { streams: sender })).await;
        let edge = Self::among(&auth_url, &backend_url, flags).await;
        Self { auth, streams, _servers: vec![auth_server, backend], ..edge }
    }

    /// Starts among services of whose doubles it knows nothing: the auth service, and the business service of `/` and `/chat`.
    pub(crate) async fn among(auth_url: &str, backend_url: &str, flags: &[&str]) -> Self {
        let fixed = [
            format!("--edge-auth-url={auth_url}"),
            format!("--edge-route=/={backend_url}"),
            format!("--edge-route=/chat={backend_url}"),
        ];
        let shards = if flags.iter().any(|flag| flag.starts_with("--edge-shards=")) {
            None
        } else {
            Some("--edge-shards=1".to_owned())
        };
        let has_proxy_header = flags.contains(&"--edge-proxy-protocol");
        let (tls_flags, files) = tls_of(flags);
        let flags = flags.iter().map(|&flag| flag.to_owned()).chain(tls_flags);
        let config = config(fixed.into_iter().chain(shards).chain(flags));
        let pages = axum::Router::new();
        let edge = EdgeGateway::bind(config, Tracer::disabled(), Readiness::new(), pages);
        let edge = edge.await.unwrap();
        let (address, ops, peers) = (edge.local_addr(), edge.ops_addr(), edge.peer_addr());
        let webtransport = edge.webtransport_addr();
        let (shutdown_trigger, shutdown) = Shutdown::new();
        let running = tokio::spawn(async move { edge.run(shutdown).await.unwrap() });
        let relay = relay(address, files, has_proxy_header);
        Self {
            address: relay.as_ref().map_or(address, |relay| relay.address),
            ops,
            peers,
            webtransport,
            auth: FakeAuth::default(),
            streams: mpsc::channel(1).1,
            shutdown: shutdown_trigger,
            running,
            _servers: Vec::new(),
            _relay: relay,
        }
    }

    /// The next stream that the edge opens, before its welcome.
    pub(crate) async fn stream(&mut self) -> Stream {
        within("an attach", self.streams.recv()).await.unwrap()
    }

    /// Starts with an attached stream.
    pub(crate) async fn attached(flags: &[&str]) -> (Self, Stream) {
        let mut edge = Self::start(flags).await;
        let stream = edge.stream().await.welcome("backend-1").await;
        (edge, stream)
    }

    /// Starts with namespaces on these terms.
    pub(crate) async fn start_with_terms(terms: &str, flags: &[&str]) -> Self {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(terms.as_bytes()).unwrap();
        let file_flag = format!("--edge-namespaces-file={}", file.path().display());
        Self::start(&[flags, &[&file_flag]].concat()).await
    }

    /// Starts with namespaces on these terms, and an attached stream.
    pub(crate) async fn with_terms(terms: &str, flags: &[&str]) -> (Self, Stream) {
        let mut edge = Self::start_with_terms(terms, flags).await;
        let stream = edge.stream().await.welcome("backend-1").await;
        (edge, stream)
    }

    /// A Socket.IO connection after the Engine.IO handshake.
    pub(crate) async fn socket_io(&self) -> Client {
        let mut client = self.websocket("/socket.io/?EIO=4&transport=websocket").await;
        let open = client.text().await;
        assert!(open.starts_with("0{\"sid\":\""), "{open}");
        client
    }

    /// A Socket.IO client that has entered `/chat`.
    pub(crate) async fn in_chat(&self, stream: &mut Stream, subject: &str) -> (Client, u64) {
        let mut client = self.socket_io().await;
        client.send(&format!("40/chat,{{\"token\":\"ok:{subject}\"}}")).await;
        let (socket, opened) = stream.opened().await;
        stream.instruct([instruction::Kind::Accept(Accept { socket })]).await;
        let answer = format!("40/chat,{{\"sid\":\"{}\"}}", opened.socket_id);
        assert_eq!(client.packet().await, answer);
        (client, socket)
    }

    /// A plain JSON client that has entered `/chat`.
    pub(crate) async fn json_in_chat(&self, stream: &mut Stream, subject: &str) -> (Client, u64) {
        let mut client = self.websocket("/ws").await;
        let auth = format!(r#"{{"event":"auth","data":{{"token":"ok:{subject}"}}}}"#);
        client.send(&auth).await;
        let (socket, opened) = stream.opened().await;
        stream.instruct([instruction::Kind::Accept(Accept { socket })]).await;
        let connected =
            format!(r#"{{"event":"connected","data":{{"socket":"{}"}}}}"#, opened.socket_id);
        assert_eq!(client.text().await, connected);
        (client, socket)
    }

    pub(crate) async fn websocket(&self, path: &str) -> Client {
        Client::connect(self.address, path).await
    }

    /// A plain JSON connection with its token in the handshake.
    pub(crate) async fn websocket_as(&self, path: &str, token: &str) -> Client {
        self.websocket_with(path, &[("authorization", &format!("Bearer {token}"))]).await
    }

    /// A connection whose handshake has these headers too.
    pub(crate) async fn websocket_with(&self, path: &str, headers: &[(&str, &str)]) -> Client {
        let url = format!("ws://{}{path}", self.address);
        let mut request = url.into_client_request().unwrap();
        for (name, value) in headers {
            let name: http::HeaderName = name.parse().unwrap();
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        Client::upgraded(request).await
    }

    pub(crate) fn stop(&self) {
        self.shutdown.trigger();
    }

    pub(crate) async fn stopped(self) {
        within("the edge's end", self.running).await.unwrap();
    }
}

async fn serve<S>(service: S) -> (String, AbortOnDrop)
where
    S: tower::Service<
            http::Request<tonic::body::Body>,
            Response = http::Response<tonic::body::Body>,
            Error = std::convert::Infallible,
        > + tonic::server::NamedService
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = tonic::transport::Server::builder()
        .add_service(service)
        .serve_with_incoming(TcpListenerStream::new(listener));
    (url, AbortOnDrop(tokio::spawn(async move { server.await.unwrap() })))
}
