//! A session on long-polling: polls that wait for packets, and posts that bring them.

use std::{cell::Cell, rc::Rc, time::Instant};

use bytes::Bytes;
use edge_protocol::engine_io::{
    NOOP_TEXT_FRAME, payload,
    v3::{self, payload::Body},
};
use tokio::{
    sync::{Notify, oneshot},
    task,
};

use crate::{
    close_reason::CloseReason,
    connection::Connection,
    session_id::SessionId,
    shard::{ConnectionKey, ConnectionLimit, Flow, Shard, SharedShard},
    transport::payload::PayloadForm,
};

/// Tells a client that its session is over: the packet `1` as a WebSocket frame, the form in which all packets wait.
static CLOSE_TEXT_FRAME: [u8; 3] = [0x81, 1, b'1'];

/// How a session on long-polling stands.
#[derive(Debug)]
pub(crate) struct Polling {
    form: PayloadForm,
    /// Something waits that is worth compressing.
    pub(crate) is_compressible: Cell<bool>,
    /// A poll waits.
    pub(crate) is_polled: Cell<bool>,
    /// A post is being received.
    is_posted: Cell<bool>,
    /// A WebSocket is there to take over. There can be one at a time.
    pub(crate) has_successor: Cell<bool>,
    /// It has asked, so polls must end.
    pub(crate) is_probed: Cell<bool>,
    /// The edge that holds the poll is being stopped, so it must end.
    is_let_go: Cell<bool>,
    closed: Cell<Option<CloseReason>>,
    /// Wakes the poll that waits.
    pub(crate) poll: Notify,
    /// Wakes the post that waits for the shard to go on.
    pub(crate) post: Notify,
    /// Wakes the upgrade that waits for the end of a post.
    posted: Notify,
}

/// What a polling request is answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A poll's packets, and whether they are not worth compressing.
    Payload { body: Body, uncompressed: bool },
    /// A post was taken.
    Taken,
    /// The request is out of place, and the session is closed.
    OutOfPlace,
    /// The post is larger than `maxPayload`. The session lives on.
    TooLarge,
    /// There is no such session.
    UnknownSession,
    /// The session is on a WebSocket.
    OtherTransport,
}

/// What a post brings.
pub(crate) enum Post {
    Text(Bytes),
    /// `application/octet-stream`, which only Engine.IO 3 knows.
    Binary(Bytes),
    TooLarge,
    /// Also that, where Engine.IO 3 is not allowed.
    NotText,
}

impl Polling {
    pub(crate) fn new(form: PayloadForm) -> Self {
        Self {
            is_compressible: Cell::default(),
            form,
            is_polled: Cell::default(),
            is_posted: Cell::default(),
            has_successor: Cell::default(),
            is_probed: Cell::default(),
            is_let_go: Cell::default(),
            closed: Cell::default(),
            poll: Notify::new(),
            post: Notify::new(),
            posted: Notify::new(),
        }
    }

    /// Notes why the session ends, for the poll that tells the client.
    pub(crate) fn close(&self, reason: CloseReason) {
        self.closed.set(Some(reason));
        self.post.notify_one();
    }

    /// Ends the poll that waits, or the next one.
    pub(crate) fn let_go(&self) {
        self.is_let_go.set(true);
        self.poll.notify_one();
    }

    /// Waits until no post is under way.
    pub(crate) async fn posted(&self) {
        while self.is_posted.get() {
            self.posted.notified().await;
        }
    }

    /// The last packet of a session that ends.
    fn last_packet(&self) -> Option<Bytes> {
        // A client that asked for it only waits for its poll to end.
        let is_asked_for = self.closed.get()? == CloseReason::ClosedByClient;
        Some(Bytes::from_static(if is_asked_for { &NOOP_TEXT_FRAME } else { &CLOSE_TEXT_FRAME }))
    }
}

/// Answers a poll once there is something to say. Ends the session if the client hangs up before.
pub(crate) async fn poll(
    shard: SharedShard,
    session: SessionId,
    mut reply: oneshot::Sender<Answer>,
) {
    let (connection, key, form) = match begin_poll(&shard, session) {
        Ok(begun) => begun,
        Err(answer) => {
            // A client that has hung up meanwhile needs none.
            reply.send(answer).ok();
            return;
        }
    };
    let payload = tokio::select! {
        payload = next_payload(&connection, form) => Some(payload),
        () = reply.closed() => None,
    };
    if connection.is_closing() {
        shard.borrow_mut().forget_session(session);
    }
    let is_read = payload.is_some_and(|payload| reply.send(payload).is_ok());
    // A session that has moved to a WebSocket meanwhile has no more to do with its polls.
    let Some(polling) = connection.polling_state() else { return };
    polling.is_polled.set(false);
    if !is_read {
        // The packets cannot be given again.
        shard.borrow_mut().abandon(session, CloseReason::TransportClosed);
    } else if connection.is_drained() {
        shard.borrow_mut().drained(key);
    }
}

