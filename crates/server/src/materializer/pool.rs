//! The processes, seen from the relay.

use super::{frame_bytes, frame_head, read_answer, request};
use crate::limits::{MATERIALIZER_FRAME_BYTES_MAX, MATERIALIZER_IDLE, MATERIALIZER_TIME, MATERIALIZERS_MAX};
use crate::metrics::Metrics;
use bytes::Bytes;
use parking_lot::Mutex;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufWriter};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};

/// What is started.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
}

impl Program {
    /// The program named, or else this one, also after its file was replaced by a newer one.
    pub(crate) fn new(named: Option<&Path>) -> Self {
        let own = Path::new("/proc/self/exe");
        let path = match named {
            Some(path) => path.to_owned(),
            None if own.exists() => own.to_owned(),
            None => std::env::current_exe().unwrap_or_default(),
        };
        Program { path, arguments: vec!["materialize".into()] }
    }
}

/// Why there is no snapshot.
#[derive(Debug, Error)]
pub(crate) enum CompactError {
    /// No process could be started: not the document's fault.
    #[error("a materializer process cannot be started: {0}")]
    Spawn(io::Error),
    /// The relay is ending.
    #[error("the relay is ending")]
    Ending,
    /// Two processes died of it, one after the other.
    #[error("the materializer process died: {0}")]
    Died(String),
    /// Two processes did not answer in time.
    #[error("the materializer process did not answer within {} s", MATERIALIZER_TIME.as_secs())]
    Timeout,
    /// It answered that it cannot.
    #[error("the document cannot be built: {0}")]
    Failed(String),
    /// It is larger than one request may be.
    #[error("the document has more than {MATERIALIZER_FRAME_BYTES_MAX} bytes")]
    TooLarge,
}

impl CompactError {
    /// The word for the quarantine, if the document is at fault.
    pub(crate) fn quarantine(&self) -> Option<&'static str> {
        match self {
            CompactError::Spawn(_) | CompactError::Ending => None,
            CompactError::Died(_) => Some("crash"),
            CompactError::Timeout => Some("timeout"),
            CompactError::Failed(_) => Some("failed"),
            CompactError::TooLarge => Some("too_large"),
        }
    }
}

/// A bounded number of processes, started when needed and ended when idle.
#[derive(Clone)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    program: Program,
    time_max: Duration,
    permits: Semaphore,
    idle: Mutex<Vec<Process>>,
    metrics: Arc<Metrics>,
}

/// The right to use one process.
pub(crate) struct Turn<'a>(#[expect(dead_code, reason = "it ends with the turn")] SemaphorePermit<'a>);

/// One process that waits for a request. It is killed when this is dropped.
struct Process {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
    idle_since: Instant,
}

impl Pool {
    pub(crate) fn new(program: Program, metrics: Arc<Metrics>) -> Self {
        Self::with_time(program, metrics, MATERIALIZER_TIME)
    }

    fn with_time(program: Program, metrics: Arc<Metrics>, time_max: Duration) -> Self {
        let (permits, idle) = (Semaphore::new(MATERIALIZERS_MAX), Mutex::default());
        Pool { shared: Arc::new(Shared { program, time_max, permits, idle, metrics }) }
    }

