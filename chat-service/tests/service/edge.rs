//! An edge that speaks the contract by hand, and checks that the service does.

use std::{collections::VecDeque, future::Future};

use proto::{
    auth::v1::{Capability, Identity, capability::Action},
    edge::v1::{
        AllAnnounced, BackendFrame, CatchUp, ClientEvent, EdgeEvent, EdgeFrame, Hello, Instruction,
        Membership, SocketClosed, SocketOpened, SocketRefreshed, SocketResumed, SocketSuspended,
        Welcome, edge_event::Kind, edge_link_client::EdgeLinkClient,
    },
};
use tokio::{sync::mpsc, time};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Channel};

use crate::{
    running::{DEADLINE, Running},
    script::Script,
};

const FAR_FUTURE_MS: u64 = 1 << 50;

/// One link. Frames are numbered, kept until they are acknowledged, and sent again where a stream is resumed.
pub(crate) struct Edge {
    link_id: String,
    pub(crate) backend_id: String,
    pub(crate) received: u64,
    pub(crate) acknowledged: u64,
    /// Whether instructions are confirmed as they come.
    pub(crate) confirms: bool,
    /// What its clock shows.
    pub(crate) clock_ms: u64,
    pub(crate) script: Script,
    seq: u64,
    unacknowledged: VecDeque<EdgeFrame>,
    instructions: VecDeque<Instruction>,
    stream: Option<(mpsc::Sender<EdgeFrame>, Streaming<BackendFrame>)>,
}

impl Edge {
    pub(crate) fn new(link_id: &str) -> Self {
        Self {
            link_id: link_id.to_owned(),
            backend_id: String::new(),
            received: 0,
            acknowledged: 0,
            confirms: true,
            clock_ms: 1000,
            script: Script::default(),
            seq: 0,
            unacknowledged: VecDeque::new(),
            instructions: VecDeque::new(),
            stream: None,
        }
    }

    pub(crate) fn hello(&self) -> Hello {
        Hello {
            edge_id: "edge".to_owned(),
            link_id: self.link_id.clone(),
            backend_id: self.backend_id.clone(),
            received: self.received,
            namespaces: vec!["/chat".to_owned(), "/".to_owned()],
        }
    }

    /// Opens a stream with this first frame.
    pub(crate) async fn open_stream(&mut self, service: &Running, first: EdgeFrame) {
        self.open_stream_over(service.channel().await, first).await;
    }

    async fn open_stream_over(&mut self, channel: Channel, first: EdgeFrame) {
        let (sender, frames) = mpsc::channel(1024);
        sender.send(first).await.unwrap();
        let mut client =
            EdgeLinkClient::new(channel).max_decoding_message_size(proto::MESSAGE_BYTES_MAX);
        let stream = client.attach(ReceiverStream::new(frames)).await.unwrap().into_inner();
        self.stream = Some((sender, stream));
    }

    /// Attaches, and does what the contract says: resumes, or starts again from 1.
    pub(crate) async fn attach(&mut self, service: &Running) -> Welcome {
        self.attach_over(service.channel().await).await
    }

    /// As [`attach`](Self::attach), to a service that is not inside the test.
    pub(crate) async fn attach_over(&mut self, channel: Channel) -> Welcome {
        let hello = EdgeFrame { hello: Some(self.hello()), ..Default::default() };
        self.open_stream_over(channel, hello).await;
        let first = within_deadline(self.next_frame()).await.unwrap();
        let welcome = first.welcome.expect("the first frame is a welcome");
        assert!(first.instructions.is_empty() && first.seq == 0);
        if welcome.resumed {
            self.unacknowledged.retain(|frame| frame.seq > welcome.received);
            for frame in self.unacknowledged.clone() {
                self.write(frame).await;
            }
        } else {
            (self.seq, self.received, self.acknowledged) = (0, 0, 0);
            self.unacknowledged.clear();
            self.instructions.clear();
        }
        self.backend_id.clone_from(&welcome.backend_id);
        welcome
    }

    /// Loses the stream without a word.
    pub(crate) fn cut(&mut self) {
        self.stream = None;
    }

    pub(crate) async fn send(&mut self, events: Vec<EdgeEvent>) {
        self.seq += 1;
        let (seq, ack, sent_ms) = (self.seq, self.received, self.clock_ms);
        let frame = EdgeFrame { seq, ack, hello: None, events, sent_ms };
        self.unacknowledged.push_back(frame.clone());
        if self.stream.is_some() {
            self.write(frame).await;
        }
    }

    pub(crate) async fn write(&mut self, frame: EdgeFrame) {
        let (sender, _) = self.stream.as_ref().expect("a stream");
        sender.send(frame).await.unwrap();
    }

    /// Confirms what has come.
    pub(crate) async fn confirm(&mut self) {
        let (ack, sent_ms) = (self.received, self.clock_ms);
        self.write(EdgeFrame { ack, sent_ms, ..Default::default() }).await;
    }

