//! A small business service, written from the public contract alone: all that outlives a stream is which sockets there are.

mod ends;

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{StreamExt, future, stream, stream::BoxStream};
use proto::edge::v1::{
    Accept, AckRequest, Acknowledge, Audience, BackendFrame, ClientEvent, Close, Disconnect,
    EdgeEvent, EdgeFrame, Emit, Instruction, Join, Leave, Refuse, SocketOpened, Welcome,
    edge_event,
    edge_link_server::{EdgeLink, EdgeLinkServer},
    instruction,
};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, Streaming, transport::Server};

use self::ends::LinkStream;
pub(crate) use self::ends::{EDGE_LOST, Ends, REASON_LOST};
use crate::support::{eventually, own_host};

pub(crate) const NAMESPACE: &str = "/echo";
/// A user that is refused before its CONNECT is answered.
pub(crate) const UNWANTED: &str = "unwanted";
/// A user that is let in and thrown out at once.
pub(crate) const BANNED: &str = "banned";

/// An event after which the backend reads and answers nothing more on its stream.
pub(crate) const STALL: &str = "stall";

const ASK_TIMEOUT_MS: u32 = 300;

/// How long an edge has to come back.
const LEASE: Duration = Duration::from_secs(10);

/// By then the break of a silent network is noticed.
const PING_INTERVAL: Duration = Duration::from_secs(2);
const PING_TIMEOUT: Duration = Duration::from_secs(3);

/// The running service. It stops, as if killed, when dropped.
#[derive(Debug)]
pub(crate) struct EchoBackend {
    address: SocketAddr,
    seen: Seen,
    ends: Ends,
    /// Of its own, so that its connections end with it.
    runtime: Option<Runtime>,
}

type Seen = Arc<Mutex<Vec<EdgeEvent>>>;

impl EchoBackend {
    pub(crate) async fn start() -> Self {
        Self::start_at(SocketAddr::new(own_host(), 0)).await
    }

    /// Starts another life of a backend that was at `address`.
    pub(crate) async fn start_at(address: SocketAddr) -> Self {
        Self::start_with(address, Ends::new(LEASE)).await
    }

