//! Decides who may be in which rooms of a namespace, and who may send what there.

mod pattern;

use serde::Deserialize;
use toml::{Spanned, de::DeValue};

use self::pattern::{NamePattern, ParsePatternError, RoomPattern};
use crate::{
    toml_file::{Fields, TomlFile},
    user::User,
};

/// The rules of one namespace. What no rule allows is refused, and what any rule denies.
#[derive(Debug)]
pub(crate) struct RoomRules {
    allow: Vec<Rule>,
    deny: Vec<Rule>,
}

/// What a client wants to do in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed<'e> {
    /// To be in it: to get what is sent there, and to ask for its history and who is there.
    Join,
    /// To send this event into it.
    Publish(&'e str),
}

#[derive(Debug)]
struct Rule {
    rooms: Vec<RoomPattern>,
    is_of_join: bool,
    is_of_publish: bool,
    /// Only of these events; of all if there are none.
    events: Vec<NamePattern>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    Join,
    Publish,
}

impl RoomRules {
    /// Reads the rules from the table of a namespace. Without `allow`, it has none.
    pub(crate) fn read(file: &mut TomlFile<'_>, namespace: &mut Fields<'_>) -> Option<Self> {
        let (allow, deny) = (namespace.take("allow"), namespace.take("deny"));
        let deny_begin = deny.as_ref().map(Spanned::span);
        let deny = deny.map(|deny| read_rules(file, deny)).unwrap_or_default();
        let Some(allow) = allow else {
            if let Some(begin) = deny_begin {
                file.add(
                    &begin,
                    "deny means nothing without allow: what is not allowed is refused",
                );
            }
            return None;
        };
        Some(Self { allow: read_rules(file, allow), deny })
    }

    /// Whether a user may do this in the room of that name.
    pub(crate) fn allow(&self, user: &User, deed: Deed<'_>, room: &str) -> bool {
        let is_of = |rule: &Rule| rule.is_of(user, deed, room);
        self.allow.iter().any(is_of) && !self.deny.iter().any(is_of)
    }
}

impl Rule {
    fn is_of(&self, user: &User, deed: Deed<'_>, room: &str) -> bool {
        let is_of_deed = match deed {
            Deed::Join => self.is_of_join,
            Deed::Publish(event) => {
                let mut events = self.events.iter();
                self.is_of_publish
                    && (self.events.is_empty() || events.any(|pattern| pattern.matches(event)))
            }
        };
        is_of_deed && self.rooms.iter().any(|pattern| pattern.matches(user, room))
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
    let problem = "actions must list join, publish or both";
    let actions: Option<Vec<Action>> = read_list(file, &mut fields, "actions", problem);
    let events = fields.read::<Vec<Spanned<String>>>(file, "events");
    fields.finish(file);

    let rooms = parse_all(file, "rooms", rooms.unwrap_or_default(), RoomPattern::parse);
    let actions = actions?;
    let (is_of_join, is_of_publish) =
        (actions.contains(&Action::Join), actions.contains(&Action::Publish));
    let events = events.map(|events| {
        if events.get_ref().is_empty() || !is_of_publish || is_of_join {
            let problem = "events lists events, in a rule whose only action is publish";
            file.add(&events.span(), problem);
        }
        parse_all(file, "events", events.into_inner(), NamePattern::parse)
    });
    Some(Rule { rooms, is_of_join, is_of_publish, events: events.unwrap_or_default() })
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

    use super::*;

    fn read(text: &str) -> Result<Option<RoomRules>, String> {
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

    #[test]
    fn what_no_rule_allows_is_refused_and_what_any_rule_denies() {
        let rules = read(
            "[[allow]]\nrooms = ['team.*', 'user.{subject}']\nactions = ['join', 'publish']\n\
             [[allow]]\nrooms = ['news']\nactions = ['join']\n\
             [[allow]]\nrooms = ['news']\nactions = ['publish']\nevents = ['typ*', 'like']\n\
             [[deny]]\nrooms = ['team.board']\nactions = ['join']\n\
             [[deny]]\nrooms = ['*']\nactions = ['publish']\nevents = ['cursor']",
        )
        .unwrap()
        .unwrap();

        let may = |deed, room| rules.allow(&ann(), deed, room);
        for (deed, room, expected) in [
            (Deed::Join, "team.a", true),
            (Deed::Join, "team", false),
            (Deed::Join, "team.board", false),
            (Deed::Join, "user.ann", true),
            (Deed::Join, "user.bob", false),
            (Deed::Join, "elsewhere", false),
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
    fn a_namespace_has_no_rules_unless_it_says_so() {
        assert!(read("").unwrap().is_none());

        let closed = read("allow = []").unwrap().unwrap();
        assert!(!closed.allow(&ann(), Deed::Join, "lobby"));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let cases = [
            ("allow = 1", "ns.toml:1: this must be an array of tables"),
            ("allow = [1]", "ns.toml:1: this must be a table"),
            ("[[allow]]\nactions = ['join']", "ns.toml:1: rooms must list at least one pattern"),
            ("[[allow]]\nrooms = ['a']", "ns.toml:1: actions must list join, publish or both"),
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
                "[[deny]]\nrooms = ['a']\nactions = ['join']",
                "ns.toml:1: deny means nothing without allow",
            ),
        ];
        for (text, expected) in cases {
            let error = read(text).unwrap_err();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }
}
