//! Deliberate faults of the system, each of which the checker must find: what it lets pass proves something only then.

use serde_json::Value;

use crate::{client::ROOMS, random::Random};

/// How seldom a client is lied to: once in so many messages that the lie would fit.
const SELDOM: u64 = 20;

/// What is wrong with the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Mutation {
    /// The log keeps one message of each room.
    ShortLog,
    /// The log is lost with its process, where it should last.
    ForgetfulLog,
    /// The disk has not what it says that it has.
    LyingDisk,
    /// A message is sent twice.
    Doubled,
    /// A message is not sent.
    Swallowed,
    /// Two messages are sent in the wrong order.
    Swapped,
    /// A message is sent to those in another room.
    Leaked,
    /// A client that comes back is not given the first message that it has missed.
    Skipped,
    /// An answer is not given.
    Mute,
    /// A message that is not logged is acknowledged all the same.
    Untrue,
    /// Someone who is not there is said to be.
    Ghost,
    /// Nobody is told who has left.
    Unnoticed,
}

/// Changes what a client is sent.
#[derive(Debug)]
pub(crate) struct Tampering {
    mutation: Option<Mutation>,
    random: Random,
    held: Option<String>,
}

impl Tampering {
    pub(crate) fn new(mutation: Option<Mutation>, random: Random) -> Self {
        Self { mutation, random, held: None }
    }

    /// Returns what the client gets in place of a text.
    pub(crate) fn pass(&mut self, text: &str) -> Vec<String> {
        let mut passed = vec![text.to_owned()];
        let Some(mutation) = self.mutation else { return passed };
        let Ok(mut message) = serde_json::from_str::<Value>(text) else { return passed };
        let is_message = message["event"] == "message";
        if is_message && let Some(held) = self.held.take() {
            passed.push(held);
        }
        let is_answer = message["event"].is_null();
        let is_presence = message["event"] == "presence";
        let data = &mut message["data"];
        let fits = match mutation {
            Mutation::ShortLog | Mutation::ForgetfulLog | Mutation::LyingDisk => false,
            Mutation::Doubled | Mutation::Swallowed | Mutation::Swapped | Mutation::Leaked => {
                is_message
            }
            Mutation::Skipped => {
                let missed = data["messages"].as_array();
                data["recovered"] == true && missed.is_some_and(|missed| !missed.is_empty())
            }
            Mutation::Mute => is_answer,
            Mutation::Untrue => is_answer && data["position"].is_string() && data["id"].is_string(),
            Mutation::Ghost => is_answer && data["users"].is_array(),
            Mutation::Unnoticed => {
                is_presence && data["left"].as_array().is_some_and(|left| !left.is_empty())
            }
        };
        let is_rare = matches!(mutation, Mutation::Ghost | Mutation::Skipped | Mutation::Unnoticed);
        if !fits || !(is_rare || self.random.one_in(SELDOM)) {
            return passed;
        }
        match mutation {
            Mutation::ShortLog | Mutation::ForgetfulLog | Mutation::LyingDisk => {}
            Mutation::Doubled => passed.push(text.to_owned()),
            Mutation::Swallowed | Mutation::Mute | Mutation::Unnoticed => passed.clear(),
            Mutation::Swapped => self.held = passed.pop(),
            Mutation::Leaked => {
                let room = (*self.random.pick(&ROOMS)).into();
                data["room"] = room;
                passed = vec![message.to_string()];
            }
            Mutation::Skipped => {
                if let Some(messages) = data["messages"].as_array_mut() {
                    messages.remove(0);
                }
                passed = vec![message.to_string()];
            }
            Mutation::Untrue => {
                data["position"] = "AAAAAAAAAAAAAAAAAAAAAA".into();
                passed = vec![message.to_string()];
            }
            Mutation::Ghost => {
                let ghost = serde_json::json!({"id": "user-9"});
                data["users"]
                    .as_array_mut()
                    .into_iter()
                    .for_each(|users| users.push(ghost.clone()));
                passed = vec![message.to_string()];
            }
        }
        passed
    }
}
