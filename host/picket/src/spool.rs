//! `picket agent spool`: looks at what an agent has on its disk, without the control plane and without changing a byte.

use std::error::Error as _;
use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use agent::stored::{self, Salvaged, Status};
use clap::Subcommand;

use crate::failure::{Failure, exit};
use crate::output;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Say how the spool stands: pending, lost, degraded, room on the disk. Works while the agent runs and when it does not
    Status {
        #[command(flatten)]
        place: Place,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Write every result that can be read, one JSON object a line; the agent must be stopped
    ///
    /// Acknowledged results that are still there come too, and what was put aside as damaged. Nothing is changed; a copy of the database
    /// is made under TMPDIR and removed; the container image has no /tmp, so give it one with --tmpfs /tmp or name a volume in TMPDIR.
    #[command(after_help = "\
Exit status:
  0   written; how much, and how much could not be read, is told on stderr
  1   it cannot be read, not all of it was looked at, or the output cannot be written
  66  there is no spool in the data directory
  73  an agent uses the data directory")]
    Salvage {
        #[command(flatten)]
        place: Place,
        /// File to write, which must not exist; "-" is stdout
        #[arg(long, default_value = "-", value_name = "FILE")]
        output: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Place {
    /// Data directory of the agent
    #[arg(long, env = "PICKET_DATA", hide_env_values = true, default_value = "/data", value_name = "DIR")]
    data: PathBuf,
}

pub(crate) fn run(verb: Verb) -> Result<u8, Failure> {
    match verb {
        Verb::Status { place, json } => {
            let status = stored::status(&place.data).map_err(failed)?;
            if json {
                output::json_pretty(&status)?;
            } else {
                output::line(&lines(&status))?;
            }
        }
        Verb::Salvage { place, output } => {
            let salvaged = if output == Path::new("-") {
                stored::salvage(&place.data, &mut BufWriter::new(io::stdout().lock()))
            } else {
                let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&output);
                let file = file.map_err(|e| {
                    Failure::new(exit::GENERAL, e).context(format!("cannot create {}", output.display()))
                })?;
                stored::salvage(&place.data, &mut BufWriter::new(file))
            };
            let salvaged = match salvaged {
                Ok(salvaged) => salvaged,
                Err(error) => return Err(reader_left(&error).unwrap_or_else(|| failed(error))),
            };
            // Whoever reads the results from a pipe reads the count on the terminal.
            drop(writeln!(io::stderr(), "{}", summary(&salvaged)));
            if let Some(why) = salvaged.unread {
                return Err(Failure::text(
                    exit::GENERAL,
                    format!("only the journals were read of {why}; TMPDIR names a place for copies"),
                ));
            }
        }
    }
    Ok(0)
}

/// Whoever reads the results has enough: `head` is no failure.
fn reader_left(error: &agent::Error) -> Option<Failure> {
    let mut cause = error.source();
    let mut broken = false;
    while let Some(error) = cause {
        broken |= error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe);
        cause = error.source();
    }
    broken.then(|| output::WriteError(io::ErrorKind::BrokenPipe.into()).into())
}

fn failed(error: agent::Error) -> Failure {
    let status = match error.exit_code() {
        status @ (66 | 73) => status,
        _ => exit::GENERAL,
    };
    Failure::new(status, error)
}

fn lines(status: &Status) -> String {
    let position = |at: Option<wire::Position>| at.map_or("unknown".to_owned(), |at| at.to_string());
    let reserve = match status.reserve_bytes {
        0 => "none: the disk was full, or is nearly".to_owned(),
        bytes => size(bytes),
    };
    let mut lines = vec![
        format!("agent         {}", if status.running { "running" } else { "not running" }),
        format!("pending       {}", status.pending),
        format!("recorded      {}", position(status.recorded)),
        format!("acknowledged  {}", position(status.acknowledged)),
        format!("database      {}", size(status.database_bytes)),
        format!("reserve       {reserve}"),
    ];
    if status.held > 0 || status.lost > 0 {
        lines.push(format!("in memory     {}, lost {}", status.held, status.lost));
    }
    if let Some(why) = &status.degraded {
        lines.push(format!("degraded      {}", output::printable(why)));
    }
    lines.extend(status.quarantined.iter().map(|path| format!("put aside     {}", path.display())));
    lines.join("\n")
}

fn summary(salvaged: &Salvaged) -> String {
    let Salvaged { results, unreadable, broken, unread: _ } = salvaged;
    let mut text = format!("{results} results written");
    if *unreadable > 0 {
        text += &format!(", {unreadable} entries are no results that this version reads");
    }
    if *broken > 0 {
        text += &format!("; {broken} databases are damaged, and only their journals were read");
    }
    text
}

fn size(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1024.0 * 1024.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spool_in_trouble_says_why_and_what_it_cost() {
        let status = Status {
            running: true,
            pending: 7,
            held: 30,
            lost: 4,
            degraded: Some("no space left".into()),
            recorded: Some(wire::Position { epoch: 3, seq: 9 }),
            acknowledged: None,
            database_bytes: 3 * 1024 * 1024 / 2,
            reserve_bytes: 0,
            quarantined: vec!["/data/spool/quarantine-1".into()],
        };
        let text = lines(&status);
        for part in
            ["running", "3/9", "unknown", "1.5 MiB", "none:", "30, lost 4", "no space left", "quarantine-1"]
        {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }
}
