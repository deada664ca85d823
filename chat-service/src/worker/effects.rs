//! Holds back what came of a batch of commands until the log has committed what they appended.

use std::{mem, time::Duration};

use tokio::{sync::oneshot, time};

use super::{BanPage, DeliveredPage, KeepOutError, Present, Published, PutOut, RoomSummary};
use crate::{
    client_event::ClientEvent,
    edge_link::{Instructions, OUTBOX_BYTES_MAX, Outbox, Ticket},
    room_key::RoomKey,
    room_log::{AppendError, Page, ReadError, Unreadable},
    socket::LinkKey,
};

/// Most bytes for one link that are held back, and that it is sent without a look at whether it keeps up.
const LINK_BYTES_MAX: usize = OUTBOX_BYTES_MAX / 4;

/// How long a link that has got so much may take to make room for more. One that needs longer does not keep up.
const ROOM_TIMEOUT: Duration = Duration::from_millis(50);

/// What is to be seen outside of the worker, in the order in which it came about.
#[derive(Debug, Default)]
pub(super) struct Effects {
    list: Vec<Effect>,
    /// How many bytes each link has got since it was last waited for.
    link_bytes: foldhash::HashMap<LinkKey, usize>,
    /// Those that have got too much to be sent more unseen.
    overdue: Vec<Outbox>,
}

/// One of them. Events and tickets take effect when they are dropped.
#[derive(Debug)]
enum Effect {
    Event(ClientEvent),
    Ticket(Ticket),
    Instructions(Outbox, Instructions),
    CaughtUp { outbox: Outbox, room: RoomKey, complete: bool },
    Reply(Reply),
}

type Asker<T, E> = oneshot::Sender<Result<T, E>>;

/// An answer to another service. Where nobody waits for it any more, sending it fails, and no one misses it.
#[derive(Debug)]
pub(super) enum Reply {
    Published(Asker<Published, AppendError>, Result<Published, AppendError>),
    History(Asker<Page, ReadError>, Result<Page, ReadError>),
    Present(oneshot::Sender<Present>, Present),
    Rooms(Asker<Vec<RoomSummary>, Unreadable>, Result<Vec<RoomSummary>, Unreadable>),
    Delivered(Asker<DeliveredPage, ReadError>, Result<DeliveredPage, ReadError>),
    PutOut(Asker<PutOut, KeepOutError>, Result<PutOut, KeepOutError>),
    Unbanned(Asker<bool, KeepOutError>, Result<bool, KeepOutError>),
    Bans(oneshot::Sender<BanPage>, BanPage),
}

impl Effects {
    pub(super) fn finish_event(&mut self, event: ClientEvent) {
        self.count(event.ticket.outbox(), &event.ticket.instructions);
        self.list.push(Effect::Event(event));
    }

    pub(super) fn finish_ticket(&mut self, ticket: Ticket) {
        self.count(ticket.outbox(), &ticket.instructions);
        self.list.push(Effect::Ticket(ticket));
    }

    /// Sends instructions that no event of that link has caused.
    pub(super) fn send(&mut self, outbox: &Outbox, instructions: Instructions) {
        self.count(outbox, &instructions);
        self.list.push(Effect::Instructions(outbox.clone(), instructions));
    }

    pub(super) fn note_caught_up(&mut self, outbox: Outbox, room: RoomKey, complete: bool) {
        self.list.push(Effect::CaughtUp { outbox, room, complete });
    }

    pub(super) fn reply(&mut self, reply: Reply) {
        self.list.push(Effect::Reply(reply));
    }

    fn count(&mut self, outbox: &Outbox, instructions: &Instructions) {
        let bytes = self.link_bytes.entry(outbox.link()).or_default();
        let before = *bytes;
        *bytes += instructions.bytes();
        if before < LINK_BYTES_MAX && *bytes >= LINK_BYTES_MAX {
            self.overdue.push(outbox.clone());
        }
    }

    /// Whether they are to be let out, and a link waited for, before there are more.
    pub(super) fn are_many(&self) -> bool {
        !self.overdue.is_empty()
    }

