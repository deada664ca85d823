//! Knows of each message whom it has yet to reach.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

/// Stands in a message before its number.
const MARK: u8 = b'~';
const DIGITS: usize = 16;

/// Returns a text that holds the number of a message, and is so long in all.
pub(crate) fn numbered(number: usize, len: usize) -> String {
    let mut text = format!("~{number:016x}");
    text.extend(std::iter::repeat_n('.', len.saturating_sub(text.len())));
    text
}

fn number_in(data: &[u8]) -> Option<usize> {
    let mark = data.iter().position(|byte| *byte == MARK)?;
    let digits = data.get(mark + 1..mark + 1 + DIGITS)?;
    usize::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[derive(Debug)]
struct Message {
    sent_at: Instant,
    room: usize,
    waiting: usize,
}

/// A message that all have.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Complete {
    pub(crate) room: usize,
    pub(crate) after: Duration,
}

#[derive(Debug, Default)]
pub(crate) struct Deliveries {
    messages: Vec<Message>,
    /// How many each client has got.
    received: Vec<usize>,
    under_way: usize,
}

impl Deliveries {
    pub(crate) fn new(clients: usize) -> Self {
        Self { received: vec![0; clients], ..Self::default() }
    }

    /// Counts a message to `waiting` members of a room. Returns its number.
    pub(crate) fn sent(&mut self, room: usize, waiting: usize, now: Instant) -> usize {
        self.messages.push(Message { sent_at: now, room, waiting });
        self.under_way += 1;
        self.messages.len() - 1
    }

    /// Counts one delivery. Returns how long it has taken, and its message, if that was the last one.
    ///
    /// # Errors
    ///
    /// When it is of no message that is under way: it would be one too many.
    pub(crate) fn delivered(
        &mut self,
        client: usize,
        data: &[u8],
        now: Instant,
    ) -> anyhow::Result<(Duration, Option<Complete>)> {
        let number = number_in(data).context("a delivery without a number")?;
        let message = self.messages.get_mut(number).context("a delivery of no message")?;
        ensure!(message.waiting > 0, "a message was delivered once too often");
        *self.received.get_mut(client).context("a delivery to nobody")? += 1;
        message.waiting -= 1;
        let after = now.saturating_duration_since(message.sent_at);
        let complete = (message.waiting == 0).then_some(Complete { room: message.room, after });
        self.under_way -= usize::from(complete.is_some());
        Ok((after, complete))
    }

    pub(crate) const fn under_way(&self) -> usize {
        self.under_way
    }

    pub(crate) const fn messages(&self) -> usize {
        self.messages.len()
    }

    /// Checks that each client has got each message of its room, exactly once.
    ///
    /// # Errors
    ///
    /// When somebody has not: then nothing was measured.
    pub(crate) fn check(
        &self,
        room_of: impl Fn(usize) -> usize,
        rooms: usize,
    ) -> anyhow::Result<()> {
        ensure!(self.under_way == 0, "{} messages have not reached all", self.under_way);
        let mut sent = vec![0; rooms];
        for message in &self.messages {
            *sent.get_mut(message.room).context("a message to no room")? += 1;
        }
        for (client, received) in self.received.iter().enumerate() {
            let expected = sent.get(room_of(client)).copied().unwrap_or_default();
            ensure!(
                *received == expected,
                "a client has got {received} messages, and {expected} were sent to it"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(number: usize) -> Vec<u8> {
        format!(r#"{{"room":"r","text":"{}"}}"#, numbered(number, 40)).into_bytes()
    }

    #[test]
    fn a_message_is_complete_with_its_last_delivery() {
        let now = Instant::now();
        let mut deliveries = Deliveries::new(2);
        let number = deliveries.sent(0, 2, now);
        let later = now + Duration::from_millis(3);

        let first = deliveries.delivered(0, &data(number), now).unwrap();
        let last = deliveries.delivered(1, &data(number), later).unwrap();

        assert_eq!(first, (Duration::ZERO, None));
        let after = Duration::from_millis(3);
        assert_eq!(last, (after, Some(Complete { room: 0, after })));
        deliveries.check(|_| 0, 1).unwrap();
    }

    #[test]
    fn one_delivery_too_many_is_an_error() {
        let now = Instant::now();
        let mut deliveries = Deliveries::new(1);
        let number = deliveries.sent(0, 1, now);
        deliveries.delivered(0, &data(number), now).unwrap();

        let error = deliveries.delivered(0, &data(number), now).unwrap_err();

        assert_eq!(error.to_string(), "a message was delivered once too often");
        assert!(deliveries.delivered(0, &data(7), now).is_err(), "nobody has sent this");
        assert!(deliveries.delivered(0, b"{}", now).is_err(), "without a number");
    }

    #[test]
    fn one_for_another_is_found_in_the_end() {
        let now = Instant::now();
        let mut deliveries = Deliveries::new(2);
        let number = deliveries.sent(0, 2, now);
        deliveries.delivered(0, &data(number), now).unwrap();
        assert!(deliveries.check(|_| 0, 1).is_err(), "one is missing");

        deliveries.delivered(0, &data(number), now).unwrap();

        assert!(deliveries.check(|_| 0, 1).is_err(), "one has two, the other has none");
    }

    #[test]
    fn texts_are_as_long_as_they_should_be() {
        assert_eq!(numbered(255, 100).len(), 100);
        assert_eq!(number_in(&data(0xFEED)), Some(0xFEED));
    }
}
