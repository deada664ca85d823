//! Connects to the services: over TCP, with TLS where their address says so, or however a simulation does it.

use std::{fmt, io, pin::Pin, sync::Arc};

use http::Uri;
use hyper_util::rt::TokioIo;
use service_kit::mutual_tls::{HTTP_2, MutualTls};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

/// Opens a stream to a service.
pub type Dial =
    dyn Fn(Uri) -> Pin<Box<dyn Future<Output = io::Result<BoxedStream>> + Send>> + Send + Sync;

/// A stream to a service.
pub type BoxedStream = Box<dyn Stream>;

/// What a stream to a service can do.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

/// A clone is cheap.
#[derive(Clone)]
pub(crate) enum Dialer {
    Plaintext,
    /// For those at `https`; others have chosen plaintext.
    Tls(MutualTls),
    Simulated(Arc<Dial>),
}

impl Dialer {
    pub(crate) fn new(tls: Option<MutualTls>) -> Self {
        tls.map_or(Self::Plaintext, Self::Tls)
    }

    /// A channel that connects when it is first used, and again after a break.
    pub(crate) fn channel(&self, endpoint: &Endpoint) -> Channel {
        match self {
            Self::Simulated(dial) => {
                let dial = Arc::clone(dial);
                endpoint.connect_with_connector_lazy(service_fn(move |url| {
                    let stream = dial(url);
                    async move { stream.await.map(TokioIo::new) }
                }))
            }
            // Without a certificate nothing is sent to where TLS is wanted.
            Self::Tls(_) | Self::Plaintext if endpoint.uri().scheme_str() == Some("https") => {
                let tls = if let Self::Tls(tls) = self { Some(tls.clone()) } else { None };
                endpoint.connect_with_connector_lazy(service_fn(move |url: Uri| {
                    let tls = tls.clone();
                    async move {
                        let tls = tls.ok_or_else(|| io::Error::other("there is no certificate"))?;
                        let stream = connect(&url).await?;
                        let host = url.host().unwrap_or_default();
                        tls.connect(host, stream, HTTP_2).await.map(TokioIo::new)
                    }
                }))
            }
            Self::Tls(_) | Self::Plaintext => endpoint.connect_lazy(),
        }
    }
}

async fn connect(url: &Uri) -> io::Result<TcpStream> {
    let host = url.host().unwrap_or_default();
    let stream = TcpStream::connect(format!("{host}:{}", url.port_u16().unwrap_or(443))).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl fmt::Debug for Dialer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Plaintext => "Dialer(TCP)",
            Self::Tls(_) => "Dialer(TLS)",
            Self::Simulated(_) => "Dialer(simulated)",
        })
    }
}
