//! Both ends of a replication: the standby held against the primary's own position, by one clock.
//!
//! The primary's position is taken first. If the standby replays that far while we look, the time until then is the lag, by our
//! own clock; else its last commit, which bears the primary's time, is held against the primary's clock. The standby's clock has
//! no say. And whatever lies between the two, a cascade that is cut or that follows another primary included, shows.

use sdk::{Finding, Outcome, Stop};

use crate::choice::Role;
use crate::config::Config;
use crate::inbox::broken;
use crate::lag::Lag;
use crate::pace::{self, Goal, Look};
use crate::replica::{self, PAUSE, SAMPLES, Sample};
use crate::session::Session;
use crate::wire::{Columns, Row};

/// What the two servers say. Seconds are those of our own clock unless said otherwise.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Facts {
    /// Who asked the standby.
    pub role: String,
    pub primary: Server,
    pub standby: Server,
    /// The two are called by each other's name in the configuration.
    pub are_swapped: bool,
    /// What the primary had written at first; none where there are not one primary and one standby.
    pub goal: Option<Position>,
    /// What the standby said since, oldest first.
    pub looks: Vec<(f64, Sample)>,
    /// What the primary had written at the end, asked only where the standby was ahead of the goal.
    pub written: Option<u64>,
}

/// One server.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Server {
    pub in_recovery: bool,
    /// Of the cluster; the copies of one have the same.
    pub system: String,
    /// Of the WAL that it writes, or has replayed as far as it has noted.
    pub timeline: u32,
}

/// Where a primary was, and when.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Position {
    pub written: u64,
    /// Our clock, in seconds.
    pub at: f64,
    /// The primary's clock, in seconds.
    pub clock: f64,
}

/// Asks both ends.
pub(crate) fn observe(config: &Config, primary: &mut Session, standby: &mut Session) -> Result<Facts, Stop> {
    let (first, second) = (identity(primary)?, identity(standby)?);
    let are_swapped = config.expect_role == Some(Role::Any) && first.in_recovery && !second.in_recovery;
    let (ends, sessions) = match are_swapped {
        true => ((second, first), (standby, primary)),
        false => ((first, second), (primary, standby)),
    };
    let (primary, standby) = sessions;
    let mut facts = Facts {
        role: standby.role().into(),
        primary: ends.0,
        standby: ends.1,
        are_swapped,
        goal: None,
        looks: Vec::new(),
        written: None,
    };
    if facts.primary.in_recovery || !facts.standby.in_recovery {
        return Ok(facts);
    }
    let goal = position(primary)?;
    facts.goal = Some(goal);
    loop {
        facts.looks.push(timed(standby, replica::ask)?);
        let Some((_, sample)) = facts.looks.last() else { break };
        let reached = sample.replayed.is_some_and(|replayed| replayed >= goal.written);
        let stays = sample.paused || facts.looks.len() == SAMPLES || !standby.may_wait(PAUSE);
        if reached && !is_unsure(&facts.looks) || stays {
            break;
        }
        standby.pause(PAUSE);
    }
    if facts.furthest() > Some(goal.written) {
        facts.written = Some(position(primary)?.written);
    }
    Ok(facts)
}

/// A receiver that has only just started may do so again and again.
fn is_unsure(looks: &[(f64, Sample)]) -> bool {
    looks.len() == 1 && looks[0].1.receiver.as_ref().is_some_and(|receiver| receiver.is_fresh)
}

/// What a question gave, and the time in the middle between question and answer.
fn timed<T>(
    session: &mut Session,
    question: impl FnOnce(&mut Session) -> Result<T, Stop>,
) -> Result<(f64, T), Stop> {
    let begun = session.elapsed();
    let answer = question(session)?;
    Ok((begun.midpoint(session.elapsed()), answer))
}

fn identity(session: &mut Session) -> Result<Server, Stop> {
    let rows = session.query(IDENTITY)?;
    rows.first().and_then(server).ok_or_else(|| broken(STRANGE))
}

fn position(session: &mut Session) -> Result<Position, Stop> {
    let (at, rows) = timed(session, |session| session.query(POSITION))?;
    let row = Columns(rows.first().map_or(&[], Vec::as_slice));
    let position = row.position(0).zip(row.number(1)).map(|(written, clock)| Position { written, at, clock });
    position.ok_or_else(|| broken(STRANGE))
}

/// Judges what the two say.
pub(crate) fn judge(config: &Config, facts: &Facts) -> Result<Outcome, Stop> {
    let samples: Vec<Sample> = facts.looks.iter().map(|(_, sample)| sample.clone()).collect();
    if let Some(now) = samples.last() {
        now.readable(&facts.role)?;
    }
    let lag = facts.lag();
    let mut outcome = Outcome::up(format!("the standby is {}", lag.text()));
    outcome = judge_roles(outcome, facts);
    outcome = outcome.must(
        Finding::new(
            "system",
            facts.primary.system == facts.standby.system,
            format!("both of the cluster {}", facts.primary.system),
            format!("the standby is of {}", facts.standby.system),
        ),
        "postgres.other_cluster",
        || "the standby is no copy of this primary: it belongs to another cluster".into(),
    );
    let Some((_, now)) = facts.looks.last() else { return Ok(outcome) };

    outcome = judge_history(outcome, facts, now);
    let stream = replica::stream(config, &samples);
    // The primary's own position says whether anything is missing; a link that is cut only means that soon something will be.
    outcome = outcome.should(
        Finding::new("receiver", stream.is_ok(), "streams", replica::words(&stream)),
        "postgres.not_streaming",
        || format!("not streaming: {}; {}", replica::words(&stream), lag.text()),
    );
    outcome = replica::judge_pause(outcome, now, &lag);
    outcome = lag.metrics(lag.judge(outcome, config, "the standby"));
    if let Some(silence) = now.silence() {
        outcome = outcome.metric("postgres.receiver_silence", silence, "s");
    }
    if let Some(skew) = facts.skew() {
        outcome = outcome.metric("postgres.clock_skew", skew, "s");
    }
    if facts.are_swapped {
        outcome = outcome.attribute("pair.swapped", "the server called standby is the primary");
    }
    Ok(outcome.attribute("lag.measured_by", lag.by).attribute("timeline", facts.primary.timeline.to_string()))
}

