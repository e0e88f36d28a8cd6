//! A data directory as a released version left it, kept in the tree: identity, two configurations, acknowledged and pending results, not
//! closed. `UPDATE=golden` writes the one of this version; the others stay as they are for ever.
//!
//! ```text
//! golden/VERSION/lengths     a line a file: its length, and whether it is there is told by this line
//! golden/VERSION/expected    the agent's id, then a line a pending result: position and id
//! golden/VERSION/data/       the files without their trailing zeros
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use crate::damage::Subject;
use crate::image::put;

/// One of them.
pub struct Golden {
    /// Which version wrote it.
    pub version: String,
    /// The agent's id.
    pub id: String,
    /// What it had recorded and not yet released: position, and the result's id.
    pub pending: Vec<(spool::Position, String)>,
    home: PathBuf,
}

impl Golden {
    /// All that are kept.
    pub fn all() -> Vec<Self> {
        let entries = fs::read_dir(home()).expect("golden directories are in the tree");
        entries.map(|entry| Self::read(entry.expect("an entry").path())).collect()
    }

    fn read(home: PathBuf) -> Self {
        let expected = fs::read_to_string(home.join("expected")).expect("it has an account");
        let mut lines = expected.lines();
        let id = lines.next().expect("the first line is the agent's id").to_owned();
        let entry = |line: &str| {
            let (position, id) = line.split_once(' ')?;
            let (epoch, seq) = position.split_once('/')?;
            Some((spool::Position::new(epoch.parse().ok()?, seq.parse().ok()?), id.to_owned()))
        };
        let pending = lines.map(|line| entry(line).expect("a line is a position and an id")).collect();
        let version = home.file_name().unwrap_or_default().display().to_string();
        Self { version, id, pending, home }
    }

    /// Makes the directory as it was.
    pub fn restore(&self, dir: &Path) {
        let lengths = fs::read_to_string(self.home.join("lengths")).expect("it has a list");
        for line in lengths.lines() {
            let (length, name) = line.split_once(' ').expect("a line is a length and a name");
            let bytes = fs::read(self.home.join("data").join(name)).unwrap_or_default();
            put(&dir.join(name), &bytes, length.parse().expect("a length is a number"));
        }
    }
}

/// Writes the one of this version when it is told to.
pub fn update() {
    if !std::env::var("UPDATE").is_ok_and(|what| what == "golden") {
        return;
    }
    let home = home().join(env!("CARGO_PKG_VERSION"));
    let subject = Subject::new("golden", 0);
    let _ = fs::remove_dir_all(&home);
    let mut lengths = String::new();
    for (name, bytes) in subject.image.files() {
        // Compiled plugins are of one build, and logs are of one start.
        if name.starts_with("cache") || name.starts_with("state.json") || name.ends_with("lock") {
            continue;
        }
        lengths += &format!("{} {}\n", subject.image.length(name), name.display());
        if !bytes.is_empty() {
            put(&home.join("data").join(name), bytes, bytes.len() as u64);
        }
    }
    let mut expected = subject.id.clone() + "\n";
    for (at, bytes) in subject.truth.pending() {
        let entry: serde_json::Value = serde_json::from_slice(bytes).expect("it was recorded as JSON");
        expected += &format!("{at} {}\n", entry["result"]["id"].as_str().expect("a result has an id"));
    }
    put(&home.join("lengths"), lengths.as_bytes(), lengths.len() as u64);
    put(&home.join("expected"), expected.as_bytes(), expected.len() as u64);
}

fn home() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}
