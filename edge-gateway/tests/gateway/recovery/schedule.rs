//! Random schedules: whatever happens when, a client gets each event that was for it once, in order.

use std::collections::VecDeque;

use proto::edge::v1::{Accept, Audience, Emit, Join, Leave, edge_event::Kind as Event};

use super::{
    Kind, Names, come_back, event,
    moves::{edge_has_carried_out, next_of_either, opened_on, two_shards},
};
use crate::support::{Client, Edge, Stream, within};

const SCHEDULES: u64 = 12;
const STEPS: usize = 40;

/// A generator that needs no more than to differ from seed to seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

struct World {
    dice: Dice,
    edge: Edge,
    streams: [Stream; 2],
    /// Where the business service has the socket: stream and handle. Two places while it moves.
    places: Vec<(usize, u64)>,
    /// Whether events have a place in a room's log. Without, only what they say tells them apart.
    has_positions: bool,
    is_in_room: bool,
    client: Option<Client>,
    names: Names,
    offset: Option<String>,
    /// What the client has yet to see.
    due: VecDeque<String>,
    emitted: u64,
}

impl World {
    async fn new(seed: u64) -> Self {
        let (edge, mut streams) = two_shards().await;
        let mut client = edge.socket_io().await;
        client.send(r#"40/chat,{"token":"ok:alice"}"#).await;
        let (home, socket, _) = opened_on(&mut streams).await;
        streams[home].instruct([Kind::Accept(Accept { socket })]).await;
        let names = Names::of(&client.text().await);
        Self {
            dice: Dice(seed),
            edge,
            streams,
            places: vec![(home, socket)],
            has_positions: seed.is_multiple_of(2),
            is_in_room: false,
            client: Some(client),
            names,
            offset: None,
            due: VecDeque::new(),
            emitted: 0,
        }
    }

    async fn emit(&mut self) {
        self.emitted += 1;
        let (name, choice) = (format!("event {}", self.emitted), self.dice.roll(7));
        for (stream, handle) in self.places.clone() {
            let audience = match choice {
                0 => Audience { rooms: vec!["a".to_owned()], ..Audience::default() },
                1 => Audience { rooms: vec!["b".to_owned()], ..Audience::default() },
                2 => Audience { users: vec!["alice".to_owned()], ..Audience::default() },
                3 => Audience { sockets: vec![handle], ..Audience::default() },
                4 => {
                    Audience { everyone: true, except_sockets: vec![handle], ..Audience::default() }
                }
                5 => Audience {
                    everyone: true,
                    except_rooms: vec!["a".to_owned()],
                    ..Audience::default()
                },
                _ => Audience { everyone: true, ..Audience::default() },
            };
            let emit = Emit {
                audience: Some(Audience { namespace: "/chat".to_owned(), ..audience }),
                event: name.clone(),
                args: "[1]".into(),
                position_room: "log".to_owned(),
                position: if self.has_positions { self.emitted.to_string() } else { String::new() },
                ..Emit::default()
            };
            self.streams[stream].instruct([Kind::Emit(emit)]).await;
        }
        let is_for_it = match choice {
            0 => self.is_in_room,
            1 | 4 => false,
            5 => !self.is_in_room,
            _ => true,
        };
        if is_for_it {
            self.due.push_back(name);
        }
    }

    async fn emit_some(&mut self) {
        for _ in 0..self.dice.roll(4) {
            self.emit().await;
        }
    }

    async fn change_rooms(&mut self) {
        let (stream, socket) = self.places[0];
        let (sockets, room) = (vec![socket], "a".to_owned());
        let kind = if self.is_in_room {
            Kind::Leave(Leave { sockets, room })
        } else {
            Kind::Join(Join { sockets, room, ..Join::default() })
        };
        self.is_in_room = !self.is_in_room;
        self.streams[stream].instruct([kind]).await;
        // What is still on its way as a socket is claimed is not part of the claim.
        edge_has_carried_out(&mut self.streams[stream]).await;
    }

    /// Reads until `due` has no more than so many, or until the CONNECT answer.
    async fn read(&mut self, left: usize, until_connected: bool) {
        let Some(client) = &mut self.client else { return };
        while self.due.len() > left || until_connected {
            let text = client.text().await;
            if text.starts_with("40/chat,") {
                assert!(until_connected, "{text}");
                assert_eq!(Names::of(&text), self.names);
                return;
            }
            let (name, offset) = event(&text);
            assert_eq!(Some(name), self.due.pop_front());
            self.offset = Some(offset);
        }
    }

    /// Brings the client back; on another shard its socket moves there. It may be cut again at any point.
    async fn come_back(&mut self) {
        let mut client = self.edge.socket_io().await;
        come_back(&mut client, "alice", &self.names, self.offset.as_deref()).await;
        self.emit_some().await;
        let mut has_moved = false;
        loop {
            let (stream, event) = within("an event", next_of_either(&mut self.streams)).await;
            match event.kind {
                // Where it was, or where it has just moved to.
                Some(Event::Resumed(_)) => break,
                Some(Event::Opened(opened)) => {
                    assert!(opened.recovered, "its socket was not found");
                    assert_eq!(opened.memberships.len(), usize::from(self.is_in_room));
                    self.emit_some().await;
                    if self.dice.roll(3) == 0 {
                        self.client = None;
                        return;
                    }
                    let socket = event.socket;
                    self.streams[stream].instruct([Kind::Accept(Accept { socket })]).await;
                    self.places.push((stream, socket));
                    self.emit_some().await;
                }
                Some(Event::Closed(closed)) if closed.reason == "moved" => {
                    assert_eq!((stream, event.socket), self.places.remove(0));
                    self.emit_some().await;
                    has_moved = true;
                }
                Some(Event::Suspended(_) | Event::Closed(_)) => {}
                kind => panic!("{kind:?}"),
            }
        }
        if !has_moved && self.dice.roll(3) == 0 {
            // Cut again before it has read anything.
            self.client = None;
            return;
        }
        self.client = Some(client);
        self.read(0, true).await;
    }

    async fn step(&mut self) {
        match self.dice.roll(10) {
            0..=3 => self.emit().await,
            4 => self.change_rooms().await,
            5 | 6 => {
                let left = self.due.len() / 2;
                self.read(left, false).await;
            }
            7 => self.client = None,
            _ => self.come_back().await,
        }
    }
}

#[tokio::test]
async fn whatever_happens_when_each_event_comes_once_in_order() {
    for seed in 0..SCHEDULES {
        let mut world = World::new(seed).await;
        for _ in 0..STEPS {
            world.step().await;
        }
        while world.client.is_none() {
            world.come_back().await;
        }
        world.read(0, false).await;
    }
}
