//! What the rooms of each namespace keep: from the settings, and from a file for those with terms of their own.

use std::{collections::HashMap, num::NonZeroUsize, path::Path, sync::Arc, time::Duration};

use serde::Deserialize;
use toml::Spanned;

use crate::{
    declared_events::{DeclaredEvents, read_events},
    room_key::is_namespace,
    room_log::{Durability, Retention},
    room_rules::RoomRules,
    toml_file::{Fields, TomlFile, TomlFileError, read_text},
};

/// The terms of every namespace.
#[derive(Debug)]
pub(crate) struct Namespaces {
    /// Of those that the file does not name.
    other: NamespaceSettings,
    named: HashMap<Box<str>, NamespaceSettings>,
    /// Of the namespaces that declare any.
    events: HashMap<Box<str>, Arc<DeclaredEvents>>,
    /// Of the namespaces that the file names: who may be in which rooms.
    rules: HashMap<Box<str>, Arc<RoomRules>>,
    other_rules: Arc<RoomRules>,
    /// Of those that want to know how far their rooms' logs reach each user: how many users of a room are followed.
    followed_users_max: HashMap<Box<str>, usize>,
}

/// How many users of a room are followed, unless the namespace says otherwise.
const FOLLOWED_USERS_MAX: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

/// The terms of one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamespaceSettings {
    /// How much of each room's log is kept.
    pub(crate) retention: Retention,
    /// What that survives.
    pub(crate) durability: Durability,
}

