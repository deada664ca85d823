//! Certificates for services, of an authority that a test makes.

use std::{fs, io, path::PathBuf, time::Duration};

use pem::Pem;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use service_kit::{
    mutual_tls::{HTTP_2, MutualTls, MutualTlsFiles},
    watched_files::SettingFile,
};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint, Error, Uri};

/// What certificates are of. It has a folder for their files.
#[derive(Debug)]
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
    directory: TempDir,
}

/// The files of one service.
#[derive(Debug, Clone)]
pub(crate) struct CertificateFiles {
    directory: PathBuf,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let directory = tempfile::tempdir().unwrap();
        // As an operator would call them: each by a name of its own.
        let name = directory.path().display().to_string();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = encode("CERTIFICATE", params.self_signed(&key).unwrap().der());
        Self { issuer: Issuer::new(params, key), pem, directory }
    }

    /// Makes a certificate for these names and addresses.
    pub(crate) fn certify(&self, names: &[&str]) -> CertificateFiles {
        let directory = self.directory.path().join(names.first().unwrap());
        fs::create_dir(&directory).unwrap();
        let files = CertificateFiles { directory };
        files.trust(&self.pem);
        files.renew(self, names);
        files
    }
}

impl CertificateFiles {
    /// Replaces the certificate and its key.
    pub(crate) fn renew(&self, authority: &Authority, names: &[&str]) {
        self.renew_until(authority, names, None);
    }

    /// The same, with a certificate that is good until then, in seconds since the Unix epoch.
    pub(crate) fn renew_until(&self, authority: &Authority, names: &[&str], until: Option<u64>) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(names).unwrap();
        if let Some(until) = until {
            params.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(until);
        }
        let certificate = params.signed_by(&key, &authority.issuer).unwrap();
        self.write("key", &encode("PRIVATE KEY", &key.serialize_der()));
        self.write("certificate", &encode("CERTIFICATE", certificate.der()));
    }

    /// Replaces the authorities.
    pub(crate) fn trust(&self, pem: &str) {
        self.write("ca", pem);
    }

    /// The flags of a service, which begin like this.
    pub(crate) fn flags(&self, service: &str) -> [String; 3] {
        [("cert", "certificate"), ("key", "key"), ("ca", "ca")].map(|(flag, name)| {
            format!("--{service}-grpc-tls-{flag}-file={}", self.path(name).display())
        })
    }

    /// Connects to a service as the one that these files are of.
    pub(crate) async fn connect(&self, url: &str) -> Result<Channel, Error> {
        let file = |setting, name| SettingFile::new(setting, self.path(name));
        let files = MutualTlsFiles {
            certificate: file("CERT", "certificate"),
            key: file("KEY", "key"),
            authorities: file("CA", "ca"),
        };
        let tls = MutualTls::open("test", files, &[HTTP_2], &[]).unwrap();
        let connector = tower::service_fn(move |url: Uri| {
            let tls = tls.clone();
            async move {
                let (host, port) = (url.host().unwrap(), url.port_u16().unwrap());
                let stream = TcpStream::connect((host, port)).await?;
                let stream = tls.connect(host, stream, HTTP_2).await?;
                io::Result::Ok(hyper_util::rt::TokioIo::new(stream))
            }
        });
        Endpoint::from_shared(url.to_owned())?.connect_with_connector(connector).await
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn write(&self, name: &str, text: &str) {
        // At once, as tools do that replace certificates: half a file is none.
        let path = self.path(name);
        fs::write(path.with_extension("new"), text).unwrap();
        fs::rename(path.with_extension("new"), path).unwrap();
    }
}

fn encode(tag: &str, der: &[u8]) -> String {
    pem::encode(&Pem::new(tag, der))
}
