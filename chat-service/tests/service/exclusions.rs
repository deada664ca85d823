//! Users that are put out of rooms, and those that are kept out.

use std::{path::Path, time::Duration};

use proto::{
    chat::v1::{
        BanRequest, BanResponse, HistoryRequest, KickRequest, KickResponse, ListBansRequest,
        PublishRequest, UnbanRequest, UserId, chat_service_client::ChatServiceClient, kick_request,
        publish_request::Target,
    },
    edge::v1::{EdgeEvent, edge_event, instruction::Kind},
};
use service_kit::clock;
use tokio::time;
use tonic::{Code, Status, transport::Channel};

use crate::{
    edge::{Edge, all_announced, event, moved, opened, repeated, within_deadline},
    process::{Process, chat_service},
    running::Running,
};

const KICKED: &str = r#"{"status":"error","code":"kicked","message":"you were put out of this room","retryable":false,"room":"lobby"}"#;
const BANNED: &str =
    r#"{"code":"banned","message":"you are banned from this room","retryable":false}"#;
const BOB_IS_HERE: &str = r#"ack 2/1 [{"users":[{"id":"bob"}],"count":1}]"#;
const ANN_LEFT: &str = r#"emit to room lobby: presence [{"room":"lobby","joined":[],"left":[{"id":"ann"}],"count":1}]"#;

type Chat = ChatServiceClient<Channel>;

fn user(name: &str) -> UserId {
    UserId { issuer: "test".to_owned(), subject: format!("sub-{name}") }
}

fn kick_of(name: &str, room: &str) -> KickRequest {
    let who = Some(kick_request::Who::User(user(name)));
    KickRequest { room: room.to_owned(), who, ..Default::default() }
}

async fn kick(chat: &mut Chat, name: &str) -> KickResponse {
    within_deadline(chat.kick(kick_of(name, "lobby"))).await.unwrap().into_inner()
}

fn ban_of(name: &str, until_unix_ms: u64) -> BanRequest {
    let (room, user) = ("lobby".to_owned(), Some(user(name)));
    BanRequest { room, user, until_unix_ms, reason: "spam".to_owned(), ..Default::default() }
}

async fn ban(chat: &mut Chat, name: &str) -> Result<BanResponse, Status> {
    within_deadline(chat.ban(ban_of(name, 0))).await.map(tonic::Response::into_inner)
}

async fn unban(chat: &mut Chat, name: &str) -> bool {
    let (room, user) = ("lobby".to_owned(), Some(user(name)));
    let request = UnbanRequest { room, user, ..Default::default() };
    within_deadline(chat.unban(request)).await.unwrap().into_inner().was_banned
}

async fn banned(chat: &mut Chat) -> Vec<String> {
    let request = ListBansRequest { room: "lobby".to_owned(), ..Default::default() };
    let bans = within_deadline(chat.list_bans(request)).await.unwrap().into_inner().bans;
    bans.into_iter().map(|ban| ban.user.unwrap().subject).collect()
}

/// A socket of ann, and one of bob, each on a link, and both in the lobby.
async fn two_in_the_lobby(service: &Running) -> (Edge, Edge) {
    let (mut ann, mut bob) = (service.edge("one").await, service.edge("two").await);
    bob.open(2, "bob").await;
    bob.join(2, "lobby").await;
    ann.open(1, "ann").await;
    ann.join(1, "lobby").await;
    assert!(bob.next().await.contains("joined"));
    (ann, bob)
}

fn put_out(socket: u64) -> [String; 2] {
    [format!("leave [{socket}] lobby"), format!("emit to [{socket}]: exception [{KICKED}]")]
}

async fn expect_put_out(edge: &mut Edge, socket: u64) {
    let [leave, told] = put_out(socket);
    edge.expect(&[&leave, &told]).await;
}

/// A socket whose client has come back on another link than it had.
fn recovered(socket: u64, user: &str) -> EdgeEvent {
    let mut event = opened(socket, "/chat", user, Some(&[("lobby", "")]));
    if let Some(edge_event::Kind::Opened(opened)) = &mut event.kind {
        (opened.announced, opened.recovered) = (false, true);
        opened.socket_id = "public-1".to_owned();
    }
    event
}

