//! Where things are.

use std::path::{Path, PathBuf};

/// The folder of the workspace's `Cargo.toml`.
pub(crate) fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_owned()
}

/// A path given from the root.
pub(crate) fn path(from_root: impl AsRef<Path>) -> PathBuf {
    root().join(from_root)
}

/// What is built and may be deleted: `CARGO_TARGET_DIR`, or `target` in the root.
pub(crate) fn target(inside: impl AsRef<Path>) -> PathBuf {
    let folder = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    root().join(folder).join(inside)
}

/// The full path of a program that `PATH` leads to.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.is_file())
}
