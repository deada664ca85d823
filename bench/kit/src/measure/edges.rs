//! More connections than one process may have: several edges, with a process of clients for each.

use std::{
    env,
    io::{self, BufRead, BufReader, Read, Write},
    net::SocketAddr,
    process::{Child, ChildStdout, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context, bail};

use super::{idle, logins};
use crate::{
    client::{Dialect, Swarm, Target},
    meter::{Meter, Values},
    server::Server,
};

const MEMBERS: usize = 10;
/// How long the clients of one edge may take to get in.
const JOIN_TIMEOUT: Duration = Duration::from_secs(1800);
const JOINED: &str = "joined";
const HELD: &str = "held";

/// Clients that are held by a process of their own.
#[derive(Debug, clap::Args)]
pub(crate) struct Hold {
    address: SocketAddr,
    /// Number of the first of them.
    first: usize,
    count: usize,
}

/// Memory and time per connection, with so many clients at each edge.
pub(crate) fn hold(
    server: &Server,
    clients: usize,
    time: Duration,
    rest: Duration,
) -> anyhow::Result<Values> {
    let before = server.memory()?;
    let mut holders = Vec::new();
    for (number, address) in server.edges().enumerate() {
        let mut holder = Holder::start(&Hold { address, first: number * clients, count: clients })?;
        // One edge after the other: how few cores are shared among a hundred processes is not what is measured.
        holder.expect(JOINED)?;
        holders.push(holder);
    }
    thread::sleep(rest);
    let connections = clients * holders.len();
    let mut values = idle::per_connection(&before, &server.memory()?, connections);
    let meter = Meter::start(server)?;
    thread::sleep(time);
    values.extend(meter.stop(server, connections as f64 * time.as_secs_f64())?);
    for mut holder in holders {
        holder.let_go();
        holder.expect(HELD)?;
    }
    Ok(values)
}

#[derive(Debug)]
struct Holder {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Holder {
    fn start(hold: &Hold) -> anyhow::Result<Self> {
        let mut child = Command::new(env::current_exe()?)
            .arg("hold")
            .args([hold.address.to_string(), hold.first.to_string(), hold.count.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let said = BufReader::new(child.stdout.take().context("no output")?);
        Ok(Self { child, said })
    }

    fn expect(&mut self, expected: &str) -> anyhow::Result<()> {
        let mut line = String::new();
        self.said.read_line(&mut line)?;
        if line.trim_end() != expected {
            bail!("clients have not {expected}: their process has ended");
        }
        Ok(())
    }

    /// Closes its input, which is how it is asked to say whether all are still there.
    fn let_go(&mut self) {
        drop(self.child.stdin.take());
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // It has ended already where all is well.
        if self.child.kill().is_ok() {
            let _ended = self.child.wait();
        }
    }
}

impl Hold {
    /// Is a process of clients.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let mut swarm = Swarm::new(Target { address: self.address, dialect: Dialect::SocketIo })?;
        let clients = self.first..self.first + self.count;
        swarm.join_all(logins(clients, MEMBERS)?, JOIN_TIMEOUT)?;
        writeln!(io::stdout(), "{JOINED}")?;
        let (sender, is_over) = mpsc::sync_channel(1);
        thread::spawn(move || {
            let _read = io::stdin().read_to_end(&mut Vec::new());
            sender.send(())
        });
        while is_over.try_recv() == Err(mpsc::TryRecvError::Empty) {
            swarm.settle(Duration::from_millis(100))?;
        }
        Ok(writeln!(io::stdout(), "{HELD}")?)
    }
}
