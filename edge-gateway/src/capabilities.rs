//! Keeps equal capabilities of a shard's sockets once: what a business service is told of them, the edge does not read.

use std::{cell::RefCell, collections::HashSet, rc::Rc};

use proto::auth::v1::Capability;

/// How many lists there may be before those that nobody has any more are looked for.
const SWEEP_MIN: usize = 64;

/// What somebody may do in rooms, as the auth service says it. Absent: nothing.
pub(crate) type Capabilities = Option<Rc<Vec<Capability>>>;

/// The lists that sockets of a shard have.
#[derive(Debug, Default)]
pub(crate) struct SharedCapabilities {
    state: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    lists: HashSet<Rc<Vec<Capability>>>,
    /// With so many lists, those that nobody has are looked for.
    sweep_at: usize,
}

impl SharedCapabilities {
    /// Returns the list that is equal to this one.
    pub(crate) fn share(&self, list: Vec<Capability>) -> Capabilities {
        if list.is_empty() {
            return None;
        }
        let mut state = self.state.borrow_mut();
        if let Some(known) = state.lists.get(&list) {
            return Some(Rc::clone(known));
        }
        if state.lists.len() >= state.sweep_at {
            state.lists.retain(|list| Rc::strong_count(list) > 1);
            // So that a sweep costs each list that came since a bounded share.
            state.sweep_at = SWEEP_MIN.max(2 * state.lists.len());
        }
        let list = Rc::new(list);
        state.lists.insert(Rc::clone(&list));
        Some(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(room: &str) -> Vec<Capability> {
        vec![Capability { rooms: vec![room.to_owned()], ..Capability::default() }]
    }

    #[test]
    fn equal_capabilities_are_kept_once_and_as_long_as_somebody_has_them() {
        let shared = SharedCapabilities::default();
        let kept = shared.share(list("a")).unwrap();

        assert!(Rc::ptr_eq(&kept, &shared.share(list("a")).unwrap()));
        assert!(!Rc::ptr_eq(&kept, &shared.share(list("b")).unwrap()));
        assert_eq!(shared.share(Vec::new()), None);
        for number in 0..10_000 {
            shared.share(list(&number.to_string())).unwrap();
            assert!(shared.state.borrow().lists.len() <= SWEEP_MIN);
        }
        assert!(Rc::ptr_eq(&kept, &shared.share(list("a")).unwrap()));
        let held: Vec<_> =
            (0..1000).map(|number| shared.share(list(&number.to_string()))).collect();
        assert!(shared.state.borrow().lists.len() <= 2 * held.len());
    }
}
