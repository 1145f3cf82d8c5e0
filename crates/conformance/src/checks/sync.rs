//! What a client of `tidewell.v1` relies on.

use crate::check::{Check, ensure, fail};
use crate::device::{Device, NOTHING, hello};
use crate::edit::{hold, knows, typed};
use crate::{Failure, Target};
use bytes::Bytes;
use tidewell_sync_core::code::Code;
use tidewell_sync_core::document_name::DocumentName;
use tidewell_sync_core::limits::DOCUMENT_NAME_BYTES_MAX;
use tidewell_sync_core::protocol::{Access, ClientMessage, Cursor, Position, RelayMessage, Resume, VERSION};
use tidewell_sync_core::state_vector::StateVector;

pub(crate) const CHECKS: &[Check] = &[
    Check { name: "welcome", rules: &["CO1"], run: welcome },
    Check { name: "hello-comes-first-and-once", rules: &["CO1"], run: hello_first },
    Check { name: "another-version-is-refused", rules: &["CO1", "CD2"], run: version },
    Check { name: "without-the-subprotocol", rules: &["CO2"], run: subprotocol },
    Check { name: "a-forged-token-is-refused", rules: &["TK1"], run: forged_token },
    Check { name: "all-in-one-frame", rules: &["FR1"], run: one_frame },
    Check { name: "an-empty-document-opens", rules: &["CO4"], run: empty_document },
    Check { name: "names", rules: &["NM1"], run: names },
    Check { name: "channels-out-of-turn", rules: &["CO4"], run: channels_out_of_turn },
    Check { name: "numbers-begin-anew-with-each-open", rules: &["CO4"], run: opened_again },
    Check { name: "ping", rules: &["FR1"], run: ping },
    Check { name: "a-push-is-acknowledged-and-not-sent-back", rules: &["RM1", "RM4"], run: push },
    Check { name: "acknowledgements-come-in-order", rules: &["RM1"], run: acknowledged_in_order },
    Check { name: "others-receive-what-was-committed", rules: &["RM1", "RM4"], run: others_receive },
    Check { name: "a-second-offer-adds-nothing", rules: &["AD21", "RM2"], run: second_offer },
    Check { name: "catch-up-from-a-cursor", rules: &["RM8"], run: from_cursor },
    Check { name: "catch-up-from-a-state-vector", rules: &["UP3"], run: from_state_vector },
    Check { name: "a-foreign-cursor-opens-again", rules: &["RM7"], run: foreign_cursor },
    Check { name: "what-the-relay-lacks-is-asked-for", rules: &["RM11"], run: relay_lacks },
    Check { name: "a-gap-is-asked-for", rules: &["RM5"], run: gap },
    Check { name: "one-question-at-a-time", rules: &["RM5"], run: one_question },
    Check { name: "large-messages-travel-in-fragments", rules: &["FR3"], run: fragments },
];

fn welcome(target: &Target) -> Result<(), Failure> {
    let (one, two) = (Device::connect(target)?, Device::connect(target)?);
    ensure!(one.lineage == two.lineage, "the lineage is {} and then {}", one.lineage, two.lineage);
    Ok(())
}

fn hello_first(target: &Target) -> Result<(), Failure> {
    let mut silent = Device::silent(target)?;
    silent.send(&[ClientMessage::Ping { nonce: 1 }])?;
    silent.fails_with(Code::ProtocolViolation)?;
    let mut device = Device::connect(target)?;
    device.send(&[hello(target)])?;
    device.fails_with(Code::ProtocolViolation)
}

fn version(target: &Target) -> Result<(), Failure> {
    for version in [0, VERSION + 1, 99] {
        let mut device = Device::silent(target)?;
        device.send(&[ClientMessage::Hello { version, token: target.token.clone() }])?;
        device.fails_with(Code::UnsupportedVersion)?;
    }
    Ok(())
}

fn subprotocol(target: &Target) -> Result<(), Failure> {
    let mut socket = target.open("/v1/sync")?;
    ensure!(socket.subprotocol.is_none(), "a subprotocol was chosen that was not offered");
    crate::device::closed_with(&mut socket, Code::UnsupportedVersion)
}

