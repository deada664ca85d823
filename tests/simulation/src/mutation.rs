//! Deliberate faults of the system, each of which the checker must find: what it lets pass proves something only then.

use serde_json::{Value, json};

use crate::{client::ROOMS, history::Phase, random::Random};

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
    /// The disk says that all is well where it fails.
    SilentDisk,
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
    /// An event is refused, though nothing is broken.
    Needless,
    /// Someone who is not there is said to be.
    Ghost,
    /// Nobody is told who has left.
    Unnoticed,
    /// Connections end although nothing is broken.
    Hangup,
    /// Somebody stays connected whom nobody knows.
    Stowaway,
    /// Tokens do not end.
    Immortal,
    /// In the end, when nothing is broken any more, something still is.
    Unhealed,
    /// In the end, clients are sent no more messages.
    Forgotten,
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
    pub(crate) fn pass(&mut self, text: &str, phase: Phase) -> Vec<String> {
        let mut passed = vec![text.to_owned()];
        let Some(mutation) = self.mutation else { return passed };
        let Ok(message) = serde_json::from_str::<Value>(text) else { return passed };
        if message["event"] == "message"
            && let Some(held) = self.held.take()
        {
            passed.push(held);
        }
        let is_fit = mutation.fits(&message, phase);
        if !is_fit || !(mutation.is_always() || self.random.one_in(SELDOM)) {
            return passed;
        }
        self.distort(mutation, message, passed)
    }

    fn distort(
        &mut self,
        mutation: Mutation,
        mut message: Value,
        mut passed: Vec<String>,
    ) -> Vec<String> {
        let data = &mut message["data"];
        match mutation {
            Mutation::ShortLog
            | Mutation::ForgetfulLog
            | Mutation::LyingDisk
            | Mutation::SilentDisk
            | Mutation::Hangup
            | Mutation::Stowaway
            | Mutation::Immortal
            | Mutation::Unhealed => return passed,
            Mutation::Doubled => {
                passed.extend(passed.first().cloned());
                return passed;
            }
            Mutation::Swallowed | Mutation::Mute | Mutation::Unnoticed | Mutation::Forgotten => {
                return Vec::new();
            }
            Mutation::Swapped => {
                self.held = passed.pop();
                return passed;
            }
            Mutation::Leaked => data["room"] = (*self.random.pick(&ROOMS)).into(),
            Mutation::Skipped => {
                if let Some(messages) = data["messages"].as_array_mut() {
                    messages.remove(0);
                }
            }
            Mutation::Untrue => data["position"] = "AAAAAAAAAAAAAAAAAAAAAA".into(),
            Mutation::Needless => {
                let error = json!({"code": "unavailable", "message": "", "retryable": true});
                message = json!({"id": message["id"], "error": error});
            }
            Mutation::Ghost => {
                let users = data["users"].as_array_mut().into_iter();
                users.for_each(|users| users.push(json!({"id": "user-9"})));
            }
        }
        vec![message.to_string()]
    }
}

impl Mutation {
    /// Whether this is something that it changes.
    fn fits(self, message: &Value, phase: Phase) -> bool {
        let is_message = message["event"] == "message";
        let is_answer = message["event"].is_null();
        let data = &message["data"];
        match self {
            Self::ShortLog
            | Self::ForgetfulLog
            | Self::LyingDisk
            | Self::SilentDisk
            | Self::Hangup
            | Self::Stowaway
            | Self::Immortal
            | Self::Unhealed => false,
            Self::Doubled | Self::Swallowed | Self::Swapped | Self::Leaked => is_message,
            Self::Forgotten => is_message && phase > Phase::Healed,
            Self::Skipped => {
                let missed = data["messages"].as_array();
                data["recovered"] == true && missed.is_some_and(|missed| !missed.is_empty())
            }
            Self::Mute => is_answer,
            Self::Untrue | Self::Needless => {
                is_answer && data["position"].is_string() && data["id"].is_string()
            }
            Self::Ghost => is_answer && data["users"].is_array(),
            Self::Unnoticed => {
                message["event"] == "presence"
                    && data["left"].as_array().is_some_and(|left| !left.is_empty())
            }
        }
    }

    /// Whether it changes all that fits, of which there is little.
    fn is_always(self) -> bool {
        matches!(self, Self::Ghost | Self::Skipped | Self::Unnoticed | Self::Forgotten)
    }
}
