//! Settings of the edge gateway.

mod address_limits;
mod client_addresses;
mod client_limits;
mod grpc;
mod hops;
mod http;
mod overload;
mod routes;
mod tls;

use std::{
    io,
    net::SocketAddr,
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
    time::Duration,
};

use ::http::Uri;
use proto::MESSAGE_BYTES_MAX;
use service_kit::grpc::GrpcSettingsError;
use service_kit::plaintext::{self, PlaintextError};

#[cfg(test)]
pub(crate) use self::client_addresses::parse_network;
pub(crate) use self::routes::{is_namespace, parse_backend_url};
pub use self::{
    address_limits::AddressLimitConfig,
    client_addresses::{ClientAddressConfig, ForwardedHeader},
    client_limits::{ClientLimitConfig, IdentityLimitConfig},
    grpc::GrpcConfig,
    hops::HopError,
    http::{
        HttpConfig, HttpConfigError, OriginConfig, ParseSessionBondsError, SameSite, SessionBonds,
    },
    overload::OverloadConfig,
    routes::{ParseRouteError, Route},
    tls::TlsConfig,
};
use crate::{
    client_tls::{self, ClientTlsError},
    namespaces::{EventRate, NamespaceSettings, NamespacesFile, ReadNamespacesError},
    peers::PeerAddress,
    server::client_bundle::ClientBundle,
    webtransport::{self, WebTransportError},
};

/// Where the auth service is looked for unless `--edge-auth-url` says otherwise.
pub const DEFAULT_AUTH_URL: &str = "http://127.0.0.1:50051";

/// Where namespaces go unless they say otherwise: to the chat service.
pub(crate) const DEFAULT_BACKEND_URL: &str = "http://127.0.0.1:50052";

/// Which namespaces there are unless settings name some.
const DEFAULT_NAMESPACES: [&str; 2] = ["/", "/chat"];

/// Settings of the edge gateway. Each one is both a flag and an environment variable.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "edge-gateway")]
pub struct Config {
    /// Address that accepts client connections.
    #[arg(id = "edge-listen", long = "edge-listen", env = "EDGE_LISTEN", value_name = "ADDR")]
    #[arg(default_value = "127.0.0.1:3000")]
    pub listen: SocketAddr,

    /// TLS for clients.
    #[command(flatten)]
    pub tls: TlsConfig,

    /// TLS with the other services, and who may call.
    #[command(flatten)]
    pub grpc: GrpcConfig,

    /// Address for operators: health, readiness, metrics.
    #[arg(id = "edge-ops-listen", long = "edge-ops-listen", env = "EDGE_OPS_LISTEN")]
    #[arg(value_name = "ADDR", default_value = "127.0.0.1:3001")]
    pub ops_listen: SocketAddr,

    /// This edge's number among the edges of its cluster, which is part of its sessions' ids.
    #[arg(id = "edge-number", long = "edge-number", env = "EDGE_NUMBER", value_name = "NUMBER")]
    #[arg(default_value = "0")]
    pub number: u16,

    /// Address for the other edges of the cluster; only they should reach it [default: none].
    #[arg(id = "edge-peer-listen", long = "edge-peer-listen", env = "EDGE_PEER_LISTEN")]
    #[arg(value_name = "ADDR")]
    pub peer_listen: Option<SocketAddr>,

    /// Another edge of the cluster and its address for edges; may be given several times, and may name this edge too, so
    /// that all can have the same list [default: none].
    #[arg(id = "edge-peer", long = "edge-peer", env = "EDGE_PEERS", value_delimiter = ',')]
    #[arg(value_name = "NUMBER=URL")]
    pub peers: Vec<PeerAddress>,

    /// How many shards share the client connections [default: one for each core; in one process with the
    /// other services, one for each two].
    #[arg(id = "edge-shards", long = "edge-shards", env = "EDGE_SHARDS", value_name = "COUNT")]
    pub shards: Option<NonZeroUsize>,

    /// Where the auth service is [default: http://127.0.0.1:50051].
    #[arg(id = "edge-auth-url", long = "edge-auth-url", env = "EDGE_AUTH_URL", value_name = "URL")]
    pub auth_url: Option<Uri>,

    /// Which business service answers for a namespace; may be given several times
    /// [default: /=http://127.0.0.1:50052,/chat=http://127.0.0.1:50052].
    #[arg(id = "edge-route", long = "edge-route", env = "EDGE_ROUTES", value_delimiter = ',')]
    #[arg(value_name = "NAMESPACE=URL")]
    pub routes: Vec<Route>,

