//! Notes in the audit log what users were not let do, and who put them out of rooms.

use service_kit::{
    audit::{self, AuditEvent, Decision},
    grpc::Caller,
    trace::TraceParent,
};
use tonic::Request;

use crate::{exclusions::Who, room_rules::Action, user::User};

const SERVICE: &str = "chat-service";

/// A client wants to do something that its user may not.
const AUTHORIZE: &str = "authorize";
/// A socket wants more than one may have.
const LIMIT: &str = "limit";
/// A user is taken out of a room, as it may be there no longer.
const REMOVE: &str = "remove";
/// Another service puts a user or a socket out of a room.
pub(crate) const KICK: &str = "kick";
/// Another service keeps a user out of a room.
pub(crate) const BAN: &str = "ban";
/// Another service lets a user into a room again.
pub(crate) const UNBAN: &str = "unban";

/// Notes that an event was refused. Which room it was for is what the client says, and not told.
pub(crate) fn denied(user: &User, action: Action, trace: Option<TraceParent>) {
    if audit::is_on() {
        let trace = trace.filter(|trace| trace.is_sampled()).map(TraceParent::trace_id);
        audit::record(about(AUTHORIZE, user).because(action.label()).in_trace(trace));
    }
}

/// Notes that what a socket wants is more than one may have.
pub(crate) fn limited(user: &User, limit: &'static str) {
    if audit::is_on() {
        audit::record(about(LIMIT, user).because(limit));
    }
}

/// Notes that a socket was taken out of a room.
pub(crate) fn removed(user: &User) {
    if audit::is_on() {
        audit::record(about(REMOVE, user).because(Action::Join.label()));
    }
}

/// Returns what a call of another service is noted as, once it was done.
pub(crate) fn call<T>(event: &'static str, request: &Request<T>) -> AuditEvent {
    let caller = Caller::of(request);
    Caller::note(caller.as_ref(), AuditEvent::new(SERVICE, event, Decision::Allowed))
}

/// Notes whom a call was about. A socket is no user: only that there was a call is told of one.
pub(crate) fn done(event: AuditEvent, who: &Who) {
    audit::record(match who {
        Who::User { subject, issuer } => event.of_issuer(issuer).of_subject(subject),
        Who::Socket(_) => event,
    });
}

fn about(event: &'static str, user: &User) -> AuditEvent {
    AuditEvent::new(SERVICE, event, Decision::Denied)
        .of_issuer(user.issuer())
        .of_subject(user.subject())
}