    /// Gives the links that have got much the time to send it: what comes at once from many others, or from services, must
    /// not overflow the outbox of one that keeps up.
    pub(super) async fn wait_for_links(&mut self) {
        let overdue = mem::take(&mut self.overdue);
        for outbox in &overdue {
            self.link_bytes.remove(&outbox.link());
        }
        let all_have_room = async {
            for outbox in &overdue {
                outbox.has_room_again().await;
            }
        };
        // Nobody waits longer for one that does not keep up; its outbox will overflow.
        let _ = time::timeout(ROOM_TIMEOUT, all_have_room).await;
    }

    /// Forgets a link that is gone.
    pub(super) fn forget(&mut self, link: LinkKey) {
        self.link_bytes.remove(&link);
    }

    /// Lets them out.
    pub(super) fn release(&mut self) {
        for effect in self.list.drain(..) {
            effect.release();
        }
    }

    /// The log has not kept what they rest on: nobody may see any of them. The links that they were for lose this life.
    /// Their edges announce the sockets anew, and answer whatever was under way.
    pub(super) fn discard(&mut self) {
        let effects = mem::take(&mut self.list);
        for outbox in effects.iter().filter_map(Effect::outbox) {
            outbox.break_off();
        }
    }
}

impl Effect {
    fn release(self) {
        match self {
            Self::Event(event) => drop(event),
            Self::Ticket(ticket) => drop(ticket),
            Self::Instructions(outbox, instructions) => outbox.push(&instructions),
            Self::CaughtUp { outbox, room, complete } => outbox.note_caught_up(room, complete),
            Self::Reply(reply) => reply.send(),
        }
    }

    fn outbox(&self) -> Option<&Outbox> {
        match self {
            Self::Event(event) => Some(event.ticket.outbox()),
            Self::Ticket(ticket) => Some(ticket.outbox()),
            Self::Instructions(outbox, _) | Self::CaughtUp { outbox, .. } => Some(outbox),
            Self::Reply(_) => None,
        }
    }
}

