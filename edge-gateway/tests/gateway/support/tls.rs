//! Certificates for edges, clients that check them, and a relay that lets clients without TLS use an edge with TLS.

use std::{fs, net::SocketAddr, sync::Arc};

use tempfile::TempDir;
use tokio::{
    io::{self, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinSet,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore, SupportedProtocolVersion,
        pki_types::{CertificateDer, ServerName},
        version::{TLS12, TLS13},
    },
};

use super::AbortOnDrop;

/// Whether these tests are those of `gateway_over_tls`: the same once more, with TLS between the clients and the edge.
pub(crate) const IS_OVER_TLS: bool =
    matches!(env!("CARGO_CRATE_NAME").as_bytes(), b"gateway_over_tls");

/// How much waits in the sockets of a relay. As little as that, since tests want to see that the edge has to wait.
const RELAY_BUFFER_BYTES: u32 = 64 * 1024;

/// A certificate for one edge, and the files it is read from.
pub(crate) struct TlsFiles {
    folder: TempDir,
    pub(crate) certificate: CertificateDer<'static>,
}

impl TlsFiles {
    pub(crate) fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let certificate = write(&folder);
        Self { folder, certificate }
    }

    /// Puts another certificate and its key into the files.
    pub(crate) fn replace(&mut self) {
        self.certificate = write(&self.folder);
    }

    pub(crate) fn break_key(&self) {
        fs::write(self.folder.path().join("key.pem"), "-----BEGIN PRIVATE KEY-----\n").unwrap();
    }

    /// What an edge is started with.
    pub(crate) fn flags(&self) -> [String; 2] {
        let folder = self.folder.path().display();
        [
            format!("--edge-tls-cert-file={folder}/certificate.pem"),
            format!("--edge-tls-key-file={folder}/key.pem"),
        ]
    }
}

fn write(folder: &TempDir) -> CertificateDer<'static> {
    let names = ["localhost", "127.0.0.1"].map(str::to_owned);
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let pem = |tag, der: &[u8]| pem::encode(&pem::Pem::new(tag, der));
    let certificate = made.cert.der().clone();
    fs::write(folder.path().join("certificate.pem"), pem("CERTIFICATE", &certificate)).unwrap();
    let key = pem("PRIVATE KEY", &made.signing_key.serialize_der());
    fs::write(folder.path().join("key.pem"), key).unwrap();
    certificate
}

/// What a client is that trusts these certificates and no others.
pub(crate) fn trusting(certificates: &[&CertificateDer<'static>]) -> ClientConfig {
    client_config(certificates, &[&TLS13, &TLS12])
}

/// As [`trusting`], and speaks only these versions of TLS.
pub(crate) fn client_config(
    certificates: &[&CertificateDer<'static>],
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for &certificate in certificates {
        roots.add(certificate.clone()).unwrap();
    }
    ClientConfig::builder_with_provider(service_kit::tls::provider())
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// Shakes hands with an edge.
pub(crate) async fn connect(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
) -> io::Result<TlsStream<TcpStream>> {
    secure(TcpStream::connect(address).await?, config).await
}

async fn secure(tcp: TcpStream, config: &Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from("127.0.0.1").unwrap();
    TlsConnector::from(Arc::clone(config)).connect(name, tcp).await
}

/// Takes connections without TLS, and carries each to an edge over TLS.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    _running: AbortOnDrop,
    _files: TlsFiles,
}

impl Relay {
    pub(crate) fn start(edge: SocketAddr, files: TlsFiles, has_proxy_header: bool) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_send_buffer_size(RELAY_BUFFER_BYTES).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1024).unwrap();
        let address = listener.local_addr().unwrap();
        let config = Arc::new(trusting(&[&files.certificate]));
        let running = tokio::spawn(accept(listener, edge, config, has_proxy_header));
        Self { address, _running: AbortOnDrop(running), _files: files }
    }
}

async fn accept(
    listener: TcpListener,
    edge: SocketAddr,
    config: Arc<ClientConfig>,
    has_proxy_header: bool,
) {
    let mut carried = JoinSet::new();
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let config = Arc::clone(&config);
        // Whatever goes wrong ends both connections, which is what the tests see of it.
        carried.spawn(async move { carry(client, edge, &config, has_proxy_header).await.ok() });
        while carried.try_join_next().is_some() {}
    }
}

async fn carry(
    mut client: TcpStream,
    edge: SocketAddr,
    config: &Arc<ClientConfig>,
    has_proxy_header: bool,
) -> io::Result<()> {
    client.set_nodelay(true)?;
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(RELAY_BUFFER_BYTES)?;
    let mut edge = socket.connect(edge).await?;
    edge.set_nodelay(true)?;
    if has_proxy_header {
        // A proxy sends it before the client's handshake.
        let mut header = [0; 28];
        client.read_exact(&mut header).await?;
        edge.write_all(&header).await?;
    }
    let mut edge = secure(edge, config).await?;
    io::copy_bidirectional(&mut client, &mut edge).await?;
    Ok(())
}