    /// Waits until a document may be compacted: whoever has no turn yet should not hold one in memory.
    pub(crate) async fn turn(&self) -> Result<Turn<'_>, CompactError> {
        self.shared.permits.acquire().await.map(Turn).map_err(|_| CompactError::Ending)
    }

    /// The state after `updates`, as one update, not yet verified by us.
    pub(crate) async fn compact(&self, _: &Turn<'_>, updates: &[Bytes]) -> Result<Bytes, CompactError> {
        if request(updates).map(|part| part.len()).sum::<usize>() > MATERIALIZER_FRAME_BYTES_MAX {
            return Err(CompactError::TooLarge);
        }
        // A process can die for other reasons than this request (an operator, a lack of memory): only the
        // second death in a row, of a fresh process, is the document's.
        match self.ask(updates).await {
            Err(CompactError::Died(_) | CompactError::Timeout) => self.ask(updates).await,
            answer => answer,
        }
    }

    async fn ask(&self, updates: &[Bytes]) -> Result<Bytes, CompactError> {
        let mut process = match self.take_idle() {
            Some(process) => process,
            None => Process::start(&self.shared.program).map_err(CompactError::Spawn)?,
        };
        let answer = match timeout(self.shared.time_max, process.ask(updates)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                self.shared.metrics.materializer_restarts.increment(1);
                return Err(CompactError::Died(process.death(&error).await));
            }
            Err(_) => {
                self.shared.metrics.materializer_restarts.increment(1);
                return Err(CompactError::Timeout);
            }
        };
        process.idle_since = Instant::now();
        self.shared.idle.lock().push(process);
        tokio::spawn(self.clone().end_idle());
        answer.map_err(CompactError::Failed)
    }

    fn take_idle(&self) -> Option<Process> {
        let mut idle = self.shared.idle.lock();
        while let Some(mut process) = idle.pop() {
            if let Ok(None) = process.child.try_wait() {
                return Some(process);
            }
        }
        None
    }

    async fn end_idle(self) {
        tokio::time::sleep(MATERIALIZER_IDLE).await;
        let now = Instant::now();
        self.shared.idle.lock().retain(|process| now.duration_since(process.idle_since) < MATERIALIZER_IDLE);
    }
}

impl Process {
    fn start(program: &Program) -> io::Result<Self> {
        let mut child = Command::new(&program.path)
            .args(&program.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let missing = || io::Error::from(io::ErrorKind::BrokenPipe);
        let input = child.stdin.take().ok_or_else(missing)?;
        let output = child.stdout.take().ok_or_else(missing)?;
        Ok(Process { child, input, output, idle_since: Instant::now() })
    }

    async fn ask(&mut self, updates: &[Bytes]) -> io::Result<Result<Bytes, String>> {
        let mut input = BufWriter::new(&mut self.input);
        let bytes = request(updates).map(|part| part.len()).sum();
        input.write_all(&frame_head(bytes)?).await?;
        for part in request(updates) {
            input.write_all(&part).await?;
        }
        input.flush().await?;
        let mut head = [0; 4];
        self.output.read_exact(&mut head).await?;
        let mut answer = vec![0; frame_bytes(head, MATERIALIZER_FRAME_BYTES_MAX)?];
        self.output.read_exact(&mut answer).await?;
        read_answer(&answer.into()).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// What became of it.
    async fn death(mut self, error: &io::Error) -> String {
        let _ = self.child.start_kill();
        match self.child.wait().await {
            Ok(status) => format!("{error}; {status}"),
            Err(_) => error.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(path: &str, arguments: &[&str], time_max: Duration) -> Pool {
        let arguments = arguments.iter().map(OsString::from).collect();
        let program = Program { path: path.into(), arguments };
        Pool::with_time(program, Arc::new(Metrics::new().unwrap()), time_max)
    }

    async fn outcome(path: &str, arguments: &[&str], time_max: Duration) -> CompactError {
        let updates = [Bytes::from_static(&[0, 0])];
        let pool = pool(path, arguments, time_max);
        let turn = pool.turn().await.unwrap();
        pool.compact(&turn, &updates).await.unwrap_err()
    }

    #[tokio::test]
    async fn a_process_that_cannot_be_started_is_not_the_documents_fault() {
        let error = outcome("/not/there", &[], MATERIALIZER_TIME).await;
        assert!(matches!(error, CompactError::Spawn(_)));
        assert_eq!(error.quarantine(), None);
    }

    #[tokio::test]
    async fn a_process_that_dies_or_answers_nonsense_twice_is_the_documents_fault() {
        let dies =
            outcome("/bin/sh", &["-c", "head -c 4 >/dev/null; kill -SEGV $$"], MATERIALIZER_TIME).await;
        assert_eq!(dies.quarantine(), Some("crash"));
        let nonsense = outcome("/bin/sh", &["-c", "echo nonsense; cat"], MATERIALIZER_TIME).await;
        assert_eq!(nonsense.quarantine(), Some("crash"));
    }

    #[tokio::test]
    async fn a_process_that_hangs_is_ended() {
        let hangs = outcome("/bin/sh", &["-c", "cat >/dev/null"], Duration::from_millis(50)).await;
        assert_eq!(hangs.quarantine(), Some("timeout"));
    }
}
