//! Which pages of other origins may read the edge's answers (Fetch standard, CORS protocol).

use std::str::FromStr;

use http::{HeaderMap, HeaderValue, header};

/// An origin that may read answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedOrigin {
    /// Every origin, but without credentials such as cookies.
    Any,
    /// This one, such as `https://app.example`.
    One(String),
}

/// A text is no origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "an origin is written as browsers do: https://app.example, lower case, without a path or a usual port"
)]
pub struct ParseOriginError;

impl FromStr for AllowedOrigin {
    type Err = ParseOriginError;

    fn from_str(text: &str) -> Result<Self, ParseOriginError> {
        match text {
            "*" => Ok(Self::Any),
            _ if is_origin(text) => Ok(Self::One(text.to_owned())),
            _ => Err(ParseOriginError),
        }
    }
}

/// Whether a browser may send this as an origin. What it never sends would never match, and nobody would say why.
pub(crate) fn is_origin(text: &str) -> bool {
    let Some((scheme, host)) = text.split_once("://") else { return text == "null" };
    let is_lower = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_lowercase())
        && scheme.chars().all(|letter| is_lower(letter) || "+-.".contains(letter));
    let has_usual_port = match scheme {
        "http" => host.ends_with(":80"),
        "https" => host.ends_with(":443"),
        _ => false,
    };
    let is_host = host.starts_with(|first| is_lower(first) || first == '[')
        && host.chars().all(|letter| is_lower(letter) || "-._:[]".contains(letter));
    is_scheme && is_host && !has_usual_port
}

const METHODS: HeaderValue = HeaderValue::from_static("GET,HEAD,PUT,PATCH,POST,DELETE");

/// The origins that may read answers; none by default.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cors {
    allowed: Vec<AllowedOrigin>,
}

impl Cors {
    pub(crate) fn new(allowed: Vec<AllowedOrigin>) -> Self {
        Self { allowed }
    }

    /// Whether any origin may; if not, there is nothing to say about it, and no preflight to answer.
    pub(crate) fn is_on(&self) -> bool {
        !self.allowed.is_empty()
    }

    /// Tells the page that asked whether it may read this answer. An origin that may not is not named.
    pub(crate) fn mark(&self, origin: Option<&HeaderValue>, answer: &mut HeaderMap) {
        if !self.is_on() {
            return;
        }
        answer.append(header::VARY, HeaderValue::from_static("Origin"));
        let Some(origin) = origin else { return };
        if self.allowed.iter().any(|one| matches!(one, AllowedOrigin::One(one) if origin == one)) {
            let is_true = HeaderValue::from_static("true");
            answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            answer.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, is_true);
        } else if self.allowed.contains(&AllowedOrigin::Any) {
            // Without credentials: whoever wants those is to be listed by name.
            let any = HeaderValue::from_static("*");
            answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, any);
        }
    }

    /// Answers a preflight request.
    pub(crate) fn mark_preflight(&self, request: &HeaderMap, answer: &mut HeaderMap) {
        self.mark(request.get(header::ORIGIN), answer);
        answer.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        if let Some(headers) = request.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
            answer.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, headers.clone());
        }
        let vary = HeaderValue::from_static("Origin, Access-Control-Request-Headers");
        answer.insert(header::VARY, vary);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(allowed: &[&str], origin: &str) -> HeaderMap {
        let cors = Cors::new(allowed.iter().map(|one| one.parse().unwrap()).collect());
        let mut answer = HeaderMap::new();
        cors.mark(Some(&origin.parse().unwrap()), &mut answer);
        answer
    }

    fn allow_origin(allowed: &[&str], origin: &str) -> Option<String> {
        let answer = marked(allowed, origin);
        let value = answer.get(header::ACCESS_CONTROL_ALLOW_ORIGIN)?;
        Some(value.to_str().unwrap().to_owned())
    }

    #[test]
    fn an_origin_is_what_a_browser_may_send() {
        for origin in [
            "https://a.example",
            "http://localhost:8080",
            "http://[::1]:3000",
            "capacitor://localhost",
            "null",
        ] {
            assert_eq!(origin.parse(), Ok(AllowedOrigin::One(origin.to_owned())));
        }
        for wrong in [
            "",
            "a.example",
            "https://a.example/",
            "https://A.example",
            "HTTPS://a.example",
            "https://a.example:443",
            "http://a.example:80",
            "https://*.example",
            "https://",
            "https://me@a.example",
        ] {
            assert_eq!(wrong.parse::<AllowedOrigin>(), Err(ParseOriginError), "{wrong}");
        }
    }

    #[test]
    fn only_listed_origins_may_read_answers() {
        let page = "https://page.example";
        assert_eq!(allow_origin(&[], page), None);
        assert_eq!(allow_origin(&["https://other.example"], page), None);
        assert_eq!(allow_origin(&["https://other.example", page], page), Some(page.to_owned()));
        assert_eq!(allow_origin(&["*"], page), Some("*".to_owned()));
        assert_eq!(allow_origin(&[page], "https://page.example.evil.example"), None);
    }
    #[test]
    fn credentials_are_for_origins_that_are_listed_by_name() {
        let page = "https://page.example";
        let may = |allowed: &[&str]| {
            let answer = marked(allowed, page);
            answer.contains_key(header::ACCESS_CONTROL_ALLOW_CREDENTIALS)
        };

        assert!(may(&[page]) && may(&["*", page]));
        assert!(!may(&["*"]) && !may(&["https://other.example", "*"]));
    }
}
