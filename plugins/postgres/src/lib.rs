//! The postgres check: how far a standby lags behind its primary, and what else keeps a copy from being one.
//!
//! [`config`] and [`choice`] say what can be asked, [`target`] and [`dsn`] which servers that names. [`session`] speaks the protocol over
//! [`wire`]'s messages, which come in by [`inbox`]; [`login`] proves who we are, tied to TLS by [`binding`], and [`refusal`] says
//! what an error means. [`exclude`] says whom to pass over. Then one file per mode asks and judges: [`replica`], [`primary`], [`pair`], [`slots`], and [`logical`] with
//! [`subscriber`] and [`feed`]; by the [`role`] that is expected, the bounds of [`lag`] and the times of [`pace`]. Judging is pure.

mod binding;
mod choice;
mod config;
mod dsn;
mod exclude;
mod feed;
mod inbox;
mod lag;
mod logical;
mod login;
mod pace;
mod pair;
mod primary;
mod refusal;
mod replica;
mod role;
mod session;
mod slots;
mod subscriber;
mod target;
mod wire;

use std::time::Instant;

use sdk::{Context, Outcome, Stop};

use choice::Mode;
use config::Config;
use exclude::Exclude;
use session::{Session, Time};
use target::{Ends, Target};

fn run(config: Config, context: &Context) -> Result<Outcome, Stop> {
    let time = Time { begun: Instant::now(), budget: context.budget };
    let exclude = Exclude::read(&config)?;
    match &config.ends()? {
        Ends::One(target) => one(&config, &exclude, target, time),
        Ends::Two { primary, standby } => two(&config, primary, standby, time),
    }
}

fn validate(config: &Config) -> Result<(), Stop> {
    sdk::mistakes([config.ends().map(drop), Exclude::read(config).map(drop)])
}

fn one(config: &Config, exclude: &Exclude, target: &Target, time: Time) -> Result<Outcome, Stop> {
    let mut session = Session::open(target, time)?;
    let outcome = match config.mode {
        Mode::Replica | Mode::Pair => replica::judge(config, &replica::observe(&mut session)?)?,
        Mode::Primary => {
            let facts = primary::observe(config, &mut session)?;
            primary::judge(config, &exclude.among(facts.names())?, &facts)?
        }
        Mode::Slots => {
            let facts = slots::observe(&mut session)?;
            slots::judge(config, &exclude.among(facts.names())?, &facts)?
        }
        Mode::Logical => {
            let facts = logical::observe(&mut session, &target.dbname)?;
            logical::judge(config, &exclude.among(facts.names())?, &facts)?
        }
    };
    session.close();
    Ok(session.tell(outcome))
}

fn two(config: &Config, primary: &Target, standby: &Target, time: Time) -> Result<Outcome, Stop> {
    let mut first = Session::open(primary, time).map_err(|stop| of("primary", stop))?;
    let mut second = Session::open(standby, time).map_err(|stop| of("standby", stop))?;
    let outcome = pair::judge(config, &pair::observe(config, &mut first, &mut second)?)?;
    first.close();
    second.close();
    Ok(first.tell(outcome))
}

/// Says which of the two ends could not be asked.
fn of(end: &str, stop: Stop) -> Stop {
    match stop {
        Stop::Outcome(outcome) => {
            let summary = format!("{end}: {}", outcome.summary);
            Stop::Outcome(Outcome { summary, ..outcome })
        }
        failure => failure,
    }
}

sdk::check! {
    name: "postgres",
    summary: "A PostgreSQL standby follows its primary closely enough.",
    config: Config,
    metrics: [
        ("postgres.lag", "s", "Replay lag in time; of several standbys or logical slots the largest."),
        ("postgres.lag_bytes", "By", "Replay lag in bytes of WAL; of several standbys or logical slots the largest."),
        ("postgres.receiver_silence", "s", "Time since the last message of the other server; of several the longest."),
        ("postgres.clock_skew", "s", "How far the clocks of the two servers are apart: at least this much, and in mode pair exactly."),
        ("postgres.standbys", "1", "Standbys that stream or catch up."),
        ("postgres.slots", "1", "Replication slots that are judged."),
        ("postgres.slots_inactive", "1", "Slots that nobody uses."),
        ("postgres.slots_lost", "1", "Slots that no longer keep what their users need."),
        ("postgres.slot_kept", "By", "WAL that a slot keeps back; of several the most."),
        ("postgres.slot_safe", "By", "WAL that may be written before a slot is in danger; of several the least."),
        ("postgres.subscriptions", "1", "Subscriptions that are judged."),
        ("postgres.subscriptions_running", "1", "Subscriptions that follow their publisher."),
        ("postgres.tables_copying", "1", "Tables of subscriptions whose first copy is not done."),
        ("postgres.apply_errors", "1", "Errors in applying changes since the server's statistics began."),
        ("postgres.copy_errors", "1", "Errors in first copies since the server's statistics began."),
    ],
    examples: [
        r#"{"host": "standby.example.com", "user": "picket", "password": {"$secret": "pg-monitor"}}"#,
        r#"{"host": "primary.example.com", "user": "picket", "password": {"$secret": "pg-monitor"}, "sslmode": "verify-full", "mode": "primary", "min_standbys": 2}"#,
    ],
    validate: validate,
    run: run,
}
