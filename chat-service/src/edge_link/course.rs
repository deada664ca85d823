//! Remembers how far the log of each room had been sent over a life of a link after each of its emits, so that it can be said
//! later what a client has been given that knows which emit was its last.

use std::collections::{HashMap, VecDeque};

use super::instructions::Note;
use crate::{room_key::RoomKey, room_log::Position};

/// Most steps that are remembered of one room. Logs keep about as many entries; whoever stands before them has missed
/// more than can be had.
const STEPS_MAX: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Course {
    /// How many emits with a position were put into the outbox. The edge counts the same.
    emits: u64,
    /// The rooms of those that may come back, by their handles. Rooms are followed for them only.
    sockets: HashMap<u64, Vec<Stay>>,
    rooms: HashMap<RoomKey, RoomCourse>,
}

#[derive(Debug)]
struct Stay {
    room: RoomKey,
    start: Step,
}

/// Where sockets stand in a room from an emit on; none if that is not the same for all of them, or not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Step {
    emit: u64,
    position: Option<Position>,
}

#[derive(Debug, Default)]
struct RoomCourse {
    stays: usize,
    steps: VecDeque<Step>,
    /// The last step that is not remembered any more.
    forgotten: u64,
}

impl Course {
    /// Follows a socket from now on.
    pub(super) fn follow(&mut self, handle: u64) {
        self.sockets.entry(handle).or_default();
    }

    /// A socket is gone.
    pub(super) fn forget(&mut self, handle: u64) {
        for stay in self.sockets.remove(&handle).unwrap_or_default() {
            self.end_stay(&stay.room);
        }
    }

    /// A socket is in a room, and stands at this position, or nobody knows where.
    pub(super) fn enter(&mut self, handle: u64, room: RoomKey, position: Option<Position>) {
        let Some(stays) = self.sockets.get_mut(&handle) else { return };
        let start = Step { emit: self.emits, position };
        if let Some(stay) = stays.iter_mut().find(|stay| stay.room == room) {
            stay.start = start;
            return;
        }
        self.rooms.entry(room.clone()).or_default().stays += 1;
        stays.push(Stay { room, start });
    }

    /// A socket has left a room.
    pub(super) fn leave(&mut self, handle: u64, room: &RoomKey) {
        let Some(stays) = self.sockets.get_mut(&handle) else { return };
        if let Some(place) = stays.iter().position(|stay| stay.room == *room) {
            stays.swap_remove(place);
            self.end_stay(room);
        }
    }

    fn end_stay(&mut self, room: &RoomKey) {
        let Some(course) = self.rooms.get_mut(room) else { return };
        course.stays -= 1;
        if course.stays == 0 {
            self.rooms.remove(room);
        }
    }

    /// Notes what the edge is going to be told.
    pub(super) fn note(&mut self, note: &Note) {
        match note {
            Note::Logged { room, position } => self.note_emit(room, *position),
            Note::Join { handle, room, position } => {
                self.enter(*handle, room.clone(), Some(*position));
            }
            Note::Leave { handle, room } => self.leave(*handle, room),
            Note::Nothing | Note::Answer | Note::Volatile => {}
        }
    }

    fn note_emit(&mut self, room: &RoomKey, position: Option<Position>) {
        self.emits += 1;
        // Mostly nobody is followed.
        if self.rooms.is_empty() {
            return;
        }
        let Some(course) = self.rooms.get_mut(room) else { return };
        if course.steps.len() == STEPS_MAX
            && let Some(step) = course.steps.pop_front()
        {
            course.forgotten = step.emit;
        }
        course.steps.push_back(Step { emit: self.emits, position });
    }

