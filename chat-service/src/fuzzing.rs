//! What must hold of the parsers of this service for any input. The fuzzer of the workspace calls these.

use crate::{
    edge_link,
    request::Request,
    room_key::ROOM_NAME_BYTES_MAX,
    room_log,
    socket::{LinkKey, Socket, SocketKey},
    user::User,
};

/// The events that this service knows by itself.
const EVENTS: [&str; 6] = ["join", "leave", "message", "typing", "history", "presence"];

/// A frame of an edge, as protobuf.
pub fn edge_frame(data: &[u8]) {
    edge_link::fuzzing::edge_frame(data);
}

/// An event of a client: its first byte says which one, the rest is its arguments. What is asked for is in a room of the
/// client's tenant and namespace that clients may name.
pub fn client_event(data: &[u8]) {
    let Some((which, args)) = data.split_first() else { return };
    let Some(name) = EVENTS.get(usize::from(*which) % EVENTS.len()) else { return };
    let Ok(user) = User::parse_of("acme", ("ann", "https://id.example"), b"{}") else { return };
    let key = SocketKey { link: LinkKey(1), handle: 1 };
    let socket = Socket::new(key, "socket".into(), "/chat".into(), user);

    if let Ok(request) = Request::parse(&socket, name, args) {
        assert_eq!((request.room.namespace(), request.room.tenant()), ("/chat", "acme"));
        let room = request.room.name_for_services();
        assert!((1..=ROOM_NAME_BYTES_MAX).contains(&room.len()));
        assert!(!request.room.is_inbox() && !room.chars().any(char::is_control));
    }
}

/// A value of the store on disk.
pub fn stored_entry(data: &[u8]) {
    room_log::fuzzing::stored_entry(data);
}

/// A journal of the store that was written and then damaged.
pub fn room_journal(data: &[u8]) {
    room_log::fuzzing::room_journal(data);
}
