//! The relay as a process: the real binary, killed and started again.

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

/// Far longer than anything here takes, also on a busy machine: what is not there by then never comes.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A running relay. Dropping it kills it.
#[derive(Debug)]
pub struct Relay {
    process: Child,
    address: SocketAddr,
}

impl Relay {
    /// Starts a relay on `data` and a free port, and waits until it listens.
    pub async fn start(data: &Path) -> anyhow::Result<Relay> {
        Relay::start_with(data, &[]).await
    }

    /// The same, with further arguments.
    pub async fn start_with(data: &Path, arguments: &[&str]) -> anyhow::Result<Relay> {
        Relay::start_in(data, arguments, &[]).await
    }

    /// The same, with further variables in its environment.
    pub async fn start_in(
        data: &Path,
        arguments: &[&str],
        variables: &[(&str, OsString)],
    ) -> anyhow::Result<Relay> {
        let mut command = Command::new(binary("tidewell")?);
        command.envs(variables.iter().cloned());
        Relay::spawn(command, data, arguments).await
    }

    /// The same, in a shell that has run `before`: `ulimit -n 100` sets a limit, `exec 2>file` keeps the log.
    pub async fn start_after(before: &str, data: &Path, arguments: &[&str]) -> anyhow::Result<Relay> {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{before}; exec \"$@\""), "sh"]);
        shell.arg(binary("tidewell")?);
        Relay::spawn(shell, data, arguments).await
    }

    async fn spawn(mut command: Command, data: &Path, arguments: &[&str]) -> anyhow::Result<Relay> {
        let mut process = command
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .args(arguments)
            .env("TIDEWELL_LOG", std::env::var("TIDEWELL_LOG").unwrap_or_else(|_| "warn".into()))
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("the relay does not start")?;
        let stdout = process.stdout.take().context("the relay has no standard output")?;
        let mut lines = BufReader::new(stdout).lines();
        let line = timeout(PATIENCE, lines.next_line()).await.context("the relay says nothing")??;
        let address =
            line.as_deref().and_then(|line| Some(line.strip_prefix("listening on ")?.split_once("://")?.1));
        let Some(address) = address else { bail!("the relay says {line:?}") };
        Ok(Relay { process, address: address.parse()? })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    pub fn id(&self) -> anyhow::Result<Pid> {
        self.process.id().and_then(|id| Pid::from_raw(id.cast_signed())).context("the relay has ended")
    }

    /// Kills it with SIGKILL, and waits until it is gone.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.process.kill().await?)
    }

    /// Asks it to end with SIGTERM, and waits until it has.
    pub async fn terminate(mut self) -> anyhow::Result<ExitStatus> {
        let id = self
            .process
            .id()
            .and_then(|id| Pid::from_raw(id.cast_signed()))
            .context("the relay has ended")?;
        kill_process(id, Signal::TERM)?;
        timeout(PATIENCE, self.process.wait()).await.context("the relay does not end")?.map_err(Into::into)
    }

    /// Its resident memory, in bytes.
    pub fn resident_bytes(&self) -> anyhow::Result<u64> {
        let id = self.process.id().context("the relay has ended")?;
        let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib * 1024)
    }

    /// A figure from `/metrics`; 0 when it is not there.
    pub async fn figure(&self, name: &str) -> anyhow::Result<f64> {
        let metrics = self.request("GET /metrics", "").await?;
        let mut figures = metrics.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        figures.next().map_or(Ok(0.0), |figure| Ok(figure.trim().parse()?))
    }

    /// Waits until a figure is at least so much.
    pub async fn reaches(&self, name: &str, least: f64) -> anyhow::Result<()> {
        let reached = async {
            while self.figure(name).await? < least {
                sleep(Duration::from_millis(50)).await;
            }
            Ok(())
        };
        timeout(PATIENCE, reached).await.with_context(|| format!("{name} never reaches {least}"))?
    }

    /// The body that a request is answered with; its first line is the method and the path.
    pub async fn request(&self, line: &str, body: &str) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect(self.address).await?;
        let head = format!("{line} HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n");
        let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(request.as_bytes()).await?;
        let mut response = String::new();
        stream.read_to_string(&mut response).await?;
        match response.split_once("\r\n\r\n") {
            Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok(body.to_owned()),
            _ => bail!("the relay answers {response:?}"),
        }
    }

    /// True while it runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }
}

/// The path of a program of this workspace, built as the tests are. `TIDEWELL_BIN` names the relay that is
/// to be tested instead, `TIDEWELL_BINS` the folder of programs that are built already.
pub fn binary(name: &str) -> anyhow::Result<PathBuf> {
    if let (Some(path), "tidewell") = (std::env::var_os("TIDEWELL_BIN"), name) {
        return Ok(path.into());
    }
    if let Some(folder) = std::env::var_os("TIDEWELL_BINS") {
        return Ok(PathBuf::from(folder).join(name));
    }
    // target/<profile>/deps/<test>, or without deps for a program.
    let test = std::env::current_exe()?;
    let folder = test.ancestors().skip(1).find(|folder| !folder.ends_with("deps"));
    let folder = folder.context("the test has no folder")?;
    build(folder.ends_with("release"))?;
    Ok(folder.join(name))
}

/// Builds all programs once: cargo does not know that a test needs another package's. Always the same packages, as `cargo
/// xtask` does: with others cargo would choose other features, and compile what we depend on anew.
fn build(is_release: bool) -> anyhow::Result<()> {
    static IS_BUILT: Mutex<bool> = Mutex::new(false);
    let mut is_built = IS_BUILT.lock().unwrap();
    if *is_built {
        return Ok(());
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = std::process::Command::new(cargo);
    command.args(["build", "--quiet", "--bins"]);
    command.args(["--package", "tidewell-server", "--package", "tidewell-tests"]);
    command.args(is_release.then_some("--release")).current_dir(env!("CARGO_MANIFEST_DIR"));
    if !command.status()?.success() {
        bail!("the programs do not build");
    }
    *is_built = true;
    Ok(())
}
