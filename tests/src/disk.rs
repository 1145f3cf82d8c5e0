//! A disk that loses power, fails, and a clock that jumps: the library `disk/disk.c` stands between a program and the
//! C library, writes down every change and every sync, and does what it is told. Linux only.

use anyhow::{Context, bail, ensure};
use rand::Rng;
use rand::rngs::StdRng;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a disk writes in one go: of a larger write any part may be there after the power failed.
const SECTOR_BYTES: usize = 512;

/// The disk below one folder, for the programs that are started with its [`Disk::variables`].
#[derive(Debug)]
pub struct Disk {
    folder: PathBuf,
    /// Holds the library, the journal and the control.
    aside: tempfile::TempDir,
}

impl Disk {
    /// The disk of a folder, which is there and empty.
    pub fn of(folder: &Path) -> anyhow::Result<Disk> {
        let aside = tempfile::tempdir()?;
        let disk = Disk { folder: folder.canonicalize()?, aside };
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/disk/disk.c");
        let compiled = Command::new("cc")
            .args(["-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-O1", "-o"])
            .args([disk.library(), source])
            .status()
            .context("there is no C compiler `cc`")?;
        ensure!(compiled.success(), "disk.c does not compile");
        fs::write(disk.journal(), [])?;
        fs::write(disk.control(), [0; 16])?;
        Ok(disk)
    }

    fn library(&self) -> PathBuf {
        self.aside.path().join("disk.so")
    }

    fn journal(&self) -> PathBuf {
        self.aside.path().join("journal")
    }

    fn control(&self) -> PathBuf {
        self.aside.path().join("control")
    }

    /// The environment of a program that uses this disk.
    pub fn variables(&self) -> [(&'static str, OsString); 4] {
        [
            ("LD_PRELOAD", self.library().into()),
            ("TIDEWELL_DISK_FOLDER", self.folder.clone().into()),
            ("TIDEWELL_DISK_JOURNAL", self.journal().into()),
            ("TIDEWELL_DISK_CONTROL", self.control().into()),
        ]
    }

    fn set(&self, at: u64, bytes: &[u8]) -> anyhow::Result<()> {
        let control = fs::OpenOptions::new().write(true).open(self.control())?;
        Ok(control.write_all_at(bytes, at)?)
    }

    /// Has writes, and files that are to be made, fail from now on, or no longer.
    pub fn fail_writes(&self, error: Option<Errno>) -> anyhow::Result<()> {
        self.set(0, &error.map_or(0, Errno::raw_os_error).to_ne_bytes())
    }

    /// Has syncs fail from now on, or no longer. What was not synced by then may be gone, though a later sync succeeds.
    pub fn fail_syncs(&self, error: Option<Errno>) -> anyhow::Result<()> {
        self.set(4, &error.map_or(0, Errno::raw_os_error).to_ne_bytes())
    }

    /// Sets the wall clock this far from the true time.
    pub fn set_clock(&self, seconds: i64) -> anyhow::Result<()> {
        self.set(8, &seconds.to_ne_bytes())
    }

    /// How much was written down: a moment to which [`Disk::history`] can return.
    pub fn moment(&self) -> anyhow::Result<u64> {
        Ok(fs::metadata(self.journal())?.len())
    }

    /// The records up to a moment.
    pub fn history(&self, moment: u64) -> anyhow::Result<History> {
        let journal = fs::read(self.journal())?;
        let end = usize::try_from(moment)?;
        History::read(journal.get(..end).context("the moment is yet to come")?)
    }
}

#[derive(Debug)]
enum Event {
    Created,
    Written {
        at: usize,
        bytes: Vec<u8>,
    },
    Truncated {
        length: usize,
    },
    /// Holds for what was recorded before this moment.
    Synced {
        before: u64,
    },
    SyncFailed {
        before: u64,
    },
    Unlinked,
    Renamed {
        to: String,
    },
}

/// What a program did to its disk.
#[derive(Debug)]
pub struct History(Vec<(u64, String, Event)>);

impl History {
    fn read(journal: &[u8]) -> anyhow::Result<History> {
        let mut events = Vec::new();
        let mut rest = journal;
        let mut take = |length: usize| -> Option<&[u8]> {
            let (taken, after) = rest.split_at_checked(length)?;
            rest = after;
            Some(taken)
        };
        let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
        let mut moment = 0;
        while let Some(head) = take(27) {
            let name_length = usize::from(u16::from_le_bytes([head[1], head[2]]));
            let (first, length) = (number(&head[3..11]), number(&head[19..27]) as usize);
            // A moment in the middle of a record is the moment before it.
            let Some(name) = take(name_length) else { break };
            let name = String::from_utf8(name.to_vec())?;
            let Some(bytes) = take(length) else { break };
            let bytes = bytes.to_vec();
            let event = match head[0] {
                b'C' => Event::Created,
                b'W' => Event::Written { at: first as usize, bytes },
                b'T' => Event::Truncated { length: first as usize },
                b'S' => Event::Synced { before: first },
                b'F' => Event::SyncFailed { before: first },
                b'U' => Event::Unlinked,
                b'R' => Event::Renamed { to: String::from_utf8(bytes)? },
                kind => bail!("a record of kind {kind}"),
            };
            events.push((moment, name, event));
            moment += (27 + name_length + length) as u64;
        }
        Ok(History(events))
    }

