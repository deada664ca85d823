//! A stream that keeps the last answer of HTTP back, so that it leaves in one call with what follows it.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Says that the next answer is the last one: the `101` of an upgrade. Not an `Rc`, for hyper wants to send streams.
#[derive(Debug, Clone, Default)]
pub(super) struct IsLast(Arc<AtomicBool>);

impl IsLast {
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A client's stream while it speaks HTTP. What is written once the answer is the last one waits here.
#[derive(Debug)]
pub(super) struct Withheld<T> {
    stream: T,
    is_last: IsLast,
    answer: Vec<u8>,
}

impl<T> Withheld<T> {
    pub(super) const fn new(stream: T, is_last: IsLast) -> Self {
        Self { stream, is_last, answer: Vec::new() }
    }

    /// The stream, and what is still to be written to it.
    pub(super) fn into_parts(self) -> (T, Vec<u8>) {
        (self.stream, self.answer)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Withheld<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Withheld<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_last.get() {
            self.answer.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_last.get() {
            let before = self.answer.len();
            slices.iter().for_each(|slice| self.answer.extend_from_slice(slice));
            return Poll::Ready(Ok(self.answer.len() - before));
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn only_the_last_answer_waits() {
        let (mut client, server) = tokio::io::duplex(64);
        let is_last = IsLast::default();
        let mut server = Withheld::new(server, is_last.clone());

        server.write_all(b"200").await.unwrap();
        is_last.set();
        server.write_all(b"10").await.unwrap();
        let slices = [IoSlice::new(b"1"), IoSlice::new(b"!")];
        assert_eq!(server.write_vectored(&slices).await.unwrap(), 2);
        server.flush().await.unwrap();
        let (stream, answer) = server.into_parts();
        drop(stream);

        assert_eq!(answer, b"101!");
        let mut received = String::new();
        client.read_to_string(&mut received).await.unwrap();
        assert_eq!(received, "200");
    }
}