    /// Lets a socket in whose token allows this.
    pub(crate) async fn open_allowed(
        &mut self,
        (socket, user): (u64, &str),
        capabilities: Vec<Capability>,
    ) {
        self.send(vec![allowed(opened(socket, "/chat", user, None), capabilities)]).await;
        self.expect(&[&format!("accept {socket}")]).await;
    }

    /// Lets a socket in.
    pub(crate) async fn open(&mut self, socket: u64, user: &str) {
        self.send(vec![opened(socket, "/chat", user, None)]).await;
        self.expect(&[&format!("accept {socket}")]).await;
    }

    pub(crate) async fn close(&mut self, socket: u64) {
        self.send(vec![closed(socket)]).await;
    }

    /// Sends an event that waits for an answer.
    pub(crate) async fn ask(&mut self, socket: u64, ack_id: u64, name: &str, args: &str) {
        self.send(vec![event(socket, Some(ack_id), name, args)]).await;
    }

    /// Sends an event that does not.
    pub(crate) async fn tell(&mut self, socket: u64, name: &str, args: &str) {
        self.send(vec![event(socket, None, name, args)]).await;
    }

    /// Puts a socket into a room, and forgets what it is told.
    pub(crate) async fn join(&mut self, socket: u64, room: &str) {
        self.ask(socket, 999, "join", &format!("[\"{room}\"]")).await;
        while !self.next().await.starts_with(&format!("ack {socket}/999 ")) {}
    }

    /// The next instruction, as a line.
    pub(crate) async fn next(&mut self) -> String {
        let instruction = self.next_instruction().await;
        self.script.line(&instruction)
    }

    pub(crate) async fn expect(&mut self, lines: &[&str]) {
        for line in lines {
            assert_eq!(self.next().await, *line, "expected one of {lines:#?}");
        }
    }

    /// Checks that nothing more has come of what this link has sent for a room that the socket is in.
    pub(crate) async fn expect_quiet(&mut self, socket: u64, room: &str) {
        self.ask(socket, 998, "presence", &format!("[\"{room}\"]")).await;
        let line = self.next().await;
        assert!(line.starts_with(&format!("ack {socket}/998 ")), "{line}");
    }

    pub(crate) async fn next_instruction(&mut self) -> Instruction {
        loop {
            if let Some(instruction) = self.instructions.pop_front() {
                return instruction;
            }
            let next = within_deadline(self.next_frame()).await;
            self.take_in(next.expect("the stream goes on")).await;
        }
    }

    /// Whatever has come and was not looked at.
    pub(crate) fn take_instructions(&mut self) -> Vec<Instruction> {
        self.instructions.drain(..).collect()
    }

    /// Waits until the service is done with everything that was sent.
    pub(crate) async fn wait_until_acknowledged(&mut self) {
        while self.acknowledged < self.seq {
            let next = within_deadline(self.next_frame()).await;
            self.take_in(next.expect("the stream goes on")).await;
        }
    }

    async fn take_in(&mut self, frame: BackendFrame) {
        assert!(frame.welcome.is_none(), "only one welcome");
        assert!(frame.ack <= self.seq, "acknowledges what was not sent");
        self.acknowledged = self.acknowledged.max(frame.ack);
        self.unacknowledged.retain(|kept| kept.seq > frame.ack);
        if frame.seq == 0 {
            assert!(frame.instructions.is_empty(), "instructions without a number");
            return;
        }
        assert_eq!(frame.seq, self.received + 1, "a hole or a repetition");
        self.received = frame.seq;
        self.instructions.extend(frame.instructions);
        if self.confirms {
            self.confirm().await;
        }
    }

    /// The next notice of who has left, past those of who is there.
    pub(crate) async fn next_left(&mut self) -> String {
        loop {
            let line = self.next().await;
            if !line.contains(r#""users":["#) {
                return line;
            }
        }
    }

    /// The next frame, or how the stream ended.
    pub(crate) async fn next_frame(&mut self) -> Result<BackendFrame, Status> {
        let (_, stream) = self.stream.as_mut().expect("a stream");
        let next = stream.message().await?;
        next.ok_or_else(|| Status::ok("the stream ended"))
    }

    /// Reads on until the stream ends.
    pub(crate) async fn end(&mut self) -> Status {
        loop {
            match within_deadline(self.next_frame()).await {
                Ok(frame) if frame.welcome.is_some() => {}
                Ok(frame) => self.take_in(frame).await,
                Err(status) => return status,
            }
        }
    }
}

pub(crate) async fn within_deadline<F: Future>(future: F) -> F::Output {
    time::timeout(DEADLINE, future).await.expect("in time")
}

pub(crate) fn identity(user: &str) -> Identity {
    Identity {
        subject: format!("sub-{user}"),
        issuer: "test".to_owned(),
        profile: format!("{{\"id\":\"{user}\"}}").into(),
        expires_at_unix_ms: FAR_FUTURE_MS,
        ..Identity::default()
    }
}