/// A relay without keys reads no token.
fn forged_token(target: &Target) -> Result<(), Failure> {
    let mut device = Device::silent(target)?;
    if target.token.is_empty() {
        device.send(&[ClientMessage::Hello { version: VERSION, token: "no.token.at-all".to_owned() }])?;
        return match device.next()? {
            RelayMessage::Welcome { .. } | RelayMessage::Error { code: Code::InvalidToken, .. } => Ok(()),
            other => fail!("{other:?} came"),
        };
    }
    // Another signature, of the same form.
    let (signed, signature) = target.token.rsplit_once('.').unwrap_or((&target.token, ""));
    let token = format!("{signed}.{}", signature.chars().rev().collect::<String>());
    device.send(&[ClientMessage::Hello { version: VERSION, token }])?;
    device.fails_with(Code::InvalidToken)
}

fn one_frame(target: &Target) -> Result<(), Failure> {
    let mut device = Device::silent(target)?;
    let open = |channel| -> Result<_, Failure> {
        Ok(ClientMessage::Open { channel, document: target.document()?, position: NOTHING() })
    };
    device.send(&[hello(target), open(1)?, open(2)?, open(4_000_000_000)?])?;
    device.welcomed()?;
    for channel in [1, 2, 4_000_000_000] {
        device.opened(channel)?;
    }
    Ok(())
}

fn empty_document(target: &Target) -> Result<(), Failure> {
    let mut device = Device::connect(target)?;
    let opened = device.join(1, &target.document()?)?;
    ensure!(opened.sequence == 0, "a new document is at sequence {}", opened.sequence);
    ensure!(opened.resume == Resume::Continues, "a new document is not to be continued");
    ensure!(opened.access == Access::Write, "the checks need to write, and may {:?}", opened.access);
    ensure!(device.settled()?.is_empty(), "something comes of an empty document");
    Ok(())
}

fn names(target: &Target) -> Result<(), Failure> {
    let mut device = Device::connect(target)?;
    let document = target.document()?;
    let longest = format!("{:x<width$}", document.as_str(), width = DOCUMENT_NAME_BYTES_MAX);
    let longest = DocumentName::parse(&longest).map_err(|code| Failure(code.to_string()))?;
    device.join(1, &longest)?;
    let letters = DocumentName::parse(&format!("{}/κόσμε 😀?#%", document.as_str()));
    device.join(2, &letters.map_err(|code| Failure(code.to_string()))?)?;
    for name in [String::new(), format!("{}x", longest.as_str()), format!("{}\n", document.as_str())] {
        let mut device = Device::connect(target)?;
        let mut frame = vec![2, 1];
        tidewell_sync_core::lib0::write_buffer(&mut frame, name.as_bytes());
        frame.extend_from_slice(&[0, 1, 0]);
        device.socket.send_binary(&frame)?;
        device.fails_with(Code::InvalidName).map_err(|failure| Failure(format!("{name:?}: {failure}")))?;
    }
    Ok(())
}

fn channels_out_of_turn(target: &Target) -> Result<(), Failure> {
    let mut device = Device::connect(target)?;
    device.push(7, 1, &typed(1, 0, "x"))?;
    device.fails_with(Code::ProtocolViolation)?;
    let mut device = Device::connect(target)?;
    let document = target.document()?;
    device.join(1, &document)?;
    device.send(&[ClientMessage::Open { channel: 1, document, position: NOTHING() }])?;
    device.fails_with(Code::ProtocolViolation)
}

