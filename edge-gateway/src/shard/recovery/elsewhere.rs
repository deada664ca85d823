//! Asks the other shards and edges for a socket that one of them may have.

use tokio::{sync::oneshot, time};

use super::claims::{ANSWER_TIMEOUT, Claim, Claimed, Settled, Settlement};
use crate::transport::mailbox::{Mail, Mailboxes, Place};

/// Looks for a socket wherever it may be, but for `shard`.
pub(crate) async fn find(
    mailboxes: &Mailboxes,
    shard: Option<u8>,
    claim: &Claim,
) -> Option<(Place, Claimed)> {
    for place in mailboxes.elsewhere(shard, claim.wanted.id) {
        let (reply, answered) = oneshot::channel();
        let mail = Mail::Claim { claim: Box::new(claim.clone()), reply };
        if mailboxes.send_to(place, mail).await.is_err() {
            continue;
        }
        if let Ok(Ok(Some(claimed))) = time::timeout(ANSWER_TIMEOUT, answered).await {
            return Some((place, claimed));
        }
    }
    None
}

/// Ends what a socket is where it was.
pub(super) async fn settle(
    mailboxes: &Mailboxes,
    place: Place,
    settlement: Settlement,
) -> Option<Settled> {
    let (reply, answered) = oneshot::channel();
    mailboxes.send_to(place, Mail::Settle { settlement, reply }).await.ok()?;
    // The holder itself waits for its business service.
    time::timeout(ANSWER_TIMEOUT * 2, answered).await.ok()?.ok()?
}