fn begin_poll(
    shard: &SharedShard,
    session: SessionId,
) -> Result<(Rc<Connection>, ConnectionKey, PayloadForm), Answer> {
    let (connection, key) = shard.borrow().session(session).ok_or(Answer::UnknownSession)?;
    let polling = connection.polling_state().ok_or(Answer::OtherTransport)?;
    if polling.is_polled.replace(true) {
        // The other poll is answered with the close packet.
        shard.borrow_mut().abandon(session, CloseReason::ProtocolViolation);
        return Err(Answer::OutOfPlace);
    }
    let form = polling.form;
    Ok((connection, key, form))
}

/// Waits until there is something to say, and takes all of it.
async fn next_payload(connection: &Connection, form: PayloadForm) -> Answer {
    let noop = || Bytes::from_static(&NOOP_TEXT_FRAME);
    loop {
        let Some(polling) = connection.polling_state() else {
            // An upgrade has overtaken this poll: what waits goes to the WebSocket.
            return Answer::Payload { body: form.body(&[noop()]), uncompressed: false };
        };
        let mut frames = connection.take_waiting();
        let uncompressed = !polling.is_compressible.take();
        let must_end = polling.is_let_go.take() || polling.is_probed.get();
        if let Some(last) = polling.last_packet() {
            frames.push(last);
        } else if frames.is_empty() && must_end {
            frames.push(noop());
        }
        let body = form.body(&frames);
        // Frames may all be such that they cannot be put into a body.
        if !body.is_empty() {
            return Answer::Payload { body, uncompressed };
        }
        polling.poll.notified().await;
    }
}

/// Takes the packets of a post, and answers once the shard has them all.
pub(crate) async fn post(
    shard: SharedShard,
    session: SessionId,
    body: oneshot::Receiver<Post>,
    reply: oneshot::Sender<Answer>,
) {
    let answer = match begin_post(&shard, session) {
        Ok((connection, key)) => {
            let answer = receive(&shard, session, (&connection, key), body).await;
            if let Some(polling) = connection.polling_state() {
                polling.is_posted.set(false);
                polling.posted.notify_one();
            }
            answer
        }
        Err(answer) => Some(answer),
    };
    // Without an answer the client's request is cut. One that has hung up meanwhile needs none.
    if let Some(answer) = answer {
        reply.send(answer).ok();
    }
}

fn begin_post(
    shard: &SharedShard,
    session: SessionId,
) -> Result<(Rc<Connection>, ConnectionKey), Answer> {
    let (connection, key) = shard.borrow().session(session).ok_or(Answer::UnknownSession)?;
    if connection.is_closing() {
        return Err(Answer::UnknownSession);
    }
    let polling = connection.polling_state().ok_or(Answer::OtherTransport)?;
    if polling.is_posted.replace(true) {
        shard.borrow_mut().abandon(session, CloseReason::ProtocolViolation);
        return Err(Answer::OutOfPlace);
    }
    Ok((connection, key))
}

async fn receive(
    shard: &SharedShard,
    session: SessionId,
    (connection, key): (&Rc<Connection>, ConnectionKey),
    body: oneshot::Receiver<Post>,
) -> Option<Answer> {
    let polling = connection.polling_state()?;
    let posted = tokio::select! {
        posted = body => posted,
        () = closed(connection, polling) => return None,
    };
    let bytes = match &posted {
        Ok(Post::Text(body) | Post::Binary(body)) => body.len(),
        // So much of it was read, or almost.
        Ok(Post::TooLarge) => connection.payload_bytes_max(),
        Ok(Post::NotText) | Err(_) => 0,
    };
    let charged = shard.borrow_mut().charge(key, bytes, Instant::now());
    if charged == Flow::Pause {
        // One that is closed meanwhile takes no packet.
        resumed(connection).await;
    }
    match posted {
        Ok(Post::Text(body)) => {
            match polling.form {
                PayloadForm::V4 => {
                    let packets = payload::receive(&body);
                    let receive = Shard::receive_engine_io;
                    receive_packets(shard, connection, key, packets, receive).await;
                }
                PayloadForm::V3 => {
                    let packets = v3::payload::receive(&body);
                    let receive = Shard::receive_engine_io_3;
                    receive_packets(shard, connection, key, packets, receive).await;
                }
            }
            Some(Answer::Taken)
        }
        Ok(Post::Binary(body)) if polling.form == PayloadForm::V3 => {
            let packets = v3::payload::receive_binary(&body);
            receive_packets(shard, connection, key, packets, Shard::receive_engine_io_3).await;
            Some(Answer::Taken)
        }
        Ok(Post::TooLarge) => {
            shard.borrow_mut().audit_limit(key, ConnectionLimit::BodyBytes);
            Some(Answer::TooLarge)
        }
        Ok(Post::Binary(_) | Post::NotText) => {
            shard.borrow_mut().abandon(session, CloseReason::MalformedPacket);
            Some(Answer::OutOfPlace)
        }
        Err(_) => {
            shard.borrow_mut().abandon(session, CloseReason::TransportClosed);
            None
        }
    }
}

