//! Keeps the latest values of rooms, for those who join.

use std::{
    collections::{BTreeMap, HashMap},
    mem,
    sync::Arc,
};

use bytes::Bytes;

use crate::{
    declared_events::{DeclaredEvent, DeclaredEvents, RETAINED_COUNT_MAX, Retain},
    room_key::RoomKey,
    user::User,
};

/// Most bytes of one room's values. At the bound, those that were replaced longest ago go.
pub(crate) const ROOM_BYTES_MAX: usize = 128 * 1024;

/// What a value costs besides its texts, and what a room costs besides its values: estimates.
const VALUE_OVERHEAD_BYTES: usize = 200;
const ROOM_OVERHEAD_BYTES: usize = 300;

/// The latest values of the rooms of one worker.
#[derive(Debug)]
pub(crate) struct Retained {
    rooms: HashMap<RoomKey, Values>,
    bytes: usize,
    /// Of all rooms. At the bound, those that were quiet longest are forgotten.
    bytes_max: usize,
    changes: u64,
    /// Rooms with values out of entries that are not committed.
    unconfirmed: Vec<RoomKey>,
}

/// Which value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum ValueKey {
    /// The only one of its event.
    Single,
    /// That of a field's value, as JSON.
    Field(Box<str>),
    /// That of a user, for as long as the user is seen in the room.
    User(Arc<User>),
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Value {
    pub(crate) event: Arc<str>,
    /// JSON text: the object that the event carried.
    pub(crate) object: Bytes,
    /// Subjects that are never shown it.
    except_users: Box<[Box<str>]>,
    slot: (usize, ValueKey),
}

#[derive(Debug, Default)]
struct Values {
    /// Number of the event, and which of its values; to the number of the change that brought it.
    slots: HashMap<(usize, ValueKey), u64>,
    by_change: BTreeMap<u64, Value>,
    bytes: usize,
}

