//! A relay's process: started, watched through /proc, and killed when dropped.

use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Node takes about a second on a busy machine.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// After SIGTERM; longer than a relay takes to flush.
const END_WITHIN: Duration = Duration::from_secs(15);

/// A running relay.
pub(crate) struct Process {
    child: Child,
    address: SocketAddr,
}

/// What a process and its children have used.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// CPU time, user and system.
    pub(crate) cpu: Duration,
    /// Resident memory.
    pub(crate) resident_bytes: u64,
}

/// A port of the loopback interface that nobody has at the moment.
pub(crate) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

impl Process {
    /// Starts a program that will listen on `address` and waits until it does. Its output goes into `log`.
    pub(crate) fn start(mut command: Command, address: SocketAddr, log: &Path) -> Result<Self> {
        let output = File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = command.spawn().with_context(|| format!("starting {:?}", command.get_program()))?;
        let mut process = Process { child, address };
        let deadline = Instant::now() + READY_WITHIN;
        while TcpStream::connect(address).is_err() {
            if let Some(status) = process.child.try_wait()? {
                bail!("{:?} ended with {status}; see {}", command.get_program(), log.display());
            }
            if Instant::now() > deadline {
                bail!("{:?} does not listen on {address}; see {}", command.get_program(), log.display());
            }
            sleep(Duration::from_millis(10));
        }
        Ok(process)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it and its children have used so far.
    pub(crate) fn usage(&self) -> Result<Usage> {
        let stats = all_stats()?;
        let mut family = vec![self.child.id()];
        let mut next = 0;
        while let Some(&parent) = family.get(next) {
            family.extend(stats.iter().filter(|stat| stat.parent == parent).map(|stat| stat.id));
            next += 1;
        }
        let mut usage = Usage::default();
        for stat in stats.iter().filter(|stat| family.contains(&stat.id)) {
            usage.cpu += ticks(stat.ticks);
            usage.resident_bytes += resident_bytes(stat.id).unwrap_or(0);
        }
        Ok(usage)
    }

    /// Asks it to end, and waits until it has; kills it when it does not.
    pub(crate) fn stop(mut self) -> Result<()> {
        if let Some(id) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            rustix::process::kill_process(id, rustix::process::Signal::TERM)?;
        }
        let deadline = Instant::now() + END_WITHIN;
        while Instant::now() < deadline {
            if self.child.try_wait()?.is_some() {
                return Ok(());
            }
            sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; there is nothing else to do about an error here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU time that everything on the machine has used since it started.
pub(crate) fn machine_cpu() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().context("/proc/stat is empty")?;
    let fields: Vec<u64> = line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    // Fields 3 and 4 are idle time and waiting for disks; those after 7 are part of the first two.
    let busy = fields.iter().take(8).enumerate().filter(|(index, _)| !matches!(index, 3 | 4));
    Ok(ticks(busy.map(|(_, count)| count).sum()))
}

/// CPU time that this process has used.
pub(crate) fn own_cpu() -> Result<Duration> {
    let line = fs::read_to_string("/proc/self/stat")?;
    Ok(ticks(read_stat(0, &line).context("/proc/self/stat cannot be read")?.own_ticks))
}

/// A line of /proc/PID/stat, as far as we need it.
struct Stat {
    id: u32,
    parent: u32,
    /// Its own.
    own_ticks: u64,
    /// Its own, and those of children that have ended.
    ticks: u64,
}

fn all_stats() -> Result<Vec<Stat>> {
    let mut stats = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let path: PathBuf = entry?.path();
        let id = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
        if let Some(id) = id
            && let Ok(line) = fs::read_to_string(path.join("stat"))
            && let Some(stat) = read_stat(id, &line)
        {
            stats.push(stat);
        }
    }
    Ok(stats)
}

/// The second field, the program's name in parentheses, may hold blanks and parentheses itself.
fn read_stat(id: u32, line: &str) -> Option<Stat> {
    let fields: Vec<&str> = line.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok());
    let own_ticks = number(11)? + number(12)?;
    let ticks = own_ticks + number(13)? + number(14)?;
    Some(Stat { id, parent: u32::try_from(number(1)?).ok()?, own_ticks, ticks })
}

fn ticks(count: u64) -> Duration {
    let each = Duration::from_secs(1) / u32::try_from(rustix::param::clock_ticks_per_second()).unwrap_or(100);
    each.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX))
}

fn resident_bytes(id: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_blanks_and_parentheses_does_not_move_the_fields() {
        let line = "42 (a) b (c) S 7 42 42 0 -1 4194560 1 2 3 4 100 20 3 1 20 0 1 0 5";
        let stat = read_stat(42, line).map(|stat| (stat.parent, stat.ticks));
        assert_eq!(stat, Some((7, 124)));
    }
}
