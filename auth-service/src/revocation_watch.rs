//! Tells one edge of revocations for as long as it listens.

use std::sync::Arc;

use proto::auth::v1 as wire;
use service_kit::shutdown::Shutdown;
use tokio::sync::mpsc;
use tonic::Status;

use crate::deny_list::{DenyList, Page};
use crate::telemetry;

/// Most revocations in one answer: with targets and an issuer of any length that is read, still within the size of an answer.
pub(crate) const PAGE_LENGTH_MAX: usize = 500;

/// Answers that wait for an edge which does not read. The list itself holds whatever comes after them.
const WAITING_MAX: usize = 1;

pub(crate) type Answer = Result<wire::WatchRevocationsResponse, Status>;

/// Begins after what the edge has been told; the stream ends with the service, and is not read to its end by an edge that is
/// gone.
pub(crate) fn begin(
    deny_list: Arc<DenyList>,
    after: Option<wire::RevocationPoint>,
    shutdown: Shutdown,
) -> mpsc::Receiver<Answer> {
    let (answers, receiver) = mpsc::channel(WAITING_MAX);
    let position = resume_after(&deny_list, after);
    tokio::spawn(async move {
        let _watching = telemetry::count_watcher();
        tokio::select! {
            () = tell(&deny_list, position, &answers) => {}
            () = answers.closed() => {}
            () = shutdown.requested() => {}
        }
    });
    receiver
}

/// From the start, if the edge knows another list.
fn resume_after(deny_list: &DenyList, after: Option<wire::RevocationPoint>) -> u64 {
    let known = after.filter(|point| point.list_id == deny_list.id());
    known.map_or(0, |point| point.position)
}

async fn tell(deny_list: &DenyList, mut told: u64, answers: &mpsc::Sender<Answer>) {
    // Before the first look: what is revoked after it is a change.
    let mut newest = deny_list.watch();
    loop {
        newest.mark_unchanged();
        let Page { revocations, has_more, position } = deny_list.list(told, PAGE_LENGTH_MAX);
        let answer = wire::WatchRevocationsResponse {
            revocations: revocations.into_iter().map(wire::Revocation::from).collect(),
            told: Some(wire::RevocationPoint { list_id: deny_list.id().to_owned(), position }),
        };
        if answers.send(Ok(answer)).await.is_err() {
            return;
        }
        told = position;
        if !has_more && newest.changed().await.is_err() {
            return;
        }
    }
}
