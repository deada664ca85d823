//! Says which service may call what here. A method that is not listed is for nobody.

use service_kit::grpc::{MethodRoles, Role};

pub(crate) const METHODS: &[MethodRoles] = &[
    ("/sockeye.auth.v1.AuthService/Authenticate", &[Role::Edge]),
    ("/sockeye.auth.v1.AuthService/AuthenticateEach", &[Role::Edge]),
    ("/sockeye.auth.v1.AuthService/WatchRevocations", &[Role::Edge]),
    ("/sockeye.auth.v1.AuthService/IssueToken", &[Role::Admin]),
    ("/sockeye.auth.v1.TicketService/IssueTicket", &[Role::Backend]),
    ("/sockeye.auth.v1.RevocationService/Revoke", &[Role::Admin]),
    ("/sockeye.auth.v1.RevocationService/ListRevocations", &[Role::Admin]),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_method_says_who_may_call_it() {
        let served = proto::method_paths("sockeye.auth.v1");

        let listed: BTreeSet<String> = METHODS.iter().map(|(path, _)| (*path).to_owned()).collect();

        assert_eq!(listed, served);
        assert!(METHODS.iter().all(|(_, roles)| !roles.is_empty()));
    }
}
