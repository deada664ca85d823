//! Whose pages may send the edge any request.

use http::{HeaderMap, header};

use metrics::Counter;

use crate::{cors::AllowedOrigin, telemetry};

/// The origins whose pages are served. Held against every request, since the one that opens a session proves nothing about
/// those that name it later.
#[derive(Debug)]
pub(crate) struct Origins {
    /// None for every origin.
    listed: Option<Vec<String>>,
    refused: Counter,
}

impl Origins {
    pub(crate) fn of(allowed: &[AllowedOrigin]) -> Self {
        let one = |allowed: &AllowedOrigin| match allowed {
            AllowedOrigin::Any => None,
            AllowedOrigin::One(one) => Some(one.clone()),
        };
        Self { listed: allowed.iter().map(one).collect(), refused: telemetry::origins_refused() }
    }

    /// Whether to serve a request. Only browsers say an origin, once, and always where the page is not ours; whatever is no
    /// browser may say any, or none.
    pub(crate) fn admit(&self, headers: &HeaderMap) -> bool {
        let Some(listed) = &self.listed else { return true };
        let mut said = headers.get_all(header::ORIGIN).iter();
        let is_admitted = match (said.next(), said.next()) {
            (None, _) => true,
            (Some(origin), None) => listed.iter().any(|one| *origin == **one),
            (Some(_), Some(_)) => false,
        };
        if !is_admitted {
            self.refused.increment(1);
        }
        is_admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(allowed: &[&str], said: &[&str]) -> bool {
        let allowed: Vec<_> = allowed.iter().map(|one| one.parse().unwrap()).collect();
        let mut headers = HeaderMap::new();
        for origin in said {
            headers.append(header::ORIGIN, origin.parse().unwrap());
        }
        Origins::of(&allowed).admit(&headers)
    }

    #[test]
    fn only_listed_origins_are_served_once_some_are_listed() {
        let (ours, other) = ("https://a.example", "https://b.example");

        assert!(admits(&["*"], &[other]));
        assert!(admits(&[ours, "*"], &[other]));
        assert!(admits(&[ours], &[]));
        assert!(admits(&[other, ours], &[ours]));
        assert!(!admits(&[ours], &[other]));
        assert!(!admits(&[ours], &["null"]));
        assert!(!admits(&[ours], &[ours, ours]));
        assert!(!admits(&[ours], &[""]));
    }
}
