//! Which sockets an emit has reached already, or must not reach.

use crate::shard::SocketKey;

/// Notes which sockets an emit has reached or must not reach, so that the union of an audience gets it once. Never cleared:
/// each emit has a number of its own.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    number: u32,
    /// By socket key: the number of the last emit that was done with this socket.
    by_socket: Vec<u32>,
}

impl Marks {
    pub(super) fn begin(&mut self, sockets: usize) {
        if self.number == u32::MAX {
            self.by_socket.clear();
            self.number = 0;
        }
        self.number += 1;
        if self.by_socket.len() < sockets {
            self.by_socket.resize(sockets, 0);
        }
    }

    /// Whether this emit was not yet done with `socket`; from now on it is.
    pub(in crate::shard) fn first(&mut self, socket: SocketKey) -> bool {
        match self.by_socket.get_mut(socket.index()) {
            Some(mark) if *mark != self.number => {
                *mark = self.number;
                true
            }
            _ => false,
        }
    }
}
