//! Begins the events of clients, those that applications declare too, and sends the ones that go to no room.

use std::{collections::VecDeque, time::Duration};

use service_kit::trace::TraceParent;
use tokio::time::Instant;

use super::{
    direct::Target,
    instructions::Emit,
    life::Attached,
    links::{LinkSettings, Links},
    planned::Planned,
};
use crate::{
    audit,
    client_error::ClientError,
    client_event::ClientEvent,
    client_view,
    declared_events::{Allowances, Audience, DeclaredEvent, Rate},
    request::{Action, Asked, Direct, Request},
    socket::Socket,
    worker::Command,
};

impl Attached {
    /// Begins what a client asks for with an event.
    pub(super) fn begin(
        &mut self,
        mut event: ClientEvent,
        (name, args): (&str, &[u8]),
        (links, now): (&Links, Instant),
        planned: &mut VecDeque<Planned>,
    ) {
        let settings = links.settings();
        match self.read((name, args), event.trace(), settings) {
            Ok(Asked::InRoom(request)) => {
                let worker = settings.workers.of(&request.room);
                if let Action::Join { .. } = request.action {
                    self.workers.insert(worker);
                }
                let command = Command::Client(event, Box::new(request));
                planned.push_back(Planned { worker, command });
            }
            Ok(Asked::Direct(direct)) => send((links, now), event, &direct),
            Err(_) if event.is_expired(now) => event.expire(&settings.metrics),
            Err(error) => event.refuse(&settings.metrics, &error),
        }
    }

    /// Reads what a client asks for with an event, and refuses what its user may not do.
    fn read(
        &mut self,
        (name, args): (&str, &[u8]),
        trace: Option<TraceParent>,
        settings: &LinkSettings,
    ) -> Result<Asked, ClientError> {
        let asked = self.parse((name, args), settings.joins)?;
        if let Some(deed) = asked.forbidden(&self.socket) {
            settings.metrics.count_denied(deed.action());
            audit::denied(&self.socket.user, deed.action(), trace);
            return Err(ClientError::FORBIDDEN);
        }
        Ok(asked)
    }

    /// An event that is declared counts against its rate before it is looked at, and a join against that of joins.
    fn parse(&mut self, (name, args): (&str, &[u8]), joins: Rate) -> Result<Asked, ClientError> {
        let events = self.socket.events.as_ref();
        let Some(event) = events.and_then(|events| events.get(name)) else {
            let request = Request::parse(&self.socket, name, args)?;
            if let Action::Join { .. } = request.action {
                self.take_join(joins).map_err(ClientError::rate_limited)?;
            }
            return Ok(Asked::InRoom(request));
        };
        take_allowance(&mut self.allowances, event)?;
        Asked::parse_declared(&self.socket, event, args)
    }

    /// The first refusal of a socket is noted: clients decide how many there are.
    fn take_join(&mut self, joins: Rate) -> Result<(), Duration> {
        let taken = self.joins.take(joins, Instant::now());
        if taken.is_err() && !std::mem::replace(&mut self.has_joined_too_often, true) {
            audit::limited(&self.socket.user, "joins");
        }
        taken
    }
}

fn take_allowance(
    allowances: &mut Option<Box<Allowances>>,
    event: &DeclaredEvent,
) -> Result<(), ClientError> {
    let Some(rate) = event.rate else { return Ok(()) };
    let allowances = allowances.get_or_insert_default();
    allowances.take(event.number, rate, Instant::now()).map_err(ClientError::rate_limited)
}

/// Carries out what goes to sockets wherever they are.
fn send((links, now): (&Links, Instant), mut event: ClientEvent, direct: &Direct) {
    let metrics = &links.settings().metrics;
    if event.is_expired(now) {
        return event.expire(metrics);
    }
    if event.repeated_since_ms.is_some() {
        return event.refuse(metrics, &ClientError::UNCERTAIN);
    }
    let declared = &direct.event;
    let is_for_its_others = declared.audience == Audience::Sender && !declared.echoes;
    // Most users have one socket. Then there is no other one to look for.
    if !is_for_its_others || !links.is_alone(&event.socket) {
        send_over_links(links, &mut event, direct);
    }
    metrics.count_declared(declared.number);
    event.answer(metrics, client_view::done);
}

fn send_over_links(links: &Links, event: &mut ClientEvent, direct: &Direct) {
    let Direct { event: declared, data, subject } = direct;
    let ClientEvent { socket, ticket, .. } = event;
    let Socket { key, user, .. } = &**socket;
    // Clients name users of their own issuer only: of another one, the same subject is somebody else.
    let issuer = user.issuer();
    let target = match (declared.audience, subject) {
        (Audience::User, Some(subject)) => Target::User { subject, issuer },
        (Audience::Everyone, _) => Target::Everyone,
        (Audience::Sender | Audience::User | Audience::Room, _) => {
            Target::User { subject: user.subject(), issuer }
        }
    };
    let emit = || {
        let args = client_view::array(&client_view::declared(None, Some(user), &data.fields, None));
        Emit { event: &declared.name, args, volatile: true, position: None, except_users: &[] }
    };
    let except = (!declared.echoes).then_some(*key);
    let traceparent = ticket.instructions.traceparent().to_owned();
    links.send((socket.realm(), target), emit, (&traceparent, except), Some(ticket));
}
