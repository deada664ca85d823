//! Connects to the services: over TCP, or however a simulation does it.

use std::{fmt, io, pin::Pin, sync::Arc};

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
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
#[derive(Clone, Default)]
pub(crate) struct Dialer(Option<Arc<Dial>>);

impl Dialer {
    pub(crate) fn new(dial: Arc<Dial>) -> Self {
        Self(Some(dial))
    }

    /// A channel that connects when it is first used, and again after a break.
    pub(crate) fn channel(&self, endpoint: &Endpoint) -> Channel {
        let Some(dial) = &self.0 else { return endpoint.connect_lazy() };
        let dial = Arc::clone(dial);
        endpoint.connect_with_connector_lazy(service_fn(move |url| {
            let stream = dial(url);
            async move { stream.await.map(TokioIo::new) }
        }))
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.0.is_some() { "Dialer(simulated)" } else { "Dialer(TCP)" })
    }
}
