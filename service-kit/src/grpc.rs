//! What listeners for gRPC have in common: who may connect, who may call what, and what is refused.

mod callers;
mod incoming;
mod settings;

pub use self::{
    callers::{CallerRule, CallersLayer, CallersService, MethodRoles, ParseCallerError, Role},
    incoming::{Accepted, Caller, Incoming},
    settings::{GrpcSecurity, GrpcSettingNames, GrpcSettings, GrpcSettingsError},
};
