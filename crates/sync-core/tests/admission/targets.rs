//! What each fuzz target does with its bytes. A fuzzer feeds it what it makes up; `corpus.rs` what is kept.

use crate::dice::Dice;
use crate::survival;
use bytes::Bytes;
use tidewell_sync_core::awareness;
use tidewell_sync_core::document_name::DocumentName;
use tidewell_sync_core::lib0::Reader;
use tidewell_sync_core::limits::{DOCUMENT_NAME_BYTES_MAX, MESSAGE_BYTES_MAX};
use tidewell_sync_core::protocol::{ClientMessage, Reassembly, RelayMessage, split};
use tidewell_sync_core::state_vector::StateVector;
use tidewell_sync_core::update::{Scan, StructKind, read_struct};
use tidewell_sync_core::y_protocol::YMessage;
use yrs::block::ClientID;
use yrs::updates::decoder::Decode;

/// An update is offered to a document that knows some history: a refusal leaves no trace, the pieces are what was
/// admitted, and a second offer adds nothing. The first byte picks the history, the second how much of it is known, the
/// rest is the update.
pub fn admission(bytes: &[u8]) {
    let [log, known, update @ ..] = bytes else { return };
    let mut admitted = survival::known_part(usize::from(*log), usize::from(*known)).clone();
    survival::taken_pieces(&mut admitted, &Bytes::copy_from_slice(update));
}

/// Whatever admission lets in of mutants of valid updates, yrs survives, and goes on to work. The bytes are the choices:
/// which document, which updates, what is changed in them.
pub fn admission_then_yrs(bytes: &[u8]) {
    survival::survive(&mut Dice::of_bytes(bytes));
}

/// Awareness updates: what can be read is written again with the same meaning.
pub fn awareness(bytes: &[u8]) {
    let Ok(entries) = awareness::decode(bytes) else { return };
    assert_eq!(awareness::decode(&awareness::encode(entries.iter())), Ok(entries));
}

/// Frames of clients: what can be read is written again in the same words, and nothing panics.
pub fn client_frames(bytes: &[u8]) {
    let Ok(messages) = ClientMessage::read_all(&Bytes::copy_from_slice(bytes)) else { return };
    let mut out = Vec::new();
    messages.iter().for_each(|message| message.write(&mut out));
    assert_eq!(ClientMessage::read_all(&out.into()), Ok(messages));
}

/// Document names: valid ones are what they were.
pub fn document_name(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let Ok(name) = DocumentName::parse(text) else { return };
    assert_eq!(name.as_str(), text);
    assert!((1..=DOCUMENT_NAME_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control));
}

/// Frames one after the other into a reassembly: it never holds more than a message may have.
pub fn fragments(bytes: &[u8]) {
    let mut reassembly = Reassembly::default();
    let mut rest = Bytes::copy_from_slice(bytes);
    // The first byte of each frame is its length.
    while let Some(len) = rest.first().copied() {
        let end = (1 + usize::from(len)).min(rest.len());
        let frame = rest.slice(1..end);
        rest = rest.slice(end..);
        match reassembly.take(frame) {
            Ok(Some(messages)) => assert!(messages.len() <= MESSAGE_BYTES_MAX),
            Ok(None) => {}
            Err(_) => break,
        }
    }
    let whole = Bytes::from([&[6u8], bytes].concat());
    let frames = split(whole.clone(), 16 + bytes.len() / 3);
    let mut reassembly = Reassembly::default();
    let last = frames.into_iter().map(|frame| reassembly.take(frame)).last();
    assert_eq!(last, Some(Ok(Some(whole))));
}

/// The reader of lib0's encoding: it never panics, never reads twice what it has read, and keeps inside its bytes.
pub fn lib0_reader(bytes: &[u8]) {
    let mut reader = Reader::new(bytes);
    while let Ok(kind) = reader.u8() {
        let before = reader.position();
        let read = match kind % 6 {
            0 => reader.uint().map(drop),
            1 => reader.uint32().map(drop),
            2 => reader.skip_int(),
            3 => reader.count(1).map(|count| assert!(count <= bytes.len())),
            4 => reader.buffer().map(drop),
            _ => reader.string().map(drop),
        };
        if read.is_err() {
            break;
        }
        assert!(reader.position() > before);
        assert_eq!(reader.position() + reader.remaining(), bytes.len());
    }
}

/// Frames of relays: what can be read is written again with the same meaning, and nothing panics.
pub fn relay_frames(bytes: &[u8]) {
    let Ok(messages) = RelayMessage::read_all(&Bytes::copy_from_slice(bytes)) else { return };
    let mut out = Vec::new();
    messages.iter().for_each(|message| message.write(&mut out));
    assert_eq!(RelayMessage::read_all(&out.into()), Ok(messages));
}

/// State vectors: what can be read, yrs reads as the same clocks.
pub fn state_vector(bytes: &[u8]) {
    let Ok(vector) = StateVector::decode(bytes) else { return };
    let theirs = yrs::StateVector::decode_v1(bytes).expect("yrs reads what we read");
    for (client, clock) in vector.iter() {
        assert_eq!(theirs.get(&ClientID::new(client)), clock);
    }
    let again = StateVector::decode(&vector.encode()).expect("what was written can be read");
    assert_eq!(again, vector);
}

/// The scanner of updates: what it takes, yrs decodes, with the same clocks.
pub fn update_scan(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    let Ok(scan) = Scan::new(&bytes) else { return };
    let theirs = yrs::Update::decode_v1(&bytes).expect("yrs decodes what the scanner takes");
    if scan.is_canonical {
        assert_eq!(theirs.delete_set().is_empty(), scan.deletes.is_empty());
    }
    for section in scan.sections.iter().filter(|section| section.clock == 0 && section.count > 0) {
        let clock = theirs.state_vector().get(&ClientID::new(section.client));
        let mut reader = Reader::at(&bytes, section.start);
        let mut end = 0;
        for _ in 0..section.count {
            let read = read_struct(&mut reader, end).expect("it was scanned");
            if matches!(read.kind, StructKind::Skip) {
                break;
            }
            end = read.end();
        }
        assert_eq!(clock, end);
    }
}

/// Frames of stock y-websocket clients: what can be read is written again with the same meaning.
pub fn y_frames(bytes: &[u8]) {
    let Ok(messages) = YMessage::read_all(&Bytes::copy_from_slice(bytes)) else { return };
    for message in messages {
        assert_eq!(YMessage::read_all(&message.to_frame()), Ok(vec![message]));
    }
}
