//! Gives each process a loopback host of its own.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    process,
    sync::atomic::{AtomicU8, Ordering},
};

const HOSTS_MAX: u8 = 250;

/// Returns a loopback address that no other process of this test run listens on.
///
/// A process that is started again must find its port free, and port numbers are shared with outgoing connections: those
/// have the source 127.0.0.1, so a listener elsewhere in 127.0.0.0/8 never meets them.
pub(crate) fn own_host() -> IpAddr {
    static GIVEN_OUT: AtomicU8 = AtomicU8::new(0);

    if !cfg!(target_os = "linux") {
        return IpAddr::V4(Ipv4Addr::LOCALHOST);
    }
    let host = GIVEN_OUT.fetch_add(1, Ordering::Relaxed) % HOSTS_MAX + 1;
    let [_, _, high, low] = process::id().to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(127, high | 64, low, host))
}

/// Returns an address for a process that others must know before it is started.
pub(crate) fn own_address() -> SocketAddr {
    let listener = TcpListener::bind((own_host(), 0)).expect("a loopback port is free");
    listener.local_addr().unwrap()
}
