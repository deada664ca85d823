//! Clients that come and go: connected, authenticated, in their room, out of it, and gone.

use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use bench_kit::times::Times;

use super::login;
use crate::{
    client::{ClientError, Login, News, Swarm},
    meter::{Meter, Values, tell_times},
    server::Server,
};

const STALL: Duration = Duration::from_secs(30);
const LEAVE_ID: u64 = 1;
/// Clients that come in at the same time.
const AT_ONCE: usize = 16;

/// Lets so many clients come and go, a few at a time, each in a room of its own.
pub(crate) fn come_and_go(server: &Server, clients: usize) -> anyhow::Result<Values> {
    let mut coming =
        Coming { swarm: Swarm::new(server.target())?, next: 0, joining: Times::default() };
    coming.run(clients.div_ceil(10))?;
    coming.joining = Times::default();
    let meter = Meter::start(server)?;
    coming.run(clients)?;
    let mut values = meter.stop(server, clients as f64)?;
    tell_times(&mut coming.joining, &mut values);
    Ok(values)
}

struct Coming {
    swarm: Swarm,
    /// Number of the next client.
    next: usize,
    /// How long it took from TCP's first packet into the room.
    joining: Times,
}

impl Coming {
    fn run(&mut self, clients: usize) -> anyhow::Result<()> {
        let end = self.next + clients;
        let (mut joined, mut left) = (Vec::new(), Vec::new());
        let mut dialled_at: Vec<Option<Instant>> = vec![None; AT_ONCE];
        let mut rooms = vec![0; AT_ONCE];
        let mut heard_at = Instant::now();
        for _ in 0..AT_ONCE.min(clients) {
            self.dial(&mut dialled_at, &mut rooms)?;
        }
        while self.swarm.len() > 0 {
            let (joining, mut wrong) = (&mut self.joining, None);
            self.swarm.turn(Duration::from_secs(1), |place, news, now| match news {
                News::Joined => {
                    joining.add(dialled_at[place].map_or(Duration::ZERO, |at| now - at));
                    joined.push(place);
                }
                News::Answer { id: LEAVE_ID, .. } => left.push(place),
                other @ (News::Answer { .. } | News::Gone) => wrong = Some(format!("{other:?}")),
                News::Event { .. } | News::Pong => {}
            })?;
            if let Some(wrong) = wrong {
                bail!("a client that came or went had {wrong}");
            }
            if !joined.is_empty() || !left.is_empty() {
                heard_at = Instant::now();
            }
            for place in joined.drain(..) {
                let data = format!(r#"{{"room":"room-{}"}}"#, rooms[place]);
                let frame = self.swarm.dialect().event("leave", &data, Some(LEAVE_ID));
                self.swarm.send(place, &frame)?;
            }
            for place in left.drain(..) {
                self.swarm.close(place);
                if self.next < end {
                    self.dial(&mut dialled_at, &mut rooms)?;
                }
            }
            ensure!(heard_at.elapsed() < STALL, "nobody gets in or out any more");
        }
        Ok(())
    }

    fn dial(
        &mut self,
        dialled_at: &mut [Option<Instant>],
        rooms: &mut [usize],
    ) -> anyhow::Result<()> {
        let login = login(self.next, 1)?;
        let now = Instant::now();
        let place = self.swarm.dial(&login)?;
        dialled_at[place] = Some(now);
        rooms[place] = self.next;
        self.next += 1;
        Ok(())
    }
}

/// Ends the server that all are connected to, starts it again, and lets all come back at once.
pub(crate) fn storm(
    server: &mut Server,
    clients: usize,
    settle: Duration,
) -> anyhow::Result<Values> {
    const MEMBERS: usize = 10;
    let mut swarm = Swarm::new(server.target())?;
    swarm.join_all(super::logins(0..clients, MEMBERS)?, super::JOIN_TIMEOUT)?;
    swarm.settle(settle)?;
    let logins: Vec<_> = super::logins(0..clients, MEMBERS)?.collect();
    server.restart_front()?;
    let stall = Instant::now() + STALL;
    while swarm.len() > 0 {
        swarm.turn(Duration::from_millis(100), |_, _, _| {})?;
        ensure!(Instant::now() < stall, "connections to a server that was killed are still there");
    }
    let meter = Meter::start(server)?;
    let mut back = come_back(&mut swarm, &logins)?;
    let mut values = meter.stop(server, clients as f64)?;
    tell_times(&mut back, &mut values);
    Ok(values)
}

/// Connects all without waiting for one another. Returns how long each took.
fn come_back(swarm: &mut Swarm, logins: &[Login]) -> Result<Times, ClientError> {
    let start = Instant::now();
    let mut times = Times::default();
    for login in logins {
        swarm.dial(login)?;
    }
    while times.len() < logins.len() {
        let mut is_lost = false;
        swarm.turn(Duration::from_secs(1), |_, news, now| match news {
            News::Joined => times.add(now - start),
            News::Gone => is_lost = true,
            News::Event { .. } | News::Answer { .. } | News::Pong => {}
        })?;
        if is_lost {
            return Err(ClientError::Gone);
        }
        if start.elapsed() > super::JOIN_TIMEOUT {
            return Err(ClientError::Late("coming back", format!("{} have", times.len())));
        }
    }
    Ok(times)
}
