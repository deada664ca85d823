//! Says who may call what at the listener for other edges. What is not listed is for nobody.

use service_kit::grpc::{MethodRoles, Role};

use super::TUNNEL_PATH;

/// What brings the body of a client's request, in parts.
pub(super) const POST_PATH: &str = "/sockeye.peer.v1.EdgePeer/Post";

pub(super) const METHODS: &[MethodRoles] = &[
    ("/sockeye.peer.v1.EdgePeer/Poll", &[Role::Edge]),
    (POST_PATH, &[Role::Edge]),
    ("/sockeye.peer.v1.EdgePeer/AskUpgrade", &[Role::Edge]),
    ("/sockeye.peer.v1.EdgePeer/Claim", &[Role::Edge]),
    ("/sockeye.peer.v1.EdgePeer/Settle", &[Role::Edge]),
    ("/sockeye.peer.v1.EdgePeer/Leave", &[Role::Edge]),
    // Whichever session it leads to.
    (TUNNEL_PATH, &[Role::Edge]),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_method_says_who_may_call_it() {
        let served = &proto::method_paths("sockeye.peer.v1") | &[TUNNEL_PATH.to_owned()].into();

        let listed: BTreeSet<String> = METHODS.iter().map(|(path, _)| (*path).to_owned()).collect();

        assert_eq!(listed, served);
        assert!(METHODS.iter().all(|(_, roles)| *roles == [Role::Edge]));
    }
}
