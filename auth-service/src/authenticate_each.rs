//! Verifies the tokens of one edge over one call. What one of them waits for holds up no other.

use std::future::Future;

use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use proto::auth::v1 as wire;
use service_kit::grpc::Caller;
use service_kit::shutdown::Shutdown;
use service_kit::trace::TraceParent;
use tokio::sync::mpsc;
use tokio::task;
use tonic::{Status, Streaming};

use crate::verification::{Question, Verification};

/// Most questions in one message, and most answers.
const MESSAGE_LENGTH_MAX: usize = 256;

/// How many tokens of one stream are looked at, or have answers that wait, before more are read.
const UNDER_WAY_MAX: usize = 1024;

/// After how many answers it is the turn of others on the same thread: a signature takes up to a tenth of a millisecond.
const TURN_LENGTH: usize = 8;

/// Messages that wait for an edge which does not read.
const WAITING_MAX: usize = 1;

pub(crate) type Message = Result<wire::AuthenticateEachResponse, Status>;

/// Begins to answer. The stream ends when the edge ends its side or the service stops, and then when what was read is answered.
pub(crate) fn begin(
    verification: Verification,
    questions: Streaming<wire::AuthenticateEachRequest>,
    caller: Option<Caller>,
    shutdown: Shutdown,
) -> mpsc::Receiver<Message> {
    let (answers, receiver) = mpsc::channel(WAITING_MAX);
    tokio::spawn(async move {
        let desk = Desk { verification, caller };
        tokio::select! {
            () = desk.answer_all(questions, &answers, &shutdown) => {}
            () = answers.closed() => {}
        }
    });
    receiver
}

struct Desk {
    verification: Verification,
    caller: Option<Caller>,
}

impl Desk {
    async fn answer_all(
        &self,
        mut questions: Streaming<wire::AuthenticateEachRequest>,
        answers: &mpsc::Sender<Message>,
        shutdown: &Shutdown,
    ) {
        let (mut under_way, mut answered) = (FuturesUnordered::new(), Vec::new());
        let mut goes_on = true;
        loop {
            let has_room = under_way.len() + answered.len() < UNDER_WAY_MAX;
            tokio::select! {
                // Also while the edge does not read: what is under way may keep others from asking the same issuer.
                Some(first) = under_way.next() => {
                    answered.push(first);
                    gather(&mut under_way, &mut answered).await;
                }
                permit = answers.reserve(), if !answered.is_empty() => {
                    let Ok(permit) = permit else { return };
                    let count = answered.len().min(MESSAGE_LENGTH_MAX);
                    let answers = answered.drain(..count).collect();
                    permit.send(Ok(wire::AuthenticateEachResponse { answers }));
                }
                message = questions.message(), if goes_on && has_room => {
                    match message {
                        Ok(Some(message)) if message.questions.len() > MESSAGE_LENGTH_MAX => {
                            let status = Status::invalid_argument("more than 256 questions");
                            answers.send(Err(status)).await.ok();
                            return;
                        }
                        Ok(Some(message)) => {
                            under_way.extend(message.questions.into_iter().map(|one| self.answer(one)));
                        }
                        Ok(None) | Err(_) => goes_on = false,
                    }
                }
                () = shutdown.requested(), if goes_on => goes_on = false,
                else => return,
            }
        }
    }

    async fn answer(&self, asked: wire::TokenQuestion) -> wire::TokenAnswer {
        let wire::TokenQuestion { number, token, traceparent } = asked;
        let parent = TraceParent::parse(&traceparent);
        let question = Question { token: token.into(), parent, method: "AuthenticateEach" };
        let response = self.verification.answer(question, self.caller.as_ref()).await.ok();
        wire::TokenAnswer { number, response }
    }
}

/// Adds what is answered by now, up to what a message takes.
async fn gather<F: Future>(under_way: &mut FuturesUnordered<F>, answered: &mut Vec<F::Output>) {
    let mut taken = 0;
    while answered.len() < MESSAGE_LENGTH_MAX
        && let Some(Some(next)) = under_way.next().now_or_never()
    {
        answered.push(next);
        taken += 1;
        if taken % TURN_LENGTH == 0 {
            task::yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn others_have_their_turn_between_the_answers_of_one_message() {
        let turns = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&turns);
        let other = tokio::spawn(async move {
            loop {
                counted.fetch_add(1, Ordering::Relaxed);
                task::yield_now().await;
            }
        });
        let mut under_way: FuturesUnordered<_> = (0..1000).map(|one| async move { one }).collect();
        let mut answered = Vec::new();

        gather(&mut under_way, &mut answered).await;

        assert_eq!((answered.len(), under_way.len()), (256, 1000 - 256));
        assert!(turns.load(Ordering::Relaxed) >= 256 / TURN_LENGTH - 1, "{turns:?}");
        other.abort();
    }
}