fn opened_again(target: &Target) -> Result<(), Failure> {
    let mut device = Device::connect(target)?;
    let document = target.document()?;
    device.join(1, &document)?;
    device.commit(1, 1, &typed(1, 0, "a"))?;
    device.commit(1, 2, &typed(1, 1, "b"))?;
    device.send(&[ClientMessage::Close { channel: 1 }])?;
    device.open(1, &document, Position::StateVector(knows(1, 2)))?;
    device.commit(1, 1, &typed(1, 2, "c"))?;
    // Another document on the same channel, and the same one on two.
    device.send(&[ClientMessage::Close { channel: 1 }])?;
    device.join(1, &target.document()?)?;
    device.open(2, &document, Position::StateVector(knows(1, 3)))?;
    device.open(3, &document, Position::StateVector(knows(1, 3)))?;
    let sequence = device.commit(2, 1, &typed(1, 3, "d"))?;
    let updates = device.updates(3, sequence)?;
    ensure!(hold(&updates, "d"), "one channel does not receive what another of the same connection pushed");
    Ok(())
}

fn ping(target: &Target) -> Result<(), Failure> {
    let mut device = Device::connect(target)?;
    let nonces = [0, 1, 127, 128, (1 << 53) - 1];
    device.send(&nonces.map(|nonce| ClientMessage::Ping { nonce }))?;
    for nonce in nonces {
        let message = device.next()?;
        ensure!(message == RelayMessage::Pong { nonce }, "{message:?} came instead of Pong({nonce})");
    }
    Ok(())
}

fn push(target: &Target) -> Result<(), Failure> {
    let mut device = Device::connect(target)?;
    device.join(1, &target.document()?)?;
    device.push(1, 1, &typed(1, 0, "mine"))?;
    let sequence = device.until("Ack", |message| match message {
        RelayMessage::Updates { updates, .. } => {
            ensure!(!hold(updates, "mine"), "a push is sent back to its author");
            Ok(None)
        }
        RelayMessage::Ack { channel: 1, number: 1, sequence } => Ok(Some(*sequence)),
        RelayMessage::Ack { number, .. } => fail!("number {number} is acknowledged, and only 1 was sent"),
        _ => Ok(None),
    })?;
    ensure!(sequence > 0, "what is durable has sequence 0");
    Ok(())
}

fn acknowledged_in_order(target: &Target) -> Result<(), Failure> {
    const PUSHES: u32 = 20;
    let mut device = Device::connect(target)?;
    device.join(1, &target.document()?)?;
    let pushes = (0..PUSHES).map(|clock| ClientMessage::Push {
        channel: 1,
        number: u64::from(clock) + 1,
        update: typed(1, clock, "x"),
    });
    device.send(&pushes.collect::<Vec<_>>())?;
    let mut last = (0, 0);
    device.until("the last Ack", |message| {
        let RelayMessage::Ack { number, sequence, .. } = message else { return Ok(None) };
        let (number, sequence) = (*number, *sequence);
        ensure!(number > last.0 && sequence >= last.1, "Ack({number}, {sequence}) comes after {last:?}");
        ensure!(number <= PUSHES.into(), "number {number} was never sent");
        last = (number, sequence);
        Ok((number == u64::from(PUSHES)).then_some(()))
    })?;
    let is_ack = |message: &RelayMessage| matches!(message, RelayMessage::Ack { .. });
    ensure!(!device.settled()?.iter().any(is_ack), "an Ack comes after that of the last push");
    Ok(())
}

fn others_receive(target: &Target) -> Result<(), Failure> {
    let (mut writer, mut reader) = (Device::connect(target)?, Device::connect(target)?);
    let document = target.document()?;
    writer.join(1, &document)?;
    reader.join(9, &document)?;
    for (clock, text) in [(0, "first"), (5, "second")] {
        let sequence = writer.commit(1, u64::from(clock) + 1, &typed(1, clock, text))?;
        let updates = reader.updates(9, sequence)?;
        ensure!(hold(&updates, text), "the updates through {sequence} do not hold what was committed");
    }
    let (mut late, mut elsewhere) = (Device::connect(target)?, Device::connect(target)?);
    let opened = late.join(1, &document)?;
    let updates = late.updates(1, opened.sequence)?;
    ensure!(
        hold(&updates, "first") || hold(&updates, "firstsecond"),
        "who comes later does not get the first edit"
    );
    ensure!(hold(&updates, "second"), "who comes later does not get the second edit");
    let opened = elsewhere.join(1, &target.document()?)?;
    ensure!(opened.sequence == 0, "another document is not empty");
    Ok(())
}

