//! Which pages of other origins may read the edge's answers (Fetch standard, CORS protocol).

use std::{convert::Infallible, str::FromStr};

use http::{HeaderMap, HeaderValue, header};

/// An origin that may read answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedOrigin {
    /// Every origin: each is told that it may.
    Any,
    /// This one, such as `https://app.example`.
    One(String),
}

impl FromStr for AllowedOrigin {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(if text == "*" { Self::Any } else { Self::One(text.to_owned()) })
    }
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
        let Some(origin) = origin.filter(|origin| self.allows(origin)) else { return };
        answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        answer.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
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

    fn allows(&self, origin: &HeaderValue) -> bool {
        self.allowed.iter().any(|allowed| match allowed {
            AllowedOrigin::Any => true,
            AllowedOrigin::One(one) => origin == one,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allow_origin(allowed: &[&str], origin: &str) -> Option<String> {
        let cors = Cors::new(allowed.iter().map(|one| one.parse().unwrap()).collect());
        let mut answer = HeaderMap::new();
        cors.mark(Some(&origin.parse().unwrap()), &mut answer);
        let value = answer.get(header::ACCESS_CONTROL_ALLOW_ORIGIN)?;
        Some(value.to_str().unwrap().to_owned())
    }

    #[test]
    fn only_listed_origins_may_read_answers() {
        let page = "https://page.example";
        assert_eq!(allow_origin(&[], page), None);
        assert_eq!(allow_origin(&["https://other.example"], page), None);
        assert_eq!(allow_origin(&["https://other.example", page], page), Some(page.to_owned()));
        assert_eq!(allow_origin(&["*"], page), Some(page.to_owned()));
        assert_eq!(allow_origin(&[page], "https://page.example.evil.example"), None);
    }
}