/// Exactly one primary, and it is the one that is called so.
fn judge_roles(outcome: Outcome, facts: &Facts) -> Outcome {
    let found =
        [&facts.primary, &facts.standby].map(|server| Role::of(server.in_recovery).text()).join(" and ");
    let (code, summary) = match (facts.primary.in_recovery, facts.standby.in_recovery) {
        (false, true) => ("", ""),
        (true, true) => ("postgres.no_primary", "there is no primary: both servers are standbys"),
        (false, false) => (
            "postgres.two_primaries",
            "there are two primaries: the standby was promoted while the primary goes on, or never followed it",
        ),
        (true, false) => (
            "postgres.role",
            "the two have changed places: the server called standby is the primary; expect_role: any allows that",
        ),
    };
    outcome.must(Finding::new("expect_role", code.is_empty(), "primary and standby", found), code, || {
        summary.into()
    })
}

/// The standby follows this primary's history and no other.
fn judge_history(outcome: Outcome, facts: &Facts, now: &Sample) -> Outcome {
    let own = facts.primary.timeline;
    let streamed = now.receiver.as_ref().and_then(|receiver| receiver.timeline);
    // What a standby has noted on its disk comes late: without a receiver only a newer timeline proves anything.
    let followed = streamed.unwrap_or(facts.standby.timeline.max(own));
    let outcome = outcome.must(
        Finding::new("timeline", followed == own, own.to_string(), followed.to_string()),
        "postgres.timeline",
        || match followed > own {
            true => format!(
                "the standby follows another primary: it is on timeline {followed}, this primary on {own}"
            ),
            false => format!(
                "the standby has not followed the last promotion: it is on timeline {followed}, the primary on {own}"
            ),
        },
    );
    let ahead = facts.furthest().zip(facts.written).is_some_and(|(standby, primary)| standby > primary);
    outcome.must(
        Finding::new(
            "diverged",
            !ahead,
            "nothing that the primary lacks",
            if ahead { "more" } else { "nothing" },
        ),
        "postgres.diverged",
        || "the standby has WAL that the primary never wrote: it followed another one".into(),
    )
}

impl Facts {
    /// The last position that the standby has received or replayed.
    fn furthest(&self) -> Option<u64> {
        let (_, now) = self.looks.last()?;
        let received = now.received.filter(|_| now.receiver.is_some());
        received.max(now.replayed)
    }

    /// How far replay is behind what the primary had at first.
    fn lag(&self) -> Lag {
        let (Some(goal), Some((at, now))) = (self.goal, self.looks.last()) else {
            return Lag { seconds: None, bytes: None, by: pace::BY_COMMIT };
        };
        // The primary's time of the last commit, on the primary's clock as it is now.
        let committed = now.commit_age.map(|age| now.at - age);
        let commit_age = committed.map(|committed| goal.clock + (at - goal.at) - committed);
        let behind = replica::behind(Some(goal.written), now.replayed);
        let looks: Vec<Look> =
            self.looks.iter().map(|(at, sample)| Look { at: *at, replayed: sample.replayed }).collect();
        pace::lag(Goal { position: Some(goal.written), at: goal.at, behind, commit_age }, &looks)
    }

    /// Seconds between the two clocks.
    fn skew(&self) -> Option<f64> {
        let (goal, (at, now)) = (self.goal?, self.looks.last()?);
        Some(((now.at - at) - (goal.clock - goal.at)).abs())
    }
}

/// Reads the answer to [`IDENTITY`]; none when it has another shape.
fn server(row: &Row) -> Option<Server> {
    let row = Columns(row);
    let written = row.text(2).and_then(|hex| u32::from_str_radix(hex, 16).ok());
    Some(Server {
        in_recovery: row.flag(0)?,
        system: row.text(1)?.into(),
        timeline: written.or(row.count(3)).unwrap_or(0),
    })
}

/// A WAL file's name begins with its timeline in hexadecimal. A standby notes its own at restart points, and where recovery
/// must go on at least.
const IDENTITY: &str = "\
SELECT pg_is_in_recovery(), (SELECT system_identifier FROM pg_control_system()), \
CASE WHEN NOT pg_is_in_recovery() THEN substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END, \
greatest((SELECT timeline_id FROM pg_control_checkpoint()), \
(SELECT min_recovery_end_timeline FROM pg_control_recovery()))";

const POSITION: &str =
    "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0'), extract(epoch FROM clock_timestamp())";

const STRANGE: &str = "the server answers with columns that were not asked for";

#[cfg(test)]
#[path = "pair_tests.rs"]
mod tests;
