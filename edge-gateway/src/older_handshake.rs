//! What a client of Engine.IO 3 says in URLs: it has no `auth`, so its token is in a query.

use std::{collections::BTreeMap, fmt};

use edge_protocol::engine_io::v3::BinaryForm;

use crate::request::TOKEN_BYTES_MAX;

/// The parameter that has the token.
const TOKEN: &str = "token";

/// What a session of Engine.IO 3 was opened with.
#[derive(PartialEq, Eq)]
pub(crate) struct OlderHandshake {
    pub(crate) binary_form: BinaryForm,
    /// For the namespaces that the client gives no token of their own.
    pub(crate) token: Option<Box<str>>,
}

impl OlderHandshake {
    pub(crate) fn of_query(query: &str) -> Self {
        let token = parameter(query, TOKEN).filter(|token| token.len() <= TOKEN_BYTES_MAX);
        Self { binary_form: binary_form(query), token: token.map(String::into_boxed_str) }
    }
}

impl fmt::Debug for OlderHandshake {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("OlderHandshake")
            .field("binary_form", &self.binary_form)
            .finish_non_exhaustive()
    }
}

/// How a client takes bytes: any `b64` that is not empty says that it cannot, as with the reference server.
fn binary_form(query: &str) -> BinaryForm {
    match parameter(query, "b64") {
        Some(value) if !value.is_empty() => BinaryForm::Base64,
        Some(_) | None => BinaryForm::Bytes,
    }
}

/// The JSON text of an `auth` with what a client says in the query of a namespace, as with the reference server. If that
/// has no token, it is `token`.
pub(crate) fn auth(query: &str, token: Option<&str>) -> Option<String> {
    let parameters = form_urlencoded::parse(query.as_bytes());
    let mut auth: BTreeMap<_, _> = parameters.collect();
    if let Some(token) = token {
        auth.entry(TOKEN.into()).or_insert(token.into());
    }
    (!auth.is_empty()).then(|| serde_json::to_string(&auth).unwrap_or_default())
}

/// The first value of a parameter, decoded.
fn parameter(query: &str, name: &str) -> Option<String> {
    let mut parameters = form_urlencoded::parse(query.as_bytes());
    parameters.find_map(|(key, value)| (key == name).then(|| value.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_in_a_query() {
        let cases = [
            ("token=abc&EIO=3&transport=polling", Some("abc")),
            ("EIO=3&token=t%20k%2B%2F%3D", Some("t k+/=")),
            ("token=a.b-c_d", Some("a.b-c_d")),
            ("token=a&token=b", Some("a")),
            ("token=", Some("")),
            ("token", Some("")),
            ("xtoken=a&tokens=b", None),
            ("", None),
        ];

        for (query, expected) in cases {
            assert_eq!(OlderHandshake::of_query(query).token.as_deref(), expected, "{query}");
        }
        let longest = format!("token={}", "x".repeat(TOKEN_BYTES_MAX));
        assert!(OlderHandshake::of_query(&longest).token.is_some());
        assert!(OlderHandshake::of_query(&format!("{longest}x")).token.is_none());
    }

    #[test]
    fn the_query_of_a_namespace_stands_for_auth() {
        let cases = [
            ("", None, None),
            ("", Some("b"), Some(r#"{"token":"b"}"#)),
            ("token=t%20k%2B%2F%3D", None, Some(r#"{"token":"t k+/="}"#)),
            ("token=a", Some("b"), Some(r#"{"token":"a"}"#)),
            ("x=%22&y=%F0%9F%98%80", Some("b"), Some(r#"{"token":"b","x":"\"","y":"😀"}"#)),
            ("x=1&x=2", None, Some(r#"{"x":"2"}"#)),
        ];

        for (query, token, expected) in cases {
            assert_eq!(auth(query, token).as_deref(), expected, "{query}");
        }
    }

    #[test]
    fn a_client_says_that_it_cannot_take_bytes() {
        for (query, expected) in [
            ("EIO=3&b64=1", BinaryForm::Base64),
            ("b64=0", BinaryForm::Base64),
            ("b64=", BinaryForm::Bytes),
            ("EIO=3", BinaryForm::Bytes),
        ] {
            assert_eq!(OlderHandshake::of_query(query).binary_form, expected, "{query}");
        }
    }

    #[test]
    fn a_token_is_kept_and_not_shown() {
        let handshake = OlderHandshake::of_query("token=abc&EIO=3");

        assert!(!format!("{handshake:?}").contains("abc"));
        assert_eq!(handshake.token.as_deref(), Some("abc"));
    }
}