#[tokio::test]
async fn a_kicked_user_leaves_with_every_socket_and_the_others_are_told() {
    let service = Running::start().await;
    let (mut ann, mut bob) = two_in_the_lobby(&service).await;
    bob.open(3, "ann").await;
    bob.join(3, "lobby").await;
    let mut chat = service.chat().await;

    let request = KickRequest { reason: "noise".to_owned(), ..kick_of("ann", "lobby") };
    let kicked = chat.kick(request).await.unwrap().into_inner();

    assert_eq!((kicked.sockets, &*kicked.durability), (2, "memory"));
    let told = KICKED.replace("\"lobby\"", "\"lobby\",\"reason\":\"noise\"");
    ann.expect(&["leave [1] lobby", &format!("emit to [1]: exception [{told}]")]).await;
    bob.expect(&["leave [3] lobby", &format!("emit to [3]: exception [{told}]"), ANN_LEFT]).await;
    bob.ask(2, 1, "presence", r#"["lobby"]"#).await;
    bob.expect(&[BOB_IS_HERE]).await;
    ann.ask(1, 1, "message", r#"[{"room":"lobby","text":"hi"}]"#).await;
    assert!(ann.next().await.contains("not_a_member"));

    assert_eq!(kick(&mut chat, "ann").await.sockets, 0, "again");
    ann.expect(&["leave [1] lobby"]).await;
    ann.join(1, "lobby").await;
}

#[tokio::test]
async fn one_socket_is_kicked_and_its_user_stays_with_another() {
    let service = Running::start().await;
    let (mut ann, mut bob) = two_in_the_lobby(&service).await;
    ann.open(4, "ann").await;
    ann.join(4, "lobby").await;

    let who = Some(kick_request::Who::SocketId("public-4".to_owned()));
    let request = KickRequest { room: "lobby".to_owned(), who, ..Default::default() };
    let kicked = service.chat().await.kick(request).await.unwrap().into_inner();

    assert_eq!(kicked.sockets, 1);
    expect_put_out(&mut ann, 4).await;
    ann.expect_quiet(1, "lobby").await;
    bob.expect_quiet(2, "lobby").await;
}

/// Publishes as fast as it can until it is told to stop.
async fn flood(mut chat: Chat, room: String) {
    for number in 0.. {
        let data = format!("{{\"n\":{number}}}");
        let target = Some(Target::Room(room.clone()));
        let request = PublishRequest { target, data, ..Default::default() };
        chat.publish(request).await.unwrap();
    }
}

#[tokio::test]
async fn nothing_behind_the_kick_is_sent_to_a_kicked_socket_while_all_publish() {
    const ROUNDS: usize = 20;
    let service = Running::start_with(&["--chat-history-count-max=100000"]).await;
    let mut chat = service.chat().await;
    let mut edge = service.edge("one").await;
    // Bob is on the same link: what is sent into the room goes on coming.
    for (socket, user) in [(1, "ann"), (2, "bob")] {
        edge.open(socket, user).await;
    }
    for round in 0..ROUNDS {
        let room = format!("room-{round}");
        for socket in [1, 2] {
            edge.join(socket, &room).await;
        }
        let floods = [(); 3].map(|()| tokio::spawn(flood(chat.clone(), room.clone())));
        let mut seen = Vec::new();
        while seen.len() < 10 * (round + 1) {
            seen.extend(position(&edge.next_instruction().await.kind, &room));
        }
        let kicked = chat.kick(kick_of("ann", &room)).await.unwrap().into_inner();
        assert_eq!(kicked.sockets, 1);
        let last = loop {
            let kind = edge.next_instruction().await.kind;
            match kind {
                Some(Kind::Leave(leave)) => {
                    assert_eq!((&*leave.sockets, &leave.room), (&[1][..], &room));
                    break seen.last().cloned();
                }
                kind => seen.extend(position(&kind, &room)),
            }
        };
        assert_eq!(last.as_ref(), Some(&kicked.position), "all up to the kick, and no more");
        while position(&edge.next_instruction().await.kind, &room).is_none() {}
        floods.iter().for_each(tokio::task::JoinHandle::abort);
        edge.ask(2, 7, "leave", &format!("[\"{room}\"]")).await;
        while !edge.next().await.starts_with("ack 2/7 ") {}
    }
    let history = HistoryRequest { room: "room-0".to_owned(), ..Default::default() };
    assert!(!chat.history(history).await.unwrap().into_inner().entries.is_empty());
}

/// Where an event of a room stands, if it is one that is in its log.
fn position(kind: &Option<Kind>, room: &str) -> Option<String> {
    match kind {
        Some(Kind::Emit(emit)) if emit.position_room == room => Some(emit.position.clone()),
        _ => None,
    }
}

#[tokio::test]
async fn an_edge_that_was_away_does_not_bring_a_kicked_socket_back() {
    let service = Running::start_with(&["--chat-link-grace=50ms"]).await;
    let (mut ann, mut bob) = two_in_the_lobby(&service).await;
    let mut chat = service.chat().await;
    ann.cut();
    assert_eq!(bob.next_left().await, ANN_LEFT);

    assert_eq!(kick(&mut chat, "ann").await.sockets, 0);
    assert!(!ann.attach(&service).await.resumed);
    ann.send(vec![opened(1, "/chat", "ann", Some(&[("lobby", "")])), all_announced()]).await;
    expect_put_out(&mut ann, 1).await;
    bob.expect_quiet(2, "lobby").await;

    ann.join(1, "lobby").await;
    bob.next().await;
    ann.cut();
    assert_eq!(bob.next_left().await, ANN_LEFT);
    assert!(!ann.attach(&service).await.resumed);
    ann.send(vec![opened(1, "/chat", "ann", Some(&[("lobby", "")])), all_announced()]).await;
    assert!(bob.next().await.contains(r#""joined":[{"id":"ann"}]"#), "it has joined again");
}

#[tokio::test]
async fn a_link_that_is_resumed_is_told_of_the_kick_before_anything_else() {
    let service = Running::start().await;
    let (mut ann, mut bob) = two_in_the_lobby(&service).await;
    ann.cut();

    assert_eq!(kick(&mut service.chat().await, "ann").await.sockets, 1);
    bob.expect(&[ANN_LEFT]).await;
    bob.ask(2, 1, "message", r#"[{"room":"lobby","text":"psst"}]"#).await;
    assert!(bob.next().await.contains("psst"));
    assert!(ann.attach(&service).await.resumed);

    expect_put_out(&mut ann, 1).await;
    ann.ask(1, 1, "presence", r#"["lobby"]"#).await;
    assert!(ann.next().await.contains("not_a_member"));
}

#[tokio::test]
async fn a_kicked_socket_does_not_come_in_on_another_link() {
    let service = Running::start().await;
    let (mut ann, mut bob) = two_in_the_lobby(&service).await;
    let mut chat = service.chat().await;
    kick(&mut chat, "ann").await;
    expect_put_out(&mut ann, 1).await;
    bob.expect(&[ANN_LEFT]).await;

    // It was claimed before the order came to where it was.
    bob.send(vec![recovered(7, "ann")]).await;

    // The order stands before the one to let it in: it never is in the room.
    expect_put_out(&mut bob, 7).await;
    bob.expect(&["accept 7"]).await;
    bob.send(vec![moved(7, "ann", &["lobby"], &[])]).await;
    expect_put_out(&mut bob, 7).await;
    bob.ask(2, 1, "presence", r#"["lobby"]"#).await;
    bob.expect(&[BOB_IS_HERE]).await;
}

#[tokio::test]
async fn a_banned_user_is_refused_everything_in_the_room_until_the_ban_is_lifted() {
    let service = Running::start().await;
    let (mut ann, mut bob) = two_in_the_lobby(&service).await;
    let mut chat = service.chat().await;
    assert_eq!(ban(&mut chat, "ann").await.unwrap().sockets, 1);
    ann.expect(&["leave [1] lobby"]).await;
    assert!(ann.next().await.contains(r#""code":"banned""#));
    bob.expect(&[ANN_LEFT]).await;

    for (ack_id, (name, args)) in (1..).zip([
        ("join", r#"["lobby"]"#),
        ("message", r#"[{"room":"lobby","text":"hi"}]"#),
        ("typing", r#"[{"room":"lobby","typing":true}]"#),
        ("history", r#"[{"room":"lobby"}]"#),
        ("presence", r#"["lobby"]"#),
    ]) {
        ann.ask(1, ack_id, name, args).await;
        ann.expect(&[&format!(r#"ack 1/{ack_id} [{{"error":{BANNED}}}]"#)]).await;
    }
    bob.expect_quiet(2, "lobby").await;
    ann.join(1, "elsewhere").await;
    bob.send(vec![recovered(7, "ann")]).await;
    bob.expect(&["leave [7] lobby"]).await;
    assert!(bob.next().await.contains(r#""code":"banned""#));
    bob.expect(&["accept 7"]).await;

    assert_eq!(banned(&mut chat).await, ["sub-ann"]);
    assert!(unban(&mut chat, "ann").await);
    assert!(!unban(&mut chat, "ann").await);
    assert_eq!(banned(&mut chat).await, [""; 0]);
    ann.join(1, "lobby").await;
}

#[tokio::test]
async fn a_ban_ends_by_the_clock() {
    let service = Running::start().await;
    let (mut ann, _bob) = two_in_the_lobby(&service).await;
    let mut chat = service.chat().await;
    let until = clock::unix_ms() + 500;
    chat.ban(ban_of("ann", until)).await.unwrap();
    ann.next().await;
    ann.next().await;

    let joined_at = within_deadline(async {
        for ack_id in 1.. {
            let before = clock::unix_ms();
            ann.ask(1, ack_id, "join", r#"["lobby"]"#).await;
            if !ann.next().await.contains("banned") {
                break;
            }
            assert!(before < until, "it was over");
            time::sleep(Duration::from_millis(20)).await;
        }
        clock::unix_ms()
    })
    .await;
    assert!(joined_at >= until);
    assert_eq!(banned(&mut chat).await, [""; 0]);
    assert_eq!(chat.ban(ban_of("ann", 1)).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_room_has_so_many_bans_and_the_service_remembers_so_many_and_no_more() {
    let flags = ["--chat-workers=1", "--chat-room-bans-max=2", "--chat-exclusions-max=3"];
    let service = Running::start_with(&flags).await;
    let mut chat = service.chat().await;

    for name in ["ann", "bob", "ann"] {
        ban(&mut chat, name).await.unwrap();
    }
    assert_eq!(ban(&mut chat, "cid").await.unwrap_err().code(), Code::ResourceExhausted);
    kick(&mut chat, "cid").await;
    let refused = chat.kick(kick_of("dan", "elsewhere")).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(banned(&mut chat).await, ["sub-ann", "sub-bob"]);

    assert!(unban(&mut chat, "bob").await);
    ban(&mut chat, "cid").await.unwrap();
}

#[tokio::test]
async fn bans_are_listed_in_pages() {
    let service = Running::start().await;
    let mut chat = service.chat().await;
    for name in ["c", "a", "b"] {
        ban(&mut chat, name).await.unwrap();
    }

    let mut request = ListBansRequest { room: "lobby".to_owned(), limit: 2, ..Default::default() };
    let page = chat.list_bans(request.clone()).await.unwrap().into_inner();
    assert_eq!((page.bans.len(), page.more), (2, true));
    assert_eq!((&*page.bans[0].reason, page.bans[0].until_unix_ms), ("spam", 0));
    assert!(page.bans[0].since_unix_ms > 0);
    request.after.clone_from(&page.bans[1].user);
    let page = chat.list_bans(request.clone()).await.unwrap().into_inner();
    assert_eq!((page.bans.len(), page.more), (1, false));
    assert_eq!(page.bans[0].user, Some(user("c")));
    request.limit = 1001;
    assert_eq!(chat.list_bans(request).await.unwrap_err().code(), Code::InvalidArgument);
}

/// A life of the service on a directory, as a process.
async fn start(directory: &Path) -> (Process, Channel) {
    let mut process = Process::spawn(&mut chat_service(&[
        "--chat-data-dir",
        directory.to_str().unwrap(),
        "--chat-presence-grace=0s",
    ]));
    let url = format!("http://{}", process.address("grpc"));
    let endpoint = Channel::from_shared(url).unwrap();
    (process, within_deadline(endpoint.connect()).await.unwrap())
}

#[tokio::test]
async fn kicks_and_bans_outlive_kill_9() {
    let directory = tempfile::tempdir().unwrap();
    let (process, channel) = start(directory.path()).await;
    let (mut edge, mut chat) = (Edge::new("one"), Chat::new(channel.clone()));
    edge.attach_over(channel).await;
    edge.send(vec![all_announced()]).await;
    for (socket, user) in [(1, "ann"), (2, "bob"), (3, "cid")] {
        edge.open(socket, user).await;
        edge.join(socket, "lobby").await;
    }
    edge.cut();
    assert_eq!(kick(&mut chat, "ann").await.durability, "disk+fsync");
    assert_eq!(ban(&mut chat, "cid").await.unwrap().durability, "disk+fsync");
    process.kill();

    let (process, channel) = start(directory.path()).await;
    let mut chat = Chat::new(channel.clone());
    assert_eq!(banned(&mut chat).await, ["sub-cid"]);
    assert!(!edge.attach_over(channel).await.resumed);
    let lobby = Some(&[("lobby", "")][..]);
    let sockets = [(1, "ann"), (2, "bob"), (3, "cid")];
    let mut events = sockets.map(|(socket, user)| opened(socket, "/chat", user, lobby)).to_vec();
    events.push(all_announced());
    edge.send(events).await;
    expect_put_out(&mut edge, 1).await;
    edge.expect(&["leave [3] lobby"]).await;
    assert!(edge.next().await.contains(r#""code":"banned""#));
    edge.ask(3, 1, "join", r#"["lobby"]"#).await;
    edge.expect(&[&format!(r#"ack 3/1 [{{"error":{BANNED}}}]"#)]).await;
    edge.ask(2, 1, "presence", r#"["lobby"]"#).await;
    edge.expect(&[BOB_IS_HERE]).await;

    // What ends is forgotten there, too: who has joined again is brought back by its edge.
    edge.join(1, "lobby").await;
    assert!(unban(&mut chat, "cid").await);
    edge.cut();
    process.kill();
    let (_process, channel) = start(directory.path()).await;
    assert_eq!(banned(&mut Chat::new(channel.clone())).await, [""; 0]);
    assert!(!edge.attach_over(channel).await.resumed);
    edge.send(vec![opened(1, "/chat", "ann", lobby), all_announced()]).await;
    edge.expect_quiet(1, "lobby").await;
}

#[tokio::test]
async fn a_join_from_before_the_kick_that_is_sent_again_does_not_undo_it() {
    let directory = tempfile::tempdir().unwrap();
    let data = format!("--chat-data-dir={}", directory.path().display());
    let service = Running::start_with(&[&data]).await;
    let mut edge = service.edge("one").await;
    edge.open(1, "ann").await;
    edge.join(1, "lobby").await;
    kick(&mut service.chat().await, "ann").await;
    edge.cut();
    service.stop().await;

    let service = Running::start_with(&[&data]).await;
    edge.clock_ms = 600_000;
    edge.attach(&service).await;
    let again = repeated(event(1, Some(1), "join", r#"["lobby"]"#));
    edge.send(vec![opened(1, "/chat", "ann", Some(&[])), all_announced(), again]).await;

    let refused = edge.next().await;
    assert!(refused.starts_with("ack 1/1 ") && refused.contains(r#""code":"kicked""#), "{refused}");
    edge.join(1, "lobby").await;
}
