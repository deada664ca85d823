//! What clients have seen and the faults that were made, in order: all that the checker goes by.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use crate::{determinism, trace::Trace};

/// A position of a room's log, as opaque as it is to every client.
pub(crate) type Position = String;

/// A logged message as a client got it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) room: String,
    pub(crate) id: String,
    pub(crate) user: String,
    pub(crate) text: String,
    pub(crate) position: Position,
}

/// Something that a client saw or did.
#[derive(Debug, Clone)]
pub(crate) enum Seen {
    /// It was let in by an edge, with a token that ends at a time.
    Connected {
        edge: usize,
        expires: Duration,
    },
    /// The connection is gone. `by_client` says why, where the client gave it up itself.
    Closed {
        edge: usize,
        by_client: Option<&'static str>,
        code: Option<u16>,
    },
    /// It has asked to be let into a room.
    Joining {
        room: String,
    },
    Joined(Joined),
    /// It has asked to be out of a room.
    Leaving {
        room: String,
    },
    Left {
        room: String,
    },
    Message(Message),
    /// It was told that it has missed something.
    Gap {
        room: String,
    },
    /// It sends a message for the first time.
    Sent {
        room: String,
        id: String,
    },
    Acked {
        room: String,
        id: String,
        position: Position,
    },
    /// An event was answered with an error.
    Refused {
        event: &'static str,
        room: String,
        code: String,
        edge: usize,
    },
    /// An event was not answered at all.
    Unanswered {
        event: &'static str,
        edge: usize,
    },
    /// It was told who has come and gone, or instead of that who is there.
    Notice {
        room: String,
        joined: Vec<String>,
        left: Vec<String>,
        users: Option<Vec<String>>,
    },
    /// Who is there, as asked.
    Present {
        room: String,
        users: Vec<String>,
    },
    /// A room's whole log, oldest first.
    Log {
        room: String,
        messages: Vec<Message>,
    },
    /// Something that nobody can make sense of.
    Nonsense {
        text: String,
    },
}

impl Seen {
    /// Whether an edge has sent it, and the client has made sense of it.
    pub(crate) fn is_from_edge(&self) -> bool {
        match self {
            Self::Joined(_)
            | Self::Left { .. }
            | Self::Message(_)
            | Self::Gap { .. }
            | Self::Acked { .. }
            | Self::Refused { .. }
            | Self::Notice { .. }
            | Self::Present { .. }
            | Self::Log { .. } => true,
            Self::Connected { .. }
            | Self::Closed { .. }
            | Self::Joining { .. }
            | Self::Leaving { .. }
            | Self::Sent { .. }
            | Self::Unanswered { .. }
            | Self::Nonsense { .. } => false,
        }
    }
}

/// The answer to a join.
#[derive(Debug, Clone)]
pub(crate) struct Joined {
    pub(crate) room: String,
    pub(crate) since: Option<Position>,
    pub(crate) position: Position,
    pub(crate) recovered: bool,
    pub(crate) messages: Vec<Message>,
    pub(crate) members: Vec<String>,
}

#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) at: Duration,
    pub(crate) client: usize,
    pub(crate) seen: Seen,
}

/// Which part of the simulation it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Clients do as they like, while things break.
    Chaos,
    /// Nothing is broken any more. Clients finish what they have begun, and begin nothing.
    Healed,
    /// Each client sends one last message to each of its rooms.
    LastWords,
    /// Each client asks who is there and what was said.
    Questions,
}

/// What clients, faults and the checker share.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) events: RefCell<Vec<Event>>,
    pub(crate) phase: Cell<Phase>,
    /// Of each client: whether it has done all that the phase asks for.
    pub(crate) is_done: RefCell<Vec<bool>>,
    /// How often a phase was entered.
    pub(crate) round: Cell<u64>,
    prints: bool,
}

impl History {
    pub(crate) fn new(clients: usize, prints: bool) -> Rc<Self> {
        Rc::new(Self {
            events: RefCell::default(),
            phase: Cell::new(Phase::Chaos),
            is_done: RefCell::new(vec![false; clients]),
            round: Cell::new(0),
            prints,
        })
    }

    pub(crate) fn note(&self, client: usize, seen: Seen) {
        let event = Event { at: determinism::elapsed(), client, seen };
        let text = format!("{event:?}");
        Trace::note(text.as_bytes());
        self.print(&text);
        self.events.borrow_mut().push(event);
    }

    /// Writes down what was done to the system.
    pub(crate) fn note_fault(&self, text: &str) {
        Trace::note(text.as_bytes());
        self.print(&format!("{:?} {text}", determinism::elapsed()));
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.is_done.borrow_mut().fill(false);
        self.phase.set(phase);
        self.round.set(self.round.get() + 1);
        self.note_fault(&format!("phase {phase:?}"));
    }

    pub(crate) fn all_done(&self) -> bool {
        self.is_done.borrow().iter().all(|is_done| *is_done)
    }

    #[expect(clippy::print_stderr, reason = "whoever looks into a seed wants to see it")]
    fn print(&self, text: &str) {
        if self.prints {
            eprintln!("{text}");
        }
    }
}
