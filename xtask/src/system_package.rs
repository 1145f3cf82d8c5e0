//! Packages of the operating system: installed where that can be done without asking, else told as the line to type.

use std::path::Path;

use anyhow::{Result, bail};

use crate::command::{Command, command};
use crate::workspace::find_program;

/// Something that Debian must have installed.
struct DebianPackage {
    name: &'static str,
    /// Found in `PATH` when it is there, whoever put it there.
    program: &'static str,
}

const DEBIAN: &[DebianPackage] = &[
    // libFuzzer is C++. The C compiler must be there already: nothing in Rust links without it, not even this program.
    DebianPackage { name: "g++", program: "c++" },
    DebianPackage { name: "chromium", program: "chromium" },
    DebianPackage { name: "chromium-driver", program: "chromedriver" },
    DebianPackage { name: "firefox-esr", program: "firefox-esr" },
    DebianPackage { name: "webkit2gtk-driver", program: "WebKitWebDriver" },
    // WebKitGTK has no headless mode. xvfb-run needs xauth, which is only recommended to it.
    DebianPackage { name: "xvfb", program: "xvfb-run" },
    DebianPackage { name: "xauth", program: "xauth" },
];

/// What macOS must have installed, and the line that installs it.
const MAC: &[(&str, &str)] = &[
    ("/Applications/Google Chrome.app", "brew install --cask google-chrome"),
    ("/Applications/Firefox.app", "brew install --cask firefox"),
    ("/opt/homebrew/bin/chromedriver", "brew install --cask chromedriver"),
];

/// Installs what is missing; fails with the line to type where it may not.
pub(crate) fn install_missing() -> Result<()> {
    if cfg!(target_os = "macos") {
        let there = |path: &str| {
            Path::new(path).exists()
                || Path::new(path).file_name().and_then(|name| find_program(name.to_str()?)).is_some()
        };
        let lines: Vec<&str> = MAC.iter().filter(|(path, _)| !there(path)).map(|(_, line)| *line).collect();
        return if lines.is_empty() {
            Ok(())
        } else {
            bail!("run `{}`, then this again", lines.join(" && "))
        };
    }
    let missing: Vec<&DebianPackage> =
        DEBIAN.iter().filter(|package| find_program(package.program).is_none()).collect();
    if missing.is_empty() {
        println!("system packages: all there");
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
    let names = names.join(" ");
    if find_program("apt-get").is_none() {
        let programs: Vec<&str> = missing.iter().map(|package| package.program).collect();
        bail!(
            "these programs are missing: {}. Install them with your system's package manager (Debian calls the packages {names}), then run this again",
            programs.join(", ")
        );
    }
    println!("system packages: {names} missing");
    let Some(become_root) = way_to_root() else {
        bail!("run `sudo apt-get update && sudo apt-get install {names}`, then this again");
    };
    apt_get(become_root, "update").run()?;
    apt_get(become_root, "install --yes --no-install-recommends").line(&names).run()
}

/// The words before a command that make it run as root, if nobody needs to be asked for that.
fn way_to_root() -> Option<&'static str> {
    if rustix::process::geteuid().is_root() {
        Some("env")
    } else {
        command("sudo").line("--non-interactive true").succeeds().then_some("sudo --non-interactive env")
    }
}

fn apt_get(become_root: &str, line: &str) -> Command {
    let (program, rest) = become_root.split_once(' ').unwrap_or((become_root, ""));
    // Unattended upgrades hold the lock for minutes on a machine that has just started.
    let options = "DEBIAN_FRONTEND=noninteractive apt-get --quiet -o DPkg::Lock::Timeout=300";
    command(program).line(rest).line(options).line(line)
}
