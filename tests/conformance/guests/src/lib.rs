//! A check that keeps the contract, and breaks it in exactly one way when it is told to: what it breaks stands in a text of fixed
//! length that a test overwrites in the component. One build makes every broken guest of the conformance suite.
//!
//! The check itself connects, maybe speaks TLS, sends its token where it has one, and wants to hear "ok".

// Outside of the sandbox nobody calls it.
#![cfg_attr(not(target_arch = "wasm32"), allow(dead_code))]

use schemars::JsonSchema;
use sdk::bindings::exports::picket::check::{checker, validator};
use sdk::net::{Cause, Endpoint, Family};
use sdk::{Context, Failure, Mistake, Outcome, Secret, Stop, tcp};
use serde::Deserialize;
use serde_json::{Value, json};

/// What is broken. A test looks for the text in front and writes a way behind it; it has 32 characters.
static BROKEN: [u8; 48] = *b"what-is-broken: nothing                         ";

/// What the check is told.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// The name to connect to.
    #[schemars(length(min = 1), extend("x-picket-target" = "host"))]
    host: String,
    /// The port to connect to; 7 unless set.
    #[serde(default = "echo")]
    #[schemars(range(min = 1))]
    port: u16,
    /// Whether to speak TLS; false unless set.
    #[serde(default)]
    tls: bool,
    /// What to send first. Nothing unless set.
    token: Option<Secret>,
}

fn echo() -> u16 {
    7
}

/// Whether this is what is broken. Read as a stranger would, so that the compiler does not decide it.
fn broken(way: &str) -> bool {
    let text = std::hint::black_box(&BROKEN);
    let text = std::str::from_utf8(&text[16..]).unwrap_or_default();
    text.trim_end() == way
}

struct Guest;

impl checker::Guest for Guest {
    fn describe() -> checker::Description {
        while broken("describe/quick") {
            std::hint::black_box(());
        }
        if broken("describe/answers") {
            panic!("no description");
        }
        if broken("describe/pure") {
            let _ = tcp::connect(&Endpoint { host: "home.example".into(), port: 443 }, Family::Any);
        }
        let about = sdk::About {
            name: "guest",
            version: "0.1.0",
            summary: "A guest of the conformance suite.",
            metrics: &[("guest.heard", "By", "Bytes that were heard.")],
            examples: &[],
        };
        let mut description = sdk::describe::<Config>(&about);
        if broken("describe/twice") {
            // A set of the standard library has another order in every instance.
            let order: std::collections::HashSet<u32> = (0..64).collect();
            description.summary = format!("{:?}", order.iter().take(8).collect::<Vec<_>>());
        }
        description.config_schema = schema(&description.config_schema);
        description
    }

    fn run(context: checker::Context) -> Result<Outcome, Failure> {
        if broken("memory/flat") {
            std::mem::forget(std::hint::black_box(vec![1_u8; context.attempt as usize * 65_536]));
        }
        let text = context.config.as_str();
        if let Some(verdict) = misread(text) {
            return verdict;
        }
        let read = sdk::config::read::<Config>;
        let given = context.clone();
        match read(text) {
            Err(_) if broken("config/empty") && text == "{}" => panic!("nothing there"),
            Err(_) if broken("config/huge") && text.len() > 250_000 => panic!("too much"),
            Err(Failure::InvalidConfig(_)) if broken("config/wrong-type") => {
                let odd = serde_json::from_str::<Value>(text).is_ok_and(|config| {
                    config.get("host").is_some() && config.get("picket_unknown_key").is_none()
                });
                match odd {
                    true => Err(Failure::InvalidConfig(vec![Mistake {
                        at: "/elsewhere".into(),
                        message: "is wrong".into(),
                    }])),
                    false => read(text).map(|_| Outcome::up("never")),
                }
            }
            _ => sdk::run::<Config, Stop>(given, run),
        }
    }
}

/// What comes of a configuration that a broken guest takes for another.
fn misread(text: &str) -> Option<Result<Outcome, Failure>> {
    if broken("config/unknown-key") && text.contains("picket_unknown_key\":1}") {
        return Some(Ok(Outcome::up("whatever")));
    }
    if broken("config/encoding") && text.starts_with('[') {
        panic!("not an object");
    }
    None
}

