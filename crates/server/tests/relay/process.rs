//! The relay as a process.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

pub(crate) fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_tidewell"))
}

/// Runs the program to its end.
pub(crate) fn output(arguments: &[&str]) -> Output {
    program().args(arguments).output().unwrap()
}

/// A running relay; killed when dropped.
pub(crate) struct Relay {
    child: Child,
    pub(crate) address: String,
}

impl Relay {
    pub(crate) fn start(data: &Path) -> Relay {
        Relay::start_with(data, &[])
    }

    pub(crate) fn start_with(data: &Path, arguments: &[&str]) -> Relay {
        // Some tests stop the process from writing files, and its log may be one.
        Relay::spawn(program(), data, arguments, Stdio::null())
    }

    /// Has it write a log of everything into a file.
    pub(crate) fn start_logging(data: &Path, arguments: &[&str], log: &Path) -> Relay {
        let mut program = program();
        program.env("TIDEWELL_LOG", "tidewell_server=debug");
        Relay::spawn(program, data, arguments, File::create(log).unwrap().into())
    }

    /// Starts it by way of another program, which is handed the arguments.
    pub(crate) fn spawn_as(command: Command, data: &Path) -> Relay {
        Relay::spawn(command, data, &[], Stdio::null())
    }

    /// Waits until it listens.
    fn spawn(mut command: Command, data: &Path, arguments: &[&str], log: Stdio) -> Relay {
        let mut child = command
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().split_once("://").expect("listening on an address").1.to_owned();
        Relay { child, address }
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(self.id(), signal).unwrap();
    }

    /// kill -9.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM; answers how it ended. That it ends within 8 s is tested where the clock is not the machine's.
    pub(crate) fn terminate(mut self) -> ExitStatus {
        self.signal(rustix::process::Signal::TERM);
        self.child.wait().unwrap()
    }

    /// Asks again and again until `path` answers so that `reached` holds. A test that waits in vain is
    /// ended by its runner.
    pub(crate) fn wait_until(&self, reached: impl Fn(&Relay) -> bool) {
        while !reached(self) {
            std::thread::yield_now();
        }
    }

    pub(crate) fn id(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    /// An HTTP request; answers the whole response.
    pub(crate) fn get(&self, path: &str) -> String {
        self.request("GET", path, &[], "")
    }

    /// A request with headers and a body; answers the whole response.
    pub(crate) fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n");
        headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        head.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
        stream.write_all(head.as_bytes()).unwrap();
        let mut response = Vec::new();
        stream.read_to_end(&mut response).unwrap();
        String::from_utf8_lossy(&response).into_owned()
    }

    /// Asks for a WebSocket, and leaves once it is there.
    pub(crate) fn upgrade(&self, path: &str, headers: &[(&str, &str)]) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let mut head = format!("GET {path} HTTP/1.1\r\nHost: relay\r\nConnection: Upgrade\r\n");
        headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
        let mut status = String::new();
        BufReader::new(stream).read_line(&mut status).unwrap();
        assert_eq!(status, "HTTP/1.1 101 Switching Protocols\r\n");
    }

    /// A figure from /metrics.
    pub(crate) fn figure(&self, name: &str) -> f64 {
        let metrics = self.get("/metrics");
        let line = metrics.lines().find(|line| line.starts_with(name) && line.as_bytes()[name.len()] == b' ');
        line.map_or(0.0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn data() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    (folder, path)
}
