//! What is kept of the request that a client connected with, and what business services are told of it.

use std::net::IpAddr;

use bytes::Bytes;
use http::{HeaderMap, Uri, header};
use proto::edge::v1::{Field, Handshake};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;
use service_kit::{audit, trace::TraceParent};

use crate::{
    namespaces::{HandshakeFields, NamespaceSettings},
    quota::{Admitted, Held},
};

/// What a connection's request said that matters later. An idle connection keeps no more of it than a namespace wants.
#[derive(Debug, Default)]
pub(crate) struct ClientHandshake {
    /// For the spans of the client's connects.
    pub(crate) traceparent: Option<Box<TraceParent>>,
    pub(crate) origin: Origin,
    kept: Option<Box<Kept>>,
    /// Counts as one of its address's connections.
    _held: Option<Held>,
}

/// Where a client's page comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It is no page of a browser.
    #[default]
    None,
    /// One that some namespace names: where it stands in [`Policy::origins`].
    Listed(u16),
    /// Any other.
    Unlisted,
}

#[derive(Debug)]
struct Kept {
    query: Vec<Field>,
    headers: Vec<Field>,
    address: Option<IpAddr>,
}

/// What to keep of requests: what at least one namespace has a use for.
#[derive(Debug, Default)]
pub(crate) struct Policy {
    fields: HandshakeFields,
    origins: Vec<String>,
}

impl Policy {
    pub(crate) fn of(namespaces: &[NamespaceSettings]) -> Self {
        let mut policy = Self::default();
        for namespace in namespaces {
            policy.fields.extend(&namespace.handshake);
            for origin in namespace.origins.iter().flatten() {
                if !policy.origins.contains(origin) {
                    policy.origins.push(origin.clone());
                }
            }
        }
        // For its lines alone: business services are told what their namespaces name.
        policy.fields.address |= audit::is_on();
        policy
    }

    /// Keeps what matters of a request.
    pub(crate) fn keep(&self, uri: &Uri, headers: &HeaderMap, client: Admitted) -> ClientHandshake {
        let HandshakeFields { query, address, headers: names } = &self.fields;
        let kept = *query || *address || !names.is_empty();
        ClientHandshake {
            traceparent: traceparent(headers).map(Box::new),
            origin: self.origin(headers),
            kept: kept.then(|| {
                Box::new(Kept {
                    query: if *query { query_fields(uri) } else { Vec::new() },
                    headers: header_fields(headers, names),
                    address: address.then_some(client.address),
                })
            }),
            _held: client.held,
        }
    }

    fn origin(&self, headers: &HeaderMap) -> Origin {
        let Some(origin) = headers.get(header::ORIGIN) else { return Origin::None };
        let place = self.origins.iter().position(|listed| *origin == **listed);
        place.and_then(|place| u16::try_from(place).ok()).map_or(Origin::Unlisted, Origin::Listed)
    }

    /// Where the origins that a namespace names stand in the list; none if it takes all.
    pub(crate) fn allowed_origins(&self, namespace: &NamespaceSettings) -> Option<Vec<Origin>> {
        let named = namespace.origins.as_ref()?.iter();
        let places = named.filter_map(|origin| self.origins.iter().position(|one| one == origin));
        Some(places.filter_map(|place| u16::try_from(place).ok()).map(Origin::Listed).collect())
    }
}

impl ClientHandshake {
    /// Where the client is, if anybody wants to know.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.kept.as_deref()?.address
    }

    /// What a namespace's business service is told, with the `auth` of the client's CONNECT.
    pub(crate) fn for_backend(&self, fields: &HandshakeFields, auth: Bytes) -> Handshake {
        let kept = self.kept.as_deref();
        let headers = kept.map_or(&[][..], |kept| &kept.headers).iter();
        let is_named = |field: &&Field| fields.headers.iter().any(|name| *name == *field.name);
        Handshake {
            auth,
            query: kept.filter(|_| fields.query).map_or_else(Vec::new, |kept| kept.query.clone()),
            headers: headers.filter(is_named).cloned().collect(),
            address: kept
                .filter(|_| fields.address)
                .and_then(|kept| kept.address)
                .map_or_else(String::new, |address| address.to_string()),
        }
    }
}

/// The trace that a client wants its connects to belong to.
fn traceparent(headers: &HeaderMap) -> Option<TraceParent> {
    TraceParent::parse(headers.get("traceparent")?.to_str().ok()?)
}

/// The query without the session's id, which is for the edge alone.
fn query_fields(uri: &Uri) -> Vec<Field> {
    form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
        .filter(|(name, _)| name != "sid")
        .map(|(name, value)| Field { name: name.into_owned(), value: value.into_owned() })
        .collect()
}

fn header_fields(headers: &HeaderMap, names: &[header::HeaderName]) -> Vec<Field> {
    let named = names.iter().flat_map(|name| {
        headers.get_all(name).iter().map(move |value| Field {
            name: name.as_str().to_owned(),
            value: String::from_utf8_lossy(value.as_bytes()).into_owned(),
        })
    });
    named.collect()
}

