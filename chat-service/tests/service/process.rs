//! The binary: settings, exit codes, signals, and what its log must not say.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
};

use proto::{
    chat::v1::{PublishRequest, chat_service_client::ChatServiceClient, publish_request::Target},
    edge::v1::{EdgeFrame, edge_link_client::EdgeLinkClient},
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    edge::{Edge, event, opened, within_deadline},
    running::DEADLINE,
};

pub(crate) fn chat_service(flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chat-service"));
    command
        .args(flags)
        .env_clear()
        .envs([("LOG_FORMAT", "json"), ("CHAT_LISTEN", "127.0.0.1:0"), ("CHAT_OPEN_ROOMS", "true")])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs the binary to its end, which it must find by itself; tells its code and what it wrote.
pub(crate) fn run(flags: &[&str]) -> (i32, String) {
    let output = chat_service(flags).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

/// A running process, its log read along. It is killed when dropped.
pub(crate) struct Process {
    child: Child,
    log: mpsc::Receiver<String>,
    seen: Vec<String>,
}

impl Process {
    fn start(flags: &[&str]) -> Self {
        Self::spawn(&mut chat_service(flags))
    }

    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let (sender, log) = mpsc::channel();
        thread::spawn(move || {
            let lines = BufReader::new(stderr).lines().map_while(Result::ok);
            lines.take_while(|line| sender.send(line.clone()).is_ok()).for_each(drop);
        });
        Self { child, log, seen: Vec::new() }
    }

    /// Where this listener of it is, as the log says.
    pub(crate) fn address(&mut self, listener: &str) -> String {
        loop {
            let line = self.log.recv_timeout(DEADLINE).expect("it listens");
            self.seen.push(line.clone());
            let entry: Value = serde_json::from_str(&line).unwrap();
            if entry["message"] == "listening" && entry["listener"] == listener {
                assert_eq!(entry["service"], "chat-service");
                return entry["address"].as_str().unwrap().to_owned();
            }
        }
    }

    /// Ends it as a crash does.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to end; tells its code and its whole log.
    pub(crate) fn terminate(mut self) -> (Option<i32>, String) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        while let Ok(line) = self.log.recv_timeout(DEADLINE) {
            self.seen.push(line);
        }
        (self.child.wait().unwrap().code(), self.seen.join("\n"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails where the process has ended, which is all the same.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn a_wrong_command_line_exits_with_64() {
    for flags in [["--no-such-flag"], ["--chat-workers=65"], ["--chat-listen=nowhere"]] {
        let (code, text) = run(&flags);
        assert_eq!(code, 64, "{text}");
    }
}

#[test]
fn help_names_every_variable() {
    let (code, text) = run(&["--help"]);

    assert_eq!(code, 0);
    for variable in [
        "CHAT_LISTEN",
        "CHAT_OPS_LISTEN",
        "CHAT_WORKERS",
        "CHAT_NAMESPACES_FILE",
        "CHAT_DATA_DIR",
        "CHAT_DATA_BYTES_MAX",
        "CHAT_DURABILITY",
        "CHAT_HISTORY_COUNT_MAX",
        "CHAT_HISTORY_AGE_MAX",
        "CHAT_LINK_GRACE",
        "CHAT_EXPOSE_TRACE_IDS",
        "LOG_FILTER",
    ] {
        assert!(text.contains(&format!("[env: {variable}")), "{variable}");
    }
}

#[test]
fn an_unusable_file_of_namespaces_exits_with_78() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "[namespace.'/chat']\nhistory = 3").unwrap();
    let path = file.path().to_str().unwrap();

    for (path, reason) in [(path, ":2: unknown field `history`"), ("/no/such/file", "cannot read")]
    {
        let (code, text) = run(&["--chat-namespaces-file", path]);
        assert_eq!(code, 78, "{text}");
        assert!(text.contains(path) && text.contains(reason), "{text}");
    }
}

#[test]
fn all_that_is_wrong_with_declared_events_is_told_by_check() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let check = || run(&["--check", "--chat-namespaces-file", path]);

    fs::write(file.path(), "[namespace.'/chat'.event.move]\naudience = 'room'\nschema = {}")
        .unwrap();
    assert_eq!(check(), (0, String::new()));

    let wrong = "[namespace.'/chat'.event.move]\naudience = 'all'\nschema = {}\npublik = []";
    fs::write(file.path(), format!("{wrong}\n[namespace.x]")).unwrap();
    let (code, text) = check();
    assert_eq!(code, 78, "{text}");
    let faults: Vec<_> = text.lines().collect();
    assert_eq!(faults.len(), 4, "{text}");
    for (fault, line) in faults.iter().zip([1, 2, 4, 5]) {
        assert!(fault.starts_with(&format!("error: {path}:{line}: ")), "{text}");
    }
}

#[test]
fn an_address_that_is_taken_exits_with_69() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();

    for flag in ["--chat-listen", "--chat-ops-listen"] {
        let (code, text) = run(&[flag, &address]);
        assert_eq!(code, 69, "{text}");
        assert!(text.contains(&format!("cannot listen on {address}")), "{text}");
    }
}

#[tokio::test]
async fn sigterm_ends_it_with_0_and_nothing_of_its_clients_is_in_the_log() {
    let mut process = Process::start(&["--log-filter=trace,h2=debug", "--chat-link-grace=10ms"]);
    let url = format!("http://{}", process.address("grpc"));
    let publication = PublishRequest {
        target: Some(Target::User("canary-subject".to_owned())),
        data: r#"{"a":"canary-data"}"#.to_owned(),
        ..Default::default()
    };
    let mut chat = ChatServiceClient::connect(url.clone()).await.unwrap();
    chat.publish(publication).await.unwrap();
    let hello = EdgeFrame { hello: Some(Edge::new("link-1").hello()), ..Default::default() };
    let message = r#"[{"room":"canary-room","text":"canary-text"}]"#;
    let events = vec![
        opened(1, "/chat", "canary-user", None),
        event(1, Some(1), "join", r#"["canary-room"]"#),
        event(1, Some(2), "message", message),
        event(1, Some(3), "canary-event", r#"["canary-args"]"#),
        event(1, Some(4), "message", r#"["canary-garbage"]"#),
    ];
    let frames = tokio_stream::iter([hello, EdgeFrame { seq: 1, events, ..Default::default() }]);
    let mut client = EdgeLinkClient::connect(url).await.unwrap();
    let mut stream = client.attach(frames).await.unwrap().into_inner();
    while let Ok(Some(frame)) = within_deadline(stream.message()).await {
        if frame.ack == 1 {
            break;
        }
    }
    drop(stream);

    // The clients must be able to answer while the process ends.
    let ended = tokio::task::spawn_blocking(|| process.terminate());
    let (code, log) = ended.await.unwrap();

    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("edge link attached"), "{log}");
    assert!(!log.contains("canary"), "{log}");
}

#[tokio::test]
async fn operators_are_answered_where_they_asked_for_it() {
    let mut process = Process::start(&["--chat-ops-listen=127.0.0.1:0"]);
    let address = process.address("ops");

    let become_ready =
        async { while !get(&address, "/readyz").await.starts_with("HTTP/1.1 200 OK") {} };

    within_deadline(become_ready).await;
    assert!(get(&address, "/metrics").await.contains("sockeye_chat_links 0"));
}

pub(crate) async fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    response
}
