//! Settings that bound what one address may have.

use std::num::NonZeroU32;

use ipnet::IpNet;

use super::client_addresses::parse_network;

/// Loopback, private networks, those of providers, and of the link: nobody on the Internet comes from there. Whoever seems
/// to is a proxy that no setting names, with everybody behind it.
const LOCAL_NETWORKS: &str = "127.0.0.0/8,::1/128,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,\
                              100.64.0.0/10,169.254.0.0/16,fc00::/7,fe80::/10";

/// What one address may have. A network of IPv6 (/64) counts as one address.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "edge-address-limits")]
pub struct AddressLimitConfig {
    /// How many sessions an address may have at a time, and as many connections that speak HTTP.
    #[arg(id = "edge-address-connections-max", long = "edge-address-connections-max")]
    #[arg(env = "EDGE_ADDRESS_CONNECTIONS_MAX", value_name = "COUNT", default_value = "1000")]
    pub connections_max: NonZeroU32,

    /// How many sessions an address may open each second, in the long run; beyond that its clients wait, for up to 10 s.
    #[arg(id = "edge-address-opens-per-second", long = "edge-address-opens-per-second")]
    #[arg(env = "EDGE_ADDRESS_OPENS_PER_SECOND", value_name = "COUNT", default_value = "50")]
    pub opens_per_second: NonZeroU32,

    /// How many sessions an address may open at once.
    #[arg(id = "edge-address-opens-burst", long = "edge-address-opens-burst")]
    #[arg(env = "EDGE_ADDRESS_OPENS_BURST", value_name = "COUNT", default_value = "200")]
    pub opens_burst: NonZeroU32,

    /// Address or network that may have and open any number; may be given several times.
    #[arg(id = "edge-unlimited-address", long = "edge-unlimited-address")]
    #[arg(env = "EDGE_UNLIMITED_ADDRESSES", value_delimiter = ',', value_name = "NETWORK")]
    #[arg(default_value = LOCAL_NETWORKS, value_parser = parse_network)]
    pub unlimited_addresses: Vec<IpNet>,
}
