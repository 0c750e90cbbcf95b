//! Who may submit: the registered clients and the hashes of their secrets.
//!
//! Secrets themselves are never kept; a sturdy ref is recognised by the SHA-256 of its secret. This table is what every
//! submission is checked against, so a removed client is out at once, whatever capabilities it still holds.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use ocluster_scheduling::ClientId;

/// SHA-256 of a client's secret.
pub(crate) type SecretHash = [u8; 32];

/// The registered clients.
#[derive(Default)]
pub(crate) struct Clients {
    tables: RefCell<Tables>,
}

#[derive(Default)]
struct Tables {
    by_hash: HashMap<SecretHash, ClientId>,
    by_id: BTreeMap<ClientId, BTreeSet<SecretHash>>,
}

impl Clients {
    /// Registers a secret of a client, who may have others.
    pub(crate) fn add(&self, client: &ClientId, hash: SecretHash) {
        let mut tables = self.tables.borrow_mut();
        tables.by_hash.insert(hash, client.clone());
        tables.by_id.entry(client.clone()).or_default().insert(hash);
    }

    /// Takes all of a client's secrets away. Says whether there was such a client.
    pub(crate) fn remove(&self, client: &ClientId) -> bool {
        let mut tables = self.tables.borrow_mut();
        let Some(hashes) = tables.by_id.remove(client) else {
            return false;
        };
        for hash in hashes {
            tables.by_hash.remove(&hash);
        }
        true
    }

    /// Takes one secret away, and the client with its last one.
    pub(crate) fn remove_secret(&self, hash: &SecretHash) {
        let mut tables = self.tables.borrow_mut();
        let Some(client) = tables.by_hash.remove(hash) else {
            return;
        };
        if let Some(hashes) = tables.by_id.get_mut(&client) {
            hashes.remove(hash);
            if hashes.is_empty() {
                tables.by_id.remove(&client);
            }
        }
    }

    /// Whose secret this is.
    pub(crate) fn owner(&self, hash: &SecretHash) -> Option<ClientId> {
        self.tables.borrow().by_hash.get(hash).cloned()
    }

    /// Whether the client is registered.
    pub(crate) fn is_registered(&self, client: &ClientId) -> bool {
        self.tables.borrow().by_id.contains_key(client)
    }

    /// All clients, sorted bytewise.
    pub(crate) fn ids(&self) -> Vec<ClientId> {
        self.tables.borrow().by_id.keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_goes_with_its_last_secret() {
        let clients = Clients::default();
        let alice = ClientId::from("alice");
        clients.add(&alice, [1; 32]);
        clients.add(&alice, [2; 32]);
        clients.remove_secret(&[1; 32]);
        assert!(clients.is_registered(&alice));
        clients.remove_secret(&[2; 32]);
        assert!(!clients.is_registered(&alice));
    }

    #[test]
    fn removing_a_client_takes_all_its_secrets_and_nobody_elses() {
        let clients = Clients::default();
        let (alice, bob) = (ClientId::from("alice"), ClientId::from("bob"));
        clients.add(&alice, [1; 32]);
        clients.add(&alice, [2; 32]);
        clients.add(&bob, [3; 32]);
        assert!(clients.remove(&alice));
        assert_eq!(clients.owner(&[1; 32]), None);
        assert_eq!(clients.owner(&[2; 32]), None);
        assert_eq!(clients.owner(&[3; 32]), Some(bob.clone()));
        assert_eq!(clients.ids(), [bob]);
        assert!(!clients.remove(&alice));
    }
}
