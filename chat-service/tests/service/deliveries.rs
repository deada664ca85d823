//! How far a room's log has reached its users, as other services are told.

use std::{fs, io::Write, path::Path};

use proto::{
    chat::v1::{
        DeliveredToRequest, DeliveredToResponse, DeliveredUser, PublishRequest,
        publish_request::Target,
    },
    edge::v1::{Delivered, EdgeEvent, edge_event::Kind},
};
use tempfile::{NamedTempFile, TempDir};
use tonic::Code;

use crate::{
    edge::{Edge, all_announced, catch_up, closed, opened, resumed, suspended},
    running::Running,
};

const FOLLOWING: &str = "[namespace.'/chat']\ndelivery_watermark = true\n";

async fn start(terms: &str) -> (Running, NamedTempFile) {
    start_with(terms, &[]).await
}

async fn start_with(terms: &str, flags: &[&str]) -> (Running, NamedTempFile) {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(terms.as_bytes()).unwrap();
    let flag = format!("--chat-namespaces-file={}", file.path().display());
    (Running::start_with(&[&[flag.as_str()], flags].concat()).await, file)
}

/// A service whose rooms are on disk there.
async fn start_in(directory: &Path) -> (Running, NamedTempFile) {
    let directory = format!("--chat-data-dir={}", directory.display());
    start_with(FOLLOWING, &[&directory, "--chat-durability=disk"]).await
}

async fn publish(service: &Running, except_users: &[&str]) -> String {
    let request = PublishRequest {
        target: Some(Target::Room("lobby".to_owned())),
        data: "{}".to_owned(),
        except_users: except_users.iter().map(|&user| user.to_owned()).collect(),
        ..Default::default()
    };
    service.chat().await.publish(request).await.unwrap().into_inner().position
}

fn delivered(sockets: &[u64], position: &str) -> EdgeEvent {
    let (room, position) = ("lobby".to_owned(), position.to_owned());
    let kind = Kind::Delivered(Delivered { sockets: sockets.to_vec(), room, position });
    EdgeEvent { socket: 0, traceparent: String::new(), kind: Some(kind) }
}

/// Reports what was delivered, and waits until the service has taken it.
async fn report(edge: &mut Edge, sockets: &[u64], position: &str) {
    edge.send(vec![delivered(sockets, position)]).await;
    edge.wait_until_acknowledged().await;
}

fn about_lobby() -> DeliveredToRequest {
    DeliveredToRequest { room: "lobby".to_owned(), ..Default::default() }
}

async fn ask(service: &Running, request: DeliveredToRequest) -> DeliveredToResponse {
    service.chat().await.delivered_to(request).await.unwrap().into_inner()
}

async fn behind(service: &Running, position: &str) -> Vec<String> {
    let request = DeliveredToRequest { behind: position.to_owned(), ..about_lobby() };
    ask(service, request).await.users.into_iter().map(|user| user.subject).collect()
}

