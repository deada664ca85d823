//! What a worker knows of its rooms' followers, in memory and on disk.

mod leaving;
mod unlisted;

use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::{
    edge_link::Outbox,
    namespaces::{NamespaceSettings, Namespaces},
    room_log::{
        Bounds, ServiceRoomLog, Threads,
        contract::{AGE_MAX, COUNT_MAX, keeping, publication},
    },
    socket::{LinkKey, Socket, SocketKey},
    worker::{Command, Departure, WorkerSettings, tests::settings},
};

const AGE_MS: u64 = AGE_MAX.as_millis() as u64;

/// A worker whose rooms are on disk.
struct Scene {
    worker: Worker<ServiceRoomLog>,
    directory: TempDir,
    outbox: Outbox,
    users_max: usize,
}

async fn open(directory: &Path, terms: &str, users_max: usize) -> Worker<ServiceRoomLog> {
    let retention = keeping(COUNT_MAX).get("/chat").retention;
    let other = NamespaceSettings { retention, durability: Durability::Disk };
    let namespaces = Arc::new(Namespaces::parse(Path::new("ns.toml"), terms, other).unwrap());
    let bounds = Bounds {
        memory_bytes_max: 1 << 30,
        disk_bytes_max: 1 << 40,
        held_bytes_max: 1 << 30,
        threads: Threads::None,
    };
    let logs = ServiceRoomLog::open(Some(directory), 7, &namespaces, bounds, 1).await.unwrap();
    let settings = WorkerSettings { followed_users_max: users_max, ..settings(namespaces) };
    Worker::new(logs.into_iter().next().unwrap(), settings)
}

const FOLLOWING: &str = "[namespace.'/chat']\ndelivery_watermark = true";

fn room(name: &str) -> RoomKey {
    RoomKey::parse("/chat", name).unwrap()
}

impl Scene {
    async fn new(users_max: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let worker = open(directory.path(), FOLLOWING, users_max).await;
        Self { worker, directory, outbox: Outbox::new(LinkKey(1)), users_max }
    }

    /// Ends as a process that is killed does, and starts again.
    async fn start_again(self, terms: &str) -> Self {
        let Self { worker, directory, users_max, .. } = self;
        drop(worker);
        let worker = open(directory.path(), terms, users_max).await;
        Self { worker, directory, outbox: Outbox::new(LinkKey(2)), users_max }
    }

    fn socket(&self, user: &str) -> Arc<Socket> {
        let handle = u64::from(user.as_bytes()[0]);
        let key = SocketKey { link: self.outbox.link(), handle };
        let user = User::parse(user, "test", b"{}").unwrap();
        Arc::new(Socket::new(key, format!("{handle}").into(), "/chat".into(), user).in_open_rooms())
    }

    async fn join(&mut self, room_name: &str, user: &str) {
        let ticket = self.outbox.extra_ticket();
        let moved = Command::SocketMoved(ticket, self.socket(user), room(room_name));
        self.worker.handle(moved, 0).await;
        self.worker.commit().await;
    }

    async fn leave(&mut self, room_name: &str, user: &str) {
        let ticket = self.outbox.extra_ticket();
        let left = Command::SocketLeft(ticket, self.socket(user), room(room_name));
        self.worker.handle(left, 0).await;
        self.worker.commit().await;
    }

    async fn lose(&mut self, user: &str, now_ms: u64) {
        let (ticket, socket) = (self.outbox.extra_ticket(), self.socket(user).key);
        let closed = Command::SocketClosed(ticket, socket, Departure::Lost);
        self.worker.handle(closed, now_ms).await;
        self.worker.commit().await;
    }

    async fn say(&mut self, room_name: &str) -> Position {
        let said = self.worker.log.append(&room(room_name), publication("x"), 0).await.unwrap();
        let crate::room_log::Appended::New(entry) = said else { panic!("{said:?}") };
        self.worker.commit().await;
        entry.position
    }

