//! Running other programs: the command is printed, its output passes through as it comes, and it has a time limit.

use std::ffi::{OsStr, OsString};
use std::fmt::{self, Display};
use std::io::{self, BufRead, BufReader, IsTerminal, PipeReader, Write};
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::excerpt::Excerpt;
use crate::workspace;

/// The slowest of our commands takes about 5 minutes on two cores from nothing; the rest is for machines with other work.
const LIMIT: Duration = Duration::from_secs(30 * 60);

/// What cargo sets for us when it runs `xtask`, and what would make a nested cargo rebuild crates that look at it.
const CARGO_OWN: &[&str] = &["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];

/// A program to run, with its arguments.
#[derive(Clone)]
pub(crate) struct Command {
    program: OsString,
    arguments: Vec<OsString>,
    variables: Vec<(OsString, OsString)>,
    folder: PathBuf,
    limit: Option<Duration>,
}

/// A command that runs in the workspace's root for at most 30 minutes.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    Command {
        program: program.as_ref().to_owned(),
        arguments: Vec::new(),
        variables: Vec::new(),
        folder: workspace::root(),
        limit: Some(LIMIT),
    }
}

/// `cargo` with the arguments of a line, split at blanks.
pub(crate) fn cargo(line: &str) -> Command {
    command("cargo").line(line)
}

impl Command {
    /// Adds one argument.
    pub(crate) fn argument(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds the arguments of a line, split at blanks.
    pub(crate) fn line(mut self, line: &str) -> Self {
        self.arguments.extend(line.split_whitespace().map(OsString::from));
        self
    }

    /// Sets a variable of its environment.
    pub(crate) fn variable(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.variables.push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// Runs in this folder, given from the root.
    pub(crate) fn folder(mut self, from_root: impl Into<PathBuf>) -> Self {
        self.folder = workspace::path(from_root.into());
        self
    }

    /// Ends it after this long.
    pub(crate) fn limit(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Lets it run until somebody stops it.
    pub(crate) fn without_limit(mut self) -> Self {
        self.limit = None;
        self
    }

    /// Runs it, its output passing through; fails unless it ends well, with [`Failed`] where its output goes to no
    /// terminal.
    pub(crate) fn run(self) -> Result<()> {
        println!("$ {}", self.shown());
        if io::stdout().is_terminal() {
            let status = self.wait(self.spawn(Stdio::inherit(), Stdio::inherit())?)?;
            return if status.success() { Ok(()) } else { bail!("`{}` ended with {status}", self.shown()) };
        }
        let (reader, writer) = io::pipe()?;
        let child = self.spawn(writer.try_clone()?, writer)?;
        let copy = Copy::begin(reader);
        let status = self.wait(child);
        let excerpt = copy.end();
        match status? {
            status if status.success() => Ok(()),
            status => Err(Failed { command: self.shown(), status, excerpt }.into()),
        }
    }

    /// What it writes to its standard output, trimmed, without printing anything; fails unless it ends well.
    pub(crate) fn output(self) -> Result<String> {
        let output = self.spawn(Stdio::piped(), Stdio::piped())?.wait_with_output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("`{}` ended with {}: {}", self.shown(), output.status, said.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Whether it can be started and ends well; prints nothing.
    pub(crate) fn succeeds(self) -> bool {
        self.output().is_ok()
    }

    fn spawn(&self, stdout: impl Into<Stdio>, stderr: impl Into<Stdio>) -> Result<Child> {
        let mut command = std::process::Command::new(&self.program);
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| CARGO_OWN.iter().any(|own| name.starts_with(own))) {
                command.env_remove(name);
            }
        }
        command
            .args(&self.arguments)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr);
        command.spawn().with_context(|| format!("cannot start `{}`: is it installed?", self.shown()))
    }

    fn wait(&self, mut child: Child) -> Result<ExitStatus> {
        let Some(limit) = self.limit else { return Ok(child.wait()?) };
        let id = child.id();
        let (ended, watched) = mpsc::channel::<()>();
        let watch = thread::spawn(move || {
            let expired = watched.recv_timeout(limit) == Err(RecvTimeoutError::Timeout);
            if expired {
                end_with_descendants(id);
            }
            expired
        });
        let status = child.wait()?;
        drop(ended);
        if watch.join().unwrap_or(false) {
            bail!("`{}` did not end within {} s and was ended", self.shown(), limit.as_secs());
        }
        Ok(status)
    }

    /// The line that does the same in a shell, in the workspace's root.
    fn shown(&self) -> String {
        let mut words: Vec<String> = Vec::new();
        let folder = self.folder.strip_prefix(workspace::root()).unwrap_or(&self.folder);
        if !folder.as_os_str().is_empty() {
            words.push(format!("cd {} &&", quoted(folder.as_os_str())));
        }
        words.extend(
            self.variables.iter().map(|(name, value)| format!("{}={}", name.display(), quoted(value))),
        );
        words.push(quoted(&self.program));
        words.extend(self.arguments.iter().map(|argument| quoted(argument)));
        words.join(" ")
    }
}

/// A word as a shell must be given it; paths in the workspace are shown from its root.
fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.into_owned() } else { format!("'{word}'") }
}