impl Retained {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { rooms: HashMap::new(), bytes: 0, bytes_max, changes: 0, unconfirmed: Vec::new() }
    }

    /// Whether the values of a room are known, be it that there are none.
    pub(crate) fn knows(&self, room: &RoomKey) -> bool {
        self.rooms.contains_key(room)
    }

    /// Notes that a room has no values but those that follow.
    pub(crate) fn begin(&mut self, room: &RoomKey) {
        if !self.knows(room) {
            self.bytes += ROOM_OVERHEAD_BYTES;
            self.forget_quiet_rooms();
            self.rooms.insert(room.clone(), Values::default());
        }
    }

    /// Keeps what an event carried, in place of what it carried before, or nothing if it says so. `args` is a JSON array of one object.
    pub(crate) fn keep(
        &mut self,
        room: &RoomKey,
        (event, key): (&DeclaredEvent, ValueKey),
        (args, except_users): (&Bytes, &[Box<str>]),
    ) {
        self.begin(room);
        let Some(values) = self.rooms.get_mut(room) else { return };
        self.changes += 1;
        let (slot, object) = ((event.number, key), args.slice(1..args.len() - 1));
        self.bytes -= values.bytes;
        if event.clears(&object) {
            values.clear(&slot);
        } else {
            let event_name = Arc::clone(&event.name);
            let except_users = except_users.into();
            let value = Value { event: event_name, object, except_users, slot };
            values.keep(self.changes, value, count_max(event));
        }
        self.bytes += values.bytes;
        self.forget_quiet_rooms();
    }

    /// Forgets what events of users have left of these, without a look at the room's other values.
    pub(crate) fn forget_users(
        &mut self,
        room: &RoomKey,
        events: &DeclaredEvents,
        users: &[Arc<User>],
    ) {
        let Some(values) = self.rooms.get_mut(room) else { return };
        self.bytes -= values.bytes;
        for event in events.iter().filter(|event| event.retain == Some(Retain::ByUser)) {
            for user in users {
                values.clear(&(event.number, ValueKey::User(Arc::clone(user))));
            }
        }
        self.bytes += values.bytes;
    }

    /// The values of a room that are for a user, those that were replaced last at the end.
    pub(crate) fn latest(&self, room: &RoomKey, user: &User) -> impl Iterator<Item = &Value> {
        let values = self.rooms.get(room).into_iter().flat_map(|values| values.by_change.values());
        values
            .filter(|value| !value.except_users.iter().any(|subject| **subject == *user.subject()))
    }

    /// Notes that what is kept of a room may be out of an entry that is not committed yet.
    pub(crate) fn note_unconfirmed(&mut self, room: &RoomKey) {
        if self.unconfirmed.last() != Some(room) {
            self.unconfirmed.push(room.clone());
        }
    }

    /// Takes note that all entries are committed.
    pub(crate) fn confirm(&mut self) {
        self.unconfirmed.clear();
    }

    /// Forgets the rooms with values out of entries that could not be committed. What is in the log is found again.
    pub(crate) fn forget_unconfirmed(&mut self) {
        for room in mem::take(&mut self.unconfirmed) {
            self.forget_room(&room);
        }
    }

    fn forget_room(&mut self, room: &RoomKey) {
        if let Some(values) = self.rooms.remove(room) {
            self.bytes -= values.bytes + ROOM_OVERHEAD_BYTES;
        }
    }

    /// Past the bound, forgets rooms until an eighth of it is free, so that this is seldom done.
    fn forget_quiet_rooms(&mut self) {
        if self.bytes <= self.bytes_max {
            return;
        }
        let last_change =
            |values: &Values| values.by_change.last_key_value().map(|(last, _)| *last);
        let rooms = self.rooms.iter();
        let mut quiet: Vec<_> =
            rooms.map(|(room, values)| (last_change(values), room.clone())).collect();
        quiet.sort_unstable_by_key(|(last_change, _)| *last_change);
        quiet.pop();
        for (_, room) in quiet {
            if self.bytes <= self.bytes_max - self.bytes_max / 8 {
                return;
            }
            self.forget_room(&room);
        }
    }
}

impl Values {
    fn keep(&mut self, change: u64, value: Value, count_max: usize) {
        let event = value.slot.0;
        if let Some(replaced) = self.slots.insert(value.slot.clone(), change) {
            self.remove(replaced);
        } else if self.slots.keys().filter(|(of, _)| *of == event).count() > count_max {
            let oldest = self.by_change.iter().find(|(_, value)| value.slot.0 == event);
            self.forget(oldest.map(|(change, _)| *change));
        }
        self.bytes += value.cost();
        self.by_change.insert(change, value);
        while self.bytes > ROOM_BYTES_MAX && self.by_change.len() > 1 {
            self.forget(self.by_change.first_key_value().map(|(change, _)| *change));
        }
    }

    fn clear(&mut self, slot: &(usize, ValueKey)) {
        if let Some(change) = self.slots.remove(slot) {
            self.remove(change);
        }
    }

    fn forget(&mut self, change: Option<u64>) {
        if let Some(value) = change.and_then(|change| self.remove(change)) {
            self.slots.remove(&value.slot);
        }
    }

    fn remove(&mut self, change: u64) -> Option<Value> {
        let value = self.by_change.remove(&change)?;
        self.bytes -= value.cost();
        Some(value)
    }
}

impl Value {
    fn cost(&self) -> usize {
        let key = match &self.slot.1 {
            ValueKey::Field(value) => value.len(),
            ValueKey::Single | ValueKey::User(_) => 0,
        };
        self.object.len() + 2 * key + VALUE_OVERHEAD_BYTES
    }
}

