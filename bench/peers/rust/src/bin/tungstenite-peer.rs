//! Serves rooms on bare tokio-tungstenite, in the plain JSON protocol: a task and a bounded queue per connection, each event
//! encoded once, and what waits written together.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::bail;
use bench_peers::{
    Accepted, Blob, Done, Echo, IsTyping, Joined, Left, PRESENCE_LIST_MAX, Presence, Refused,
    RoomOnly, Said, Say, Sent, Typing, User, Verifier, address, announce, is_room, now_ms, number,
};
use futures_util::{SinkExt, StreamExt};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time,
};
use tokio_tungstenite::{
    WebSocketStream, accept_async_with_config,
    tungstenite::{Message, Utf8Bytes, protocol::WebSocketConfig},
};

/// What may wait for a client; as many as the runs with the most in flight need.
const QUEUE: usize = 4096;
/// The library's default of 128 KiB, allocated for each connection, would be no fair measure.
const READ_BUFFER_BYTES: usize = 4096;
const BATCH: usize = 256;

type Rooms = HashMap<String, HashMap<u64, mpsc::Sender<Utf8Bytes>>>;

struct Chat {
    verifier: Verifier,
    rooms: Mutex<Rooms>,
    messages: AtomicU64,
    connections: AtomicU64,
}

#[derive(Deserialize)]
struct Incoming<'a> {
    event: &'a str,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    id: Option<u64>,
}

#[derive(Serialize)]
struct Event<'a, T> {
    event: &'a str,
    data: &'a T,
}

#[derive(Serialize)]
struct Answer<'a, T> {
    id: u64,
    data: &'a T,
}

#[derive(Deserialize)]
struct Auth {
    token: String,
}

#[derive(Serialize)]
struct Connected {
    socket: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let chat = Arc::new(Chat {
        verifier: Verifier::from_environment()?,
        rooms: Mutex::default(),
        messages: AtomicU64::new(0),
        connections: AtomicU64::new(0),
    });
    let listener = TcpListener::bind(address()?).await?;
    announce(listener.local_addr()?)?;
    loop {
        let (stream, _) = listener.accept().await?;
        let chat = Arc::clone(&chat);
        tokio::spawn(async move {
            // The end of a client, or what it did wrong, concerns nobody else.
            let _ = serve(&chat, stream).await;
        });
    }
}

async fn serve(chat: &Chat, stream: TcpStream) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER_BYTES);
    let mut socket = accept_async_with_config(stream, Some(config)).await?;
    let (user, id) = authenticated(chat, &mut socket).await?;
    let (outbox, queue) = mpsc::channel(QUEUE);
    let mut member = Member { chat, user, id, outbox, rooms: Vec::new() };
    let ended = run(&mut member, &mut socket, queue).await;
    for room in std::mem::take(&mut member.rooms) {
        member.leave(&room);
    }
    ended
}

async fn authenticated(
    chat: &Chat,
    socket: &mut WebSocketStream<TcpStream>,
) -> anyhow::Result<(User, u64)> {
    let Some(message) = socket.next().await else { bail!("gone") };
    let message = message?;
    let Incoming { event: "auth", data: Some(data), id } =
        serde_json::from_str(message.to_text()?)?
    else {
        bail!("not a token")
    };
    let auth: Auth = serde_json::from_str(data.get())?;
    let Some(user) = chat.verifier.user(&auth.token) else { bail!("unauthorized") };
    let number = chat.connections.fetch_add(1, Ordering::Relaxed) + 1;
    let connected = Connected { socket: number };
    socket.feed(Message::text(text(&Event { event: "connected", data: &connected })?)).await?;
    if let Some(answer) = answer(id, &connected)? {
        socket.feed(Message::text(answer)).await?;
    }
    socket.flush().await?;
    Ok((user, number))
}

async fn run(
    member: &mut Member<'_>,
    socket: &mut WebSocketStream<TcpStream>,
    mut queue: mpsc::Receiver<Utf8Bytes>,
) -> anyhow::Result<()> {
    let interval = Duration::from_millis(number("BENCH_PING_INTERVAL_MS").unwrap_or(25_000));
    let mut heartbeat = time::interval_at(time::Instant::now() + interval, interval);
    let mut batch = Vec::new();
    loop {
        tokio::select! {
            message = socket.next() => {
                let Some(message) = message else { return Ok(()) };
                let Message::Text(text) = message? else { continue };
                if let Some(answer) = member.handle(&text)? {
                    socket.send(Message::text(answer)).await?;
                }
            }
            count = queue.recv_many(&mut batch, BATCH) => {
                if count == 0 {
                    return Ok(());
                }
                for text in batch.drain(..) {
                    socket.feed(Message::Text(text)).await?;
                }
                socket.flush().await?;
            }
            _ = heartbeat.tick() => socket.send(Message::Ping(Vec::new().into())).await?,
        }
    }
}

