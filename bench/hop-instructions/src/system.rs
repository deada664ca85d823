//! The edge and the chat service in one thread, as they are but for the network between them: what an event takes on its
//! whole way, and what its deliveries do.

use std::{io, pin::Pin, sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use chat_service::ChatService;
use clap::Parser;
use edge_gateway::{BoxedStream, EdgeGateway, SimulatedNetwork};
use http::Uri;
use proto::auth::v1::{
    AuthenticateEachRequest, AuthenticateEachResponse, AuthenticateRequest, AuthenticateResponse,
    Identity, IssueTokenRequest, IssueTokenResponse, TokenAnswer, TokenQuestion,
    WatchRevocationsRequest, WatchRevocationsResponse,
    auth_service_server::{AuthService, AuthServiceServer},
    authenticate_response::Outcome,
};
use service_kit::shutdown::{Shutdown, ShutdownTrigger};
use socket2::{Domain, Socket, Type};
use tempfile::NamedTempFile;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    net::TcpStream,
    runtime::{Builder, LocalOptions, LocalRuntime},
    sync::mpsc,
    task,
    time::timeout,
};
use tokio_stream::{Pending, Stream, StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming, transport::Server};

use instructions::{Work, client_frame};

/// An event that is only answered.
const NAMESPACES: &str = r#"
[namespace."/chat".event.echo]
audience = "sender"
rate = { per_second = 100000, burst = 100000 }
schema = { required = ["text"], properties = { text = { type = "string" } } }
"#;

/// A room of more than a hundred members is not told who comes and goes.
pub(crate) const MEMBERS: usize = 120;

/// What fits between two services.
const STREAM_BYTES: usize = 1024 * 1024;
const CONNECTIONS_MAX: usize = 256;

/// How long anything may take, under callgrind and beside other work.
const PATIENCE: Duration = Duration::from_secs(120);

