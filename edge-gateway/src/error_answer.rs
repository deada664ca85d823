//! The errors that the edge itself gives to clients, in one shape.

use std::time::Duration;

use edge_protocol::plain_json::DecodeMessageError;

/// An error as a client sees it: the answer to an event that asked for one, or an `exception`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ErrorAnswer {
    /// Stable name, for programs.
    code: &'static str,
    /// Text, for people.
    message: &'static str,
    /// Whether the same event may do later.
    retryable: bool,
    /// When it may.
    retry_after: Option<Duration>,
}

impl ErrorAnswer {
    /// No business service has answered in time, or the one that was asked is gone.
    pub(crate) fn unavailable() -> Self {
        Self {
            code: "unavailable",
            message: "the service could not be reached; try again",
            retryable: true,
            retry_after: None,
        }
    }

    /// Too many events.
    pub(crate) fn rate_limited(retry_after: Duration) -> Self {
        Self {
            code: "rate_limited",
            message: "too many events; slow down",
            retryable: true,
            retry_after: Some(retry_after),
        }
    }

    /// Too many clients open a session.
    pub(crate) fn overloaded(retry_after: Duration) -> Self {
        Self {
            code: "rate_limited",
            message: "too many clients come at once; try again later",
            retryable: true,
            retry_after: Some(retry_after),
        }
    }

    /// One address opens, or has, too many sessions.
    pub(crate) fn too_many_of_address(retry_after: Duration) -> Self {
        Self {
            code: "rate_limited",
            message: "too many clients come from this address; try again later",
            retryable: true,
            retry_after: Some(retry_after),
        }
    }

    /// One user, or one tenant, has too many sockets.
    pub(crate) fn too_many_sockets() -> Self {
        Self {
            code: "rate_limited",
            message: "there are too many sockets of this user or tenant; try again later",
            retryable: true,
            retry_after: None,
        }
    }

    /// This edge lets nobody in any more.
    pub(crate) fn shutting_down(retry_after: Duration) -> Self {
        Self {
            code: "unavailable",
            message: "the edge is being stopped; try again",
            retryable: true,
            retry_after: Some(retry_after),
        }
    }

    /// The token was not accepted, or there was none.
    pub(crate) fn unauthorized() -> Self {
        Self {
            code: "unauthorized",
            message: "the token was not accepted",
            retryable: false,
            retry_after: None,
        }
    }

    /// A plain JSON message that is not one.
    pub(crate) fn bad_request(error: DecodeMessageError) -> Self {
        Self { code: "bad_request", message: problem(error), retryable: false, retry_after: None }
    }

    /// A business service refused a plain JSON client.
    pub(crate) fn refused() -> Self {
        Self {
            code: "refused",
            message: "the service refused the connection",
            retryable: false,
            retry_after: None,
        }
    }

    /// `[{"error":{…}}]`: the arguments of an ack.
    pub(crate) fn ack_args(&self) -> String {
        format!("[{{\"error\":{{{}}}}}]", self.fields())
    }

    /// `[{"status":"error",…}]`: the arguments of an `exception`.
    pub(crate) fn exception_args(&self) -> String {
        format!("[{{\"status\":\"error\",{}}}]", self.fields())
    }

    /// `{"code":…}`: the `data` of a CONNECT_ERROR, which has a message of its own.
    pub(crate) fn connect_error_data(&self) -> String {
        let Self { code, retryable, .. } = self;
        format!("{{\"code\":\"{code}\",\"retryable\":{retryable}{}}}", self.retry_after_field())
    }

    /// `{"error":{…}}`: the body of an HTTP answer.
    pub(crate) fn http_body(&self) -> String {
        format!("{{\"error\":{{{}}}}}", self.fields())
    }

    // All texts are constants of this file, and hold nothing that JSON escapes.
    fn fields(&self) -> String {
        let Self { code, message, retryable, .. } = self;
        let retry_after = self.retry_after_field();
        format!(
            "\"code\":\"{code}\",\"message\":\"{message}\",\"retryable\":{retryable}{retry_after}"
        )
    }

    fn retry_after_field(&self) -> String {
        self.retry_after.map_or_else(String::new, |duration| {
            format!(",\"retry_after_ms\":{}", duration.as_millis().max(1))
        })
    }
}

fn problem(error: DecodeMessageError) -> &'static str {
    match error {
        DecodeMessageError::NotJson => "the message is not JSON",
        DecodeMessageError::NotAnObject => "a message is a JSON object",
        DecodeMessageError::MissingEvent => {
            "a message has an `event`, or answers one with `id` and `data` or `error`"
        }
        DecodeMessageError::BadEvent => "`event` is a string",
        DecodeMessageError::EventTooLong => "`event` has at most 256 bytes",
        DecodeMessageError::BadId => "`id` is a string or a number",
        DecodeMessageError::IdTooLong => "`id` has at most 128 bytes",
        DecodeMessageError::TooDeep => "the message is nested too deeply",
        DecodeMessageError::BadPlaceholder => "a placeholder has the number of an attachment",
        DecodeMessageError::BadAttachmentCount => "`attachments` is a number from 0 to 10",
        DecodeMessageError::AttachmentMissing => {
            "binary frames follow at once, as many as `attachments` says"
        }
        DecodeMessageError::AttachmentUnexpected => "no message has announced a binary frame",
        DecodeMessageError::TooLarge => "the message is too large with its attachments",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_json_in_the_shape_that_clients_know() {
        assert_eq!(
            ErrorAnswer::unavailable().ack_args(),
            r#"[{"error":{"code":"unavailable","message":"the service could not be reached; try again","retryable":true}}]"#
        );
        assert_eq!(
            ErrorAnswer::rate_limited(Duration::from_millis(20)).exception_args(),
            r#"[{"status":"error","code":"rate_limited","message":"too many events; slow down","retryable":true,"retry_after_ms":20}]"#
        );
    }

    #[test]
    fn every_error_is_well_formed() {
        let all = [
            ErrorAnswer::unavailable(),
            ErrorAnswer::rate_limited(Duration::ZERO),
            ErrorAnswer::overloaded(Duration::from_secs(1)),
            ErrorAnswer::shutting_down(Duration::from_secs(1)),
            ErrorAnswer::unauthorized(),
            ErrorAnswer::bad_request(DecodeMessageError::MissingEvent),
            ErrorAnswer::refused(),
        ];
        for answer in all {
            let texts = [answer.ack_args(), answer.exception_args(), answer.http_body()];
            for text in texts.into_iter().chain([answer.connect_error_data()]) {
                serde_json::from_str::<serde_json::Value>(&text).unwrap();
            }
        }
    }
}
