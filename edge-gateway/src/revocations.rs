//! Which tokens were taken back lately, and whose they are.

use std::{
    collections::{HashMap, VecDeque},
    num::NonZeroU64,
};

use foldhash::quality::FixedState;
use proto::auth::v1 as wire;

use crate::socket::Identity;

/// How many lists that are no more are remembered, for the same verdicts.
const FORMER_MAX: usize = 8;

/// How many revocations are remembered for verdicts that were under way when they came.
const RECENT_MAX: usize = 1024;

/// What a revocation names, as 64 bits: an issuer, and which of its tokens. Two that fall together by chance end a connection
/// whose client comes back at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Name(NonZeroU64);

/// What a revocation may name a token by, beside its issuer and subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct TokenMarks {
    token_id: Option<Name>,
    session: Option<Name>,
    /// Without it the token may be of any age.
    issued_at_unix_ms: Option<u64>,
}

/// Which revocations are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Point {
    list: u64,
    position: u64,
}

/// Whether a token is still good, by what its shard was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Good,
    Revoked,
    /// It was held against a list that is no more, or so long ago that it cannot be told.
    Unknown,
}

/// What a shard was told of revocations.
#[derive(Debug, Default)]
pub(crate) struct Revocations {
    /// As the auth service names it. None before the first answer.
    told: Option<wire::RevocationPoint>,
    /// The lists before that one.
    former: VecDeque<u64>,
    recent: VecDeque<(u64, Revocation)>,
    /// The last position that `recent` has no more.
    forgotten: u64,
}

#[derive(Debug, Clone, Copy)]
struct Revocation {
    name: Name,
    /// None takes back tokens of any age.
    issued_before_unix_ms: Option<u64>,
}

/// Revocations that came together.
#[derive(Debug)]
pub(crate) struct Batch(HashMap<Name, Option<u64>, FixedState>);

impl Revocations {
    /// From where to go on.
    pub(crate) fn told(&self) -> Option<wire::RevocationPoint> {
        self.told.clone()
    }

    /// Takes note of an answer, and returns the revocations in it.
    pub(crate) fn tell(&mut self, answer: wire::WatchRevocationsResponse) -> Batch {
        let told = answer.told.unwrap_or_default();
        if let Some(before) = self.told.replace(told.clone())
            && before.list_id != told.list_id
        {
            self.recent.clear();
            self.forgotten = 0;
            self.former.truncate(FORMER_MAX - 1);
            self.former.push_front(Point::of(&before).list);
        }
        let mut batch = Batch(HashMap::with_capacity_and_hasher(
            answer.revocations.len(),
            FixedState::default(),
        ));
        for revocation in answer.revocations {
            let position = revocation.position;
            let Some(revocation) = Revocation::parse(revocation) else { continue };
            batch.0.insert(revocation.name, revocation.issued_before_unix_ms);
            self.recent.push_back((position, revocation));
        }
        while self.recent.len() > RECENT_MAX
            && let Some((position, _)) = self.recent.pop_front()
        {
            self.forgotten = position;
        }
        batch
    }

    /// Holds a token against what came after its verdict.
    pub(crate) fn standing(&self, identity: &Identity) -> Standing {
        let Point { list, position } = identity.checked;
        if self.told.as_ref().is_none_or(|told| Point::of(told).list != list) {
            // All of a list that is new here is yet to be told.
            let is_former = self.former.contains(&list);
            return if is_former { Standing::Unknown } else { Standing::Good };
        }
        if position < self.forgotten {
            return Standing::Unknown;
        }
        let later = self.recent.iter().rev().take_while(|(at, _)| *at > position);
        let names = identity.names();
        let is_revoked = later.into_iter().any(|(_, revocation)| {
            names.contains(&Some(revocation.name))
                && is_older(identity, revocation.issued_before_unix_ms)
        });
        if is_revoked { Standing::Revoked } else { Standing::Good }
    }
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn concerns(&self, identity: &Identity) -> bool {
        identity.names().into_iter().flatten().any(|name| {
            self.0.get(&name).is_some_and(|&issued_before| is_older(identity, issued_before))
        })
    }
}

fn is_older(identity: &Identity, issued_before_unix_ms: Option<u64>) -> bool {
    match (identity.marks.issued_at_unix_ms, issued_before_unix_ms) {
        (Some(issued_at), Some(before)) => issued_at < before,
        (None, _) | (_, None) => true,
    }
}

impl Identity {
    /// Everything that a revocation may name its token by.
    fn names(&self) -> [Option<Name>; 4] {
        [
            self.marks.token_id,
            self.marks.session,
            Some(Name::of_subject(&self.issuer, &self.subject)),
            Some(Name::of_all(&self.issuer)),
        ]
    }
}

impl Revocation {
    fn parse(revocation: wire::Revocation) -> Option<Self> {
        use wire::revocation_target::Tokens;
        let wire::RevocationTarget { issuer, tokens } = revocation.target?;
        let before = Some(revocation.issued_before_unix_ms);
        let (name, issued_before_unix_ms) = match tokens? {
            Tokens::TokenId(id) => (Name::of_token(&issuer, &id), None),
            Tokens::Session(session) => (Name::of_session(&issuer, &session), None),
            Tokens::Subject(subject) => (Name::of_subject(&issuer, &subject), before),
            Tokens::All(_) => (Name::of_all(&issuer), before),
        };
        Some(Self { name, issued_before_unix_ms })
    }
}

