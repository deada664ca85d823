//! A file system that turns read-only under the service: it says so, serves what it has, and loses nothing.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use proto::chat::v1::{
    HistoryRequest, PublishRequest, chat_service_client::ChatServiceClient, publish_request::Target,
};
use tempfile::TempDir;
use tonic::{Code, Status, transport::Channel};

use crate::{
    edge::{Edge, within_deadline},
    process::{Process, chat_service, get},
};

/// So many rooms are written to in turn, so that none has more than it keeps before the service begins a new file.
const ROOMS: usize = 16;

const TEXT_BYTES: usize = 100_000;

/// More than the service writes into one file.
const MESSAGES_MAX: usize = 500;

/// Mounts of its own, as any user may have them: nobody else sees what is done to them.
///
/// The kernel has no file system turn read-only while a file in it is open for writing, unless it has found a fault in it. So
/// it is a read-only view of it that is put over the directory: what is open goes on being written, and no file can be
/// made, renamed or removed.
struct Mounts {
    /// Keeps them, until its input ends.
    holder: Child,
    directory: TempDir,
}

impl Mounts {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let script = r#"mount -t tmpfs tmpfs "$0" && echo ready && exec cat"#;
        let mut holder = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
            .arg(directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare, of util-linux, is needed");
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "this needs a kernel that gives any user mounts of its own");
        Self { holder, directory }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The command that runs another one where the mounts are seen.
    fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        let target = format!("--target={}", self.holder.id());
        command.args([&*target, "--user", "--mount", "--preserve-credentials"]);
        command
    }

    fn run(&self, script: &str) {
        let status = self.enter().args(["sh", "-c", script]).arg(self.path()).status().unwrap();
        assert!(status.success(), "{script}");
    }

    fn turn_read_only(&self) {
        self.run(r#"mount --bind "$0" "$0" && mount -o remount,bind,ro "$0""#);
    }

    fn turn_writable(&self) {
        self.run(r#"umount "$0""#);
    }

    fn start(&self) -> Process {
        let data = format!("--chat-data-dir={}", self.path().display());
        let binary = chat_service(&[&data, "--chat-ops-listen=127.0.0.1:0"]);
        let mut command = self.enter();
        command
            .arg(binary.get_program())
            .args(binary.get_args())
            .env_clear()
            .envs(binary.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        Process::spawn(&mut command)
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        self.holder.kill().ok();
        self.holder.wait().ok();
    }
}

fn room(number: usize) -> String {
    format!("room-{}", number % ROOMS)
}

async fn publish(chat: &mut ChatServiceClient<Channel>, number: usize) -> Result<(), Status> {
    let text = "x".repeat(TEXT_BYTES);
    let request = PublishRequest {
        target: Some(Target::Room(room(number))),
        data: format!(r#"{{"number":{number},"text":"{text}"}}"#),
        ..Default::default()
    };
    within_deadline(chat.publish(request)).await.map(drop)
}

/// The numbers in a room's log.
async fn numbers(chat: &mut ChatServiceClient<Channel>, room: &str) -> Vec<usize> {
    let mut numbers = Vec::new();
    let mut before = String::new();
    loop {
        let request = HistoryRequest { room: room.to_owned(), before, ..Default::default() };
        let page = within_deadline(chat.history(request)).await.unwrap().into_inner();
        let number = |data: &str| {
            let data: serde_json::Value = serde_json::from_str(data).unwrap();
            usize::try_from(data["number"].as_u64().unwrap()).unwrap()
        };
        numbers.splice(..0, page.entries.iter().map(|entry| number(&entry.data)));
        if !page.more {
            return numbers;
        }
        before = page.entries[0].position.clone();
    }
}

/// All that was acknowledged is there, once and in order.
async fn has_all(chat: &mut ChatServiceClient<Channel>, acknowledged: usize) {
    for first in 0..ROOMS {
        let expected: Vec<usize> = (first..acknowledged).step_by(ROOMS).collect();
        assert_eq!(numbers(chat, &room(first)).await, expected);
    }
}

#[tokio::test]
async fn publishing_ends_until_a_restart_and_all_else_goes_on() {
    let mounts = Mounts::new();
    let mut process = mounts.start();
    let url = format!("http://{}", process.address("grpc"));
    let operators = process.address("ops");
    let channel = Channel::from_shared(url).unwrap().connect().await.unwrap();
    let mut chat = ChatServiceClient::new(channel.clone());
    let mut edge = Edge::new("one");
    edge.attach_over(channel).await;
    edge.open(1, "ann").await;
    edge.join(1, "lobby").await;

    mounts.turn_read_only();
    let mut acknowledged = 0;
    let refusal = loop {
        assert!(acknowledged < MESSAGES_MAX, "it goes on");
        match publish(&mut chat, acknowledged).await {
            Ok(()) => acknowledged += 1,
            Err(refusal) => break refusal,
        }
    };

    assert_eq!(refusal.code(), Code::Unavailable, "{refusal}");
    assert_eq!(publish(&mut chat, acknowledged).await.unwrap_err().code(), Code::Unavailable);
    has_all(&mut chat, acknowledged).await;
    assert!(get(&operators, "/metrics").await.contains("sockeye_chat_store_failed 1"));
    edge.ask(1, 1, "message", r#"[{"room":"lobby","text":"hi"}]"#).await;
    let refused = edge.next().await;
    assert!(refused.starts_with(r#"ack 1/1 [{"error":{"code":"unavailable","#), "{refused}");
    edge.ask(1, 2, "history", r#"[{"room":"lobby"}]"#).await;
    edge.expect(&[r#"ack 1/2 [{"messages":[],"more":false}]"#]).await;
    edge.open(2, "bob").await;
    edge.ask(2, 3, "join", r#"["lobby"]"#).await;
    while !edge.next().await.starts_with(r#"ack 2/3 [{"room":"lobby""#) {}

    edge.cut();
    drop(chat);
    let (code, log) = tokio::task::spawn_blocking(|| process.terminate()).await.unwrap();
    assert_eq!(code, Some(0), "{log}");
    let said: Vec<_> = log.lines().filter(|line| line.contains(r#""level":"ERROR""#)).collect();
    assert!(said.len() == 1 && said[0].contains("takes nothing any more"), "{said:?}");
    assert!(said[0].contains("Read-only file system"), "{said:?}");

    mounts.turn_writable();
    let mut process = mounts.start();
    let url = format!("http://{}", process.address("grpc"));
    let mut chat = ChatServiceClient::connect(url).await.unwrap();
    has_all(&mut chat, acknowledged).await;
    publish(&mut chat, acknowledged).await.unwrap();
}