/// A command that did not end well.
#[derive(Debug)]
pub(crate) struct Failed {
    command: String,
    status: ExitStatus,
    /// What it said of that.
    pub(crate) excerpt: Vec<String>,
}

impl Display for Failed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "`{}` ended with {}", self.command, self.status)
    }
}

impl std::error::Error for Failed {}

/// A thread that prints what a command writes and keeps an excerpt of it.
struct Copy {
    excerpt: Arc<Mutex<Excerpt>>,
    ended: mpsc::Receiver<()>,
}

impl Copy {
    fn begin(reader: PipeReader) -> Self {
        let excerpt = Arc::new(Mutex::new(Excerpt::default()));
        let (end, ended) = mpsc::channel();
        let kept = Arc::clone(&excerpt);
        thread::spawn(move || {
            for line in BufReader::new(reader).split(b'\n').map_while(io::Result::ok) {
                // Whoever read our output may have gone; the command goes on.
                let _ = io::stdout().write_all(&[&line, b"\n".as_slice()].concat());
                kept.lock().unwrap_or_else(PoisonError::into_inner).take(&String::from_utf8_lossy(&line));
            }
            let _ = end.send(());
        });
        Self { excerpt, ended }
    }

    /// What it kept, once the command has ended. A process that the command left behind may hold the pipe open: that is
    /// not waited for.
    fn end(self) -> Vec<String> {
        let _ = self.ended.recv_timeout(Duration::from_secs(5));
        self.excerpt.lock().unwrap_or_else(PoisonError::into_inner).lines()
    }
}

/// Ends a process and all that it started: the children of a test that hangs would hold its output open. Descendants are
/// known on Linux only.
fn end_with_descendants(id: u32) {
    let children = std::fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
    for thread in children {
        let listed = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        listed.split_whitespace().filter_map(|child| child.parse().ok()).for_each(end_with_descendants);
    }
    if let Some(pid) = i32::try_from(id).ok().and_then(Pid::from_raw) {
        // It may have ended meanwhile, which is what is wanted.
        let _ = kill_process(pid, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_hangs_is_ended_with_its_children() {
        let error =
            command("sh").line("-c").argument("sleep 1000 & wait").limit(Duration::from_millis(50)).run();
        assert!(error.unwrap_err().to_string().contains("did not end within"));
    }

    #[test]
    fn the_line_that_is_shown_can_be_given_to_a_shell() {
        let shown = command("npm").folder("web").variable("A", "b c").line("run test").shown();
        assert_eq!(shown, "cd web && A='b c' npm run test");
    }
}
