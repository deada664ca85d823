//! What a session's packets travel on: long-polling first, and a WebSocket after the upgrade.

pub(crate) mod direct;
pub(crate) mod leave;
pub(crate) mod mailbox;
pub(crate) mod payload;
pub(crate) mod polling;
pub(crate) mod probe;
pub(crate) mod standing;