impl Reply {
    fn send(self) {
        match self {
            Self::Published(asker, published) => drop(asker.send(published)),
            Self::History(asker, page) => drop(asker.send(page)),
            Self::Present(asker, present) => drop(asker.send(present)),
            Self::Rooms(asker, rooms) => drop(asker.send(rooms)),
            Self::Delivered(asker, page) => drop(asker.send(page)),
            Self::PutOut(asker, put_out) => drop(asker.send(put_out)),
            Self::Unbanned(asker, unbanned) => drop(asker.send(unbanned)),
            Self::Bans(asker, page) => drop(asker.send(page)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, atomic::Ordering};

    use proto::edge::v1::{Instruction, instruction::Kind};
    use tokio::{sync::mpsc, time::Instant};

    use super::*;
    use crate::{
        room_log::contract::{COUNT_MAX, keeping, publication, room},
        socket::{Socket, SocketKey},
        user::User,
        worker::{
            Command, Publish, Query, Worker,
            tests::{FragileLog, fragile_worker},
        },
    };

    fn worker() -> Worker<FragileLog> {
        fragile_worker(&keeping(COUNT_MAX))
    }

    type Answer = oneshot::Receiver<Result<Published, AppendError>>;

    async fn publish(worker: &mut Worker<FragileLog>) -> Answer {
        let (asker, answer) = oneshot::channel();
        let publish = Publish::Logged {
            room: room(),
            publication: publication("x"),
            latest_of: None,
            trace: None,
        };
        worker.handle(Command::Query(Box::new(Query::Publish(publish, asker))), 0).await;
        answer
    }

    #[tokio::test]
    async fn nobody_hears_of_an_entry_before_it_is_committed() {
        let mut worker = worker();

        let mut first = publish(&mut worker).await;
        let mut second = publish(&mut worker).await;
        assert!(first.try_recv().is_err());

        worker.commit().await;
        assert!(matches!(first.try_recv(), Ok(Ok(Published::Logged(..)))));
        assert!(matches!(second.try_recv(), Ok(Ok(Published::Logged(..)))));
    }

    #[tokio::test]
    async fn nobody_ever_hears_of_an_entry_that_was_not_committed() {
        let mut worker = worker();
        let (hearing, idle) = (Outbox::new(LinkKey(1)), Outbox::new(LinkKey(2)));
        let mut ticket = hearing.extra_ticket();
        ticket.instructions.close(1);
        worker.effects.finish_ticket(ticket);
        let answer = publish(&mut worker).await;

        worker.log.fails.store(true, Ordering::Relaxed);
        worker.commit().await;

        assert!(answer.await.is_err());
        assert!(hearing.standing().broken.is_some() && !hearing.standing().has_output);
        assert!(!idle.is_closed());
    }

    #[tokio::test]
    async fn latest_values_of_rooms_that_the_failure_does_not_concern_are_kept() {
        let mut worker = worker();
        let rooms = ["confirmed", "untouched", "lost"];
        let rooms = rooms.map(|name| RoomKey::parse("/chat", name).unwrap());
        for room in &rooms {
            worker.retained.begin(room);
        }
        worker.retained.note_unconfirmed(&rooms[0]);
        worker.commit().await;
        worker.retained.note_unconfirmed(&rooms[2]);

        worker.log.fails.store(true, Ordering::Relaxed);
        worker.commit().await;

        assert_eq!(rooms.map(|room| worker.retained.knows(&room)), [true, true, false]);
    }

    /// A socket in the room, and the outbox of its link.
    async fn join(worker: &mut Worker<FragileLog>) -> Outbox {
        let outbox = Outbox::new(LinkKey(1));
        let user = User::parse("ann", "test", b"{}").unwrap();
        let key = SocketKey { link: outbox.link(), handle: 1 };
        let socket = Arc::new(Socket::new(key, "ann-1".into(), "/chat".into(), user));
        worker.handle(Command::SocketMoved(outbox.extra_ticket(), socket, room()), 0).await;
        worker.commit().await;
        outbox
    }

    fn texts(instructions: Vec<Instruction>) -> impl Iterator<Item = String> {
        let emits = instructions.into_iter().filter_map(|instruction| match instruction.kind {
            Some(Kind::Emit(emit)) => Some(String::from_utf8(emit.args.to_vec()).unwrap()),
            _ => None,
        });
        emits.filter_map(|args| Some(args.split_once("text\":\"")?.1.chars().take(3).collect()))
    }

    #[tokio::test]
    async fn a_link_that_keeps_up_loses_nothing_of_a_large_batch() {
        const COUNT: usize = 200;
        let mut worker = worker();
        let outbox = join(&mut worker).await;
        let (queue, commands) = mpsc::channel(COUNT);
        for number in 0..COUNT {
            let (asker, _) = oneshot::channel();
            let text = format!("{number:03}{}", "x".repeat(OUTBOX_BYTES_MAX / 50));
            let publish = Publish::Logged {
                room: room(),
                publication: publication(&text),
                latest_of: None,
                trace: None,
            };
            queue.try_send(Command::Query(Box::new(Query::Publish(publish, asker)))).unwrap();
        }
        let worker = tokio::spawn(worker.run(commands));

        let mut seen = Vec::new();
        while seen.len() < COUNT {
            let read = async {
                let changed = outbox.changed();
                seen.extend(texts(outbox.take_confirmed()));
                changed.await;
            };
            time::timeout(Duration::from_secs(10), read).await.expect("nothing more comes");
            assert_eq!(outbox.standing().broken, None, "after {} of {COUNT}", seen.len());
        }
        assert!(seen.iter().enumerate().all(|(n, text)| *text == format!("{n:03}")), "{seen:?}");
        worker.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_long_for_a_link_that_does_not_keep_up() {
        let mut worker = worker();
        let outbox = join(&mut worker).await;
        let large = "x".repeat(LINK_BYTES_MAX);
        let begun_at = Instant::now();

        for _ in 0..6 {
            let mut instructions = Instructions::default();
            let socket = SocketKey { link: outbox.link(), handle: 1 };
            instructions.acknowledge(socket, 1, large.clone().into());
            worker.effects.send(&outbox, instructions);
            assert!(worker.effects.are_many());
            worker.commit().await;
            worker.effects.wait_for_links().await;
        }

        assert!(outbox.is_closed());
        assert!(begun_at.elapsed() <= 3 * ROOM_TIMEOUT, "{:?}", begun_at.elapsed());
    }
}