    async fn deliver(&mut self, room_name: &str, user: &str, position: Position) {
        let delivered = Delivered {
            ticket: self.outbox.extra_ticket(),
            room: room(room_name),
            position: position.to_string(),
            users: vec![Arc::clone(&self.socket(user).user)],
        };
        self.worker.handle(Command::Delivered(Box::new(delivered)), 1000).await;
        self.worker.commit().await;
    }

    /// Lets the time pass after which what has arrived is kept.
    async fn save(&mut self) {
        let at = self.worker.followed.save_at;
        self.worker.save_deliveries(at.unwrap_or_else(Instant::now));
        self.worker.commit().await;
    }

    async fn expire(&mut self, now_ms: u64) {
        self.worker.expire_deliveries(now_ms).await;
        self.save().await;
    }

    /// Something is said in the lobby, and reaches Ann alone.
    async fn assert_ann_is_owed_until_it_arrives(&mut self) {
        let said = self.say("lobby").await;
        assert_eq!(self.behind("lobby", said).await, (vec!["ann".to_owned()], true));
        self.deliver("lobby", "ann", said).await;
        assert_eq!(self.behind("lobby", said).await, (vec![], true));
    }

    /// Who is behind, and whether nobody is missing from the list.
    async fn behind(&mut self, room_name: &str, position: Position) -> (Vec<String>, bool) {
        let asked = DeliveredTo {
            room: room(room_name),
            behind: Some(position),
            users: Vec::new(),
            after: String::new(),
            limit: 100,
        };
        let page = self.worker.delivered_to(asked, 0).await.unwrap();
        let subjects = page.users.into_iter().map(|user| user.subject).collect();
        (subjects, !page.incomplete)
    }

    fn held(&self) -> (usize, usize) {
        let followed = &self.worker.followed;
        (followed.rooms.len(), followed.users)
    }
}

#[tokio::test]
async fn who_is_away_is_known_after_a_crash_with_what_had_arrived_by_then() {
    let mut scene = Scene::new(10).await;
    for user in ["ann", "bob", "carol"] {
        scene.join("lobby", user).await;
    }
    let first = scene.say("lobby").await;
    scene.deliver("lobby", "ann", first).await;
    scene.save().await;
    scene.deliver("lobby", "bob", first).await;
    scene.leave("lobby", "carol").await;

    let mut scene = scene.start_again(FOLLOWING).await;

    let expected = (vec!["bob".to_owned()], true);
    assert_eq!(scene.behind("lobby", first).await, expected, "what was not kept may come again");
    let second = scene.say("lobby").await;
    assert_eq!(scene.behind("lobby", second).await.0, ["ann", "bob"], "Carol has left");
    assert_eq!(scene.held(), (1, 2));
}

#[tokio::test]
async fn who_goes_on_behind_a_gap_is_not_taken_to_have_got_it_after_a_crash() {
    let mut scene = Scene::new(10).await;
    scene.join("lobby", "ann").await;
    let first = scene.say("lobby").await;
    scene.deliver("lobby", "ann", first).await;
    scene.save().await;
    let (missed, last) = (scene.say("lobby").await, scene.say("lobby").await);
    let ann = Arc::clone(&scene.socket("ann").user);
    scene.worker.follow(&room("lobby"), &ann, Coming::From(last), 0).await;
    scene.worker.commit().await;

    let mut scene = scene.start_again(FOLLOWING).await;
    scene.worker.follow(&room("lobby"), &ann, Coming::Back(last), 0).await;
    scene.deliver("lobby", "ann", last).await;
    let next = scene.say("lobby").await;
    scene.deliver("lobby", "ann", next).await;

    assert_eq!(scene.behind("lobby", missed).await.0, ["ann"]);
    assert_eq!(scene.behind("lobby", first).await.0, [""; 0]);
    assert_eq!(scene.behind("lobby", next).await.0, [""; 0]);
}

