//! The core of one client: its documents, and the connection they share.

use crate::delta;
use crate::document::Document;
use crate::effect;
use crate::fail;
use bytes::Bytes;
use js_sys::{Array, Object, Reflect, Uint8Array};
use tidewell_sync_core::client::{Client, Effect, ReplicaId};
use tidewell_sync_core::code::Code;
use tidewell_sync_core::document_map::DocumentMap;
use tidewell_sync_core::document_name::DocumentName;
use tidewell_sync_core::limits::CLIENT_ID_END;
use tidewell_sync_core::replica::{AdoptedRow, Link, Replica, RowId, Stored};
use tidewell_sync_core::state_vector::StateVector;
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast, JsValue};
use yrs::ReadTxn;
use yrs::Transact;
use yrs::updates::decoder::Decode;

/// The core of one client.
#[wasm_bindgen]
#[derive(Default)]
pub struct Core {
    pub(crate) client: Client,
    pub(crate) documents: DocumentMap<Document>,
}

#[wasm_bindgen]
impl Core {
    /// A client without documents or connection.
    #[wasm_bindgen(constructor)]
    #[must_use]
    pub fn new() -> Core {
        Core::default()
    }

    /// Opens a document from what the device has stored. Answers `{ id, unreadable, hasGap }`; `unreadable`
    /// are positions in `received`. `client_id` is random below 2^53 and never used before.
    ///
    /// # Errors
    /// `invalid_name`.
    pub fn add(
        &mut self,
        name: &str,
        client_id: f64,
        counter_key: &str,
        received: Vec<Uint8Array>,
        cursor: &JsValue,
    ) -> Result<JsValue, JsValue> {
        let name = DocumentName::parse(name).map_err(fail)?;
        let channel = self.client.next_id();
        let mut replica = Replica::new(name, channel.0, client_id as u64 % CLIENT_ID_END);
        let received = received.iter().map(|row| Bytes::from(row.to_vec())).collect();
        let cursor = effect::cursor_from_js(cursor);
        let report = replica.load(Stored { cursor, received, outbox: Vec::new() });
        replica.track_touched();
        let id = self.client.add(replica);
        self.documents.insert(id.0, Document::new(counter_key));

        let answer = Object::new();
        let set = |key: &str, value: JsValue| drop(Reflect::set(&answer, &key.into(), &value));
        let unreadable: Array =
            report.unreadable_received.iter().map(|at| JsValue::from(*at as f64)).collect();
        set("id", JsValue::from(id.0));
        set("unreadable", unreadable.into());
        set("hasGap", report.has_gap.into());
        Ok(answer.into())
    }

    /// Closes a document.
    pub fn remove(&mut self, id: u32) {
        self.documents.remove(id);
        self.client.remove(ReplicaId(id));
    }

    /// Takes over rows `[update, edits, made]` of a tab that is gone. Answers their names here, `undefined`
    /// for those that cannot be read.
    pub fn adopt(&mut self, id: u32, rows: Vec<JsValue>) -> Vec<JsValue> {
        let rows = rows.iter().map(|row| {
            let row: &Array = row.unchecked_ref();
            let update: Uint8Array = row.get(0).unchecked_into();
            let number = |at| row.get(at).as_f64().unwrap_or_default();
            AdoptedRow { update: update.to_vec().into(), edits: number(1) as u32, made_ms: number(2) as u64 }
        });
        let rows = rows.collect();
        let names = self.with(id, |replica| replica.adopt(rows)).unwrap_or_default();
        let name = |name: Option<RowId>| name.map_or(JsValue::UNDEFINED, |row| JsValue::from(row.0 as f64));
        names.into_iter().map(name).collect()
    }

    /// The document goes on without the edits of its branches, whose `rows` these are.
    pub fn set_aside(&mut self, id: u32, rows: Vec<Uint8Array>) {
        self.with(id, |replica| replica.set_aside(&crate::to_updates(&rows)));
    }

    /// What another tab of this device knows: an edit that it has stored, or, with [`Core::lineage`] of that tab, its
    /// answer to what was asked. Nothing is taken of what holds something that is set aside.
    ///
    /// # Errors
    /// `invalid_update`.
    pub fn sibling(&mut self, id: u32, update: &[u8], lineage: Option<String>) -> Result<(), JsValue> {
        let update = Bytes::copy_from_slice(update);
        let take = |replica: &mut Replica| match lineage {
            Some(lineage) => {
                replica.sibling_answer(&update, u64::from_str_radix(&lineage, 16).unwrap_or_default())
            }
            None => replica.sibling_edit(&update),
        };
        self.with(id, take).unwrap_or(Ok(())).map_err(fail)
    }

    /// The name of the history that this replica's relay has, as the last connection told it, in hexadecimal digits.
    #[must_use]
    pub fn lineage(&self, id: u32) -> String {
        format!("{:016x}", self.client.replica(ReplicaId(id)).map_or(0, Replica::lineage))
    }

