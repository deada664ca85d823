//! What the kernel allows: a process that sends each byte that arrives to all who are connected, and does nothing else.

use std::{
    env,
    io::{self, Read, Write},
    net::SocketAddr,
    process::Command,
};

use mio::{
    Events, Interest, Poll, Token,
    net::{TcpListener, TcpStream},
};

use super::{Start, Started, listening};
use crate::process::{Process, Program};

const LISTENER: Token = Token(usize::MAX);
const READ_BYTES: usize = 64 * 1024;
const LISTEN: &str = "BENCH_LISTEN";

/// Starts this program once more, as that process.
pub(super) fn start(start: &Start<'_>) -> anyhow::Result<Started> {
    let mut command = Command::new(env::current_exe()?);
    command.arg("relay");
    let program = Program { name: "server", command, listen: LISTEN, find_address: listening };
    Ok(Started { processes: vec![Process::start(program, start.cores)?], files: Vec::new() })
}

/// Is that process.
pub(crate) fn relay() -> anyhow::Result<()> {
    let address: SocketAddr = env::var(LISTEN)?.parse()?;
    let mut listener = TcpListener::bind(address)?;
    writeln!(io::stdout(), "listening {}", listener.local_addr()?)?;
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(1024);
    let mut members: Vec<TcpStream> = Vec::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                while let Some((mut stream, _)) = ready(listener.accept())? {
                    stream.set_nodelay(true)?;
                    let token = Token(members.len());
                    poll.registry().register(&mut stream, token, Interest::READABLE)?;
                    members.push(stream);
                }
                continue;
            }
            let Some(member) = members.get_mut(event.token().0) else { continue };
            let Some(count) = ready(member.read(&mut buffer))? else { continue };
            if count == 0 {
                return Ok(());
            }
            for member in &mut members {
                // A client that does not read shows as missing deliveries.
                let _is_full = ready(member.write(&buffer[..count]))?;
            }
        }
    }
}

fn ready<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}
