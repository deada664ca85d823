//! Tokens that are asked about by one stream.

use std::collections::BTreeMap;
use std::time::Duration;

use proto::auth::v1::authenticate_response::Outcome;
use proto::auth::v1::{
    AuthenticateEachRequest, AuthenticateEachResponse, RefusalReason, TokenAnswer, TokenQuestion,
};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::introspection;
use crate::provider::{Answer, Provider};
use crate::running::{DEADLINE, Decision, Running, eventually_decides};
use crate::tokens::{expired_token, token_for};

struct Stream {
    questions: mpsc::Sender<AuthenticateEachRequest>,
    answers: Streaming<AuthenticateEachResponse>,
}

impl Stream {
    async fn open(service: &Running) -> Self {
        let (questions, receiver) = mpsc::channel(4);
        let asked = ReceiverStream::new(receiver);
        let answers = service.client().await.authenticate_each(asked).await.unwrap().into_inner();
        Self { questions, answers }
    }

    async fn ask<'a>(&self, questions: impl IntoIterator<Item = (u64, &'a str)>) {
        let question = |(number, token): (u64, &str)| TokenQuestion {
            number,
            token: token.to_owned(),
            ..TokenQuestion::default()
        };
        let questions = questions.into_iter().map(question).collect();
        self.questions.send(AuthenticateEachRequest { questions }).await.unwrap();
    }

    async fn message(&mut self) -> Result<Option<AuthenticateEachResponse>, Status> {
        timeout(DEADLINE, self.answers.message()).await.unwrap()
    }

    /// The next so many answers, each once.
    async fn answers(&mut self, count: usize) -> BTreeMap<u64, Decision> {
        let mut answers = BTreeMap::new();
        while answers.len() < count {
            let message = self.message().await.unwrap().expect("the stream goes on");
            for TokenAnswer { number, response } in message.answers {
                let decision = match response.and_then(|response| response.outcome) {
                    Some(Outcome::Identity(identity)) => Decision::Accepted(identity),
                    Some(Outcome::Refusal(refusal)) => Decision::Refused(refusal.reason()),
                    None => Decision::None(Code::Unavailable),
                };
                assert_eq!(answers.insert(number, decision), None, "{number} is answered twice");
            }
        }
        answers
    }
}

#[tokio::test]
async fn each_token_is_answered_once_under_its_own_number() {
    let service = Running::start(&[]).await;
    let mut stream = Stream::open(&service).await;
    let (ada, bob, expired) = (token_for("ada"), token_for("bob"), expired_token());

    stream.ask([(7, &*ada), (8, "nonsense"), (u64::MAX, &*bob)]).await;
    stream.ask([(9, &*expired), (10, "")]).await;

    let answers = stream.answers(5).await;
    for (number, subject) in [(7, "ada"), (u64::MAX, "bob")] {
        let Decision::Accepted(identity) = &answers[&number] else { panic!("{answers:?}") };
        assert_eq!(identity.subject, subject);
    }
    assert_eq!(answers[&8], Decision::Refused(RefusalReason::Malformed));
    assert_eq!(answers[&9], Decision::Refused(RefusalReason::Expired));
    assert_eq!(answers[&10], Decision::Refused(RefusalReason::Malformed));
}

#[tokio::test]
async fn a_token_that_waits_for_its_issuer_holds_up_no_other() {
    let provider = Provider::start().await;
    let service = introspection::start(&provider, "").await;
    provider.answer_about("slow", Answer::Never);
    provider.introspects("quick", introspection::active(&provider, "ada"));
    let mut stream = Stream::open(&service).await;

    stream.ask([(1, "slow"), (2, "quick")]).await;
    stream.ask([(3, "quick")]).await;

    let answers = stream.answers(2).await;
    assert!(answers[&2].is_accepted() && answers[&3].is_accepted(), "{answers:?}");
    // In the end nothing is decided about the one.
    assert_eq!(stream.answers(1).await[&1], Decision::None(Code::Unavailable));
}

#[tokio::test]
async fn an_edge_that_reads_no_answers_keeps_no_other_from_the_issuer() {
    let provider = Provider::start().await;
    let service = introspection::start(&provider, "").await;
    provider.introspects("quick", introspection::active(&provider, "ada"));
    // As many as may ask an issuer at a time.
    let slow: Vec<String> = (0..64).map(|number| format!("slow-{number}")).collect();
    slow.iter().for_each(|token| provider.answer_about(token, Answer::Never));
    let stream = Stream::open(&service).await;
    stream.ask((0..).zip(slow.iter().map(String::as_str))).await;
    // Until nothing more is taken, for nobody reads the answers.
    let is_stuck = async {
        loop {
            stream.ask((0..256).map(|number| (1_000 + number, "eyJhbGciOiJub25lIn0.e30."))).await;
        }
    };
    assert!(timeout(Duration::from_secs(1), is_stuck).await.is_err());

    let mut client = service.client().await;
    eventually_decides(&mut client, "quick", Decision::is_accepted).await;
}

#[tokio::test]
async fn a_message_has_at_most_256_questions() {
    let service = Running::start(&[]).await;
    let mut stream = Stream::open(&service).await;

    stream.ask((0..256).map(|number| (number, "x"))).await;
    assert_eq!(stream.answers(256).await.len(), 256);

    stream.ask((0..257).map(|number| (number, "x"))).await;
    assert_eq!(stream.message().await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn what_was_read_is_answered_before_the_service_stops() {
    let provider = Provider::start().await;
    let service = introspection::start(&provider, "").await;
    provider.answer_about("slow", Answer::Never);
    let mut stream = Stream::open(&service).await;
    stream.ask([(1, "slow"), (2, "unknown")]).await;
    assert_eq!(stream.answers(1).await[&2], Decision::Refused(RefusalReason::Inactive));

    let stopped = tokio::spawn(service.stop());

    assert_eq!(stream.answers(1).await[&1], Decision::None(Code::Unavailable));
    assert_eq!(stream.message().await.unwrap(), None);
    stopped.await.unwrap().unwrap();
}
