//! Says which service may call what here. A method that is not listed is for nobody.

use service_kit::grpc::{MethodRoles, Role};

pub(crate) const METHODS: &[MethodRoles] = &[
    ("/sockeye.auth.v1.AuthService/Authenticate", &[Role::Edge]),
    ("/sockeye.auth.v1.AuthService/WatchRevocations", &[Role::Edge]),
    ("/sockeye.auth.v1.AuthService/IssueToken", &[Role::Admin]),
    ("/sockeye.auth.v1.TicketService/IssueTicket", &[Role::Backend]),
    ("/sockeye.auth.v1.RevocationService/Revoke", &[Role::Admin]),
    ("/sockeye.auth.v1.RevocationService/ListRevocations", &[Role::Admin]),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost_reflect::DescriptorPool;

    use super::*;

    #[test]
    fn every_method_says_who_may_call_it() {
        let contracts = DescriptorPool::decode(proto::DESCRIPTORS).unwrap();
        let services = contracts.services();
        let ours = services.filter(|service| service.package_name() == "sockeye.auth.v1");
        let served: BTreeSet<String> = ours
            .flat_map(|service| service.methods().collect::<Vec<_>>())
            .map(|method| format!("/{}/{}", method.parent_service().full_name(), method.name()))
            .collect();

        let listed: BTreeSet<String> = METHODS.iter().map(|(path, _)| (*path).to_owned()).collect();

        assert_eq!(listed, served);
        assert!(METHODS.iter().all(|(_, roles)| !roles.is_empty()));
    }
}
