//! A session that begins on a stream which is handed over: no request of HTTP came on it.

use std::rc::Rc;

use bytes::Bytes;

use crate::{
    client_handshake::ClientHandshake,
    client_stream::DetachedStream,
    connection::{self, Connection},
    session_id::SessionId,
    shard::{Flow, SharedShard, Wire},
};

/// Opens the session with its first packet, a whole frame, and runs it to its end.
pub(crate) async fn run(
    shard: SharedShard,
    session: SessionId,
    stream: DetachedStream,
    packet: Bytes,
    handshake: ClientHandshake,
) {
    let Ok(stream) = stream.attach() else { return };
    let common = Rc::clone(&shard.borrow().common);
    let connection = Rc::new(Connection::websocket(stream, common));
    let key = {
        let mut shard = shard.borrow_mut();
        let wire = Wire::socket_io(None);
        let key = shard.adopt(&connection, wire, Some(session), handshake);
        shard.send(key, packet.into());
        key
    };
    connection::run(connection, shard, key, Bytes::new(), Flow::Continue).await;
}
