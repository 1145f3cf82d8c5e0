//! What is refused, and with which code.

use crate::check::{Check, ensure};
use crate::device::Device;
use crate::edit::typed;
use crate::web_socket::{Frame, opcode};
use crate::{Failure, Target};
use bytes::Bytes;
use tidewell_sync_core::code::Code;
use tidewell_sync_core::lib0::{write_buffer, write_uint};
use tidewell_sync_core::limits::MESSAGE_BYTES_MAX;
use tidewell_sync_core::protocol::RelayMessage;

pub(crate) const CHECKS: &[Check] = &[
    Check { name: "frames-that-cannot-be-read", rules: &["CD1", "FR2", "SV1"], run: unreadable_frames },
    Check { name: "a-frame-beyond-the-limit", rules: &["FR3"], run: frame_too_large },
    Check { name: "fragments-beyond-the-limit", rules: &["FR4"], run: fragments_too_large },
    Check { name: "nothing-between-fragments", rules: &["FR5"], run: between_fragments },
    Check {
        name: "updates-that-cannot-be",
        rules: &["AD1", "AD2", "AD3", "AD4", "AD5", "AD6"],
        run: bad_updates,
    },
    Check { name: "content-that-not-everybody-reads", rules: &["AD7"], run: unsupported },
    Check { name: "a-refused-push-leaves-no-trace", rules: &["CO3"], run: refused_push },
];

/// `01` and `81 00` are the same number, and only one of them is its shortest form.
fn unreadable_frames(target: &Target) -> Result<(), Failure> {
    let frames: [(&str, &[u8], Code); 10] = [
        ("an unknown message", &[99], Code::InvalidFrame),
        ("a message that only relays send", &[41, 1], Code::InvalidFrame),
        ("a message that ends early", &[4, 1], Code::InvalidFrame),
        ("bytes that end early", &[4, 1, 1, 9, 0, 0], Code::InvalidFrame),
        ("an empty frame", &[], Code::InvalidFrame),
        ("a number without an end", &[0xff; 20], Code::InvalidFrame),
        ("a number that is not in its shortest form", &[6, 0x81, 0], Code::InvalidFrame),
        ("a name that is not UTF-8", &[2, 1, 2, 0xff, 0xfe, 0, 1, 0], Code::InvalidFrame),
        ("a state vector that cannot be", &[2, 1, 1, b'a', 0, 2, 9, 9], Code::InvalidStateVector),
        ("a state vector with more behind it", &[2, 1, 1, b'a', 0, 2, 0, 0], Code::InvalidStateVector),
    ];
    for (what, frame, code) in frames {
        let mut device = Device::connect(target)?;
        device.socket.send_binary(frame)?;
        device.fails_with(code).map_err(|failure| Failure(format!("{what}: {failure}")))?;
    }
    Ok(())
}

/// Its head only: what would follow is not waited for.
fn frame_too_large(target: &Target) -> Result<(), Failure> {
    let mut device = Device::connect(target)?;
    let too_many = u64::try_from(device.frame_bytes_max).unwrap_or(u64::MAX).saturating_mul(2);
    let mut head = vec![0x80 | opcode::BINARY, 0xff];
    head.extend_from_slice(&too_many.to_be_bytes());
    head.extend_from_slice(&[1, 2, 3, 4]);
    device.socket.send_raw(&head)?;
    device.fails_with(Code::FrameTooLarge)
}

fn fragments_too_large(target: &Target) -> Result<(), Failure> {
    let mut device = Device::connect(target)?;
    let mut fragment = vec![0; device.frame_bytes_max];
    if let Some(more) = fragment.get_mut(1) {
        *more = 1;
    }
    let fragment = Frame::new(opcode::BINARY, fragment);
    for _ in 0..MESSAGE_BYTES_MAX / device.frame_bytes_max + 2 {
        // The relay may be gone before all of them are out.
        if device.socket.send(&fragment).is_err() {
            break;
        }
    }
    device.fails_with(Code::FrameTooLarge)
}

fn between_fragments(target: &Target) -> Result<(), Failure> {
    let mut device = Device::connect(target)?;
    device.socket.send_binary(&[0, 1, 6])?;
    device.socket.send_binary(&[6, 1])?;
    device.fails_with(Code::InvalidFrame)?;
    let mut device = Device::connect(target)?;
    device.socket.send_binary(&[0, 2, 6, 1])?;
    device.fails_with(Code::InvalidFrame)
}