    /// Makes in `folder` what the disk may hold when the power fails at the end of this history: all that was synced,
    /// and of the rest what chance leaves of it.
    pub fn lose_power(&self, random: &mut StdRng, folder: &Path) -> anyhow::Result<()> {
        let mut platter = Platter::default();
        for (moment, name, event) in &self.0 {
            platter.take(*moment, name, event, random);
        }
        platter.into_folder(random, folder)
    }
}

/// What becomes of that which was not synced.
#[derive(Debug, Clone, Copy)]
enum Luck {
    AllLost,
    AllKept,
    /// The older is there, the newer is not.
    OlderKept,
    /// Each sector for itself.
    EachForItself,
}

impl Luck {
    fn any(random: &mut StdRng) -> Luck {
        match random.random_range(0..4) {
            0 => Luck::AllLost,
            1 => Luck::AllKept,
            2 => Luck::OlderKept,
            _ => Luck::EachForItself,
        }
    }

    /// Which of `count` are kept.
    fn kept(self, count: usize, random: &mut StdRng) -> Vec<bool> {
        let older = random.random_range(0..=count);
        (0..count)
            .map(|index| match self {
                Luck::AllLost => false,
                Luck::AllKept => true,
                Luck::OlderKept => index < older,
                Luck::EachForItself => random.random(),
            })
            .collect()
    }
}

#[derive(Debug)]
enum Change {
    Bytes { at: usize, bytes: Vec<u8> },
    Length(usize),
}

#[derive(Debug, Default)]
struct Contents {
    synced: Vec<u8>,
    pending: Vec<(u64, Change)>,
}

impl Contents {
    fn apply(&mut self, change: Change) {
        match change {
            Change::Length(length) => self.synced.resize(length, 0),
            Change::Bytes { at, bytes } => {
                let end = at + bytes.len();
                if self.synced.len() < end {
                    self.synced.resize(end, 0);
                }
                self.synced[at..end].copy_from_slice(&bytes);
            }
        }
    }

