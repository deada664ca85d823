//! Tests that every room log must pass.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use super::{
    Appended, Author, Durability, Entry, Limit, Page, Position, Publication, PublicationId, Range,
    ReadError::{self, Gap},
    Retention, RoomLog,
};
use crate::{
    namespaces::{NamespaceSettings, Namespaces},
    room_key::{Realm, RoomKey},
    user::User,
};

/// It keeps so many entries of a room,
pub(crate) const COUNT_MAX: NonZeroUsize = NonZeroUsize::new(8).unwrap();
/// each for so long.
pub(crate) const AGE_MAX: Duration = Duration::from_secs(60);

/// Namespaces whose rooms keep so many entries.
pub(crate) fn keeping(count_max: NonZeroUsize) -> Arc<Namespaces> {
    let retention = Retention { count_max, age_max: AGE_MAX };
    let durability = Durability::DiskFsync;
    Arc::new(Namespaces::alike(NamespaceSettings { retention, durability }))
}

/// When everything that was appended at time 0 is too old.
pub(crate) const TOO_LATE_MS: u64 = 60_001;

const ALL: Limit = Limit { count: 1000, bytes: usize::MAX };

/// Runs the whole suite against fresh logs, each made by the expression.
macro_rules! room_log_contract {
    ($log:expr) => {
        $crate::room_log::contract::room_log_contract!(@cases $log,
            numbers_the_entries_of_a_room_without_holes,
            shows_an_entry_as_it_was_appended,
            keeps_rooms_and_namespaces_apart,
            keeps_tenants_apart,
            lists_rooms_and_no_inboxes,
            pages_forwards_from_a_position,
            pages_backwards_from_the_end,
            reads_nothing_beyond_either_end,
            ends_a_page_at_its_bytes_but_reads_at_least_one_entry,
            a_position_before_the_first_entry_is_good,
            answers_a_gap_when_entries_after_the_position_are_gone,
            answers_a_gap_to_a_position_of_another_epoch,
            answers_a_gap_to_a_position_beyond_the_end,
            answers_a_gap_to_a_position_after_something_else_was_said,
            drops_what_is_too_old,
            a_log_that_was_given_up_does_not_use_its_epoch_again,
            keeps_the_log_of_a_room_in_use,
            answers_a_repetition_with_the_first_entry,
            takes_the_same_id_of_two_authors_for_two_publications,
            takes_the_name_of_an_event_for_nobodys_own,
            does_not_add_what_may_have_been_dropped,
            does_not_add_what_may_have_gone_with_a_log,
            forgets_an_id_with_its_entry,
            times_never_go_back,
        );
    };
    (@cases $log:expr, $($case:ident,)*) => {
        $(
            #[tokio::test]
            async fn $case() {
                $crate::room_log::contract::$case($log).await;
            }
        )*
    };
}
pub(crate) use room_log_contract;

pub(crate) fn room() -> RoomKey {
    RoomKey::parse("/chat", "lobby").unwrap()
}

