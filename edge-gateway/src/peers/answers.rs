//! Turns what sessions answer into messages between edges, and back.

use edge_protocol::engine_io::v3::payload::Body;
use proto::peer::v1::{
    self as wire, AskUpgradeResponse, PollingAnswer, PollingOutcome, post_part::Part,
};

use crate::transport::{
    leave::Left,
    polling::{Answer, Post},
    standing::Standing,
};

/// Another edge said something that this one does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("another edge's message makes no sense")]
pub(super) struct UnknownMessage;

pub(super) fn to_wire(answer: Answer) -> PollingAnswer {
    let is_uncompressed = matches!(answer, Answer::Payload { uncompressed: true, .. });
    let (outcome, payload) = match answer {
        Answer::Payload { body: Body::Text(payload), .. } => (PollingOutcome::Payload, payload),
        Answer::Payload { body: Body::Binary(payload), .. } => {
            (PollingOutcome::BinaryPayload, payload)
        }
        Answer::Taken => (PollingOutcome::Taken, Vec::new()),
        Answer::OutOfPlace => (PollingOutcome::OutOfPlace, Vec::new()),
        Answer::TooLarge => (PollingOutcome::TooLarge, Vec::new()),
        Answer::UnknownSession => (PollingOutcome::UnknownSession, Vec::new()),
        Answer::OtherTransport => (PollingOutcome::OtherTransport, Vec::new()),
    };
    PollingAnswer {
        outcome: outcome.into(),
        payload: payload.into(),
        uncompressed: is_uncompressed,
    }
}

pub(super) fn from_wire(answer: PollingAnswer) -> Result<Answer, UnknownMessage> {
    match answer.outcome() {
        PollingOutcome::Payload => Ok(Answer::Payload {
            body: Body::Text(answer.payload.into()),
            uncompressed: answer.uncompressed,
        }),
        PollingOutcome::BinaryPayload => Ok(Answer::Payload {
            body: Body::Binary(answer.payload.into()),
            uncompressed: answer.uncompressed,
        }),
        PollingOutcome::Taken => Ok(Answer::Taken),
        PollingOutcome::OutOfPlace => Ok(Answer::OutOfPlace),
        PollingOutcome::TooLarge => Ok(Answer::TooLarge),
        PollingOutcome::UnknownSession => Ok(Answer::UnknownSession),
        PollingOutcome::OtherTransport => Ok(Answer::OtherTransport),
        PollingOutcome::Unspecified => Err(UnknownMessage),
    }
}

pub(super) fn standing_to_wire(standing: Standing) -> AskUpgradeResponse {
    let Standing { refusal, is_older, has_entered } = standing;
    let refusal = refusal.map_or(0, |refusal| to_wire(refusal).outcome);
    AskUpgradeResponse { refusal, older: is_older, entered: has_entered }
}

pub(super) fn standing_from_wire(answer: &AskUpgradeResponse) -> Standing {
    let outcome = answer.refusal().into();
    // None is no refusal.
    let refusal = from_wire(PollingAnswer { outcome, ..PollingAnswer::default() }).ok();
    Standing { refusal, is_older: answer.older, has_entered: answer.entered }
}

pub(super) fn post_to_wire(post: Post) -> Part {
    match post {
        Post::Text(body) => Part::Body(body),
        Post::Binary(body) => Part::BinaryBody(body),
        Post::TooLarge => Part::Unreadable(wire::Unreadable::TooLarge.into()),
        Post::NotText => Part::Unreadable(wire::Unreadable::NotText.into()),
    }
}

/// What a post brings. `bytes_max` holds here too, in case the other edge's settings are different.
pub(super) fn post_from_wire(part: Part, bytes_max: usize) -> Result<Post, UnknownMessage> {
    match part {
        Part::Body(body) | Part::BinaryBody(body) if body.len() > bytes_max => Ok(Post::TooLarge),
        Part::Body(body) => Ok(Post::Text(body)),
        Part::BinaryBody(body) => Ok(Post::Binary(body)),
        Part::Unreadable(why) => match wire::Unreadable::try_from(why) {
            Ok(wire::Unreadable::TooLarge) => Ok(Post::TooLarge),
            Ok(wire::Unreadable::NotText) => Ok(Post::NotText),
            Ok(wire::Unreadable::Unspecified) | Err(_) => Err(UnknownMessage),
        },
        Part::Session(_) => Err(UnknownMessage),
    }
}

pub(super) fn left_to_wire(left: Left) -> wire::Left {
    match left {
        Left::Poll => wire::Left::Poll,
        Left::WebSocket => wire::Left::Websocket,
        Left::LostAnswer => wire::Left::LostAnswer,
    }
}

pub(super) fn left_from_wire(left: wire::Left) -> Result<Left, UnknownMessage> {
    match left {
        wire::Left::Poll => Ok(Left::Poll),
        wire::Left::Websocket => Ok(Left::WebSocket),
        wire::Left::LostAnswer => Ok(Left::LostAnswer),
        wire::Left::Unspecified => Err(UnknownMessage),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_arrives_as_it_was_sent() {
        let all = || {
            [
                Answer::Payload { body: Body::Text(b"42[\"a\"]".to_vec()), uncompressed: false },
                Answer::Payload {
                    body: Body::Binary(b"\x01\x02\xff\x04\x01".to_vec()),
                    uncompressed: true,
                },
                Answer::Taken,
                Answer::OutOfPlace,
                Answer::TooLarge,
                Answer::UnknownSession,
                Answer::OtherTransport,
            ]
        };
        for (sent, expected) in all().into_iter().zip(all()) {
            assert_eq!(from_wire(to_wire(sent)), Ok(expected));
        }
        assert_eq!(from_wire(PollingAnswer::default()), Err(UnknownMessage));
    }

    #[test]
    fn a_standing_arrives_as_it_was_told() {
        for refusal in [None, Some(())] {
            for (is_older, has_entered) in [(false, false), (true, false), (false, true)] {
                let standing = || Standing {
                    refusal: refusal.map(|()| Answer::OtherTransport),
                    is_older,
                    has_entered,
                };
                assert_eq!(standing_from_wire(&standing_to_wire(standing())), standing());
            }
        }
    }

    #[test]
    fn a_body_is_held_to_the_limit_of_the_edge_that_takes_it() {
        let posted = |part| post_from_wire(part, 2);

        assert!(matches!(posted(Part::Body("ab".into())), Ok(Post::Text(body)) if body == "ab"));
        let binary = posted(post_to_wire(Post::Binary("ab".into())));
        assert!(matches!(binary, Ok(Post::Binary(body)) if body == "ab"));
        assert!(matches!(posted(Part::BinaryBody("abc".into())), Ok(Post::TooLarge)));
        assert!(matches!(posted(Part::Body("abc".into())), Ok(Post::TooLarge)));
        assert!(matches!(posted(post_to_wire(Post::TooLarge)), Ok(Post::TooLarge)));
        assert!(matches!(posted(post_to_wire(Post::NotText)), Ok(Post::NotText)));
        assert!(matches!(posted(Part::Unreadable(0)), Err(UnknownMessage)));
    }
}
