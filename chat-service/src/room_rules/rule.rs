//! Says what somebody may do in some rooms, or may not.

use super::pattern::{NamePattern, RoomPattern};
use crate::user::User;

/// What a client wants to do in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed<'e> {
    /// To be in it, and get what is sent there.
    Join,
    /// To send this event into it.
    Publish(&'e str),
    /// To see who is in it, and who comes and goes.
    Presence,
    /// To get what was sent there before.
    History,
}

/// What kind of deed it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Join,
    Publish,
    Presence,
    History,
}

/// A set of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Actions(u8);

/// Something that may be done, or may not.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) rooms: Vec<RoomPattern>,
    pub(super) actions: Actions,
    /// Only of these events; of all if there are none.
    pub(super) events: Vec<NamePattern>,
}

impl Deed<'_> {
    pub(crate) fn action(self) -> Action {
        match self {
            Self::Join => Action::Join,
            Self::Publish(_) => Action::Publish,
            Self::Presence => Action::Presence,
            Self::History => Action::History,
        }
    }
}

impl Action {
    /// All of them, for metrics.
    pub(crate) const ALL: [Self; 4] = [Self::Join, Self::Publish, Self::Presence, Self::History];

    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Publish => "publish",
            Self::Presence => "presence",
            Self::History => "history",
        }
    }

    const fn bit(self) -> u8 {
        match self {
            Self::Join => 1,
            Self::Publish => 2,
            Self::Presence => 4,
            Self::History => 8,
        }
    }
}

impl Actions {
    pub(super) const fn of(action: Action) -> Self {
        Self(action.bit())
    }

    pub(super) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    const fn contain(self, action: Action) -> bool {
        self.0 & action.bit() != 0
    }
}

impl FromIterator<Action> for Actions {
    fn from_iter<I: IntoIterator<Item = Action>>(actions: I) -> Self {
        Self(actions.into_iter().fold(0, |bits, action| bits | action.bit()))
    }
}

impl Rule {
    pub(super) fn is_of(&self, user: &User, deed: Deed<'_>, room: &str) -> bool {
        let is_of_event = match deed {
            Deed::Publish(event) => {
                self.events.is_empty() || self.events.iter().any(|pattern| pattern.matches(event))
            }
            Deed::Join | Deed::Presence | Deed::History => true,
        };
        self.actions.contain(deed.action())
            && is_of_event
            && self.rooms.iter().any(|pattern| pattern.matches(user, room))
    }
}
