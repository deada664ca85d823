//! Says how the services at the addresses in the settings are spoken with: over TLS, or in plaintext where that may be.

use http::Uri;
use service_kit::{
    grpc::GrpcSecurity,
    mutual_tls::{HTTP_1, HTTP_2},
};

use super::{Config, ConfigError, DEFAULT_AUTH_URL};
use crate::{namespaces::NamespaceSettings, peers::PeerAddress};

/// Why a service cannot be spoken with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HopError {
    /// There is no certificate to show there.
    #[error(
        "{url} needs EDGE_GRPC_TLS_CERT_FILE, EDGE_GRPC_TLS_KEY_FILE and EDGE_GRPC_TLS_CA_FILE"
    )]
    NoCertificate {
        /// Where the service is.
        url: Uri,
    },
    /// What is said on the way could be read and changed.
    #[error(
        "{url} is on another machine and would be spoken to without TLS: say https://, or set \
         EDGE_GRPC_ALLOW_PLAINTEXT=true where something else keeps strangers away, or encrypts"
    )]
    Plaintext {
        /// Where the service is.
        url: Uri,
    },
}

impl Config {
    /// How this edge speaks with the others, once it is sure that it may.
    ///
    /// # Errors
    ///
    /// When a service could not be spoken with, or not as safely as the settings want, or a file is of no use.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub(crate) fn validated_hops(
        &self,
        namespaces: &[NamespaceSettings],
    ) -> Result<GrpcSecurity, ConfigError> {
        let listen = self.peer_listen.map(|address| ("EDGE_PEER_LISTEN", address));
        let security = self.grpc.settings().open("edge_grpc", listen, &[HTTP_2, HTTP_1], true)?;
        let auth = self.auth_url.clone().unwrap_or(Uri::from_static(DEFAULT_AUTH_URL));
        let backends = namespaces.iter().map(|namespace| namespace.backend.clone());
        let peers = self.validated_peers()?;
        for url in backends.chain([auth]).chain(peers.iter().map(PeerAddress::url)) {
            check(&url, security.tls.is_some(), self.grpc.allow_plaintext)?;
        }
        Ok(security)
    }
}

fn check(url: &Uri, has_certificate: bool, allows_plaintext: bool) -> Result<(), HopError> {
    let is_tls = url.scheme_str() == Some("https");
    if is_tls && !has_certificate {
        return Err(HopError::NoCertificate { url: url.clone() });
    }
    if !is_tls && !allows_plaintext && !is_own_machine(url) {
        return Err(HopError::Plaintext { url: url.clone() });
    }
    Ok(())
}

fn is_own_machine(url: &Uri) -> bool {
    let host = url.host().unwrap_or_default();
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let address = bare.parse::<std::net::IpAddr>();
    bare.eq_ignore_ascii_case("localhost")
        || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plaintext_stays_on_the_machine_unless_it_is_allowed_and_tls_needs_a_certificate() {
        let local =
            ["http://127.0.0.1:1", "http://[::1]:1", "http://localhost:1", "http://127.9.0.1"];
        let others =
            ["http://chat:1", "http://10.0.0.1:1", "http://[fe80::1]:1", "http://a.localhost.b"];
        let encrypted = ["https://chat:1", "https://127.0.0.1:1"];
        let at = |url: &str| url.parse::<Uri>().unwrap();

        for url in local.map(at) {
            assert_eq!(check(&url, false, false), Ok(()), "{url}");
            assert_eq!(check(&url, true, false), Ok(()), "{url}");
        }
        for url in others.map(at) {
            for has_certificate in [false, true] {
                let refused = Err(HopError::Plaintext { url: url.clone() });
                assert_eq!(check(&url, has_certificate, false), refused);
                assert_eq!(check(&url, has_certificate, true), Ok(()));
            }
        }
        for url in encrypted.map(at) {
            for allows_plaintext in [false, true] {
                let refused = Err(HopError::NoCertificate { url: url.clone() });
                assert_eq!(check(&url, false, allows_plaintext), refused);
                assert_eq!(check(&url, true, allows_plaintext), Ok(()));
            }
        }
    }
}