    /// Where a socket stood in each of its rooms when it had been given the first `delivered` of the emits; none if nobody
    /// can tell.
    pub(super) fn standing(&self, handle: u64, delivered: u64) -> Option<Vec<(RoomKey, Position)>> {
        if delivered > self.emits {
            return None;
        }
        let stays = self.sockets.get(&handle)?.iter();
        let standing = stays.map(|Stay { room, start }| {
            let course = self.rooms.get(room)?;
            let steps = course.steps.partition_point(|step| step.emit <= delivered);
            let last = steps.checked_sub(1).and_then(|last| course.steps.get(last));
            let step = match last.filter(|step| step.emit > start.emit) {
                Some(step) => step,
                // Steps between the two may be forgotten.
                None if course.forgotten > start.emit && delivered > start.emit => return None,
                None => start,
            };
            Some((room.clone(), step.position?))
        });
        standing.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HANDLE: u64 = 7;

    fn position(offset: u64) -> Position {
        Position { epoch: 1, offset, tag: 0 }
    }

    fn room(name: &str) -> RoomKey {
        RoomKey::parse("/chat", name).unwrap()
    }

    fn course() -> Course {
        let mut course = Course::default();
        course.follow(HANDLE);
        course
    }

    fn join(course: &mut Course, handle: u64, name: &str, offset: u64) {
        course.note(&Note::Join { handle, room: room(name), position: position(offset) });
    }

    fn emit(course: &mut Course, name: &str, offset: u64) {
        course.note(&Note::Logged { room: room(name), position: Some(position(offset)) });
    }

    fn standing(course: &Course, delivered: u64) -> Option<Vec<(String, u64)>> {
        let rooms = course.standing(HANDLE, delivered)?.into_iter();
        let mut rooms: Vec<_> = rooms
            .map(|(room, position)| (room.name_for_edges().to_owned(), position.offset))
            .collect();
        rooms.sort();
        Some(rooms)
    }

    fn pairs<const N: usize>(rooms: [(&str, u64); N]) -> Option<Vec<(String, u64)>> {
        Some(rooms.map(|(room, offset)| (room.to_owned(), offset)).into())
    }

    #[test]
    fn one_number_tells_where_a_socket_stands_in_each_of_its_rooms() {
        let mut course = course();
        join(&mut course, HANDLE, "a", 10);
        emit(&mut course, "a", 11); // 1
        join(&mut course, HANDLE, "b", 20);
        emit(&mut course, "a", 12); // 2
        emit(&mut course, "b", 21); // 3
        emit(&mut course, "elsewhere", 99); // 4
        emit(&mut course, "a", 13); // 5

        assert_eq!(standing(&course, 0), pairs([("a", 10), ("b", 20)]));
        assert_eq!(standing(&course, 1), pairs([("a", 11), ("b", 20)]));
        assert_eq!(standing(&course, 3), pairs([("a", 12), ("b", 21)]));
        assert_eq!(standing(&course, 4), pairs([("a", 12), ("b", 21)]));
        assert_eq!(standing(&course, 5), pairs([("a", 13), ("b", 21)]));
        assert_eq!(standing(&course, 6), None, "it has not been sent");
        assert_eq!(course.standing(8, 0), None, "nobody follows it");
    }

    #[test]
    fn nothing_from_before_a_join_is_owed() {
        let mut course = course();
        course.follow(8);
        join(&mut course, 8, "a", 10);
        emit(&mut course, "a", 11); // 1
        join(&mut course, HANDLE, "a", 11);
        emit(&mut course, "a", 12); // 2
        join(&mut course, HANDLE, "a", 12);

        assert_eq!(standing(&course, 0), pairs([("a", 12)]));
        assert_eq!(standing(&course, 2), pairs([("a", 12)]));
    }

    #[test]
    fn who_is_given_what_it_missed_is_not_taken_for_the_others() {
        let mut course = course();
        join(&mut course, HANDLE, "a", 10);
        course.note(&Note::Logged { room: room("a"), position: None }); // 1
        assert_eq!(standing(&course, 0), pairs([("a", 10)]));
        assert_eq!(standing(&course, 1), None);

        emit(&mut course, "a", 11); // 2
        assert_eq!(standing(&course, 1), None);
        assert_eq!(standing(&course, 2), pairs([("a", 11)]));
    }

    #[test]
    fn where_a_socket_came_in_unseen_it_stands_with_the_next_emit() {
        let mut course = course();
        course.enter(HANDLE, room("a"), None);
        assert_eq!(standing(&course, 0), None);

        emit(&mut course, "a", 11); // 1
        assert_eq!(standing(&course, 1), pairs([("a", 11)]));
    }

    #[test]
    fn remembers_within_bounds_and_nothing_once_everyone_has_left() {
        let mut course = course();
        join(&mut course, HANDLE, "a", 0);
        let steps = STEPS_MAX as u64 + 10;
        for offset in 1..=steps {
            emit(&mut course, "a", offset);
        }
        assert_eq!(course.rooms[&room("a")].steps.len(), STEPS_MAX);
        assert_eq!(standing(&course, 5), None);
        assert_eq!(standing(&course, 10), None);
        assert_eq!(standing(&course, 11), pairs([("a", 11)]));
        assert_eq!(standing(&course, 0), pairs([("a", 0)]), "it has seen nothing since it joined");

        course.note(&Note::Leave { handle: HANDLE, room: room("a") });
        assert_eq!(standing(&course, steps), pairs([]));
        join(&mut course, HANDLE, "b", 0);
        course.forget(HANDLE);
        assert!(course.rooms.is_empty() && course.sockets.is_empty());
    }
}