/// A socket that asks to be let in, or is announced with its rooms.
pub(crate) fn opened(
    socket: u64,
    namespace: &str,
    user: &str,
    memberships: Option<&[(&str, &str)]>,
) -> EdgeEvent {
    let kind = SocketOpened {
        namespace: namespace.to_owned(),
        socket_id: format!("public-{socket}"),
        identity: Some(identity(user)),
        announced: memberships.is_some(),
        memberships: memberships
            .unwrap_or_default()
            .iter()
            .map(|(room, position)| Membership {
                room: (*room).to_owned(),
                position: (*position).to_owned(),
            })
            .collect(),
        ..SocketOpened::default()
    };
    EdgeEvent { socket, traceparent: String::new(), kind: Some(Kind::Opened(kind.into())) }
}

/// What may be done in some rooms.
pub(crate) fn may(actions: &[Action], rooms: &[&str]) -> Capability {
    Capability {
        actions: actions.iter().map(|action| i32::from(*action)).collect(),
        rooms: rooms.iter().map(|room| (*room).to_owned()).collect(),
        events: Vec::new(),
    }
}

/// A socket whose client has brought another token of its user.
pub(crate) fn refreshed(socket: u64, user: &str) -> EdgeEvent {
    let kind = SocketRefreshed { identity: Some(identity(user)) };
    EdgeEvent { socket, traceparent: String::new(), kind: Some(Kind::Refreshed(kind.into())) }
}

/// The same with what the token allows.
pub(crate) fn allowed(mut event: EdgeEvent, capabilities: Vec<Capability>) -> EdgeEvent {
    let identity = match &mut event.kind {
        Some(Kind::Opened(opened)) => &mut opened.identity,
        Some(Kind::Resumed(resumed)) => &mut resumed.identity,
        Some(Kind::Refreshed(refreshed)) => &mut refreshed.identity,
        _ => panic!("{event:?}"),
    };
    identity.as_mut().unwrap().capabilities = capabilities;
    event
}

/// A socket that has lost its connection.
pub(crate) fn suspended(socket: u64) -> EdgeEvent {
    let kind = SocketSuspended { reason: "transport_closed".to_owned() };
    EdgeEvent { socket, traceparent: String::new(), kind: Some(Kind::Suspended(kind)) }
}

/// Its client has come back.
pub(crate) fn resumed(socket: u64, user: &str) -> EdgeEvent {
    moved(socket, user, &[], &[])
}

/// A socket that has moved is complete, and joined and left these rooms on the way.
pub(crate) fn moved(socket: u64, user: &str, joined: &[&str], left: &[&str]) -> EdgeEvent {
    let membership = |room: &&str| Membership { room: (*room).to_owned(), ..Membership::default() };
    let kind = SocketResumed {
        identity: Some(identity(user)),
        joined: joined.iter().map(membership).collect(),
        left: left.iter().map(|room| (*room).to_owned()).collect(),
    };
    EdgeEvent { socket, traceparent: String::new(), kind: Some(Kind::Resumed(kind.into())) }
}

/// An event that was sent to an earlier life of the service, too.
pub(crate) fn repeated(mut event: EdgeEvent) -> EdgeEvent {
    let Some(Kind::Event(client_event)) = &mut event.kind else { panic!("{event:?}") };
    client_event.repeated = true;
    client_event.received_ms = 1;
    event
}

/// An event by the name that an edge has given to it.
pub(crate) fn named(name: u8, mut event: EdgeEvent) -> EdgeEvent {
    let Some(Kind::Event(client_event)) = &mut event.kind else { panic!("{event:?}") };
    client_event.id = vec![name; 16].into();
    event
}

/// The end of the announcements.
pub(crate) fn all_announced() -> EdgeEvent {
    let kind = Some(Kind::AllAnnounced(AllAnnounced {}));
    EdgeEvent { socket: 0, traceparent: String::new(), kind }
}

/// A socket that did not keep up asks for what it missed.
pub(crate) fn catch_up(socket: u64, room: &str, position: &str, bytes_max: u32) -> EdgeEvent {
    let (room, position) = (room.to_owned(), position.to_owned());
    let kind = Some(Kind::CatchUp(CatchUp { room, position, bytes_max }));
    EdgeEvent { socket, traceparent: String::new(), kind }
}

/// A socket whose connection has broken.
pub(crate) fn closed(socket: u64) -> EdgeEvent {
    closed_for(socket, "transport_closed")
}

pub(crate) fn closed_for(socket: u64, reason: &str) -> EdgeEvent {
    let kind = SocketClosed { reason: reason.to_owned(), rooms: Vec::new() };
    EdgeEvent { socket, traceparent: String::new(), kind: Some(Kind::Closed(kind)) }
}

pub(crate) fn event(socket: u64, ack_id: Option<u64>, name: &str, args: &str) -> EdgeEvent {
    event_until(FAR_FUTURE_MS, socket, ack_id, (name, args))
}

pub(crate) fn event_until(
    deadline_ms: u64,
    socket: u64,
    ack_id: Option<u64>,
    (name, args): (&str, &str),
) -> EdgeEvent {
    let args = args.to_owned().into();
    let name = name.to_owned();
    let kind = ClientEvent { name, args, ack_id, deadline_ms, ..ClientEvent::default() };
    EdgeEvent { socket, traceparent: String::new(), kind: Some(Kind::Event(kind)) }
}
