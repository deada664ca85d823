//! Finds the sockets of a user.

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use hashbrown::{HashTable, hash_table::Entry};
use smallvec::{SmallVec, smallvec};

use crate::{room_key::Realm, socket::Socket};

/// Sockets by whose they are. No name is kept: names are looked up in the sockets themselves.
#[derive(Debug, Default)]
pub(super) struct ByUser {
    /// Those whom one issuer or another calls by the same subject. Never empty.
    namesakes: HashTable<SmallVec<[Arc<Socket>; 1]>>,
    hashes: RandomState,
}

impl ByUser {
    pub(super) fn add(&mut self, socket: &Arc<Socket>) {
        let (realm, subject) = name_of(socket);
        let hash = |sockets: &SmallVec<_>| hash_of_all(&self.hashes, sockets);
        match self.namesakes.entry(
            hash_of(&self.hashes, realm, subject),
            |sockets| is_of(sockets, realm, subject),
            hash,
        ) {
            Entry::Occupied(mut found) => {
                let sockets = found.get_mut();
                if let [alone] = &**sockets {
                    alone.set_namesakes(true);
                }
                socket.set_namesakes(true);
                sockets.push(Arc::clone(socket));
            }
            Entry::Vacant(vacant) => drop(vacant.insert(smallvec![Arc::clone(socket)])),
        }
    }

    pub(super) fn remove(&mut self, socket: &Arc<Socket>) {
        let (realm, subject) = name_of(socket);
        let hash = hash_of(&self.hashes, realm, subject);
        let found = self.namesakes.find_entry(hash, |sockets| is_of(sockets, realm, subject));
        let Ok(mut found) = found else { return };
        let sockets = found.get_mut();
        if let Some(place) = sockets.iter().position(|one| Arc::ptr_eq(one, socket)) {
            sockets.swap_remove(place);
        }
        match &**sockets {
            [] => drop(found.remove()),
            [alone] => alone.set_namesakes(false),
            [_, _, ..] => {}
        }
    }

    /// The sockets of those whom whichever issuer calls by this subject.
    pub(super) fn of(
        &self,
        realm: Realm<'_>,
        subject: &str,
    ) -> impl Iterator<Item = &Arc<Socket>> + use<'_> {
        let hash = hash_of(&self.hashes, realm, subject);
        let found = self.namesakes.find(hash, |sockets| is_of(sockets, realm, subject));
        found.into_iter().flatten()
    }
}

fn name_of(socket: &Socket) -> (Realm<'_>, &str) {
    (socket.realm(), socket.user.subject())
}

fn is_of(sockets: &[Arc<Socket>], realm: Realm<'_>, subject: &str) -> bool {
    sockets.first().is_some_and(|socket| name_of(socket) == (realm, subject))
}

fn hash_of_all(hashes: &RandomState, sockets: &[Arc<Socket>]) -> u64 {
    sockets.first().map_or(0, |socket| {
        let (realm, subject) = name_of(socket);
        hash_of(hashes, realm, subject)
    })
}

fn hash_of(hashes: &RandomState, Realm { tenant, namespace }: Realm<'_>, subject: &str) -> u64 {
    hashes.hash_one((tenant, namespace, subject))
}
