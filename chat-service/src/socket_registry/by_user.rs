//! Finds the sockets of a user.

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use hashbrown::HashTable;

use crate::{room_key::Realm, socket::Socket};

/// Sockets by whose they are. It costs a pointer for each: the names are looked up in the sockets themselves.
#[derive(Debug, Default)]
pub(super) struct ByUser {
    sockets: HashTable<Arc<Socket>>,
    hashes: RandomState,
}

impl ByUser {
    pub(super) fn add(&mut self, socket: &Arc<Socket>) {
        let hash = |socket: &Arc<Socket>| hash_of(&self.hashes, socket);
        self.sockets.insert_unique(hash(socket), Arc::clone(socket), hash);
    }

    pub(super) fn remove(&mut self, socket: &Arc<Socket>) {
        let hash = hash_of(&self.hashes, socket);
        if let Ok(entry) = self.sockets.find_entry(hash, |one| Arc::ptr_eq(one, socket)) {
            entry.remove();
        }
    }

    /// The sockets of those whom whichever issuer calls by this subject.
    pub(super) fn of<'a>(
        &'a self,
        realm: Realm<'a>,
        subject: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Socket>> {
        let found = self.sockets.iter_hash(hash(&self.hashes, realm, subject));
        found.filter(move |socket| socket.realm() == realm && socket.user.subject() == subject)
    }
}

fn hash_of(hashes: &RandomState, socket: &Socket) -> u64 {
    hash(hashes, socket.realm(), socket.user.subject())
}

fn hash(hashes: &RandomState, Realm { tenant, namespace }: Realm<'_>, subject: &str) -> u64 {
    hashes.hash_one((tenant, namespace, subject))
}
