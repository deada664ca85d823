//! Reads what an issuer's tokens let their users do.

use serde::Deserialize;

use super::problem::IssuerProblem;
use crate::capabilities::{
    Action, Capability, CapabilityError, CapabilityRules, ClaimPath, Grant, Grantees,
};

/// A capability, and which tokens have it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GrantTable {
    roles: Option<Vec<String>>,
    scopes: Option<Vec<String>>,
    #[serde(default)]
    everyone: bool,
    actions: Vec<Action>,
    rooms: Vec<String>,
    #[serde(default)]
    events: Vec<String>,
}

/// Makes the rules, or nothing and a report at least.
pub(super) fn capability_rules(
    claim: Option<ClaimPath>,
    roles: Option<ClaimPath>,
    tables: Vec<GrantTable>,
    report: &mut impl FnMut(IssuerProblem),
) -> Option<CapabilityRules> {
    let mut is_good = true;
    let mut report = |problem| {
        is_good = false;
        report(problem);
    };
    for (member, path) in [("claims.capabilities", &claim), ("claims.roles", &roles)] {
        if path.as_ref().is_some_and(|path| !path.is_good()) {
            report(IssuerProblem::EmptyText { member });
        }
    }
    let mut grants = Vec::new();
    for (index, table) in tables.into_iter().enumerate() {
        let number = index + 1;
        match table.into_grant() {
            Ok(Some(grant)) => grants.push(grant),
            Ok(None) => report(IssuerProblem::Grantees { number }),
            Err(source) => report(IssuerProblem::Grant { number, source }),
        }
    }
    let wants_roles = grants.iter().any(|grant| !grant.to.roles.is_empty());
    match &roles {
        None if wants_roles => report(IssuerProblem::NoRoles),
        Some(_) if !wants_roles => report(IssuerProblem::UnusedRoles),
        None | Some(_) => {}
    }
    is_good.then_some(CapabilityRules { claim, roles, grants })
}

impl GrantTable {
    /// None, if it does not say which tokens it is for.
    fn into_grant(self) -> Result<Option<Grant>, CapabilityError> {
        let Self { roles, scopes, everyone, actions, rooms, events } = self;
        let kinds = [roles.is_some(), scopes.is_some(), everyone];
        let is_one_kind = kinds.into_iter().filter(|is_named| *is_named).count() == 1;
        let is_name = |name: &String| !name.is_empty() && !name.contains(' ');
        let is_list = |list: &Vec<String>| !list.is_empty() && list.iter().all(is_name);
        if !is_one_kind || ![&roles, &scopes].into_iter().flatten().all(is_list) {
            return Ok(None);
        }
        let (roles, scopes) = (roles.unwrap_or_default(), scopes.unwrap_or_default());
        Grant::parse(Grantees { roles, scopes, everyone }, Capability { actions, rooms, events })
            .map(Some)
    }
}
