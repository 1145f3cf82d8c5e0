//! A yrs document whose edits are updates.

use bytes::Bytes;
use tidewell_sync_core::state_vector::StateVector;
use yrs::updates::decoder::Decode;
use yrs::updates::encoder::Encode;
use yrs::{ClientID, Doc, GetString, OffsetKind, Options, ReadTxn, Text, Transact, Update};

pub(crate) struct Author {
    doc: Doc,
}

impl Author {
    pub(crate) fn new(client: u64) -> Self {
        let mut options = Options::with_client_id(ClientID::new(client));
        options.offset_kind = OffsetKind::Utf16;
        Author { doc: Doc::with_options(options) }
    }

    pub(crate) fn types(&self, text: &str) -> Bytes {
        let root = self.doc.get_or_insert_text("t");
        let mut transaction = self.doc.transact_mut();
        let end = root.len(&transaction);
        root.insert(&mut transaction, end, text);
        transaction.encode_update_v1().into()
    }

    /// Types backwards: each letter stays a struct of its own.
    pub(crate) fn types_before(&self, text: &str) -> Bytes {
        let root = self.doc.get_or_insert_text("t");
        let mut transaction = self.doc.transact_mut();
        text.chars().for_each(|letter| root.insert(&mut transaction, 0, &letter.to_string()));
        transaction.encode_update_v1().into()
    }

    /// Puts a value into the text, which cannot be cut.
    pub(crate) fn embeds(&self, value: &str) -> Bytes {
        let root = self.doc.get_or_insert_text("t");
        let mut transaction = self.doc.transact_mut();
        root.insert_embed(&mut transaction, 0, value);
        transaction.encode_update_v1().into()
    }

    pub(crate) fn deletes_first(&self) -> Bytes {
        let root = self.doc.get_or_insert_text("t");
        let mut transaction = self.doc.transact_mut();
        root.remove_range(&mut transaction, 0, 1);
        transaction.encode_update_v1().into()
    }

    /// Deletes everything.
    pub(crate) fn deletes_all(&self) -> Bytes {
        let root = self.doc.get_or_insert_text("t");
        let mut transaction = self.doc.transact_mut();
        let end = root.len(&transaction);
        root.remove_range(&mut transaction, 0, end);
        transaction.encode_update_v1().into()
    }

    pub(crate) fn applies(&self, update: &[u8]) {
        let update = Update::decode_v1(update).unwrap();
        self.doc.transact_mut().apply_update(update).unwrap();
    }

    pub(crate) fn text(&self) -> String {
        self.doc.get_or_insert_text("t").get_string(&self.doc.transact())
    }

    pub(crate) fn beyond(&self, known: &StateVector) -> Bytes {
        let known = yrs::StateVector::decode_v1(&known.encode()).unwrap();
        self.doc.transact().encode_diff_v1(&known).into()
    }

    pub(crate) fn state(&self) -> Bytes {
        self.beyond(&StateVector::default())
    }

    pub(crate) fn state_vector(&self) -> StateVector {
        StateVector::decode(&self.doc.transact().state_vector().encode_v1()).unwrap()
    }
}
