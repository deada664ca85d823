//! Long-polling: requests, what is in their answers, and what waits to be posted.

use std::net::SocketAddr;

/// Stands between the packets of a body.
const SEPARATOR: u8 = 0x1e;

/// What a client that polls says and hears, without its connections.
#[derive(Debug)]
pub(crate) struct Polling {
    address: SocketAddr,
    /// Of its session; empty until that is open.
    sid: String,
    /// Packets that wait for the post under way to be answered.
    waiting: Vec<u8>,
    is_posting: bool,
}

/// The answer is not one that a client can go on with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused;

impl Polling {
    pub(crate) const fn new(address: SocketAddr) -> Self {
        Self { address, sid: String::new(), waiting: Vec::new(), is_posting: false }
    }

    /// The next poll. The first one opens the session.
    pub(crate) fn poll(&self) -> Vec<u8> {
        format!("GET {} HTTP/1.1\r\nHost: {}\r\nAccept: */*\r\n\r\n", self.path(), self.address)
            .into_bytes()
    }

    /// Takes the session's id out of Engine.IO's first packet.
    pub(crate) fn opened(&mut self, packet: &[u8]) -> Result<(), Refused> {
        let text = std::str::from_utf8(packet).map_err(|_| Refused)?;
        let (_, rest) = text.split_once(r#""sid":""#).ok_or(Refused)?;
        let (sid, _) = rest.split_once('"').ok_or(Refused)?;
        sid.clone_into(&mut self.sid);
        Ok(())
    }

    /// Has a packet sent. Returns the request, unless one is under way.
    pub(crate) fn say(&mut self, packet: &[u8]) -> Option<Vec<u8>> {
        if !self.waiting.is_empty() {
            self.waiting.push(SEPARATOR);
        }
        self.waiting.extend_from_slice(packet);
        self.post()
    }

    /// Goes on where a post was answered. Returns the next one, if something waits.
    pub(crate) fn posted(&mut self) -> Option<Vec<u8>> {
        self.is_posting = false;
        self.post()
    }

    /// Whether a post has not been answered.
    pub(crate) const fn is_posting(&self) -> bool {
        self.is_posting
    }

    fn post(&mut self) -> Option<Vec<u8>> {
        if self.is_posting || self.waiting.is_empty() {
            return None;
        }
        self.is_posting = true;
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: text/plain;charset=UTF-8\r\nContent-Length: {}\r\n\r\n",
            self.path(),
            self.address,
            self.waiting.len()
        );
        let mut request = head.into_bytes();
        request.append(&mut self.waiting);
        Some(request)
    }

    fn path(&self) -> String {
        let path = "/socket.io/?EIO=4&transport=polling";
        if self.sid.is_empty() { path.to_owned() } else { format!("{path}&sid={}", self.sid) }
    }
}

/// Returns the packets of a body.
pub(crate) fn packets(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    body.split(|byte| *byte == SEPARATOR)
}

/// Returns the body of the first answer and where the next one begins, or nothing while it is not whole.
pub(crate) fn answer(bytes: &[u8]) -> Result<Option<(&[u8], usize)>, Refused> {
    const ACCEPTED: &[u8] = b"HTTP/1.1 200 ";
    let known = bytes.len().min(ACCEPTED.len());
    if bytes.get(..known) != ACCEPTED.get(..known) {
        return Err(Refused);
    }
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let (head, rest) = bytes.split_at(end + 4);
    let head = std::str::from_utf8(head).map_err(|_| Refused)?;
    let len = head.lines().filter_map(|line| line.split_once(':')).find_map(|(name, value)| {
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>())
    });
    let len = len.ok_or(Refused)?.map_err(|_| Refused)?;
    Ok(rest.get(..len).map(|body| (body, end + 4 + len)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(request: Option<Vec<u8>>) -> String {
        String::from_utf8(request.unwrap()).unwrap()
    }

    #[test]
    fn an_answer_is_whole_with_its_last_byte() {
        let bytes = b"HTTP/1.1 200 OK\r\nA: b\r\ncontent-length: 3\r\n\r\n2\x1e6HTTP/1.1 200 OK";
        let whole = bytes.len() - 15;

        let (body, next) = answer(bytes).unwrap().unwrap();

        assert_eq!((packets(body).collect::<Vec<_>>(), next), (vec![&b"2"[..], b"6"], whole));
        for cut in 0..whole {
            assert_eq!(answer(&bytes[..cut]), Ok(None), "{cut}");
        }
    }

    #[test]
    fn what_is_no_good_answer_is_refused() {
        assert_eq!(answer(b"HTTP/1.1 400 Bad"), Err(Refused));
        assert_eq!(answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), Err(Refused));
    }

    #[test]
    fn packets_wait_for_the_post_under_way() {
        let mut polling = Polling::new(([127, 0, 0, 1], 80).into());
        polling.opened(br#"0{"sid":"abc","upgrades":[]}"#).unwrap();

        let first = text(polling.say(b"40"));
        assert_eq!((polling.say(b"3"), polling.say(b"42[]")), (None, None));
        let second = text(polling.posted());

        assert!(first.starts_with("POST /socket.io/?EIO=4&transport=polling&sid=abc "), "{first}");
        assert!(first.ends_with("\r\nContent-Length: 2\r\n\r\n40"), "{first}");
        assert!(second.ends_with("\r\n\r\n3\x1e42[]"), "{second}");
        assert_eq!(polling.posted(), None);
    }
}
