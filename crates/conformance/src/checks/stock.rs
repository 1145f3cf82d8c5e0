//! What stock y-websocket clients rely on.

use crate::check::{Check, ensure};
use crate::device::{Device, closed_with};
use crate::edit::{hold, knows, typed};
use crate::stock::Stock;
use crate::web_socket::opcode;
use crate::{Failure, Target};
use tidewell_sync_core::awareness::{Entry, encode};
use tidewell_sync_core::code::Code;
use tidewell_sync_core::limits::MESSAGE_BYTES_MAX;
use tidewell_sync_core::state_vector::StateVector;
use tidewell_sync_core::y_protocol::YMessage;

pub(crate) const CHECKS: &[Check] = &[
    Check { name: "stock-asks-and-is-asked", rules: &["YW1"], run: asks_and_is_asked },
    Check { name: "stock-updates-reach-others", rules: &["YW1"], run: updates_reach_others },
    Check { name: "stock-and-own-clients-meet", rules: &["YW1"], run: both_doors },
    Check { name: "stock-catches-up-from-a-state-vector", rules: &["UP3"], run: catches_up },
    Check { name: "stock-gap-is-asked-for", rules: &["RM5"], run: gap },
    Check { name: "stock-frames-that-cannot-be-read", rules: &["YW2", "CD1"], run: unreadable_frames },
    Check { name: "stock-message-beyond-the-limit", rules: &["CD2"], run: too_large },
    Check { name: "stock-refused-update-leaves-no-trace", rules: &["AD1"], run: refused_update },
    Check { name: "awareness-reaches-everybody", rules: &["AW1"], run: awareness },
    Check { name: "awareness-belongs-to-its-connection", rules: &["AW1"], run: awareness_owner },
    Check { name: "awareness-ends-with-its-connection", rules: &["AW1"], run: awareness_ends },
    Check { name: "awareness-has-bounds", rules: &["AW2"], run: awareness_bounds },
];

fn asks_and_is_asked(target: &Target) -> Result<(), Failure> {
    let mut stock = Stock::connect(target, &target.document()?)?;
    stock.send(&YMessage::SyncStep1(StateVector::default()))?;
    let (mut is_asked, mut is_answered) = (false, false);
    stock.until("SyncStep1 and SyncStep2", |message| {
        match message {
            YMessage::SyncStep1(vector) => {
                ensure!(vector.is_empty(), "of an empty document {vector:?} is said to be there");
                is_asked = true;
            }
            YMessage::SyncStep2(update) => {
                ensure!(*update == [0, 0][..], "of an empty document {} bytes come", update.len());
                is_answered = true;
            }
            _ => {}
        }
        Ok((is_asked && is_answered).then_some(()))
    })
}

fn updates_reach_others(target: &Target) -> Result<(), Failure> {
    let document = target.document()?;
    let (mut one, mut two) = (Stock::connect(target, &document)?, Stock::connect(target, &document)?);
    one.sync(StateVector::default())?;
    two.sync(StateVector::default())?;
    one.send(&YMessage::Update(typed(1, 0, "from one")))?;
    two.receives("from one")?;
    two.send(&YMessage::Update(typed(2, 0, "from two")))?;
    one.receives("from two")?;
    let mut late = Stock::connect(target, &document)?;
    let updates = late.sync(StateVector::default())?;
    ensure!(
        hold(&updates, "from one") && hold(&updates, "from two"),
        "who comes later does not get everything"
    );
    Ok(())
}

fn both_doors(target: &Target) -> Result<(), Failure> {
    let document = target.document()?;
    let (mut own, mut stock) = (Device::connect(target)?, Stock::connect(target, &document)?);
    own.join(1, &document)?;
    stock.sync(StateVector::default())?;
    own.commit(1, 1, &typed(1, 0, "from /v1/sync"))?;
    stock.receives("from /v1/sync")?;
    stock.send(&YMessage::Update(typed(2, 0, "from /yjs")))?;
    let updates = own.updates(1, 2)?;
    ensure!(hold(&updates, "from /yjs"), "an update of a stock client does not come");
    Ok(())
}

fn catches_up(target: &Target) -> Result<(), Failure> {
    let document = target.document()?;
    let mut own = Device::connect(target)?;
    own.join(1, &document)?;
    own.commit(1, 1, &typed(1, 0, "first"))?;
    own.commit(1, 2, &typed(1, 5, "second"))?;
    let mut stock = Stock::connect(target, &document)?;
    let updates = stock.sync(knows(1, 7))?;
    ensure!(hold(&updates, "cond"), "what is beyond the state vector does not come");
    ensure!(!hold(&updates, "first") && !hold(&updates, "second"), "what the state vector has comes again");
    Ok(())
}

fn gap(target: &Target) -> Result<(), Failure> {
    let document = target.document()?;
    let (mut stock, mut other) = (Stock::connect(target, &document)?, Stock::connect(target, &document)?);
    other.sync(StateVector::default())?;
    let asked = |stock: &mut Stock| {
        stock.until("SyncStep1", |message| Ok(matches!(message, YMessage::SyncStep1(_)).then_some(())))
    };
    asked(&mut stock)?;
    stock.send(&YMessage::SyncStep2(typed(1, 0, "begin")))?;
    other.receives("begin")?;
    stock.send(&YMessage::Update(typed(1, 9, "later")))?;
    asked(&mut stock)?;
    stock.send(&YMessage::SyncStep2(typed(1, 0, "begin+++later")))?;
    other.receives("+++later")
}

