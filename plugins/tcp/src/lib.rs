//! The tcp check: connects, maybe speaks TLS, maybe sends, maybe expects.
//!
//! [`config`] says what can be asked, [`expectation`] what an answer is compared with and [`template`] what is sent, both in [`hex`] too.
//! [`dialogue`] speaks and listens, [`met`] finds what was expected by the host's [`regexes`], [`judge`] gives the verdict.

mod config;
mod dialogue;
mod expectation;
mod hex;
mod judge;
mod met;
mod regexes;
mod template;

use sdk::net::{Cause, Endpoint, Error, Family};
use sdk::{Context, Outcome, Stop, tcp};

use config::Config;
use dialogue::Dialogue;
use regexes::Regexes;

sdk::check! {
    name: "tcp",
    summary: "A TCP service accepts connections and answers as expected.",
    config: Config,
    metrics: [],
    examples: [
        r#"{"host": "mail.example.com", "port": 25, "expect": "220"}"#,
        r#"{"host": "redis.example.com", "port": 6379, "send": "PING\r\n", "expect": "+PONG"}"#,
        r#"{"host": "imap.example.com", "port": 993, "tls": true, "expect": "* OK"}"#,
    ],
    validate: validate,
    run: run,
}

fn validate(config: &Config) -> Result<(), Stop> {
    read(config).map(drop)
}

fn read(config: &Config) -> Result<Regexes, Stop> {
    let regexes = Regexes::read(config)?;
    config.validate(|step| regexes.groups(step))?;
    Ok(regexes)
}

fn run(config: Config, _: &Context) -> Result<Outcome, Stop> {
    let regexes = read(&config)?;
    let to = Endpoint { host: config.host.clone(), port: config.port };
    let connection = match tcp::connect(&to, Family::Any) {
        Ok(connection) => connection,
        Err(error) => return refused(&config, error),
    };
    let mut dialogue = Dialogue::new(&config, &regexes, &connection);
    if config.tls {
        dialogue.secure()?;
    }
    for (index, step) in config.steps().iter().enumerate() {
        if let Some(mismatch) = dialogue.take(index, step)? {
            return Ok(judge::mismatch(&config, mismatch, dialogue.facts()));
        }
    }
    Ok(judge::met(&config, &connection.remote_address(), dialogue.facts()))
}

/// Only a refusal is judged as the monitor's owner wishes: whoever listens, or does not, said so himself.
fn refused(config: &Config, error: Error) -> Result<Outcome, Stop> {
    match error.cause {
        Cause::Refused if error.code("tcp") == "tcp.refused" => Ok(judge::refused(config, error.message)),
        _ => Err(error.into()),
    }
}
