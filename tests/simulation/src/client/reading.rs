//! What a client makes of what it is sent.

use serde_json::Value;

use super::{
    Client,
    asked::{Asked, Place},
    connection::{Connection, GaveUp},
};
use crate::history::{Joined, Message, Position, Seen};

impl Connection {
    /// Takes in what came, as a mutation has it.
    pub(super) async fn receive_all(
        &mut self,
        client: &mut Client,
        text: &str,
    ) -> Result<(), GaveUp> {
        let phase = client.phase();
        for text in client.tampering.pass(text, phase) {
            self.receive(client, &text).await?;
        }
        Ok(())
    }

    async fn receive(&mut self, client: &mut Client, text: &str) -> Result<(), GaveUp> {
        let Ok(message) = serde_json::from_str::<Value>(text) else {
            client.note(Seen::Nonsense { text: text.to_owned() });
            return Ok(());
        };
        match message["event"].as_str() {
            Some(event) => self.receive_event(client, event, &message["data"]),
            None => self.receive_answer(client, &message).await?,
        }
        Ok(())
    }

    fn receive_event(&mut self, client: &mut Client, event: &str, data: &Value) {
        let room = data["room"].as_str().unwrap_or_default().to_owned();
        match event {
            "message" => {
                let Some(message) = message(data) else {
                    return client.note(Seen::Nonsense { text: data.to_string() });
                };
                if self.place(&room) == Place::In {
                    client.positions.insert(room, message.position.clone());
                }
                client.note(Seen::Message(message));
            }
            "exception" if data["code"] == "gap" => {
                // What follows does not follow on what came before. It joins again, to hear where it stands.
                if self.place(&room) == Place::In {
                    self.places.insert(room.clone(), Place::Joining);
                }
                client.note(Seen::Gap { room });
            }
            "presence" => client.note(Seen::Notice {
                room,
                joined: users(&data["joined"]),
                left: users(&data["left"]),
                users: data["users"].is_array().then(|| users(&data["users"])),
            }),
            // It lets the token end, as most clients do.
            "auth:expiring" if data["expires_at"].is_u64() => {}
            // Nobody waits for an answer to this one, and so its errors come as events.
            "typing" | "exception" if data["code"] != "invalid_payload" => {}
            _ => client.note(Seen::Nonsense { text: format!("{event} {data}") }),
        }
    }

    async fn receive_answer(&mut self, client: &mut Client, answer: &Value) -> Result<(), GaveUp> {
        let asked = answer["id"].as_u64().and_then(|id| self.asked.remove(&id));
        let Some((_, asked)) = asked else {
            client.note(Seen::Nonsense { text: answer.to_string() });
            return Ok(());
        };
        if let Some(code) = answer["error"]["code"].as_str() {
            receive_error(client, &asked, code, self.edge);
            return Ok(());
        }
        let data = &answer["data"];
        match asked {
            Asked::Join { room, since } => self.receive_joined(client, room, since, data),
            Asked::Leave { room } => {
                self.places.insert(room.clone(), Place::Out);
                client.note(Seen::Left { room });
            }
            Asked::Message { room, id } => {
                let position = data["position"].as_str().unwrap_or_default().to_owned();
                client.unsaid.retain(|unsaid| unsaid.id != id);
                client.note(Seen::Acked { room, id, position });
            }
            Asked::Presence { room } => {
                client.note(Seen::Present { room, users: users(&data["users"]) });
            }
            Asked::Log { room, known } => {
                let mut page = messages(&data["messages"]);
                page.extend(known);
                if data["more"] == true {
                    return self.ask(client, Asked::Log { room, known: page }).await;
                }
                client.answered.insert(room.clone());
                client.note(Seen::Log { room, messages: page });
            }
        }
        Ok(())
    }

    fn receive_joined(
        &mut self,
        client: &mut Client,
        room: String,
        since: Option<Position>,
        data: &Value,
    ) {
        let position = data["position"].as_str().unwrap_or_default().to_owned();
        self.places.insert(room.clone(), Place::In);
        client.positions.insert(room.clone(), position.clone());
        client.note(Seen::Joined(Joined {
            room,
            since,
            position,
            recovered: data["recovered"] == true,
            messages: messages(&data["messages"]),
            members: users(&data["members"]),
        }));
    }
}

fn receive_error(client: &mut Client, asked: &Asked, code: &str, edge: usize) {
    if let Asked::Message { id, .. } = asked {
        for unsaid in client.unsaid.iter_mut().filter(|unsaid| unsaid.id == *id) {
            unsaid.is_under_way = false;
        }
    }
    let (event, room) = (asked.event(), asked.room().to_owned());
    client.note(Seen::Refused { event, room, code: code.to_owned(), edge });
}

fn message(data: &Value) -> Option<Message> {
    let text = |field: &str| data[field].as_str().map(str::to_owned);
    Some(Message {
        room: text("room")?,
        id: text("id")?,
        user: data["user"]["id"].as_str()?.to_owned(),
        text: text("text")?,
        position: text("position")?,
    })
}

fn messages(data: &Value) -> Vec<Message> {
    data.as_array().into_iter().flatten().filter_map(message).collect()
}

fn users(data: &Value) -> Vec<String> {
    let users = data.as_array().into_iter().flatten();
    users.filter_map(|user| user["id"].as_str()).map(str::to_owned).collect()
}
