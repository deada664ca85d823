//! Says what a token must claim to be meant for us.

use std::time::Duration;

use crate::capabilities::CapabilityRules;
use crate::tenant::TenantRule;

/// What a token must say, apart from its signature.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    /// The only accepted `iss`.
    pub(crate) issuer: String,
    /// What `aud` must name, alone or among others.
    pub(crate) audience: String,
    /// How far the issuer's clock and ours may differ.
    pub(crate) clock_leeway: Duration,
    pub(crate) types: TokenTypes,
    /// What `scope` must name, among others.
    pub(crate) scopes: Vec<String>,
    pub(crate) claims: ClaimNames,
    pub(crate) tenant: TenantRule,
    pub(crate) capabilities: CapabilityRules,
}

impl Rules {
    pub(crate) fn clock_leeway_ms(&self) -> u64 {
        u64::try_from(self.clock_leeway.as_millis()).unwrap_or(u64::MAX)
    }

    /// Returns the latest `iat` and `nbf` of tokens that are accepted now.
    pub(crate) fn latest_start_unix_ms(&self, now_unix_ms: u64) -> u64 {
        now_unix_ms.saturating_add(self.clock_leeway_ms())
    }
}

/// What `typ` may be. Other kinds of tokens (logout, proof of possession) are signed by the same issuers with the same keys, and
/// are no pass.
#[derive(Debug, Clone)]
pub(crate) struct TokenTypes {
    /// In lower case, without `application/`. An empty one stands for no `typ`.
    accepted: Vec<String>,
}

impl Default for TokenTypes {
    fn default() -> Self {
        Self { accepted: ["", "jwt", "at+jwt"].map(str::to_owned).to_vec() }
    }
}

impl TokenTypes {
    /// Takes media types as `typ` has them. None at all would accept nothing.
    pub(crate) fn parse(names: &[String]) -> Option<Self> {
        let is_good = |name: &String| name.bytes().all(|byte| byte.is_ascii_graphic());
        if names.is_empty() || !names.iter().all(is_good) {
            return None;
        }
        Some(Self { accepted: names.iter().map(|name| normal_form(name)).collect() })
    }

    pub(crate) fn accept(&self, media_type: Option<&str>) -> bool {
        let Some(media_type) = media_type.map(normal_form) else {
            return self.accepted.iter().any(String::is_empty);
        };
        // An empty `typ` is not the same as none.
        !media_type.is_empty() && self.accepted.contains(&media_type)
    }
}

fn normal_form(media_type: &str) -> String {
    let media_type = media_type.to_ascii_lowercase();
    media_type.strip_prefix("application/").unwrap_or(&media_type).to_owned()
}

/// Which claims say what the standards leave to issuers.
#[derive(Debug, Clone)]
pub(crate) struct ClaimNames {
    /// The name that other users see.
    pub(crate) name: String,
    /// The session that a revocation may name.
    pub(crate) session: String,
}

impl Default for ClaimNames {
    fn default() -> Self {
        Self { name: "name".to_owned(), session: "sid".to_owned() }
    }
}
