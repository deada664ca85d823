//! Latest values of users, who come and go in every way.

use std::path::Path;

use super::*;
use crate::{
    declared_events::Data,
    namespaces::{NamespaceSettings, Namespaces},
    room_log::{Durability, Retention, contract::AGE_MAX},
};

/// An event of which the latest value of each user is kept.
pub(super) const POINTER: &str = "pointer";

const EVENTS: &str = r#"
    [namespace."/chat".event.pointer]
    audience = "room"
    retain = { key = "user" }
    schema = {}
"#;

pub(super) fn namespaces() -> Arc<Namespaces> {
    let retention = Retention { count_max: COUNT_MAX, age_max: AGE_MAX };
    let settings = NamespaceSettings { retention, durability: Durability::Memory };
    Arc::new(Namespaces::parse(Path::new("ns.toml"), EVENTS, settings).unwrap())
}

impl World {
    pub(super) fn pointing(&self) -> Action {
        let events = self.worker.namespaces.events(room().namespace()).unwrap();
        let event = Arc::clone(events.get(POINTER).unwrap());
        Action::Declared { event, data: Data { fields: "".into(), key: None }, id: None }
    }

    /// Whose values are kept.
    fn pointing_users(&self) -> BTreeSet<String> {
        let nobody = User::parse("nobody", "test", b"{}").unwrap();
        let room = room();
        let values = self.worker.retained.latest(&room, &nobody);
        let objects =
            values.map(|value| serde_json::from_slice::<serde_json::Value>(&value.object).unwrap());
        objects.map(|object| object["user"]["id"].as_str().unwrap().to_owned()).collect()
    }

    fn seen_users(&self) -> BTreeSet<String> {
        let room = self.worker.rooms.get(&room());
        room.into_iter().flat_map(Room::seen).map(|user| user.subject().to_owned()).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn the_latest_value_of_a_user_is_kept_for_the_grace_and_no_longer() {
    let mut world = World::new();
    for step in [Step::Come(0, 7), Step::Point(0, 0), Step::Close(0, 0, Departure::Lost)] {
        world.take(&step).await;
    }

    world.wait(GRACE - Duration::from_millis(1)).await;
    assert_eq!(world.pointing_users(), ["7".to_owned()].into());

    world.wait(Duration::from_millis(1)).await;
    assert_eq!(world.pointing_users(), [].into());
}

#[tokio::test(start_paused = true)]
async fn the_latest_value_of_a_user_is_kept_until_its_last_socket_has_left() {
    let mut world = World::new();
    for step in [Step::Come(0, 7), Step::Come(1, 7), Step::Point(0, 0), Step::Leave(0, 0)] {
        world.take(&step).await;
    }
    assert_eq!(world.pointing_users(), ["7".to_owned()].into());

    world.take(&Step::Leave(1, 0)).await;
    assert_eq!(world.pointing_users(), [].into());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_latest_value_is_kept_of_a_user_who_is_not_seen(
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut world = World::new();
            for step in &steps {
                world.take(step).await;

                let (pointing, seen) = (world.pointing_users(), world.seen_users());
                assert!(pointing.is_subset(&seen), "{pointing:?} of {seen:?} after {step:?}");
            }
        });
    }
}
