//! What an agent's spool holds, for `picket agent spool`: read from outside, whether or not the agent runs, without changing a byte.

use std::collections::HashSet;
use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;
use wire::Position;

use crate::record::{self, from_spool};
use crate::{Error, health};

/// How a spool stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    /// Whether the agent runs and says so.
    pub running: bool,
    /// Results not yet acknowledged; while no agent runs, those in gaps are counted in.
    pub pending: u64,
    /// Results that the agent holds in memory because the disk has not taken them.
    pub held: usize,
    /// Results that were lost since the start of the agent because neither took them.
    pub lost: u64,
    /// Why results are not recorded as they should be; none when they are, or when no agent runs.
    pub degraded: Option<String>,
    /// The last recorded result.
    pub recorded: Option<Position>,
    /// The control plane has everything up to here.
    pub acknowledged: Option<Position>,
    /// Bytes of the database on the disk.
    pub database_bytes: u64,
    /// Bytes kept for a full disk; 0 when they are in use.
    pub reserve_bytes: u64,
    /// Damaged databases that were put aside, for a person to look at.
    pub quarantined: Vec<std::path::PathBuf>,
}

/// What was taken out of a spool.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Salvaged {
    /// Results that were written.
    pub results: u64,
    /// Entries that are no result that this version can read.
    pub unreadable: u64,
    /// Databases too damaged to be opened; what their journals tell was written.
    pub broken: u64,
    /// Why a database could not be looked at although nothing says that it is damaged; what its journals tell was written.
    pub unread: Option<String>,
}

/// How the spool in the data directory `data` stands.
pub fn status(data: &Path) -> Result<Status, Error> {
    let facts = spool::inspect(&directory(data)?)
        .map_err(|e| Error::Start { part: "view of the spool", source: Box::new(e) })?;
    let running = health::check(data).ok();
    let agent = running.as_ref();
    Ok(Status {
        running: agent.is_some(),
        pending: agent.map_or(facts.unreleased, |agent| agent.pending),
        held: agent.map_or(0, |agent| agent.held),
        lost: agent.map_or(0, |agent| agent.lost),
        degraded: agent.and_then(|agent| agent.degraded.clone()),
        recorded: facts.recorded.map(from_spool),
        acknowledged: facts.acknowledged.map(from_spool),
        database_bytes: facts.database_bytes,
        reserve_bytes: facts.reserve_bytes,
        quarantined: facts.quarantined,
    })
}

/// Writes every result that can be read in the data directory `data`, acknowledged ones included, each once: a JSON object a line with
/// `epoch`, `seq` and `result`. The agent must not run.
pub fn salvage(data: &Path, out: &mut impl Write) -> Result<Salvaged, Error> {
    let mut salvaged = Salvaged::default();
    let mut seen = HashSet::new();
    let mut show = |position: spool::Position, bytes: &[u8]| {
        let Some(result) = record::result(bytes) else {
            salvaged.unreadable += 1;
            return Ok(());
        };
        // After a renumbering an old journal has it at its old place too.
        if seen.insert(result.id) {
            salvaged.results += 1;
            let spool::Position { epoch, seq } = position;
            serde_json::to_writer(&mut *out, &Line { epoch, seq, result }).map_err(io::Error::from)?;
            out.write_all(b"\n")?;
        }
        Ok(())
    };
    let found = spool::salvage(&directory(data)?, &std::env::temp_dir(), &mut show);
    let found = found.and_then(|found| {
        out.flush().map(|()| found).map_err(|source| spool::Error::File {
            operation: "write what was found in",
            path: data.to_owned(),
            source,
        })
    });
    match found {
        Ok(found) => Ok(Salvaged { broken: found.broken, unread: found.unread, ..salvaged }),
        Err(spool::Error::InUse { .. }) => Err(Error::InUse { path: data.to_owned(), pid: None }),
        Err(error) => Err(Error::Start { part: "salvage", source: Box::new(error) }),
    }
}

/// A line of what was salvaged.
#[derive(Serialize)]
struct Line {
    epoch: u64,
    seq: u64,
    result: wire::results::RunResult,
}

fn directory(data: &Path) -> Result<std::path::PathBuf, Error> {
    let directory = data.join("spool");
    if directory.is_dir() { Ok(directory) } else { Err(Error::NoSpool(data.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Moment;
    use crate::record::tests::result;
    use spool::{Entry, Spool};
    use wire::results::State;

    #[tokio::test]
    async fn what_a_stopped_agent_recorded_can_be_read_as_lines_and_what_is_no_result_is_counted() {
        let data = tempfile::tempdir().unwrap();
        let settings = spool::Settings { reserve_bytes: 0, ..spool::Settings::at(data.path().join("spool")) };
        let spool = Spool::open(settings).unwrap();
        let moment = Moment { boot_id: "b", boot: std::time::Duration::ZERO };
        spool.append(record::entry(result(State::Down), moment)).await.unwrap();
        spool.append(Entry { at_ms: 0, down: false, bytes: b"{".to_vec() }).await.unwrap();
        let mut out = Vec::new();
        assert_eq!(salvage(data.path(), &mut out).unwrap_err().exit_code(), 73, "it is in use");
        spool.close().await;

        let salvaged = salvage(data.path(), &mut out).unwrap();
        assert_eq!(salvaged, Salvaged { results: 1, unreadable: 1, ..Salvaged::default() });
        let line: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(
            (&line["epoch"], &line["seq"], &line["result"]["state"]),
            (&1.into(), &1.into(), &"down".into())
        );

        let status = status(data.path()).unwrap();
        assert_eq!((status.running, status.pending), (false, 2));
        assert_eq!(status.recorded, Some(Position { epoch: 1, seq: 2 }));
    }

    #[test]
    fn a_directory_without_a_spool_says_so() {
        let data = tempfile::tempdir().unwrap();
        let error = status(data.path()).unwrap_err();
        assert_eq!(error.exit_code(), 66);
        assert!(error.to_string().contains("--data"), "{error}");
    }
}
