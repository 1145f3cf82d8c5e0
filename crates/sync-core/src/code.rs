//! The one closed list of codes: refusals on the wire, reasons of WebSocket closes, errors in Rust and
//! TypeScript (`web/src/code.ts` is checked against it).

use std::fmt;

macro_rules! codes {
    ($($variant:ident = $number:literal $name:literal: $help:literal,)*) => {
        /// What went wrong, in one word that never changes. Numbers below 500 are permanent (trying
        /// again cannot help), from 500 on transient. `4000 + number` is the WebSocket close code;
        /// stock y-websocket clients take 4400–4499 to mean that they should not reconnect.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $(#[doc = $help] $variant,)*
        }

        impl Code {
            /// All codes, in the order of their numbers.
            pub const ALL: &'static [Code] = &[$(Code::$variant,)*];

            /// The number on the wire.
            pub const fn number(self) -> u16 {
                match self { $(Code::$variant => $number,)* }
            }

            /// The name in TypeScript, logs, metrics and close reasons.
            pub const fn name(self) -> &'static str {
                match self { $(Code::$variant => $name,)* }
            }

            /// One sentence: what it means and what to do.
            pub const fn help(self) -> &'static str {
                match self { $(Code::$variant => $help,)* }
            }
        }
    };
}

codes! {
    InvalidFrame = 400 "invalid_frame": "A frame could not be decoded. The client and the relay do not speak the same protocol; update the older one.",
    InvalidUpdate = 401 "invalid_update": "An update is malformed or names things that cannot be. It was not applied; it is kept on the device that made it.",
    InvalidName = 402 "invalid_name": "A document name must have 1 to 512 bytes of UTF-8 and no control characters.",
    UnsupportedVersion = 403 "unsupported_version": "The relay does not speak this version of the protocol. Update the older side.",
    UnsupportedContent = 404 "unsupported_content": "An update holds a kind of content that not every client can read (legacy JSON, XML hooks, moves, weak links).",
    FrameTooLarge = 405 "frame_too_large": "A frame or message is larger than the limit told in the welcome. Send it in fragments, or split the edit.",
    UpdateTooLarge = 406 "update_too_large": "An update is larger than the relay's limit. Split the edit into smaller ones.",
    OriginForbidden = 407 "origin_forbidden": "The relay does not accept connections from this web page's origin. Start it with --allow-origin for this origin.",
    ProtocolViolation = 408 "protocol_violation": "A message came that is not allowed in this state. This is a defect in the client; please report it.",
    ChannelsExceeded = 409 "channels_exceeded": "Too many documents are open on one connection. Close some.",
    DocumentReset = 410 "document_reset": "The document was deleted and made anew at the relay; this device holds the old one. Its edits are kept here.",
    UpdateIncomplete = 411 "update_incomplete": "An update builds on edits that its sender could not supply. They are kept on the device that made them.",
    AwarenessTooLarge = 412 "awareness_too_large": "An awareness message is too large or has too many entries.",
    InvalidStateVector = 413 "invalid_state_vector": "A state vector could not be decoded.",
    InvalidAwareness = 414 "invalid_awareness": "An awareness message could not be decoded.",
    Forbidden = 415 "forbidden": "The token does not grant this. Edits are kept on the device; ask for a token that does.",
    InvalidToken = 416 "invalid_token": "The token is missing, malformed, not yet valid, for another relay, or signed with an unknown key.",
    TokenRevoked = 417 "token_revoked": "The token was revoked. Only one that is issued anew is accepted.",
    DocumentFull = 418 "document_full": "The document is as large as it may be at the relay. Edits are kept on the device; deleting makes room.",
    InvalidOptions = 420 "invalid_options": "An option has a value that cannot be used; the message names it.",
    InvalidValue = 421 "invalid_value": "A value cannot be stored in a document (undefined, a function, a symbol, a cycle, or nesting deeper than 64).",
    InvalidRange = 422 "invalid_range": "A position or length lies outside the text or list.",
    InvalidPath = 423 "invalid_path": "A path names something that is not there or is of another type.",
    Closed = 424 "closed": "The client or document was closed.",
    Aborted = 425 "aborted": "The caller's signal ended the wait.",
    DeviceCorrupt = 426 "device_corrupt": "A row in this device's store cannot be read. It was set aside; everything else was loaded.",
    StorageUnavailable = 500 "storage_unavailable": "The relay cannot write to its disk. Nothing is lost: edits stay on the devices until it can.",
    ShuttingDown = 501 "shutting_down": "The relay is restarting. Clients return by themselves.",
    Overloaded = 502 "overloaded": "The relay has more to do than it can. Clients try again later by themselves.",
    Timeout = 503 "timeout": "The peer did not answer in time.",
    LoadFailed = 504 "load_failed": "The relay could not load this document from its store. Nothing was changed; its operator has been told.",
    Disconnected = 505 "disconnected": "There is no connection to the relay. Edits are kept on this device and sent later.",
    TokenExpired = 506 "token_expired": "The token has expired. The client asks for a new one and comes back by itself.",
    Kicked = 507 "kicked": "The relay's administrator ended this connection. The client comes back by itself.",
    QuotaExceeded = 508 "quota_exceeded": "The documents of this name's first segment are as large as they may be. Edits are kept on the device until there is room.",
    DeviceFailed = 510 "device_failed": "The browser aborted a write to this device's store, or could not read it. A write is tried again; the edits are still in memory.",
    DeviceFull = 511 "device_full": "The browser's storage quota is used up. Free some space; the edits are still in memory.",
    DeviceUnavailable = 512 "device_unavailable": "This browser gives the page no IndexedDB (private mode or blocked storage).",
    Recovered = 513 "recovered": "The WebAssembly instance failed and was started anew from this device's store. No edit was lost.",
}

impl Code {
    /// The code with this number on the wire, if there is one.
    pub fn from_number(number: u64) -> Option<Code> {
        Code::ALL.iter().copied().find(|code| u64::from(code.number()) == number)
    }

    /// True when the same request may succeed later.
    pub const fn is_transient(self) -> bool {
        self.number() >= 500
    }

    /// The WebSocket close code.
    pub const fn close_code(self) -> u16 {
        4000 + self.number()
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::error::Error for Code {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cd1_names_and_numbers_are_unique_and_read_back() {
        for (index, code) in Code::ALL.iter().enumerate() {
            assert_eq!(Code::from_number(u64::from(code.number())), Some(*code));
            assert!(Code::ALL.iter().skip(index + 1).all(|other| other.name() != code.name()));
            assert!(Code::ALL.iter().skip(index + 1).all(|other| other.number() > code.number()));
        }
    }

    #[test]
    fn cd2_permanent_codes_stop_stock_clients_from_reconnecting() {
        for code in Code::ALL {
            assert_eq!((4400..4500).contains(&code.close_code()), !code.is_transient(), "{code}");
        }
    }
}
