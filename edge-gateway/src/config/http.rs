//! Settings of what HTTP requests are held against.

mod origins;

use std::str::FromStr;

pub use self::origins::OriginConfig;
use crate::{cors::AllowedOrigin, hosts::AllowedHost};

/// What HTTP requests are held against.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "edge-http")]
pub struct HttpConfig {
    /// Which pages may use the edge.
    #[command(flatten)]
    pub origins: OriginConfig,

    /// What each request of a session on long-polling, and the WebSocket that takes it over, must have in common with the one
    /// that opened it, if that had it: `origin`, `authorization`, both, or `none`. `authorization` ends sessions of programs
    /// whose requests do not all have the header.
    #[arg(id = "edge-session-binding", long = "edge-session-binding")]
    #[arg(env = "EDGE_SESSION_BINDING", value_name = "LIST", default_value = "origin")]
    pub session_binding: SessionBonds,

    /// Gives browsers a cookie that each request of their sessions must bring, too, with this `SameSite`: `strict`, `lax`, or
    /// `none` [default: no cookie].
    #[arg(id = "edge-session-cookie", long = "edge-session-cookie", env = "EDGE_SESSION_COOKIE")]
    #[arg(value_name = "SAMESITE")]
    pub session_cookie: Option<SameSite>,

    /// Host that clients may ask for, with or without a port; requests for others are answered with 421. May be given several
    /// times [default: every host].
    #[arg(id = "edge-allowed-host", long = "edge-allowed-host", env = "EDGE_ALLOWED_HOSTS")]
    #[arg(value_delimiter = ',', value_name = "HOST")]
    pub allowed_hosts: Vec<AllowedHost>,
}

/// Settings of HTTP do not go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HttpConfigError {
    /// Browsers keep no cookie of an answer that every origin may read, and send none: each later request would be refused.
    #[error(
        "EDGE_SESSION_COOKIE needs origins by name in EDGE_CORS_ORIGINS: with * pages of other origins have no cookies"
    )]
    CookieForEveryOrigin,
}

impl HttpConfig {
    pub(super) fn validate(&self) -> Result<(), HttpConfigError> {
        if self.session_cookie.is_some() && self.origins.cors.contains(&AllowedOrigin::Any) {
            return Err(HttpConfigError::CookieForEveryOrigin);
        }
        Ok(())
    }
}

/// What sessions are bound to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SessionBonds {
    /// The token in the `Authorization` header, of clients that are no browsers.
    pub authorization: bool,
    /// The origin of the page.
    pub origin: bool,
}

/// A list is no list of what sessions can be bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("sessions are bound to `authorization`, `origin`, both, or `none`")]
pub struct ParseSessionBondsError;

impl FromStr for SessionBonds {
    type Err = ParseSessionBondsError;

    fn from_str(text: &str) -> Result<Self, ParseSessionBondsError> {
        let mut bonds = Self::default();
        if text == "none" {
            return Ok(bonds);
        }
        for bond in text.split(',') {
            match bond {
                "authorization" => bonds.authorization = true,
                "origin" => bonds.origin = true,
                _ => return Err(ParseSessionBondsError),
            }
        }
        Ok(bonds)
    }
}

/// With which requests browsers send a cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum SameSite {
    /// With those of pages of the same site.
    Strict,
    /// Also when somebody follows a link.
    Lax,
    /// With all, also those of pages of other sites.
    None,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bonds_are_a_list_or_none() {
        let bonds = |authorization, origin| Ok(SessionBonds { authorization, origin });
        for (text, expected) in [
            ("none", bonds(false, false)),
            ("origin", bonds(false, true)),
            ("authorization", bonds(true, false)),
            ("origin,authorization", bonds(true, true)),
            ("", Err(ParseSessionBondsError)),
            ("cookie", Err(ParseSessionBondsError)),
            ("origin,none", Err(ParseSessionBondsError)),
        ] {
            assert_eq!(text.parse(), expected, "{text}");
        }
    }
}
