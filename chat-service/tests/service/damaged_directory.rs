//! A room whose history is damaged on the disk: it is refused, never served and never taken for an empty one.

use std::{fs, path::Path};

use proto::chat::v1::{
    HistoryRequest, HistoryResponse, PublishRequest, RoomsRequest,
    chat_service_client::ChatServiceClient, publish_request::Target,
};
use tempfile::TempDir;
use tonic::{Code, Status, transport::Channel};

use crate::{
    edge::{all_announced, catch_up, opened, within_deadline},
    process::{Process, chat_service, get},
    running::Running,
};

/// What is said in a room, again and again: more than is stored and checked in one piece.
const TEXT_BYTES: usize = 16 * 1024;

const MISSED: &str = r#"exception [{"status":"error","code":"gap","message":"events of this room were missed: join it again","retryable":false,"room":"damaged"}]"#;

const REFUSED: &str = r#"[{"error":{"code":"unavailable","message":"the room's history cannot be read at present","retryable":true}}]"#;

/// A directory with a damaged room and a whole one, and the position of the first entry in each.
struct Damaged {
    directory: TempDir,
    damaged_at: String,
    whole_at: String,
}

impl Damaged {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let service = Running::start_with(&[&data_flag(&directory)]).await;
        let mut chat = service.chat().await;
        let damaged_at = publish(&mut chat, "damaged", "a").await.unwrap();
        publish(&mut chat, "damaged", "b").await.unwrap();
        let whole_at = publish(&mut chat, "whole", "c").await.unwrap();
        publish(&mut chat, "whole", "d").await.unwrap();
        drop(chat);
        service.stop().await;
        assert!(flip(directory.path(), &"a".repeat(TEXT_BYTES)), "no file has it");
        Self { directory, damaged_at, whole_at }
    }
}

fn data_flag(directory: &TempDir) -> String {
    format!("--chat-data-dir={}", directory.path().display())
}

/// Flips a bit in the middle of a text, in the file that has it.
fn flip(directory: &Path, text: &str) -> bool {
    for file in fs::read_dir(directory).unwrap() {
        let path = file.unwrap().path();
        if path.is_dir() {
            if flip(&path, text) {
                return true;
            }
            continue;
        }
        let mut bytes = fs::read(&path).unwrap();
        if let Some(at) = bytes.windows(text.len()).position(|window| window == text.as_bytes()) {
            bytes[at + text.len() / 2] ^= 1;
            fs::write(&path, bytes).unwrap();
            return true;
        }
    }
    false
}