impl TokenMarks {
    pub(crate) fn of(issuer: &str, marks: &wire::TokenMarks) -> Self {
        let named = |text: &str, name: fn(&str, &str) -> Name| {
            (!text.is_empty()).then(|| name(issuer, text))
        };
        Self {
            token_id: named(&marks.token_id, Name::of_token),
            session: named(&marks.session, Name::of_session),
            issued_at_unix_ms: marks.issued_at_unix_ms,
        }
    }
}

impl Point {
    pub(crate) fn of(point: &wire::RevocationPoint) -> Self {
        Self { list: hash(&point.list_id), position: point.position }
    }
}

impl Name {
    fn of_token(issuer: &str, id: &str) -> Self {
        Self::of(("token", issuer, id))
    }

    fn of_session(issuer: &str, session: &str) -> Self {
        Self::of(("session", issuer, session))
    }

    fn of_subject(issuer: &str, subject: &str) -> Self {
        Self::of(("subject", issuer, subject))
    }

    fn of_all(issuer: &str) -> Self {
        Self::of(("all", issuer, ""))
    }

    fn of(parts: (&str, &str, &str)) -> Self {
        Self(NonZeroU64::new(hash(&parts)).unwrap_or(NonZeroU64::MIN))
    }
}

fn hash(value: &impl std::hash::Hash) -> u64 {
    use std::hash::BuildHasher as _;
    FixedState::default().hash_one(value)
}

#[cfg(test)]
mod tests {
    use proto::auth::v1::revocation_target::Tokens;

    use super::*;

    fn revocation(position: u64, tokens: Tokens, issued_before_unix_ms: u64) -> wire::Revocation {
        wire::Revocation {
            position,
            target: Some(wire::RevocationTarget { issuer: "i".to_owned(), tokens: Some(tokens) }),
            issued_before_unix_ms,
            ..wire::Revocation::default()
        }
    }

    fn answer(list: &str, revocations: Vec<wire::Revocation>) -> wire::WatchRevocationsResponse {
        let position = revocations.last().map_or(0, |last| last.position);
        let told = Some(wire::RevocationPoint { list_id: list.to_owned(), position });
        wire::WatchRevocationsResponse { revocations, told }
    }

    /// Ada's token, held against list `a` up to a position.
    fn ada(position: u64) -> Identity {
        let marks = wire::TokenMarks {
            token_id: "t".to_owned(),
            session: "s".to_owned(),
            issued_at_unix_ms: Some(100),
        };
        Identity {
            subject: "ada".into(),
            issuer: "i".into(),
            tenant: "".into(),
            profile: bytes::Bytes::new(),
            expires_at_unix_ms: u64::MAX,
            capabilities: None,
            marks: TokenMarks::of("i", &marks),
            checked: Point::of(&wire::RevocationPoint { list_id: "a".to_owned(), position }),
        }
    }

    #[test]
    fn a_revocation_concerns_the_tokens_that_it_names_and_no_other() {
        let text = str::to_owned;
        for (tokens, before, expected) in [
            (Tokens::TokenId(text("t")), 0, true),
            (Tokens::TokenId(text("s")), 0, false),
            (Tokens::Session(text("s")), 0, true),
            (Tokens::Session(text("ada")), 0, false),
            (Tokens::Subject(text("ada")), 101, true),
            (Tokens::Subject(text("ada")), 100, false),
            (Tokens::Subject(text("eve")), 101, false),
            (Tokens::All(true), 101, true),
            (Tokens::All(true), 100, false),
        ] {
            let mut revocations = Revocations::default();
            let case = format!("{tokens:?} {before}");

            let batch = revocations.tell(answer("a", vec![revocation(1, tokens, before)]));

            let other_issuer = Identity { issuer: "j".into(), ..ada(0) };
            let other_issuer = Identity {
                marks: TokenMarks::of("j", &wire::TokenMarks::default()),
                ..other_issuer
            };
            assert_eq!(batch.concerns(&ada(0)), expected, "{case}");
            assert!(!batch.concerns(&other_issuer), "{case}");
            let standing = if expected { Standing::Revoked } else { Standing::Good };
            assert_eq!(revocations.standing(&ada(0)), standing, "{case}");
            assert_eq!(revocations.standing(&ada(1)), Standing::Good, "the verdict knew: {case}");
        }
    }

    #[test]
    fn a_token_without_a_time_of_issue_may_be_of_any_age() {
        let mut revocations = Revocations::default();
        let subject = Tokens::Subject("ada".to_owned());
        let batch = revocations.tell(answer("a", vec![revocation(1, subject, 1)]));
        let marks = TokenMarks::default();

        assert!(batch.concerns(&Identity { marks, ..ada(0) }));
    }

    #[test]
    fn a_verdict_of_a_list_that_is_over_counts_for_nothing() {
        let mut revocations = Revocations::default();
        assert_eq!(revocations.standing(&ada(0)), Standing::Good, "everything is told yet");

        revocations.tell(answer("b", vec![]));
        assert_eq!(revocations.standing(&ada(7)), Standing::Good, "all of `a` is told yet");

        revocations.tell(answer("a", vec![]));
        revocations.tell(answer("c", vec![]));
        assert_eq!(revocations.standing(&ada(7)), Standing::Unknown, "`a` is over");
    }

    #[test]
    fn a_verdict_older_than_what_is_remembered_counts_for_nothing() {
        let mut revocations = Revocations::default();
        let count = RECENT_MAX as u64 + 2;
        let ids = (1..=count).map(|at| revocation(at, Tokens::TokenId(format!("x{at}")), 0));
        revocations.tell(answer("a", ids.collect()));

        assert_eq!(revocations.standing(&ada(1)), Standing::Unknown);
        assert_eq!(revocations.standing(&ada(2)), Standing::Good);
        assert_eq!(revocations.recent.len(), RECENT_MAX);
    }
}
