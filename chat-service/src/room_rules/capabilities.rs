//! What a user may do by what its token says. Users with equal capabilities share them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use proto::auth::v1 as wire;
use thiserror::Error;

use super::{
    pattern::{NamePattern, ParsePatternError, RoomPattern},
    rule::{Action, Actions, Deed, Rule},
};
use crate::user::User;

/// The bounds of the contract.
const CAPABILITIES_MAX: usize = 64;
const PATTERNS_MAX: usize = 64;
const BYTES_MAX: usize = 8 * 1024;

/// How many there may be before those that nobody has any more are looked for.
const SWEEP_MIN: usize = 256;

/// What somebody may do. By default nothing.
#[derive(Debug, Default)]
pub(crate) struct Capabilities {
    rules: Vec<Rule>,
}

/// Why an identity is unusable. Its capabilities come from the auth service, so that each is a fault of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum CapabilitiesError {
    #[error(
        "there are more than {CAPABILITIES_MAX} capabilities, or patterns of more than {BYTES_MAX} bytes"
    )]
    TooMany,
    #[error(
        "a capability has no action or no rooms, more than {PATTERNS_MAX} patterns, or events beside other actions"
    )]
    Shape,
    #[error("a pattern cannot be used: {0}")]
    Pattern(#[from] ParsePatternError),
}

impl Capabilities {
    pub(crate) fn parse(list: &[wire::Capability]) -> Result<Self, CapabilitiesError> {
        let patterns = list.iter().flat_map(|one| one.rooms.iter().chain(&one.events));
        let bytes = patterns.map(String::len).sum::<usize>();
        if list.len() > CAPABILITIES_MAX || bytes > BYTES_MAX {
            return Err(CapabilitiesError::TooMany);
        }
        let rules = list.iter().map(parse_rule).collect::<Result<_, _>>()?;
        Ok(Self { rules })
    }

    pub(super) fn allow(&self, user: &User, deed: Deed<'_>, room: &str) -> bool {
        self.rules.iter().any(|rule| rule.is_of(user, deed, room))
    }
}

fn parse_rule(capability: &wire::Capability) -> Result<Rule, CapabilitiesError> {
    let actions = capability.actions().map(|action| match action {
        wire::capability::Action::Join => Some(Action::Join),
        wire::capability::Action::Publish => Some(Action::Publish),
        wire::capability::Action::Presence => Some(Action::Presence),
        wire::capability::Action::History => Some(Action::History),
        // One that this service does not know allows nothing here.
        wire::capability::Action::Unspecified => None,
    });
    let actions: Actions = actions.flatten().collect();
    let wire::Capability { actions: named, rooms, events } = capability;
    let is_bounded = (1..=PATTERNS_MAX).contains(&rooms.len()) && events.len() <= PATTERNS_MAX;
    let has_stray_events = !events.is_empty() && actions != Actions::of(Action::Publish);
    if named.is_empty() || !is_bounded || (has_stray_events && !actions.is_empty()) {
        return Err(CapabilitiesError::Shape);
    }
    let rooms = rooms.iter().map(|room| RoomPattern::parse(room)).collect::<Result<_, _>>()?;
    let events = events.iter().map(|event| NamePattern::parse(event)).collect::<Result<_, _>>()?;
    Ok(Rule { rooms, actions, events })
}

/// The capabilities that there are, each once. A clone is another way to the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct SharedCapabilities {
    /// What most have.
    none: Arc<Capabilities>,
    /// Held for a lookup or an insertion at a time, never across an await.
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    lists: HashMap<Vec<wire::Capability>, Weak<Capabilities>>,
    /// With so many, those that nobody has are looked for.
    sweep_at: usize,
}

