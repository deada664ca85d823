//! Decides who may be in which rooms of a namespace, and what they may do there.

mod capabilities;
mod pattern;
mod rule;

use std::sync::Arc;

use serde::Deserialize;
use toml::{Spanned, de::DeValue};

pub(crate) use self::{
    capabilities::{Capabilities, CapabilitiesError, SharedCapabilities},
    rule::{Action, Deed},
};
use self::{
    pattern::{NamePattern, ParsePatternError, RoomPattern},
    rule::{Actions, Rule},
};
use crate::{
    toml_file::{Fields, TomlFile},
    user::User,
};

/// The rules of one namespace. What any rule denies is refused, whatever else is said of it.
#[derive(Debug, Default)]
pub(crate) struct RoomRules {
    /// Whether all is allowed that is not denied. Absent where the namespace does not say.
    is_open: Option<bool>,
    allow: Vec<Rule>,
    deny: Vec<Rule>,
}

impl RoomRules {
    /// Those of a namespace that has none of its own.
    pub(crate) fn of_others(is_open: bool) -> Arc<Self> {
        Arc::new(Self { is_open: Some(is_open), ..Self::default() })
    }

    /// Reads the rules from the table of a namespace.
    pub(crate) fn read(file: &mut TomlFile<'_>, namespace: &mut Fields<'_>) -> Self {
        let open = namespace.read::<bool>(file, "open");
        let (allow, deny) = (namespace.take("allow"), namespace.take("deny"));
        let is_open = match (&open, &allow) {
            (Some(open), Some(_)) if *open.get_ref() => {
                file.add(
                    &open.span(),
                    "open and allow exclude each other: in open rooms all is allowed",
                );
                Some(true)
            }
            // Who says what is allowed has said that nothing else is.
            (_, Some(_)) => Some(false),
            (open, None) => open.as_ref().map(|open| *open.get_ref()),
        };
        let allow = allow.map(|allow| read_rules(file, allow)).unwrap_or_default();
        let deny = deny.map(|deny| read_rules(file, deny)).unwrap_or_default();
        Self { is_open, allow, deny }
    }

    /// Has the rooms open or closed where the namespace does not say which.
    pub(crate) fn complete(&mut self, is_open: bool) {
        self.is_open.get_or_insert(is_open);
    }

    /// Whether a user with these capabilities may do this in the room of that name. An event that goes to no room has the empty name.
    pub(crate) fn allow(
        &self,
        (user, capabilities): (&User, &Capabilities),
        deed: Deed<'_>,
        room: &str,
    ) -> bool {
        let is_of = |rule: &Rule| rule.is_of(user, deed, room);
        if self.deny.iter().any(is_of) {
            return false;
        }
        self.is_open == Some(true)
            || self.allow.iter().any(is_of)
            || capabilities.allow(user, deed, room)
    }
}

fn read_rules(file: &mut TomlFile<'_>, value: Spanned<DeValue<'_>>) -> Vec<Rule> {
    let span = value.span();
    let DeValue::Array(rules) = value.into_inner() else {
        file.add(&span, "this must be an array of tables");
        return Vec::new();
    };
    let mut read = Vec::new();
    for rule in rules {
        let Some(fields) = Fields::of_table(file, rule) else { continue };
        read.extend(read_rule(file, fields));
    }
    read
}