    /// Starts one that knows which sockets there were.
    pub(crate) async fn start_with(address: SocketAddr, ends: Ends) -> Self {
        let bind = async || std::net::TcpListener::bind(address).ok();
        let listener = eventually("the address is free", bind).await;
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Seen::default();
        let service = EdgeLinkServer::new(Echo { seen: Arc::clone(&seen), ends: ends.clone() });
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let known = ends.clone();
        runtime.spawn(async move {
            known.begin_leases();
            let incoming = TcpListenerStream::new(TcpListener::from_std(listener).unwrap());
            Server::builder()
                .http2_keepalive_interval(Some(PING_INTERVAL))
                .http2_keepalive_timeout(Some(PING_TIMEOUT))
                .add_service(service)
                .serve_with_incoming(incoming)
                .await
                .unwrap();
        });
        Self { address, seen, ends, runtime: Some(runtime) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Which sockets have ended, for who asks and for the next life.
    pub(crate) fn ends(&self) -> Ends {
        self.ends.clone()
    }

    /// Returns what `pick` finds among the events so far, waiting for it.
    pub(crate) async fn saw<T>(&self, what: &str, pick: impl Fn(&EdgeEvent) -> Option<T>) -> T {
        eventually(what, async || self.seen.lock().unwrap().iter().find_map(&pick)).await
    }
}

impl Drop for EchoBackend {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[derive(Debug)]
struct Echo {
    seen: Seen,
    ends: Ends,
}

#[tonic::async_trait]
impl EdgeLink for Echo {
    type AttachStream = BoxStream<'static, Result<BackendFrame, Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<EdgeFrame>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let attached = Attached::new(Arc::clone(&self.seen), self.ends.clone());
        let frames = stream::unfold(
            (request.into_inner(), attached),
            async |(mut incoming, mut attached)| {
                let answer = match incoming.next().await? {
                    Ok(frame) if has_event(&frame, STALL) => future::pending().await,
                    Ok(frame) => Ok(attached.answer(frame)),
                    Err(status) => Err(status),
                };
                Some((answer, (incoming, attached)))
            },
        );
        Ok(Response::new(frames.boxed()))
    }
}

/// One stream of one shard.
#[derive(Debug)]
struct Attached {
    seen: Seen,
    ends: Ends,
    /// Since the hello.
    link: Option<LinkStream>,
    received: u64,
    sent: u64,
    logged: u64,
    next_tag: u64,
    askers: HashMap<u64, u64>,
}

impl Attached {
    fn new(seen: Seen, ends: Ends) -> Self {
        let (received, sent, logged, next_tag) = (0, 0, 0, 0);
        Self { seen, ends, link: None, received, sent, logged, next_tag, askers: HashMap::new() }
    }

    fn answer(&mut self, frame: EdgeFrame) -> BackendFrame {
        self.received = self.received.max(frame.seq);
        let welcome = frame.hello.map(|hello| {
            self.link = Some(self.ends.attach(&hello.link_id));
            Welcome { backend_id: "echo".to_owned(), ..Welcome::default() }
        });
        let mut instructions = Vec::new();
        for event in frame.events {
            self.seen.lock().unwrap().push(event.clone());
            let traceparent = event.traceparent.clone();
            let kinds = self.instructions(event);
            instructions.extend(
                kinds
                    .into_iter()
                    .map(|kind| Instruction { traceparent: traceparent.clone(), kind: Some(kind) }),
            );
        }
        let seq = if instructions.is_empty() {
            0
        } else {
            self.sent += 1;
            self.sent
        };
        BackendFrame { seq, ack: self.received, welcome, instructions }
    }

    fn instructions(&mut self, event: EdgeEvent) -> Vec<instruction::Kind> {
        let socket = event.socket;
        let link = self.link.as_ref().expect("a hello comes first");
        match event.kind.expect("an event has a kind") {
            edge_event::Kind::Opened(opened) => {
                let instructions = opened_instructions(socket, &opened);
                if !matches!(instructions.first(), Some(instruction::Kind::Refuse(_))) {
                    link.opened(socket, &opened);
                }
                instructions
            }
            edge_event::Kind::Closed(closed) => {
                link.closed(socket, &closed.reason);
                Vec::new()
            }
            edge_event::Kind::AllAnnounced(_) => {
                link.all_announced();
                Vec::new()
            }
            edge_event::Kind::CatchUp(_)
            | edge_event::Kind::Delivered(_)
            | edge_event::Kind::Suspended(_)
            | edge_event::Kind::Refreshed(_)
            | edge_event::Kind::Resumed(_) => Vec::new(),
            edge_event::Kind::Event(event) => self.event_instructions(socket, &event),
            edge_event::Kind::Ack(ack) => {
                let answers: Value = serde_json::from_slice(&ack.args).unwrap();
                vec![emit(to_socket(self.askers[&ack.tag]), "answer", &answers)]
            }
            edge_event::Kind::AckFinished(end) => {
                let counts = json!([{"asked": end.asked, "answered": end.answered}]);
                vec![emit(to_socket(self.askers[&end.tag]), "finished", &counts)]
            }
        }
    }

    fn event_instructions(&mut self, socket: u64, event: &ClientEvent) -> Vec<instruction::Kind> {
        let args: Value = serde_json::from_slice(&event.args).unwrap_or_default();
        let room = args[0].as_str().unwrap_or_default().to_owned();
        let sockets = vec![socket];
        let mut instructions = match event.name.as_str() {
            "echo" if event.ack_id.is_some() => Vec::new(),
            "echo" => vec![emit_bytes(to_socket(socket), "echo", event)],
            "silence" => return Vec::new(),
            "join" => {
                vec![instruction::Kind::Join(Join { sockets, room, position: "p0".to_owned() })]
            }
            "leave" => vec![instruction::Kind::Leave(Leave { sockets, room })],
            "shout" => {
                let audience = Audience { except_sockets: sockets, ..to_room(&room) };
                vec![emit(audience, "shout", &args)]
            }
            "whisper" => {
                let audience = Audience {
                    namespace: NAMESPACE.to_owned(),
                    users: vec![room],
                    ..Audience::default()
                };
                vec![emit(audience, "whisper", &args)]
            }
            "log" => vec![self.logged(&room, &args)],
            "ask" => vec![self.question(socket, &args)],
            "throw me out" => {
                vec![instruction::Kind::Disconnect(Disconnect { sockets, ..Disconnect::default() })]
            }
            "close" => vec![instruction::Kind::Close(Close { sockets })],
            name => panic!("no such event: {name}"),
        };
        instructions.extend(event.ack_id.map(|ack_id| {
            instruction::Kind::Acknowledge(Acknowledge {
                socket,
                ack_id,
                args: event.args.clone(),
                attachments: event.attachments.clone(),
            })
        }));
        instructions
    }

    fn logged(&mut self, room: &str, args: &Value) -> instruction::Kind {
        self.logged += 1;
        instruction::Kind::Emit(Emit {
            position: format!("p{}", self.logged),
            position_room: room.to_owned(),
            ..emit_of(to_room(room), "logged", args.to_string().into())
        })
    }

    fn question(&mut self, asker: u64, args: &Value) -> instruction::Kind {
        self.next_tag += 1;
        self.askers.insert(self.next_tag, asker);
        let audience =
            Audience { namespace: NAMESPACE.to_owned(), everyone: true, ..Audience::default() };
        instruction::Kind::Emit(Emit {
            ask: Some(AckRequest { tag: self.next_tag, timeout_ms: ASK_TIMEOUT_MS }),
            ..emit_of(audience, "question", args.to_string().into())
        })
    }
}

fn has_event(frame: &EdgeFrame, name: &str) -> bool {
    let is_it = |event: &EdgeEvent| matches!(&event.kind, Some(edge_event::Kind::Event(event)) if event.name == name);
    frame.events.iter().any(is_it)
}

fn opened_instructions(socket: u64, opened: &SocketOpened) -> Vec<instruction::Kind> {
    if opened.announced {
        return Vec::new();
    }
    let accept = instruction::Kind::Accept(Accept { socket });
    match opened.identity.as_ref().expect("a socket has an identity").subject.as_str() {
        UNWANTED => {
            let data = r#"{"why":"full"}"#.into();
            vec![instruction::Kind::Refuse(Refuse { socket, message: "No entry".to_owned(), data })]
        }
        BANNED => vec![
            accept,
            instruction::Kind::Disconnect(Disconnect {
                sockets: vec![socket],
                ..Disconnect::default()
            }),
        ],
        _ => vec![accept],
    }
}

fn to_socket(socket: u64) -> Audience {
    Audience { namespace: NAMESPACE.to_owned(), sockets: vec![socket], ..Audience::default() }
}

fn to_room(room: &str) -> Audience {
    Audience {
        namespace: NAMESPACE.to_owned(),
        rooms: vec![room.to_owned()],
        ..Audience::default()
    }
}

fn emit(audience: Audience, event: &str, args: &Value) -> instruction::Kind {
    instruction::Kind::Emit(emit_of(audience, event, args.to_string().into()))
}

fn emit_bytes(audience: Audience, event: &str, of: &ClientEvent) -> instruction::Kind {
    instruction::Kind::Emit(emit_of(audience, event, of.args.clone()))
}

fn emit_of(audience: Audience, event: &str, args: bytes::Bytes) -> Emit {
    Emit { audience: Some(audience), event: event.to_owned(), args, ..Emit::default() }
}
