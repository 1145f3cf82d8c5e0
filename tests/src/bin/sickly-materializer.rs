//! A materializer that some documents are too much for: the relay's own one, behind a look at what it is asked.
//!
//! A document that holds `<poison>` kills it, one that holds `<hang>` keeps it for ever, and the first that holds
//! `<unlucky>` finds it killed by somebody else. `TIDEWELL_MATERIALIZER` names the relay's program, `TIDEWELL_UNLUCKY` a file
//! that is made when that has happened. Once there is the file that `TIDEWELL_MENDED` names, no document is too much for it.

use anyhow::Context;
use rustix::process::{Signal, getpid, kill_process};
use std::fs::File;
use std::io::{ErrorKind, Read, Write, stdin, stdout};
use std::path::Path;
use std::process::{Command, Stdio};

fn main() -> anyhow::Result<()> {
    let program = std::env::var_os("TIDEWELL_MATERIALIZER").context("TIDEWELL_MATERIALIZER names nothing")?;
    let unlucky = std::env::var_os("TIDEWELL_UNLUCKY").context("TIDEWELL_UNLUCKY names nothing")?;
    let mended = std::env::var_os("TIDEWELL_MENDED").context("TIDEWELL_MENDED names nothing")?;
    let mut materializer =
        Command::new(program).arg("materialize").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut requests = materializer.stdin.take().context("no standard input")?;
    let mut answers = materializer.stdout.take().context("no standard output")?;
    while let Some(request) = read_frame(&mut stdin())? {
        let is_sick = !Path::new(&mended).exists();
        let holds = |word: &str| is_sick && request.windows(word.len()).any(|part| part == word.as_bytes());
        while holds("<hang>") {
            std::thread::park();
        }
        if holds("<poison>") || (holds("<unlucky>") && File::create_new(&unlucky).is_ok()) {
            kill_process(getpid(), Signal::KILL)?;
        }
        requests.write_all(&request)?;
        let answer = read_frame(&mut answers)?.context("the materializer has ended")?;
        stdout().write_all(&answer)?;
        stdout().flush()?;
    }
    Ok(())
}

/// A frame with its head, the length; `None` at the end.
fn read_frame(from: &mut impl Read) -> anyhow::Result<Option<Vec<u8>>> {
    let mut frame = vec![0; 4];
    match from.read_exact(&mut frame) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let length = u32::from_le_bytes([frame[0], frame[1], frame[2], frame[3]]);
    from.take(length.into()).read_to_end(&mut frame)?;
    Ok(Some(frame))
}
