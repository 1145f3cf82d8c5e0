//! Which web pages may connect. Any page in any browser can open a socket to loopback, so this is checked
//! from the first day.

use std::net::IpAddr;
use thiserror::Error;

/// The origins that may connect: none at all (programs send none), loopback ones, and those named.
#[derive(Debug, Clone, Default)]
pub(crate) struct Origins {
    named: Vec<String>,
}

/// An `--allow-origin` that cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{given:?} is not an origin: write it as https://app.example or http://host:port")]
pub struct InvalidOrigin {
    /// As it was given.
    pub given: String,
}

impl Origins {
    /// Loopback and those named.
    pub(crate) fn new(named: &[String]) -> Result<Self, InvalidOrigin> {
        let parse = |given: &String| {
            let origin = given.to_ascii_lowercase();
            match host(&origin) {
                Some(_) => Ok(origin),
                None => Err(InvalidOrigin { given: given.clone() }),
            }
        };
        Ok(Origins { named: named.iter().map(parse).collect::<Result<_, _>>()? })
    }

    /// True when a page of this origin may connect.
    pub(crate) fn allow(&self, origin: Option<&str>) -> bool {
        let Some(origin) = origin else { return true };
        let origin = origin.to_ascii_lowercase();
        self.named.contains(&origin) || host(&origin).is_some_and(is_loopback)
    }
}

/// The host of `scheme://host[:port]`; `None` when it is anything else.
fn host(origin: &str) -> Option<&str> {
    let (scheme, rest) = origin.split_once("://")?;
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    let (host, port) = match rest.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            (host, after.strip_prefix(':').or_else(|| after.is_empty().then_some("1"))?)
        }
        None => rest.split_once(':').unwrap_or((rest, "1")),
    };
    let is_host = !host.is_empty()
        && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | ':' | '_'));
    (is_scheme && is_host && port.parse::<u16>().is_ok()).then_some(host)
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_and_loopback_pages_may_connect_and_other_pages_only_by_name() {
        let origins = Origins::new(&["https://App.example".to_owned()]).unwrap();
        let allowed = [
            "http://localhost:5173",
            "http://127.0.0.1",
            "https://[::1]:8080",
            "http://demo.localhost",
            "HTTPS://app.example",
        ];
        assert!(origins.allow(None));
        allowed.iter().for_each(|origin| assert!(origins.allow(Some(origin)), "{origin}"));
        let refused = [
            "https://evil.example",
            "http://app.example",
            "https://app.example:444",
            "http://localhost.evil.example",
            "http://127.0.0.1.evil.example",
            "http://localhost@evil.example",
            "http://evil.example/localhost",
            "null",
            "",
        ];
        refused.iter().for_each(|origin| assert!(!origins.allow(Some(origin)), "{origin}"));
    }

    #[test]
    fn an_origin_with_a_path_or_without_a_scheme_is_no_origin() {
        for given in ["app.example", "https://app.example/", "*", "https://", "https://a:b", ""] {
            assert!(Origins::new(&[given.to_owned()]).is_err(), "{given}");
        }
    }
}
