//! A document built with yrs: what a reader ends up with. Only for checks at the end and for making fixtures.

use crate::typing::ROOT;
use anyhow::Result;
use yrs::block::ClientID;
use yrs::updates::decoder::Decode;
use yrs::{Doc, GetString, OffsetKind, Options, ReadTxn, StateVector, TextRef, Transact, Update};

/// Updates in one transaction: one for all is quadratic.
const UPDATES_AT_ONCE: usize = 64;

/// One copy of a document.
pub(crate) struct Replica {
    doc: Doc,
    text: TextRef,
}

impl Replica {
    /// Without content.
    pub(crate) fn new() -> Self {
        Replica::of_client(1)
    }

    /// Without content, its own edits made by `client`.
    pub(crate) fn of_client(client: u64) -> Self {
        let options = Options {
            client_id: ClientID::new(client),
            offset_kind: OffsetKind::Utf16,
            skip_gc: false,
            ..Options::default()
        };
        let doc = Doc::with_options(options);
        let text = doc.get_or_insert_text(ROOT);
        Replica { doc, text }
    }

    /// Takes one update in.
    pub(crate) fn apply(&mut self, update: &[u8]) -> Result<()> {
        self.apply_all([update])
    }

    /// Takes updates in.
    pub(crate) fn apply_all<'a>(&mut self, updates: impl IntoIterator<Item = &'a [u8]>) -> Result<()> {
        let mut updates = updates.into_iter().peekable();
        while updates.peek().is_some() {
            let mut transaction = self.doc.transact_mut();
            for update in updates.by_ref().take(UPDATES_AT_ONCE) {
                transaction.apply_update(Update::decode_v1(update)?)?;
            }
        }
        Ok(())
    }

    /// Edits in one transaction; answers with its update.
    pub(crate) fn edit(&mut self, edit: impl FnOnce(&TextRef, &mut yrs::TransactionMut<'_>)) -> Vec<u8> {
        let mut transaction = self.doc.transact_mut();
        edit(&self.text, &mut transaction);
        transaction.encode_update_v1()
    }

    /// The text.
    pub(crate) fn text(&self) -> String {
        self.text.get_string(&self.doc.transact())
    }

    /// The whole document as one update.
    pub(crate) fn state(&self) -> Vec<u8> {
        self.doc.transact().encode_diff_v1(&StateVector::default())
    }
}
