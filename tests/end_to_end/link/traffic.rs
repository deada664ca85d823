//! Clients that talk all the time and keep account of what they sent and saw.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tokio::sync::watch;

use crate::support::{Cluster, JsonClient, SocketIoClient};

pub(super) const ROOM: &str = "lobby";
/// Sent without waiting for their answers, so that a kill always finds some under way.
const UNDER_WAY_MAX: usize = 8;

/// A client of either kind.
#[derive(Debug)]
pub(super) enum Member {
    SocketIo(SocketIoClient),
    Json(JsonClient),
}

/// A message of somebody's. Some have an id that tells them apart, others only their text.
fn message(text: &str, has_id: bool) -> Value {
    let mut message = json!({"room": ROOM, "text": text});
    if has_id {
        message["id"] = text.into();
    }
    message
}

/// What one member has sent and seen.
#[derive(Debug, Default)]
pub(super) struct Account {
    sent: Vec<Sent>,
    seen: Vec<Seen>,
}

#[derive(Debug)]
struct Sent {
    text: String,
    has_id: bool,
    /// The answer said that it is in the log. Otherwise it said `unavailable`: nobody knows.
    is_acknowledged: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Message(String),
    /// Word that something may have been missed before this.
    Gap,
}

#[derive(Debug)]
enum Heard {
    Room(Seen),
    Answer(u64, Value),
}

impl Member {
    pub(super) async fn ask(&mut self, text: &str, has_id: bool) -> u64 {
        let message = message(text, has_id);
        match self {
            Self::SocketIo(client) => client.ask("message", message).await,
            Self::Json(client) => client.ask("message", message).await,
        }
    }

    /// Sends messages until told to stop, and then hears the answers to all of them.
    pub(super) async fn talk(
        mut self,
        name: &str,
        mut stop: watch::Receiver<bool>,
        acknowledged: watch::Sender<usize>,
    ) -> (Self, Account) {
        let mut account = Account::default();
        let mut under_way = BTreeMap::new();
        loop {
            let is_stopped = *stop.borrow_and_update();
            while !is_stopped && under_way.len() < UNDER_WAY_MAX {
                let number = account.sent.len();
                let (text, has_id) = (format!("{name}-{number}"), number % 2 == 0);
                under_way.insert(self.ask(&text, has_id).await, number);
                account.sent.push(Sent { text, has_id, is_acknowledged: false });
            }
            if under_way.is_empty() {
                return (self, account);
            }
            match self.hear().await {
                Heard::Room(seen) => account.seen.push(seen),
                Heard::Answer(ack_id, answer) => {
                    let index = under_way.remove(&ack_id).expect("one answer to each question");
                    let sent = &mut account.sent[index];
                    sent.is_acknowledged = is_acknowledged(sent, &answer);
                    acknowledged.send_modify(|count| *count += usize::from(sent.is_acknowledged));
                }
            }
        }
    }

    /// Hears what has not been heard yet, up to the message `last`.
    pub(super) async fn hear_to_the_end(
        mut self,
        mut account: Account,
        last: &str,
    ) -> (Self, Account) {
        let last = Seen::Message(last.to_owned());
        while account.seen.last() != Some(&last) {
            if let Heard::Room(seen) = self.hear().await {
                account.seen.push(seen);
            }
        }
        (self, account)
    }

    /// Returns what comes next. A connection that drops, a presence change or a DISCONNECT fails the test.
    async fn hear(&mut self) -> Heard {
        let (event, data) = match self {
            Self::SocketIo(client) => {
                let mut packet = client.find(|_| true).await;
                match (packet.kind, packet.ack_id) {
                    ('3', Some(ack_id)) => return Heard::Answer(ack_id, packet.data[0].take()),
                    ('2', None) => (packet.data[0].take(), packet.data[1].take()),
                    _ => panic!("{packet:?}"),
                }
            }
            Self::Json(client) => {
                let mut message = client.message().await;
                if let Some(id) = message["id"].as_u64() {
                    let has_failed = !message["error"].is_null();
                    return Heard::Answer(
                        id,
                        if has_failed { message } else { message["data"].take() },
                    );
                }
                (message["event"].take(), message["data"].take())
            }
        };
        match (event.as_str(), data["code"].as_str()) {
            (Some("message"), _) => {
                Heard::Room(Seen::Message(data["text"].as_str().unwrap().to_owned()))
            }
            (Some("exception"), Some("gap")) => Heard::Room(Seen::Gap),
            _ => panic!("{event} {data}"),
        }
    }
}

