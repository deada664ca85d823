//! Serves the page: its files, which are part of this program, and what it asks for before it connects.

use axum::{
    Json, Router,
    extract::DefaultBodyLimit,
    http::{
        HeaderName, HeaderValue,
        header::{
            CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY,
            X_CONTENT_TYPE_OPTIONS,
        },
    },
    middleware::map_response,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Serialize;

use crate::dev_tokens::{self, DevTokens};

/// Largest request that the page has to make.
const REQUEST_BYTES_MAX: usize = 4096;

/// Everything comes from here, no script or style stands in the page itself, and nobody may frame it.
const POLICY: &str =
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

const HEADERS: [(HeaderName, &str); 4] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (CACHE_CONTROL, "no-store"),
];

/// A file of the page.
#[derive(Debug, Clone, Copy)]
struct File {
    path: &'static str,
    content_type: &'static str,
    text: &'static str,
}

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

const FILES: [File; 7] = [
    File {
        path: "/",
        content_type: "text/html; charset=utf-8",
        text: include_str!("page/index.html"),
    },
    File {
        path: "/page/style.css",
        content_type: "text/css; charset=utf-8",
        text: include_str!("page/style.css"),
    },
    File {
        path: "/page/icon.svg",
        content_type: "image/svg+xml",
        text: include_str!("page/icon.svg"),
    },
    File { path: "/page/app.mjs", content_type: JAVASCRIPT, text: include_str!("page/app.mjs") },
    File {
        path: "/page/connection.mjs",
        content_type: JAVASCRIPT,
        text: include_str!("page/connection.mjs"),
    },
    File { path: "/page/room.mjs", content_type: JAVASCRIPT, text: include_str!("page/room.mjs") },
    File { path: "/page/view.mjs", content_type: JAVASCRIPT, text: include_str!("page/view.mjs") },
];

/// What the page must know beforehand.
#[derive(Debug, Clone, Serialize)]
struct PageSettings {
    /// Where traces are shown, if anywhere.
    trace_ui: Option<String>,
    /// Whether `POST /dev/token` gives out tokens. If not, the user must bring one.
    issues_tokens: bool,
}

/// Returns the routes of the page. Tokens are to be had where there is an issuer.
pub(crate) fn router(trace_ui: Option<String>, dev_tokens: Option<DevTokens>) -> Router {
    let settings = PageSettings { trace_ui, issues_tokens: dev_tokens.is_some() };
    let mut router =
        Router::new().route("/settings.json", get(move || async move { Json(settings) }));
    for file in FILES {
        router = router.route(file.path, get(move || async move { file }));
    }
    if let Some(dev_tokens) = dev_tokens {
        let answering = post(dev_tokens::answer)
            .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
            .with_state(dev_tokens);
        router = router.route("/dev/token", answering);
    }
    router.layer(map_response(with_headers))
}

impl IntoResponse for File {
    fn into_response(self) -> Response {
        ([(CONTENT_TYPE, self.content_type)], self.text).into_response()
    }
}

async fn with_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use axum::{
        body::{Body, to_bytes},
        http::{Method, Request, StatusCode, Uri},
    };
    use tower::ServiceExt;

    use super::*;

    fn without_tokens() -> Router {
        router(None, None)
    }

    /// Tokens come from an address where nobody listens.
    fn with_lost_issuer() -> Router {
        let trace_ui = Some("http://localhost:16686".to_owned());
        router(trace_ui, Some(DevTokens::of(Uri::from_static("http://127.0.0.1:1"))))
    }

    async fn get(router: Router, path: &str) -> Response {
        router.oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap()
    }

    async fn ask_for_token(router: Router, content_type: &str, body: &str) -> (StatusCode, String) {
        let request = Request::builder()
            .method(Method::POST)
            .uri("/dev/token")
            .header(CONTENT_TYPE, content_type)
            .body(Body::from(body.to_owned()))
            .unwrap();
        let response = router.oneshot(request).await.unwrap();
        (response.status(), text_of(response).await)
    }

    async fn text_of(response: Response) -> String {
        let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn every_file_is_served_under_a_strict_policy() {
        for file in FILES {
            let response = get(without_tokens(), file.path).await;

            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(response.headers()[CONTENT_TYPE], file.content_type);
            assert_eq!(response.headers()[X_CONTENT_TYPE_OPTIONS], "nosniff");
            assert_eq!(response.headers()[CONTENT_SECURITY_POLICY], POLICY);
            assert_eq!(text_of(response).await, file.text);
        }
    }

    #[tokio::test]
    async fn every_file_that_a_file_names_is_served() {
        let named = |text: &'static str| {
            let paths = text.split('"').filter(|word| word.starts_with("/page/"));
            let imports = text.split('"').filter_map(|word| word.strip_prefix("./"));
            paths.map(str::to_owned).chain(imports.map(|name| format!("/page/{name}")))
        };
        for path in FILES.iter().flat_map(|file| named(file.text)) {
            assert_eq!(get(without_tokens(), &path).await.status(), StatusCode::OK, "{path}");
        }
    }

    #[test]
    fn nothing_in_the_page_breaks_its_own_policy() {
        for file in FILES {
            for forbidden in ["style=", "onclick=", "<script>", "<style", "innerHTML", "eval("] {
                assert!(!file.text.contains(forbidden), "{}: {forbidden}", file.path);
            }
        }
    }

    #[tokio::test]
    async fn the_page_learns_where_traces_are_and_whether_there_are_tokens() {
        let with = text_of(get(with_lost_issuer(), "/settings.json").await).await;
        let without = text_of(get(without_tokens(), "/settings.json").await).await;

        assert_eq!(with, r#"{"trace_ui":"http://localhost:16686","issues_tokens":true}"#);
        assert_eq!(without, r#"{"trace_ui":null,"issues_tokens":false}"#);
    }

    #[tokio::test]
    async fn without_an_issuer_there_is_nobody_to_ask_for_tokens() {
        let (status, _) =
            ask_for_token(without_tokens(), "application/json", r#"{"name":"Ana"}"#).await;

        assert_eq!(status, StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn a_request_without_a_usable_name_is_refused() {
        let long = format!(r#"{{"name":"{}"}}"#, "a".repeat(REQUEST_BYTES_MAX));
        let cases = [
            ("application/json", r#"{"name":"!"}"#, "invalid_name"),
            ("application/json", r#"{"name":7}"#, "invalid_request"),
            ("application/json", "not JSON", "invalid_request"),
            ("application/json", long.as_str(), "invalid_request"),
            ("text/plain", r#"{"name":"Ana"}"#, "invalid_request"),
        ];
        for (content_type, body, code) in cases {
            let (status, text) = ask_for_token(with_lost_issuer(), content_type, body).await;

            assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
            let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(answer["error"]["code"], code, "{body}");
            assert_eq!(answer["error"]["retryable"], false);
        }
    }

    #[tokio::test]
    async fn an_issuer_out_of_reach_is_worth_another_try() {
        let (status, text) =
            ask_for_token(with_lost_issuer(), "application/json", r#"{"name":"Ana"}"#).await;

        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(answer["error"]["code"], "unavailable");
        assert_eq!(answer["error"]["retryable"], true);
    }
}
