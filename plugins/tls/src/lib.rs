//! The tls check: makes one handshake, also with a server it must not trust, and says everything about what was served.
//!
//! [`config`] and [`choice`] say what can be asked, [`starttls`] holds the dialogues in front of a handshake, [`facts`] what the handshake
//! showed, [`judge`] the verdict. Does not speak any protocol behind the handshake.

mod choice;
mod config;
mod expected;
mod facts;
mod judge;
mod revocation;
mod starttls;
mod words;

use std::time::{SystemTime, UNIX_EPOCH};

use sdk::net::{Endpoint, Family};
use sdk::{At, Context, Outcome, Stop, tcp, tls};

use config::Config;
use facts::Facts;

fn run(config: Config, _: &Context) -> Result<Outcome, Stop> {
    config.validate()?;
    let to = Endpoint { host: config.dialled().to_owned(), port: config.port };
    let connection = tcp::connect(&to, Family::Any)?;
    if let Some(dialogue) = config.starttls {
        starttls::speak(dialogue, config.expected_name(), &connection)?;
    }
    let session = connection.secure(&options(&config)).at("tls")?;
    let mut facts = Facts::read(&session, connection.timings().handshake_us);
    facts.ask_revocation(&session, revocation::sources(&config));
    Ok(judge::judge(&config, &facts, now())?)
}

/// The lowest version is left to the host, so that the version that was agreed on can be named.
fn options(config: &Config) -> tls::Options {
    tls::Options {
        server_name: Some(config.expected_name().to_owned()),
        alpn: Vec::new(),
        min_version: None,
        max_version: config.max_tls_version.map(|highest| highest.text().to_owned()),
        ca: config.ca.clone(),
        client_identity: None,
        trust: tls::Trust::Recorded,
    }
}

/// Seconds since 1970, from the host's clock.
fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

sdk::check! {
    name: "tls",
    summary: "Certificates are valid, trusted and not about to expire.",
    config: Config,
    metrics: [
        ("tls.days_left", "d", "Days until the first certificate of the chain expires, without the root."),
        ("tls.leaf_days_left", "d", "Days until the server's own certificate expires."),
        ("tls.handshake", "s", "Time of the handshake."),
        ("tls.certificates", "1", "Certificates that the server sent."),
    ],
    examples: [
        r#"{"host": "shop.example.com"}"#,
        r#"{"host": "mail.example.com", "port": 25, "starttls": "smtp", "warn_days": 21}"#,
    ],
    validate: Config::validate,
    run: run,
}