fn second_offer(target: &Target) -> Result<(), Failure> {
    let mut device = Device::connect(target)?;
    let document = target.document()?;
    device.join(1, &document)?;
    let first = device.commit(1, 1, &typed(1, 0, "once"))?;
    device.commit(1, 2, &typed(1, 0, "once"))?;
    let mut other = Device::connect(target)?;
    other.join(1, &document)?;
    other.commit(1, 1, &typed(1, 0, "once"))?;
    let mut reader = Device::connect(target)?;
    let opened = reader.join(1, &document)?;
    ensure!(opened.sequence == first, "{} commits came of one edit", opened.sequence);
    let updates = reader.updates(1, first)?;
    let count = updates.iter().filter(|update| hold(&[Bytes::clone(update)], "once")).count();
    ensure!(count == 1, "an edit is sent {count} times");
    Ok(())
}

fn from_cursor(target: &Target) -> Result<(), Failure> {
    let mut device = Device::connect(target)?;
    let document = target.document()?;
    let opened = device.join(1, &document)?;
    let first = device.commit(1, 1, &typed(1, 0, "first"))?;
    let second = device.commit(1, 2, &typed(1, 5, "second"))?;
    ensure!(second > first, "a later commit has sequence {second}, the one before it {first}");
    let mut back = Device::connect(target)?;
    let reopened = back.open(1, &document, device.cursor(opened, first))?;
    ensure!(reopened.resume == Resume::Continues, "a cursor of this history is not continued");
    ensure!(reopened.epoch == opened.epoch, "the epoch has changed");
    ensure!(reopened.sequence == second, "it opens at {} instead of {second}", reopened.sequence);
    let updates = back.updates(1, second)?;
    ensure!(hold(&updates, "second"), "what follows the cursor does not come");
    ensure!(!hold(&updates, "first"), "what the cursor has comes again");
    back.open(2, &document, device.cursor(opened, second))?;
    let more = back.settled()?;
    let has_updates = |message: &RelayMessage| matches!(message, RelayMessage::Updates { channel: 2, updates, .. } if !updates.is_empty());
    ensure!(!more.iter().any(has_updates), "updates come although the cursor is at the end");
    Ok(())
}

fn from_state_vector(target: &Target) -> Result<(), Failure> {
    let mut device = Device::connect(target)?;
    let document = target.document()?;
    device.join(1, &document)?;
    device.commit(1, 1, &typed(1, 0, "first"))?;
    let sequence = device.commit(1, 2, &typed(1, 5, "second"))?;
    let mut back = Device::connect(target)?;
    back.open(1, &document, Position::StateVector(knows(1, 7)))?;
    let updates = back.updates(1, sequence)?;
    ensure!(hold(&updates, "cond"), "what is beyond the state vector does not come");
    ensure!(!hold(&updates, "first") && !hold(&updates, "second"), "what the state vector has comes again");
    Ok(())
}

fn foreign_cursor(target: &Target) -> Result<(), Failure> {
    let mut device = Device::connect(target)?;
    let document = target.document()?;
    let opened = device.join(1, &document)?;
    let sequence = device.commit(1, 1, &typed(1, 0, "here"))?;
    let (epoch, lineage) = (opened.epoch, device.lineage);
    let foreign = [
        Cursor { epoch, lineage: lineage ^ 1, sequence },
        Cursor { epoch: epoch + 1, lineage, sequence },
        Cursor { epoch, lineage, sequence: sequence + 1 },
    ];
    for cursor in foreign {
        let mut back = Device::connect(target)?;
        let reopened = back.open(1, &document, Position::Cursor(cursor))?;
        let resume = reopened.resume;
        ensure!(resume == Resume::NeedsStateVector, "{cursor:?} is continued, at {sequence} of {lineage}");
        // Without a Close.
        let reopened = back.open(1, &document, Position::StateVector(StateVector::default()))?;
        ensure!(reopened.resume == Resume::Continues, "a state vector is not taken either");
        ensure!(hold(&back.updates(1, reopened.sequence)?, "here"), "the document does not come");
    }
    Ok(())
}

