//! History that survives the process, and what is said where it cannot.

use std::{fs, path::Path, process::Command};

use proto::chat::v1::{
    HistoryRequest, PublishRequest, PublishResponse, chat_service_client::ChatServiceClient,
    publish_request::Target,
};
use tonic::{Code, Status, transport::Channel};

use crate::{
    edge::within_deadline,
    process::{Process, chat_service, get, run},
};

/// As many bytes as a file may have where the disk is to be full, in units of the shell.
const FULL_AT_BLOCKS: usize = 64;

async fn connect(process: &mut Process) -> ChatServiceClient<Channel> {
    ChatServiceClient::connect(format!("http://{}", process.address("grpc"))).await.unwrap()
}

fn start(directory: &Path, flags: &[&str]) -> Process {
    let flags = [&["--chat-data-dir", directory.to_str().unwrap()], flags].concat();
    Process::spawn(&mut chat_service(&flags))
}

async fn publish(
    chat: &mut ChatServiceClient<Channel>,
    number: usize,
) -> Result<PublishResponse, Status> {
    let request = PublishRequest {
        target: Some(Target::Room("lobby".to_owned())),
        data: format!(r#"{{"number":{number}}}"#),
        idempotency_key: format!("key-{number}"),
        ..Default::default()
    };
    within_deadline(chat.publish(request)).await.map(tonic::Response::into_inner)
}

/// The numbers in the room's log.
async fn history(chat: &mut ChatServiceClient<Channel>) -> Vec<usize> {
    let request = HistoryRequest { room: "lobby".to_owned(), limit: 1000, ..Default::default() };
    let response = within_deadline(chat.history(request)).await.unwrap().into_inner();
    let numbers = response.entries.iter().map(|entry| {
        let data: serde_json::Value = serde_json::from_str(&entry.data).unwrap();
        usize::try_from(data["number"].as_u64().unwrap()).unwrap()
    });
    numbers.collect()
}

#[tokio::test]
async fn what_was_acknowledged_is_there_once_and_in_order_after_kill_9() {
    for durability in ["disk", "disk+fsync"] {
        let directory = tempfile::tempdir().unwrap();
        let flags = ["--chat-durability", durability];
        let mut acknowledged = 0;
        let mut position = String::new();
        for life in 1..=3 {
            let mut process = start(directory.path(), &flags);
            let mut chat = connect(&mut process).await;
            assert_eq!(history(&mut chat).await, (0..acknowledged).collect::<Vec<_>>());
            if acknowledged > 0 {
                let retry = publish(&mut chat, acknowledged - 1).await.unwrap();
                assert_eq!(retry.position, position);
            }
            while acknowledged < 20 * life {
                let response = publish(&mut chat, acknowledged).await.unwrap();
                assert_eq!(response.durability, durability);
                position = response.position;
                acknowledged += 1;
            }
            process.kill();
        }
    }
}

#[tokio::test]
async fn a_full_disk_refuses_what_is_published_and_serves_what_was() {
    let directory = tempfile::tempdir().unwrap();
    let binary = chat_service(&[]);
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(format!(r#"trap "" XFSZ; ulimit -f {FULL_AT_BLOCKS}; exec "$0" "$@""#))
        .arg(binary.get_program())
        .args(["--chat-ops-listen=127.0.0.1:0", "--chat-data-dir"])
        .arg(directory.path())
        .env_clear()
        .envs(binary.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped());
    let mut process = Process::spawn(&mut command);
    let mut chat = connect(&mut process).await;
    let operators = process.address("ops");

    let mut acknowledged = 0;
    let refusal = loop {
        match publish(&mut chat, acknowledged).await {
            Ok(_) => acknowledged += 1,
            Err(refusal) => break refusal,
        }
    };

    assert_eq!(refusal.code(), Code::Unavailable, "{refusal}");
    assert!(publish(&mut chat, acknowledged).await.is_err());
    let expected: Vec<usize> = (0..acknowledged).collect();
    assert_eq!(history(&mut chat).await, expected);
    assert!(get(&operators, "/metrics").await.contains("sockeye_chat_store_failed 1"));
    drop(chat);
    let (_, log) = tokio::task::spawn_blocking(|| process.terminate()).await.unwrap();
    assert_eq!(log.matches(r#""level":"ERROR""#).count(), 1, "{log}");
    let mut process = start(directory.path(), &[]);
    let mut chat = connect(&mut process).await;
    assert_eq!(history(&mut chat).await[..acknowledged], expected);
    publish(&mut chat, acknowledged + 1).await.unwrap();
}

#[tokio::test]
async fn a_directory_that_another_process_has_exits_with_69() {
    let directory = tempfile::tempdir().unwrap();
    let mut process = start(directory.path(), &[]);
    publish(&mut connect(&mut process).await, 0).await.unwrap();

    let (code, text) = run(&["--chat-data-dir", directory.path().to_str().unwrap()]);

    assert_eq!(code, 69, "{text}");
    assert!(text.contains("is in use by another process"), "{text}");
    process.kill();
}

#[tokio::test]
async fn a_directory_that_cannot_be_used_exits_with_78_and_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("mine.txt"), "mine").unwrap();

    let (code, text) = run(&["--chat-data-dir", directory.path().to_str().unwrap()]);

    assert_eq!(code, 78, "{text}");
    assert!(text.contains("name another or an empty one"), "{text}");

    fs::remove_file(directory.path().join("mine.txt")).unwrap();
    let mut process = start(directory.path(), &[]);
    publish(&mut connect(&mut process).await, 0).await.unwrap();
    process.kill();
    for file in fs::read_dir(directory.path()).unwrap() {
        let path = file.unwrap().path();
        if path.file_name().unwrap().to_str().unwrap().starts_with("journal-") {
            fs::remove_file(path).unwrap();
        }
    }
    let (code, text) = run(&["--chat-data-dir", directory.path().to_str().unwrap()]);
    assert_eq!(code, 78, "{text}");
    assert!(text.contains("is damaged: restore it from a copy"), "{text}");
}

/// Nobody makes files there, whatever the user: the kernel refuses.
#[test]
fn a_directory_that_takes_no_files_exits_with_69_and_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();

    for path in ["/sys/kernel", "/proc/self", file.path().to_str().unwrap()] {
        let (code, text) = run(&["--chat-data-dir", path]);

        assert_eq!(code, 69, "{text}");
        assert!(text.contains(&format!("{path} cannot be written to")), "{text}");
    }
}

#[test]
fn a_namespace_on_disk_without_a_directory_exits_with_78() {
    let (code, text) = run(&["--chat-durability", "disk"]);

    assert_eq!(code, 78, "{text}");
    assert!(text.contains("CHAT_DATA_DIR"), "{text}");
}