/// So many events of one client at once, each of which reaches all members of the room.
pub(crate) fn fan_out(events: usize) -> Work {
    let text = format!(r#"42/chat,["message",{{"room":"lobby","text":"{}"}}]"#, "x".repeat(100));
    let frames = client_frame(&text).repeat(events);
    work(MEMBERS, frames, events)
}

/// An event of a client that is answered.
pub(crate) fn answer() -> Work {
    let text = format!(r#"42/chat,7["echo",{{"text":"{}"}}]"#, "x".repeat(100));
    work(1, client_frame(&text), 1)
}

fn work(members: usize, frames: Vec<u8>, answers: usize) -> Work {
    let mut system = System::start(members).expect("the services start");
    Box::new(move || system.round(&frames, answers).expect("the services answer"))
}

struct System {
    runtime: LocalRuntime,
    clients: Vec<Client>,
    _running: Vec<ShutdownTrigger>,
    _namespaces: NamedTempFile,
}

impl System {
    fn start(members: usize) -> anyhow::Result<Self> {
        let runtime =
            Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
        let namespaces = NamedTempFile::new()?;
        std::fs::write(namespaces.path(), NAMESPACES)?;
        let (_running, clients) = runtime.block_on(async {
            let (handed, running) = services(&namespaces)?;
            let mut clients = Vec::new();
            for _ in 0..members {
                clients.push(timeout(PATIENCE, Client::join(&handed)).await??);
            }
            anyhow::Ok((running, clients))
        })?;
        Ok(Self { runtime, clients, _running, _namespaces: namespaces })
    }

    /// Sends `frames` for the first client, and reads so many of each; returns how many bytes that was.
    fn round(&mut self, frames: &[u8], count: usize) -> anyhow::Result<usize> {
        let Self { runtime, clients, .. } = self;
        runtime.block_on(async {
            clients.first_mut().context("there are clients")?.stream.write_all(frames).await?;
            let mut bytes = 0;
            for client in clients {
                for _ in 0..count {
                    bytes += timeout(PATIENCE, client.read_frame()).await??.len();
                }
            }
            Ok(bytes)
        })
    }
}

type Handed = mpsc::Sender<(std::net::TcpStream, std::net::IpAddr)>;

#[derive(Parser)]
struct ChatArgs {
    #[command(flatten)]
    config: chat_service::Config,
}

#[derive(Parser)]
struct EdgeArgs {
    #[command(flatten)]
    config: edge_gateway::Config,
}

/// Starts the services as tasks; returns where the edge takes clients, and what keeps them running.
fn services(namespaces: &NamedTempFile) -> anyhow::Result<(Handed, Vec<ShutdownTrigger>)> {
    let (chat_trigger, chat_shutdown) = Shutdown::new();
    let (edge_trigger, edge_shutdown) = Shutdown::new();
    let namespaces = format!("--chat-namespaces-file={}", namespaces.path().display());
    let chat =
        ChatArgs::try_parse_from(["chat", "--chat-workers=1", "--chat-open-rooms", &namespaces])?;
    let edge = EdgeArgs::try_parse_from([
        "edge",
        "--edge-auth-url=http://auth",
        "--edge-route=/chat=http://chat",
        "--edge-ping-interval=1h",
        "--edge-events-per-second=1000000",
        "--edge-events-burst=1000000",
        "--edge-opens-per-second=1000000",
    ])?;

    let (to_chat, connections) = mpsc::channel(CONNECTIONS_MAX);
    let connections = ReceiverStream::new(connections).map(io::Result::Ok);
    task::spawn_local(ChatService::run_simulated(chat.config, connections, chat_shutdown));
    let (to_auth, connections) = mpsc::channel(CONNECTIONS_MAX);
    let connections = ReceiverStream::new(connections).map(io::Result::Ok);
    let auth = Server::builder().add_service(AuthServiceServer::new(AllAreOne));
    task::spawn_local(auth.serve_with_incoming(connections));

    let (handed, clients) = mpsc::channel(CONNECTIONS_MAX);
    let dial = move |url: Uri| {
        let to = if url.host() == Some("chat") { &to_chat } else { &to_auth };
        Box::pin(dial(to.clone())) as Pin<Box<dyn Future<Output = _> + Send>>
    };
    let network = SimulatedNetwork { clients: vec![clients], dial: Arc::new(dial) };
    task::spawn_local(EdgeGateway::run_simulated(edge.config, network, edge_shutdown));
    Ok((handed, vec![chat_trigger, edge_trigger]))
}

async fn dial(to: mpsc::Sender<DuplexStream>) -> io::Result<BoxedStream> {
    let (near, far) = duplex(STREAM_BYTES);
    to.send(far).await.map_err(|_| io::ErrorKind::ConnectionRefused)?;
    Ok(Box::new(near))
}

/// A client, which does as little as it can.
struct Client {
    stream: TcpStream,
    unread: Vec<u8>,
    /// How much of it was returned.
    taken: usize,
}

impl Client {
    async fn join(handed: &Handed) -> anyhow::Result<Self> {
        let (near, far) = Socket::pair(Domain::UNIX, Type::STREAM, None)?;
        near.set_nonblocking(true)?;
        far.set_nonblocking(true)?;
        handed.send((far.into(), [127, 0, 0, 1].into())).await?;
        let stream = TcpStream::from_std(near.into())?;
        let mut client = Self { stream, unread: Vec::new(), taken: 0 };
        let request = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: edge\r\nUpgrade: websocket\r\n\
            Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
        client.stream.write_all(request.as_bytes()).await?;
        let response = loop {
            if let Some(end) = client.unread.windows(4).position(|part| part == b"\r\n\r\n") {
                break end + 4;
            }
            client.read().await?;
        };
        client.taken = response;
        client.expect("0{").await?;
        client.say(r#"40/chat,{"token":"anyone"}"#).await?;
        client.expect("40/chat,").await?;
        client.say(r#"42/chat,1["join",{"room":"lobby"}]"#).await?;
        client.expect("43/chat,1[{\"room\":\"lobby\"").await?;
        Ok(client)
    }

    async fn say(&mut self, text: &str) -> io::Result<()> {
        self.stream.write_all(&client_frame(text)).await
    }

    async fn expect(&mut self, start: &str) -> anyhow::Result<()> {
        let frame = String::from_utf8_lossy(self.read_frame().await?).into_owned();
        ensure!(frame.starts_with(start), "{frame} where {start} was due");
        Ok(())
    }

    async fn read(&mut self) -> io::Result<()> {
        self.unread.drain(..std::mem::take(&mut self.taken));
        match self.stream.read_buf(&mut self.unread).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Returns what the next frame says.
    async fn read_frame(&mut self) -> io::Result<&[u8]> {
        let (start, end) = loop {
            let unread = self.unread.get(self.taken..).unwrap_or_default();
            let (head, len) = match *unread {
                [_, 126, high, low, ..] => (4, usize::from(u16::from_be_bytes([high, low]))),
                [_, len, ..] if len < 126 => (2, usize::from(len)),
                _ => (0, usize::MAX),
            };
            if head > 0 && unread.len() >= head + len {
                break (self.taken + head, self.taken + head + len);
            }
            self.read().await?;
        };
        self.taken = end;
        Ok(self.unread.get(start..end).unwrap_or_default())
    }
}

/// An auth service for which each token is that of the same user.
#[derive(Debug, Clone, Copy)]
struct AllAreOne;

type AnswerStream = Pin<Box<dyn Stream<Item = Result<AuthenticateEachResponse, Status>> + Send>>;

impl AllAreOne {
    fn answer(self, _: &str) -> AuthenticateResponse {
        let identity = Identity {
            profile: br#"{"id":"ann"}"#.as_slice().into(),
            subject: "ann".to_owned(),
            issuer: "bench".to_owned(),
            expires_at_unix_ms: u64::MAX / 2,
            ..Identity::default()
        };
        let outcome = Some(Outcome::Identity(identity));
        AuthenticateResponse { outcome, ..AuthenticateResponse::default() }
    }
}

#[tonic::async_trait]
impl AuthService for AllAreOne {
    async fn authenticate(
        &self,
        request: Request<AuthenticateRequest>,
    ) -> Result<Response<AuthenticateResponse>, Status> {
        Ok(Response::new(self.answer(&request.into_inner().token)))
    }

    type AuthenticateEachStream = AnswerStream;

    async fn authenticate_each(
        &self,
        request: Request<Streaming<AuthenticateEachRequest>>,
    ) -> Result<Response<Self::AuthenticateEachStream>, Status> {
        let auth = *self;
        let answer = move |TokenQuestion { number, token, .. }: TokenQuestion| TokenAnswer {
            number,
            response: Some(auth.answer(&token)),
        };
        let messages = request.into_inner().map(move |message| {
            let answers = message?.questions.into_iter().map(answer).collect();
            Ok(AuthenticateEachResponse { answers })
        });
        Ok(Response::new(Box::pin(messages)))
    }

    type WatchRevocationsStream = Pending<Result<WatchRevocationsResponse, Status>>;

    /// Nothing is ever taken back.
    async fn watch_revocations(
        &self,
        _: Request<WatchRevocationsRequest>,
    ) -> Result<Response<Self::WatchRevocationsStream>, Status> {
        Ok(Response::new(tokio_stream::pending()))
    }

    async fn issue_token(
        &self,
        _: Request<IssueTokenRequest>,
    ) -> Result<Response<IssueTokenResponse>, Status> {
        Err(Status::unimplemented("everyone has one"))
    }
}
