//! Gives the page a token for a name, for as long as the auth service signs tokens for whoever asks.

use std::time::Duration;

use axum::{
    Json, RequestExt,
    extract::{Request, State},
    http::{StatusCode, Uri},
    response::{IntoResponse, Response},
};
use proto::auth::v1::{IssueTokenRequest, auth_service_client::AuthServiceClient};
use serde::{Deserialize, Serialize};
use tokio::time;
use tonic::transport::{Channel, Endpoint};

/// For how long the auth service may take.
const ISSUE_TIMEOUT: Duration = Duration::from_secs(3);
/// For how long a client may take over its request, and we over the answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// As much as the auth service takes.
const NAME_BYTES_MAX: usize = 128;

/// The auth service, as far as it issues tokens.
#[derive(Debug, Clone)]
pub(crate) struct DevTokens {
    auth: AuthServiceClient<Channel>,
}

#[derive(Debug, Deserialize)]
struct TokenRequest {
    name: String,
}

/// What the page gets.
#[derive(Serialize)]
struct DevToken {
    token: String,
    subject: String,
    /// In milliseconds since the Unix epoch.
    expires_at: u64,
}

/// Why there is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IssueError {
    /// The request is not JSON with a name, or takes too long.
    Request,
    /// There is nothing in the name to tell people apart by, or it is too long.
    Name,
    /// The auth service does not answer.
    Unavailable,
}

impl DevTokens {
    /// Returns the issuer at this URL. Nobody is called yet.
    pub(crate) fn of(auth_url: Uri) -> Self {
        let channel = Endpoint::from(auth_url)
            .connect_timeout(ISSUE_TIMEOUT)
            .timeout(ISSUE_TIMEOUT)
            .connect_lazy();
        Self { auth: AuthServiceClient::new(channel) }
    }

    async fn issue(mut self, name: &str) -> Result<DevToken, IssueError> {
        let name = name.trim();
        let subject = subject_of(name).ok_or(IssueError::Name)?;
        let request = IssueTokenRequest {
            subject: subject.clone(),
            name: name.to_owned(),
            lifetime_seconds: 0,
            // Whoever tries it out may do everything.
            capabilities: None,
        };
        match self.auth.issue_token(request).await {
            Ok(issued) => {
                let issued = issued.into_inner();
                let expires_at = issued.expires_at_unix_ms;
                Ok(DevToken { token: issued.token, subject, expires_at })
            }
            Err(status) if status.code() == tonic::Code::InvalidArgument => Err(IssueError::Name),
            Err(status) => {
                tracing::warn!(code = ?status.code(), "no token for the page: the auth service does not issue one");
                Err(IssueError::Unavailable)
            }
        }
    }
}

/// Answers `POST /dev/token`.
pub(crate) async fn answer(State(tokens): State<DevTokens>, request: Request) -> Response {
    let answering = async {
        let Json(request) =
            request.extract::<Json<TokenRequest>, _>().await.map_err(|_| IssueError::Request)?;
        tokens.issue(&request.name).await
    };
    match time::timeout(ANSWER_TIMEOUT, answering).await {
        Ok(Ok(token)) => Json(token).into_response(),
        Ok(Err(error)) => error.into_response(),
        Err(_) => IssueError::Request.into_response(),
    }
}

impl IntoResponse for IssueError {
    fn into_response(self) -> Response {
        let (status, code, message) = match self {
            Self::Request => {
                (StatusCode::BAD_REQUEST, "invalid_request", "The request has no name.")
            }
            Self::Name => (
                StatusCode::BAD_REQUEST,
                "invalid_name",
                "A name needs a letter or a digit, and is not that long.",
            ),
            Self::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "There are no tokens at the moment.",
            ),
        };
        let error = serde_json::json!({
            "code": code, "message": message, "retryable": self == Self::Unavailable
        });
        (status, Json(serde_json::json!({ "error": error }))).into_response()
    }
}

/// Returns whom a name stands for: letters and digits in lower case, and dashes between them.
///
/// The same name in two tabs is the same user, also where it is written a little differently.
fn subject_of(name: &str) -> Option<String> {
    let name = name.to_lowercase();
    let words = name.split(|character: char| !character.is_alphanumeric());
    let subject = words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-");
    let is_usable = !subject.is_empty() && subject.len().max(name.len()) <= NAME_BYTES_MAX;
    is_usable.then_some(subject)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_for_one_user_however_it_is_written() {
        let cases = [
            ("Ana", "ana"),
            ("ana", "ana"),
            ("  Ana Lúcia  ", "ana-lúcia"),
            ("Ana-Lúcia!", "ana-lúcia"),
            ("R2-D2 / droid", "r2-d2-droid"),
            ("鮭", "鮭"),
        ];
        for (name, subject) in cases {
            assert_eq!(subject_of(name).as_deref(), Some(subject), "{name}");
        }
    }

    #[test]
    fn a_name_without_letters_and_one_without_end_stand_for_nobody() {
        assert_eq!(subject_of(""), None);
        assert_eq!(subject_of(" -- !"), None);
        assert_eq!(subject_of("🐟"), None);
        assert_eq!(subject_of(&"a".repeat(NAME_BYTES_MAX)), Some("a".repeat(NAME_BYTES_MAX)));
        assert_eq!(subject_of(&"a".repeat(NAME_BYTES_MAX + 1)), None);
        assert_eq!(subject_of(&format!("a{}", "!".repeat(NAME_BYTES_MAX))), None);
    }
}
