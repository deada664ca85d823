//! What another edge sends with a call: it comes at once, or the call is given up.

use std::{
    error::Error,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use metrics::Counter;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{self, Sleep},
};
use tonic::Status;

/// How many calls may have begun of which the other edge has not sent all that there is to know. It sends that at once.
const BEGUN_CALLS_MAX: usize = 4 * 1024;

/// How many of them may be on one connection: one that floods must not keep out the others.
const CONNECTION_BEGUN_CALLS_MAX: usize = BEGUN_CALLS_MAX / 8;

/// How long another edge may take to send it.
pub(super) const CALL_BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// The calls that have begun on one connection, and on all.
#[derive(Debug, Clone)]
pub(super) struct BegunCalls {
    all: Arc<Semaphore>,
    own: Arc<Semaphore>,
    /// Calls that were refused or given up.
    hits: Counter,
}

/// The body of one of them.
#[derive(Debug)]
pub(super) struct CallBody<B = Incoming> {
    body: B,
    /// None once it may take its time.
    begun: Option<Begun>,
    /// Whether what follows on the first part may take its time, as that of a post does: it comes from a client.
    goes_on: bool,
}

#[derive(Debug)]
struct Begun {
    deadline: Pin<Box<Sleep>>,
    hits: Counter,
    _slots: [OwnedSemaphorePermit; 2],
}

impl BegunCalls {
    pub(super) fn new(hits: Counter) -> Self {
        let [all, own] = [BEGUN_CALLS_MAX, CONNECTION_BEGUN_CALLS_MAX];
        Self { all: Arc::new(Semaphore::new(all)), own: Arc::new(Semaphore::new(own)), hits }
    }

    /// Those of another connection.
    pub(super) fn of_next_connection(&self) -> Self {
        Self { own: Arc::new(Semaphore::new(CONNECTION_BEGUN_CALLS_MAX)), ..self.clone() }
    }

    /// Takes the body of one more call.
    ///
    /// # Errors
    ///
    /// When too many have begun.
    pub(super) fn take<B>(&self, body: B, goes_on: bool) -> Result<CallBody<B>, Status> {
        let slot = |slots: &Arc<Semaphore>| Arc::clone(slots).try_acquire_owned().ok();
        let (Some(own), Some(all)) = (slot(&self.own), slot(&self.all)) else {
            self.hits.increment(1);
            return Err(Status::resource_exhausted("too many calls have begun and not gone on"));
        };
        let deadline = Box::pin(time::sleep(CALL_BODY_TIMEOUT));
        let begun = Some(Begun { deadline, hits: self.hits.clone(), _slots: [own, all] });
        Ok(CallBody { body, begun, goes_on })
    }
}

impl<B> Body for CallBody<B>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Unpin,
{
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if frame.is_pending()
            && let Some(begun) = &mut self.begun
        {
            ready!(begun.deadline.as_mut().poll(cx));
            begun.hits.increment(1);
            self.begun = None;
            let status = Status::deadline_exceeded("the call did not go on");
            return Poll::Ready(Some(Err(status.into())));
        }
        if frame.is_ready() && (self.goes_on || self.body.is_end_stream()) {
            self.begun = None;
        }
        frame.map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Empty, Full, StreamBody};
    use tokio_stream::StreamExt;

    use super::*;

    #[tokio::test]
    async fn so_many_calls_may_have_begun_and_no_more() {
        let all = BegunCalls::new(Counter::noop());
        let calls = all.of_next_connection();
        let take = |calls: &BegunCalls| calls.take(Full::<Bytes>::from("a"), false);
        let mut begun: Vec<_> = (0..512).map(|_| take(&calls)).collect();

        assert_eq!(take(&calls).unwrap_err().code(), tonic::Code::ResourceExhausted);
        let others: Vec<_> = (0..7).map(|_| all.of_next_connection()).collect();
        let _by_others: Vec<_> =
            others.iter().flat_map(|other| (0..512).map(|_| take(other).unwrap())).collect();
        assert!(take(&all).is_err(), "4096 on all connections");

        // One that has come counts no longer, however long it is answered.
        let first = begun.first_mut().unwrap().as_mut().unwrap();
        first.frame().await.unwrap().unwrap();
        calls.take(Empty::<Bytes>::new(), false).map(drop).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_come_in_time_is_given_up() {
        let calls = BegunCalls::new(Counter::noop());
        for (goes_on, is_waited_for) in [(false, false), (true, true)] {
            let first = tokio_stream::once(Ok::<_, Status>(Frame::data("a".into())));
            let body = StreamBody::new(first.chain(tokio_stream::pending()));
            let mut body = calls.take(body, goes_on).unwrap();
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "a");

            let rest = time::timeout(CALL_BODY_TIMEOUT * 2, body.frame()).await;

            assert_eq!(rest.is_err(), is_waited_for);
        }
        let silent = StreamBody::new(tokio_stream::pending::<Result<Frame<Bytes>, Status>>());
        let mut silent = calls.take(silent, true).unwrap();
        let begin = time::Instant::now();
        assert!(silent.frame().await.unwrap().is_err());
        assert_eq!(begin.elapsed(), CALL_BODY_TIMEOUT);
    }
}
