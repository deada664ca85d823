//! Lists every reason to refuse a token.

/// Why a token is not accepted. The contract (`sockeye.auth.v1.RefusalReason`) says what each one means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    Malformed,
    Algorithm,
    UnknownKey,
    Signature,
    Expired,
    NotYetValid,
    Issuer,
    Audience,
    MissingClaim,
    Revoked,
    Inactive,
    Scope,
    Ticket,
    Capabilities,
}

impl Refusal {
    pub(crate) const ALL: [Self; 14] = [
        Self::Malformed,
        Self::Algorithm,
        Self::UnknownKey,
        Self::Signature,
        Self::Expired,
        Self::NotYetValid,
        Self::Issuer,
        Self::Audience,
        Self::MissingClaim,
        Self::Revoked,
        Self::Inactive,
        Self::Scope,
        Self::Ticket,
        Self::Capabilities,
    ];

    /// Returns the name that logs, spans and metrics use.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Algorithm => "algorithm",
            Self::UnknownKey => "unknown_key",
            Self::Signature => "signature",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::MissingClaim => "missing_claim",
            Self::Revoked => "revoked",
            Self::Inactive => "inactive",
            Self::Scope => "scope",
            Self::Ticket => "ticket",
            Self::Capabilities => "capabilities",
        }
    }
}