impl SharedCapabilities {
    /// Returns what these are, as everybody has it whose are equal.
    pub(crate) fn share(
        &self,
        list: Vec<wire::Capability>,
    ) -> Result<Arc<Capabilities>, CapabilitiesError> {
        if list.is_empty() {
            return Ok(Arc::clone(&self.none));
        }
        if let Some(shared) = self.known().of(&list) {
            return Ok(shared);
        }
        let parsed = Arc::new(Capabilities::parse(&list)?);
        let mut known = self.known();
        // Another link may have come first.
        if let Some(shared) = known.of(&list) {
            return Ok(shared);
        }
        if known.lists.len() >= known.sweep_at {
            known.lists.retain(|_, capabilities| capabilities.strong_count() > 0);
            // So that a sweep costs each that came since a bounded share.
            known.sweep_at = SWEEP_MIN.max(2 * known.lists.len());
        }
        known.lists.insert(list, Arc::downgrade(&parsed));
        Ok(parsed)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // A panic under the lock would leave the map whole: each change is one call on it.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn of(&self, list: &[wire::Capability]) -> Option<Arc<Capabilities>> {
        self.lists.get(list).and_then(Weak::upgrade)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capability(actions: &[i32], rooms: &[&str], events: &[&str]) -> wire::Capability {
        let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        wire::Capability { actions: actions.to_vec(), rooms: own(rooms), events: own(events) }
    }

    const JOIN: i32 = wire::capability::Action::Join as i32;
    const PUBLISH: i32 = wire::capability::Action::Publish as i32;
    const UNKNOWN: i32 = 99;

    #[test]
    fn allow_what_they_say_and_nothing_else() {
        let ann = User::parse("ann", "test", b"{}").unwrap();
        let capabilities = Capabilities::parse(&[
            capability(&[JOIN, PUBLISH, UNKNOWN], &["team.*", "user:{subject}"], &[]),
            capability(&[PUBLISH], &["news"], &["typ*"]),
            capability(&[UNKNOWN], &["*"], &["x"]),
        ])
        .unwrap();

        for (deed, room, expected) in [
            (Deed::Join, "team.a", true),
            (Deed::Join, "user:ann", true),
            (Deed::Join, "user:bob", false),
            (Deed::Join, "news", false),
            (Deed::Publish("any"), "team.a", true),
            (Deed::Publish("typing"), "news", true),
            (Deed::Publish("message"), "news", false),
            (Deed::Presence, "team.a", false),
            (Deed::History, "team.a", false),
            (Deed::Publish("x"), "elsewhere", false),
        ] {
            assert_eq!(capabilities.allow(&ann, deed, room), expected, "{deed:?} {room}");
        }
        assert!(!Capabilities::default().allow(&ann, Deed::Join, "team.a"));
    }

    #[test]
    fn bounds_are_those_of_the_contract() {
        let parse = |list: Vec<_>| Capabilities::parse(&list).map(drop);
        let rooms = |count: usize, bytes: usize| {
            let text = "x".repeat(bytes);
            capability(&[JOIN], &vec![&*text; count], &[])
        };

        assert_eq!(parse(vec![rooms(1, 1); 64]), Ok(()));
        assert_eq!(parse(vec![rooms(1, 1); 65]), Err(CapabilitiesError::TooMany));
        assert_eq!(parse(vec![rooms(32, 256)]), Ok(()));
        assert_eq!(parse(vec![rooms(32, 256), rooms(1, 1)]), Err(CapabilitiesError::TooMany));
        assert_eq!(parse(vec![rooms(64, 1)]), Ok(()));
        for bad in [
            rooms(65, 1),
            capability(&[], &["a"], &[]),
            capability(&[JOIN], &[], &[]),
            capability(&[JOIN, PUBLISH], &["a"], &["x"]),
            capability(&[PUBLISH], &["a"], &["x"; 65]),
        ] {
            assert_eq!(parse(vec![bad]), Err(CapabilitiesError::Shape));
        }
        let long = capability(&[JOIN], &[&"x".repeat(257)], &[]);
        let error = CapabilitiesError::Pattern(ParsePatternError::Length);
        assert_eq!(parse(vec![long]), Err(error));
    }

    #[test]
    fn equal_ones_are_kept_once_and_as_long_as_somebody_has_them() {
        let shared = SharedCapabilities::default();
        let list = |room: &str| vec![capability(&[JOIN], &[room], &[])];
        let kept = shared.share(list("a")).unwrap();

        assert!(Arc::ptr_eq(&kept, &shared.share(list("a")).unwrap()));
        assert!(!Arc::ptr_eq(&kept, &shared.share(list("b")).unwrap()));
        for number in 0..10_000 {
            shared.share(list(&number.to_string())).unwrap();
            assert!(shared.known.lock().unwrap().lists.len() <= SWEEP_MIN);
        }
        assert!(Arc::ptr_eq(&kept, &shared.share(list("a")).unwrap()));
    }
}