fn needed(device: &mut Device, channel: u32) -> Result<StateVector, Failure> {
    device.until("Need", |message| {
        Ok(match message {
            RelayMessage::Need { channel: found, state_vector } if *found == channel => {
                Some(state_vector.clone())
            }
            _ => None,
        })
    })
}

fn relay_lacks(target: &Target) -> Result<(), Failure> {
    let mut device = Device::connect(target)?;
    let document = target.document()?;
    device.open(1, &document, Position::StateVector(knows(5, 4)))?;
    let asked = needed(&mut device, 1)?;
    ensure!(asked.is_empty(), "of an empty document {asked:?} is said to be there");
    device.send(&[ClientMessage::Have { channel: 1, number: 1, update: typed(5, 0, "from") }])?;
    device.acknowledged(1, 1)?;
    let mut reader = Device::connect(target)?;
    let opened = reader.join(1, &document)?;
    ensure!(hold(&reader.updates(1, opened.sequence)?, "from"), "the answer did not enter");
    Ok(())
}

fn gap(target: &Target) -> Result<(), Failure> {
    let (mut device, mut reader) = (Device::connect(target)?, Device::connect(target)?);
    let document = target.document()?;
    device.join(1, &document)?;
    reader.join(1, &document)?;
    device.push(1, 1, &typed(1, 0, "begin"))?;
    device.push(1, 2, &typed(1, 9, "later"))?;
    let mut is_begin_acknowledged = false;
    let asked = device.until("Need", |message| match message {
        RelayMessage::Ack { number: 1, .. } => {
            is_begin_acknowledged = true;
            Ok(None)
        }
        RelayMessage::Ack { number, .. } => {
            fail!("number {number} is acknowledged, before what it builds on is there")
        }
        RelayMessage::Need { channel: 1, state_vector } => Ok(Some(state_vector.clone())),
        _ => Ok(None),
    })?;
    ensure!(asked.get(1) <= 5, "the question is for what follows {}, and the hole is at 5", asked.get(1));
    let whole = typed(1, 0, "begin+++later");
    device.send(&[ClientMessage::Have { channel: 1, number: 3, update: whole }])?;
    let sequence = device.acknowledged(1, 3)?;
    ensure!(hold(&reader.updates(1, sequence)?, "+++later"), "what came with the answer is not passed on");
    Ok(())
}

fn one_question(target: &Target) -> Result<(), Failure> {
    let mut device = Device::connect(target)?;
    device.join(1, &target.document()?)?;
    for (number, clock) in [(1, 10), (2, 20), (3, 30)] {
        device.push(1, number, &typed(1, clock, "x"))?;
    }
    needed(&mut device, 1)?;
    let more = device.settled()?;
    let questions = more.iter().filter(|message| matches!(message, RelayMessage::Need { .. })).count();
    ensure!(questions == 0, "{} questions are asked before the first is answered", questions + 1);
    ensure!(!more.iter().any(|m| matches!(m, RelayMessage::Ack { .. })), "what has a hole is acknowledged");
    Ok(())
}

fn fragments(target: &Target) -> Result<(), Failure> {
    const BYTES: usize = 3 << 20;
    let mut device = Device::connect(target)?;
    let document = target.document()?;
    device.join(1, &document)?;
    let text: String = (0..BYTES).map(|i| char::from(b'a' + (i % 26) as u8)).collect();
    device.commit(1, 1, &typed(1, 0, &text))?;
    let mut reader = Device::connect(target)?;
    let opened = reader.join(1, &document)?;
    let updates = reader.updates(1, opened.sequence)?;
    let bytes: usize = updates.iter().map(Bytes::len).sum();
    ensure!(bytes >= BYTES, "of {BYTES} bytes {bytes} come back");
    let (largest, most) = (reader.largest, reader.frame_bytes_max);
    ensure!(largest <= most, "a frame of {largest} bytes came, and the limit is {most}");
    Ok(())
}
