//! Binds sessions to who opened them: each later request must bring what the first one brought.
//!
//! What a session is bound to stands in its name, as a hash, so that every edge can tell and nothing is kept
//! (`docs/adr/0032-sessions-are-bound-to-their-openers.md`).

use http::{HeaderMap, HeaderName, HeaderValue, header};
use metrics::Counter;
use sha2::{Digest, Sha256};

use crate::{
    config::{HttpConfig, SameSite, SessionBonds},
    session_id::{self, SessionId},
    telemetry,
};

/// The token of a program's `Authorization` header.
const AUTHORIZATION: u8 = 1;
/// The origin of a browser's page.
const ORIGIN: u8 = 2;
/// The cookie that the edge has set.
const COOKIE: u8 = 4;

/// The prefix has browsers take it from the edge's own host over TLS only, and send it to that host only.
const COOKIE_NAME: &str = "__Host-sockeye";

/// Characters of its value: those of a name that is drawn at random.
const COOKIE_CHARS: usize = 24;

/// What sessions are bound to.
#[derive(Debug)]
pub(crate) struct SessionBinding {
    bonds: SessionBonds,
    cookie: Option<SameSite>,
    refused: Counter,
}

/// A session that is about to open.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) session: SessionId,
    /// It may go on in WebTransport: browsers send no cookies there, whatever the page says.
    pub(crate) may_use_webtransport: bool,
    /// What its client is to keep.
    pub(crate) set_cookie: Option<HeaderValue>,
}

impl SessionBinding {
    pub(crate) fn of(config: &HttpConfig) -> Self {
        Self {
            bonds: config.session_binding,
            cookie: config.session_cookie,
            refused: telemetry::session_requests_refused(),
        }
    }

    /// Binds a session that a request with these headers opens.
    pub(crate) fn open(&self, session: SessionId, headers: &HeaderMap) -> Opened {
        let mut brought = Brought::of(headers);
        let mut set_cookie = None;
        let fresh = session_id::random();
        if is_browser(headers) {
            // Its WebSocket will not have the header, whatever its page says.
            brought.authorization = None;
            match self.cookie {
                Some(same_site) if brought.cookie.is_none() => {
                    brought.cookie = Some(&fresh);
                    set_cookie = cookie(&fresh, same_site);
                }
                Some(_) => {}
                None => brought.cookie = None,
            }
        } else {
            // What it says once it may not say again.
            brought.origin = None;
            brought.cookie = None;
        }
        if !self.bonds.authorization {
            brought.authorization = None;
        }
        if !self.bonds.origin {
            brought.origin = None;
        }
        let bonds = brought.bonds();
        let session = if bonds == 0 {
            session
        } else {
            session.bound(bonds, |into| brought.hash(bonds, into))
        };
        Opened { session, may_use_webtransport: bonds & COOKIE == 0, set_cookie }
    }

    /// Whether a request with these headers is of the client that opened the session. Asked of the session's name alone: the
    /// edge that has opened it may have other settings.
    pub(crate) fn holds(&self, session: SessionId, headers: &HeaderMap) -> bool {
        let bonds = session.bonds();
        if bonds == 0 {
            return true;
        }
        let brought = Brought::of(headers);
        let holds =
            bonds & brought.bonds() == bonds && session.proves(|into| brought.hash(bonds, into));
        if !holds {
            self.refused.increment(1);
        }
        holds
    }
}

/// What a request brings that a session can be bound to.
#[derive(Debug, Clone, Copy)]
struct Brought<'a> {
    authorization: Option<&'a [u8]>,
    origin: Option<&'a [u8]>,
    cookie: Option<&'a str>,
}

impl<'a> Brought<'a> {
    fn of(headers: &'a HeaderMap) -> Self {
        let is_web =
            |origin: &&[u8]| origin.starts_with(b"https://") || origin.starts_with(b"http://");
        Self {
            authorization: single(headers, &header::AUTHORIZATION).filter(|value| is_bearer(value)),
            // Web views say others, and not the same on every kind of request.
            origin: single(headers, &header::ORIGIN).filter(is_web),
            cookie: session_cookie(headers),
        }
    }

    fn bonds(&self) -> u8 {
        let bit = |is_there: bool, bit: u8| if is_there { bit } else { 0 };
        bit(self.authorization.is_some(), AUTHORIZATION)
            | bit(self.origin.is_some(), ORIGIN)
            | bit(self.cookie.is_some(), COOKIE)
    }

    fn hash(&self, bonds: u8, into: &mut Sha256) {
        let cookie = self.cookie.map(str::as_bytes);
        for (bond, value) in
            [(AUTHORIZATION, self.authorization), (ORIGIN, self.origin), (COOKIE, cookie)]
        {
            if bonds & bond != 0 {
                let value = value.unwrap_or_default();
                // The length keeps apart where one ends and the next begins.
                into.update(value.len().to_be_bytes());
                into.update(value);
            }
        }
    }
}

/// The value of a header that is there once.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then(|| value.as_bytes())
}

/// Whether a header holds a token. Names with passwords could be guessed from a hash of them.
fn is_bearer(value: &[u8]) -> bool {
    value.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "))
}

/// Whether a request is a browser's: each begins its name like this.
fn is_browser(headers: &HeaderMap) -> bool {
    let name = headers.get(header::USER_AGENT);
    name.is_some_and(|name| name.as_bytes().starts_with(b"Mozilla/"))
}

