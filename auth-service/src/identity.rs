//! Says who a verified token speaks for, and what others may know of them.

use serde_json::{Map, Value};

use crate::capabilities::Capability;

/// Who a verified token speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) subject: String,
    pub(crate) issuer: String,
    /// Whom the user belongs to. Empty is the default tenant.
    pub(crate) tenant: String,
    /// The name that other users see.
    pub(crate) name: Option<String>,
    /// The token's `exp`. It lies in the past while only the leeway keeps the token good.
    pub(crate) expires_at_unix_ms: u64,
    /// What a revocation may name the token by.
    pub(crate) marks: TokenMarks,
    /// What the user may do in rooms.
    pub(crate) capabilities: Vec<Capability>,
}

/// What of a token a revocation may name, beside its issuer and subject.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TokenMarks {
    /// The token's `jti`.
    pub(crate) token_id: Option<String>,
    /// The token's `sid`.
    pub(crate) session: Option<String>,
    /// The token's `iat`.
    pub(crate) issued_at_unix_ms: Option<u64>,
}

impl Identity {
    /// Returns what other users may see, as JSON text.
    pub(crate) fn profile(&self) -> String {
        let mut profile = Map::from_iter([("id".to_owned(), Value::from(self.subject.as_str()))]);
        if let Some(name) = &self.name {
            profile.insert("name".to_owned(), Value::from(name.as_str()));
        }
        Value::Object(profile).to_string()
    }
}