    /// File with the namespaces that have terms of their own: authentication, origins, limits, recovery.
    #[arg(
        id = "edge-namespaces-file",
        long = "edge-namespaces-file",
        env = "EDGE_NAMESPACES_FILE"
    )]
    #[arg(value_name = "FILE")]
    pub namespaces_file: Option<PathBuf>,

    /// Where namespaces go that do not say it themselves; the default one if none.
    #[arg(skip)]
    pub default_backend: Option<Uri>,

    /// What HTTP requests are held against.
    #[command(flatten)]
    pub http: HttpConfig,

    /// Whose word counts on where a client is.
    #[command(flatten)]
    pub client_addresses: ClientAddressConfig,

    /// What one address may have.
    #[command(flatten)]
    pub address_limits: AddressLimitConfig,

    /// What one client may send, and leave unread.
    #[command(flatten)]
    pub client_limits: ClientLimitConfig,

    /// When there is no room for more sessions.
    #[command(flatten)]
    pub overload: OverloadConfig,

    /// Lets in clients of Socket.IO 2, which speak Engine.IO 3 and bring their token in the URL.
    #[arg(id = "edge-allow-eio3", long = "edge-allow-eio3", env = "EDGE_ALLOW_EIO3")]
    pub allow_eio3: bool,

    /// The folder `dist` of socket.io-client, for browsers to load the client from `/socket.io/socket.io.js` and its
    /// siblings [default: none].
    #[arg(id = "edge-client-bundle", long = "edge-client-bundle", env = "EDGE_CLIENT_BUNDLE")]
    #[arg(value_name = "DIR")]
    pub client_bundle: Option<PathBuf>,

    /// UDP address that accepts WebTransport (HTTP/3). Clients look for it under the name and port they know the edge by
    /// [default: none].
    #[arg(id = "edge-webtransport-listen", long = "edge-webtransport-listen")]
    #[arg(env = "EDGE_WEBTRANSPORT_LISTEN", value_name = "ADDR")]
    pub webtransport_listen: Option<SocketAddr>,

    /// PEM file with the certificate chain for WebTransport. It is read again when it changes [default: the one for TLS].
    #[arg(id = "edge-webtransport-certificate", long = "edge-webtransport-certificate")]
    #[arg(env = "EDGE_WEBTRANSPORT_CERTIFICATE", value_name = "FILE")]
    pub webtransport_certificate: Option<PathBuf>,

    /// PEM file with the private key for WebTransport [default: the one for TLS].
    #[arg(id = "edge-webtransport-key", long = "edge-webtransport-key")]
    #[arg(env = "EDGE_WEBTRANSPORT_KEY", value_name = "FILE")]
    pub webtransport_key: Option<PathBuf>,

    /// The namespace that plain JSON connections on `/ws` enter.
    #[arg(id = "edge-ws-namespace", long = "edge-ws-namespace", env = "EDGE_WS_NAMESPACE")]
    #[arg(value_name = "NAMESPACE", default_value = "/chat")]
    pub ws_namespace: String,

    /// How often an idle connection is pinged.
    #[arg(id = "edge-ping-interval", long = "edge-ping-interval", env = "EDGE_PING_INTERVAL")]
    #[arg(value_name = "DURATION", default_value = "25s", value_parser = humantime::parse_duration)]
    pub ping_interval: Duration,

    /// How long a pong may take before the connection is given up.
    #[arg(id = "edge-ping-timeout", long = "edge-ping-timeout", env = "EDGE_PING_TIMEOUT")]
    #[arg(value_name = "DURATION", default_value = "20s", value_parser = humantime::parse_duration)]
    pub ping_timeout: Duration,

    /// How often a client is asked, at most, whether it has got what was sent, where a business service wants to know.
    #[arg(
        id = "edge-confirm-interval",
        long = "edge-confirm-interval",
        env = "EDGE_CONFIRM_INTERVAL"
    )]
    #[arg(value_name = "DURATION", default_value = "1s", value_parser = humantime::parse_duration)]
    pub confirm_interval: Duration,

    /// How long before its token expires a client is told; 0s tells nobody.
    #[arg(id = "edge-expiry-warning", long = "edge-expiry-warning", env = "EDGE_EXPIRY_WARNING")]
    #[arg(value_name = "DURATION", default_value = "60s", value_parser = humantime::parse_duration)]
    pub expiry_warning: Duration,

    /// How long a client may take from opening a connection to entering a namespace.
    #[arg(
        id = "edge-connect-timeout",
        long = "edge-connect-timeout",
        env = "EDGE_CONNECT_TIMEOUT"
    )]
    #[arg(value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    pub connect_timeout: Duration,

    /// How long a business service may take to answer an event before the edge answers `unavailable`.
    #[arg(id = "edge-event-timeout", long = "edge-event-timeout", env = "EDGE_EVENT_TIMEOUT")]
    #[arg(value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    pub event_timeout: Duration,

    /// How long events may be held back, at most, for others to be written with them, while a shard is busy writing to many
    /// clients; 0s holds back nothing.
    #[arg(id = "edge-coalesce-max", long = "edge-coalesce-max", env = "EDGE_COALESCE_MAX")]
    #[arg(value_name = "DURATION", default_value = "3ms", value_parser = humantime::parse_duration)]
    pub coalesce_max: Duration,

    /// How many sessions the edge opens each second, in the long run; clients beyond that wait, for up to 10 s.
    #[arg(id = "edge-opens-per-second", long = "edge-opens-per-second")]
    #[arg(env = "EDGE_OPENS_PER_SECOND", value_name = "COUNT", default_value = "2000")]
    pub opens_per_second: NonZeroU32,

    /// How long open connections are spread over when the edge is stopped.
    #[arg(id = "edge-drain-timeout", long = "edge-drain-timeout", env = "EDGE_DRAIN_TIMEOUT")]
    #[arg(value_name = "DURATION", default_value = "30s", value_parser = humantime::parse_duration)]
    pub drain_timeout: Duration,
}

