//! Certificates and keys for TLS, out of PEM files that may change while the process runs.

mod life;

use std::sync::Arc;

use rustls::{
    crypto::CryptoProvider,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use tokio::task::JoinSet;

pub(crate) use self::life::CertificateLife;
pub use self::life::{UnfitError, Usage};
use crate::watched_files::{ReadFilesError, SettingFile, WatchedFiles};

/// Why files are no certificate with its key. It names them, and says nothing of what is in them.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The first has no certificate, or something that is none.
    #[error("{certificate} names a file with no certificates in PEM")]
    NoCertificate {
        /// The setting's environment variable.
        certificate: &'static str,
    },
    /// The second has no private key. One that is encrypted with a passphrase is none.
    #[error("{key} names a file with no unencrypted private key in PEM")]
    NoKey {
        /// The setting's environment variable.
        key: &'static str,
    },
    /// They cannot be used, or do not belong together.
    #[error("{certificate} and {key} cannot be used together")]
    Unusable {
        /// The setting's environment variable.
        certificate: &'static str,
        /// The setting's environment variable.
        key: &'static str,
        /// Why not.
        source: rustls::Error,
    },
    /// The certificate is not good now, or not for this.
    #[error("{certificate} names a certificate of no use")]
    Unfit {
        /// The setting's environment variable.
        certificate: &'static str,
        /// Why not.
        source: UnfitError,
    },
}

/// A certificate with its key, whose files may be replaced: each handshake shows what is in force when it begins.
#[derive(Debug, Clone)]
pub struct Certificate {
    files: WatchedFiles<CertifiedKey>,
    /// Warns of its end.
    _life: Arc<JoinSet<()>>,
}

impl Certificate {
    /// Reads a chain, the certificate of this process first, and its private key, and watches both files. `name` says in
    /// logs and metrics which they are.
    ///
    /// # Errors
    ///
    /// When they cannot be read, are not PEM, the key is not the certificate's, or that is not for servers. One that replaces
    /// another must be good now, too.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn open(
        name: &'static str,
        chain: SettingFile,
        key: SettingFile,
    ) -> Result<Self, ReadFilesError<CertificateError>> {
        let settings = (chain.setting, key.setting);
        let life = CertificateLife::new(name, &[Usage::Server]);
        let watching = life.watch();
        let parse = move |contents: &[&[u8]]| {
            let certificate = settings.0;
            let [chain, key] = contents else {
                return Err(CertificateError::NoCertificate { certificate });
            };
            let read = certified_key(settings, chain, key)?;
            let taken = life.take(&read.cert);
            taken.map_err(|source| CertificateError::Unfit { certificate, source })?;
            Ok(read)
        };
        let files = WatchedFiles::open(name, vec![chain, key], parse)?;
        Ok(Self { files, _life: watching })
    }

    /// Returns the certificate that is in force.
    pub fn current(&self) -> Arc<CertifiedKey> {
        self.files.current()
    }

    /// Waits for the next certificate, as [`WatchedFiles::changed`].
    pub async fn changed(&mut self) -> Arc<CertifiedKey> {
        self.files.changed().await
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

/// Returns the cryptography of every TLS connection. It is passed on by hand: what is built in could be ambiguous, and then
/// panics.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Reads all certificates in PEM; none if there are none, or one is broken.
pub fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    // What is wrong stays here: the parser's errors quote what they do not understand.
    let read: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(pem).collect();
    read.ok().filter(|all| !all.is_empty())
}

