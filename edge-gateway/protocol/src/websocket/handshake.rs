//! Checks the client's half of the opening handshake (RFC 6455 §4.2.1) and computes our answer.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

/// RFC 6455 §1.3: what a server appends to the key to prove that it speaks WebSocket.
const ACCEPT_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What a request says about the upgrade. A header that is absent is an empty string; one that is
/// present several times is its values joined with commas (RFC 9110 §5.3).
#[derive(Debug, Clone, Copy)]
pub struct Handshake<'a> {
    /// The request method.
    pub method: &'a str,
    /// `Upgrade`
    pub upgrade: &'a str,
    /// `Connection`
    pub connection: &'a str,
    /// `Sec-WebSocket-Version`
    pub version: &'a str,
    /// `Sec-WebSocket-Key`
    pub key: &'a str,
}

impl Handshake<'_> {
    /// Returns the `Sec-WebSocket-Accept` value for a request that asks for a WebSocket as it must.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong with the request.
    pub fn accept(&self) -> Result<String, HandshakeError> {
        if self.method != "GET" {
            return Err(HandshakeError::Method);
        }
        if !has_token(self.upgrade, "websocket") {
            return Err(HandshakeError::Upgrade);
        }
        if !has_token(self.connection, "upgrade") {
            return Err(HandshakeError::Connection);
        }
        if self.version.trim() != "13" {
            return Err(HandshakeError::Version);
        }
        accept_key(self.key.trim()).ok_or(HandshakeError::Key)
    }
}

/// Why a request is not a WebSocket handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// Only GET can be upgraded.
    #[error("method is not GET")]
    Method,
    /// `Upgrade` does not offer `websocket`.
    #[error("upgrade header does not offer websocket")]
    Upgrade,
    /// `Connection` does not contain `upgrade`.
    #[error("connection header does not ask for an upgrade")]
    Connection,
    /// `Sec-WebSocket-Version` is not 13.
    #[error("websocket version is not 13")]
    Version,
    /// `Sec-WebSocket-Key` is not 16 bytes of base64.
    #[error("websocket key is not 16 bytes of base64")]
    Key,
}

impl HandshakeError {
    /// HTTP status of the refusal. 426 must be sent with `Sec-WebSocket-Version: 13` (§4.4).
    pub const fn status_code(self) -> u16 {
        match self {
            Self::Version => 426,
            Self::Method | Self::Upgrade | Self::Connection | Self::Key => 400,
        }
    }
}

/// Returns the `Sec-WebSocket-Accept` value for a key, or `None` if the key is not 16 bytes of
/// base64 (RFC 6455 §4.2.2).
pub fn accept_key(sec_websocket_key: &str) -> Option<String> {
    if !is_sixteen_bytes_of_base64(sec_websocket_key) {
        return None;
    }
    let digest = Sha1::new().chain_update(sec_websocket_key).chain_update(ACCEPT_GUID).finalize();
    Some(STANDARD.encode(digest))
}

/// Looks at the shape only. The unused bits of the last digit may be set: RFC 4648 §3.5 lets a
/// decoder choose, other servers do not mind, and nobody reads the bytes.
fn is_sixteen_bytes_of_base64(key: &str) -> bool {
    match key.strip_suffix("==") {
        Some(digits) => {
            digits.len() == 22
                && digits.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
        }
        None => false,
    }
}

fn has_token(list: &str, token: &str) -> bool {
    list.split(',').any(|item| item.trim().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn request() -> Handshake<'static> {
        Handshake {
            method: "GET",
            upgrade: "websocket",
            connection: "Upgrade",
            version: "13",
            key: KEY,
        }
    }

    #[test]
    fn the_example_of_the_rfc_gets_the_answer_of_the_rfc() {
        assert_eq!(request().accept().as_deref(), Ok("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    }

    #[test]
    fn tokens_are_found_in_lists_and_in_any_case() {
        let request =
            Handshake { upgrade: "h2c, WebSocket", connection: "keep-alive,UPGRADE", ..request() };

        assert!(request.accept().is_ok());
    }

    #[test]
    fn each_missing_part_is_refused_with_its_reason() {
        let cases = [
            (Handshake { method: "POST", ..request() }, HandshakeError::Method, 400),
            (Handshake { upgrade: "", ..request() }, HandshakeError::Upgrade, 400),
            (Handshake { upgrade: "websockets", ..request() }, HandshakeError::Upgrade, 400),
            (Handshake { connection: "close", ..request() }, HandshakeError::Connection, 400),
            (Handshake { version: "8", ..request() }, HandshakeError::Version, 426),
            (Handshake { version: "", ..request() }, HandshakeError::Version, 426),
            (Handshake { version: "13, 8", ..request() }, HandshakeError::Version, 426),
            (Handshake { key: "", ..request() }, HandshakeError::Key, 400),
        ];

        for (request, error, status) in cases {
            assert_eq!(request.accept(), Err(error), "{request:?}");
            assert_eq!(error.status_code(), status);
        }
    }

    #[test]
    fn a_key_is_sixteen_bytes_of_base64() {
        let long = "A".repeat(64 * 1024);
        let refused =
            ["AAAA", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZQA=", "é==", "==", &long];

        for key in refused {
            assert_eq!(accept_key(key), None, "{key}");
        }
        assert!(accept_key("AAAAAAAAAAAAAAAAAAAAAA==").is_some());
        assert!(accept_key("+/AAAAAAAAAAAAAAAAAAAB==").is_some(), "unused bits do not matter");
    }
}
