//! Who may do what: tokens as an application would make them, and the relay's word on them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::collections::BTreeMap;
use tidewell_sync_core::code::Code;
use tidewell_sync_core::protocol::Access;

/// What one token says.
#[derive(Debug, Clone)]
struct Token {
    device: usize,
    /// By the relay's clock.
    expires_ms: u64,
    /// By document; `None` where nothing is granted.
    access: Vec<Option<Access>>,
    is_revoked: bool,
}

/// What is granted now, and the tokens made so far.
#[derive(Debug)]
pub(crate) struct Authority {
    /// By device and document.
    grants: Vec<Vec<Option<Access>>>,
    tokens: BTreeMap<String, Token>,
}

impl Authority {
    pub(crate) fn new(devices: usize, documents: usize) -> Self {
        let all = vec![Some(Access::Write); documents];
        Authority { grants: vec![all; devices], tokens: BTreeMap::new() }
    }

    /// Tokens that are made from now on grant this.
    pub(crate) fn grant(&mut self, device: usize, document: usize, access: Option<Access>) {
        let granted = self.grants.get_mut(device).and_then(|grants| grants.get_mut(document));
        granted.into_iter().for_each(|granted| *granted = access);
    }

    /// Everybody may write everything, and what was given out before ends by then.
    pub(crate) fn grant_all(&mut self, expires_ms: u64) {
        self.grants.iter_mut().flatten().for_each(|access| *access = Some(Access::Write));
        self.tokens.values_mut().for_each(|token| token.expires_ms = token.expires_ms.min(expires_ms));
    }

    /// Another token for a device.
    pub(crate) fn mint(&mut self, device: usize, expires_ms: u64) -> String {
        // Fractions of a second: so short are they here.
        let claims = format!(
            "{{\"exp\":{}.{:03},\"jti\":{}}}",
            expires_ms / 1000,
            expires_ms % 1000,
            self.tokens.len()
        );
        let token = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));
        let access = self.grants.get(device).cloned().unwrap_or_default();
        self.tokens.insert(token.clone(), Token { device, expires_ms, access, is_revoked: false });
        token
    }

    /// All tokens of a device that there are now.
    pub(crate) fn revoke(&mut self, device: usize) {
        let own = self.tokens.values_mut().filter(|token| token.device == device);
        own.for_each(|token| token.is_revoked = true);
    }

    /// Whether a token lets anybody in at this time of the relay's clock.
    pub(crate) fn look_at(&self, token: &str, relay_ms: u64) -> Result<(), Code> {
        match self.tokens.get(token) {
            None => Err(Code::InvalidToken),
            Some(token) if token.is_revoked => Err(Code::TokenRevoked),
            Some(token) if token.expires_ms <= relay_ms => Err(Code::TokenExpired),
            Some(_) => Ok(()),
        }
    }

    /// What a token grants for a document.
    pub(crate) fn access(&self, token: &str, document: usize) -> Option<Access> {
        self.tokens.get(token)?.access.get(document).copied()?
    }
}
