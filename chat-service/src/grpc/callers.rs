//! Says which service may call what here. A method that is not listed is for nobody.

use service_kit::grpc::{MethodRoles, Role};

/// What the application's own services and operators may call.
const SERVICES: &[Role] = &[Role::Backend, Role::Admin];

pub(crate) const METHODS: &[MethodRoles] = &[
    ("/sockeye.edge.v1.EdgeLink/Attach", &[Role::Edge]),
    ("/sockeye.chat.v1.ChatService/Publish", SERVICES),
    ("/sockeye.chat.v1.ChatService/History", SERVICES),
    ("/sockeye.chat.v1.ChatService/Presence", SERVICES),
    ("/sockeye.chat.v1.ChatService/DeliveredTo", SERVICES),
    ("/sockeye.chat.v1.ChatService/Rooms", SERVICES),
    ("/sockeye.chat.v1.ChatService/WatchSockets", SERVICES),
    ("/sockeye.chat.v1.ChatService/Kick", SERVICES),
    ("/sockeye.chat.v1.ChatService/Ban", SERVICES),
    ("/sockeye.chat.v1.ChatService/Unban", SERVICES),
    ("/sockeye.chat.v1.ChatService/ListBans", SERVICES),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_method_says_who_may_call_it() {
        let served =
            &proto::method_paths("sockeye.chat.v1") | &proto::method_paths("sockeye.edge.v1");

        let listed: BTreeSet<String> = METHODS.iter().map(|(path, _)| (*path).to_owned()).collect();

        assert_eq!(listed, served);
        assert!(METHODS.iter().all(|(_, roles)| !roles.is_empty()));
    }
}
