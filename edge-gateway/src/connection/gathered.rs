//! What the link brings at once for one client is written at once, by one system call.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use bytes::Bytes;

use super::{Connection, Pace};
use crate::telemetry::as_f64;

/// At most so many bytes are gathered for one client before they are written.
pub(crate) const FRAMES_BYTES_MAX: usize = 64 * 1024;

/// The connections that have something to be written before the shard does anything else.
#[derive(Debug, Default)]
pub(crate) struct Gathering {
    /// What is sent now will be followed by more for the same clients.
    is_on: Cell<bool>,
    connections: RefCell<Vec<Rc<Connection>>>,
    buffer: RefCell<Vec<u8>>,
}

impl Gathering {
    /// Says whether more follows for the clients of what is sent next.
    pub(crate) fn set(&self, is_on: bool) {
        self.is_on.set(is_on);
    }

    /// Writes all that was gathered. What a socket does not take waits in the connection's outbox.
    pub(crate) fn finish(&self) {
        self.is_on.set(false);
        for connection in self.connections.borrow_mut().drain(..) {
            connection.write_gathered();
        }
    }
}

impl Connection {
    /// Puts a frame to those that are written once the link's frame is carried out, where there are such, or will be. If it is
    /// not taken, nothing is gathered any more.
    pub(super) fn gather(self: &Rc<Self>, frame: &Bytes) -> bool {
        let gathering = &self.common.gathering;
        if !self.is_gathering.get() && !gathering.is_on.get() {
            return false;
        }
        let bytes_max = FRAMES_BYTES_MAX.min(self.common.collapse_bytes());
        if self.gathered_bytes().saturating_add(frame.len()) > bytes_max {
            self.write_gathered();
        }
        if !self.is_gathering.get() {
            let may_begin = gathering.is_on.get()
                && frame.len() <= bytes_max
                && self.stream.get().is_some()
                && self.outbox.borrow().is_none();
            if !may_begin {
                return false;
            }
            self.is_gathering.set(true);
            gathering.connections.borrow_mut().push(Rc::clone(self));
        }
        let mut slot = self.outbox.borrow_mut();
        slot.get_or_insert_default().push_data(frame.clone(), usize::MAX).is_ok()
    }

    /// Writes frames at once, which are those of `each` one behind the other, if nothing waits for the client; returns how many
    /// of them have been taken. What comes of the rest is for [`send`](Self::send) to say.
    pub(crate) fn send_frames(&self, each: &[Bytes], joined: &[u8]) -> usize {
        let mut slot = self.outbox.borrow_mut();
        if slot.is_some() || self.pace.get() != Pace::Even {
            return 0;
        }
        let mut written = self.write_now(joined);
        if written == joined.len() {
            return each.len();
        }
        for (index, frame) in each.iter().enumerate() {
            if written == 0 {
                return index;
            }
            if written < frame.len() {
                slot.insert(Box::default()).push_rest(frame.slice(written..));
                self.common.metrics.outbox_bytes.increment(as_f64(frame.len() - written));
                drop(slot);
                self.wake();
                return index + 1;
            }
            written -= frame.len();
        }
        each.len()
    }

    fn gathered_bytes(&self) -> usize {
        if !self.is_gathering.get() {
            return 0;
        }
        self.outbox.borrow().as_ref().map_or(0, |outbox| outbox.data_bytes())
    }

    /// Writes what was gathered, before anything else is sent or asked.
    pub(super) fn write_gathered(&self) {
        if !self.is_gathering.replace(false) {
            return;
        }
        let mut slot = self.outbox.borrow_mut();
        let Some(outbox) = &mut *slot else { return };
        // One copy of small frames costs less than handing each to the kernel.
        let mut buffer = self.common.gathering.buffer.borrow_mut();
        buffer.clear();
        outbox.copy_to(&mut buffer);
        outbox.take_first(self.write_now(&buffer));
        if outbox.is_empty() {
            *slot = None;
            return;
        }
        self.common.metrics.outbox_bytes.increment(as_f64(outbox.data_bytes()));
        drop(slot);
        self.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read};

    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::{
        close_reason::CloseReason,
        connection::{Class, Common, PayloadBounds, Sent},
        telemetry::Metrics,
    };

    /// A connection, and its client, who is told at once if there is nothing to read.
    async fn connected(outbox_bytes_max: usize) -> (Rc<Connection>, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_nonblocking(true).unwrap();
        let (stream, _): (TcpStream, _) = listener.accept().await.unwrap();
        stream.writable().await.unwrap();
        let common = Rc::new(Common::new(
            PayloadBounds::new(1_000_000, 1_000_000),
            outbox_bytes_max,
            Metrics::new(),
        ));
        (Rc::new(Connection::websocket(stream.into(), common)), client)
    }

    /// What has arrived. On loopback that is all that was written.
    fn arrived(client: &mut std::net::TcpStream) -> Vec<u8> {
        let mut bytes = Vec::new();
        match client.read_to_end(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => bytes,
            other => panic!("{other:?}"),
        }
    }