    /// Applies what was recorded before `moment`, as far as `luck` leaves it.
    fn settle(&mut self, moment: u64, luck: Luck, random: &mut StdRng) {
        let later = self.pending.iter().position(|(at, _)| *at >= moment).unwrap_or(self.pending.len());
        let mut sectors: Vec<Change> = Vec::new();
        for (_, change) in self.pending.drain(..later) {
            match change {
                Change::Length(_) => sectors.push(change),
                Change::Bytes { mut at, bytes } => {
                    let mut rest = bytes.as_slice();
                    while !rest.is_empty() {
                        let (sector, after) = rest.split_at(rest.len().min(SECTOR_BYTES - at % SECTOR_BYTES));
                        sectors.push(Change::Bytes { at, bytes: sector.to_vec() });
                        (at, rest) = (at + sector.len(), after);
                    }
                }
            }
        }
        let kept = luck.kept(sectors.len(), random);
        for (change, _) in sectors.into_iter().zip(kept).filter(|(_, kept)| *kept) {
            self.apply(change);
        }
    }
}

#[derive(Debug)]
enum NameChange {
    Is { name: String, file: usize },
    IsGone { name: String },
    Moves { from: String, to: String, file: usize },
}

/// Files, and the names under which they are found; either may be on the disk without the other.
#[derive(Debug, Default)]
struct Platter {
    files: Vec<Contents>,
    /// As the program sees them.
    names: BTreeMap<String, usize>,
    synced_names: BTreeMap<String, usize>,
    pending_names: Vec<(u64, NameChange)>,
}

impl Platter {
    fn take(&mut self, moment: u64, name: &str, event: &Event, random: &mut StdRng) {
        let file = self.names.get(name).copied();
        match (event, file) {
            (Event::Created, _) => {
                self.files.push(Contents::default());
                let file = self.files.len() - 1;
                self.names.insert(name.to_owned(), file);
                self.pending_names.push((moment, NameChange::Is { name: name.to_owned(), file }));
            }
            (Event::Unlinked, Some(_)) => {
                self.names.remove(name);
                self.pending_names.push((moment, NameChange::IsGone { name: name.to_owned() }));
            }
            (Event::Renamed { to }, Some(file)) => {
                self.names.remove(name);
                self.names.insert(to.clone(), file);
                let (from, to) = (name.to_owned(), to.clone());
                self.pending_names.push((moment, NameChange::Moves { from, to, file }));
            }
            (Event::Written { at, bytes }, Some(file)) => {
                self.files[file].pending.push((moment, Change::Bytes { at: *at, bytes: bytes.clone() }));
            }
            (Event::Truncated { length }, Some(file)) => {
                self.files[file].pending.push((moment, Change::Length(*length)));
            }
            (Event::Synced { before }, Some(file)) => {
                self.files[file].settle(*before, Luck::AllKept, random);
            }
            // Linux forgets that these were to be written; whether they were is chance.
            (Event::SyncFailed { before }, Some(file)) => {
                self.files[file].settle(*before, Luck::any(random), random);
            }
            // The folder itself.
            (Event::Synced { before }, None) if name.is_empty() => self.settle_names(*before, usize::MAX),
            (_, None) => {}
        }
    }

    /// Names change in order, as on a file system with a journal.
    fn settle_names(&mut self, moment: u64, most: usize) {
        let later = self.pending_names.iter().position(|(at, _)| *at >= moment);
        let later = later.unwrap_or(self.pending_names.len()).min(most);
        for (_, change) in self.pending_names.drain(..later) {
            match change {
                NameChange::Is { name, file } => {
                    self.synced_names.insert(name, file);
                }
                NameChange::IsGone { name } => {
                    self.synced_names.remove(&name);
                }
                NameChange::Moves { from, to, file } => {
                    self.synced_names.remove(&from);
                    self.synced_names.insert(to, file);
                }
            }
        }
    }

    fn into_folder(mut self, random: &mut StdRng, folder: &Path) -> anyhow::Result<()> {
        let luck = Luck::any(random);
        let names = luck.kept(self.pending_names.len(), random).iter().filter(|kept| **kept).count();
        self.settle_names(u64::MAX, names);
        for (name, file) in &self.synced_names {
            let contents = &mut self.files[*file];
            contents.settle(u64::MAX, luck, random);
            // Shared memory between processes that are all gone: nobody may believe it.
            if name.ends_with("-shm") {
                random.fill(contents.synced.as_mut_slice());
            }
            fs::write(folder.join(name), &contents.synced)?;
        }
        Ok(())
    }
}
