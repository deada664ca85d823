//! What a client is told when its session opens.

use std::time::Duration;

use edge_protocol::{
    engine_io::OpenHandshake,
    websocket::{Opcode, put_frame_header},
};

use crate::{config::Config, session_id::SessionId, shard_thread::to_usize};

/// What a Socket.IO client is told when its session opens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Open {
    ping_interval: Duration,
    ping_timeout: Duration,
    payload_bytes_max: usize,
    has_webtransport: bool,
}

impl Open {
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            ping_interval: config.ping_interval,
            ping_timeout: config.ping_timeout,
            payload_bytes_max: to_usize(config.client_limits.payload_bytes_max),
            has_webtransport: config.webtransport_listen.is_some(),
        }
    }

    /// What a session on long-polling can move to.
    pub(super) const fn upgrades(self, may_use_webtransport: bool) -> &'static [&'static str] {
        let has_both = self.has_webtransport && may_use_webtransport;
        if has_both { &["websocket", "webtransport"] } else { &["websocket"] }
    }

    /// The packet that opens a session, as a whole WebSocket frame.
    pub(crate) fn frame(self, session: SessionId, upgrades: &[&str]) -> Vec<u8> {
        let packet = OpenHandshake {
            sid: &session.to_string(),
            upgrades,
            ping_interval: self.ping_interval,
            ping_timeout: self.ping_timeout,
            payload_bytes_max: self.payload_bytes_max,
        };
        let packet = packet.encode();
        let mut frame = Vec::with_capacity(packet.len() + 4);
        put_frame_header(&mut frame, Opcode::Text, packet.len());
        frame.extend_from_slice(packet.as_bytes());
        frame
    }
}
