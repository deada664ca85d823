//! The namespaces that clients may enter, and on what terms: from the routes and from a file of their own.

use std::{
    collections::BTreeMap,
    fs, io,
    num::NonZeroU32,
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};

use http::{HeaderName, Uri};
use serde::Deserialize;

use crate::{
    config::{ConfigError, Route, is_namespace, parse_backend_url},
    cors::{ParseOriginError, is_origin},
    quota::Steady,
};

/// A namespace, and on what terms clients may enter it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamespaceSettings {
    /// Such as `/chat`.
    pub(crate) path: String,
    /// The business service that answers for it.
    pub(crate) backend: Uri,
    pub(crate) authentication: Authentication,
    /// Whose pages may enter. Clients that are no pages name no origin, and none is asked of them.
    pub(crate) origins: Option<Vec<String>>,
    /// What one connection may send there; without it the allowance for all its namespaces counts.
    pub(crate) events: Option<Steady>,
    pub(crate) handshake: HandshakeFields,
    /// How long a socket that lost its connection may come back as if nothing had happened; none if it may not.
    pub(crate) recovery: Option<Duration>,
}

/// Who says whether a client may enter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Authentication {
    /// The auth service, by the client's token.
    #[default]
    Token,
    /// The business service alone: it is given the client's `auth` as it is.
    None,
}

/// How many events are welcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EventRate {
    pub(crate) per_second: NonZeroU32,
    pub(crate) burst: NonZeroU32,
}

/// What a business service is told of the request that a client connected with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct HandshakeFields {
    pub(crate) query: bool,
    pub(crate) address: bool,
    pub(crate) headers: Vec<HeaderName>,
}

impl HandshakeFields {
    /// Adds what another namespace wants to know.
    pub(crate) fn extend(&mut self, other: &Self) {
        self.query |= other.query;
        self.address |= other.address;
        for name in &other.headers {
            if !self.headers.contains(name) {
                self.headers.push(name.clone());
            }
        }
    }
}

/// Why the file of namespaces cannot be used.
#[derive(Debug, thiserror::Error)]
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
    #[error(
        "{}: {namespace} is no namespace: it starts with a slash and holds neither comma nor question mark",
        path.display()
    )]
    Name {
        /// The file.
        path: PathBuf,
        /// The name.
        namespace: String,
    },
    /// A recovery window is none.
    #[error("{}: recovery of {namespace} must be more than nothing and at most an hour", path.display())]
    Recovery {
        /// The file.
        path: PathBuf,
        /// The namespace.
        namespace: String,
    },
}

/// Longest recovery window: events are kept in memory for so long.
const RECOVERY_MAX: Duration = Duration::from_secs(60 * 60);

/// The file, as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NamespacesFile {
    #[serde(default)]
    namespace: BTreeMap<String, Entry>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    #[serde(default, deserialize_with = "backend_url")]
    backend: Option<Uri>,
    #[serde(default)]
    authentication: Authentication,
    #[serde(default, deserialize_with = "origins")]
    origins: Option<Vec<String>>,
    events_per_second: Option<NonZeroU32>,
    events_burst: Option<NonZeroU32>,
    #[serde(default)]
    handshake: HandshakeEntry,
    #[serde(default, deserialize_with = "duration")]
    recovery: Option<Duration>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct HandshakeEntry {
    #[serde(default)]
    query: bool,
    #[serde(default)]
    address: bool,
    #[serde(default, deserialize_with = "header_names")]
    headers: Vec<HeaderName>,
}

impl NamespacesFile {
    /// Reads the file.
    pub(crate) fn read(path: &Path) -> Result<Self, ReadNamespacesError> {
        let text = fs::read_to_string(path)
            .map_err(|source| ReadNamespacesError::Read { path: path.to_owned(), source })?;
        Self::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, ReadNamespacesError> {
        let file: Self = toml::from_str(text).map_err(|error| ReadNamespacesError::Parse {
            path: path.to_owned(),
            line: line_of(text, error.span()),
            message: error.message().to_owned(),
        })?;
        for (namespace, entry) in &file.namespace {
            let (path, namespace) = (path.to_owned(), namespace.clone());
            if entry.recovery.is_some_and(|window| window.is_zero() || window > RECOVERY_MAX) {
                return Err(ReadNamespacesError::Recovery { path, namespace });
            }
            if !is_namespace(&namespace) {
                return Err(ReadNamespacesError::Name { path, namespace });
            }
        }
        Ok(file)
    }

    /// The namespaces of the file and of the routes. A route may say where a namespace of the file goes.
    pub(crate) fn with_routes(
        self,
        routes: &[Route],
        default_backend: &Uri,
        default_rate: EventRate,
    ) -> Result<Vec<NamespaceSettings>, ConfigError> {
        let mut entries: Vec<(String, Entry)> = Vec::new();
        for route in routes {
            if entries.iter().any(|(namespace, _)| *namespace == route.namespace) {
                return Err(ConfigError::DuplicateRoute { namespace: route.namespace.clone() });
            }
            let entry = Entry { backend: Some(route.url.clone()), ..Entry::default() };
            entries.push((route.namespace.clone(), entry));
        }
        for (namespace, entry) in self.namespace {
            let Some(place) = entries.iter().position(|(known, _)| *known == namespace) else {
                entries.push((namespace, entry));
                continue;
            };
            if entry.backend.is_some() {
                return Err(ConfigError::DuplicateRoute { namespace });
            }
            if let Some((_, known)) = entries.get_mut(place) {
                *known = Entry { backend: known.backend.take(), ..entry };
            }
        }
        let named = entries.into_iter();
        Ok(named.map(|(path, entry)| entry.settings(path, default_backend, default_rate)).collect())
    }
}

impl Entry {
    fn settings(
        self,
        path: String,
        default_backend: &Uri,
        default_rate: EventRate,
    ) -> NamespaceSettings {
        let HandshakeEntry { query, address, headers } = self.handshake;
        let has_rate = self.events_per_second.or(self.events_burst).is_some();
        NamespaceSettings {
            path,
            backend: self.backend.unwrap_or_else(|| default_backend.clone()),
            authentication: self.authentication,
            origins: self.origins,
            events: has_rate.then(|| {
                let per_second = self.events_per_second.unwrap_or(default_rate.per_second);
                Steady::new(per_second, self.events_burst.unwrap_or(default_rate.burst))
            }),
            handshake: HandshakeFields { query, address, headers },
            recovery: self.recovery,
        }
    }
}

fn line_of(text: &str, span: Option<Range<usize>>) -> usize {
    let before = span.and_then(|span| text.get(..span.start)).unwrap_or_default();
    before.lines().count().max(1) + usize::from(before.ends_with('\n'))
}

fn backend_url<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<Uri>, D::Error> {
    let text = String::deserialize(value)?;
    parse_backend_url(&text).map(Some).map_err(serde::de::Error::custom)
}

fn duration<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(value)?;
    humantime::parse_duration(&text).map(Some).map_err(serde::de::Error::custom)
}