/// One client that was let in.
struct Member<'a> {
    chat: &'a Chat,
    user: User,
    id: u64,
    outbox: mpsc::Sender<Utf8Bytes>,
    rooms: Vec<String>,
}

impl Member<'_> {
    /// Does what an event asks for. Returns the answer, if it wants one.
    fn handle(&mut self, message: &str) -> anyhow::Result<Option<String>> {
        let Incoming { event, data: Some(data), id } = serde_json::from_str(message)? else {
            bail!("no data")
        };
        let data = data.get();
        match event {
            "join" => {
                let RoomOnly { room } = serde_json::from_str(data)?;
                if !is_room(&room) {
                    return answer(id, &Refused::new("invalid_payload"));
                }
                let count = self.join(&room);
                answer(id, &Joined { room: &room, count })
            }
            "leave" => {
                let RoomOnly { room } = serde_json::from_str(data)?;
                self.rooms.retain(|one| *one != room);
                self.leave(&room);
                answer(id, &Left { room: &room })
            }
            "message" => {
                let Say { room, text } = serde_json::from_str(data)?;
                let number = self.chat.messages.fetch_add(1, Ordering::Relaxed) + 1;
                let at = now_ms();
                let said =
                    Said { room: &room, id: number.to_string(), user: &self.user, text: &text, at };
                if !self.emit(&room, "message", &said, true)? {
                    return answer(id, &Refused::new("not_a_member"));
                }
                answer(id, &Accepted { id: number.to_string(), at })
            }
            "typing" => {
                let Typing { room, typing } = serde_json::from_str(data)?;
                let typing = IsTyping { room: &room, user: &self.user, typing };
                if !self.emit(&room, "typing", &typing, false)? {
                    return answer(id, &Refused::new("not_a_member"));
                }
                answer(id, &Done {})
            }
            "blob" => {
                let Blob { room, data } = serde_json::from_str(data)?;
                let sent = Sent { room: &room, user: &self.user, data: &data };
                if !self.emit(&room, "blob", &sent, true)? {
                    return answer(id, &Refused::new("not_a_member"));
                }
                answer(id, &Done {})
            }
            "echo" => {
                let _: Echo = serde_json::from_str(data)?;
                answer(id, &Done {})
            }
            _ => bail!("unknown event"),
        }
    }

    fn join(&mut self, room: &str) -> usize {
        if !self.rooms.iter().any(|one| one == room) {
            self.rooms.push(room.to_owned());
        }
        let mut rooms = self.chat.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        let members = rooms.entry(room.to_owned()).or_default();
        members.insert(self.id, self.outbox.clone());
        let count = members.len();
        tell(members, self.id, Presence { room, joined: &[&self.user], left: &[], count });
        count
    }

    fn leave(&self, room: &str) {
        let mut rooms = self.chat.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(members) = rooms.get_mut(room) else { return };
        members.remove(&self.id);
        let count = members.len();
        tell(members, self.id, Presence { room, joined: &[], left: &[&self.user], count });
        if count == 0 {
            rooms.remove(room);
        }
    }

    /// Sends an event to a room. Returns whether this client is in it.
    fn emit<T: Serialize>(
        &self,
        room: &str,
        event: &str,
        data: &T,
        to_sender: bool,
    ) -> anyhow::Result<bool> {
        if !self.rooms.iter().any(|one| one == room) {
            return Ok(false);
        }
        let event = Utf8Bytes::from(text(&Event { event, data })?);
        let rooms = self.chat.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        for (id, member) in rooms.get(room).into_iter().flatten() {
            if to_sender || *id != self.id {
                offer(member, &event);
            }
        }
        Ok(true)
    }
}

fn tell(members: &HashMap<u64, mpsc::Sender<Utf8Bytes>>, except: u64, presence: Presence<'_>) {
    if presence.count > PRESENCE_LIST_MAX {
        return;
    }
    let Ok(event) = text(&Event { event: "presence", data: &presence }) else { return };
    let event = Utf8Bytes::from(event);
    members.iter().filter(|(id, _)| **id != except).for_each(|(_, member)| offer(member, &event));
}

/// Clients for which a message found no room show as missing deliveries, with the bench.
fn offer(member: &mpsc::Sender<Utf8Bytes>, event: &Utf8Bytes) {
    if member.try_send(event.clone()).is_err() {
        eprintln!("a queue is full");
    }
}

fn answer<T: Serialize>(id: Option<u64>, data: &T) -> anyhow::Result<Option<String>> {
    id.map(|id| text(&Answer { id, data })).transpose()
}

fn text<T: Serialize>(value: &T) -> anyhow::Result<String> {
    Ok(serde_json::to_string(value)?)
}
