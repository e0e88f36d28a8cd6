//! The postgres check: how far a standby lags behind its primary, seen from either of the two.
//!
//! [`config`] says what can be asked. [`session`] speaks the protocol over [`wire`]'s messages. [`replica`] asks and judges a
//! standby, [`primary`] asks and judges a primary with its standbys, both by the bounds of [`lag`]. Judging is pure.

mod config;
mod lag;
mod primary;
mod replica;
mod session;
mod wire;

use sdk::{Context, Outcome, Stop};

use config::{Config, Mode};
use session::Session;

fn run(config: Config, context: &Context) -> Result<Outcome, Stop> {
    let exclude = config.validate()?;
    let mut session = Session::open(&config, context.budget)?;
    let outcome = match config.mode {
        Mode::Replica => replica::judge(&config, &replica::observe(&mut session, context.budget)?)?,
        Mode::Primary => primary::judge(&config, &exclude, &primary::observe(&mut session)?)?,
    };
    session.close();
    Ok(outcome.attribute("server_version", session.server_version()))
}

sdk::check! {
    name: "postgres",
    summary: "A PostgreSQL standby follows its primary closely enough.",
    config: Config,
    metrics: [
        ("postgres.lag", "s", "Replay lag in time; on a primary the largest of its standbys."),
        ("postgres.lag_bytes", "By", "Replay lag in bytes of WAL; on a primary the largest of its standbys."),
        ("postgres.receiver_silence", "s", "Time since the last message from the primary."),
        ("postgres.clock_skew", "s", "How far the clocks of the two servers are apart, where it shows; at least this much."),
        ("postgres.standbys", "1", "Standbys that stream or catch up."),
    ],
    run: run,
}
