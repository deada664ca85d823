//! The tokens that the auth service is to be asked about, and the stream by which it is.

use std::{
    cell::RefCell,
    collections::{HashMap, VecDeque},
    time::Duration,
};

use foldhash::fast::FixedState;
use proto::auth::v1::{
    AuthenticateEachRequest, AuthenticateResponse, TokenAnswer, TokenQuestion,
    auth_service_client::AuthServiceClient,
};
use service_kit::trace::TraceParent;
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::{self, Instant},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, transport::Channel};

/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// How long nothing may come of a stream on which something is asked. Each question is answered sooner, or the service is stuck.
const QUIET_MAX: Duration = Duration::from_secs(3);

/// Most questions in one message, and with how many bytes of tokens it takes no further one.
const MESSAGE_LENGTH_MAX: usize = 256;
const MESSAGE_BYTES_ENOUGH: usize = 64 * 1024;

/// How many messages may wait inside the stream. What waits before that is gathered into larger ones.
const STREAM_MESSAGES_MAX: usize = 2;

/// With so many asked about, and then with twice as many as are left, those that nobody waits for any more are looked for.
const FORGOTTEN_MIN: usize = 1024;

/// How long to wait before asking again, once a stream has ended.
const REOPEN_INTERVAL: Duration = Duration::from_millis(50);

/// Why nothing was decided about a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum UnansweredError {
    #[error("the stream of questions ended: {0}")]
    Stream(Code),
    #[error("there was no answer in time")]
    Silence,
    #[error("the token's issuer cannot be asked")]
    Undecided,
}

type Answer = Result<AuthenticateResponse, UnansweredError>;
type Asked = HashMap<u64, oneshot::Sender<Answer>, FixedState>;

/// What has come up and was not sent.
#[derive(Debug, Default)]
pub(super) struct Questions {
    waiting: RefCell<VecDeque<Waiting>>,
    wake: Notify,
}

#[derive(Debug)]
struct Waiting {
    token: String,
    parent: Option<TraceParent>,
    answer: oneshot::Sender<Answer>,
}

impl Questions {
    /// Asks about one token. Nothing is decided by who stops waiting.
    pub(super) async fn ask(&self, token: &str, parent: Option<TraceParent>) -> Answer {
        let (answer, answered) = oneshot::channel();
        {
            let mut waiting = self.waiting.borrow_mut();
            // Whoever came first stops waiting first, where nothing is taken.
            while waiting.pop_front_if(|one| one.answer.is_closed()).is_some() {}
            waiting.push_back(Waiting { token: token.to_owned(), parent, answer });
        }
        self.wake.notify_one();
        match time::timeout(ANSWER_TIMEOUT, answered).await {
            Ok(Ok(answer)) => answer,
            // It is dropped with its stream.
            Ok(Err(_)) => Err(UnansweredError::Stream(Code::Cancelled)),
            Err(_) => Err(UnansweredError::Silence),
        }
    }

    /// Asks about what comes up, by one stream after the other, for ever. The first is begun with the first question, and one
    /// that ends takes all questions with it: who still waits asks again.
    pub(super) async fn run(&self, client: AuthServiceClient<Channel>) {
        loop {
            while self.waiting.borrow().is_empty() {
                self.wake.notified().await;
            }
            let begun_at = Instant::now();
            let mut asked = Asked::default();
            let code = match self.stream(client.clone(), &mut asked).await {
                Ok(()) => Code::Cancelled,
                Err(status) => status.code(),
            };
            let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
            let unanswered = asked.into_values().chain(waiting.into_iter().map(|one| one.answer));
            // Whoever has stopped waiting misses nothing.
            unanswered.for_each(|answer| drop(answer.send(Err(UnansweredError::Stream(code)))));
            time::sleep_until(begun_at + REOPEN_INTERVAL).await;
        }
    }

    async fn stream(
        &self,
        mut client: AuthServiceClient<Channel>,
        asked: &mut Asked,
    ) -> Result<(), Status> {
        let (outbound, messages) = mpsc::channel(STREAM_MESSAGES_MAX);
        let mut answers =
            client.authenticate_each(ReceiverStream::new(messages)).await?.into_inner();
        let (mut last_number, mut sweep_at) = (0, FORGOTTEN_MIN);
        let mut heard_at = Instant::now();
        loop {
            let has_some = !self.waiting.borrow().is_empty();
            tokio::select! {
                message = answers.message() => {
                    let Some(message) = message? else { return Ok(()) };
                    heard_at = Instant::now();
                    message.answers.into_iter().for_each(|answer| pass_on(answer, asked));
                }
                permit = outbound.reserve(), if has_some => {
                    let Ok(permit) = permit else { return Ok(()) };
                    if asked.is_empty() {
                        heard_at = Instant::now();
                    } else if asked.len() >= sweep_at {
                        asked.retain(|_, answer| !answer.is_closed());
                        sweep_at = FORGOTTEN_MIN.max(asked.len() * 2);
                    }
                    let questions = self.take(&mut last_number, asked);
                    if !questions.is_empty() {
                        permit.send(AuthenticateEachRequest { questions });
                    }
                }
                () = self.wake.notified() => {}
                () = time::sleep_until(heard_at + QUIET_MAX), if !asked.is_empty() => {
                    return Err(Status::deadline_exceeded("the auth service is stuck"));
                }
            }
        }
    }

    /// What one message takes of what waits, but for what nobody waits for any more.
    fn take(&self, last_number: &mut u64, asked: &mut Asked) -> Vec<TokenQuestion> {
        let (mut questions, mut bytes) = (Vec::new(), 0);
        let mut waiting = self.waiting.borrow_mut();
        while questions.len() < MESSAGE_LENGTH_MAX
            && bytes < MESSAGE_BYTES_ENOUGH
            && let Some(Waiting { token, parent, answer }) = waiting.pop_front()
        {
            if answer.is_closed() {
                continue;
            }
            *last_number += 1;
            bytes += token.len();
            let traceparent = parent.map_or_else(String::new, |parent| parent.to_string());
            questions.push(TokenQuestion { number: *last_number, token, traceparent });
            asked.insert(*last_number, answer);
        }
        questions
    }
}

fn pass_on(TokenAnswer { number, response }: TokenAnswer, asked: &mut Asked) {
    if let Some(answer) = asked.remove(&number) {
        // Whoever has stopped waiting asks again, if it still wants to know.
        drop(answer.send(response.ok_or(UnansweredError::Undecided)));
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn questions_that_nobody_waits_for_are_not_kept() {
        let questions = Questions::default();
        for _ in 0..100 {
            let asks = questions.ask("token", None);
            // Asked, and the client is gone before there was a stream to ask by.
            assert!(asks.now_or_never().is_none());
        }
        assert_eq!(questions.waiting.borrow().len(), 1, "the last");

        let mut asks = pin!(questions.ask("of who waits", None));
        assert!(asks.as_mut().now_or_never().is_none());
        assert!(questions.ask("of who does not", None).now_or_never().is_none());
        let mut asked = Asked::default();
        let taken = questions.take(&mut 0, &mut asked);
        let tokens: Vec<_> = taken.iter().map(|one| one.token.as_str()).collect();
        assert_eq!((tokens, asked.len()), (vec!["of who waits"], 1));
        assert!(questions.waiting.borrow().is_empty());
    }
}
