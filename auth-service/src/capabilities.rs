//! Says what a token's subject may do in rooms: what the token itself says, and what its roles and scopes stand for.

mod pattern;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use pattern::ParsePatternError;
use pattern::{NameKind, Template};

use crate::refusal::Refusal;

/// Most capabilities of one token.
pub(crate) const CAPABILITIES_MAX: usize = 64;

/// Most patterns in one list of a capability.
pub(crate) const PATTERNS_MAX: usize = 64;

/// Most bytes of all patterns of one token together.
pub(crate) const CAPABILITIES_BYTES_MAX: usize = 8 * 1024;

/// What somebody may do in some rooms. The contract (`sockeye.auth.v1.Capability`) says what its patterns mean.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Capability {
    pub(crate) actions: Vec<Action>,
    pub(crate) rooms: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) events: Vec<String>,
}

/// What there is to do in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Action {
    Join,
    Publish,
    Presence,
    History,
}

impl Action {
    pub(crate) const ALL: [Self; 4] = [Self::Join, Self::Publish, Self::Presence, Self::History];
}

/// Why something is no capability, or too much of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CapabilityError {
    #[error("`actions` must list join, publish, presence or history, each at most once")]
    Actions,
    #[error("`rooms` must list from 1 to {PATTERNS_MAX} patterns")]
    Rooms,
    #[error("`events` must list at most {PATTERNS_MAX} patterns")]
    Events,
    #[error("`events` are for capabilities whose one action is publish")]
    EventsOfOtherActions,
    #[error(transparent)]
    Pattern(#[from] ParsePatternError),
    #[error("there are more than {CAPABILITIES_MAX} capabilities")]
    TooMany,
    #[error("the patterns have more than {CAPABILITIES_BYTES_MAX} bytes together")]
    TooLarge,
}

impl Capability {
    /// Everything in all rooms.
    pub(crate) fn everything() -> Vec<Self> {
        let (actions, rooms) = (Action::ALL.to_vec(), vec!["*".to_owned()]);
        vec![Self { actions, rooms, events: Vec::new() }]
    }

    /// Checks all that can be said of it by itself.
    fn check(&self) -> Result<(), CapabilityError> {
        self.check_lists()?;
        self.rooms.iter().try_for_each(|room| pattern::check(room, NameKind::Room))?;
        self.events.iter().try_for_each(|event| pattern::check(event, NameKind::Event))?;
        Ok(())
    }

    fn check_lists(&self) -> Result<(), CapabilityError> {
        let occurs_twice =
            |action: &Action| self.actions.iter().filter(|one| *one == action).count() > 1;
        if self.actions.is_empty() || self.actions.iter().any(occurs_twice) {
            return Err(CapabilityError::Actions);
        }
        if !(1..=PATTERNS_MAX).contains(&self.rooms.len()) {
            return Err(CapabilityError::Rooms);
        }
        if self.events.len() > PATTERNS_MAX {
            return Err(CapabilityError::Events);
        }
        if !self.events.is_empty() && self.actions != [Action::Publish] {
            return Err(CapabilityError::EventsOfOtherActions);
        }
        Ok(())
    }
}

/// Checks capabilities, and that they are no more than one token may have.
pub(crate) fn check_all(capabilities: &[Capability]) -> Result<(), CapabilityError> {
    if capabilities.len() > CAPABILITIES_MAX {
        return Err(CapabilityError::TooMany);
    }
    capabilities.iter().try_for_each(Capability::check)?;
    let patterns = capabilities.iter().flat_map(|one| one.rooms.iter().chain(&one.events));
    if patterns.map(String::len).sum::<usize>() > CAPABILITIES_BYTES_MAX {
        return Err(CapabilityError::TooLarge);
    }
    Ok(())
}

/// Where a claim stands: the names of the objects that it is in, and its own.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(crate) enum ClaimPath {
    /// A claim of the token itself. A point in its name is a point.
    Name(String),
    Path(Vec<String>),
}

impl ClaimPath {
    /// Whether it names a claim at all.
    pub(crate) fn is_good(&self) -> bool {
        !self.names().is_empty() && self.names().iter().all(|name| !name.is_empty())
    }

    fn names(&self) -> &[String] {
        match self {
            Self::Name(name) => std::slice::from_ref(name),
            Self::Path(names) => names,
        }
    }

    /// Finds the claim. What is no object where one was to be is not what the issuer was said to send.
    fn find<'c>(&self, claims: &'c Map<String, Value>) -> Result<Option<&'c Value>, Refusal> {
        let mut names = self.names().iter();
        let mut found = names.next().and_then(|name| claims.get(name));
        for name in names {
            let Some(value) = found else { return Ok(None) };
            found = value.as_object().ok_or(Refusal::Capabilities)?.get(name);
        }
        Ok(found)
    }
}