#[tokio::test]
async fn the_first_entry_of_a_log_arrives_although_logs_were_given_up_since_the_user_came() {
    let mut scene = Scene::new(10).await;
    scene.say("other").await;
    scene.join("lobby", "ann").await;
    scene.worker.log.expire(AGE_MS * 3, |_| false).await;
    scene.worker.commit().await;

    scene.assert_ann_is_owed_until_it_arrives().await;
}

#[tokio::test]
async fn only_who_goes_on_behind_a_gap_waits_for_the_disk_and_only_where_messages_do() {
    for (durability, waits) in [("disk+fsync", true), ("disk", false)] {
        let terms = format!("{FOLLOWING}\ndurability = '{durability}'");
        let mut scene = Scene::new(10).await.start_again(&terms).await;
        let (lobby, ann) = (room("lobby"), Arc::clone(&scene.socket("ann").user));
        let first = scene.say("lobby").await;
        for coming in [Coming::From(first), Coming::From(first), Coming::Back(first)] {
            scene.worker.follow(&lobby, &ann, coming, 0).await;
            assert!(!scene.worker.log.standings().unwrap().is_held_fast(), "{coming:?}");
            scene.worker.commit().await;
        }
        let second = scene.say("lobby").await;
        scene.worker.follow(&lobby, &ann, Coming::From(second), 0).await;

        assert_eq!(scene.worker.log.standings().unwrap().is_held_fast(), waits, "{durability}");
    }
}

#[tokio::test]
async fn a_quiet_room_costs_no_memory_and_is_found_again() {
    let mut scene = Scene::new(1000).await;
    let mut last = Vec::new();
    for number in 0..50 {
        let name = format!("room-{number}");
        scene.join(&name, "ann").await;
        last.push(scene.say(&name).await);
        scene.deliver(&name, "ann", last[number]).await;
    }
    scene.expire(0).await;
    scene.expire(0).await;
    assert_eq!(scene.held(), (50, 50), "she is in them");
    scene.lose("ann", 0).await;
    for _ in 0..3 {
        scene.expire(0).await;
    }

    assert_eq!(scene.held(), (0, 50));
    assert_eq!(scene.behind("room-7", last[7]).await, (vec![], true));
    let next = scene.say("room-7").await;
    assert_eq!(scene.behind("room-7", next).await.0, ["ann"]);
    assert_eq!(scene.held(), (1, 50));
}

#[tokio::test]
async fn who_is_away_too_long_is_forgotten_where_the_room_is_on_disk_only_too() {
    let mut scene = Scene::new(10).await;
    scene.join("lobby", "ann").await;
    scene.lose("ann", 0).await;
    for now_ms in [1000, 2000, 3000] {
        scene.expire(now_ms).await;
    }
    let mut scene = scene.start_again(FOLLOWING).await;

    scene.expire(1000 + AGE_MS - 1).await;
    assert_eq!(scene.held(), (0, 1), "it is not due");
    scene.expire(1001 + AGE_MS).await;
    assert_eq!(scene.held(), (0, 0));
    let said = scene.say("lobby").await;
    assert_eq!(scene.behind("lobby", said).await, (vec![], true));
}

#[tokio::test]
async fn whom_a_crash_left_behind_is_forgotten_in_the_end() {
    let mut scene = Scene::new(10).await;
    scene.join("lobby", "ann").await;
    let mut scene = scene.start_again(FOLLOWING).await;

    scene.expire(AGE_MS).await;
    assert_eq!(scene.held(), (0, 1), "from here on she is away, as far as anybody knows");
    scene.expire(2 * AGE_MS).await;
    assert_eq!(scene.held(), (0, 1));
    scene.expire(2 * AGE_MS + 1).await;

    assert_eq!(scene.held(), (0, 0));
}

