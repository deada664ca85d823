//! Counts what one address, one user and one tenant has and does, over all shards.
//!
//! Nothing is kept of whoever has nothing open and has done nothing lately: many addresses cost no more memory than the
//! connections that they have.

mod address;
mod allowance;
mod identity;
mod surpluses;
mod tallies;

pub(crate) use self::{
    address::{AddressLimits, AddressRefusal, Admitted},
    allowance::{Allowance, Steady},
    identity::{Exceeded, IdentityLimits, Party, Shares, TooManySockets},
    surpluses::Whose,
    tallies::Held,
};
