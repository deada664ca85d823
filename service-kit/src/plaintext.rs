//! Keeps a listener without TLS from addresses that others reach, unless the operator says that it may be there.

use std::net::SocketAddr;

/// A listener would speak plaintext to whoever reaches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{listen} is {address}, which others reach, and there is no TLS: give it a certificate, or set {allow}=true where \
     something else keeps strangers away or ends TLS before it"
)]
pub struct PlaintextError {
    /// The environment variable that names the address.
    pub listen: &'static str,
    /// The address.
    pub address: SocketAddr,
    /// The environment variable that allows it.
    pub allow: &'static str,
}

/// Refuses an address for a listener without TLS that is not this machine's own (loopback), unless `is_allowed`. `listen` and
/// `allow` are the environment variables of the two settings.
///
/// # Errors
///
/// When others reach it.
pub fn may_listen(
    (listen, address): (&'static str, SocketAddr),
    (allow, is_allowed): (&'static str, bool),
) -> Result<(), PlaintextError> {
    // Linux takes `::ffff:127.0.0.1` for the IPv4 address it stands for.
    if is_allowed || address.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    Err(PlaintextError { listen, address, allow })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plaintext_stays_on_the_machine_unless_it_is_allowed() {
        for (address, is_own) in [
            ("127.0.0.1:1", true),
            ("127.9.9.9:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            ("10.0.0.1:1", false),
            ("[::ffff:10.0.0.1]:1", false),
            ("[fe80::1]:1", false),
        ] {
            let address: SocketAddr = address.parse().unwrap();
            let listen = |allowed| may_listen(("LISTEN", address), ("ALLOW_PLAINTEXT", allowed));
            assert_eq!(listen(false).is_ok(), is_own, "{address}");
            assert_eq!(listen(true), Ok(()));
        }
    }

    #[test]
    fn the_error_says_what_to_do() {
        let address = "0.0.0.0:3000".parse().unwrap();

        let error = may_listen(("EDGE_LISTEN", address), ("EDGE_ALLOW_PLAINTEXT", false));

        let told = error.unwrap_err().to_string();
        assert!(told.starts_with("EDGE_LISTEN is 0.0.0.0:3000, which others reach"), "{told}");
        assert!(told.contains("set EDGE_ALLOW_PLAINTEXT=true"), "{told}");
    }
}