async fn receive_packets<R>(
    shard: &SharedShard,
    connection: &Connection,
    key: ConnectionKey,
    packets: impl Iterator<Item = R>,
    receive: impl Fn(&mut Shard, ConnectionKey, R, Instant) -> Flow,
) {
    for received in packets {
        let flow = receive(&mut shard.borrow_mut(), key, received, Instant::now());
        match flow {
            // However many packets there are, they must not keep the shard from its other work.
            Flow::Continue => task::coop::consume_budget().await,
            Flow::Pause => resumed(connection).await,
            Flow::Closed => return,
        }
    }
}

/// Waits until the shard goes on with a connection that it has paused, or the connection ends.
async fn resumed(connection: &Connection) {
    while !connection.take_resumed()
        && !connection.is_closing()
        && let Some(polling) = connection.polling_state()
    {
        polling.post.notified().await;
    }
}

async fn closed(connection: &Connection, polling: &Polling) {
    while !connection.is_closing() {
        polling.post.notified().await;
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{
        cell::RefCell,
        collections::HashMap,
        net::{TcpListener, TcpStream},
        num::NonZeroU32,
        time::Duration,
    };

    use edge_protocol::socket_io::Session;
    use http::Uri;
    use service_kit::trace::Tracer;

    use super::*;
    use crate::{
        application::Application,
        auth::TokenVerifier,
        client_handshake::ClientHandshake,
        config::OverloadConfig,
        connection::{Common, PayloadBounds},
        dialer::Dialer,
        overload::Overload,
        quota::Steady,
        shard::{
            Limits, NamespaceKey, Parts, Recovery, Shard, Wire, claims::Claims,
            verifications::Verifications,
        },
        telemetry::Metrics,
        transport::mailbox::Mailboxes,
    };

    /// An edge with room for everything.
    fn overload() -> Overload {
        Overload::new(&OverloadConfig { memory_bytes_max: None, lag_max: Duration::ZERO }, 1)
    }

    /// A shard with one session.
    pub(crate) fn shard_with(
        connection: impl FnOnce(Rc<Common>) -> Connection,
    ) -> (SharedShard, SessionId) {
        let long = Duration::from_secs(60);
        let common = Rc::new(Common::new(PayloadBounds::new(1000, 1000), 1000, Metrics::new()));
        let connection = connection(Rc::clone(&common));
        let shard: SharedShard = Rc::new_cyclic(|shard| {
            let url = Uri::from_static("http://127.0.0.1:1");
            let verifier = TokenVerifier::new(url, &Dialer::Plaintext);
            let counter = metrics::Counter::noop();
            let (mailboxes, _) = Mailboxes::new(0, 1, HashMap::new(), counter);
            let claims = Claims::new(mailboxes, shard.clone(), 0);
            let parts = Parts {
                application: Application::Services,
                limits: Limits {
                    ping_interval: long,
                    ping_timeout: long,
                    connect_timeout: long,
                    event_timeout: long,
                    events: Steady::new(NonZeroU32::MIN, NonZeroU32::MIN),
                    bytes: Steady::new(NonZeroU32::MAX, NonZeroU32::MAX),
                    json_depth_max: 64,
                    awaited_answers_max: 1,
                    identities: std::sync::Arc::default(),
                    overload: std::sync::Arc::new(overload()),
                    drain_timeout: long,
                    confirm_interval: long,
                    expiry_warning: long,
                },
                common,
                tracer: Tracer::disabled(),
                verifications: Verifications::new(verifier, shard.clone()),
                namespaces: Vec::new(),
                ws_namespace: NamespaceKey::FIRST,
                links: Vec::new(),
                recovery: Recovery::new(&[], long, claims),
            };
            RefCell::new(Shard::new(parts, Instant::now()))
        });
        let session = add_session(&shard, connection);
        (shard, session)
    }

    pub(crate) fn add_session(shard: &SharedShard, connection: Connection) -> SessionId {
        let session = SessionId::random(0, 0);
        let (wire, handshake) = (Wire::SocketIo(Session::new()), ClientHandshake::default());
        shard.borrow_mut().adopt(&Rc::new(connection), wire, Some(session), handshake);
        session
    }

    fn on_a_websocket(common: Rc<Common>) -> Connection {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        stream.set_nonblocking(true).unwrap();
        let stream = tokio::net::TcpStream::from_std(stream).unwrap();
        Connection::websocket(stream.into(), common)
    }

    fn polling(common: Rc<Common>) -> Connection {
        Connection::polling(common, PayloadForm::V4)
    }

    #[tokio::test]
    async fn whoever_hangs_up_on_a_poll_ends_only_a_session_that_polls() {
        for (connection, lives_on) in
            [(on_a_websocket as fn(Rc<Common>) -> Connection, true), (polling, false)]
        {
            let (shard, session) = shard_with(connection);
            let (reply, client) = oneshot::channel();
            drop(client);

            poll(Rc::clone(&shard), session, reply).await;

            assert_eq!(shard.borrow().session(session).is_some(), lives_on);
        }
    }
}
