//! PostgreSQL servers that cases name, and the situations that befall them; and what only claims to be one.

use serde_json::Value;
use servers::{Authority, Cluster, Liar, Lie, Link, Postgres, Subscription};

use crate::servers::{Server, said};

pub(crate) fn postgres(settings: &Value, authority: &Authority) -> Result<Server, String> {
    let postgres = match words(settings)?[..] {
        [] => Postgres::start(authority),
        ["foreign"] => Postgres::start_foreign(authority),
        _ => return Err(format!("found {settings}, write foreign or nothing")),
    };
    let postgres = postgres.map_err(said)?;
    Ok(Server::new(with_login([("port", &postgres)]), postgres))
}

pub(crate) fn cluster(settings: &Value, authority: &Authority) -> Result<Server, String> {
    let mut cluster = Cluster::start(authority).map_err(said)?;
    for situation in words(settings)? {
        match situation {
            "idle" => cluster.idle(OLD),
            "replay-paused" => cluster
                .standby1()
                .pause_replay()
                .and_then(|()| cluster.insert(10))
                .and_then(|()| cluster.idle(OLD)),
            "replay-held" => cluster.hold_replay(OLD),
            "long-transaction" => cluster.write_long(VERY_OLD),
            "load" => cluster.load(),
            "cut" => cluster.standby1().set_link(Link::Cut),
            "cut-and-behind" => cluster.standby1().set_link(Link::Cut).and_then(|()| cluster.insert(10)),
            "frozen" => cluster.freeze(SILENT),
            "lost" => cluster.lose_wal(),
            "removed" => cluster.remove_standby(),
            "upstream-cut" => cluster.cut_upstream(),
            "promoted" => cluster.promote(),
            "backup" => cluster.back_up(),
            "archiver" => cluster.archive(),
            "slots" => cluster.make_slots(),
            other => {
                return Err(format!(
                    "found the situation {other}; the known ones stand in tests/cases/README.md"
                ));
            }
        }
        .map_err(said)?;
    }
    let values = with_login([
        ("primary_port", cluster.primary()),
        ("standby1_port", cluster.standby1().server()),
        ("standby2_port", cluster.standby2().server()),
        ("cascade_port", cluster.cascade().server()),
    ]);
    Ok(Server::new(values, cluster))
}

pub(crate) fn subscription(settings: &Value, authority: &Authority) -> Result<Server, String> {
    let subscription = Subscription::start(authority).map_err(said)?;
    for situation in words(settings)? {
        match situation {
            "following" => subscription.follow(),
            "copying" => subscription.copy_for_ever(),
            "behind" => subscription.fall_behind(1000),
            "disabled" => subscription.disable(),
            "failing" => subscription.fail(),
            "cut" => subscription.cut(),
            "frozen" => subscription.freeze(SILENT),
            other => {
                return Err(format!(
                    "found the situation {other}; the known ones stand in tests/cases/README.md"
                ));
            }
        }
        .map_err(said)?;
    }
    let values = with_login([
        ("publisher_port", subscription.publisher()),
        ("subscriber_port", subscription.subscriber()),
    ]);
    Ok(Server::new(values, subscription))
}

pub(crate) fn liar(settings: &Value) -> Result<Server, String> {
    let named = settings.as_str().unwrap_or_default();
    let lie = LIES.iter().find(|(name, _)| *name == named);
    let (_, lie) = lie
        .ok_or_else(|| format!("found {settings}, write one of {}", LIES.map(|(name, _)| name).join(", ")))?;
    let liar = Liar::start(*lie).map_err(said)?;
    Ok(Server::new([("port", liar.port().to_string())], liar))
}

/// One situation, or a list of them in the order in which they befall.
fn words(settings: &Value) -> Result<Vec<&str>, String> {
    let wrong = || format!("found {settings}, write a situation or a list of them");
    match settings {
        Value::Null => Ok(Vec::new()),
        Value::String(word) => Ok(vec![word]),
        Value::Array(words) => words.iter().map(|word| word.as_str().ok_or_else(wrong)).collect(),
        _ => Err(wrong()),
    }
}

/// The ports, and how to log in.
fn with_login<const N: usize>(ports: [(&'static str, &Postgres); N]) -> Vec<(&'static str, String)> {
    let mut values: Vec<_> = ports.map(|(field, server)| (field, server.port().to_string())).to_vec();
    values.push(("user", servers::POSTGRES_USER.into()));
    values.push(("password", servers::POSTGRES_PASSWORD.into()));
    values
}

/// Seconds by which what is late or idle is so: cases have bounds below it.
const OLD: f64 = 1.5;
/// The same for a server that is busy and may be slow.
const VERY_OLD: f64 = 5.0;
/// Seconds for which a frozen link has been silent.
const SILENT: f64 = 2.5;

const LIES: [(&str, Lie); 25] = [
    ("garbage", Lie::Garbage),
    ("web-page", Lie::WebPage),
    ("huge-length", Lie::HugeLength),
    ("short-length", Lie::ShortLength),
    ("parameter-flood", Lie::ParameterFlood),
    ("questions", Lie::Questions),
    ("impostor", Lie::Impostor),
    ("wrong-nonce", Lie::WrongNonce),
    ("many-rounds", Lie::ManyRounds),
    ("closes", Lie::Closes),
    ("closes-in-row", Lie::ClosesInRow),
    ("endless-rows", Lie::EndlessRows),
    ("trickle", Lie::Trickle),
    ("notice-flood", Lie::NoticeFlood),
    ("cut-row", Lie::CutRow),
    ("one-column", Lie::OneColumn),
    ("no-numbers", Lie::NoNumbers),
    ("no-answer", Lie::NoAnswer),
    ("never-ready", Lie::NeverReady),
    ("error-in-query", Lie::ErrorInQuery),
    ("fatal-in-query", Lie::FatalInQuery),
    ("empty-error", Lie::EmptyError),
    ("old", Lie::Old),
    ("tls-error", Lie::TlsError),
    ("tls-injection", Lie::TlsInjection),
];
