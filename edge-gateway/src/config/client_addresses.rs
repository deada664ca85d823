//! Settings that say whose word counts on where a client is.

use std::net::IpAddr;

use ipnet::IpNet;

/// Whose word counts on where a client is.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(id = "edge-client-addresses")]
pub struct ClientAddressConfig {
    /// Address or network of proxies that say where a client is; may be given several times [default: none].
    #[arg(id = "edge-trusted-proxy", long = "edge-trusted-proxy", env = "EDGE_TRUSTED_PROXIES")]
    #[arg(value_delimiter = ',', value_name = "NETWORK", value_parser = parse_network)]
    pub trusted_proxies: Vec<IpNet>,

    /// The header in which they say it. Only that one is looked at: proxies pass the other on as the client wrote it.
    #[arg(
        id = "edge-forwarded-header",
        long = "edge-forwarded-header",
        env = "EDGE_FORWARDED_HEADER"
    )]
    #[arg(value_name = "HEADER", default_value = "x-forwarded-for")]
    pub forwarded_header: ForwardedHeader,

    /// Each connection begins with a header of PROXY protocol, version 2, and comes from a trusted proxy. All others are
    /// closed.
    #[arg(id = "edge-proxy-protocol", long = "edge-proxy-protocol", env = "EDGE_PROXY_PROTOCOL")]
    pub proxy_protocol: bool,
}

/// A header in which proxies say where a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// Why a network is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a network is an address, or an address and a length, such as 10.0.0.0/8")]
pub(crate) struct ParseNetworkError;

pub(crate) fn parse_network(text: &str) -> Result<IpNet, ParseNetworkError> {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse().or_else(|_| address()).map_err(|_| ParseNetworkError)
}