fn unreadable_frames(target: &Target) -> Result<(), Failure> {
    let frames: [(&str, &[u8], Code); 7] = [
        ("an unknown message", &[7], Code::InvalidFrame),
        ("an unknown kind of sync", &[0, 3, 0], Code::InvalidFrame),
        ("a message that ends early", &[0, 1], Code::InvalidFrame),
        ("bytes that end early", &[0, 2, 9, 1], Code::InvalidFrame),
        ("a state vector that cannot be", &[0, 0, 2, 9, 9], Code::InvalidStateVector),
        ("an update that cannot be", &[0, 2, 3, 9, 9, 9], Code::InvalidUpdate),
        ("awareness that cannot be", &[1, 2, 9, 9], Code::InvalidAwareness),
    ];
    for (what, frame, code) in frames {
        let mut stock = Stock::connect(target, &target.document()?)?;
        stock.socket.send_binary(frame)?;
        closed_with(&mut stock.socket, code).map_err(|failure| Failure(format!("{what}: {failure}")))?;
    }
    Ok(())
}

/// Its head only: what would follow is not waited for.
fn too_large(target: &Target) -> Result<(), Failure> {
    let mut stock = Stock::connect(target, &target.document()?)?;
    let mut head = vec![0x80 | opcode::BINARY, 0xff];
    head.extend_from_slice(&u64::try_from(MESSAGE_BYTES_MAX + 1).unwrap_or(u64::MAX).to_be_bytes());
    head.extend_from_slice(&[1, 2, 3, 4]);
    stock.socket.send_raw(&head)?;
    closed_with(&mut stock.socket, Code::FrameTooLarge)
}

fn refused_update(target: &Target) -> Result<(), Failure> {
    let document = target.document()?;
    let (mut stock, mut reader) = (Stock::connect(target, &document)?, Stock::connect(target, &document)?);
    reader.sync(StateVector::default())?;
    stock.send(&YMessage::Update(typed(1, 0, "before")))?;
    reader.receives("before")?;
    let behind = [typed(1, 6, "behind").as_ref(), &[0]].concat();
    stock.send(&YMessage::Update(behind.into()))?;
    closed_with(&mut stock.socket, Code::InvalidUpdate)?;
    let updates = Stock::connect(target, &document)?.sync(StateVector::default())?;
    ensure!(hold(&updates, "before"), "what came before it is gone");
    ensure!(!hold(&updates, "behind"), "it has left something");
    Ok(())
}

fn awareness(target: &Target) -> Result<(), Failure> {
    let document = target.document()?;
    let (mut one, mut two) = (Stock::connect(target, &document)?, Stock::connect(target, &document)?);
    let is_one = |entry: &Entry| entry.client == 1 && entry.clock == 1 && entry.state == "{\"name\":\"one\"}";
    one.announce(1, 1, "{\"name\":\"one\"}")?;
    two.awareness("the state of another", is_one, |_| false)?;
    one.awareness("one's own state", is_one, |_| false)?;
    let mut late = Stock::connect(target, &document)?;
    late.send(&YMessage::QueryAwareness)?;
    late.awareness("the state of who was there before", is_one, |_| false)
}

fn awareness_owner(target: &Target) -> Result<(), Failure> {
    let document = target.document()?;
    let (mut one, mut two) = (Stock::connect(target, &document)?, Stock::connect(target, &document)?);
    one.announce(1, 1, "\"mine\"")?;
    two.awareness("the first state", |entry| entry.client == 1, |_| false)?;
    two.announce(1, 2, "\"stolen\"")?;
    two.announce(2, 1, "\"two\"")?;
    one.awareness("a state of two", |entry| entry.client == 2, |entry| entry.state == "\"stolen\"")
}

fn awareness_ends(target: &Target) -> Result<(), Failure> {
    let document = target.document()?;
    let (mut one, mut two) = (Stock::connect(target, &document)?, Stock::connect(target, &document)?);
    one.announce(1, 1, "{}")?;
    two.awareness("the first state", |entry| entry.client == 1, |_| false)?;
    drop(one);
    two.awareness("null for who has gone", |entry| entry.client == 1 && entry.is_gone(), |_| false)
}

fn awareness_bounds(target: &Target) -> Result<(), Failure> {
    let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
    let long = format!("\"{}\"", "x".repeat(64 << 10));
    let of = |client, state: &str| Entry { client, clock: 1, state: state.into() };
    let many: Vec<Entry> = (0..4097).map(|client| of(client, "1")).collect();
    let bad = [
        ("a state that is no JSON", vec![of(1, "{")], Code::InvalidAwareness),
        ("a state that nests too deep", vec![of(1, &deep)], Code::InvalidAwareness),
        ("a state that is too long", vec![of(1, &long)], Code::AwarenessTooLarge),
        ("too many entries", many, Code::AwarenessTooLarge),
    ];
    for (what, entries, code) in bad {
        let mut stock = Stock::connect(target, &target.document()?)?;
        stock.send(&YMessage::Awareness(encode(entries.iter()).into()))?;
        closed_with(&mut stock.socket, code).map_err(|failure| Failure(format!("{what}: {failure}")))?;
    }
    Ok(())
}
