//! Certificates for edges, by which they know each other.

use std::{fs, io, net::SocketAddr, path::PathBuf};

use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use service_kit::{
    mutual_tls::{HTTP_2, MutualTls, MutualTlsFiles},
    watched_files::SettingFile,
};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};

/// What certificates are of, with a folder for their files.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    folder: TempDir,
}

/// The files of one service.
pub(crate) struct Certified(PathBuf);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = encode("CERTIFICATE", params.self_signed(&key).unwrap().der());
        Self { issuer: Issuer::new(params, key), pem, folder: TempDir::new().unwrap() }
    }

    /// A certificate for what is called so, and listens at the address of all these tests.
    pub(crate) fn certify(&self, name: &str) -> Certified {
        let folder = self.folder.path().join(name);
        fs::create_dir(&folder).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name, "127.0.0.1"].map(str::to_owned)).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(folder.join("ca"), &self.pem).unwrap();
        fs::write(folder.join("key"), encode("PRIVATE KEY", &key.serialize_der())).unwrap();
        fs::write(folder.join("cert"), encode("CERTIFICATE", certificate.der())).unwrap();
        Certified(folder)
    }
}

impl Certified {
    /// What an edge is started with.
    pub(crate) fn flags(&self) -> [String; 3] {
        let folder = self.0.display();
        ["cert", "key", "ca"].map(|name| format!("--edge-grpc-tls-{name}-file={folder}/{name}"))
    }

    pub(crate) async fn connect(
        &self,
        address: SocketAddr,
        protocol: &[u8],
    ) -> io::Result<TlsStream<TcpStream>> {
        self.open().connect("127.0.0.1", TcpStream::connect(address).await?, protocol).await
    }

    /// A channel to a listener for gRPC.
    pub(crate) async fn channel(&self, address: SocketAddr) -> Channel {
        let tls = self.open();
        let connector = tower::service_fn(move |_| {
            let tls = tls.clone();
            async move {
                let stream = TcpStream::connect(address).await?;
                io::Result::Ok(TokioIo::new(tls.connect("127.0.0.1", stream, HTTP_2).await?))
            }
        });
        let endpoint = Endpoint::from_shared(format!("https://{address}")).unwrap();
        endpoint.connect_with_connector(connector).await.unwrap()
    }

    fn open(&self) -> MutualTls {
        let file = |name| SettingFile::new(name, self.0.join(name));
        let files =
            MutualTlsFiles { certificate: file("cert"), key: file("key"), authorities: file("ca") };
        MutualTls::open("test", files, &[HTTP_2], &[]).unwrap()
    }
}

fn encode(tag: &str, der: &[u8]) -> String {
    pem::encode(&pem::Pem::new(tag, der))
}
