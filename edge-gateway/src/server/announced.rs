//! Reads what a proxy says of a connection before the client's bytes.

use std::{io, net::IpAddr, time::Duration};

use edge_protocol::proxy_protocol::{DecodeProxyHeaderError, PREFIX_BYTES, Prefix};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time,
};

/// How long a proxy may take: it sends the header with the connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a connection does not begin as it must.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadProxyHeaderError {
    #[error("connection is not from a trusted proxy")]
    Stranger,
    #[error("header did not come in time")]
    Timeout,
    #[error("header cannot be read")]
    Read(#[from] io::Error),
    #[error(transparent)]
    Decode(#[from] DecodeProxyHeaderError),
}

/// Returns the client's address; none if the proxy speaks for itself. Nothing is read beyond the header.
pub(super) async fn read_proxy_header(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<Option<IpAddr>, ReadProxyHeaderError> {
    let read = async {
        let mut prefix = [0; PREFIX_BYTES];
        stream.read_exact(&mut prefix).await?;
        let prefix = Prefix::decode(prefix)?;
        let mut rest = vec![0; prefix.rest_bytes];
        stream.read_exact(&mut rest).await?;
        Ok(prefix.client(&rest)?)
    };
    time::timeout(HEADER_TIMEOUT, read).await.map_err(|_| ReadProxyHeaderError::Timeout)?
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    const HEADER: &[u8] =
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x07\xc0\0\x02\x01\xc0\x01\0\x50";

    #[tokio::test]
    async fn nothing_is_read_beyond_the_header() {
        let (mut proxy, mut stream) = tokio::io::duplex(1024);
        proxy.write_all(HEADER).await.unwrap();
        proxy.write_all(b"GET").await.unwrap();

        let client = read_proxy_header(&mut stream).await.unwrap();

        assert_eq!(client.unwrap().to_string(), "203.0.113.7");
        let mut rest = [0; 3];
        stream.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest, b"GET");
    }

    #[tokio::test(start_paused = true)]
    async fn a_header_that_does_not_come_is_not_waited_for() {
        let (mut proxy, mut stream) = tokio::io::duplex(1024);
        proxy.write_all(&HEADER[..20]).await.unwrap();

        let read = read_proxy_header(&mut stream).await;

        assert!(matches!(read, Err(ReadProxyHeaderError::Timeout)), "{read:?}");
    }

    #[tokio::test]
    async fn a_header_that_ends_early_is_none() {
        let (mut proxy, mut stream) = tokio::io::duplex(1024);
        proxy.write_all(&HEADER[..20]).await.unwrap();
        drop(proxy);

        let read = read_proxy_header(&mut stream).await;

        assert!(matches!(read, Err(ReadProxyHeaderError::Read(_))), "{read:?}");
    }
}