fn is_acknowledged(sent: &Sent, answer: &Value) -> bool {
    let error = &answer["error"];
    if error.is_null() {
        let id = if sent.has_id { &json!(sent.text) } else { &answer["position"] };
        assert_eq!(answer["id"], *id, "{answer}");
        assert!(answer["position"].is_string(), "{answer}");
        return true;
    }
    assert_eq!(
        (&error["code"], &error["retryable"]),
        (&json!("unavailable"), &json!(true)),
        "{answer}"
    );
    false
}

impl Account {
    pub(super) fn acknowledged(&self) -> impl Iterator<Item = &str> {
        self.sent.iter().filter(|sent| sent.is_acknowledged).map(|sent| sent.text.as_str())
    }

    /// The messages whose sender was told to try again.
    pub(super) fn unacknowledged(&self) -> Vec<&str> {
        let unacknowledged = self.sent.iter().filter(|sent| !sent.is_acknowledged);
        unacknowledged.map(|sent| sent.text.as_str()).collect()
    }

    pub(super) fn was_told_of_a_gap(&self) -> bool {
        self.seen.contains(&Seen::Gap)
    }

    /// The texts of the messages that were seen, in that order.
    pub(super) fn messages(&self) -> Vec<&str> {
        self.seen
            .iter()
            .filter_map(|seen| match seen {
                Seen::Message(id) => Some(id.as_str()),
                Seen::Gap => None,
            })
            .collect()
    }

    /// The messages of `sender` that were acknowledged and have not been seen here.
    pub(super) fn missing<'a>(&self, sender: &'a Self) -> Vec<&'a str> {
        let seen: BTreeSet<_> = self.messages().into_iter().collect();
        sender.acknowledged().filter(|id| !seen.contains(id)).collect()
    }

    /// Tells whether there was word of a gap between what was seen of `sender` before `id` and after it.
    pub(super) fn was_told_of_a_gap_at(&self, sender: &Self, id: &str) -> bool {
        let index = sender.sent.iter().position(|sent| sent.text == id).expect("it was sent");
        let (before, after) = sender.sent.split_at(index);
        let place = |sent: &Sent| {
            self.seen.iter().position(|seen| *seen == Seen::Message(sent.text.clone()))
        };
        let start = before.iter().rev().find_map(place).unwrap_or(0);
        let end = after.iter().find_map(place).unwrap_or(self.seen.len());
        self.seen[start..end].contains(&Seen::Gap)
    }
}

/// Asserts that nobody saw anything twice, and everybody saw each sender's messages in the order of sending.
pub(super) fn assert_consistent(accounts: &[Account]) {
    for account in accounts {
        let messages = account.messages();
        let distinct: BTreeSet<_> = messages.iter().copied().collect();
        assert_eq!(distinct.len(), messages.len(), "nothing twice");
        for sender in accounts {
            let sent: Vec<_> = sender.sent.iter().map(|sent| sent.text.as_str()).collect();
            let of_sender: BTreeSet<_> = sent.iter().copied().collect();
            let seen: Vec<_> =
                messages.iter().copied().filter(|id| of_sender.contains(id)).collect();
            let expected: Vec<_> = sent.into_iter().filter(|id| distinct.contains(id)).collect();
            assert_eq!(seen, expected, "each sender's order");
        }
    }
}

/// Has members of both kinds enter and join, with nothing left to hear.
pub(super) async fn members(cluster: &Cluster) -> Vec<(String, Member)> {
    let mut members = Vec::new();
    for number in 0..2 {
        let name = format!("socket-io-{number}");
        members.push((name.clone(), Member::SocketIo(cluster.socket_io(&name).await)));
        let name = format!("json-{number}");
        members.push((name.clone(), Member::Json(cluster.json(&name).await)));
    }
    for (_, member) in &mut members {
        match member {
            Member::SocketIo(client) => drop(client.request("join", json!(ROOM)).await),
            Member::Json(client) => drop(client.request("join", json!(ROOM)).await.unwrap()),
        }
    }
    let count = members.len();
    for (index, (_, member)) in members.iter_mut().enumerate() {
        for _ in index + 1..count {
            match member {
                Member::SocketIo(client) => client.event("presence").await,
                Member::Json(client) => client.event("presence").await,
            };
        }
    }
    members
}
