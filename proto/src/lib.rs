//! The contracts between Sockeye's services, as compiled from the `.proto` files beside this crate.
//!
//! `README.md` in this folder tells someone who writes a business service what to implement.

pub mod encoded;

use std::collections::BTreeSet;

use prost::Message;
use prost_types::FileDescriptorSet;

/// Who a token speaks for, and who turns tokens into identities.
pub mod auth {
    /// Package `sockeye.auth.v1`.
    pub mod v1 {
        tonic::include_proto!("sockeye.auth.v1");
    }
}

/// What other services call on the chat service.
pub mod chat {
    /// Package `sockeye.chat.v1`.
    pub mod v1 {
        tonic::include_proto!("sockeye.chat.v1");
    }
}

/// What a business service implements so that the edge gateway can attach to it.
pub mod edge {
    /// Package `sockeye.edge.v1`.
    #[expect(clippy::large_enum_variant, reason = "generated; most instructions are the large one")]
    pub mod v1 {
        tonic::include_proto!("sockeye.edge.v1");
    }

    /// `EdgeLink` once more, the same on the wire, for who sends frames that are encoded already.
    pub mod encoded {
        include!(concat!(env!("OUT_DIR"), "/encoded/client/sockeye.edge.v1.EdgeLink.rs"));
        include!(concat!(env!("OUT_DIR"), "/encoded/server/sockeye.edge.v1.EdgeLink.rs"));
    }
}

/// What the edges of one cluster ask of each other.
pub mod peer {
    /// Package `sockeye.peer.v1`.
    pub mod v1 {
        tonic::include_proto!("sockeye.peer.v1");
    }
}

/// All contracts as an encoded `FileDescriptorSet`, for gRPC server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Largest gRPC message that Sockeye's services send or accept, in bytes: a full batch and the largest event in it.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The paths (`/package.Service/Method`) of all methods of a package of the contracts.
///
/// # Panics
///
/// Never: what was compiled can be read.
pub fn method_paths(package: &str) -> BTreeSet<String> {
    let contracts = FileDescriptorSet::decode(DESCRIPTORS).expect("it was compiled");
    let files = contracts.file.iter().filter(|file| file.package() == package);
    let services = files.flat_map(|file| &file.service);
    services
        .flat_map(|service| service.method.iter().map(|method| (service.name(), method.name())))
        .map(|(service, method)| format!("/{package}.{service}/{method}"))
        .collect()
}
