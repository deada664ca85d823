//! Reads the body of a post, which must not come too slowly.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Body;
use tokio::time::{self, Instant};

/// How long a body may take whatever it is.
const GRACE: Duration = Duration::from_secs(5);

/// How much of it must have come for each second beyond that.
const BYTES_PER_SECOND_MIN: usize = 1024;

/// Why there is no body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadBodyError {
    TooLarge,
    TooSlow,
    /// The client hung up, or what came is not HTTP.
    Broken,
}

/// Reads a body of up to `bytes_max` bytes. Whoever brings more is asked about once: `larger` says how much it may be.
pub(super) async fn read_body<B>(
    mut body: B,
    mut bytes_max: usize,
    larger: impl AsyncFnOnce() -> usize,
) -> Result<Bytes, ReadBodyError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let begun = Instant::now();
    let mut received = Vec::new();
    let mut larger = Some(larger);
    loop {
        let earned = received.len() / BYTES_PER_SECOND_MIN;
        let due = begun + GRACE + Duration::from_secs(u64::try_from(earned).unwrap_or_default());
        let frame = time::timeout_at(due, body.frame()).await;
        let frame = match frame.map_err(|_| ReadBodyError::TooSlow)? {
            Some(frame) => frame.map_err(|_| ReadBodyError::Broken)?,
            None => return Ok(received.into()),
        };
        let Ok(data) = frame.into_data() else { continue };
        let is_larger = |bytes_max: usize| data.len() > bytes_max.saturating_sub(received.len());
        if is_larger(bytes_max)
            && let Some(larger) = larger.take()
        {
            bytes_max = larger().await;
        }
        if is_larger(bytes_max) {
            return Err(ReadBodyError::TooLarge);
        }
        received.extend_from_slice(&data);
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::StreamBody;
    use hyper::body::Frame;
    use tokio::sync::mpsc;
    use tokio_stream::wrappers::ReceiverStream;

    use super::*;

    /// A body that brings `bytes` each `interval`, so many times, and then ends.
    async fn read(bytes: usize, interval: Duration, count: usize) -> Result<usize, ReadBodyError> {
        let (sender, frames) = mpsc::channel::<Result<_, Infallible>>(1);
        let client = async move {
            for _ in 0..count {
                time::sleep(interval).await;
                if sender.send(Ok(Frame::data(vec![b'x'; bytes].into()))).await.is_err() {
                    return;
                }
            }
        };
        let body = StreamBody::new(ReceiverStream::new(frames));
        let body = read_body(body, 60_000, async || 100_000);
        let ((), read) = tokio::join!(client, body);
        read.map(|body| body.len())
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_may_come_at_that_rate_and_not_much_slower() {
        let second = Duration::from_secs(1);

        assert_eq!(read(1024, second, 60).await, Ok(60 * 1024));
        assert_eq!(read(1, second, 4).await, Ok(4), "what is short may take the grace");
        assert_eq!(read(800, second, 60).await, Err(ReadBodyError::TooSlow));
        assert_eq!(read(1, second, 100).await, Err(ReadBodyError::TooSlow));
        assert_eq!(read(1, GRACE * 2, 1).await, Err(ReadBodyError::TooSlow));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_may_be_so_large_and_no_larger() {
        assert_eq!(read(50_000, Duration::ZERO, 2).await, Ok(100_000));
        assert_eq!(read(100_001, Duration::ZERO, 1).await, Err(ReadBodyError::TooLarge));
        assert_eq!(read(33_334, Duration::ZERO, 3).await, Err(ReadBodyError::TooLarge));
    }
}