fn origins<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<Vec<String>>, D::Error> {
    let origins = Vec::<String>::deserialize(value)?;
    if origins.iter().all(|origin| is_origin(origin)) {
        return Ok(Some(origins));
    }
    Err(serde::de::Error::custom(ParseOriginError))
}

fn header_names<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Vec<HeaderName>, D::Error> {
    let names = Vec::<String>::deserialize(value)?;
    names.iter().map(|name| name.parse().map_err(serde::de::Error::custom)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: EventRate = EventRate { per_second: count(50), burst: count(100) };

    const fn count(count: u32) -> NonZeroU32 {
        NonZeroU32::new(count).unwrap()
    }

    fn parse(text: &str) -> Result<NamespacesFile, String> {
        NamespacesFile::parse(Path::new("ns.toml"), text).map_err(|error| error.to_string())
    }

    fn settings(text: &str, routes: &[&str]) -> Vec<NamespaceSettings> {
        let routes: Vec<Route> = routes.iter().map(|route| route.parse().unwrap()).collect();
        let backend = Uri::from_static("http://chat:1");
        parse(text).unwrap().with_routes(&routes, &backend, RATE).unwrap()
    }

    #[test]
    fn a_namespace_has_terms_of_its_own() {
        let all = settings(
            r#"
            [namespace."/game"]
            backend = "http://game:2"
            authentication = "none"
            origins = ["https://game.example"]
            events_per_second = 5
            recovery = "2m"
            handshake = { query = true, headers = ["User-Agent"] }
            [namespace."/chat"]
            "#,
            &[],
        );

        let [chat, game] = &all[..] else { panic!("{all:?}") };
        assert_eq!(chat.backend, "http://chat:1/");
        assert_eq!(chat.authentication, Authentication::Token);
        assert_eq!(game.backend, "http://game:2/");
        assert_eq!(game.authentication, Authentication::None);
        assert_eq!(game.origins.as_deref(), Some(&["https://game.example".to_owned()][..]));
        assert_eq!(game.events, Some(Steady::new(count(5), count(100))));
        assert_eq!((chat.recovery, game.recovery), (None, Some(Duration::from_secs(120))));
        assert!(game.handshake.query && !game.handshake.address);
        assert_eq!(game.handshake.headers, [http::header::USER_AGENT]);
    }

    #[test]
    fn a_route_says_where_a_namespace_of_the_file_goes() {
        let all = settings(
            "[namespace.'/a']\nauthentication = 'none'",
            &["/a=http://x:1", "/b=http://y:2"],
        );

        let [a, b] = &all[..] else { panic!("{all:?}") };
        assert_eq!((a.path.as_str(), a.authentication), ("/a", Authentication::None));
        assert_eq!(a.backend, "http://x:1/");
        assert_eq!(b.path, "/b");

        let twice = parse("[namespace.'/a']\nbackend = 'http://z:1'").unwrap();
        let routes = ["/a=http://x:1".parse().unwrap()];
        let error = twice.with_routes(&routes, &Uri::from_static("http://c:1"), RATE).unwrap_err();
        assert_eq!(error.to_string(), "/a has two routes");
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let cases = [
            ("[namespace.'/a']\nbackand = 'x'", "ns.toml:2: unknown field `backand`"),
            (
                "[namespace.'/a']\nbackend = 'chat:1'",
                "ns.toml:2: the URL needs https:// or http:// and a host",
            ),
            ("[namespace.'/a']\nauthentication = 'maybe'", "ns.toml:2: unknown variant `maybe`"),
            (
                "[namespace.'/a']\nhandshake.headers = ['a b']",
                "ns.toml:2: invalid HTTP header name",
            ),
            (
                "[namespace.'/a']\norigins = ['https://a.example/']",
                "ns.toml:2: an origin is written",
            ),
            ("[namespace.'/a']\norigins = ['*']", "ns.toml:2: an origin is written"),
            ("[namespace.'/a']\n\nrecovery = 'soon'", "ns.toml:3: "),
            ("[namespace.'/a']\nrecovery = '0s'", "ns.toml: recovery of /a must be more"),
            ("[namespace.'/a']\nrecovery = '61m'", "ns.toml: recovery of /a must be more"),
            ("[namespace.'a']", "ns.toml: a is no namespace"),
            ("[name", "ns.toml:1: "),
        ];
        for (text, expected) in cases {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }
}
