//! Writes instructions as one line each, so that tests read like scripts.

use std::collections::HashMap;

use proto::edge::v1::{Audience, Instruction, Refill, instruction::Kind};

const POSITION_BYTES: usize = 27;

/// Names positions `P0`, `P1` … in the order in which they are first seen, and times `T`.
#[derive(Debug, Default)]
pub(crate) struct Script {
    positions: HashMap<String, usize>,
}

impl Script {
    pub(crate) fn line(&mut self, instruction: &Instruction) -> String {
        match instruction.kind.as_ref().unwrap() {
            Kind::Accept(accept) => format!("accept {}", accept.socket),
            Kind::Recall(recall) => format!("recall {} {}", recall.socket, recall.socket_id),
            Kind::Refuse(refuse) => format!("refuse {} {}", refuse.socket, refuse.message),
            Kind::Join(join) => {
                let position = self.position(&join.position);
                format!("join {:?} {} {position}", join.sockets, join.room)
            }
            Kind::Leave(leave) => format!("leave {:?} {}", leave.sockets, leave.room),
            Kind::Emit(emit) => {
                let audience = audience(emit.audience.as_ref().unwrap());
                let args = self.args(&emit.args);
                let volatile = if emit.volatile { " volatile" } else { "" };
                let position = if emit.position.is_empty() {
                    String::new()
                } else {
                    format!(" at {} {}", emit.position_room, self.position(&emit.position))
                };
                format!("emit to {audience}: {} {args}{volatile}{position}", emit.event)
            }
            Kind::Refill(refill) => {
                let after = self.position(&refill.after);
                let events = refill.events.iter().map(|emit| {
                    assert_eq!((emit.audience.as_ref(), &emit.position_room), (None, &refill.room));
                    let args = self.args(&emit.args);
                    format!("{} {args} at {}", emit.event, self.position(&emit.position))
                });
                let events: Vec<_> = events.collect();
                let (position, more) = (self.position(&refill.position), refill.more);
                let Refill { socket, room, .. } = refill;
                format!(
                    "refill {socket} {room} after {after}: {events:?} to {position}, more: {more}"
                )
            }
            Kind::Acknowledge(ack) => {
                format!("ack {}/{} {}", ack.socket, ack.ack_id, self.args(&ack.args))
            }
            Kind::Handled(handled) => {
                format!("handled {}", char::from(handled.event_id[handled.event_id.len() - 1]))
            }
            Kind::Disconnect(disconnect) => format!("disconnect {:?}", disconnect.sockets),
            Kind::Close(close) => format!("close {:?}", close.sockets),
        }
    }

    fn position(&mut self, position: &str) -> String {
        assert_eq!(position.len(), POSITION_BYTES, "{position}");
        let next = self.positions.len();
        format!("P{}", self.positions.entry(position.to_owned()).or_insert(next))
    }

    fn args(&mut self, args: &[u8]) -> String {
        let text = str::from_utf8(args).unwrap();
        serde_json::from_str::<Vec<serde_json::Value>>(text).unwrap();

        let mut line = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("\"at\":") {
            line += before;
            line += "\"at\":T";
            rest = after.trim_start_matches(|c: char| c.is_ascii_digit());
        }
        line += rest;

        let mut named = String::new();
        let mut pieces = line.split('"');
        named += pieces.next().unwrap();
        for piece in pieces {
            named.push('"');
            let is_position = piece.len() == POSITION_BYTES
                && piece.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
            named += &if is_position { self.position(piece) } else { piece.to_owned() };
        }
        named
    }
}

fn audience(audience: &Audience) -> String {
    let Audience {
        namespace,
        everyone,
        rooms,
        users,
        sockets,
        except_rooms,
        except_sockets,
        except_users,
        tenant,
        users_issuer,
    } = audience;
    assert_eq!(*except_rooms, [""; 0]);
    let mut parts = Vec::new();
    if *everyone {
        parts.push("everyone".to_owned());
    }
    parts.extend(rooms.iter().map(|room| format!("room {room}")));
    parts.extend(users.iter().map(|user| match &**users_issuer {
        "" => format!("user {user}"),
        issuer => format!("user {user} of {issuer}"),
    }));
    if !sockets.is_empty() {
        let mut sockets = sockets.clone();
        sockets.sort_unstable();
        parts.push(format!("{sockets:?}"));
    }
    let mut line = parts.join(" + ");
    if !except_sockets.is_empty() {
        line += &format!(" but {except_sockets:?}");
    }
    if !except_users.is_empty() {
        line += &format!(" but users {except_users:?}");
    }
    if !tenant.is_empty() {
        line += &format!(" of tenant {tenant}");
    }
    if namespace != "/chat" {
        line += &format!(" in {namespace}");
    }
    line
}
