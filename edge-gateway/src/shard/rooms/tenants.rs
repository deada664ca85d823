//! The users and the everyone of each tenant in one namespace.

use std::{collections::HashMap, rc::Rc};

use foldhash::fast::FixedState;
use slab::Slab;

use super::{NameMap, UserName};

/// Names a tenant in one namespace while it has sockets there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TenantKey(u32);

/// See the module. Groups are those of the index, by their keys.
#[derive(Debug)]
pub(super) struct Tenants {
    by_name: HashMap<Rc<str>, TenantKey, FixedState>,
    tenants: Slab<Tenant>,
}

#[derive(Debug)]
struct Tenant {
    name: Rc<str>,
    everyone: u32,
    users: NameMap,
}

/// It is there with or without sockets.
const DEFAULT: &str = "";

impl Tenants {
    /// Those of a namespace without sockets: the default one. `everyone` makes the group of all its sockets.
    pub(super) fn new(everyone: impl FnOnce(TenantKey) -> u32) -> Self {
        let mut tenants = Self { by_name: HashMap::default(), tenants: Slab::new() };
        tenants.enter(DEFAULT, everyone);
        tenants
    }

    /// The tenant of a socket, and the group of all its sockets; `everyone` makes that where it is the first.
    pub(super) fn enter(
        &mut self,
        name: &str,
        everyone: impl FnOnce(TenantKey) -> u32,
    ) -> (TenantKey, u32) {
        if let Some(key) = self.by_name.get(name)
            && let Some(tenant) = self.tenants.get(key.0 as usize)
        {
            return (*key, tenant.everyone);
        }
        let entry = self.tenants.vacant_entry();
        let key = TenantKey(super::index_of(entry.key()));
        let (name, everyone): (Rc<str>, u32) = (name.into(), everyone(key));
        entry.insert(Tenant { name: Rc::clone(&name), everyone, users: NameMap::default() });
        self.by_name.insert(name, key);
        (key, everyone)
    }

    /// The group of a user's sockets; `user` makes it where this is the first.
    pub(super) fn enter_user(
        &mut self,
        key: TenantKey,
        subject: &str,
        user: impl FnOnce(Rc<str>) -> u32,
    ) -> Option<u32> {
        let users = &mut self.tenants.get_mut(key.0 as usize)?.users;
        if let Some(user) = users.get(subject) {
            return Some(*user);
        }
        let name: Rc<str> = subject.into();
        let user = user(Rc::clone(&name));
        users.insert(name, user);
        Some(user)
    }

    pub(super) fn everyone(&self, name: &str) -> Option<u32> {
        Some(self.tenant(name)?.everyone)
    }

    pub(super) fn user(&self, UserName { tenant, subject }: UserName<'_>) -> Option<u32> {
        self.tenant(tenant)?.users.get(subject).copied()
    }

    /// A tenant has no sockets any more. Tells whether the group of all of them is to go.
    pub(super) fn leave(&mut self, key: TenantKey) -> bool {
        let Some(tenant) = self.tenants.get(key.0 as usize) else { return true };
        if &*tenant.name == DEFAULT {
            return false;
        }
        let tenant = self.tenants.remove(key.0 as usize);
        self.by_name.remove(&tenant.name);
        true
    }

    /// A user has no sockets any more.
    pub(super) fn leave_user(&mut self, key: TenantKey, subject: &str) {
        if let Some(tenant) = self.tenants.get_mut(key.0 as usize) {
            tenant.users.remove(subject);
        }
    }

    /// Whether there is nothing but the default tenant, without users.
    #[cfg(test)]
    pub(super) fn is_bare(&self) -> bool {
        self.tenants.len() == 1 && self.tenants.iter().all(|(_, tenant)| tenant.users.is_empty())
    }

    fn tenant(&self, name: &str) -> Option<&Tenant> {
        self.tenants.get(self.by_name.get(name)?.0 as usize)
    }
}