#[tokio::test]
async fn however_many_rooms_are_due_all_are_looked_at_together() {
    let mut scene = Scene::new(1000).await;
    for number in 0..300 {
        scene.join(&format!("room-{number}"), "ann").await;
    }
    let mut scene = scene.start_again(FOLLOWING).await;

    scene.expire(AGE_MS).await;
    assert_eq!(scene.held(), (0, 300));
    scene.expire(2 * AGE_MS + 1).await;

    assert_eq!(scene.held(), (0, 0));
    assert!(scene.worker.log.standings().unwrap().due(None, u64::MAX).await.rooms.is_empty());
}

#[tokio::test]
async fn what_a_namespace_does_not_want_any_more_is_forgotten() {
    let mut scene = Scene::new(10).await;
    scene.join("lobby", "ann").await;
    let mut scene = scene.start_again("").await;
    scene.expire(AGE_MS).await;
    assert_eq!(scene.held(), (0, 0));

    let mut scene = scene.start_again(FOLLOWING).await;
    let said = scene.say("lobby").await;

    assert_eq!(scene.behind("lobby", said).await, (vec![], true));
}

#[tokio::test]
async fn the_bound_of_all_rooms_is_told_and_ends_when_there_is_room_again() {
    let mut scene = Scene::new(2).await;
    scene.join("one", "ann").await;
    scene.join("two", "bob").await;
    scene.join("two", "carol").await;
    let said = scene.say("two").await;
    assert_eq!(scene.behind("two", said).await, (vec!["bob".to_owned()], false));
    let end = scene.worker.log.end(&room("one")).await.unwrap();
    assert_eq!(scene.behind("one", end).await, (vec![], true));

    scene.leave("one", "ann").await;
    let expected = (vec!["bob".to_owned(), "carol".to_owned()], true);
    assert_eq!(scene.behind("two", said).await, expected);
    assert_eq!(scene.held(), (1, 2));
}

#[tokio::test]
async fn the_bound_counts_who_is_on_disk_only_and_what_it_left_out_outlives_a_crash() {
    let mut scene = Scene::new(1).await;
    scene.join("one", "ann").await;
    scene.join("two", "bob").await;
    let mut scene = scene.start_again(FOLLOWING).await;
    assert_eq!(scene.held(), (0, 1));

    let said = scene.say("two").await;
    assert_eq!(scene.behind("two", said).await, (vec![], false), "Bob was in it");
    scene.join("two", "carol").await;
    assert_eq!(scene.behind("two", said).await.0, [""; 0]);
    assert_eq!(scene.held(), (0, 1));
}

#[tokio::test]
async fn many_standings_are_kept_in_parts() {
    let mut scene = Scene::new(10_000).await;
    let at = scene.say("lobby").await;
    for number in 0..5000 {
        let user = Arc::new(User::parse(&number.to_string(), "test", b"{}").unwrap());
        scene.worker.follow(&room("lobby"), &user, Coming::From(at), 0).await;
    }
    scene.worker.commit().await;
    let held = scene.worker.followed.rooms.get_mut(&room("lobby")).unwrap();
    let users: Vec<_> = held.deliveries.users().map(|(user, _)| Arc::clone(user)).collect();
    for user in &users {
        held.deliveries.note_delivered(user, at, 1000);
    }
    let now = Instant::now();
    scene.worker.followed.note_unsaved(&room("lobby"), now);

    scene.worker.save_deliveries(now);
    assert!(scene.worker.followed.rooms[&room("lobby")].deliveries.has_changes(), "not so soon");
    scene.save().await;
    assert!(scene.worker.followed.save_at.is_some(), "there are more");
    scene.save().await;
    assert_eq!(scene.worker.followed.save_at, None);
    let mut scene = scene.start_again(FOLLOWING).await;

    let all = DeliveredTo {
        room: room("lobby"),
        behind: None,
        users: Vec::new(),
        after: String::new(),
        limit: 5000,
    };
    let page = scene.worker.delivered_to(all, 0).await.unwrap();
    assert_eq!(page.users.iter().filter(|user| user.delivered.is_some()).count(), 5000);
}
