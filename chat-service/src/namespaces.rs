//! What the rooms of each namespace keep: from the settings, and from a file for those with terms of their own.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    num::NonZeroUsize,
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use thiserror::Error;

use crate::{
    room_key::is_namespace,
    room_log::{Durability, Retention},
};

/// The terms of every namespace.
#[derive(Debug)]
pub(crate) struct Namespaces {
    /// Of those that the file does not name.
    other: NamespaceSettings,
    named: HashMap<Box<str>, NamespaceSettings>,
}

/// The terms of one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamespaceSettings {
    /// How much of each room's log is kept.
    pub(crate) retention: Retention,
    /// What that survives.
    pub(crate) durability: Durability,
}

/// Why the file of namespaces cannot be used.
#[derive(Debug, Error)]
pub enum ReadNamespacesError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is not TOML, or says something that means nothing here.
    #[error("{}:{line}: {message}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where in it, from 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// A namespace's name is not one.
    #[error("{}: {namespace} is no namespace: it starts with a slash and holds neither comma nor question mark", path.display())]
    Name {
        /// The file.
        path: PathBuf,
        /// The name.
        namespace: String,
    },
}

/// The file, as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct NamespacesFile {
    #[serde(default)]
    namespace: BTreeMap<String, Entry>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    history_count: Option<NonZeroUsize>,
    #[serde(default, deserialize_with = "duration")]
    history_age: Option<Duration>,
    durability: Option<Durability>,
}

impl Namespaces {
    /// Those of the file, and the same terms for all others.
    pub(crate) fn read(
        path: Option<&Path>,
        other: NamespaceSettings,
    ) -> Result<Self, ReadNamespacesError> {
        let Some(path) = path else { return Ok(Self::alike(other)) };
        let text = fs::read_to_string(path)
            .map_err(|source| ReadNamespacesError::Read { path: path.to_owned(), source })?;
        Self::parse(path, &text, other)
    }

    /// The same terms for all.
    pub(crate) fn alike(other: NamespaceSettings) -> Self {
        Self { other, named: HashMap::new() }
    }

    fn parse(
        path: &Path,
        text: &str,
        other: NamespaceSettings,
    ) -> Result<Self, ReadNamespacesError> {
        let file: NamespacesFile =
            toml::from_str(text).map_err(|error| ReadNamespacesError::Parse {
                path: path.to_owned(),
                line: line_of(text, error.span()),
                message: error.message().to_owned(),
            })?;
        let mut named = HashMap::new();
        for (namespace, entry) in file.namespace {
            if !is_namespace(&namespace) {
                return Err(ReadNamespacesError::Name { path: path.to_owned(), namespace });
            }
            named.insert(namespace.into(), entry.settings(&other));
        }
        Ok(Self { other, named })
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
}

impl Entry {
    fn settings(self, other: &NamespaceSettings) -> NamespaceSettings {
        let retention = Retention {
            count_max: self.history_count.unwrap_or(other.retention.count_max),
            age_max: self.history_age.unwrap_or(other.retention.age_max),
        };
        NamespaceSettings { retention, durability: self.durability.unwrap_or(other.durability) }
    }
}

fn line_of(text: &str, span: Option<Range<usize>>) -> usize {
    let before = span.and_then(|span| text.get(..span.start)).unwrap_or_default();
    before.lines().count().max(1) + usize::from(before.ends_with('\n'))
}

fn duration<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(value)?;
    humantime::parse_duration(&text).map(Some).map_err(serde::de::Error::custom)
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
    fn what_is_wrong_is_named_with_its_place() {
        let cases = [
            ("[namespace.'/a']\nhistory = 1", "ns.toml:2: unknown field `history`"),
            ("[namespace.'/a']\nhistory_count = 0", "ns.toml:2: invalid value"),
            ("[namespace.'/a']\n\nhistory_age = 'long'", "ns.toml:3: "),
            ("[namespace.'/a']\ndurability = 'tape'", "ns.toml:2: unknown variant `tape`"),
            ("[namespace.'a']", "ns.toml: a is no namespace"),
            ("[name", "ns.toml:1: "),
        ];
        for (text, expected) in cases {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }
}
