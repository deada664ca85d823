//! How far a room's log has reached one user.

use crate::{
    room_log::{KeptStanding, KeptStretch, Position},
    user::User,
};

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    /// What came before the user did is nothing that it has missed.
    pub(super) known_since: u64,
    earlier: Option<(u64, u64)>,
    stretch: Option<Stretch>,
    /// When the end of the stretch is known to have arrived; 0 before that.
    delivered_at_ms: u64,
    /// Since when it has no socket in the room, as far as that was noticed.
    pub(super) away_since_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) after: Position,
    pub(crate) end: Position,
}

impl Standing {
    pub(super) fn at(position: Position) -> Self {
        Self {
            known_since: position.offset,
            earlier: None,
            stretch: Some(Stretch { after: position, end: position }),
            delivered_at_ms: 0,
            away_since_ms: None,
        }
    }

    /// Of one that has got nothing, and was to get everything.
    fn with_nothing(away_since_ms: Option<u64>) -> Self {
        Self { known_since: 0, earlier: None, stretch: None, delivered_at_ms: 0, away_since_ms }
    }

    /// The stretch, and when its end is known to have arrived; none while nothing is.
    pub(crate) fn delivered(&self) -> Option<(Stretch, u64)> {
        self.stretch.filter(|_| self.delivered_at_ms > 0).map(|one| (one, self.delivered_at_ms))
    }

    /// Whether the user was to get the entry at an offset, and is not known to have got it.
    pub(crate) fn is_behind(&self, offset: u64) -> bool {
        let now = self.stretch.map(|stretch| (stretch.after.offset, stretch.end.offset));
        let has = |(after, end): (u64, u64)| after < offset && offset <= end;
        offset > self.known_since && !now.into_iter().chain(self.earlier).any(has)
    }

    /// Whether it goes on behind something that it has not got, and did not before.
    pub(crate) fn skips_since(&self, before: &Self) -> bool {
        self.earlier != before.earlier || (self.is_cut() && !before.is_cut())
    }

    /// Whether it goes on where nobody could tell: there is no stretch to add to until it is cut where that is known.
    pub(super) fn is_cut(&self) -> bool {
        self.stretch.is_none() && self.earlier.is_some()
    }

    /// Where nothing else is known, it begins here.
    pub(super) fn begin(&mut self, at: Position) {
        if !self.is_cut() {
            self.stretch.get_or_insert(Stretch { after: at, end: at });
        }
    }

    pub(super) fn extend(&mut self, end: Position, now_ms: u64) {
        if self.is_cut() {
            return;
        }
        let stretch = self.stretch.get_or_insert(Stretch { after: end, end });
        if end.offset > stretch.end.offset {
            stretch.end = end;
            self.delivered_at_ms = now_ms;
        } else if end == stretch.end && self.delivered_at_ms == 0 {
            self.delivered_at_ms = now_ms;
        }
    }

    pub(super) fn cut(&mut self, position: Position) {
        let Some(stretch) = &mut self.stretch else {
            self.stretch = Some(Stretch { after: position, end: position });
            self.delivered_at_ms = 0;
            return;
        };
        if position.offset > stretch.end.offset {
            self.earlier = Some((stretch.after.offset, stretch.end.offset));
            *stretch = Stretch { after: position, end: position };
            self.delivered_at_ms = 0;
        }
    }

    /// As [`cut`](Self::cut), where nobody can tell.
    pub(super) fn cut_somewhere(&mut self) {
        let stretch = self.stretch.take();
        let before = stretch.map(|stretch| (stretch.after.offset, stretch.end.offset));
        self.earlier = before.or(self.earlier).or(Some((0, 0)));
        self.delivered_at_ms = 0;
    }

    /// It is of another life of the log.
    pub(super) fn lose_all(&mut self) {
        let was_cut = self.is_cut();
        *self = Self::with_nothing(self.away_since_ms);
        if was_cut {
            self.cut_somewhere();
        }
    }

    /// As it is kept.
    pub(super) fn to_kept(self, user: &User, epoch: u64) -> KeptStanding {
        let kept = |stretch: Stretch| KeptStretch {
            after_offset: stretch.after.offset,
            after_tag: stretch.after.tag,
            end_offset: stretch.end.offset,
            end_tag: stretch.end.tag,
        };
        let earlier = |(after_offset, end_offset)| KeptStretch {
            after_offset,
            end_offset,
            ..KeptStretch::default()
        };
        KeptStanding {
            subject: user.subject().to_owned(),
            issuer: user.issuer().to_owned(),
            epoch,
            known_since: self.known_since,
            earlier: self.earlier.map(earlier),
            stretch: self.stretch.map(kept),
            delivered_at_ms: self.delivered_at_ms,
            away_since_ms: self.away_since_ms,
        }
    }

    /// One that was kept, in a log that ends at `end`. Of another life of the log, or of what this one has not come to or
    /// has said otherwise, the user has got nothing.
    pub(super) fn from_kept(kept: &KeptStanding, end: Position) -> Self {
        let position = |offset, tag| Position { epoch: kept.epoch, offset, tag };
        let stretch = kept.stretch.map(|one| Stretch {
            after: position(one.after_offset, one.after_tag),
            end: position(one.end_offset, one.end_tag),
        });
        let is_of_this_log = |last: Position| {
            last.offset < end.offset || (last.offset == end.offset && last.tag == end.tag)
        };
        let mut standing = Self {
            known_since: kept.known_since,
            earlier: kept.earlier.map(|one| (one.after_offset, one.end_offset)),
            stretch,
            delivered_at_ms: kept.delivered_at_ms,
            away_since_ms: kept.away_since_ms,
        };
        if kept.epoch != end.epoch
            || kept.known_since > end.offset
            || stretch.is_some_and(|stretch| !is_of_this_log(stretch.end))
        {
            standing.lose_all();
        }
        standing
    }
}
