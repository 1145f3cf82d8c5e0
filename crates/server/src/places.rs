//! How many connections there are, of all and of each address, from their first byte on and whatever they turn out to be.

use crate::client_address::network;
use crate::limits::TOLD_PER_ADDRESS_MAX;
use crate::metrics::Limit;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// How many connections there may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PlaceLimits {
    /// Of all.
    pub(crate) total: usize,
    /// Of one address that is not loopback.
    pub(crate) per_address: usize,
    /// Of one loopback address. A proxy on this machine is one, and speaks for everybody.
    pub(crate) per_loopback: usize,
}

/// The places of all connections. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    limits: PlaceLimits,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    addresses: FxHashMap<IpAddr, Crowd>,
}

/// The connections of one address.
#[derive(Debug, Default)]
struct Crowd {
    /// Those that have places.
    inside: usize,
    /// Those that are told that there is none.
    beyond: usize,
}

/// A connection's place; it ends with this.
#[derive(Debug)]
pub(crate) struct Place {
    taken: Arc<Mutex<Taken>>,
    address: IpAddr,
    is_beyond: bool,
}

/// Where a connection stands, from its first byte on.
#[derive(Debug, Clone)]
pub(crate) enum Standing {
    /// It has a place.
    Inside(Arc<Place>),
    /// There is none for it: it is told so, and ends.
    Beyond { _told: Arc<Place> },
    /// It has a descriptor that is kept for operators on this machine, and ends once it is answered.
    Spare,
    /// It is a proxy's, which speaks for others: they have places of their own.
    Proxy,
}

impl Places {
    pub(crate) fn new(limits: PlaceLimits) -> Self {
        Places { limits, taken: Arc::default() }
    }

    /// Where a connection from an address stands; `None` when too many from there are being told already.
    pub(crate) fn arrive(&self, address: IpAddr) -> Option<Standing> {
        if let Ok(place) = self.take(address) {
            return Some(Standing::Inside(place));
        }
        let is_bounded = !address.is_loopback();
        let address = network(address);
        let mut taken = self.taken.lock();
        let crowd = taken.addresses.entry(address).or_default();
        if is_bounded && crowd.beyond >= TOLD_PER_ADDRESS_MAX {
            return None;
        }
        crowd.beyond += 1;
        Some(Standing::Beyond { _told: self.place(address, true) })
    }

    /// A place for the WebSocket of a client: its connection's own, or another one for whom a proxy speaks.
    pub(crate) fn of(&self, standing: &Standing, client: IpAddr) -> Result<Arc<Place>, Limit> {
        match standing {
            Standing::Inside(place) => Ok(place.clone()),
            Standing::Spare => Err(Limit::Connections),
            // Others may have left since it came.
            Standing::Beyond { .. } | Standing::Proxy => self.take(client),
        }
    }

    /// A place for somebody at an address, if there is one.
    pub(crate) fn take(&self, address: IpAddr) -> Result<Arc<Place>, Limit> {
        let limits = &self.limits;
        let most = if address.is_loopback() { limits.per_loopback } else { limits.per_address };
        let address = network(address);
        let mut taken = self.taken.lock();
        if taken.total >= limits.total {
            return Err(Limit::Connections);
        }
        if taken.addresses.get(&address).is_some_and(|crowd| crowd.inside >= most) {
            return Err(Limit::Address);
        }
        taken.total += 1;
        taken.addresses.entry(address).or_default().inside += 1;
        Ok(self.place(address, false))
    }

    fn place(&self, address: IpAddr, is_beyond: bool) -> Arc<Place> {
        Arc::new(Place { taken: self.taken.clone(), address, is_beyond })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.taken.lock();
        let Some(crowd) = taken.addresses.get_mut(&self.address) else { return };
        if self.is_beyond {
            crowd.beyond -= 1;
        } else {
            crowd.inside -= 1;
        }
        if crowd.inside + crowd.beyond == 0 {
            taken.addresses.remove(&self.address);
        }
        if !self.is_beyond {
            taken.total -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: PlaceLimits =
        PlaceLimits { total: usize::MAX, per_address: usize::MAX, per_loopback: usize::MAX };

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn is_inside(standing: &Option<Standing>) -> bool {
        matches!(standing, Some(Standing::Inside(_)))
    }

    #[test]
    fn an_address_is_a_network_of_64_bits_in_ipv6_and_one_address_in_ipv4() {
        let places = Places::new(PlaceLimits { per_address: 1, ..NONE });
        let first = places.take(address("2001:db8:1:2::1")).unwrap();
        assert_eq!(places.take(address("2001:db8:1:2:ffff::9")).unwrap_err(), Limit::Address);
        let _others =
            ["2001:db8:1:3::1", "192.0.2.1", "192.0.2.2"].map(|other| places.take(address(other)).unwrap());
        assert!(places.take(address("::ffff:192.0.2.1")).is_err(), "another way to write one");
        drop(first);
        assert!(places.take(address("2001:db8:1:2:ffff::9")).is_ok());
    }

    #[test]
    fn loopback_has_a_limit_of_its_own() {
        let places = Places::new(PlaceLimits { per_address: 1, ..NONE });
        let _many = [(); 3].map(|()| places.take(address("127.0.0.1")).unwrap());
        let places = Places::new(PlaceLimits { per_loopback: 1, ..NONE });
        let _one = places.take(address("127.0.0.1")).unwrap();
        assert!(places.take(address("127.0.0.1")).is_err());
    }

    #[test]
    fn those_beyond_the_limit_are_told_so_as_far_as_they_are_not_too_many_themselves() {
        let places = Places::new(PlaceLimits { per_address: 2, ..NONE });
        let client = address("192.0.2.1");
        let inside = [(); 2].map(|()| places.arrive(client));
        assert!(inside.iter().all(is_inside));
        let told: Vec<_> = (0..TOLD_PER_ADDRESS_MAX).map(|_| places.arrive(client).unwrap()).collect();
        assert!(matches!(told[0], Standing::Beyond { .. }));
        assert_eq!(places.of(&told[0], client).unwrap_err(), Limit::Address);
        assert!(places.arrive(client).is_none());
        assert!(is_inside(&places.arrive(address("192.0.2.2"))), "nobody else is concerned");
        drop(inside);
        assert!(places.of(&told[0], client).is_ok(), "there is room by now");
    }

    #[test]
    fn a_place_is_counted_once_for_as_long_as_anybody_has_it() {
        let places = Places::new(PlaceLimits { total: 1, ..NONE });
        let client = address("192.0.2.1");
        let standing = places.arrive(client).unwrap();
        let place = places.of(&standing, client).unwrap();
        drop(standing);
        assert_eq!(places.take(client).unwrap_err(), Limit::Connections);
        drop(place);
        drop(places.arrive(client).unwrap());
        assert_eq!(places.of(&Standing::Spare, client).unwrap_err(), Limit::Connections);
        let taken = places.taken.lock();
        assert!(taken.total == 0 && taken.addresses.is_empty(), "{taken:?}");
    }
}
