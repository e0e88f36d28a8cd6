//! The {{name}} check: connects to a service that greets with a line, and judges the line.
//!
//! A check is a configuration, a function `run`, and `sdk::check!`. What fetches the facts stands in `run`, what judges them in
//! `judge`, which needs no network and is tested below.

use schemars::JsonSchema;
use sdk::net::{Endpoint, Family};
use sdk::{Context, Finding, Outcome, Stop, tcp};
use serde::Deserialize;

/// What to connect to, and what to hear there. Each text below becomes the option's page, so it says default and bounds.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// The name or address to connect to. The mark makes the grant: a run reaches this and nothing else.
    #[schemars(length(min = 1), extend("x-picket-target" = "host"))]
    host: String,
    /// The port to connect to, 1 to 65535.
    #[schemars(range(min = 1))]
    port: u16,
    /// What the greeting must begin with. "220" unless set: a mail server that is ready says so.
    #[serde(default = "ready")]
    #[schemars(length(min = 1))]
    greeting: String,
}

fn ready() -> String {
    "220".into()
}

sdk::check! {
    name: "{{name}}",
    summary: "A service greets as expected.",
    config: Config,
    // Name, unit (UCUM) and meaning of every number that `run` may emit.
    metrics: [("greeting.length", "By", "Bytes of the greeting.")],
    // Configurations that make sense; the conformance suite runs each of them.
    examples: [r#"{"host": "mail.example.com", "port": 25}"#],
    run: run,
}

/// Everything blocks: the host lets others run meanwhile. `?` makes a target that cannot be reached `down`, and a refusal by the
/// host an error.
fn run(config: Config, _: &Context) -> Result<Outcome, Stop> {
    let connection = tcp::connect(&Endpoint { host: config.host.clone(), port: config.port }, Family::Any)?;
    let mut heard = Vec::new();
    while !heard.ends_with(b"\n") && heard.len() < 512 {
        let more = connection.read(512)?;
        if more.is_empty() {
            break;
        }
        heard.extend(more);
    }
    Ok(judge(&config, &String::from_utf8_lossy(&heard)))
}

fn judge(config: &Config, heard: &str) -> Outcome {
    let line = heard.lines().next().unwrap_or_default();
    let greets = line.starts_with(&config.greeting);
    Outcome::up("it greets")
        .must(Finding::new("greeting", greets, config.greeting.clone(), line), "{{name}}.greeting", || {
            format!("expected a greeting that begins with {:?}, heard {line:?}", config.greeting)
        })
        .metric("greeting.length", heard.len() as f64, "By")
}

#[cfg(test)]
mod tests {
    use sdk::State;

    use super::*;

    fn check(heard: &str, state: State) {
        let config = Config { host: "mail.example.com".into(), port: 25, greeting: ready() };
        assert_eq!(judge(&config, heard).state, state, "{heard:?}");
    }

    #[test]
    fn a_greeting_that_begins_as_expected_is_up() {
        check("220 ready\r\n", State::Up);
        check("421 busy\r\n", State::Down);
        check("", State::Down);
    }
}