fn count_max(event: &DeclaredEvent) -> usize {
    match &event.retain {
        Some(Retain::ByField { count_max, .. }) => count_max.get(),
        Some(Retain::Single | Retain::ByUser) | None => RETAINED_COUNT_MAX.get(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{declared_events::read_events, toml_file::TomlFile};

    const EVENT: &str =
        "audience = 'room'\nschema = { required = ['k'], properties = { k = true, gone = true } }";

    fn events(retain: &str) -> DeclaredEvents {
        let text = format!("[event.e]\n{EVENT}\nretain = {retain}");
        let mut file = TomlFile::new(Path::new("ns.toml"), &text);
        let mut fields = file.fields();
        let events = read_events(&mut file, &mut fields, &mut 0);
        file.finish().unwrap();
        events
    }

    fn event(retain: &str) -> Arc<DeclaredEvent> {
        Arc::clone(events(retain).get("e").unwrap())
    }

    fn room(name: &str) -> RoomKey {
        RoomKey::parse("/", name).unwrap()
    }

    fn user(subject: &str) -> User {
        User::parse(subject, "test", b"{}").unwrap()
    }

    fn field(key: usize) -> ValueKey {
        ValueKey::Field(key.to_string().into())
    }

    fn args(text: &str) -> Bytes {
        Bytes::from(format!("[{{\"v\":\"{text}\"}}]"))
    }

    fn latest(retained: &Retained, room: &RoomKey) -> Vec<String> {
        let bob = user("bob");
        let values = retained.latest(room, &bob);
        values.map(|value| String::from_utf8(value.object.to_vec()).unwrap()).collect()
    }

    #[test]
    fn a_value_replaces_the_one_before_and_stands_at_the_end() {
        let (event, lobby) = (event("{ key = 'k' }"), room("lobby"));
        let mut retained = Retained::new(usize::MAX);
        for (key, text) in [(1, "a"), (2, "b"), (1, "c")] {
            retained.keep(&lobby, (&event, field(key)), (&args(text), &[]));
        }

        assert_eq!(latest(&retained, &lobby), [r#"{"v":"b"}"#, r#"{"v":"c"}"#]);
        assert_eq!(latest(&retained, &room("other")), [""; 0]);
    }

    #[test]
    fn a_value_is_not_shown_to_those_it_excepts() {
        let (event, lobby) = (event("true"), room("lobby"));
        let mut retained = Retained::new(usize::MAX);
        let except_users = ["ann".into()];
        retained.keep(&lobby, (&event, ValueKey::Single), (&args("a"), &except_users));

        assert_eq!(retained.latest(&lobby, &user("ann")).count(), 0);
        assert_eq!(retained.latest(&lobby, &user("bob")).count(), 1);
    }

    #[test]
    fn an_event_has_as_many_values_as_it_may_and_the_oldest_go() {
        let (event, lobby) = (event("{ key = 'k', count_max = 3 }"), room("lobby"));
        let mut retained = Retained::new(usize::MAX);
        for key in 0..10 {
            retained.keep(&lobby, (&event, field(key)), (&args(&key.to_string()), &[]));
        }

        assert_eq!(latest(&retained, &lobby), [7, 8, 9].map(|key| format!("{{\"v\":\"{key}\"}}")));
    }

    #[test]
    fn a_room_holds_so_many_bytes_and_one_value_at_least() {
        let (event, lobby) = (event("{ key = 'k' }"), room("lobby"));
        let mut retained = Retained::new(usize::MAX);
        let third = "x".repeat(ROOM_BYTES_MAX / 3);
        for key in 0..5 {
            retained.keep(&lobby, (&event, field(key)), (&args(&third), &[]));
        }
        assert_eq!(latest(&retained, &lobby).len(), 2);

        retained.keep(&lobby, (&event, field(9)), (&args(&"x".repeat(ROOM_BYTES_MAX)), &[]));
        assert_eq!(latest(&retained, &lobby).len(), 1);
    }

    #[test]
    fn a_value_that_is_cleared_costs_nothing_any_more() {
        let event = event("{ key = 'k', count_max = 2, cleared_by = 'gone' }");
        let lobby = room("lobby");
        let mut retained = Retained::new(usize::MAX);
        retained.begin(&lobby);
        let empty = retained.bytes;
        let cleared = Bytes::from_static(b"[{\"v\":\"\",\"gone\":true}]");
        for key in 0..1000 {
            retained.keep(&lobby, (&event, field(key)), (&args("a"), &[]));
            retained.keep(&lobby, (&event, field(key)), (&cleared, &[]));
        }
        assert_eq!((latest(&retained, &lobby), retained.bytes), (vec![], empty));
        assert!(retained.rooms[&lobby].slots.is_empty());

        let kept = Bytes::from_static(b"[{\"gone\":false}]");
        retained.keep(&lobby, (&event, field(1)), (&kept, &[]));
        retained.keep(&lobby, (&event, field(2)), (&cleared, &[]));
        assert_eq!(latest(&retained, &lobby), [r#"{"gone":false}"#]);
    }

    #[test]
    fn the_rooms_that_were_quiet_longest_are_forgotten_when_all_of_them_hold_too_much() {
        let event = event("true");
        let mut retained = Retained::new(100 * 1024);
        let kept = args(&"x".repeat(10_000));
        let rooms: Vec<_> = (0..30).map(|number| room(&number.to_string())).collect();
        for room in &rooms {
            retained.keep(room, (&event, ValueKey::Single), (&kept, &[]));
            assert!(retained.bytes <= retained.bytes_max);
        }

        assert!(retained.knows(&rooms[29]) && retained.knows(&rooms[25]));
        assert!(!retained.knows(&rooms[0]) && !retained.knows(&rooms[15]));
    }

    #[test]
    fn rooms_without_values_are_forgotten_when_there_are_too_many() {
        let (event, with_value) = (event("true"), room("with a value"));
        let mut retained = Retained::new(10_000);
        retained.keep(&with_value, (&event, ValueKey::Single), (&args("a"), &[]));
        for number in 0..1000 {
            let room = room(&number.to_string());
            retained.begin(&room);
            assert!(retained.knows(&room) && retained.bytes <= retained.bytes_max);
        }

        assert!(retained.knows(&with_value));
    }

    #[test]
    fn what_is_forgotten_is_not_counted() {
        let (events, lobby) = (events("{ key = 'user' }"), room("lobby"));
        let event = events.get("e").unwrap();
        let users = ["ann", "bob", "cat"].map(|subject| Arc::new(user(subject)));
        let mut retained = Retained::new(usize::MAX);
        retained.begin(&lobby);
        let empty = retained.bytes;
        for user in &users {
            let (key, text) = (ValueKey::User(Arc::clone(user)), args(user.subject()));
            retained.keep(&lobby, (event, key), (&text, &[]));
        }
        retained.forget_users(&lobby, &events, &users[..2]);
        assert_eq!(latest(&retained, &lobby), [r#"{"v":"cat"}"#]);

        let values = &retained.rooms[&lobby];
        assert_eq!((values.slots.len(), values.by_change.len()), (1, 1));
        assert_eq!(retained.bytes - empty, values.bytes);
        retained.note_unconfirmed(&lobby);
        retained.forget_unconfirmed();
        assert_eq!((retained.bytes, retained.knows(&lobby)), (0, false));
    }

    #[test]
    fn only_rooms_whose_entries_could_not_be_committed_are_forgotten() {
        let event = event("true");
        let rooms = ["confirmed", "volatile", "lost"].map(room);
        let mut retained = Retained::new(usize::MAX);
        for room in &rooms {
            retained.keep(room, (&event, ValueKey::Single), (&args("a"), &[]));
        }
        retained.note_unconfirmed(&rooms[0]);
        retained.confirm();
        retained.note_unconfirmed(&rooms[2]);

        retained.forget_unconfirmed();

        assert_eq!(rooms.map(|room| retained.knows(&room)), [true, true, false]);
    }
}