/// Returns the JSON text of an `auth` without those members that are for the edge and the auth service alone; empty if
/// nothing is left.
pub(crate) fn without(secrets: &[&str], auth: &str) -> Bytes {
    let Ok(Members(members)) = serde_json::from_str::<Members<'_>>(auth) else {
        return Bytes::new();
    };
    let mut text = String::new();
    for (name, value) in members.iter().filter(|(name, _)| !secrets.contains(&&**name)) {
        text.push(if text.is_empty() { '{' } else { ',' });
        // A string always has a JSON text.
        text.push_str(&serde_json::to_string(name).unwrap_or_default());
        text.push(':');
        text.push_str(value.get());
    }
    if !text.is_empty() {
        text.push('}');
    }
    text.into()
}

/// The members of a JSON object, in their order.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use http::{HeaderValue, Request};

    use super::*;
    use crate::namespaces::{Authentication, NamespaceSettings};

    fn namespace(origins: Option<&[&str]>, handshake: HandshakeFields) -> NamespaceSettings {
        NamespaceSettings {
            path: "/a".to_owned(),
            backend: Uri::from_static("http://a:1"),
            authentication: Authentication::None,
            origins: origins.map(|all| all.iter().map(|&one| one.to_owned()).collect()),
            events: None,
            recovery: None,
            handshake,
        }
    }

    fn kept(policy: &Policy, uri: &str, headers: &[(&str, &str)]) -> ClientHandshake {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).unwrap();
        policy.keep(request.uri(), request.headers(), Admitted::freely(Ipv4Addr::LOCALHOST.into()))
    }

    fn field(name: &str, value: &str) -> Field {
        Field { name: name.to_owned(), value: value.to_owned() }
    }

    #[test]
    fn what_no_namespace_wants_is_not_kept() {
        let policy = Policy::of(&[namespace(None, HandshakeFields::default())]);

        let handshake = kept(&policy, "/socket.io/?a=b", &[("user-agent", "x")]);

        assert!(handshake.kept.is_none());
        let told = handshake.for_backend(&HandshakeFields::default(), Bytes::new());
        assert_eq!(told, Handshake::default());
    }

    #[test]
    fn each_namespace_is_told_only_what_it_wants() {
        let query = HandshakeFields { query: true, ..HandshakeFields::default() };
        let rest = HandshakeFields {
            address: true,
            headers: vec![header::USER_AGENT],
            ..HandshakeFields::default()
        };
        let policy = Policy::of(&[namespace(None, query.clone()), namespace(None, rest.clone())]);
        let uri = "/socket.io/?EIO=4&sid=secret&%26a=%26%3D%3Fa&b=1+2&c";

        let handshake = kept(&policy, uri, &[("user-agent", "x"), ("cookie", "secret")]);

        let told = handshake.for_backend(&query, Bytes::from_static(b"{}"));
        let fields = [field("EIO", "4"), field("&a", "&=?a"), field("b", "1 2"), field("c", "")];
        assert_eq!(told.query, fields);
        assert_eq!((told.auth.as_ref(), told.address.as_str()), (&b"{}"[..], ""));
        assert!(told.headers.is_empty());
        let told = handshake.for_backend(&rest, Bytes::new());
        assert_eq!(told.headers, [field("user-agent", "x")]);
        assert_eq!((told.query.len(), told.address.as_str()), (0, "127.0.0.1"));
    }

    #[test]
    fn an_origin_is_known_by_its_place() {
        let ours = namespace(Some(&["https://a", "https://b"]), HandshakeFields::default());
        let other = namespace(Some(&["https://c", "https://b"]), HandshakeFields::default());
        let policy = Policy::of(&[ours.clone(), other.clone()]);
        let origin = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ORIGIN, HeaderValue::from_static(value));
            policy.origin(&headers)
        };

        assert_eq!(policy.origin(&HeaderMap::new()), Origin::None);
        assert_eq!(origin("https://evil"), Origin::Unlisted);
        assert!(policy.allowed_origins(&ours).unwrap().contains(&origin("https://b")));
        assert!(policy.allowed_origins(&other).unwrap().contains(&origin("https://b")));
        assert!(!policy.allowed_origins(&other).unwrap().contains(&origin("https://a")));
        assert_eq!(policy.allowed_origins(&namespace(None, HandshakeFields::default())), None);
    }

    #[test]
    fn a_token_goes_no_further() {
        let cases = [
            (r#"{"token":"t"}"#, ""),
            (r#"{}"#, ""),
            (r#"{"token":"t","b": 1e400,"a":"\u00e9"}"#, r#"{"b":1e400,"a":"\u00e9"}"#),
            (r#"{"a":[1, 2],"token":{"x":1},"token":2}"#, r#"{"a":[1, 2]}"#),
            (r#"{"\u0074oken":"t","b":1,"pid":"p"}"#, r#"{"b":1}"#),
        ];
        for (auth, expected) in cases {
            assert_eq!(without(&["token", "pid"], auth), expected, "{auth}");
        }
    }
}
