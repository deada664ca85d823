//! The binary itself: settings, exit codes, signals.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
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
fn start(flags: &[&str]) -> (Child, String, impl Iterator<Item = String> + use<>) {
    let mut child = edge(flags).stderr(Stdio::piped()).spawn().unwrap();
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
        (
            &["--edge-peer=1=edge-1:3002"],
            64,
            "the URL needs https:// or http://, a host and a port",
        ),
        (
            &["--edge-peer=1=http://a:1"],
            78,
            "EDGE_PEER_LISTEN, where they would reach this one, is not set",
        ),
        (&["--edge-trusted-proxy=10.0.0.0/33"], 64, "a network is an address"),
        (&["--edge-proxy-protocol"], 78, "EDGE_TRUSTED_PROXIES, who may connect then, is not set"),
        (
            &["--edge-session-cookie=none", "--edge-cors-origin=*"],
            78,
            "EDGE_SESSION_COOKIE needs origins by name",
        ),
        (&["--edge-client-bundle=src"], 78, "EDGE_CLIENT_BUNDLE needs src/socket.io.js"),
        (&["--edge-tls-cert-file=Cargo.toml"], 78, "EDGE_TLS_KEY_FILE go together"),
        (
            &["--edge-tls-cert-file=none", "--edge-tls-key-file=none"],
            78,
            "EDGE_TLS_CERT_FILE names none, which cannot be read",
        ),
        (
            &["--edge-tls-cert-file=Cargo.toml", "--edge-tls-key-file=Cargo.toml"],
            78,
            "EDGE_TLS_CERT_FILE names a file with no certificates",
        ),
        (&["--edge-tls-handshake-timeout=0s"], 78, "EDGE_TLS_HANDSHAKE_TIMEOUT must not be zero"),
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
fn plaintext_where_others_reach_it_needs_to_be_allowed() {
    let edge = |flags: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_edge-gateway"));
        let listen = ["--edge-listen=0.0.0.0:0", "--edge-ops-listen=127.0.0.1:0"];
        command.env_clear().args(listen).args(flags).stdin(Stdio::null()).stderr(Stdio::piped());
        command
    };

    let refused = edge(&[]).output().unwrap();
    assert_eq!(refused.status.code(), Some(78));
    let stderr = String::from_utf8(refused.stderr).unwrap();
    let told = "EDGE_LISTEN is 0.0.0.0:0, which others reach, and there is no TLS";
    assert!(stderr.contains(told) && stderr.contains("EDGE_ALLOW_PLAINTEXT=true"), "{stderr}");

    let mut allowed = edge(&["--edge-allow-plaintext"]).spawn().unwrap();
    let mut lines = BufReader::new(allowed.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("listening")));
    signal(&allowed, "-TERM");
    assert_eq!(allowed.wait().unwrap().code(), Some(0));
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
        let (mut child, address, lines) = start(&[]);
        TcpStream::connect(address).unwrap();

        signal(&child, name);

        assert_eq!(child.wait().unwrap().code(), Some(0), "{name}");
        assert!(lines.into_iter().all(|line| !line.contains("panicked")), "{name}");
    }
}

/// Writes a certificate for nobody in particular, and its key.
fn write_certificate(folder: &Path) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let pem = |tag, der: &[u8]| pem::encode(&pem::Pem::new(tag, der));
    fs::write(folder.join("certificate.pem"), pem("CERTIFICATE", made.cert.der())).unwrap();
    let key = pem("PRIVATE KEY", &made.signing_key.serialize_der());
    fs::write(folder.join("key.pem"), key).unwrap();
}

#[test]
fn whoever_speaks_no_tls_is_in_the_audit_log() {
    let folder = tempfile::tempdir().unwrap();
    write_certificate(folder.path());
    let file = |name: &str| folder.path().join(name).display().to_string();
    let (mut child, address, _lines) = start(&[
        &format!("--edge-tls-cert-file={}", file("certificate.pem")),
        &format!("--edge-tls-key-file={}", file("key.pem")),
        "--edge-tls-handshake-timeout=200ms",
        &format!("--audit-log={}", file("audit.log")),
    ]);

    // One says what it must not, one says nothing, and one goes away.
    let mut connections = [(); 3].map(|()| TcpStream::connect(&address).unwrap());
    connections[0].write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    connections[2].shutdown(std::net::Shutdown::Write).unwrap();
    for connection in &mut connections {
        // What was not read has the kernel reset the connection.
        connection.read_to_end(&mut Vec::new()).ok();
    }

    let deadline = Instant::now() + Duration::from_secs(60);
    let events = loop {
        let events = fs::read_to_string(file("audit.log")).unwrap();
        if events.lines().count() >= 2 || Instant::now() > deadline {
            break events;
        }
        thread::yield_now();
    };
    signal(&child, "-TERM");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    for reason in ["failed", "timeout"] {
        let is_told = |line: &str| {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            (&event["event"], &event["decision"]) == (&"tls".into(), &"denied".into())
                && (&event["reason"], &event["address"]) == (&reason.into(), &"127.0.0.1".into())
        };
        assert!(events.lines().any(is_told), "{reason}: {events}");
    }
    assert_eq!(events.lines().count(), 2, "{events}");
}
