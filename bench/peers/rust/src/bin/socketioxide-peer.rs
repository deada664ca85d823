//! Serves the chat on socketioxide and axum: the rooms, events and checks of the chat service, without a log.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bench_peers::{
    Accepted, Blob, Done, Echo, IsTyping, Joined, Left, PRESENCE_LIST_MAX, Presence, Refused,
    RoomOnly, Said, Say, Sent, Typing, User, Verifier, address, announce, is_room, now_ms, number,
};
use serde::{Deserialize, Serialize};
use socketioxide::{
    SocketIo,
    extract::{AckSender, Data, Extension, SocketRef, State},
    handler::ConnectHandler,
};
use tokio::net::TcpListener;

#[derive(Clone)]
struct Chat {
    verifier: Arc<Verifier>,
    messages: Arc<AtomicU64>,
}

#[derive(Deserialize)]
struct Auth {
    token: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let chat = Chat {
        verifier: Arc::new(Verifier::from_environment()?),
        messages: Arc::new(AtomicU64::new(0)),
    };
    // Its default of 128 packets would have it drop messages for clients in the runs with 256 in flight.
    let mut builder = SocketIo::builder().with_state(chat).max_buffer_size(4096);
    if let Some(interval) = number("BENCH_PING_INTERVAL_MS") {
        builder = builder.ping_interval(Duration::from_millis(interval));
    }
    let (layer, io) = builder.build_layer();
    io.ns("/chat", (async || {}).with(authenticated));
    let listener = TcpListener::bind(address()?).await?;
    announce(listener.local_addr()?)?;
    Ok(axum::serve(listener, axum::Router::new().layer(layer)).await?)
}

async fn authenticated(
    socket: SocketRef,
    State(chat): State<Chat>,
    Data(auth): Data<Auth>,
) -> Result<(), &'static str> {
    let user = chat.verifier.user(&auth.token).ok_or("Unauthorized")?;
    socket.extensions.insert(Arc::new(user));
    // Not once it is connected: it is told so before the handler of that runs, and what a quick client sends meanwhile would be lost.
    socket.on("join", join);
    socket.on("leave", leave);
    socket.on("message", message);
    socket.on("typing", typing);
    socket.on("blob", blob);
    socket.on("echo", async |Data(_): Data<Echo>, ack: AckSender| answer(ack, &Done {}));
    socket.on_disconnect(disconnected);
    Ok(())
}

async fn join(
    socket: SocketRef,
    io: SocketIo,
    Extension(user): Extension<Arc<User>>,
    Data(RoomOnly { room }): Data<RoomOnly>,
    ack: AckSender,
) {
    if !is_room(&room) {
        return answer(ack, &Refused::new("invalid_payload"));
    }
    socket.join(room.clone());
    let count = tell_presence(&socket, &io, &room, &[&user], &[]).await;
    answer(ack, &Joined { room: &room, count });
}

async fn leave(
    socket: SocketRef,
    io: SocketIo,
    Extension(user): Extension<Arc<User>>,
    Data(RoomOnly { room }): Data<RoomOnly>,
    ack: AckSender,
) {
    socket.leave(room.clone());
    tell_presence(&socket, &io, &room, &[], &[&user]).await;
    answer(ack, &Left { room: &room });
}

async fn message(
    socket: SocketRef,
    State(chat): State<Chat>,
    Extension(user): Extension<Arc<User>>,
    Data(Say { room, text }): Data<Say>,
    ack: AckSender,
) {
    if !is_in(&socket, &room) {
        return answer(ack, &Refused::new("not_a_member"));
    }
    let id = (chat.messages.fetch_add(1, Ordering::Relaxed) + 1).to_string();
    let at = now_ms();
    let said = Said { room: &room, id: id.clone(), user: &user, text: &text, at };
    emitted(socket.within(room.clone()).emit("message", &said).await);
    answer(ack, &Accepted { id, at });
}

async fn typing(
    socket: SocketRef,
    Extension(user): Extension<Arc<User>>,
    Data(Typing { room, typing }): Data<Typing>,
    ack: AckSender,
) {
    if !is_in(&socket, &room) {
        return answer(ack, &Refused::new("not_a_member"));
    }
    let typing = IsTyping { room: &room, user: &user, typing };
    emitted(socket.to(room.clone()).volatile().emit("typing", &typing).await);
    answer(ack, &Done {});
}

async fn blob(
    socket: SocketRef,
    Extension(user): Extension<Arc<User>>,
    Data(Blob { room, data }): Data<Blob>,
    ack: AckSender,
) {
    if !is_in(&socket, &room) {
        return answer(ack, &Refused::new("not_a_member"));
    }
    let sent = Sent { room: &room, user: &user, data: &data };
    emitted(socket.within(room.clone()).emit("blob", &sent).await);
    answer(ack, &Done {});
}

async fn disconnected(socket: SocketRef, io: SocketIo, Extension(user): Extension<Arc<User>>) {
    for room in socket.rooms() {
        tell_presence(&socket, &io, &room, &[], &[&user]).await;
    }
}

fn is_in(socket: &SocketRef, room: &str) -> bool {
    socket.rooms().iter().any(|one| one == room)
}

async fn tell_presence(
    socket: &SocketRef,
    io: &SocketIo,
    room: &str,
    joined: &[&User],
    left: &[&User],
) -> usize {
    let count = io.of("/chat").map_or(0, |chat| chat.within(room.to_owned()).sockets().len());
    if count <= PRESENCE_LIST_MAX {
        let presence = Presence { room, joined, left, count };
        emitted(socket.to(room.to_owned()).emit("presence", &presence).await);
    }
    count
}

fn answer<T: Serialize>(ack: AckSender, answer: &T) {
    // The client may be gone, and may not have asked.
    let _ = ack.send(answer);
}

/// Clients for which a message found no room would show as missing deliveries, with the bench.
fn emitted<E: std::fmt::Display>(result: Result<(), E>) {
    if let Err(error) = result {
        eprintln!("{error}");
    }
}
