//! How large a message may be: less before the client has been let in anywhere than after.

use super::Connection;

/// The bounds of all connections, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PayloadBounds {
    /// For a client that is in no namespace yet: nobody knows who it is.
    pub(crate) before_entry: usize,
    pub(crate) after_entry: usize,
}

impl PayloadBounds {
    /// The second bound holds for everybody, also where the first is set to more.
    pub(crate) fn new(before_entry: usize, after_entry: usize) -> Self {
        Self { before_entry: before_entry.min(after_entry), after_entry }
    }
}

impl Connection {
    /// Its client is in a namespace from now on, and known as well as that namespace wants to know its clients. It stays known
    /// when it leaves.
    pub(crate) fn set_entered(&self) {
        self.has_entered.set(true);
    }

    pub(crate) fn has_entered(&self) -> bool {
        self.has_entered.get()
    }

    /// How large a message of the client may be at the moment.
    pub(crate) fn payload_bytes_max(&self) -> usize {
        let bounds = self.common.payload_bounds;
        if self.has_entered.get() { bounds.after_entry } else { bounds.before_entry }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_for_strangers_is_never_the_larger_one() {
        let bounds = PayloadBounds::new(65_536, 1000);

        assert_eq!(bounds, PayloadBounds { before_entry: 1000, after_entry: 1000 });
    }
}
