//! Fetches small documents over HTTPS, within limits.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::time;

mod url;

pub(crate) use url::EndpointUrl;
pub use url::ParseUrlError;

/// Largest document that is read. A key set of a hundred keys is a quarter of it.
pub(crate) const DOCUMENT_BYTES_MAX: usize = 256 * 1024;
/// How long a document may take, from the name of its host to its last byte.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Connections to one host that are kept for the next request.
const IDLE_CONNECTION_COUNT_MAX: usize = 8;
const IDLE_CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);

/// Asks servers that the settings name. It follows no redirect, takes no proxy from the environment, and decompresses nothing.
#[derive(Debug, Clone)]
pub(crate) struct HttpsClient {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl HttpsClient {
    /// Trusts the certificate authorities in the file.
    pub(crate) fn with_roots_of(path: &Path) -> Result<Self, TrustError> {
        Self::new(read_roots(path)?)
    }

    /// Trusts the certificate authorities of the system.
    pub(crate) fn with_system_roots() -> Result<Self, TrustError> {
        Self::new(system_roots()?)
    }

    /// Trusts nobody, and so is good for plain addresses only.
    pub(crate) fn without_roots() -> Result<Self, TrustError> {
        Self::new(RootCertStore::empty())
    }

    fn new(roots: RootCertStore) -> Result<Self, TrustError> {
        let tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(TrustError::Tls)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut tcp = HttpConnector::new();
        // An address says itself whether it is plain: `EndpointUrl` lets plain ones reach this machine only.
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(IDLE_CONNECTION_COUNT_MAX)
            .pool_idle_timeout(IDLE_CONNECTION_TIMEOUT)
            .pool_timer(TokioTimer::new())
            .build(connector);
        Ok(Self { client })
    }

    pub(crate) async fn get(&self, url: &EndpointUrl) -> Result<Bytes, FetchError> {
        let mut request = Request::new(Full::default());
        *request.method_mut() = Method::GET;
        self.fetch(request, url).await
    }

    pub(crate) async fn post_form(
        &self,
        url: &EndpointUrl,
        form: String,
        authorization: &HeaderValue,
    ) -> Result<Bytes, FetchError> {
        let mut request = Request::new(Full::from(form));
        *request.method_mut() = Method::POST;
        let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        request.headers_mut().insert(header::CONTENT_TYPE, form_type);
        request.headers_mut().insert(header::AUTHORIZATION, authorization.clone());
        self.fetch(request, url).await
    }

    async fn fetch(
        &self,
        mut request: Request<Full<Bytes>>,
        url: &EndpointUrl,
    ) -> Result<Bytes, FetchError> {
        *request.uri_mut() = url.uri().clone();
        let accept = HeaderValue::from_static("application/json");
        request.headers_mut().insert(header::ACCEPT, accept);
        time::timeout(FETCH_TIMEOUT, self.answer(request)).await.map_err(|_| FetchError::Timeout)?
    }

    async fn answer(&self, request: Request<Full<Bytes>>) -> Result<Bytes, FetchError> {
        let response = self.client.request(request).await.map_err(FetchError::Request)?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status()));
        }
        let body = Limited::new(response.into_body(), DOCUMENT_BYTES_MAX).collect().await;
        match body {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(FetchError::TooLarge),
            Err(error) => Err(FetchError::Body(error)),
        }
    }
}

fn read_roots(path: &Path) -> Result<RootCertStore, TrustError> {
    let mut roots = RootCertStore::empty();
    let refused = || TrustError::File { path: path.to_owned() };
    for certificate in CertificateDer::pem_file_iter(path).map_err(|_| refused())? {
        roots.add(certificate.map_err(|_| refused())?).map_err(|_| refused())?;
    }
    if roots.is_empty() { Err(refused()) } else { Ok(roots) }
}

fn system_roots() -> Result<RootCertStore, TrustError> {
    let mut roots = RootCertStore::empty();
    // A system has certificates of all ages. What we cannot read of them is trusted by nobody here.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(TrustError::System) } else { Ok(roots) }
}

/// Why no server could be told from an impostor.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    #[error("{} holds no certificates in PEM, or one that is none", path.display())]
    File { path: PathBuf },
    #[error("the system has no certificate authorities to trust: name some in `ca_file`")]
    System,
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
}

/// Why there is no document. None of it says what was sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("the server cannot be asked")]
    Request(#[source] hyper_util::client::legacy::Error),
    #[error("the server answers with status {}", .0.as_u16())]
    Status(StatusCode),
    #[error("the answer breaks off")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the answer has more than {DOCUMENT_BYTES_MAX} bytes")]
    TooLarge,
    #[error("the answer takes more than {} s", FETCH_TIMEOUT.as_secs())]
    Timeout,
}
