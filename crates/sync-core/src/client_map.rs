//! Something for each client of a document.

use std::collections::BTreeMap;

/// Values by client ID. Strangers choose the IDs, so this is no hash table that they could fill to one side, and no
/// sorted list that they could fill from the wrong end.
///
/// The tree holds positions, so that there is one kind of tree in the browser's module and not one for each kind of
/// value: each takes 5 kB of code.
#[derive(Debug, Clone)]
pub struct ClientMap<T> {
    positions: BTreeMap<u64, u32>,
    values: Vec<T>,
}

impl<T> Default for ClientMap<T> {
    fn default() -> Self {
        ClientMap { positions: BTreeMap::new(), values: Vec::new() }
    }
}

impl<T: PartialEq> PartialEq for ClientMap<T> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<T: Eq> Eq for ClientMap<T> {}

impl<T> ClientMap<T> {
    /// The value of `client`.
    pub fn get(&self, client: u64) -> Option<&T> {
        self.values.get(*self.positions.get(&client)? as usize)
    }

    /// The value of `client`, to change it.
    pub fn get_mut(&mut self, client: u64) -> Option<&mut T> {
        self.values.get_mut(*self.positions.get(&client)? as usize)
    }

    /// The value of `client`, which is made if it is not there.
    pub fn get_or_insert_with(&mut self, client: u64, make: impl FnOnce() -> T) -> &mut T {
        let at = match self.positions.get(&client) {
            Some(at) => *at as usize,
            None => {
                let at = self.values.len();
                // Documents have at most `UPDATE_CLIENTS_MAX` clients.
                self.positions.insert(client, at as u32);
                if at == 0 {
                    // Most documents of an idle relay have one client.
                    self.values.reserve_exact(1);
                }
                self.values.push(make());
                at
            }
        };
        &mut self.values[at]
    }

    /// All values, in the order of their clients.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, &T)> {
        self.positions.iter().filter_map(|(client, at)| Some((*client, self.values.get(*at as usize)?)))
    }

    /// All values in no order, to change them.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.values.iter_mut()
    }

    /// How many clients there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// True when there is no client.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::ClientMap;

    fn map(clients: &[u64]) -> ClientMap<u64> {
        let mut map = ClientMap::default();
        clients.iter().for_each(|client| *map.get_or_insert_with(*client, || 1) *= client);
        map
    }

    #[test]
    fn values_are_found_by_client_and_come_in_the_order_of_clients() {
        let map = map(&[5, 2, 9, 2]);
        assert_eq!((map.len(), map.get(2), map.get(3)), (3, Some(&4), None));
        assert_eq!(map.iter().collect::<Vec<_>>(), [(2, &4), (5, &5), (9, &9)]);
    }

    #[test]
    fn the_order_in_which_clients_came_does_not_matter() {
        assert_eq!(map(&[1, 2]), map(&[2, 1]));
        assert_ne!(map(&[1, 2]), map(&[1, 3]));
        assert_ne!(map(&[1, 2]), map(&[1, 2, 2]));
    }
}