async fn publish(
    chat: &mut ChatServiceClient<Channel>,
    room: &str,
    letter: &str,
) -> Result<String, Status> {
    let request = PublishRequest {
        target: Some(Target::Room(room.to_owned())),
        data: format!(r#"{{"text":"{}"}}"#, letter.repeat(TEXT_BYTES)),
        ..Default::default()
    };
    Ok(within_deadline(chat.publish(request)).await?.into_inner().position)
}

async fn history(
    chat: &mut ChatServiceClient<Channel>,
    room: &str,
    after: &str,
) -> Result<HistoryResponse, Status> {
    let (room, after) = (room.to_owned(), after.to_owned());
    let request = HistoryRequest { room, after, ..Default::default() };
    Ok(within_deadline(chat.history(request)).await?.into_inner())
}

fn is_unavailable<T: std::fmt::Debug>(answer: Result<T, Status>) {
    let status = answer.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert_eq!(status.message(), "the room's history cannot be read at present");
}

#[tokio::test]
async fn other_services_are_told_that_it_is_unavailable_and_other_rooms_go_on() {
    let Damaged { directory, damaged_at, whole_at } = Damaged::new().await;
    let flags = [&*data_flag(&directory), "--chat-ops-listen=127.0.0.1:0"];
    let mut process = Process::spawn(&mut chat_service(&flags));
    let address = format!("http://{}", process.address("grpc"));
    let operators = process.address("ops");
    let mut chat = ChatServiceClient::connect(address).await.unwrap();

    is_unavailable(history(&mut chat, "damaged", "").await);
    is_unavailable(history(&mut chat, "damaged", &damaged_at).await);
    is_unavailable(publish(&mut chat, "damaged", "e").await);

    assert_eq!(history(&mut chat, "whole", &whole_at).await.unwrap().entries.len(), 1);
    publish(&mut chat, "whole", "e").await.unwrap();
    assert_eq!(history(&mut chat, "whole", "").await.unwrap().entries.len(), 3);
    let rooms = within_deadline(chat.rooms(RoomsRequest::default())).await.unwrap().into_inner();
    assert_eq!(
        rooms.rooms.iter().map(|room| &*room.name).collect::<Vec<_>>(),
        ["damaged", "whole"]
    );
    let metrics = get(&operators, "/metrics").await;
    assert!(metrics.contains("sockeye_chat_store_damaged_reads_total 3"), "{metrics}");
    assert!(metrics.contains("sockeye_chat_store_failed 0"), "{metrics}");
    drop(chat);
    let (_, log) = tokio::task::spawn_blocking(|| process.terminate()).await.unwrap();
    let logged = log.lines().filter(|line| line.contains("is damaged and is not served"));
    assert_eq!(logged.count(), 2, "the first and the second: {log}");
}

#[tokio::test]
async fn who_asks_for_what_it_missed_is_not_let_in_and_may_come_without() {
    let Damaged { directory, damaged_at, whole_at } = Damaged::new().await;
    let service = Running::start_with(&[&data_flag(&directory)]).await;
    let mut edge = service.edge("one").await;
    edge.open(1, "ann").await;

    let since = |room: &str, at: &str| format!(r#"[{{"room":"{room}","since":"{at}"}}]"#);
    edge.ask(1, 1, "join", &since("damaged", &damaged_at)).await;
    edge.expect(&[&format!("ack 1/1 {REFUSED}")]).await;
    edge.ask(1, 2, "typing", r#"[{"room":"damaged","typing":true}]"#).await;
    let answer = edge.next().await;
    assert!(answer.contains(r#""code":"not_a_member""#), "{answer}");
    edge.ask(1, 3, "join", &since("whole", &whole_at)).await;
    assert_eq!(edge.next().await, "join [1] whole P0");
    let answer = edge.next().await;
    assert!(answer.contains(r#""recovered":true"#), "{answer}");

    // Where it ends is known all the same.
    edge.join(1, "damaged").await;
    edge.ask(1, 4, "message", r#"[{"room":"damaged","text":"hi"}]"#).await;
    edge.expect(&[&format!("ack 1/4 {REFUSED}")]).await;
    edge.ask(1, 5, "history", r#"[{"room":"damaged"}]"#).await;
    edge.expect(&[&format!("ack 1/5 {REFUSED}")]).await;
    edge.ask(1, 6, "typing", r#"[{"room":"damaged","typing":true}]"#).await;
    assert!(edge.next().await.starts_with("ack 1/6 [{}]"));
}

#[tokio::test]
async fn who_is_announced_in_it_is_told_once_and_stays() {
    let Damaged { directory, damaged_at, whole_at } = Damaged::new().await;
    let service = Running::start_with(&[&data_flag(&directory)]).await;
    let mut edge = service.edge("one").await;
    let rooms: &[(&str, &str)] = &[("damaged", &damaged_at), ("whole", &whole_at)];

    edge.send(vec![opened(1, "/chat", "ann", Some(rooms)), all_announced()]).await;

    let mut lines = [edge.next().await, edge.next().await];
    lines.sort();
    assert_eq!(lines[0], format!("emit to room damaged: {MISSED}"));
    assert!(lines[1].starts_with("emit to room whole: message "), "{lines:?}");
    edge.expect_quiet(1, "damaged").await;

    // So is one that did not keep up, and does not ask again.
    edge.send(vec![catch_up(1, "damaged", &damaged_at, 1_000_000)]).await;
    assert_eq!(edge.next().await, format!("emit to [1]: {MISSED}"));
    let refill = edge.next().await;
    assert!(refill.starts_with("refill 1 damaged after "), "{refill}");
    assert!(refill.contains(": [] to ") && refill.ends_with("more: false"), "{refill}");
}
