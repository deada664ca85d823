//! Notes in the audit log what users were not let do.

use service_kit::{
    audit::{self, AuditEvent, Decision},
    trace::TraceParent,
};

use crate::{room_rules::Action, user::User};

const SERVICE: &str = "chat-service";

/// A client wants to do something that its user may not.
const AUTHORIZE: &str = "authorize";
/// A user is taken out of a room, as it may be there no longer.
const REMOVE: &str = "remove";

/// Notes that an event was refused. Which room it was for is what the client says, and not told.
pub(crate) fn denied(user: &User, action: Action, trace: Option<TraceParent>) {
    if audit::is_on() {
        let trace = trace.filter(|trace| trace.is_sampled()).map(TraceParent::trace_id);
        audit::record(about(AUTHORIZE, user).because(action.label()).in_trace(trace));
    }
}

/// Notes that a socket was taken out of a room.
pub(crate) fn removed(user: &User) {
    if audit::is_on() {
        audit::record(about(REMOVE, user).because(Action::Join.label()));
    }
}

fn about(event: &'static str, user: &User) -> AuditEvent {
    AuditEvent::new(SERVICE, event, Decision::Denied)
        .of_issuer(user.issuer())
        .of_subject(user.subject())
}