    fn send(connection: &Rc<Connection>, frame: &'static [u8], class: Class) {
        let frame = Bytes::from_static(frame);
        assert_eq!(connection.send_uncompressed(&frame, class), Sent::Accepted);
    }

    #[tokio::test]
    async fn what_is_gathered_is_written_at_the_end_and_in_order() {
        let (connection, mut client) = connected(1000).await;

        connection.common.gathering.set(true);
        send(&connection, b"one ", Class::Required);
        send(&connection, b"two ", Class::Volatile);
        connection.common.gathering.set(false);
        send(&connection, b"three", Class::Refillable);
        assert_eq!(arrived(&mut client), b"");

        connection.common.gathering.finish();
        assert_eq!(arrived(&mut client), b"one two three");
        assert!(!connection.is_behind());
        send(&connection, b"four", Class::Required);
        assert_eq!(arrived(&mut client), b"four");
    }

    #[tokio::test]
    async fn a_ping_or_the_end_comes_behind_what_is_gathered() {
        let (connection, mut client) = connected(1000).await;

        connection.common.gathering.set(true);
        send(&connection, b"one ", Class::Required);
        assert_eq!(connection.send_control(b"ping "), Sent::Accepted);
        send(&connection, b"two", Class::Required);
        connection.close(CloseReason::ShuttingDown);
        connection.common.gathering.finish();

        assert!(arrived(&mut client).starts_with(b"one ping two"));
    }

    #[tokio::test]
    async fn no_more_is_gathered_than_would_wait_for_a_slow_client() {
        let (connection, mut client) = connected(40).await;

        connection.common.gathering.set(true);
        send(&connection, b"123456", Class::Required);
        send(&connection, b"7890", Class::Required);
        assert_eq!(arrived(&mut client), b"");
        send(&connection, b"a", Class::Required);
        assert_eq!(arrived(&mut client), b"1234567890");
        send(&connection, b"larger than what is gathered", Class::Required);
        assert_eq!(arrived(&mut client), b"alarger than what is gathered");
    }

    #[tokio::test]
    async fn frames_are_written_together_where_nothing_waits() {
        let (connection, mut client) = connected(1000).await;
        let frames = ["one ", "two ", "three"].map(|frame| Bytes::from_static(frame.as_bytes()));

        assert_eq!(connection.send_frames(&frames, b"one two three"), 3);
        assert_eq!(arrived(&mut client), b"one two three");

        connection.common.gathering.set(true);
        send(&connection, b"first ", Class::Required);
        assert_eq!(connection.send_frames(&frames, b"one two three"), 0);
        connection.common.gathering.finish();
        assert_eq!(arrived(&mut client), b"first ");
        connection.set_pace(Pace::Behind);
        assert_eq!(connection.send_frames(&frames, b"one two three"), 0);
    }

    #[tokio::test]
    async fn a_socket_that_takes_a_part_is_sent_the_rest_of_the_frame_that_was_begun() {
        let (connection, mut client) = connected(1_000_000).await;
        let frames: Vec<_> = (0..60_u8).map(|number| Bytes::from(vec![number; 999])).collect();
        let joined = frames.concat();

        let mut taken = frames.len();
        let mut sent = 0;
        while taken == frames.len() {
            taken = connection.send_frames(&frames, &joined);
            sent += taken;
        }
        assert_eq!(connection.send_frames(&frames, &joined), 0, "something waits or nothing fits");

        let stream = connection.stream.get().unwrap();
        let mut bytes = Vec::new();
        while bytes.len() < sent * 999 {
            bytes.extend(arrived(&mut client));
            std::future::poll_fn(|cx| {
                connection.poll_flush(stream, cx).map(Result::unwrap).is_ready();
                std::task::Poll::Ready(())
            })
            .await;
            tokio::task::yield_now().await;
        }
        assert_eq!(bytes.len(), sent * 999);
        let numbers = bytes.chunks(999).map(|frame| {
            assert!(frame.iter().all(|byte| *byte == frame[0]));
            usize::from(frame[0])
        });
        assert!(numbers.eq((0..sent).map(|number| number % 60)));
        assert!(!connection.is_behind());
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_is_a_slow_consumer_all_the_same() {
        let (connection, _client) = connected(1_000_000).await;
        let frame = Bytes::from(vec![0; 60_000]);

        let gathering = &connection.common.gathering;
        let mut sent = Sent::Accepted;
        for _ in 0..1000 {
            gathering.set(true);
            sent = connection.send_uncompressed(&frame, Class::Required);
            gathering.finish();
            if sent != Sent::Accepted {
                break;
            }
        }

        assert_eq!(sent, Sent::Overflow);
        assert!(connection.is_behind());
        gathering.set(true);
        assert_eq!(connection.send_uncompressed(&frame, Class::Volatile), Sent::Dropped);
        assert_eq!(connection.send_uncompressed(&frame, Class::Refillable), Sent::Collapsed);
    }
}