fn read_rule(file: &mut TomlFile<'_>, mut fields: Fields<'_>) -> Option<Rule> {
    let rooms = read_list(file, &mut fields, "rooms", "rooms must list at least one pattern");
    let problem = "actions must list join, publish, presence or history";
    let actions: Option<Vec<ActionName>> = read_list(file, &mut fields, "actions", problem);
    let events = fields.read::<Vec<Spanned<String>>>(file, "events");
    fields.finish(file);

    let rooms = parse_all(file, "rooms", rooms.unwrap_or_default(), RoomPattern::parse);
    let actions: Actions = actions?.into_iter().map(Action::from).collect();
    let events = events.map(|events| {
        if events.get_ref().is_empty() || actions != Actions::of(Action::Publish) {
            let problem = "events lists events, in a rule whose only action is publish";
            file.add(&events.span(), problem);
        }
        parse_all(file, "events", events.into_inner(), NamePattern::parse)
    });
    Some(Rule { rooms, actions, events: events.unwrap_or_default() })
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ActionName {
    Join,
    Publish,
    Presence,
    History,
}

impl From<ActionName> for Action {
    fn from(name: ActionName) -> Self {
        match name {
            ActionName::Join => Self::Join,
            ActionName::Publish => Self::Publish,
            ActionName::Presence => Self::Presence,
            ActionName::History => Self::History,
        }
    }
}

/// A list that must be there and not be empty.
fn read_list<'t, T: Deserialize<'t>>(
    file: &mut TomlFile<'_>,
    fields: &mut Fields<'t>,
    name: &str,
    problem: &str,
) -> Option<Vec<T>> {
    let begin = fields.span().clone();
    let is_there = fields.peek(name).is_some();
    let list = fields.read::<Vec<T>>(file, name).map(Spanned::into_inner);
    if !is_there || list.as_ref().is_some_and(Vec::is_empty) {
        file.add(&begin, problem);
    }
    list
}

fn parse_all<P>(
    file: &mut TomlFile<'_>,
    field: &str,
    texts: Vec<Spanned<String>>,
    parse: impl Fn(&str) -> Result<P, ParsePatternError>,
) -> Vec<P> {
    let mut patterns = Vec::new();
    for text in texts {
        match parse(text.get_ref()) {
            Ok(pattern) => patterns.push(pattern),
            Err(error) => file.add(&text.span(), format_args!("{field}: {error}")),
        }
    }
    patterns
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proto::auth::v1 as wire;

    use super::*;

    fn read(text: &str) -> Result<RoomRules, String> {
        let mut file = TomlFile::new(Path::new("ns.toml"), text);
        let mut fields = file.fields();
        let rules = RoomRules::read(&mut file, &mut fields);
        fields.finish(&mut file);
        file.finish().map_err(|error| error.to_string())?;
        Ok(rules)
    }

    fn ann() -> User {
        User::parse("ann", "test", b"{}").unwrap()
    }

    fn nothing() -> Capabilities {
        Capabilities::default()
    }

    #[test]
    fn what_no_rule_allows_is_refused_and_what_any_rule_denies() {
        let rules = read(
            "[[allow]]\nrooms = ['team.*', 'user.{subject}']\nactions = ['join', 'publish']\n\
             [[allow]]\nrooms = ['news']\nactions = ['join', 'history']\n\
             [[allow]]\nrooms = ['news']\nactions = ['publish']\nevents = ['typ*', 'like']\n\
             [[deny]]\nrooms = ['team.board']\nactions = ['join']\n\
             [[deny]]\nrooms = ['*']\nactions = ['publish']\nevents = ['cursor']",
        )
        .unwrap();

        let may = |deed, room| rules.allow((&ann(), &nothing()), deed, room);
        for (deed, room, expected) in [
            (Deed::Join, "team.a", true),
            (Deed::Join, "team", false),
            (Deed::Join, "team.board", false),
            (Deed::Join, "user.ann", true),
            (Deed::Join, "user.bob", false),
            (Deed::Join, "elsewhere", false),
            (Deed::History, "news", true),
            (Deed::History, "team.a", false),
            (Deed::Presence, "news", false),
            (Deed::Publish("message"), "team.a", true),
            (Deed::Publish("cursor"), "team.a", false),
            (Deed::Publish("message"), "news", false),
            (Deed::Publish("typing"), "news", true),
            (Deed::Publish("like"), "news", true),
            (Deed::Publish("likely"), "news", false),
        ] {
            assert_eq!(may(deed, room), expected, "{deed:?} {room}");
        }
    }

    #[test]
    fn rooms_are_closed_unless_they_are_opened_in_so_many_words() {
        let may = |text: &str, by_default: bool, room: &str| {
            let mut rules = read(text).unwrap();
            rules.complete(by_default);
            rules.allow((&ann(), &nothing()), Deed::Join, room)
        };
        let deny = "[[deny]]\nrooms = ['board']\nactions = ['join']";
        let allow = "[[allow]]\nrooms = ['news']\nactions = ['join']";

        for (text, by_default, lobby) in [
            ("", false, false),
            ("", true, true),
            ("open = true", false, true),
            ("open = false", true, false),
            ("allow = []", true, false),
            (allow, true, false),
            (deny, false, false),
            (deny, true, true),
        ] {
            assert_eq!(may(text, by_default, "lobby"), lobby, "{text} {by_default}");
        }
        assert!(may(allow, false, "news"));
        assert!(!may(&format!("open = true\n{deny}"), true, "board"));
        assert!(!RoomRules::default().allow((&ann(), &nothing()), Deed::Join, "lobby"));
    }

    #[test]
    fn a_capability_allows_beside_the_rules_and_is_denied_by_them() {
        let capability = wire::Capability {
            actions: vec![wire::capability::Action::Join.into()],
            rooms: vec!["own.*".to_owned()],
            events: Vec::new(),
        };
        let own = Capabilities::parse(&[capability]).unwrap();
        let rules = read(
            "[[allow]]\nrooms = ['news']\nactions = ['join']\n\
             [[deny]]\nrooms = ['*.board']\nactions = ['join']",
        )
        .unwrap();

        let may = |deed, room| rules.allow((&ann(), &own), deed, room);
        assert!(may(Deed::Join, "own.a") && may(Deed::Join, "news"));
        assert!(!may(Deed::Join, "own.board") && !may(Deed::Join, "other"));
        assert!(!may(Deed::Presence, "own.a"));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let cases = [
            ("allow = 1", "ns.toml:1: this must be an array of tables"),
            ("allow = [1]", "ns.toml:1: this must be a table"),
            ("[[allow]]\nactions = ['join']", "ns.toml:1: rooms must list at least one pattern"),
            (
                "[[allow]]\nrooms = ['a']",
                "ns.toml:1: actions must list join, publish, presence or history",
            ),
            (
                "[[allow]]\nrooms = ['a']\nactions = ['leave']",
                "ns.toml:3: actions: unknown variant",
            ),
            (
                "[[allow]]\nrooms = ['a']\nactions = ['join']\nevent = 'x'",
                "ns.toml:4: unknown field `event`",
            ),
            (
                "[[allow]]\nrooms = ['a']\nactions = ['join', 'publish']\nevents = ['x']",
                "ns.toml:4: events lists events, in a rule whose only action is publish",
            ),
            (
                "[[allow]]\nrooms = [\n'a',\n'@ann']\nactions = ['join']",
                "ns.toml:4: rooms: it must not begin with @",
            ),
            (
                "open = true\n[[allow]]\nrooms = ['a']\nactions = ['join']",
                "ns.toml:1: open and allow exclude each other",
            ),
        ];
        for (text, expected) in cases {
            let error = read(text).unwrap_err();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }
}