pub(crate) fn certified_key(
    (certificate, key): (&'static str, &'static str),
    chain_pem: &[u8],
    key_pem: &[u8],
) -> Result<CertifiedKey, CertificateError> {
    let chain = certificates(chain_pem).ok_or(CertificateError::NoCertificate { certificate })?;
    let private =
        PrivateKeyDer::from_pem_slice(key_pem).map_err(|_| CertificateError::NoKey { key })?;
    CertifiedKey::from_der(chain, private, &provider())
        .map_err(|source| CertificateError::Unusable { certificate, key, source })
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use ::pem::Pem;
    use rcgen::{
        CertificateParams, CertifiedKey as Made, ExtendedKeyUsagePurpose, KeyPair, date_time_ymd,
    };

    use super::*;

    fn made() -> (String, String) {
        let Made { cert, signing_key } =
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let encode = |tag, der: &[u8]| ::pem::encode(&Pem::new(tag, der));
        (encode("CERTIFICATE", cert.der()), encode("PRIVATE KEY", &signing_key.serialize_der()))
    }

    fn write(dir: &Path, certificate: &str, key: &str) {
        fs::write(dir.join("certificate"), certificate).unwrap();
        fs::write(dir.join("key"), key).unwrap();
    }

    fn open(dir: &Path) -> Result<Certificate, String> {
        let file = |setting, name| SettingFile::new(setting, dir.join(name));
        Certificate::open("test", file("CERT", "certificate"), file("KEY", "key"))
            .map_err(|error| format!("{:#}", anyhow::Error::new(error)))
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_certificate_counts_once_its_key_is_there_too() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (made(), made());
        write(dir.path(), &old.0, &old.1);
        let mut certificate = open(dir.path()).unwrap();
        let shown = certificate.current();

        fs::write(dir.path().join("certificate"), &new.0).unwrap();
        let wait = crate::watched_files::LOOK_INTERVAL * 3;
        assert!(tokio::time::timeout(wait, certificate.changed()).await.is_err());
        assert_eq!(certificate.current().cert, shown.cert);
        fs::write(dir.path().join("key"), &new.1).unwrap();

        assert_ne!(certificate.changed().await.cert, shown.cert);
    }

    /// A certificate and its key, for these years and usages.
    fn made_for(years: (i32, i32), usages: &[ExtendedKeyUsagePurpose]) -> (String, String) {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        (params.not_before, params.not_after) =
            (date_time_ymd(years.0, 1, 1), date_time_ymd(years.1, 1, 1));
        params.extended_key_usages = usages.to_vec();
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let encode = |tag, der: &[u8]| ::pem::encode(&Pem::new(tag, der));
        (encode("CERTIFICATE", certificate.der()), encode("PRIVATE KEY", &key.serialize_der()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_certificate_that_is_not_good_now_or_not_for_servers_is_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let good = made_for((2020, 2200), &[]);
        write(dir.path(), &good.0, &good.1);
        let mut certificate = open(dir.path()).unwrap();
        let shown = certificate.current();

        for (what, unfit) in [
            ("expired", made_for((2020, 2021), &[])),
            ("not good yet", made_for((2199, 2200), &[])),
            ("for clients", made_for((2020, 2200), &[ExtendedKeyUsagePurpose::ClientAuth])),
        ] {
            write(dir.path(), &unfit.0, &unfit.1);
            let wait = crate::watched_files::LOOK_INTERVAL * 3;
            assert!(tokio::time::timeout(wait, certificate.changed()).await.is_err(), "{what}");
            assert_eq!(certificate.current().cert, shown.cert, "{what}");
        }

        let next = made_for((2020, 2200), &[ExtendedKeyUsagePurpose::ServerAuth]);
        write(dir.path(), &next.0, &next.1);
        assert_ne!(certificate.changed().await.cert, shown.cert);
    }

    #[tokio::test]
    async fn the_first_certificate_is_shown_even_if_it_has_expired_but_not_if_it_is_for_clients() {
        let dir = tempfile::tempdir().unwrap();
        let expired = made_for((2020, 2021), &[]);
        write(dir.path(), &expired.0, &expired.1);
        open(dir.path()).unwrap();

        let for_clients = made_for((2020, 2200), &[ExtendedKeyUsagePurpose::ClientAuth]);
        write(dir.path(), &for_clients.0, &for_clients.1);
        let told = open(dir.path()).unwrap_err();
        assert_eq!(
            told,
            "CERT names a certificate of no use: it names extended key usages, and serverAuth is not among them"
        );
    }

    #[tokio::test]
    async fn errors_name_the_setting_and_quote_no_secret() {
        let dir = tempfile::tempdir().unwrap();
        let ((certificate, key), (_, other)) = (made(), made());
        let broken = key.replace("-----END", "-----AND");
        let secret = key.lines().nth(1).unwrap();
        let (no_key, no_certificate) =
            ("KEY names a file with no unencrypted", "CERT names a file with no certificates");
        for (certificate, key, expected) in [
            (&*certificate, &*other, "CERT and KEY cannot be used together: "),
            (&certificate, &broken, no_key),
            (&certificate, "", no_key),
            (&certificate, &certificate, no_key),
            (&key, &key, no_certificate),
            ("", &key, no_certificate),
            (&certificate.replace("MII", "M-I"), &key, no_certificate),
        ] {
            write(dir.path(), certificate, key);
            let told = open(dir.path()).unwrap_err();
            assert!(told.starts_with(expected), "{told}");
            assert!(!told.contains(secret), "{told}");
        }
    }
}
