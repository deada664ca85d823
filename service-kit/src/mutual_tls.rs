//! TLS between the services: each side shows a certificate of the operator's own authority, and is known by the names in it.

use std::{error::Error, io, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::Resumption,
    pki_types::{CertificateDer, InvalidDnsNameError, ServerName},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    sign::SingleCertAndKey,
    version::TLS13,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinSet,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    tls::{self, CertificateError, CertificateLife, Usage},
    watched_files::{ReadFilesError, SettingFile, WatchedFiles},
};

/// What HTTP/2 is called in a handshake.
pub const HTTP_2: &[u8] = b"h2";

/// What HTTP/1.1 is called in a handshake.
pub const HTTP_1: &[u8] = b"http/1.1";

/// The files of one service.
#[derive(Debug, Clone)]
pub struct MutualTlsFiles {
    /// The chain of its certificate, its own first.
    pub certificate: SettingFile,
    /// The private key.
    pub key: SettingFile,
    /// Certificates of the authorities whose word counts on who the other side is. Those of the system never do.
    pub authorities: SettingFile,
}

/// Why there is no TLS with these files.
#[derive(Debug, thiserror::Error)]
pub enum MutualTlsError {
    /// Some of them are not named.
    #[error("{0}, {1} and {2} go together: all of them are set, or none")]
    Incomplete(&'static str, &'static str, &'static str),
    /// The certificate or the key is of no use.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// There are no authorities in their file, or something that is none.
    #[error("{authorities} names a file with no certificates of authorities in PEM")]
    NoAuthority {
        /// The setting's environment variable.
        authorities: &'static str,
    },
    /// No connection could be made with them.
    #[error("there is no TLS with these certificates")]
    Unusable(#[source] Box<dyn Error + Send + Sync>),
}

/// What both sides of a connection are made with, read again when a file changes. Connections that there are live on.
#[derive(Debug, Clone)]
pub struct MutualTls {
    files: WatchedFiles<Sides>,
    /// Warns of the certificate's end.
    _life: Arc<JoinSet<()>>,
}

#[derive(Debug)]
struct Sides {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl MutualTls {
    /// Reads the files, and watches them from then on. `name` says in logs and metrics whose they are. A listener speaks
    /// `protocols`, and nothing else. The certificate is shown for `usages`.
    ///
    /// # Errors
    ///
    /// When a file cannot be read or is of no use. A certificate that replaces another must be good now, too.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn open(
        name: &'static str,
        files: MutualTlsFiles,
        protocols: &'static [&'static [u8]],
        usages: &'static [Usage],
    ) -> Result<Self, ReadFilesError<MutualTlsError>> {
        let MutualTlsFiles { certificate, key, authorities } = files;
        let settings = (certificate.setting, key.setting, authorities.setting);
        let life = CertificateLife::new(name, usages);
        let watching = life.watch();
        let parse = move |contents: &[&[u8]]| {
            let (chain, sides) = Sides::read(settings, contents, protocols)?;
            let certificate = settings.0;
            let taken = life.take(&chain);
            taken.map_err(|source| CertificateError::Unfit { certificate, source })?;
            Ok::<_, MutualTlsError>(sides)
        };
        let files = WatchedFiles::open(name, vec![certificate, key, authorities], parse)?;
        Ok(Self { files, _life: watching })
    }

    /// Returns what the next connection to a listener is accepted with.
    pub fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.files.current().server)
    }

    /// Waits for the next change of a file that is in force, as [`WatchedFiles::changed`].
    pub async fn changed(&mut self) {
        self.files.changed().await;
    }

    /// Speaks TLS on a connection to `host`, which must be what the certificate of the other side says that it is.
    ///
    /// # Errors
    ///
    /// When it is not, or does not speak `protocol`.
    pub async fn connect<S>(
        &self,
        host: &str,
        stream: S,
        protocol: &[u8],
    ) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = server_name(host).map_err(|error| io::Error::other(error.to_string()))?;
        let mut config = (*self.files.current().client).clone();
        config.alpn_protocols = vec![protocol.to_vec()];
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        if stream.get_ref().1.alpn_protocol() != Some(protocol) {
            return Err(io::Error::other(
                "the other side does not say that it speaks the protocol",
            ));
        }
        Ok(stream)
    }
}

/// Which name a certificate must have for the host of a URL.
fn server_name(host: &str) -> Result<ServerName<'static>, InvalidDnsNameError> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    ServerName::try_from(bare.to_owned())
}

impl Sides {
    /// Returns also the chain that is shown.
    fn read(
        (certificate, key, authorities): (&'static str, &'static str, &'static str),
        contents: &[&[u8]],
        protocols: &[&[u8]],
    ) -> Result<(Vec<CertificateDer<'static>>, Self), MutualTlsError> {
        let no_authority = || MutualTlsError::NoAuthority { authorities };
        let [chain, private, trusted] = contents else { return Err(no_authority()) };
        let shown = tls::certified_key((certificate, key), chain, private)?;
        let chain = shown.cert.clone();
        let shown = Arc::new(SingleCertAndKey::from(shown));
        let mut roots = RootCertStore::empty();
        for authority in tls::certificates(trusted).ok_or_else(no_authority)? {
            roots.add(authority).map_err(|_| no_authority())?;
        }
        let roots = Arc::new(roots);
        let server = server(&shown, &roots, protocols)?;
        Ok((chain, Self { server, client: client(shown, roots)? }))
    }
}

/// Nothing of a connection lets in the next one: whoever comes shows a certificate that is good at that time.
fn server(
    shown: &Arc<SingleCertAndKey>,
    roots: &Arc<RootCertStore>,
    protocols: &[&[u8]],
) -> Result<Arc<ServerConfig>, MutualTlsError> {
    let unusable = |error: rustls::Error| MutualTlsError::Unusable(error.into());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), tls::provider()).build();
    let verifier = verifier.map_err(|error| MutualTlsError::Unusable(error.into()))?;
    let builder = ServerConfig::builder_with_provider(tls::provider());
    let mut config = builder
        .with_protocol_versions(&[&TLS13])
        .map_err(unusable)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::clone(shown) as _);
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

fn client(
    shown: Arc<SingleCertAndKey>,
    roots: Arc<RootCertStore>,
) -> Result<Arc<ClientConfig>, MutualTlsError> {
    let builder = ClientConfig::builder_with_provider(tls::provider());
    let mut config = builder
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| MutualTlsError::Unusable(error.into()))?
        .with_root_certificates(roots)
        .with_client_cert_resolver(shown);
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// Returns the DNS names in a certificate that has been verified. Wildcards are left out: they say of nobody who it is.
pub(crate) fn dns_names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok(parsed) = webpki::EndEntityCert::try_from(certificate) else { return Vec::new() };
    let names = parsed.valid_dns_names().filter(|name| !name.starts_with('*'));
    names.map(str::to_ascii_lowercase).collect()
}