async fn of(service: &Running, user: &str) -> DeliveredUser {
    let users = vec![format!("sub-{user}")];
    let mut found = ask(service, DeliveredToRequest { users, ..about_lobby() }).await.users;
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

/// Ann with two devices, and Bob.
async fn ann_and_bob(service: &Running) -> Edge {
    let mut edge = service.edge("one").await;
    for (socket, user) in [(1, "ann"), (2, "ann"), (3, "bob")] {
        edge.open(socket, user).await;
        edge.join(socket, "lobby").await;
    }
    edge
}

#[tokio::test]
async fn a_service_learns_who_has_not_got_what_it_published() {
    let (service, _file) = start(FOLLOWING).await;
    let mut edge = ann_and_bob(&service).await;
    let first = publish(&service, &[]).await;
    assert_eq!(behind(&service, &first).await, ["sub-ann", "sub-bob"]);

    report(&mut edge, &[2], &first).await;
    let second = publish(&service, &[]).await;

    assert_eq!(behind(&service, &first).await, ["sub-bob"], "one of her devices is enough");
    assert_eq!(behind(&service, &second).await, ["sub-ann", "sub-bob"]);
    let ann = of(&service, "ann").await;
    assert_eq!((&ann.position, ann.sockets), (&first, 2));
    assert!(ann.delivered_at_unix_ms > 0 && !ann.since.is_empty());
    // Another device that is slower takes nothing back.
    report(&mut edge, &[2, 3], &second).await;
    report(&mut edge, &[1], &first).await;
    assert!(behind(&service, &second).await.is_empty());
}

#[tokio::test]
async fn who_is_away_is_behind_and_who_has_left_is_not() {
    let (service, _file) = start(FOLLOWING).await;
    let mut edge = ann_and_bob(&service).await;
    edge.open(4, "carol").await;
    edge.join(4, "lobby").await;
    edge.send(vec![closed(1), suspended(2)]).await;
    edge.ask(3, 1, "leave", r#"["lobby"]"#).await;
    edge.wait_until_acknowledged().await;

    let position = publish(&service, &[]).await;
    report(&mut edge, &[4], &position).await;

    assert_eq!(behind(&service, &position).await, ["sub-ann"]);
    let ann = of(&service, "ann").await;
    assert_eq!((&*ann.position, ann.sockets), ("", 0));
    edge.send(vec![resumed(2, "ann")]).await;
    report(&mut edge, &[2], &position).await;
    assert!(behind(&service, &position).await.is_empty());
    assert_eq!(of(&service, "ann").await.sockets, 1);
}

#[tokio::test]
async fn who_comes_back_has_got_what_it_asked_for_and_not_what_it_did_not() {
    let (service, _file) = start(FOLLOWING).await;
    let mut edge = ann_and_bob(&service).await;
    let first = publish(&service, &[]).await;
    report(&mut edge, &[1, 2, 3], &first).await;
    edge.send(vec![closed(1), closed(2), closed(3)]).await;
    let second = publish(&service, &[]).await;
    for (socket, user) in [(5, "ann"), (6, "bob")] {
        edge.send(vec![opened(socket, "/chat", user, None)]).await;
    }
    let since = format!(r#"[{{"room":"lobby","since":"{first}"}}]"#);
    edge.ask(5, 1, "join", &since).await;
    edge.ask(6, 1, "join", r#"["lobby"]"#).await;
    edge.wait_until_acknowledged().await;
    assert_eq!(behind(&service, &second).await, ["sub-ann", "sub-bob"], "no answer has arrived");

    report(&mut edge, &[5, 6], &second).await;

    assert_eq!(behind(&service, &second).await, ["sub-bob"]);
    assert!(behind(&service, &first).await.is_empty(), "both have got it before");
    let third = publish(&service, &[]).await;
    report(&mut edge, &[5, 6], &third).await;
    assert!(behind(&service, &third).await.is_empty());
    assert_eq!(behind(&service, &second).await, ["sub-bob"]);
    let bob = of(&service, "bob").await;
    assert_eq!((bob.position, bob.since), (third, second));
}

#[tokio::test]
async fn who_was_not_to_get_it_is_not_behind() {
    let (service, _file) = start(FOLLOWING).await;
    let mut edge = ann_and_bob(&service).await;
    let secret = publish(&service, &["sub-ann"]).await;
    assert_eq!(behind(&service, &secret).await, ["sub-bob"]);

    edge.send(vec![opened(7, "/chat", "carol", None)]).await;
    edge.join(7, "lobby").await;
    let last = publish(&service, &[]).await;

    assert_eq!(behind(&service, &secret).await, ["sub-bob"], "Carol came later");
    assert_eq!(behind(&service, &last).await, ["sub-ann", "sub-bob", "sub-carol"]);
}

#[tokio::test]
async fn a_client_that_was_told_of_a_gap_has_not_got_what_was_in_it() {
    let (service, _file) = start(&format!("{FOLLOWING}history_count = 2\n")).await;
    let mut edge = ann_and_bob(&service).await;
    let first = publish(&service, &[]).await;
    report(&mut edge, &[1, 3], &first).await;
    publish(&service, &[]).await;
    let third = publish(&service, &[]).await;
    let last = publish(&service, &[]).await;

    // Bob did not keep up, and the second one is gone.
    edge.send(vec![catch_up(3, "lobby", &first, 1000)]).await;
    edge.wait_until_acknowledged().await;
    report(&mut edge, &[1, 3], &last).await;

    assert_eq!(behind(&service, &third).await, ["sub-bob"]);
    assert!(behind(&service, &last).await.contains(&"sub-bob".to_owned()), "it was in the gap");
}

#[tokio::test]
async fn the_announced_sockets_of_an_edge_go_on_where_they_were() {
    let (service, _file) = start(FOLLOWING).await;
    let mut edge = ann_and_bob(&service).await;
    let position = publish(&service, &[]).await;
    edge.cut();
    edge.backend_id.clear();
    let welcome = edge.attach(&service).await;
    assert_eq!(welcome.delivery_reports, ["/chat"]);

    let rooms: &[(&str, &str)] = &[("lobby", &position)];
    edge.send(vec![opened(1, "/chat", "ann", Some(rooms)), all_announced()]).await;
    report(&mut edge, &[1, 99], &position).await;

    assert_eq!(behind(&service, &position).await, ["sub-bob"]);
}

#[tokio::test]
async fn users_are_listed_in_pages_and_those_who_are_asked_for_in_any_case() {
    let (service, _file) = start(&format!("{FOLLOWING}delivery_users_max = 2\n")).await;
    let mut edge = ann_and_bob(&service).await;
    edge.open(4, "carol").await;
    edge.join(4, "lobby").await;

    let page = ask(&service, DeliveredToRequest { limit: 1, ..about_lobby() }).await;
    assert_eq!((&*page.users[0].subject, page.users.len()), ("sub-ann", 1));
    assert!(page.more && page.incomplete, "Carol is one too many");
    let after = page.users[0].subject.clone();
    let page = ask(&service, DeliveredToRequest { after, limit: 1, ..about_lobby() }).await;
    assert_eq!((&*page.users[0].subject, page.more), ("sub-bob", false));

    let carol = of(&service, "carol").await;
    assert_eq!(carol, DeliveredUser { subject: "sub-carol".to_owned(), ..Default::default() });
}

#[tokio::test]
async fn the_list_is_complete_again_when_there_is_room_for_all_again() {
    let flags = ["--chat-followed-users-max=2", "--chat-workers=1"];
    let (service, _file) = start_with(FOLLOWING, &flags).await;
    let mut edge = ann_and_bob(&service).await;
    edge.open(4, "carol").await;
    edge.join(4, "lobby").await;
    let position = publish(&service, &[]).await;
    let page = ask(&service, about_lobby()).await;
    assert!(page.incomplete && page.users.len() == 2, "{page:?}");

    edge.ask(3, 1, "leave", r#"["lobby"]"#).await;
    edge.wait_until_acknowledged().await;

    assert!(!ask(&service, about_lobby()).await.incomplete);
    assert_eq!(behind(&service, &position).await, ["sub-ann", "sub-carol"]);
}

#[tokio::test]
async fn who_is_away_is_behind_after_a_restart_in_what_it_has_not_got() {
    let directory = TempDir::new().unwrap();
    let (service, _file) = start_in(directory.path()).await;
    let mut edge = ann_and_bob(&service).await;
    edge.open(4, "carol").await;
    edge.join(4, "lobby").await;
    let first = publish(&service, &[]).await;
    report(&mut edge, &[1, 3], &first).await;
    edge.ask(4, 1, "leave", r#"["lobby"]"#).await;
    edge.send(vec![closed(1), closed(2)]).await;
    edge.wait_until_acknowledged().await;
    edge.cut();
    service.stop().await;

    let (service, _file) = start_in(directory.path()).await;
    let second = publish(&service, &[]).await;

    assert_eq!(behind(&service, &second).await, ["sub-ann", "sub-bob"], "nobody has come back");
    for user in ["ann", "bob"] {
        let user = of(&service, user).await;
        assert!(user.position.is_empty() || user.position == first, "{user:?}");
    }
    // Bob was there all along, and has missed nothing.
    let mut edge = Edge::new("one");
    edge.attach(&service).await;
    let rooms: &[(&str, &str)] = &[("lobby", &first)];
    edge.send(vec![opened(3, "/chat", "bob", Some(rooms)), all_announced()]).await;
    report(&mut edge, &[3], &second).await;
    assert_eq!(behind(&service, &second).await, ["sub-ann"]);
    assert!(!behind(&service, &first).await.contains(&"sub-bob".to_owned()));
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(file.file_name());
        match file.file_type().unwrap().is_dir() {
            true => copy(&file.path(), &target),
            false => drop(fs::copy(file.path(), target).unwrap()),
        }
    }
}

#[tokio::test]
async fn in_a_log_that_was_set_back_nobody_has_got_what_it_says_instead() {
    let (directory, backup) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (service, _file) = start_in(directory.path()).await;
    let mut edge = ann_and_bob(&service).await;
    publish(&service, &[]).await;
    edge.cut();
    service.stop().await;
    copy(directory.path(), backup.path());
    let (service, _file) = start_in(directory.path()).await;
    let lost = publish(&service, &[]).await;
    let mut edge = Edge::new("one");
    edge.attach(&service).await;
    let rooms: &[(&str, &str)] = &[("lobby", &lost)];
    edge.send(vec![opened(1, "/chat", "ann", Some(rooms)), all_announced()]).await;
    report(&mut edge, &[1], &lost).await;
    edge.cut();
    service.stop().await;

    let (service, _file) = start_in(backup.path()).await;
    let mut edge = Edge::new("one");
    edge.attach(&service).await;
    edge.send(vec![opened(1, "/chat", "ann", Some(rooms)), all_announced()]).await;
    report(&mut edge, &[1], &lost).await;
    let instead = publish(&service, &[]).await;

    assert_eq!(behind(&service, &instead).await, ["sub-ann", "sub-bob"]);
    let about_lost = DeliveredToRequest { behind: lost, ..about_lobby() };
    let refused = service.chat().await.delivered_to(about_lost).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange);
    report(&mut edge, &[1], &instead).await;
    assert_eq!(behind(&service, &instead).await, ["sub-bob"]);
}

#[tokio::test]
async fn says_why_it_has_no_answer() {
    let (service, _file) = start(FOLLOWING).await;
    let foreign = "__________8AAAAAAAAAAQAAAAI".to_owned();
    for (request, code) in [
        (DeliveredToRequest { behind: "x".to_owned(), ..about_lobby() }, Code::InvalidArgument),
        (DeliveredToRequest { limit: 1001, ..about_lobby() }, Code::InvalidArgument),
        (DeliveredToRequest { users: vec![String::new()], ..about_lobby() }, Code::InvalidArgument),
        (DeliveredToRequest { behind: foreign, ..about_lobby() }, Code::OutOfRange),
        (
            DeliveredToRequest { namespace: "/".to_owned(), ..about_lobby() },
            Code::FailedPrecondition,
        ),
    ] {
        let refused = service.chat().await.delivered_to(request.clone()).await.unwrap_err();
        assert_eq!(refused.code(), code, "{request:?}");
    }
}