pub(crate) fn publication(text: &str) -> Publication {
    let payload = format!(r#"{{"text":"{text}"}}"#).into();
    let event = "message".into();
    Publication {
        author: Author::Service,
        id: None,
        repeated_since_ms: None,
        event,
        payload,
        except_users: Box::default(),
    }
}

fn with_id(text: &str, id: &str) -> Publication {
    Publication { id: Some(PublicationId::Own(id.into())), ..publication(text) }
}

fn user(subject: &str) -> Author {
    Author::User(Arc::new(User::parse(subject, "test", b"{}").unwrap()))
}

async fn append(log: &impl RoomLog, text: &str) -> Arc<Entry> {
    match log.append(&room(), publication(text), 0).await.unwrap() {
        Appended::New(entry) => entry,
        other @ (Appended::Repeated(_) | Appended::Unknown) => panic!("{other:?}"),
    }
}

async fn append_all(log: &impl RoomLog, count: usize) -> Vec<Arc<Entry>> {
    let mut entries = Vec::new();
    for number in 0..count {
        entries.push(append(log, &number.to_string()).await);
    }
    entries
}

async fn read(log: &impl RoomLog, range: Range, count: usize) -> Result<Page, ReadError> {
    log.read(&room(), range, Limit { count, ..ALL }, 0).await
}

fn page(entries: &[Arc<Entry>], more: bool) -> Result<Page, ReadError> {
    Ok(Page { entries: entries.to_vec(), more })
}

pub(crate) async fn numbers_the_entries_of_a_room_without_holes(log: impl RoomLog) {
    let start = log.end(&room()).await.unwrap();

    let entries = append_all(&log, 3).await;

    assert_eq!(start.offset, 0);
    assert_eq!(entries.iter().map(|e| e.position.offset).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(entries.iter().all(|entry| entry.position.epoch == start.epoch));
    assert_eq!(log.end(&room()).await.unwrap(), entries[2].position);
}

pub(crate) async fn shows_an_entry_as_it_was_appended(log: impl RoomLog) {
    let news = Publication {
        event: "news".into(),
        except_users: ["ann".into(), "bob".into()].into(),
        ..with_id("hi", "one")
    };
    log.append(&room(), news, 5).await.unwrap();

    let page = read(&log, Range::Newest, 10).await.unwrap();

    let entry = &page.entries[0];
    assert_eq!((&*entry.event, &entry.payload[..]), ("news", &br#"{"text":"hi"}"#[..]));
    assert_eq!((entry.id().as_ref(), entry.at_ms), ("one", 5));
    assert_eq!(entry.except_users.iter().map(|user| &**user).collect::<Vec<_>>(), ["ann", "bob"]);
    assert_eq!(append(&log, "x").await.id(), log.end(&room()).await.unwrap().to_string());
}

pub(crate) async fn keeps_rooms_and_namespaces_apart(log: impl RoomLog) {
    let other = RoomKey::parse("/other", "lobby").unwrap();
    log.append(&other, with_id("there", "one"), 0).await.unwrap();

    let here = log.append(&room(), with_id("here", "one"), 0).await.unwrap();

    assert!(matches!(here, Appended::New(entry) if entry.position.offset == 1));
    assert_eq!(
        log.rooms(Realm::of_default("/chat")).await.unwrap(),
        [(room(), log.end(&room()).await.unwrap())]
    );
    assert_eq!(log.rooms(Realm::of_default("/nowhere")).await.unwrap(), []);
}

pub(crate) async fn keeps_tenants_apart(log: impl RoomLog) {
    let room_of = |tenant| RoomKey::parse_room(Realm { tenant, namespace: "/chat" }, "lobby");
    let rooms = ["", "acme", "acm", "acmee"].map(|tenant| room_of(tenant).unwrap());
    for room in &rooms {
        let said = with_id(room.tenant(), "one");
        let user = User::parse_of(room.tenant(), ("ann", "test"), b"{}").unwrap();
        let said = Publication { author: Author::User(Arc::new(user)), ..said };
        let appended = log.append(room, said, 0).await.unwrap();
        assert!(matches!(appended, Appended::New(entry) if entry.position.offset == 1));
    }

    for room in &rooms {
        let page = log.read(room, Range::Newest, ALL, 0).await.unwrap();
        let texts = page.entries.iter().map(|entry| entry.payload.clone());
        assert_eq!(texts.collect::<Vec<_>>(), [publication(room.tenant()).payload]);
        let end = log.end(room).await.unwrap();
        assert_eq!(log.rooms(room.realm()).await.unwrap(), [(room.clone(), end)]);
    }
}

pub(crate) async fn lists_rooms_and_no_inboxes(log: impl RoomLog) {
    let names = ["!", "?", "A", "lobby"];
    let realms = ["", "acme"].map(|tenant| Realm { tenant, namespace: "/chat" });
    for realm in realms {
        for name in names {
            let room = RoomKey::parse_room(realm, name).unwrap();
            log.append(&room, publication("x"), 0).await.unwrap();
        }
        for subject in ["ann", "\u{10ffff}"] {
            let inbox = RoomKey::inbox(realm, subject).unwrap();
            log.append(&inbox, publication("x"), 0).await.unwrap();
        }
    }

    for realm in realms {
        let mut rooms = log.rooms(realm).await.unwrap();
        rooms.sort_unstable_by(|(a, _), (b, _)| a.as_str().cmp(b.as_str()));
        let listed = rooms.iter().map(|(room, _)| (room.realm(), room.name_for_services()));
        assert_eq!(listed.collect::<Vec<_>>(), names.map(|name| (realm, name)));
    }
}

pub(crate) async fn pages_forwards_from_a_position(log: impl RoomLog) {
    let entries = append_all(&log, 5).await;

    let first = read(&log, Range::After(entries[0].position), 3).await;
    let second = read(&log, Range::After(entries[3].position), 3).await;
    let exact = read(&log, Range::After(entries[1].position), 3).await;

    assert_eq!(first, page(&entries[1..4], true));
    assert_eq!(second, page(&entries[4..], false));
    assert_eq!(exact, page(&entries[2..], false));
}

pub(crate) async fn pages_backwards_from_the_end(log: impl RoomLog) {
    let entries = append_all(&log, 5).await;

    let newest = read(&log, Range::Newest, 2).await;
    let before = read(&log, Range::Before(entries[3].position), 2).await;
    let oldest = read(&log, Range::Before(entries[1].position), 2).await;

    assert_eq!(newest, page(&entries[3..], true));
    assert_eq!(before, page(&entries[1..3], true));
    assert_eq!(oldest, page(&entries[..1], false));
}

pub(crate) async fn reads_nothing_beyond_either_end(log: impl RoomLog) {
    assert_eq!(read(&log, Range::Newest, 2).await, page(&[], false));

    let entries = append_all(&log, 2).await;

    assert_eq!(read(&log, Range::After(entries[1].position), 2).await, page(&[], false));
    assert_eq!(read(&log, Range::Before(entries[0].position), 2).await, page(&[], false));
}

pub(crate) async fn ends_a_page_at_its_bytes_but_reads_at_least_one_entry(log: impl RoomLog) {
    let entries = append_all(&log, 3).await;
    let start = Range::After(entries[0].position);

    let page = log.read(&room(), start, Limit { count: 10, bytes: 1 }, 0).await.unwrap();

    assert_eq!(page, Page { entries: entries[1..2].to_vec(), more: true });
}

pub(crate) async fn a_position_before_the_first_entry_is_good(log: impl RoomLog) {
    let start = log.end(&room()).await.unwrap();
    assert_eq!(read(&log, Range::After(start), 5).await, page(&[], false));

    let entries = append_all(&log, 2).await;

    assert_eq!(read(&log, Range::After(start), 5).await, page(&entries, false));
}

pub(crate) async fn answers_a_gap_when_entries_after_the_position_are_gone(log: impl RoomLog) {
    let start = log.end(&room()).await.unwrap();
    let entries = append_all(&log, COUNT_MAX.get() + 2).await;

    assert_eq!(read(&log, Range::After(start), 99).await, Err(Gap));
    assert_eq!(read(&log, Range::After(entries[0].position), 99).await, Err(Gap));
    assert_eq!(read(&log, Range::Before(entries[0].position), 99).await, Err(Gap));
    assert_eq!(read(&log, Range::After(entries[1].position), 99).await, page(&entries[2..], false));
}

pub(crate) async fn answers_a_gap_to_a_position_of_another_epoch(log: impl RoomLog) {
    let entry = append(&log, "x").await;
    let mut foreign = entry.position;
    foreign.epoch = foreign.epoch.wrapping_add(1);
    let nowhere = RoomKey::parse("/chat", "nowhere").unwrap();

    assert_eq!(read(&log, Range::After(foreign), 9).await, Err(Gap));
    assert_eq!(read(&log, Range::Before(foreign), 9).await, Err(Gap));
    assert_eq!(log.read(&nowhere, Range::After(foreign), ALL, 0).await, Err(Gap));
}

pub(crate) async fn answers_a_gap_to_a_position_beyond_the_end(log: impl RoomLog) {
    let mut beyond = append(&log, "x").await.position;
    beyond.offset += 1;

    assert_eq!(read(&log, Range::After(beyond), 9).await, Err(Gap));

    beyond.offset = u64::MAX;
    assert_eq!(read(&log, Range::After(beyond), 9).await, Err(Gap));
}

pub(crate) async fn answers_a_gap_to_a_position_after_something_else_was_said(log: impl RoomLog) {
    let start = log.end(&room()).await.unwrap();
    let entries = append_all(&log, COUNT_MAX.get() + 1).await;

    for position in [start, entries[0].position, entries[3].position, entries[8].position] {
        let other = Position { tag: position.tag ^ 1, ..position };
        assert_eq!(read(&log, Range::After(other), 99).await, Err(Gap));
        assert_eq!(read(&log, Range::Before(other), 99).await, Err(Gap));
    }
    assert_eq!(read(&log, Range::After(entries[0].position), 99).await, page(&entries[1..], false));
}

pub(crate) async fn drops_what_is_too_old(log: impl RoomLog) {
    let old = append(&log, "old").await;
    log.append(&room(), publication("young"), 1).await.unwrap();

    let newest = log.read(&room(), Range::Newest, ALL, TOO_LATE_MS).await.unwrap();
    let after = log.read(&room(), Range::After(old.position), ALL, TOO_LATE_MS).await.unwrap();

    assert_eq!(newest.entries.len(), 1);
    assert_eq!(newest, after);
}

pub(crate) async fn a_log_that_was_given_up_does_not_use_its_epoch_again(log: impl RoomLog) {
    let start = log.end(&room()).await.unwrap();
    let old = append(&log, "old").await;
    log.expire(TOO_LATE_MS, |_| false).await;
    assert_eq!(log.rooms(Realm::of_default("/chat")).await.unwrap(), []);
    assert_eq!(read(&log, Range::After(start), 9).await, Err(Gap));
    assert_eq!(read(&log, Range::After(old.position), 9).await, Err(Gap));

    let entries = append_all(&log, 2).await;

    assert_eq!(entries[0].position.offset, 1);
    assert_eq!(read(&log, Range::After(start), 9).await, Err(Gap));
    assert_eq!(read(&log, Range::After(old.position), 9).await, Err(Gap));
}

pub(crate) async fn keeps_the_log_of_a_room_in_use(log: impl RoomLog) {
    let old = append(&log, "old").await;

    log.expire(TOO_LATE_MS, |key| *key == room()).await;

    assert_eq!(
        log.read(&room(), Range::After(old.position), ALL, TOO_LATE_MS).await,
        page(&[], false)
    );
    let next = log.append(&room(), publication("next"), TOO_LATE_MS).await.unwrap();
    assert!(matches!(next, Appended::New(entry) if entry.position.offset == 2));
}

pub(crate) async fn answers_a_repetition_with_the_first_entry(log: impl RoomLog) {
    let first = log.append(&room(), with_id("first", "one"), 0).await.unwrap();
    append(&log, "between").await;

    let second = log.append(&room(), with_id("second", "one"), 1).await.unwrap();

    let Appended::New(first) = first else { panic!("{first:?}") };
    assert_eq!(second, Appended::Repeated(first));
    assert_eq!(log.end(&room()).await.unwrap().offset, 2);
}

pub(crate) async fn takes_the_same_id_of_two_authors_for_two_publications(log: impl RoomLog) {
    for author in [Author::Service, user("ann"), user("bob")] {
        let appended =
            log.append(&room(), Publication { author, ..with_id("x", "one") }, 0).await.unwrap();
        assert!(matches!(appended, Appended::New(_)));
    }
    let again = Publication { author: user("ann"), ..with_id("x", "one") };
    assert!(matches!(log.append(&room(), again, 0).await.unwrap(), Appended::Repeated(_)));
}

pub(crate) async fn takes_the_name_of_an_event_for_nobodys_own(log: impl RoomLog) {
    let event = |text: &str, name: u8| Publication {
        id: Some(PublicationId::Event([name; 16])),
        repeated_since_ms: Some(0),
        ..publication(text)
    };
    let first = log.append(&room(), event("first", b'a'), 0).await.unwrap();
    let Appended::New(first) = first else { panic!("{first:?}") };
    let own = log.append(&room(), with_id("own", &"a".repeat(16)), 0).await.unwrap();
    let other = log.append(&room(), event("other", b'b'), 0).await.unwrap();

    let again = log.append(&room(), event("again", b'a'), 1).await.unwrap();

    assert!(matches!((own, other), (Appended::New(_), Appended::New(_))));
    assert_eq!(first.id(), first.position.to_string());
    assert_eq!(again, Appended::Repeated(first));
}

pub(crate) async fn does_not_add_what_may_have_been_dropped(log: impl RoomLog) {
    let repeated =
        |since_ms| Publication { repeated_since_ms: Some(since_ms), ..with_id("again", "one") };
    for at_ms in 1..=COUNT_MAX.get() as u64 + 1 {
        log.append(&room(), publication("x"), at_ms).await.unwrap();
    }
    let end = log.end(&room()).await.unwrap();

    assert_eq!(log.append(&room(), repeated(2), 9).await.unwrap(), Appended::Unknown);
    assert_eq!(log.end(&room()).await.unwrap(), end);
    let later = log.append(&room(), repeated(3), 9).await.unwrap();
    assert!(matches!(later, Appended::New(_)), "what was dropped is older: {later:?}");
}

pub(crate) async fn does_not_add_what_may_have_gone_with_a_log(log: impl RoomLog) {
    let repeated =
        |since_ms| Publication { repeated_since_ms: Some(since_ms), ..with_id("again", "one") };
    log.append(&room(), with_id("first", "one"), 5).await.unwrap();
    log.expire(5 + TOO_LATE_MS, |_| false).await;
    assert_eq!(log.rooms(Realm::of_default("/chat")).await.unwrap(), []);

    let unknown = log.append(&room(), repeated(5), 5 + TOO_LATE_MS).await.unwrap();
    append(&log, "other").await;
    let unknown_still = log.append(&room(), repeated(5), 5 + TOO_LATE_MS).await.unwrap();
    let later = log.append(&room(), repeated(6), 5 + TOO_LATE_MS).await.unwrap();

    assert_eq!((unknown, unknown_still), (Appended::Unknown, Appended::Unknown));
    assert!(matches!(later, Appended::New(_)), "what was given up is older: {later:?}");
}

pub(crate) async fn forgets_an_id_with_its_entry(log: impl RoomLog) {
    log.append(&room(), with_id("first", "one"), 0).await.unwrap();
    append_all(&log, COUNT_MAX.get()).await;

    let again = log.append(&room(), with_id("again", "one"), 0).await.unwrap();

    assert!(matches!(again, Appended::New(_)));
}

pub(crate) async fn times_never_go_back(log: impl RoomLog) {
    log.append(&room(), publication("x"), 9).await.unwrap();
    log.append(&room(), publication("y"), 3).await.unwrap();

    let page = read(&log, Range::Newest, 9).await.unwrap();

    assert_eq!(page.entries.iter().map(|entry| entry.at_ms).collect::<Vec<_>>(), [9, 9]);
}