/// The edge's own cookie, if it is one that the edge has set.
fn session_cookie(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut ours = cookies.flat_map(|value| value.split(';')).filter_map(|cookie| {
        let (name, value) = cookie.trim().split_once('=')?;
        (name == COOKIE_NAME).then_some(value)
    });
    let value = ours.next()?;
    let is_value = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (value.len() == COOKIE_CHARS && value.bytes().all(is_value) && ours.next().is_none())
        .then_some(value)
}

fn cookie(value: &str, same_site: SameSite) -> Option<HeaderValue> {
    let same_site = match same_site {
        SameSite::Strict => "Strict",
        SameSite::Lax => "Lax",
        SameSite::None => "None",
    };
    let text = format!("{COOKIE_NAME}={value}; Path=/; Secure; HttpOnly; SameSite={same_site}");
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::OriginConfig;

    type Said = &'static [(&'static str, &'static str)];

    const ALL: SessionBonds = SessionBonds { authorization: true, origin: true };
    const BROWSER: (&str, &str) = ("user-agent", "Mozilla/5.0 (X11; Linux x86_64)");

    fn binding(bonds: SessionBonds, cookie: Option<SameSite>) -> SessionBinding {
        let origins = OriginConfig { allowed: Vec::new(), cors: Vec::new() };
        SessionBinding::of(&HttpConfig {
            origins,
            session_binding: bonds,
            session_cookie: cookie,
            allowed_hosts: Vec::new(),
        })
    }

    fn headers(said: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in said {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_session_is_bound_to_what_its_first_request_brought() {
        let binding = binding(ALL, None);
        let rows: [(Said, Said, bool); 15] = [
            (&[], &[], true),
            (&[], &[("authorization", "Bearer a")], true),
            (&[("authorization", "Bearer a")], &[("authorization", "Bearer a")], true),
            (&[("authorization", "Bearer a")], &[("authorization", "Bearer b")], false),
            (&[("authorization", "Bearer a")], &[], false),
            (
                &[("authorization", "Bearer a")],
                &[("authorization", "Bearer a"), ("authorization", "Bearer a")],
                false,
            ),
            // A password could be guessed from the name.
            (&[("authorization", "Basic YTpi")], &[], true),
            (&[BROWSER, ("origin", "https://a")], &[("origin", "https://a")], true),
            (&[BROWSER, ("origin", "https://a")], &[("origin", "https://b")], false),
            (&[BROWSER, ("origin", "https://a")], &[BROWSER], false),
            (&[BROWSER, ("origin", "file://")], &[("origin", "null")], true),
            // Some programs say it with their first request only.
            (&[("origin", "https://a")], &[], true),
            // A browser's WebSocket does not bring it.
            (&[BROWSER, ("authorization", "Bearer a")], &[BROWSER], true),
            (
                &[BROWSER, ("origin", "https://a"), ("authorization", "Bearer a")],
                &[("origin", "https://a")],
                true,
            ),
            (&[], &[("cookie", "__Host-sockeye=aaaaaaaaaaaaaaaaaaaaaaaa")], true),
        ];
        for (first, later, holds) in rows {
            let opened = binding.open(SessionId::random(1, 2), &headers(first));
            assert_eq!(opened.set_cookie, None);
            assert_eq!((opened.session.edge(), opened.session.shard()), (1, 2));
            assert_eq!(
                binding.holds(opened.session, &headers(later)),
                holds,
                "{first:?}, then {later:?}"
            );
        }
    }

    #[test]
    fn what_is_not_to_bind_does_not() {
        let binding = binding(SessionBonds { authorization: false, origin: false }, None);
        let said = headers(&[("authorization", "Bearer a"), ("origin", "https://a")]);

        assert_eq!(binding.open(SessionId::random(0, 0), &said).session.bonds(), 0);
    }

    #[test]
    fn a_browser_is_known_again_by_its_cookie() {
        let binding = binding(ALL, Some(SameSite::Lax));

        let first = binding.open(SessionId::random(0, 0), &headers(&[BROWSER]));

        let set = first.set_cookie.unwrap();
        assert!(set.is_sensitive());
        let (pair, attributes) = set.to_str().unwrap().split_once(';').unwrap();
        assert_eq!(attributes, " Path=/; Secure; HttpOnly; SameSite=Lax");
        assert!(pair.starts_with("__Host-sockeye="), "{pair}");
        let others = format!("a=b; {pair}; c=d");
        assert!(binding.holds(first.session, &headers(&[BROWSER, ("cookie", &others)])));
        assert!(!binding.holds(first.session, &headers(&[BROWSER])));
        let twice = format!("{pair}; {pair}");
        assert!(!binding.holds(first.session, &headers(&[BROWSER, ("cookie", &twice)])));
        let other = "__Host-sockeye=aaaaaaaaaaaaaaaaaaaaaaaa";
        assert!(!binding.holds(first.session, &headers(&[BROWSER, ("cookie", other)])));

        let second = binding.open(SessionId::random(0, 0), &headers(&[BROWSER, ("cookie", pair)]));
        assert_eq!(second.set_cookie, None, "a browser has one for all of its tabs");
        assert!(!first.may_use_webtransport && !second.may_use_webtransport);
        assert!(binding.holds(second.session, &headers(&[BROWSER, ("cookie", pair)])));
        let program = binding.open(SessionId::random(0, 0), &headers(&[]));
        assert_eq!((program.set_cookie, program.session.bonds()), (None, 0));
        assert!(program.may_use_webtransport);
        let short = [BROWSER, ("cookie", "__Host-sockeye=a")];
        let replaced = binding.open(SessionId::random(0, 0), &headers(&short));
        assert!(replaced.set_cookie.is_some(), "what the edge has not set is no cookie of its own");
    }
}
