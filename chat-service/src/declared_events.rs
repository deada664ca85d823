//! The events that applications declare: who may send them, whom they reach, and what of them leaves.

mod data;
mod declaration;
mod inboxes;
mod instance;
mod rate;
mod schema;

use std::{num::NonZeroUsize, sync::Arc};

use foldhash::{HashMap, HashSet};
use serde::Deserialize;

pub(crate) use self::{
    data::{Address, Data, Sender},
    declaration::{RETAINED_COUNT_MAX, read_events},
    rate::{Allowance, Allowances, Rate},
};
use self::{inboxes::Inboxes, schema::Schema};
use crate::{retained::ValueKey, user::User};

/// The events that one namespace declares.
#[derive(Debug, Default)]
pub(crate) struct DeclaredEvents {
    by_name: HashMap<Box<str>, Arc<DeclaredEvent>>,
    pub(crate) inboxes: Inboxes,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct DeclaredEvent {
    pub(crate) name: Arc<str>,
    /// Among all that are declared, from 0.
    pub(crate) number: usize,
    pub(crate) audience: Audience,
    pub(crate) from: From,
    /// It goes into the log of the room, or of the user's inbox.
    pub(crate) is_logged: bool,
    /// The socket that sends it gets it too.
    pub(crate) echoes: bool,
    /// How often one socket may send it.
    pub(crate) rate: Option<Rate>,
    /// Its latest value is given to whoever joins.
    pub(crate) retain: Option<Retain>,
    schema: Schema,
    /// The fields that leave.
    public: HashSet<Box<str>>,
}

/// Whom an event reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Audience {
    /// Whoever is in a room. A client must be in it itself.
    Room,
    /// All sockets of a user.
    User,
    /// The other sockets of the user who sends it.
    Sender,
    /// All sockets of the namespace.
    Everyone,
}

/// Who may send an event. Other services always may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum From {
    Services,
    Clients,
}

/// Which latest values of an event are kept in a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Retain {
    /// One.
    Single,
    /// One for each value of a field, and at most so many.
    ByField {
        field: Box<str>,
        count_max: NonZeroUsize,
        /// An event in which this field is true leaves no value.
        cleared_by: Option<Box<str>>,
    },
    /// One for each user who is in the room.
    ByUser,
}

impl DeclaredEvents {
    pub(crate) fn new(events: impl IntoIterator<Item = DeclaredEvent>, inboxes: Inboxes) -> Self {
        let by_name = events.into_iter().map(|event| (event.name.as_ref().into(), Arc::new(event)));
        Self { by_name: by_name.collect(), inboxes }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Arc<DeclaredEvent>> {
        self.by_name.get(name)
    }

    /// Whether the latest value of any of them is kept.
    pub(crate) fn retain_any(&self) -> bool {
        self.iter().any(|event| event.retain.is_some())
    }

    /// Whether the latest value of any of them is in rooms' logs.
    pub(crate) fn retain_logged(&self) -> bool {
        self.iter().any(|event| event.retain.is_some() && event.is_logged)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<DeclaredEvent>> {
        self.by_name.values()
    }
}

impl DeclaredEvent {
    /// Which latest value an event with this key becomes, if any.
    pub(crate) fn value_key(
        &self,
        key: Option<Box<str>>,
        user: Option<&Arc<User>>,
    ) -> Option<ValueKey> {
        match self.retain.as_ref()? {
            Retain::Single => Some(ValueKey::Single),
            Retain::ByField { .. } => key.map(ValueKey::Field),
            Retain::ByUser => user.map(|user| ValueKey::User(Arc::clone(user))),
        }
    }

    /// Whether it is worth nothing later.
    pub(crate) fn is_volatile(&self) -> bool {
        !self.is_logged && self.retain.is_none()
    }

    /// Whether it is kept for the user whom it is for.
    pub(crate) fn goes_to_inbox(&self) -> bool {
        self.is_logged && self.audience == Audience::User
    }

    pub(crate) fn is_public(&self, field: &str) -> bool {
        self.public.contains(field)
    }
}

impl Retain {
    fn field(&self) -> Option<&str> {
        match self {
            Self::ByField { field, .. } => Some(field),
            Self::Single | Self::ByUser => None,
        }
    }
}
