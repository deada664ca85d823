//! Leads one connection from its first byte to the room that it is to be in.

use std::net::SocketAddr;

use super::dialect::{Dialect, Incoming};

/// The id under which the answer to `join` comes.
const JOIN_ID: u64 = 0;

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Connecting,
    Upgrading,
    Opening,
    Entering,
    Joining,
    Joined,
}

/// What a connection says at each stage. It is dropped with the last.
#[derive(Debug)]
pub(crate) struct Opening {
    upgrade: Vec<u8>,
    enter: Vec<u8>,
    join: Vec<u8>,
}

impl Opening {
    pub(crate) fn new(dialect: Dialect, address: SocketAddr, token: &str, room: &str) -> Self {
        let upgrade = format!(
            "GET {} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
             User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
             Chrome/142.0.0.0 Safari/537.36\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\
             Accept-Language: en-GB,en;q=0.9\r\nCache-Control: no-cache\r\nPragma: no-cache\r\n\r\n",
            dialect.path()
        );
        Self {
            upgrade: upgrade.into_bytes(),
            enter: dialect.enter(token),
            join: dialect.event("join", &format!(r#"{{"room":"{room}"}}"#), Some(JOIN_ID)),
        }
    }
}

impl Stage {
    /// Goes on where TCP has connected. Returns what is to be sent.
    pub(crate) fn connected<'a>(&mut self, dialect: Dialect, opening: &'a Opening) -> &'a [u8] {
        if dialect == Dialect::Bare {
            *self = Self::Joined;
            return &[];
        }
        if dialect == Dialect::Polling {
            *self = Self::Opening;
            return &[];
        }
        *self = Self::Upgrading;
        &opening.upgrade
    }

    /// Goes on where the server has accepted the WebSocket. Returns what is to be sent.
    pub(crate) fn upgraded<'a>(&mut self, dialect: Dialect, opening: &'a Opening) -> &'a [u8] {
        if dialect == Dialect::Json {
            *self = Self::Entering;
            return &opening.enter;
        }
        *self = Self::Opening;
        &[]
    }

    /// Goes on with what the server has said. Returns what is to be sent, or nothing if this was not what is waited for.
    pub(crate) fn told<'a>(
        &mut self,
        incoming: &Incoming<'_>,
        opening: &'a Opening,
    ) -> Option<&'a [u8]> {
        let (next, said): (_, &[u8]) = match (*self, incoming) {
            (Self::Opening, Incoming::Open) => (Self::Entering, &opening.enter),
            (Self::Entering, Incoming::Entered) => (Self::Joining, &opening.join),
            (Self::Joining, Incoming::Answer { id: JOIN_ID, .. }) => (Self::Joined, &[]),
            _ => return None,
        };
        *self = next;
        Some(said)
    }
}

/// Returns the length of an accepting answer to the upgrade, or nothing while it is not whole.
pub(crate) fn accepted(bytes: &[u8]) -> Result<Option<usize>, ()> {
    const ACCEPTED: &[u8] = b"HTTP/1.1 101 ";
    let known = bytes.len().min(ACCEPTED.len());
    if bytes.get(..known) != ACCEPTED.get(..known) {
        return Err(());
    }
    Ok(bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|end| end + 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_io_client_says_one_thing_after_the_other() {
        let dialect = Dialect::SocketIo;
        let opening = Opening::new(dialect, ([127, 0, 0, 1], 80).into(), "T", "r");
        let mut stage = Stage::Connecting;

        assert!(stage.connected(dialect, &opening).starts_with(b"GET /socket.io/?EIO=4"));
        assert_eq!(stage.upgraded(dialect, &opening), b"");
        assert_eq!(stage.told(&Incoming::Entered, &opening), None, "not yet");
        assert!(stage.told(&Incoming::Open, &opening).unwrap().ends_with(br#"{"token":"T"}"#));
        assert!(stage.told(&Incoming::Entered, &opening).unwrap().ends_with(br#"{"room":"r"}]"#));
        let answer = Incoming::Answer { id: JOIN_ID, data: b"{}" };
        assert_eq!(stage.told(&answer, &opening), Some(&b""[..]));
        assert_eq!(stage, Stage::Joined);
    }

    #[test]
    fn an_upgrade_is_whole_with_its_empty_line() {
        assert_eq!(accepted(b"HTTP/1.1 101 Switching"), Ok(None));
        assert_eq!(accepted(b"HTTP/1.1 101 Switching Protocols\r\nA: b\r\n\r\n\x81"), Ok(Some(42)));
        assert_eq!(accepted(b"HTTP/1.1 503 "), Err(()));
    }
}
