//! Decides which service may call which method, by the names in its certificate.

use std::{
    future::{Ready, ready},
    str::FromStr,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::Either;
use http::{Request, Response};
use metrics::{counter, describe_counter};
use tonic::{Status, body::Body};
use tower::{Layer, Service};

use super::accepted::Caller;
use crate::audit::{self, AuditEvent, Decision};

const REFUSED: &str = "sockeye_grpc_refused_calls_total";

/// What is said of all methods that have no roles here.
const OTHER: &str = "other";

/// What every caller with a certificate may call: whether the service lives, and what it can do, if it says so at all.
const FOR_ALL: [&str; 2] = ["/grpc.health.v1.", "/grpc.reflection."];

/// What a caller is to the services that it calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// An edge gateway.
    Edge,
    /// A service of the application.
    Backend,
    /// What operators use.
    Admin,
}

/// A method, as its path (`/package.Service/Method`), and who may call it.
pub type MethodRoles = (&'static str, &'static [Role]);

/// Says that callers with a name have a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerRule {
    role: Role,
    /// In lower case. With `*.` before it, each name with one label more.
    name: String,
}

/// Why a text is no rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseCallerError {
    /// It has another form, or names another role.
    #[error("a caller is edge=NAME, backend=NAME or admin=NAME")]
    Form,
    /// The name is none, or has a `*` elsewhere than before its first dot.
    #[error("a caller's name is a DNS name, or *. and a DNS name")]
    Name,
}

impl FromStr for CallerRule {
    type Err = ParseCallerError;

    fn from_str(text: &str) -> Result<Self, ParseCallerError> {
        let (role, name) = text.split_once('=').ok_or(ParseCallerError::Form)?;
        let role = match role {
            "edge" => Role::Edge,
            "backend" => Role::Backend,
            "admin" => Role::Admin,
            _ => return Err(ParseCallerError::Form),
        };
        let bare = name.strip_prefix("*.").unwrap_or(name);
        rustls::pki_types::DnsName::try_from(bare).map_err(|_| ParseCallerError::Name)?;
        Ok(Self { role, name: name.to_ascii_lowercase() })
    }
}

impl CallerRule {
    fn is_about(&self, name: &str) -> bool {
        match self.name.strip_prefix("*.") {
            None => self.name == name,
            Some(parent) => name.split_once('.').is_some_and(|(_, rest)| rest == parent),
        }
    }
}

/// Puts the decision before a service.
#[derive(Debug, Clone)]
pub struct CallersLayer {
    service: &'static str,
    methods: &'static [MethodRoles],
    /// None where callers are not known, so that all may call everything.
    rules: Option<Arc<[CallerRule]>>,
}

impl CallersLayer {
    pub(super) fn new(
        service: &'static str,
        methods: &'static [MethodRoles],
        rules: Option<Arc<[CallerRule]>>,
    ) -> Self {
        describe_counter!(REFUSED, "Calls of services that may not call the method.");
        Self { service, methods, rules }
    }

    /// Decides about a call of `path`, and notes it if it is refused.
    ///
    /// # Errors
    ///
    /// When the caller must not call this, or is not known.
    pub fn decide(&self, path: &str, caller: Option<&Caller>) -> Result<(), Status> {
        let Some(rules) = &self.rules else { return Ok(()) };
        let names = caller.map_or(&[][..], |caller| &caller.names[..]);
        if caller.is_some() && FOR_ALL.iter().any(|free| path.starts_with(free)) {
            return Ok(());
        }
        let method = self.methods.iter().find(|(known, _)| *known == path);
        let roles = method.map_or(&[][..], |(_, roles)| roles);
        let may = |rule: &CallerRule| {
            roles.contains(&rule.role) && names.iter().any(|name| rule.is_about(name))
        };
        if rules.iter().any(may) {
            return Ok(());
        }
        let method = method.map_or(OTHER, |(known, _)| known);
        counter!(REFUSED, "service" => self.service, "method" => method).increment(1);
        let event = AuditEvent::new(self.service, "call", Decision::Denied)
            .because("caller_not_allowed")
            .of_method(method);
        audit::record(Caller::note(caller, event));
        Err(Status::permission_denied("this caller may not call this method"))
    }
}