/// Why settings do not go together.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file of namespaces is of no use.
    #[error(transparent)]
    Namespaces(#[from] ReadNamespacesError),
    /// A namespace has two routes.
    #[error("{namespace} has two routes")]
    DuplicateRoute {
        /// The namespace.
        namespace: String,
    },
    /// Plain JSON connections would enter a namespace that nobody answers for.
    #[error("EDGE_WS_NAMESPACE is {namespace}, which has no route")]
    UnroutedWsNamespace {
        /// The namespace.
        namespace: String,
    },
    /// More namespaces than the shard's index can number.
    #[error("there are more than {max} namespaces")]
    TooManyNamespaces {
        /// The most that may be.
        max: usize,
    },
    /// A client's message could be larger than what links carry.
    #[error(
        "EDGE_PAYLOAD_BYTES_MAX is more than {max}, which is what links to business services carry"
    )]
    PayloadTooLarge {
        /// The most that may be.
        max: u32,
    },
    /// More shards than a session's name can tell apart.
    #[error("EDGE_SHARDS is more than {max}")]
    TooManyShards {
        /// The most that may be.
        max: usize,
    },
    /// An edge has two addresses.
    #[error("EDGE_PEERS names edge {number} twice")]
    DuplicatePeer {
        /// The edge's number.
        number: u16,
    },
    /// Sessions of other edges can be reached from here, but not the other way round.
    #[error(
        "EDGE_PEERS names other edges, but EDGE_PEER_LISTEN, where they would reach this one, is not set"
    )]
    NoPeerListener,
    /// Nobody could connect.
    #[error(
        "EDGE_PROXY_PROTOCOL is on, but EDGE_TRUSTED_PROXIES, who may connect then, is not set"
    )]
    NoTrustedProxy,
    /// A file of the client's bundle cannot be read.
    #[error("EDGE_CLIENT_BUNDLE needs {}, which cannot be read: {kind}", file.display())]
    ClientBundle {
        /// The file.
        file: PathBuf,
        /// Why not.
        kind: io::ErrorKind,
    },
    /// There is no TLS for clients as it is described.
    #[error(transparent)]
    Tls(#[from] ClientTlsError),
    /// Clients would speak plaintext where others can listen.
    #[error(transparent)]
    Plaintext(#[from] PlaintextError),
    /// gRPC cannot be spoken as it is described.
    #[error(transparent)]
    Grpc(#[from] GrpcSettingsError),
    /// A service is where it would be spoken to in a way that the settings do not allow.
    #[error(transparent)]
    Hop(#[from] HopError),
    /// The listener for WebTransport cannot be had as it is described.
    #[error(transparent)]
    WebTransport(#[from] WebTransportError),
    /// Settings of HTTP do not go together.
    #[error(transparent)]
    Http(#[from] HttpConfigError),
    /// A duration that must not be zero is.
    #[error("{setting} must not be zero")]
    Zero {
        /// The setting's environment variable.
        setting: &'static str,
    },
}

/// The most namespaces there may be.
const NAMESPACES_MAX: usize = 256;

/// The largest message that a frame of a link holds beside its batch of 1 MiB.
const PAYLOAD_BYTES_MAX: u32 = 3 * 1024 * 1024;
const _: () = assert!(PAYLOAD_BYTES_MAX as usize + 1024 * 1024 <= MESSAGE_BYTES_MAX);

impl Config {
    /// The namespaces in force.
    ///
    /// # Errors
    ///
    /// Says which settings do not go together.
    pub(crate) fn validated_namespaces(&self) -> Result<Vec<NamespaceSettings>, ConfigError> {
        let default_backend = self.default_backend.clone();
        let default_backend = default_backend.unwrap_or(Uri::from_static(DEFAULT_BACKEND_URL));
        let file = self.namespaces_file.as_deref().map(NamespacesFile::read).transpose()?;
        let routes = if self.routes.is_empty() && file.is_none() {
            let route = |namespace: &str| Route {
                namespace: namespace.to_owned(),
                url: default_backend.clone(),
            };
            DEFAULT_NAMESPACES.map(route).into()
        } else {
            self.routes.clone()
        };
        let rate = EventRate {
            per_second: self.client_limits.events_per_second,
            burst: self.client_limits.events_burst,
        };
        let namespaces = file.unwrap_or_default().with_routes(&routes, &default_backend, rate)?;
        if namespaces.len() > NAMESPACES_MAX {
            return Err(ConfigError::TooManyNamespaces { max: NAMESPACES_MAX });
        }
        if !namespaces.iter().any(|namespace| namespace.path == self.ws_namespace) {
            return Err(ConfigError::UnroutedWsNamespace { namespace: self.ws_namespace.clone() });
        }
        self.validate_limits()?;
        Ok(namespaces)
    }

    fn validate_limits(&self) -> Result<(), ConfigError> {
        self.http.validate()?;
        let ClientAddressConfig { proxy_protocol, trusted_proxies, .. } = &self.client_addresses;
        if *proxy_protocol && trusted_proxies.is_empty() {
            return Err(ConfigError::NoTrustedProxy);
        }
        if self.client_limits.payload_bytes_max.get() > PAYLOAD_BYTES_MAX {
            return Err(ConfigError::PayloadTooLarge { max: PAYLOAD_BYTES_MAX });
        }
        for (duration, setting) in [
            (self.ping_interval, "EDGE_PING_INTERVAL"),
            (self.ping_timeout, "EDGE_PING_TIMEOUT"),
            (self.connect_timeout, "EDGE_CONNECT_TIMEOUT"),
            (self.event_timeout, "EDGE_EVENT_TIMEOUT"),
            (self.tls.handshake_timeout, "EDGE_TLS_HANDSHAKE_TIMEOUT"),
        ] {
            if duration.is_zero() {
                return Err(ConfigError::Zero { setting });
            }
        }
        Ok(())
    }

    /// Looks at what can be looked at without starting the edge.
    ///
    /// # Errors
    ///
    /// Says which settings do not go together.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.validated_listener()?;
        let namespaces = self.validated_namespaces()?;
        self.validated_peers()?;
        self.validated_hops(&namespaces)?;
        let certificate = client_tls::certificate(&self.tls)?;
        webtransport::server_config(self, certificate.as_ref())?;
        self.client_bundle.as_deref().map(ClientBundle::load).transpose()?;
        Ok(())
    }

    /// Whether clients may be listened for as it is described.
    ///
    /// # Errors
    ///
    /// When they would speak plaintext where others can listen.
    pub(crate) fn validated_listener(&self) -> Result<(), PlaintextError> {
        if self.tls.certificate.is_some() || self.tls.key.is_some() {
            return Ok(());
        }
        let allow = ("EDGE_ALLOW_PLAINTEXT", self.tls.allow_plaintext);
        plaintext::may_listen(("EDGE_LISTEN", self.listen), allow)
    }

    /// The other edges.
    ///
    /// # Errors
    ///
    /// Says which settings do not go together.
    pub fn validated_peers(&self) -> Result<Vec<PeerAddress>, ConfigError> {
        for (index, peer) in self.peers.iter().enumerate() {
            if self.peers.iter().take(index).any(|other| other.number == peer.number) {
                return Err(ConfigError::DuplicatePeer { number: peer.number });
            }
        }
        let others = self.peers.iter().filter(|peer| peer.number != self.number);
        let others: Vec<_> = others.cloned().collect();
        if !others.is_empty() && self.peer_listen.is_none() {
            return Err(ConfigError::NoPeerListener);
        }
        Ok(others)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        config: Config,
    }

    fn config(flags: &[&str]) -> Config {
        Flags::parse_from([&["edge-gateway"], flags].concat()).config
    }

    #[test]
    fn routes_are_namespace_and_url() {
        let cases = [
            ("/chat=http://127.0.0.1:1", Ok(("/chat", "http://127.0.0.1:1/"))),
            ("/=http://chat:50052", Ok(("/", "http://chat:50052/"))),
            ("/chat", Err(ParseRouteError::NoUrl)),
            ("chat=http://a", Err(ParseRouteError::Namespace)),
            ("/a,b=http://a", Err(ParseRouteError::Namespace)),
            ("/chat=chat:1", Err(ParseRouteError::Url)),
            ("/chat=https://chat:1", Ok(("/chat", "https://chat:1/"))),
            ("/chat=ftp://chat:1", Err(ParseRouteError::Url)),
        ];
        for (text, expected) in cases {
            let parsed =
                text.parse::<Route>().map(|route| (route.namespace, route.url.to_string()));
            let expected = expected.map(|(name, url)| (name.to_owned(), url.to_owned()));
            assert_eq!(parsed, expected, "{text}");
        }
    }

    #[test]
    fn settings_that_do_not_go_together_are_named() {
        let twice = config(&["--edge-route=/chat=http://a", "--edge-route=/chat=http://b"]);
        let unrouted = config(&["--edge-route=/a=http://a"]);
        let zero = config(&["--edge-ping-timeout=0s"]);
        let payload = config(&["--edge-payload-bytes-max=3145729"]);
        let cookie = ["--edge-session-cookie=none", "--edge-cors-origin=https://a,*"];
        let listed = ["--edge-session-cookie=none", "--edge-cors-origin=https://a"];

        assert_eq!(twice.validated_namespaces().unwrap_err().to_string(), "/chat has two routes");
        assert_eq!(
            unrouted.validated_namespaces().unwrap_err().to_string(),
            "EDGE_WS_NAMESPACE is /chat, which has no route"
        );
        assert_eq!(
            zero.validated_namespaces().unwrap_err().to_string(),
            "EDGE_PING_TIMEOUT must not be zero"
        );
        assert_eq!(
            config(&cookie).check().unwrap_err().to_string(),
            "EDGE_SESSION_COOKIE needs origins by name in EDGE_CORS_ORIGINS: with * pages of other origins have no cookies"
        );
        assert!(config(&listed).check().is_ok());
        assert_eq!(
            payload.validated_namespaces().unwrap_err().to_string(),
            "EDGE_PAYLOAD_BYTES_MAX is more than 3145728, which is what links to business services carry"
        );
    }

    #[test]
    fn the_same_list_of_edges_does_for_all_of_them() {
        let list = "--edge-peer=0=http://a:1,1=http://b:1,2=http://c:1";
        let peers = |flags: &[&str]| config(flags).validated_peers();

        let others = peers(&[list, "--edge-number=1", "--edge-peer-listen=127.0.0.1:0"]).unwrap();

        assert_eq!(others.iter().map(|peer| peer.number).collect::<Vec<_>>(), [0, 2]);
        assert!(peers(&["--edge-peer=0=http://a:1"]).unwrap().is_empty());
        assert!(matches!(peers(&[list]), Err(ConfigError::NoPeerListener)));
        let twice = peers(&[list, "--edge-peer=2=http://d:1"]);
        assert!(matches!(twice, Err(ConfigError::DuplicatePeer { number: 2 })), "{twice:?}");
    }

    #[test]
    fn both_namespaces_go_to_the_chat_service_by_default() {
        let routes = config(&[]).validated_namespaces().unwrap();

        let named: Vec<_> = routes.iter().map(|one| one.path.as_str()).collect();
        assert_eq!(named, ["/", "/chat"]);
    }
}