/// A duration, as it is written: `30days`.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
struct Age(#[serde(deserialize_with = "duration")] Duration);

impl Namespaces {
    /// Those of the file, and the same terms for all others.
    pub(crate) fn read(
        path: Option<&Path>,
        other: NamespaceSettings,
    ) -> Result<Self, TomlFileError> {
        match path {
            Some(path) => Self::parse(path, &read_text(path)?, other),
            None => Ok(Self::alike(other)),
        }
    }

    /// Has all rooms open, or closed but for what is allowed, where the file does not say which.
    pub(crate) fn with_open_rooms(mut self, is_open: bool) -> Self {
        self.other_rules = RoomRules::of_others(is_open);
        for rules in self.rules.values_mut() {
            if let Some(rules) = Arc::get_mut(rules) {
                rules.complete(is_open);
            }
        }
        self
    }

    /// The same terms for all.
    pub(crate) fn alike(other: NamespaceSettings) -> Self {
        let (named, events, rules) = (HashMap::new(), HashMap::new(), HashMap::new());
        let other_rules = RoomRules::of_others(false);
        Self { other, named, events, rules, other_rules, followed_users_max: HashMap::new() }
    }

    pub(crate) fn parse(
        path: &Path,
        text: &str,
        other: NamespaceSettings,
    ) -> Result<Self, TomlFileError> {
        let mut file = TomlFile::new(path, text);
        let mut fields = file.fields();
        let mut namespaces = Self::alike(other);
        let mut event_count = 0;
        for (name, mut fields) in fields.tables(&mut file, "namespace") {
            check_name(&mut file, &name);
            let name: Box<str> = name.into_inner().into();
            let events = read_events(&mut file, &mut fields, &mut event_count);
            if !events.is_empty() {
                namespaces.events.insert(name.clone(), Arc::new(events));
            }
            let rules = RoomRules::read(&mut file, &mut fields);
            namespaces.rules.insert(name.clone(), Arc::new(rules));
            if let Some(users_max) = read_followed_users_max(&mut file, &mut fields) {
                namespaces.followed_users_max.insert(name.clone(), users_max);
            }
            let settings = read_settings(&mut file, fields, &namespaces.other);
            namespaces.named.insert(name, settings);
        }
        fields.finish(&mut file);
        file.finish()?;
        Ok(namespaces)
    }

    /// Whether any namespace has its rooms on disk.
    pub(crate) fn has_disk(&self) -> bool {
        let mut all = self.named.values().chain([&self.other]);
        all.any(|settings| settings.durability != Durability::Memory)
    }

    /// The terms of a namespace.
    pub(crate) fn get(&self, namespace: &str) -> &NamespaceSettings {
        self.named.get(namespace).unwrap_or(&self.other)
    }

    /// The events that a namespace declares, if it does.
    pub(crate) fn events(&self, namespace: &str) -> Option<&Arc<DeclaredEvents>> {
        self.events.get(namespace)
    }

    /// Who may be in which rooms of a namespace.
    pub(crate) fn rules(&self, namespace: &str) -> &Arc<RoomRules> {
        self.rules.get(namespace).unwrap_or(&self.other_rules)
    }

    /// How many users of a room are followed, if that is wanted.
    pub(crate) fn followed_users_max(&self, namespace: &str) -> Option<usize> {
        self.followed_users_max.get(namespace).copied()
    }

    /// The namespaces in which users are followed.
    pub(crate) fn following(&self) -> impl Iterator<Item = &str> {
        self.followed_users_max.keys().map(|name| &**name)
    }

    /// All namespaces that declare events, with these.
    pub(crate) fn all_events(&self) -> impl Iterator<Item = (&str, &DeclaredEvents)> {
        self.events.iter().map(|(namespace, events)| (&**namespace, &**events))
    }
}

fn check_name(file: &mut TomlFile<'_>, name: &Spanned<String>) {
    if !is_namespace(name.get_ref()) {
        let message = format_args!(
            "{} is no namespace: it starts with a slash and has no control characters",
            name.get_ref()
        );
        file.add(&name.span(), message);
    }
}

fn read_followed_users_max(file: &mut TomlFile<'_>, fields: &mut Fields<'_>) -> Option<usize> {
    let is_wanted = fields.read::<bool>(file, "delivery_watermark");
    let users_max = fields.read::<NonZeroUsize>(file, "delivery_users_max");
    if is_wanted.is_some_and(Spanned::into_inner) {
        return Some(users_max.map_or(FOLLOWED_USERS_MAX, Spanned::into_inner).get());
    }
    if let Some(users_max) = users_max {
        file.add(&users_max.span(), "delivery_users_max means nothing without delivery_watermark");
    }
    None
}

fn read_settings(
    file: &mut TomlFile<'_>,
    mut fields: Fields<'_>,
    other: &NamespaceSettings,
) -> NamespaceSettings {
    let count_max = fields.read::<NonZeroUsize>(file, "history_count");
    let age_max = fields.read::<Age>(file, "history_age");
    let durability = fields.read::<Durability>(file, "durability");
    fields.finish(file);
    let retention = Retention {
        count_max: count_max.map_or(other.retention.count_max, Spanned::into_inner),
        age_max: age_max.map_or(other.retention.age_max, |age| age.into_inner().0),
    };
    let durability = durability.map_or(other.durability, Spanned::into_inner);
    NamespaceSettings { retention, durability }
}

fn duration<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(value)?;
    humantime::parse_duration(&text).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHER: NamespaceSettings = NamespaceSettings {
        retention: Retention {
            count_max: NonZeroUsize::new(1000).unwrap(),
            age_max: Duration::from_secs(60),
        },
        durability: Durability::Disk,
    };

    fn parse(text: &str) -> Result<Namespaces, String> {
        let parsed = Namespaces::parse(Path::new("ns.toml"), text, OTHER);
        parsed.map_err(|error| error.to_string())
    }

    #[test]
    fn a_namespace_has_terms_of_its_own() {
        let namespaces =
            parse("[namespace.'/news']\nhistory_count = 3\n[namespace.'/a']\nhistory_age = '1h'")
                .unwrap();

        let retention = |namespace| {
            let Retention { count_max, age_max } = namespaces.get(namespace).retention;
            (count_max.get(), age_max.as_secs())
        };
        assert_eq!(retention("/news"), (3, 60));
        assert_eq!(retention("/a"), (1000, 3600));
        assert_eq!(retention("/chat"), (1000, 60));
    }

    #[test]
    fn a_namespace_has_a_durability_of_its_own() {
        let namespaces = parse(
            "[namespace.'/a']\ndurability = 'memory'\n[namespace.'/b']\ndurability = 'disk+fsync'",
        )
        .unwrap();

        let labels = ["/a", "/b", "/c"].map(|name| namespaces.get(name).durability.label());
        assert_eq!(labels, ["memory", "disk+fsync", "disk"]);
    }

    #[test]
    fn users_are_followed_where_that_is_said() {
        let namespaces = parse(
            "[namespace.'/a']\ndelivery_watermark = true\n\
             [namespace.'/b']\ndelivery_watermark = true\ndelivery_users_max = 3\n\
             [namespace.'/c']\ndelivery_watermark = false",
        )
        .unwrap();

        let users_max = ["/a", "/b", "/c", "/d"].map(|name| namespaces.followed_users_max(name));
        assert_eq!(users_max, [Some(10_000), Some(3), None, None]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let cases = [
            ("[namespace.'/a']\nhistory = 1", "ns.toml:2: unknown field `history`"),
            ("[namespace.'/a']\nhistory_count = 0", "ns.toml:2: history_count: invalid value"),
            ("[namespace.'/a']\n\nhistory_age = 'long'", "ns.toml:3: "),
            (
                "[namespace.'/a']\ndurability = 'tape'",
                "ns.toml:2: durability: unknown variant `tape`",
            ),
            (
                "[namespace.'/a']\ndelivery_users_max = 5",
                "ns.toml:2: delivery_users_max means nothing without delivery_watermark",
            ),
            ("[namespace.'a']", "ns.toml:1: a is no namespace"),
            ("[name", "ns.toml:1: "),
        ];
        for (text, expected) in cases {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }
}
