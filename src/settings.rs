//! Names the settings of the process: those of its three services, and those of the page.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZeroUsize,
};

use anyhow::Context;
use axum::http::Uri;
use service_kit::{audit::AuditConfig, cores, exit::Failure, telemetry::TelemetryConfig};

/// A real-time gateway for Socket.IO and plain WebSocket clients: the edge gateway, the auth service and the chat
/// service in one process, with a page to try them.
///
/// Without any key, tokens of a throwaway secret are given to whoever asks. Set one to keep strangers out.
#[derive(Debug, clap::Parser)]
#[command(version)]
pub(crate) struct Settings {
    /// Checks the settings and the files that they name, and ends: with 0 if they can be used, with 78 if not.
    #[arg(long)]
    pub(crate) check: bool,

    #[command(flatten, next_help_heading = "Edge gateway")]
    pub(crate) edge: edge_gateway::Config,

    #[command(flatten, next_help_heading = "Auth service")]
    pub(crate) auth: auth_service::Config,

    #[command(flatten, next_help_heading = "Chat service")]
    pub(crate) chat: chat_service::Config,

    #[command(flatten, next_help_heading = "Logs and traces")]
    pub(crate) telemetry: TelemetryConfig,

    #[command(flatten, next_help_heading = "Security events")]
    pub(crate) audit: AuditConfig,

    #[command(flatten, next_help_heading = "Page")]
    pub(crate) page: PageConfig,
}

/// Settings of the page.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct PageConfig {
    /// Where traces are shown, such as Jaeger at http://localhost:16686. Each message on the page then links to its
    /// trace, and carries the trace's id to every client.
    #[arg(
        id = "trace-ui",
        long = "trace-ui",
        env = "TRACE_UI_URL",
        value_name = "URL",
        value_parser = parse_trace_ui
    )]
    pub(crate) trace_ui: Option<String>,
}

impl Settings {
    /// Fills in what the services of one process need of each other.
    ///
    /// # Errors
    ///
    /// When the operating system has no randomness for a secret.
    pub(crate) fn complete(&mut self) -> Result<(), MakeSecretError> {
        if self.page.trace_ui.is_some() {
            self.chat.expose_trace_ids = true;
            if self.telemetry.otlp_endpoint.is_none() {
                tracing::warn!(
                    "no message has a trace to link to: OTEL_EXPORTER_OTLP_ENDPOINT is not set"
                );
            }
        }
        if self.auth.names_no_key() {
            self.auth.use_throwaway_secret().map_err(MakeSecretError)?;
            self.auth.grpc_reflection = true;
            self.chat.grpc_reflection = true;
            tracing::warn!(
                "development settings are on: anyone can get a token, and gRPC reflection is on"
            );
        }
        Ok(())
    }

    /// Looks at what can be looked at without starting anything. The services are started only if this finds nothing.
    ///
    /// # Errors
    ///
    /// When a setting is wrong, or a file that it names.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        self.chat.check()?;
        let mut auth = self.auth.clone();
        if auth.names_no_key() {
            auth.use_throwaway_secret().map_err(MakeSecretError).map_err(Failure::internal)?;
        }
        auth.check()?;
        let edge = self.edge_between(self.auth.listen, self.chat.listen)?;
        edge.check().map_err(Failure::configuration)
    }

    /// Returns the settings of the edge, with the services of this process where their listeners are.
    ///
    /// # Errors
    ///
    /// When an address is no part of a URL.
    pub(crate) fn edge_between(
        &self,
        auth: SocketAddr,
        chat: SocketAddr,
    ) -> Result<edge_gateway::Config, Failure> {
        let mut edge = self.edge.clone();
        if edge.auth_url.is_none() {
            edge.auth_url = Some(url(self.auth.grpc.certificate.is_some(), auth)?);
        }
        edge.default_backend = Some(url(self.chat.grpc.certificate.is_some(), chat)?);
        // The other services need the other cores.
        edge.shards = edge.shards.or(NonZeroUsize::new(cores::half()));
        Ok(edge)
    }

    /// Tells whether the page can have tokens from the auth service of this process, and the edge accepts them. The page is no
    /// service with a certificate: where callers must show one, it gets none.
    pub(crate) fn issues_page_tokens(&self) -> bool {
        let is_plaintext = self.auth.grpc.certificate.is_none();
        self.auth.issue_tokens && self.edge.auth_url.is_none() && is_plaintext
    }
}

