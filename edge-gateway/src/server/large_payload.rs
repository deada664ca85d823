//! Answers a poll with so much that it is worth compressing.

use axum::body::Body;
use bytes::Bytes;
use flate2::Compression;
use http::{HeaderValue, Response, header};
use tokio::task;

use super::{content_coding::ContentCoding, engine_io::payload_answer};
use crate::{
    session_id::SessionId,
    transport::{
        leave::Left,
        mailbox::{Mail, Mailboxes},
    },
};

/// Smallest answer that is compressed, as with the reference server.
pub(super) const LARGE_BYTES_MIN: usize = 1024;

/// Largest one that is compressed on the shard's own thread, which takes a fraction of a millisecond.
const INLINE_BYTES_MAX: usize = 32 * 1024;

/// Packets that a poll has taken and that are not on their way yet. They cannot be given again: dropped before they are,
/// it has their session ended, as where a client hangs up earlier.
#[derive(Debug)]
pub(super) struct Taken {
    session: SessionId,
    mailboxes: Mailboxes,
    are_on_their_way: bool,
}

impl Taken {
    pub(super) fn new(session: SessionId, mailboxes: &Mailboxes) -> Self {
        Self { session, mailboxes: mailboxes.clone(), are_on_their_way: false }
    }

    fn are_on_their_way(mut self) {
        self.are_on_their_way = true;
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if !self.are_on_their_way {
            let (session, left) = (self.session, Left::LostAnswer);
            self.mailboxes.send_now(Mail::Leave { session, left });
        }
    }
}

pub(super) async fn large_payload(
    content_type: HeaderValue,
    payload: Bytes,
    coding: Option<ContentCoding>,
    taken: Taken,
) -> Response<Body> {
    let encoded = match coding {
        Some(coding) => compress(coding, payload.clone()).await.map(|encoded| (coding, encoded)),
        None => None,
    };
    let mut response = match encoded {
        Some((coding, encoded)) => {
            let mut response = payload_answer(content_type, encoded.into());
            response.headers_mut().insert(header::CONTENT_ENCODING, coding.name());
            response
        }
        None => payload_answer(content_type, payload),
    };
    taken.are_on_their_way();
    let vary = HeaderValue::from_static("Accept-Encoding");
    response.headers_mut().insert(header::VARY, vary);
    response
}

/// Returns nothing where there is nothing to be gained.
async fn compress(coding: ContentCoding, payload: Bytes) -> Option<Vec<u8>> {
    let payload_len = payload.len();
    let encode = move || coding.encode(Compression::fast(), &payload);
    let encoded = if payload_len <= INLINE_BYTES_MAX {
        encode()
    } else {
        task::spawn_blocking(encode).await.ok()?
    };
    encoded.ok().filter(|encoded| encoded.len() < payload_len)
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, future::poll_fn, pin::pin, task::Poll};

    use metrics::Counter;

    use super::*;

    #[tokio::test]
    async fn a_client_that_hangs_up_while_its_answer_is_compressed_ends_its_session() {
        let (mailboxes, mut boxes) = Mailboxes::new(0, 1, HashMap::new(), Counter::noop());
        let session = SessionId::random(0, 0);
        // So much takes its time.
        let payload = Bytes::from(vec![b'x'; 128 * INLINE_BYTES_MAX]);
        let (octets, gzip) = (HeaderValue::from_static("a/b"), Some(ContentCoding::Gzip));

        // Whole, nobody is told.
        let taken = Taken::new(session, &mailboxes);
        large_payload(octets.clone(), payload.clone(), gzip, taken).await;
        {
            let taken = Taken::new(session, &mailboxes);
            let mut cut = pin!(large_payload(octets, payload, gzip, taken));
            let begun = poll_fn(|cx| Poll::Ready(cut.as_mut().poll(cx))).await;
            assert!(begun.is_pending());
        }
        drop(mailboxes);

        let mut told = Vec::new();
        while let Some(mail) = boxes[0].next().await {
            told.push(mail);
        }
        assert_eq!(told.len(), 1);
        let is_left = |mail: &Mail| matches!(mail, Mail::Leave { left: Left::LostAnswer, .. });
        assert!(told.iter().all(is_left));
    }
}
