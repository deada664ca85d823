//! The first packet of a session, in which the server tells the client how they will talk.

use std::time::Duration;

use serde_json::Value;

/// What the open packet tells the client.
#[derive(Debug, Clone, Copy)]
pub struct OpenHandshake<'a> {
    /// Names the session towards this client.
    pub sid: &'a str,
    /// Transports that the session may be moved to.
    pub upgrades: &'a [&'a str],
    /// How often the server pings.
    pub ping_interval: Duration,
    /// How long the server waits for a pong.
    pub ping_timeout: Duration,
    /// Largest payload that the server takes.
    pub payload_bytes_max: usize,
}

impl OpenHandshake<'_> {
    /// Returns the packet, `0{"sid":…}`.
    pub fn encode(&self) -> String {
        format!(
            r#"0{{"sid":{},"upgrades":{},"pingInterval":{},"pingTimeout":{},"maxPayload":{}}}"#,
            Value::from(self.sid),
            Value::from(self.upgrades),
            self.ping_interval.as_millis(),
            self.ping_timeout.as_millis(),
            self.payload_bytes_max,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handshake<'a>(sid: &'a str, upgrades: &'a [&'a str]) -> OpenHandshake<'a> {
        OpenHandshake {
            sid,
            upgrades,
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            payload_bytes_max: 1_000_000,
        }
    }

    #[test]
    fn the_packet_is_the_one_of_the_reference_server() {
        assert_eq!(
            handshake("lv_VI97HAXpY6yYWAAAC", &["websocket"]).encode(),
            r#"0{"sid":"lv_VI97HAXpY6yYWAAAC","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#
        );
        assert_eq!(
            handshake("x", &[]).encode(),
            r#"0{"sid":"x","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#
        );
    }

    #[test]
    fn a_sid_is_escaped_whatever_it_holds() {
        assert!(handshake("a\"\n", &[]).encode().starts_with(r#"0{"sid":"a\"\n","upgrades":[],"#));
    }
}
