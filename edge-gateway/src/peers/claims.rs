//! Claims on sockets, as they travel between edges.

use proto::peer::v1::{
    ClaimRequest, ClaimResponse, ClaimedSocket, DisconnectedSocket, MissedEvent, MovedSocket,
    Owner, SettleRequest, SettleResponse, settle_response::Outcome,
};

use crate::{
    session_id::SessionId,
    shard::{Claim, Claimed, Missed, Rest, Settled, Settlement, Wanted},
};

/// What another edge says means nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ClaimError {
    #[error("not the id of a socket")]
    Id,
    #[error("no shard has this number")]
    Shard,
}

pub(super) fn claim_to_wire(claim: Claim) -> ClaimRequest {
    let Claim { wanted, namespace, owner } = claim;
    ClaimRequest {
        id: wanted.id.to_bytes(),
        offset: wanted.offset,
        namespace,
        owner: owner.map(|(subject, issuer, tenant)| Owner { subject, issuer, tenant }),
    }
}

pub(super) fn claim_from_wire(request: ClaimRequest) -> Result<Claim, ClaimError> {
    let ClaimRequest { id, offset, namespace, owner } = request;
    let id = SessionId::from_bytes(&id).ok_or(ClaimError::Id)?;
    let owner = owner.map(|Owner { subject, issuer, tenant }| (subject, issuer, tenant));
    Ok(Claim { wanted: Wanted { id, offset, delivered: None }, namespace, owner })
}

pub(super) fn claimed_to_wire(claimed: Option<Claimed>) -> ClaimResponse {
    let claimed = claimed.map(|claimed| ClaimedSocket {
        shard: claimed.settlement.shard.into(),
        number: claimed.settlement.number,
        socket_id: claimed.public_id,
        memberships: claimed.memberships,
        missed: missed_to_wire(claimed.missed),
    });
    ClaimResponse { claimed }
}

pub(super) fn claimed_from_wire(
    id: SessionId,
    response: ClaimResponse,
) -> Result<Option<Claimed>, ClaimError> {
    let Some(claimed) = response.claimed else { return Ok(None) };
    let shard = u8::try_from(claimed.shard).map_err(|_| ClaimError::Shard)?;
    Ok(Some(Claimed {
        settlement: Settlement { id, shard, number: claimed.number },
        public_id: claimed.socket_id,
        memberships: claimed.memberships,
        missed: missed_from_wire(claimed.missed),
    }))
}

pub(super) fn settlement_to_wire(settlement: Settlement) -> SettleRequest {
    let Settlement { id, shard, number } = settlement;
    SettleRequest { id: id.to_bytes(), shard: shard.into(), number }
}

pub(super) fn settlement_from_wire(request: &SettleRequest) -> Result<Settlement, ClaimError> {
    let id = SessionId::from_bytes(&request.id).ok_or(ClaimError::Id)?;
    let shard = u8::try_from(request.shard).map_err(|_| ClaimError::Shard)?;
    Ok(Settlement { id, shard, number: request.number })
}

pub(super) fn settled_to_wire(settled: Option<Settled>) -> SettleResponse {
    let outcome = settled.map(|settled| match settled {
        Settled::Moved(Rest { missed, memberships }) => {
            Outcome::Moved(MovedSocket { missed: missed_to_wire(missed), memberships })
        }
        Settled::Disconnected { close_connection } => {
            Outcome::Disconnected(DisconnectedSocket { close_connection })
        }
    });
    SettleResponse { outcome }
}

pub(super) fn settled_from_wire(response: SettleResponse) -> Option<Settled> {
    Some(match response.outcome? {
        Outcome::Moved(MovedSocket { missed, memberships }) => {
            Settled::Moved(Rest { missed: missed_from_wire(missed), memberships })
        }
        Outcome::Disconnected(DisconnectedSocket { close_connection }) => {
            Settled::Disconnected { close_connection }
        }
    })
}

fn missed_to_wire(missed: Vec<Missed>) -> Vec<MissedEvent> {
    let missed = missed.into_iter().map(|one| MissedEvent {
        offset: one.offset.into(),
        frames: one.frames,
        fingerprint: one.fingerprint,
        logged: one.is_logged,
    });
    missed.collect()
}

fn missed_from_wire(missed: Vec<MissedEvent>) -> Vec<Missed> {
    let missed = missed.into_iter().map(|one| Missed {
        offset: one.offset.into(),
        frames: one.frames,
        fingerprint: one.fingerprint,
        is_logged: one.logged,
    });
    missed.collect()
}

#[cfg(test)]
mod tests {
    use proto::edge::v1::Membership;

    use super::*;

    #[test]
    fn what_is_said_arrives() {
        let wanted =
            Wanted { id: SessionId::random(7, 3), offset: Some("a-1".to_owned()), delivered: None };
        let owner = Some(("alice".to_owned(), "issuer".to_owned(), "tenant".to_owned()));
        let claim = Claim { wanted, namespace: "/chat".to_owned(), owner };
        let nameless = Claim {
            wanted: Wanted { offset: None, ..claim.wanted.clone() },
            owner: None,
            ..claim.clone()
        };
        let settlement = Settlement { id: claim.wanted.id, shard: 3, number: 9 };
        let missed = vec![Missed {
            offset: "a-2".into(),
            frames: "frames".into(),
            fingerprint: u64::MAX,
            is_logged: true,
        }];
        let claimed = Claimed {
            settlement,
            public_id: "public".to_owned(),
            memberships: vec![Membership { room: "a".to_owned(), position: "p".to_owned() }],
            missed: missed.clone(),
        };

        for claim in [claim.clone(), nameless] {
            assert_eq!(claim_from_wire(claim_to_wire(claim.clone())), Ok(claim));
        }
        for claimed in [Some(claimed), None] {
            let arrived = claimed_from_wire(settlement.id, claimed_to_wire(claimed.clone()));
            assert_eq!(arrived, Ok(claimed));
        }
        assert_eq!(settlement_from_wire(&settlement_to_wire(settlement)), Ok(settlement));
        let memberships = vec![Membership { room: "b".to_owned(), position: String::new() }];
        for settled in [
            Some(Settled::Moved(Rest { missed, memberships })),
            Some(Settled::Moved(Rest::default())),
            Some(Settled::Disconnected { close_connection: true }),
            None,
        ] {
            assert_eq!(settled_from_wire(settled_to_wire(settled.clone())), settled);
        }
    }

    #[test]
    fn what_means_nothing_is_refused() {
        let no_id = ClaimRequest { id: "short".into(), ..ClaimRequest::default() };
        assert_eq!(claim_from_wire(no_id), Err(ClaimError::Id));
        let id = SessionId::random(0, 0);
        let request = SettleRequest { id: id.to_bytes(), shard: 256, number: 1 };
        assert_eq!(settlement_from_wire(&request), Err(ClaimError::Shard));
        let claimed = ClaimedSocket { shard: 256, ..ClaimedSocket::default() };
        let response = ClaimResponse { claimed: Some(claimed) };
        assert_eq!(claimed_from_wire(id, response), Err(ClaimError::Shard));
    }
}