fn url(has_certificate: bool, listener: SocketAddr) -> Result<Uri, Failure> {
    let url = loopback_url(if has_certificate { "https" } else { "http" }, listener);
    url.parse().context("a bound address is no part of a URL").map_err(Failure::internal)
}

/// Why there is no secret to sign with.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a secret to sign tokens with")]
pub(crate) struct MakeSecretError(#[source] getrandom::Error);

/// Returns the URL of a scheme at which a listener is reached from the process it belongs to.
pub(crate) fn loopback_url(scheme: &str, listener: SocketAddr) -> String {
    let ip = match listener.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    format!("{scheme}://{}", SocketAddr::new(ip, listener.port()))
}

/// Why a URL cannot be that of a trace viewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a URL that starts with http:// or https://")]
struct ParseTraceUiError;

fn parse_trace_ui(text: &str) -> Result<String, ParseTraceUiError> {
    let url: Uri = text.parse().map_err(|_| ParseTraceUiError)?;
    match url.scheme_str() {
        Some("http" | "https") => Ok(text.trim_end_matches('/').to_owned()),
        _ => Err(ParseTraceUiError),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    fn settings(flags: &[&str]) -> Settings {
        let mut settings = Settings::parse_from([&["sockeye"], flags].concat());
        settings.complete().unwrap();
        settings
    }

    #[test]
    fn the_settings_of_all_services_go_together() {
        Settings::command().debug_assert();
    }

    #[test]
    fn without_a_key_tokens_are_given_to_whoever_asks() {
        let settings = settings(&[]);

        assert!(settings.auth.issue_tokens);
        assert!(!settings.auth.names_no_key());
        assert!(settings.auth.grpc_reflection && settings.chat.grpc_reflection);
        assert!(settings.issues_page_tokens());
    }

    #[test]
    fn with_a_key_of_ones_own_nobody_is_given_a_token_unless_that_is_asked_for() {
        let key = "--auth-public-key-file=key.pem";

        assert!(!settings(&[key]).issues_page_tokens());
        assert!(!settings(&[key]).auth.grpc_reflection && !settings(&[key]).chat.grpc_reflection);
        assert!(settings(&[key, "--auth-issue-tokens"]).issues_page_tokens());
    }

    #[test]
    fn the_edge_leaves_cores_to_the_other_services_unless_it_is_told_how_many_it_has() {
        let shards = |flags: &[&str]| {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
            settings(flags).edge_between(address, address).unwrap().shards.unwrap().get()
        };

        assert_eq!(shards(&[]), cores::half());
        assert_eq!(shards(&["--edge-shards=7"]), 7);
    }

    #[test]
    fn tokens_of_our_own_are_of_no_use_to_another_auth_service() {
        assert!(!settings(&["--edge-auth-url=http://127.0.0.1:1"]).issues_page_tokens());
    }

    #[test]
    fn links_to_traces_need_trace_ids_in_messages() {
        assert!(!settings(&[]).chat.expose_trace_ids);
        assert!(settings(&["--trace-ui=http://localhost:16686"]).chat.expose_trace_ids);
    }

    #[test]
    fn a_trace_viewer_is_a_web_address() {
        let cases = [
            ("http://localhost:16686", Ok("http://localhost:16686")),
            ("https://traces.example/jaeger/", Ok("https://traces.example/jaeger")),
            ("javascript:alert(1)", Err(ParseTraceUiError)),
            ("localhost:16686", Err(ParseTraceUiError)),
            ("", Err(ParseTraceUiError)),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_trace_ui(text), expected.map(str::to_owned), "{text}");
        }
    }

    #[test]
    fn a_listener_on_every_address_is_reached_on_this_machine() {
        let cases = [
            ("127.0.0.1:50051", "http://127.0.0.1:50051"),
            ("0.0.0.0:50051", "http://127.0.0.1:50051"),
            ("[::]:50051", "http://[::1]:50051"),
            ("192.0.2.1:1", "http://192.0.2.1:1"),
        ];
        for (listener, url) in cases {
            assert_eq!(loopback_url("http", listener.parse().unwrap()), url);
        }
    }
}