    /// Makes the edits of a branch anew, as one that counts as `edits`. `name` is the branch's own, and random.
    ///
    /// # Errors
    /// `disconnected`, `update_incomplete`, `update_too_large` and the codes of what no relay takes; then nothing was
    /// changed.
    pub fn merge_branch(
        &mut self,
        id: u32,
        name: &str,
        rows: Vec<Uint8Array>,
        edits: u32,
        now_ms: f64,
    ) -> Result<(), JsValue> {
        let rows = crate::to_updates(&rows);
        let merge = |replica: &mut Replica| replica.merge_branch(name, &rows, edits, now_ms as u64);
        self.with(id, merge).unwrap_or(Err(Code::Closed)).map_err(fail)?;
        self.take_note(id);
        Ok(())
    }

    /// A connection is there.
    pub fn connected(&mut self, token: String, now_ms: f64) {
        self.client.connected(token, now_ms as u64);
    }

    /// Another token takes the place of the connection's.
    pub fn refresh(&mut self, token: String, now_ms: f64) {
        self.client.refresh(token, now_ms as u64);
    }

    /// The connection is gone.
    pub fn disconnected(&mut self) {
        self.client.disconnected();
    }

    /// A frame came.
    pub fn frame(&mut self, frame: Vec<u8>, now_ms: f64) {
        self.client.frame(frame.into(), now_ms as u64);
    }

    /// Time has passed.
    pub fn tick(&mut self, now_ms: f64) {
        self.client.tick(now_ms as u64);
    }

    /// True when the relay has said welcome.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.client.is_live()
    }

    /// Earliest time of the next connection, in milliseconds since 1970.
    #[must_use]
    pub fn return_ms(&self) -> f64 {
        self.client.return_ms() as f64
    }

    /// Takes the effects so far, in the order in which they are to be carried out.
    pub fn drain(&mut self) -> Array {
        let effects: Vec<Effect> = self.client.drain();
        let array = Array::new();
        for effect in effects {
            if let Effect::Changed(id) = effect
                && let Some(document) = self.documents.get_mut(id.0)
            {
                document.value = None;
            }
            array.push(&effect::to_js(effect));
        }
        for (id, document) in self.documents.iter() {
            for told in document.deltas.borrow_mut().drain(..) {
                array.push(&Array::of4(
                    &"delta".into(),
                    &JsValue::from(id),
                    &JsValue::from(told.watch),
                    &delta::to_js_array(&told.changes),
                ));
            }
        }
        array
    }

    /// The whole document as one update.
    #[must_use]
    pub fn encode(&self, id: u32) -> Option<Vec<u8>> {
        Some(self.client.replica(ReplicaId(id))?.encode().to_vec())
    }

    /// Where this replica's knowledge of the relay's commits ends.
    #[must_use]
    pub fn cursor(&self, id: u32) -> JsValue {
        effect::cursor_to_js(self.client.replica(ReplicaId(id)).and_then(Replica::cursor))
    }

    /// What is known of the document, for a sibling tab to answer with [`Core::diff`].
    #[must_use]
    pub fn state_vector(&self, id: u32) -> Option<Vec<u8>> {
        Some(self.client.replica(ReplicaId(id))?.admitted().state_vector().encode())
    }

    /// What a sibling tab lacks; nothing when it lacks nothing.
    #[must_use]
    pub fn diff(&self, id: u32, state_vector: &[u8]) -> Option<Vec<u8>> {
        let replica = self.client.replica(ReplicaId(id))?;
        let theirs = StateVector::decode(state_vector).ok()?;
        if !replica.admitted().state_vector().exceeds(&theirs) {
            return None;
        }
        let theirs = yrs::StateVector::decode_v1(&theirs.encode()).ok()?;
        Some(replica.doc().transact().encode_diff_v1(&theirs))
    }

    /// `[link, code, edits, bytes, since, newest row]` with `closed`, `opening`, `live` or `refused`.
    #[must_use]
    pub fn status(&self, id: u32) -> JsValue {
        let Some(replica) = self.client.replica(ReplicaId(id)) else { return JsValue::UNDEFINED };
        let (link, code) = match replica.link() {
            Link::Closed => ("closed", None),
            Link::Opening => ("opening", None),
            Link::Live => ("live", None),
            Link::Refused(code) => ("refused", Some(code)),
        };
        let unsent = replica.unsent();
        let number =
            |number: Option<u64>| number.map_or(JsValue::UNDEFINED, |number| JsValue::from(number as f64));
        let status = Array::of5(
            &link.into(),
            &code.map_or(JsValue::UNDEFINED, |code: Code| code.name().into()),
            &number(Some(unsent.edits)),
            &number(Some(unsent.bytes)),
            &number(unsent.since_ms),
        );
        status.push(&number(replica.last_row().map(|row| row.0)));
        status.into()
    }

    /// True when every row up to `row` is acknowledged.
    #[must_use]
    pub fn is_acknowledged(&self, id: u32, row: f64) -> bool {
        self.client.replica(ReplicaId(id)).is_none_or(|replica| replica.is_acknowledged(RowId(row as u64)))
    }

    /// Runs something on a replica and takes note of what it changed.
    pub(crate) fn with<T>(&mut self, id: u32, run: impl FnOnce(&mut Replica) -> T) -> Option<T> {
        self.client.with(ReplicaId(id), run)
    }

    /// Takes note of everything that changed since the last call.
    pub(crate) fn take_note(&mut self, id: u32) {
        let Core { client, documents } = self;
        if let Some(document) = documents.get_mut(id) {
            client.with(ReplicaId(id), |replica| document.take_note(replica));
        }
    }
}
