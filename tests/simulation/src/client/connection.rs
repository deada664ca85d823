//! One connection of a client, from its opening to its end.

use std::{collections::BTreeMap, time::Duration};

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::time::{self, Instant};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{self, client::IntoClientRequest, http::HeaderValue},
};

use super::{
    Client, EDGES, ROOMS, Unsaid,
    asked::{Asked, Place},
};
use crate::{
    determinism,
    history::{Phase, Seen},
    network::Wire,
};

/// How long a client waits to be let in.
const OPEN_TIMEOUT: Duration = Duration::from_secs(8);

/// How long an edge may be silent, which pings more often than that.
const SILENCE_MAX: Duration = Duration::from_secs(6);

/// How long an answer may take, which an edge gives by itself before that.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(6);

/// How often a client does something.
const ACTION_MS: (u64, u64) = (50, 700);

/// How many messages may wait to be acknowledged before it thinks of no more.
const UNSAID_MAX: usize = 8;

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) edge: usize,
    socket: WebSocketStream<Wire>,
    next_id: u64,
    pub(super) asked: BTreeMap<u64, (Instant, Asked)>,
    pub(super) places: BTreeMap<String, Place>,
}

/// Why a connection is given up.
pub(super) struct GaveUp(pub(super) &'static str);

impl Connection {
    /// Connects, and waits to be let in.
    pub(super) async fn open(client: &Client, edge: usize, expires: Duration) -> Option<Self> {
        let opening = async {
            let stream = Wire::connect(&format!("edge-{edge}"), 3000).await.ok()?;
            let mut request = format!("ws://edge-{edge}:3000/ws").into_client_request().ok()?;
            let token = format!("Bearer {}.{}", client.user, determinism::unix_ms(expires));
            let token = HeaderValue::from_str(&token).ok()?;
            request.headers_mut().insert("authorization", token);
            let (mut socket, _) = client_async(request, stream).await.ok()?;
            loop {
                let message = socket.next().await?.ok()?;
                if message.is_close() {
                    return None;
                }
                if message.to_text().is_ok_and(|text| text.contains("\"connected\"")) {
                    return Some(socket);
                }
            }
        };
        let socket = time::timeout(OPEN_TIMEOUT, opening).await.ok()??;
        let (asked, places) = (BTreeMap::new(), BTreeMap::new());
        Some(Self { edge, socket, next_id: 1, asked, places })
    }

    /// Reads until the connection ends.
    pub(super) async fn idle(mut self) {
        while let Some(Ok(_)) = self.socket.next().await {}
    }

    /// Does what the client wants until the connection ends, and tells how it has.
    pub(super) async fn run(mut self, client: &mut Client) -> Seen {
        let mut heard_at = Instant::now();
        let mut act_at = Instant::now();
        let edge = self.edge;
        loop {
            let outcome = tokio::select! {
                incoming = self.socket.next() => {
                    heard_at = Instant::now();
                    match incoming {
                        Some(Ok(tungstenite::Message::Text(text))) => {
                            self.receive_all(client, &text).await
                        }
                        Some(Ok(tungstenite::Message::Close(frame))) => {
                            let code = frame.map(|frame| frame.code.into());
                            return Seen::Closed { edge, by_client: None, code };
                        }
                        Some(Ok(_)) => Ok(()),
                        Some(Err(_)) | None => {
                            return Seen::Closed { edge, by_client: None, code: None };
                        }
                    }
                }
                () = time::sleep_until(act_at) => {
                    let pause = client.random.between(ACTION_MS.0, ACTION_MS.1);
                    act_at = Instant::now() + Duration::from_millis(pause);
                    self.act(client).await
                }
                () = time::sleep_until(heard_at + SILENCE_MAX) => Err(GaveUp("silence")),
            };
            if let Err(GaveUp(reason)) = outcome {
                return Seen::Closed { edge, by_client: Some(reason), code: None };
            }
        }
    }

    pub(super) async fn ask(&mut self, client: &Client, asked: Asked) -> Result<(), GaveUp> {
        let id = self.next_id;
        self.next_id += 1;
        let room = asked.room().to_owned();
        match &asked {
            Asked::Join { .. } => {
                client.note(Seen::Joining { room: room.clone() });
                if self.place(&room) != Place::In {
                    self.places.insert(room, Place::Joining);
                }
            }
            Asked::Leave { .. } => {
                client.note(Seen::Leaving { room: room.clone() });
                self.places.insert(room, Place::Leaving);
            }
            Asked::Message { .. } | Asked::Presence { .. } | Asked::Log { .. } => {}
        }
        let text = json!({"event": asked.event(), "data": asked.data(), "id": id}).to_string();
        self.asked.insert(id, (Instant::now() + ANSWER_TIMEOUT, asked));
        self.send(text).await
    }

    async fn send(&mut self, text: String) -> Result<(), GaveUp> {
        let sending = self.socket.send(tungstenite::Message::text(text));
        match time::timeout(SILENCE_MAX, sending).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(GaveUp("broken")),
            Err(_) => Err(GaveUp("stuck")),
        }
    }

    pub(super) fn place(&self, room: &str) -> Place {
        self.places.get(room).copied().unwrap_or(Place::Out)
    }

    fn is_asked(&self, event: &str, room: &str) -> bool {
        self.asked.values().any(|(_, asked)| asked.event() == event && asked.room() == room)
    }

    async fn act(&mut self, client: &mut Client) -> Result<(), GaveUp> {
        let now = Instant::now();
        if let Some((_, asked)) = self.asked.values().find(|(deadline, _)| *deadline <= now) {
            client.note(Seen::Unanswered { event: asked.event(), edge: self.edge });
            return Err(GaveUp("unanswered"));
        }
        client.follow_phase();
        self.take_places(client).await?;
        match client.phase() {
            Phase::Chaos => self.do_anything(client).await?,
            Phase::Healed => {}
            Phase::LastWords => {
                for room in client.wanted.clone() {
                    if client.last_words.insert(room.clone()) {
                        client.think_of(&room);
                    }
                }
            }
            Phase::Questions => self.ask_questions(client).await?,
        }
        self.say(client).await?;
        client.set_done(self.is_done(client));
        Ok(())
    }

    /// Joins and leaves, so that it is where it wants to be.
    async fn take_places(&mut self, client: &Client) -> Result<(), GaveUp> {
        for room in ROOMS {
            if self.is_asked("join", room) || self.is_asked("leave", room) {
                continue;
            }
            let room = room.to_owned();
            match (client.wanted.contains(&room), self.place(&room)) {
                (true, Place::In) | (false, Place::Out) => {}
                (true, Place::Out | Place::Joining | Place::Leaving) => {
                    let since = client.positions.get(&room).cloned();
                    self.ask(client, Asked::Join { room, since }).await?;
                }
                (false, Place::In | Place::Joining | Place::Leaving) => {
                    self.ask(client, Asked::Leave { room }).await?;
                }
            }
        }
        Ok(())
    }

    async fn do_anything(&mut self, client: &mut Client) -> Result<(), GaveUp> {
        let room = (*client.random.pick(&ROOMS)).to_owned();
        match client.random.below(24) {
            0 => client.enter_or_leave(room),
            1 => return Err(GaveUp("by chance")),
            2 => client.edge = (client.edge + 1) % EDGES,
            3 if self.place(&room) == Place::In => {
                self.ask(client, Asked::Presence { room }).await?;
            }
            4 if self.place(&room) == Place::In => {
                let text = json!({"event": "typing", "data": {"room": room, "typing": true}});
                self.send(text.to_string()).await?;
            }
            5..16 if client.wanted.contains(&room) && client.unsaid.len() < UNSAID_MAX => {
                client.think_of(&room);
            }
            _ => {}
        }
        Ok(())
    }

    /// Sends what has not been acknowledged, in order, to the rooms that it is in.
    async fn say(&mut self, client: &mut Client) -> Result<(), GaveUp> {
        let mut ready = Vec::new();
        for Unsaid { room, id, is_under_way } in &mut client.unsaid {
            if !*is_under_way && self.place(room) == Place::In {
                *is_under_way = true;
                ready.push((room.clone(), id.clone()));
            }
        }
        for (room, id) in ready {
            self.ask(client, Asked::Message { room, id }).await?;
        }
        Ok(())
    }

    async fn ask_questions(&mut self, client: &Client) -> Result<(), GaveUp> {
        for room in &client.wanted {
            if self.place(room) == Place::In
                && !client.answered.contains(room)
                && !self.is_asked("presence", room)
                && !self.is_asked("history", room)
            {
                self.ask(client, Asked::Presence { room: room.clone() }).await?;
                let known = Vec::new();
                self.ask(client, Asked::Log { room: room.clone(), known }).await?;
            }
        }
        Ok(())
    }

    fn is_done(&self, client: &Client) -> bool {
        let is_placed = ROOMS.iter().all(|room| {
            let wanted = if client.wanted.contains(*room) { Place::In } else { Place::Out };
            self.place(room) == wanted
        });
        let has_answers = client.phase() < Phase::Questions
            || client.wanted.iter().all(|room| client.answered.contains(room));
        is_placed && client.unsaid.is_empty() && self.asked.is_empty() && has_answers
    }
}
