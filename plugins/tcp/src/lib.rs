//! The tcp check: connects, maybe speaks TLS, maybe sends, maybe expects. `pattern.rs` owns what an answer is compared with.

mod pattern;

use pattern::{Expect, Payload, printable};
use schemars::JsonSchema;
use sdk::net::{Cause, Endpoint, Family};
use sdk::tcp::{self, Connection};
use sdk::{Context, Finding, Outcome, Stop};
use serde::{Deserialize, Serialize};

/// What to connect to, and what to say and hear there.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// The name or address to connect to. An IPv6 address stands without brackets.
    #[schemars(length(min = 1), extend("x-picket-target" = "host"))]
    host: String,
    /// The port to connect to, 1 to 65535.
    #[schemars(range(min = 1))]
    port: u16,
    /// What to send after connecting: a text as it stands, or `{hex: "0d 0a"}`. Without `expect` any reply passes. Unset, nothing
    /// is sent.
    send: Option<Payload>,
    /// What the answer must contain: a text, `{regex: …}` in the syntax of Rust's regex crate, or `{hex: …}`. Without `send` it is
    /// the banner, what the target says first. Unset, the answer is not read unless something was sent.
    expect: Option<Expect>,
    /// How many bytes of the answer to read at most, 1 to 65536. 1024 unless set: a banner or a status line fits many times.
    #[serde(default = "max_bytes")]
    #[schemars(range(min = 1, max = 65536))]
    max_bytes: u32,
    /// TLS right after connecting. Unset, the stream is plain.
    tls: Option<Tls>,
}

/// TLS right after connecting; the peer is verified.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Tls {
    /// Whether to speak TLS; true unless set.
    #[serde(default = "enabled")]
    enabled: bool,
    /// Certificate authorities instead of the system's: PEM text, or the path of a PEM file on the agent.
    ca: Option<String>,
    /// The name to ask for (SNI) and to verify. `host` unless set.
    server_name: Option<String>,
}

fn max_bytes() -> u32 {
    1024
}

fn enabled() -> bool {
    true
}

sdk::check! {
    name: "tcp",
    summary: "A TCP service accepts connections and answers as expected.",
    config: Config,
    metrics: [],
    run: run,
}

fn run(config: Config, _: &Context) -> Result<Outcome, Stop> {
    let connection = tcp::connect(&Endpoint { host: config.host.clone(), port: config.port }, Family::Any)?;
    let mut attributes = Vec::new();
    if let Some(tls) = config.tls.filter(|tls| tls.enabled) {
        let options = sdk::Tls { ca: tls.ca, server_name: tls.server_name }.options();
        let session = connection.secure(&options)?;
        attributes.push(("tls.version", session.version()));
    }
    if let Some(payload) = &config.send {
        connection.write(payload.bytes())?;
    }
    let outcome = if config.send.is_none() && config.expect.is_none() {
        Outcome::up(format!("connected to {}", connection.remote_address()))
    } else {
        judge(config.expect.as_ref(), &hear(&connection, config.expect.as_ref(), config.max_bytes)?)
    };
    Ok(attributes.into_iter().fold(outcome, |outcome, (name, value)| outcome.attribute(name, value)))
}

/// What came back.
struct Heard {
    bytes: Vec<u8>,
    end: End,
}

/// Why reading stopped.
#[derive(Clone, Copy)]
enum End {
    /// The expectation is met.
    Met,
    /// `max_bytes` were read.
    Full,
    /// The peer closed.
    Closed,
    /// The time was used up.
    Silent,
}

/// Reads until the expectation is met or nothing more can come. Silence before the first byte is an error.
fn hear(connection: &Connection, expect: Option<&Expect>, max: u32) -> Result<Heard, Stop> {
    let mut bytes = Vec::new();
    let end = loop {
        let left = max.saturating_sub(u32::try_from(bytes.len()).unwrap_or(max));
        if left == 0 {
            break End::Full;
        }
        match connection.read(left) {
            Ok(more) if more.is_empty() => break End::Closed,
            Ok(more) => bytes.extend(more),
            Err(error) if !bytes.is_empty() && error.cause == Cause::Timeout => break End::Silent,
            Err(error) => return Err(error.into()),
        }
        if expect.is_none_or(|expect| expect.matches(&bytes)) {
            break End::Met;
        }
    };
    Ok(Heard { bytes, end })
}

fn judge(expect: Option<&Expect>, heard: &Heard) -> Outcome {
    let count = heard.bytes.len();
    let Some(expect) = expect else {
        return match count {
            0 => Outcome::down("tcp.closed", "the peer closed the connection without a reply"),
            _ => Outcome::up(format!("{count} bytes in reply")),
        };
    };
    let finding =
        Finding::new("expect", matches!(heard.end, End::Met), expect.to_string(), printable(&heard.bytes));
    let outcome = Outcome::up(format!("the answer contains {expect}")).must(finding, "tcp.expect", || {
        let why = match heard.end {
            End::Closed => "and then the end of the stream",
            End::Silent => "and then silence until the timeout",
            End::Full | End::Met => "which is all that max_bytes allows",
        };
        format!("expected {expect}, heard {count} bytes {why}")
    });
    match heard.end {
        End::Met => outcome,
        _ => outcome.evidence(&heard.bytes),
    }
}

#[cfg(test)]
mod tests {
    use sdk::State;

    use super::*;

    fn check(expect: Option<Expect>, bytes: &[u8], end: End, state: State, code: &str) -> Outcome {
        let outcome = judge(expect.as_ref(), &Heard { bytes: bytes.to_vec(), end });
        assert_eq!((outcome.state, outcome.code.as_str()), (state, code), "{}", outcome.summary);
        outcome
    }

    fn text(text: &str) -> Option<Expect> {
        Some(serde_json::from_value(text.into()).unwrap())
    }

    #[test]
    fn an_answer_with_the_text_is_up_and_one_without_is_down() {
        let up = check(text("220"), b"220 ready", End::Met, State::Up, "ok");
        assert_eq!(up.evidence, None);
        let down = check(text("220"), b"421 busy", End::Silent, State::Down, "tcp.expect");
        assert_eq!(down.summary, "expected \"220\", heard 8 bytes and then silence until the timeout");
        assert_eq!(down.evidence.as_deref(), Some("421 busy"));
        assert_eq!(down.findings[0].actual, "\"421 busy\"");
        check(text("220"), b"", End::Closed, State::Down, "tcp.expect");
    }

    #[test]
    fn any_reply_passes_when_nothing_is_expected() {
        check(None, b"x", End::Met, State::Up, "ok");
        check(None, b"", End::Closed, State::Down, "tcp.closed");
    }
}
