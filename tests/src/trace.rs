//! Recorded editing histories (`tests/traces/README.md` names their source and licence).

use serde::Deserialize;
use std::io::Read;
use std::path::Path;

/// One change: position, deleted count, inserted text. Positions count Unicode code points, which are
/// UTF-16 units too in the histories used here.
pub type Patch = (u32, u32, String);

/// A history of one text.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Trace {
    /// The text before.
    pub start_content: String,
    /// The text after.
    pub end_content: String,
    txns: Vec<Transaction>,
}

#[derive(Debug, Deserialize)]
struct Transaction {
    patches: Vec<Patch>,
}

impl Trace {
    /// Reads `tests/traces/<name>.json.gz`.
    pub fn read(name: &str) -> anyhow::Result<Trace> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("traces/{name}.json.gz"));
        let mut json = String::new();
        flate2::read::GzDecoder::new(std::fs::File::open(path)?).read_to_string(&mut json)?;
        Ok(serde_json::from_str(&json)?)
    }

    /// All changes in their order; right only for histories of one writer.
    pub fn patches(self) -> Vec<Patch> {
        self.txns.into_iter().flat_map(|transaction| transaction.patches).collect()
    }
}
