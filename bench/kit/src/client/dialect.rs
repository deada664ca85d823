//! Says the same things in the protocols that the servers speak, and reads what they say back.

use super::wire::{server_text_frame, text_frame};

/// The namespace that everything happens in.
const NAMESPACE: &str = "/chat";

/// What is spoken on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Socket.IO 5 over WebSocket.
    SocketIo,
    /// The same over long-polling.
    Polling,
    /// JSON messages over WebSocket.
    Json,
    /// WebSocket frames of a server, without a handshake: whatever one sends, all get.
    Bare,
}

/// What a server said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Incoming<'a> {
    /// Engine.IO's session is open.
    Open,
    /// The namespace was entered.
    Entered,
    /// An event, by the text of its name and of what comes with it.
    Event { name: &'a [u8], data: &'a [u8] },
    /// The answer to what was asked under this id.
    Answer { id: u64, data: &'a [u8] },
    /// Engine.IO's ping.
    Ping,
    /// An error, or what none of these is.
    Trouble(&'a [u8]),
}

impl Dialect {
    /// Path of the WebSocket.
    pub(crate) const fn path(self) -> &'static str {
        match self {
            Self::SocketIo | Self::Polling => "/socket.io/?EIO=4&transport=websocket",
            Self::Json | Self::Bare => "/ws",
        }
    }

    /// Asks to be let in, for which the answer is [`Incoming::Entered`].
    pub(crate) fn enter(self, token: &str) -> Vec<u8> {
        match self {
            Self::SocketIo | Self::Polling => {
                self.frame(&format!(r#"40{NAMESPACE},{{"token":"{token}"}}"#))
            }
            Self::Json => {
                self.frame(&format!(r#"{{"event":"auth","data":{{"token":"{token}"}}}}"#))
            }
            Self::Bare => Vec::new(),
        }
    }

    /// Sends an event, with `data` as JSON; with an id, if it is to be answered.
    pub(crate) fn event(self, name: &str, data: &str, id: Option<u64>) -> Vec<u8> {
        let id = id.map(|id| id.to_string());
        let text = match (self, id) {
            (Self::SocketIo | Self::Polling, id) => {
                format!(r#"42{NAMESPACE},{}["{name}",{data}]"#, id.unwrap_or_default())
            }
            (Self::Json, Some(id)) => format!(r#"{{"event":"{name}","data":{data},"id":{id}}}"#),
            (Self::Json | Self::Bare, _) => format!(r#"{{"event":"{name}","data":{data}}}"#),
        };
        self.frame(&text)
    }

    /// The answer to Engine.IO's ping.
    pub(crate) fn pong(self) -> Vec<u8> {
        self.frame("3")
    }

    /// A text as it is sent.
    fn frame(self, text: &str) -> Vec<u8> {
        match self {
            Self::SocketIo | Self::Json => text_frame(text),
            Self::Polling => text.as_bytes().to_vec(),
            Self::Bare => server_text_frame(text),
        }
    }

    /// Reads what a text frame says.
    pub(crate) fn read(self, text: &[u8]) -> Incoming<'_> {
        let read = match self {
            Self::SocketIo | Self::Polling => socket_io(text),
            Self::Json | Self::Bare => json(text),
        };
        read.unwrap_or(Incoming::Trouble(text))
    }
}

fn socket_io(text: &[u8]) -> Option<Incoming<'_>> {
    match text {
        b"2" => return Some(Incoming::Ping),
        [b'0', b'{', ..] => return Some(Incoming::Open),
        _ => {}
    }
    let (kind, rest) = text.strip_prefix(b"4")?.split_first()?;
    let rest = rest.strip_prefix(NAMESPACE.as_bytes())?.strip_prefix(b",")?;
    match kind {
        b'0' => Some(Incoming::Entered),
        b'2' => {
            let (name, rest) = until_quote(rest.strip_prefix(b"[\"")?)?;
            let data = rest.strip_prefix(b",").unwrap_or(rest).strip_suffix(b"]")?;
            event(name, data)
        }
        b'3' => {
            let (id, data) = number(rest)?;
            answer(id, data.strip_prefix(b"[")?.strip_suffix(b"]")?)
        }
        _ => None,
    }
}

fn json(text: &[u8]) -> Option<Incoming<'_>> {
    if let Some(rest) = text.strip_prefix(br#"{"event":""#) {
        let (name, rest) = until_quote(rest)?;
        let data = rest.strip_prefix(br#","data":"#)?.strip_suffix(b"}")?;
        return if name == b"connected" { Some(Incoming::Entered) } else { event(name, data) };
    }
    let (id, rest) = number(text.strip_prefix(br#"{"id":"#)?)?;
    answer(id, rest.strip_prefix(br#","data":"#)?.strip_suffix(b"}")?)
}

fn event<'a>(name: &'a [u8], data: &'a [u8]) -> Option<Incoming<'a>> {
    (name != b"exception").then_some(Incoming::Event { name, data })
}

fn answer(id: u64, data: &[u8]) -> Option<Incoming<'_>> {
    (!data.starts_with(br#"{"error":"#)).then_some(Incoming::Answer { id, data })
}

fn until_quote(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.iter().position(|byte| *byte == b'"')?;
    Some((text.get(..end)?, text.get(end + 1..)?))
}

fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text.split_at_checked(digits)?;
    Some((std::str::from_utf8(digits).ok()?.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_socket_io() {
        let read = |text: &'static str| Dialect::SocketIo.read(text.as_bytes());

        assert_eq!(read(r#"0{"sid":"x"}"#), Incoming::Open);
        assert_eq!(read(r#"40/chat,{"sid":"x"}"#), Incoming::Entered);
        assert_eq!(read("2"), Incoming::Ping);
        assert_eq!(
            read(r#"42/chat,["message",{"text":"\"]"}]"#),
            Incoming::Event { name: b"message", data: br#"{"text":"\"]"}"# }
        );
        assert_eq!(read("43/chat,17[{}]"), Incoming::Answer { id: 17, data: b"{}" });
    }

    #[test]
    fn reads_json() {
        let read = |text: &'static str| Dialect::Json.read(text.as_bytes());

        assert_eq!(read(r#"{"event":"connected","data":{"socket":"x"}}"#), Incoming::Entered);
        assert_eq!(
            read(r#"{"event":"message","data":{"text":"x"}}"#),
            Incoming::Event { name: b"message", data: br#"{"text":"x"}"# }
        );
        assert_eq!(read(r#"{"id":17,"data":{}}"#), Incoming::Answer { id: 17, data: b"{}" });
    }

    #[test]
    fn errors_are_never_taken_for_answers_or_deliveries() {
        let troubles = [
            (Dialect::SocketIo, r#"44/chat,{"message":"Unauthorized"}"#),
            (Dialect::SocketIo, "41/chat,"),
            (Dialect::SocketIo, r#"43/chat,1[{"error":{"code":"not_a_member"}}]"#),
            (Dialect::SocketIo, r#"42/chat,["exception",{"status":"error"}]"#),
            (Dialect::SocketIo, r#"42["message",{}]"#),
            (Dialect::Json, r#"{"id":1,"error":{"code":"not_a_member"}}"#),
            (Dialect::Json, r#"{"event":"exception","data":{"status":"error"}}"#),
        ];

        for (dialect, text) in troubles {
            assert_eq!(dialect.read(text.as_bytes()), Incoming::Trouble(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn says_the_same_in_each() {
        let text =
            |frame: Vec<u8>, header: usize| String::from_utf8(frame[header..].to_vec()).unwrap();

        let frames = [Dialect::SocketIo, Dialect::Json]
            .map(|dialect| text(dialect.event("echo", r#"{"data":"x"}"#, Some(3)), 6));

        assert_eq!(
            frames,
            [r#"42/chat,3["echo",{"data":"x"}]"#, r#"{"event":"echo","data":{"data":"x"},"id":3}"#]
        );
        assert_eq!(
            text(Dialect::Bare.event("message", "{}", None), 2),
            r#"{"event":"message","data":{}}"#
        );
        assert_eq!(text(Dialect::Polling.event("echo", "{}", None), 0), r#"42/chat,["echo",{}]"#);
    }
}