/// Where an issuer's tokens have their capabilities from. Nowhere, unless it says so.
#[derive(Debug, Clone, Default)]
pub(crate) struct CapabilityRules {
    /// The claim that lists them.
    pub(crate) claim: Option<ClaimPath>,
    /// The claim that lists the user's roles.
    pub(crate) roles: Option<ClaimPath>,
    pub(crate) grants: Vec<Grant>,
}

/// A capability of all tokens of an issuer that fit.
#[derive(Debug, Clone)]
pub(crate) struct Grant {
    pub(crate) to: Grantees,
    actions: Vec<Action>,
    rooms: Vec<Template>,
    events: Vec<Template>,
}

/// Which tokens a capability is for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Grantees {
    /// Those of a user with one of these roles.
    pub(crate) roles: Vec<String>,
    /// Those with one of these scopes.
    pub(crate) scopes: Vec<String>,
    /// All.
    pub(crate) everyone: bool,
}

impl CapabilityRules {
    /// Those of an issuer whose tokens list what their users may do.
    pub(crate) fn of_claim(name: &str) -> Self {
        Self { claim: Some(ClaimPath::Name(name.to_owned())), ..Self::default() }
    }

    /// Reads what a token's user may do. A token that says something of it and not what it must is refused: whoever reads less into
    /// it than was meant keeps users out without a word, and whoever reads more lets them in.
    pub(crate) fn of(&self, claims: &Map<String, Value>) -> Result<Vec<Capability>, Refusal> {
        let roles = match &self.roles {
            Some(path) => names(path.find(claims)?)?,
            None => Vec::new(),
        };
        let asks_for_scopes = self.grants.iter().any(|grant| !grant.to.scopes.is_empty());
        let scopes = if asks_for_scopes { scopes(claims.get("scope"))? } else { Vec::new() };

        let mut capabilities = Vec::new();
        for grant in self.grants.iter().filter(|grant| grant.to.include(&roles, &scopes)) {
            capabilities.push(grant.capability(claims)?);
        }
        if let Some(value) =
            self.claim.as_ref().map(|path| path.find(claims)).transpose()?.flatten()
        {
            let own = Vec::<Capability>::deserialize(value).map_err(|_| Refusal::Capabilities)?;
            capabilities.extend(own);
        }
        check_all(&capabilities).map_err(|_| Refusal::Capabilities)?;
        Ok(capabilities)
    }
}

impl Grantees {
    fn include(&self, roles: &[&str], scopes: &[&str]) -> bool {
        let names_one = |listed: &[String], held: &[&str]| {
            listed.iter().any(|name| held.contains(&name.as_str()))
        };
        self.everyone || names_one(&self.roles, roles) || names_one(&self.scopes, scopes)
    }
}

impl Grant {
    /// Reads patterns in which `{claim:NAME}` stands for what a token says.
    pub(crate) fn parse(to: Grantees, capability: Capability) -> Result<Self, CapabilityError> {
        capability.check_lists()?;
        let Capability { actions, rooms, events } = capability;
        let rooms = rooms.iter().map(|room| Template::parse(room, NameKind::Room));
        let events = events.iter().map(|event| Template::parse(event, NameKind::Event));
        let (rooms, events) = (rooms.collect::<Result<_, _>>()?, events.collect::<Result<_, _>>()?);
        Ok(Self { to, actions, rooms, events })
    }

    fn capability(&self, claims: &Map<String, Value>) -> Result<Capability, Refusal> {
        let fill = |templates: &[Template]| -> Result<Vec<String>, Refusal> {
            let mut filled = templates.iter().map(|template| template.fill(claims));
            filled.by_ref().collect()
        };
        let (rooms, events) = (fill(&self.rooms)?, fill(&self.events)?);
        Ok(Capability { actions: self.actions.clone(), rooms, events })
    }
}

/// Reads names out of a claim: a list of texts, or one text with blanks between them.
fn names(value: Option<&Value>) -> Result<Vec<&str>, Refusal> {
    match value {
        Some(Value::Array(list)) => {
            list.iter().map(|name| name.as_str().ok_or(Refusal::Capabilities)).collect()
        }
        other => scopes(other),
    }
}

/// Reads names with blanks between them (RFC 6749, section 3.3).
fn scopes(value: Option<&Value>) -> Result<Vec<&str>, Refusal> {
    match value {
        None => Ok(Vec::new()),
        Some(value) => {
            let text = value.as_str().ok_or(Refusal::Capabilities)?;
            Ok(text.split(' ').filter(|name| !name.is_empty()).collect())
        }
    }
}

#[cfg(test)]
mod tests;