/// The schema, broken where that is asked for, with its examples.
fn schema(own: &str) -> String {
    let mut schema: Value = serde_json::from_str(own).unwrap_or_default();
    schema["examples"] = json!([
        { "host": "shop.example", "port": 7 },
        { "host": "shop.example", "tls": true },
        { "host": "shop.example", "token": { "$secret": "guest-token" } },
    ]);
    if broken("examples/documented") {
        schema["examples"] = json!([]);
    }
    if broken("examples/valid") {
        schema["examples"][1]["port"] = "seven".into();
    }
    if broken("schema/valid") {
        schema["properties"]["host"]["type"] = "text".into();
    }
    if broken("schema/documented") {
        schema["properties"]["tls"]["description"] = "".into();
    }
    if broken("schema/defaults") {
        schema["properties"]["host"]["default"] = 7.into();
    }
    if broken("schema/targets") {
        schema["properties"]["host"].as_object_mut().map(|host| host.remove("x-picket-target"));
    }
    schema.to_string()
}

fn run(config: Config, _: &Context) -> Result<Outcome, Stop> {
    // Whoever marks nothing reaches for nothing here: that has a case of its own.
    if broken("schema/targets") {
        return Ok(Outcome::up("nothing to do"));
    }
    if broken("grant/targets") {
        let _ = tcp::connect(&Endpoint { host: "home.example".into(), port: 443 }, Family::Any);
    }
    let to = Endpoint { host: config.host.clone(), port: config.port };
    let connection = match tcp::connect(&to, Family::Any) {
        Ok(connection) => connection,
        Err(error) => return Err(failed(error)),
    };
    if config.tls {
        connection.secure(&sdk::tls::Options::default()).map_err(failed)?;
    }
    if let Some(token) = &config.token {
        let sent = connection.write_secret(b"token ", &token.open()?, b"\n");
        sent.map_err(failed)?;
    }
    let mut heard = connection.read(64);
    if broken("failures/silent") && heard.is_err() {
        for _ in 0..100 {
            heard = connection.read(64);
        }
    }
    let heard = heard.map_err(failed)?;
    if broken("examples/run") && heard == b"ok\r\n" {
        return Err(Stop::Failure(Failure::Internal("not today".into())));
    }
    let text = String::from_utf8_lossy(&heard).into_owned();
    let outcome = match text.contains("ok") || text.starts_with("token ") {
        true => Outcome::up("it says ok"),
        false if heard.is_empty() && broken("failures/closed") => Outcome::up("it is quiet"),
        false if heard.is_empty() => Outcome::down("guest.closed", "it says nothing"),
        false if text == "x" && broken("failures/slow") => Outcome::up("it will come"),
        false if text != "x" && broken("failures/garbage") => Outcome::up("it says something"),
        false => Outcome::down("guest.expect", "it says something else"),
    };
    if let Some(token) = text.strip_prefix("token ")
        && broken("secrets/output")
    {
        sdk::log::write(sdk::log::Level::Info, token.get(..12).unwrap_or_default());
    }
    let (name, unit) = match () {
        () if broken("metrics/described") => ("guest.read", "By"),
        () if broken("metrics/unit") => ("guest.heard", "s"),
        () => ("guest.heard", "By"),
    };
    Ok(outcome.metric(name, heard.len() as f64, unit))
}

/// What becomes of a failed exchange.
fn failed(error: sdk::net::Error) -> Stop {
    let way = match &error.cause {
        Cause::Denied => "grant/denied",
        Cause::Refused => "failures/refused",
        Cause::Unreachable => "failures/unreachable",
        Cause::Reset => "failures/reset",
        Cause::Dns(3) => "failures/dns-nxdomain",
        Cause::Tls(reason) if reason == "expired" => "failures/tls-expired",
        Cause::Timeout if error.phase == Some(sdk::net::Phase::Connect) => "failures/black-hole",
        _ => return error.into(),
    };
    match way {
        _ if !broken(way) => error.into(),
        "failures/reset" => panic!("reset"),
        "failures/refused" | "failures/tls-expired" => Stop::Outcome(Outcome::up("who needs it")),
        "failures/unreachable" => Stop::Failure(Failure::Internal("no idea".into())),
        _ => Stop::Outcome(Outcome::down("tcp.refused", "it must have been that")),
    }
}

/// It has no rules beside its schema.
impl validator::Guest for Guest {
    fn validate(_: String) -> Result<(), Vec<Mistake>> {
        Ok(())
    }
}

#[cfg(target_arch = "wasm32")]
#[allow(unsafe_code)]
mod exported {
    use super::Guest;
    sdk::bindings::export!(Guest with_types_in sdk::bindings);
}
