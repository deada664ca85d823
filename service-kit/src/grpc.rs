//! What listeners for gRPC have in common: who may connect, who may call what, and what is refused.

mod accepted;
mod callers;
mod incoming;
mod open_connections;
mod settings;

pub use self::{
    accepted::{Accepted, Caller, OPENING_TIMEOUT},
    callers::{CallerRule, CallersLayer, CallersService, MethodRoles, ParseCallerError, Role},
    incoming::Incoming,
    settings::{GrpcSecurity, GrpcSettingNames, GrpcSettings, GrpcSettingsError},
};
