//! Sends every message back as it came, where that is what the edge is for.

use edge_protocol::{
    engine_io::MESSAGE_TYPE,
    websocket::{Opcode, frame_header_len, put_frame_header},
};

use super::{ConnectionKey, Flow, Shard};

impl Shard {
    /// Echoes a text that an Engine.IO packet has brought.
    pub(super) fn echo_packet(&mut self, key: ConnectionKey, text: &str) -> Flow {
        self.echo(key, Opcode::Text, &[&[MESSAGE_TYPE], text.as_bytes()])
    }

    /// Echoes a text or bytes that a WebSocket frame has brought.
    pub(super) fn echo_frame(
        &mut self,
        key: ConnectionKey,
        opcode: Opcode,
        payload: &[u8],
    ) -> Flow {
        self.echo(key, opcode, &[payload])
    }

    fn echo(&mut self, key: ConnectionKey, opcode: Opcode, parts: &[&[u8]]) -> Flow {
        let len = parts.iter().map(|part| part.len()).sum();
        let mut frame = Vec::with_capacity(frame_header_len(len) + len);
        put_frame_header(&mut frame, opcode, len);
        for part in parts {
            frame.extend_from_slice(part);
        }
        if opcode == Opcode::Binary {
            self.send_with_bytes(key, frame);
        } else {
            self.send(key, frame);
        }
        self.flow(key)
    }
}
