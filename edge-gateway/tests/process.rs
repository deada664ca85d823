//! The binary itself: settings, exit codes, signals.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    io::{BufRead, BufReader},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Output, Stdio},
};

fn edge(flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_edge-gateway"));
    command
        .env_clear()
        .args(["--edge-listen=127.0.0.1:0", "--edge-ops-listen=127.0.0.1:0", "--log-format=json"])
        .args(flags)
        .stdin(Stdio::null());
    command
}

fn run(flags: &[&str]) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = edge(flags).output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

/// Starts the edge and waits until it accepts clients; returns their address and what else it logs.
fn start() -> (Child, String, impl Iterator<Item = String>) {
    let mut child = edge(&[]).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let listening = lines.find(|line| line.contains("\"listener\":\"clients\"")).unwrap();
    let line: serde_json::Value = serde_json::from_str(&listening).unwrap();
    let address = line["address"].as_str().unwrap().to_owned();
    (child, address, lines)
}

fn signal(child: &Child, name: &str) {
    let killed = Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
}

#[test]
fn wrong_settings_end_the_process_with_the_code_that_says_so() {
    let cases = [
        (&["--no-such-flag"][..], 64, "--no-such-flag"),
        (&["--edge-route=chat"], 64, "a route is NAMESPACE=URL"),
        (&["--edge-ws-namespace=/other"], 78, "EDGE_WS_NAMESPACE is /other"),
        (&["--edge-peer=1=edge-1:3002"], 64, "the URL needs http://, a host and a port"),
        (
            &["--edge-peer=1=http://a:1"],
            78,
            "EDGE_PEER_LISTEN, where they would reach this one, is not set",
        ),
        (&["--edge-trusted-proxy=10.0.0.0/33"], 64, "a network is an address"),
        (&["--edge-proxy-protocol"], 78, "EDGE_TRUSTED_PROXIES, who may connect then, is not set"),
        (&["--edge-client-bundle=src"], 78, "EDGE_CLIENT_BUNDLE needs src/socket.io.js"),
        (&["--edge-ping-interval=0s"], 78, "EDGE_PING_INTERVAL must not be zero"),
    ];
    for (flags, code, text) in cases {
        let (found, stderr) = run(flags);
        assert_eq!(found, Some(code), "{flags:?}: {stderr}");
        assert!(stderr.contains(text), "{flags:?}: {stderr}");
    }

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_edge-gateway"));
    let output = command.env_clear().arg(format!("--edge-listen={address}")).output().unwrap();
    assert_eq!(output.status.code(), Some(69));
    assert!(String::from_utf8(output.stderr).unwrap().contains("cannot listen on"));
}

#[test]
fn every_setting_is_a_flag_and_a_variable() {
    let help = edge(&["--help"]).output().unwrap();

    assert_eq!(help.status.code(), Some(0));
    let help = String::from_utf8(help.stdout).unwrap();
    for setting in ["LISTEN", "SHARDS", "ROUTES", "PAYLOAD_BYTES_MAX", "DRAIN_TIMEOUT"] {
        assert!(help.contains(&format!("[env: EDGE_{setting}=")), "{setting}: {help}");
    }
}

#[test]
fn sigterm_ends_it_in_good_order() {
    for name in ["-TERM", "-INT"] {
        let (mut child, address, lines) = start();
        TcpStream::connect(address).unwrap();

        signal(&child, name);

        assert_eq!(child.wait().unwrap().code(), Some(0), "{name}");
        assert!(lines.into_iter().all(|line| !line.contains("panicked")), "{name}");
    }
}
