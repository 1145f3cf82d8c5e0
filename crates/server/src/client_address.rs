//! Where a client is: at the other end of its connection, or where a trusted proxy says.

use crate::relay::Relay;
use axum::extract::rejection::ExtensionRejection;
use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use thiserror::Error;

/// The one header that is read. `Forwarded` is not: a proxy that writes one of the two passes the other on as the client
/// made it up.
const HEADER: &str = "x-forwarded-for";

/// The client's address, of `peer` or as `proxies` tell it. Each proxy adds whom it heard to the end of the header: from
/// there on, whoever is trusted is believed about the one before it, and the first who is not is the client.
///
/// An IPv4 address in IPv6's clothes is answered as IPv4.
pub(crate) fn client_address(proxies: &[Network], peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    let mut address = peer.to_canonical();
    let lines = headers.get_all(HEADER).iter().rev();
    let entries = lines.flat_map(|line| line.to_str().unwrap_or("").rsplit(','));
    for entry in entries {
        let is_trusted = proxies.iter().any(|proxy| proxy.holds(address));
        match entry_address(entry.trim()).filter(|_| is_trusted) {
            Some(before) => address = before,
            // What comes before words that nobody understands cannot be believed either.
            None => break,
        }
    }
    address
}

/// True for operators: those who ask on this machine themselves. Whoever comes by way of a proxy does not, also one that says
/// it comes from here.
pub(crate) fn is_operator(address: IpAddr, headers: &HeaderMap) -> bool {
    address.is_loopback() && !headers.contains_key(HEADER)
}

/// True when what is said of other addresses at `peer` is believed.
pub(crate) fn is_proxy(proxies: &[Network], peer: IpAddr) -> bool {
    proxies.iter().any(|proxy| proxy.holds(peer.to_canonical()))
}

/// Whose address it is: in IPv6 everybody has a network of 64 bits.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

/// Some proxies add the port.
fn entry_address(entry: &str) -> Option<IpAddr> {
    let bare = entry.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(entry);
    let address = bare.parse().ok().or_else(|| Some(entry.parse::<SocketAddr>().ok()?.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

/// Addresses that share their first bits, as `10.0.0.0/8`, or a single one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    first: IpAddr,
    bits: u32,
}

/// A `--trusted-proxy` that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("write it as 10.0.0.0/8, fd00::/8, or a single address; what follows the network's bits is 0")]
pub struct InvalidNetwork;

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let (first, bits) = match text.split_once('/') {
            Some((first, bits)) => (first, Some(bits)),
            None => (text, None),
        };
        let first: IpAddr = first.parse().map_err(|_| InvalidNetwork)?;
        let width = width(first);
        let is_plain = |bits: &&str| !bits.is_empty() && bits.bytes().all(|byte| byte.is_ascii_digit());
        let bits = match bits {
            None => width,
            Some(bits) => {
                Some(bits).filter(is_plain).and_then(|bits| bits.parse().ok()).ok_or(InvalidNetwork)?
            }
        };
        let network = Network { first, bits };
        // Connections from IPv4 are compared as IPv4.
        let is_sound = bits <= width && network.head(first) == number(first) && first.to_canonical() == first;
        if is_sound { Ok(network) } else { Err(InvalidNetwork) }
    }
}

impl Network {
    fn holds(self, address: IpAddr) -> bool {
        address.is_ipv4() == self.first.is_ipv4() && self.head(address) == number(self.first)
    }

    /// The first bits of an address of the same kind; the others are 0.
    fn head(self, address: IpAddr) -> u128 {
        let rest = width(self.first) - self.bits;
        number(address).checked_shr(rest).and_then(|head| head.checked_shl(rest)).unwrap_or(0)
    }
}

fn width(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

/// The client's address, for whoever answers a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClientAddress(pub(crate) IpAddr);

impl FromRequestParts<Arc<Relay>> for ClientAddress {
    type Rejection = ExtensionRejection;

    async fn from_request_parts(parts: &mut Parts, relay: &Arc<Relay>) -> Result<Self, ExtensionRejection> {
        let ConnectInfo::<SocketAddr>(peer) = ConnectInfo::from_request_parts(parts, relay).await?;
        Ok(ClientAddress(client_address(&relay.trusted_proxies, peer.ip(), &parts.headers)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn address(proxies: &[&str], peer: &str, lines: &[&str]) -> String {
        let proxies: Vec<Network> = proxies.iter().map(|proxy| proxy.parse().unwrap()).collect();
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(HEADER, HeaderValue::from_str(line).unwrap());
        }
        client_address(&proxies, peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn the_client_is_the_first_from_the_right_who_is_no_trusted_proxy() {
        let proxies = ["10.0.0.0/8", "fd00::/8"];
        let cases: [(&str, &[&str], &str); 14] = [
            ("192.0.2.7", &[], "192.0.2.7"),
            ("192.0.2.7", &["198.51.100.1"], "192.0.2.7"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            ("::ffff:10.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            ("fd00::1", &["2001:db8::1"], "2001:db8::1"),
            // The client made up what is left of it.
            ("10.0.0.1", &["203.0.113.9, 198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &["203.0.113.9", "198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &["203.0.113.9", "198.51.100.1 , 10.9.9.9"], "198.51.100.1"),
            ("10.0.0.1", &["10.1.1.1,10.2.2.2"], "10.1.1.1"),
            ("10.0.0.1", &["203.0.113.9, unknown, 10.2.2.2"], "10.2.2.2"),
            ("10.0.0.1", &["203.0.113.9,,10.2.2.2"], "10.2.2.2"),
            ("10.0.0.1", &["198.51.100.1:5123"], "198.51.100.1"),
            ("10.0.0.1", &["[2001:db8::1]:5123, [fd00::7]"], "2001:db8::1"),
        ];
        for (peer, lines, expected) in cases {
            assert_eq!(address(&proxies, peer, lines), expected, "{peer} {lines:?}");
        }
        assert_eq!(address(&[], "10.0.0.1", &["198.51.100.1"]), "10.0.0.1");
        assert_eq!(address(&["0.0.0.0/0"], "192.0.2.7", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(address(&["::/0"], "192.0.2.7", &["198.51.100.1"]), "192.0.2.7");
    }

    #[test]
    fn a_network_is_its_first_bits_and_nothing_else() {
        let holds = |network: &str, address: &str| {
            network.parse::<Network>().unwrap().holds(address.parse().unwrap())
        };
        assert!(holds("10.0.0.0/8", "10.255.0.1") && !holds("10.0.0.0/8", "11.0.0.0"));
        assert!(holds("192.0.2.128/25", "192.0.2.255") && !holds("192.0.2.128/25", "192.0.2.127"));
        assert!(holds("192.0.2.7", "192.0.2.7") && !holds("192.0.2.7", "192.0.2.6"));
        assert!(holds("2001:db8::/32", "2001:db8:ffff::") && !holds("2001:db8::/32", "2001:db9::"));
        assert!(holds("::/0", "2001:db8::") && holds("0.0.0.0/0", "192.0.2.7"));
        assert!(!holds("::1", "::2") && !holds("::/96", "192.0.2.7"));
        let bad =
            ["", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "10.0.0.0/-1", "10.0.0/8", "a/8"];
        let mapped = ["::ffff:10.0.0.0/104", "fd00::1/8", "::/129", "10.0.0.0/8/8"];
        bad.iter()
            .chain(&mapped)
            .for_each(|text| assert_eq!(text.parse::<Network>(), Err(InvalidNetwork), "{text}"));
    }
}