impl<S> Layer<S> for CallersLayer {
    type Service = CallersService<S>;

    fn layer(&self, inner: S) -> CallersService<S> {
        CallersService { inner, layer: self.clone() }
    }
}

/// A service that only those call who may.
#[derive(Debug, Clone)]
pub struct CallersService<S> {
    inner: S,
    layer: CallersLayer,
}

impl<S, B> Service<Request<B>> for CallersService<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<Response<Body>, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let caller = request.extensions().get::<Caller>();
        if let Err(status) = self.layer.decide(request.uri().path(), caller) {
            return Either::Right(ready(Ok(status.into_http())));
        }
        Either::Left(self.inner.call(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const METHODS: &[MethodRoles] =
        &[("/a.A/Read", &[Role::Edge, Role::Backend]), ("/a.A/Write", &[Role::Admin])];

    fn layer(rules: &[&str]) -> CallersLayer {
        let rules: Vec<CallerRule> = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        CallersLayer::new("test", METHODS, Some(rules.into()))
    }

    fn caller(names: &[&str]) -> Caller {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Caller { address: "192.0.2.1:1".parse().unwrap(), names }
    }

    #[test]
    fn a_method_is_for_those_with_a_role_that_it_names() {
        let layer = layer(&["edge=*.edge.example", "admin=ops.example", "backend=Shop.example"]);
        let may = |path: &str, names: &[&str]| layer.decide(path, Some(&caller(names))).is_ok();

        assert!(may("/a.A/Read", &["a.edge.example"]));
        assert!(may("/a.A/Read", &["other.example", "shop.example"]));
        assert!(may("/a.A/Write", &["ops.example"]));
        for names in [
            &["a.edge.example"][..],
            &["shop.example"],
            &["xops.example"],
            &["ops.example.org"],
            &[],
        ] {
            assert!(!may("/a.A/Write", names), "{names:?}");
        }
        for name in ["edge.example", "a.b.edge.example", "ops.example", "xedge.example"] {
            assert!(!may("/a.A/Read", &[name]), "{name}");
        }
    }

    #[test]
    fn what_has_no_roles_is_for_nobody_and_health_for_whoever_is_known() {
        let layer = layer(&["edge=e.example", "backend=e.example", "admin=e.example"]);
        let known = caller(&["e.example"]);

        for path in ["/a.A/New", "/a.A/", "/a.A/Readx", "/a.a/Read", "/", "", "/a.A/Read/"] {
            let refused = layer.decide(path, Some(&known)).unwrap_err();
            assert_eq!(refused.code(), tonic::Code::PermissionDenied, "{path}");
        }
        assert!(layer.decide("/grpc.health.v1.Health/Check", Some(&caller(&[]))).is_ok());
        for path in ["/grpc.health.v1.Health/Check", "/a.A/Read"] {
            assert!(layer.decide(path, None).is_err(), "{path}");
        }
    }

    #[test]
    fn a_rule_is_a_role_and_a_name() {
        for (text, expected) in [
            ("edge=edge.example", Ok(())),
            ("admin=*.example", Ok(())),
            ("edge.example", Err(ParseCallerError::Form)),
            ("root=edge.example", Err(ParseCallerError::Form)),
            ("Edge=edge.example", Err(ParseCallerError::Form)),
            ("edge=", Err(ParseCallerError::Name)),
            ("edge=*", Err(ParseCallerError::Name)),
            ("edge=*.", Err(ParseCallerError::Name)),
            ("edge=*.*.example", Err(ParseCallerError::Name)),
            ("edge=a.*.example", Err(ParseCallerError::Name)),
            ("edge=a b", Err(ParseCallerError::Name)),
        ] {
            assert_eq!(text.parse::<CallerRule>().map(drop), expected, "{text}");
        }
    }
}