/// An update of one client with one struct.
fn of_one_struct(client: u64, clock: u64, structure: &[u8]) -> Bytes {
    let mut out = vec![1, 1];
    write_uint(&mut out, client);
    write_uint(&mut out, clock);
    out.extend_from_slice(structure);
    out.push(0);
    out.into()
}

/// A struct of some content, in the root text `t`.
fn in_root(kind: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![kind, 1];
    write_buffer(&mut out, b"t");
    out.extend_from_slice(content);
    out
}

fn refused_with(target: &Target, updates: &[(&str, Bytes)], code: Code) -> Result<(), Failure> {
    let mut device = Device::connect(target)?;
    for (index, (what, update)) in updates.iter().enumerate() {
        let (document, channel) = (target.document()?, u32::try_from(index).unwrap_or(u32::MAX));
        device.join(channel, &document)?;
        device.push(channel, 1, update)?;
        let refused = device.refused(channel, 1, code);
        refused.map_err(|failure| Failure(format!("{what}: {failure}")))?;
        let opened = Device::connect(target)?.join(1, &document)?;
        ensure!(opened.sequence == 0, "{what} left something in the document");
    }
    device.settled()?;
    Ok(())
}

fn bad_updates(target: &Target) -> Result<(), Failure> {
    let good = typed(1, 0, "good");
    let letter = in_root(4, &[1, b'x']);
    let behind = [good.as_ref(), &[0]].concat();
    let cut = good.slice(..good.len() - 2);
    let claims = [vec![1], vec![0xff, 0xff, 0xff, 0x7f], vec![1, 0], vec![0]].concat();
    let twice: Vec<u8> = [&[2, 1, 1, 0][..], &letter, &[1, 1, 1], &letter, &[0]].concat();
    let updates = [
        ("no update at all", Bytes::from_static(&[9, 9, 9])),
        ("an empty push", Bytes::new()),
        ("an update with something behind it", behind.into()),
        ("an update that ends early", cut),
        ("a count that the bytes cannot hold", claims.into()),
        ("a client of 2^53", of_one_struct(1 << 53, 0, &letter)),
        ("a clock of 2^31", of_one_struct(1, 1 << 31, &letter)),
        (
            "a clock that is 2^31 with its length",
            of_one_struct(1, (1 << 31) - 1, &in_root(4, &[2, b'x', b'y'])),
        ),
        ("a client with two sections", twice.into()),
        ("a struct without a length", of_one_struct(1, 0, &in_root(4, &[0]))),
        ("content of a kind that does not exist", of_one_struct(1, 0, &in_root(15, &[1]))),
        ("text that is not UTF-8", of_one_struct(1, 0, &in_root(4, &[1, 0xff]))),
        ("a number that is not in its shortest form", Bytes::from_static(&[0x80, 0, 0])),
    ];
    refused_with(target, &updates, Code::InvalidUpdate)
}

/// Legacy JSON, of one value; an XML hook.
fn unsupported(target: &Target) -> Result<(), Failure> {
    let updates = [
        ("legacy JSON", of_one_struct(1, 0, &in_root(2, &[1, 1, b'1']))),
        ("an XML hook", of_one_struct(1, 0, &in_root(7, &[5, 1, b'h']))),
    ];
    refused_with(target, &updates, Code::UnsupportedContent)
}

fn refused_push(target: &Target) -> Result<(), Failure> {
    let mut device = Device::connect(target)?;
    let (bad, good) = (target.document()?, target.document()?);
    device.join(1, &bad)?;
    device.join(2, &good)?;
    device.commit(1, 1, &typed(1, 0, "before"))?;
    device.push(1, 2, &Bytes::from_static(&[9, 9, 9]))?;
    device.push(1, 3, &typed(1, 6, "behind"))?;
    device.refused(1, 2, Code::InvalidUpdate)?;
    device.commit(2, 1, &typed(1, 0, "elsewhere"))?;
    let is_taken = |message: &RelayMessage| matches!(message, RelayMessage::Ack { channel: 1, .. });
    ensure!(!device.settled()?.iter().any(is_taken), "what follows a refused push is acknowledged");
    let mut reader = Device::connect(target)?;
    let opened = reader.join(1, &bad)?;
    let updates = reader.updates(1, opened.sequence)?;
    ensure!(crate::edit::hold(&updates, "before"), "what came before a refused push is gone");
    ensure!(!crate::edit::hold(&updates, "behind"), "what follows a refused push is taken");
    Ok(())
}
