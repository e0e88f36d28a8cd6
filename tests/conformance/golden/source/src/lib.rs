//! The golden components of a contract: as small as a check can be that uses all of one interface. A feature picks which.

use sdk::bindings::exports::picket::check::checker;
use sdk::net::Family;
use sdk::{Context, Failure, Finding, Outcome, Secret, State, Stop};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    host: String,
    #[serde(default = "port")]
    port: u16,
    #[cfg(not(feature = "dns"))]
    #[serde(default)]
    tls: bool,
    #[cfg(not(feature = "dns"))]
    token: Option<Secret>,
    #[cfg(feature = "dns")]
    name: String,
}

fn port() -> u16 {
    7
}

#[cfg(not(feature = "dns"))]
const SCHEMA: &str = r#"{"type":"object","additionalProperties":false,"required":["host"],"properties":{
"host":{"type":"string","minLength":1,"description":"What to reach.","x-picket-target":"host"},
"port":{"type":"integer","minimum":1,"maximum":65535,"default":7,"description":"On which port; 7 unless set."},
"tls":{"type":"boolean","default":false,"description":"Whether over TLS; false unless set."},
"token":{"type":"object","additionalProperties":false,"required":["$secret"],"properties":{"$secret":{"type":"string"}},
"description":"What to send.","x-picket-secret":true}},
"examples":[{"host":"shop.example","port":7},{"host":"shop.example","port":443,"tls":true},
{"host":"shop.example","port":7,"token":{"$secret":"golden"}}]}"#;

#[cfg(feature = "dns")]
const SCHEMA: &str = r#"{"type":"object","additionalProperties":false,"required":["host","name"],"properties":{
"host":{"type":"string","minLength":1,"description":"Whom to ask.","x-picket-target":"resolver"},
"port":{"type":"integer","minimum":1,"maximum":65535,"default":7,"description":"On which port; 7 unless set."},
"name":{"type":"string","minLength":1,"description":"What to ask for.","x-picket-target":"dns-name"}},
"examples":[{"host":"ns.example","port":53,"name":"shop.example"}]}"#;

struct Golden;

impl checker::Guest for Golden {
    fn describe() -> checker::Description {
        checker::Description {
            name: "golden".into(),
            version: "0.1.0".into(),
            summary: "A component of contract 0.1.".into(),
            config_schema: SCHEMA.into(),
            metrics: r#"[{"name":"golden.time","unit":"s","description":"How long it took."}]"#.into(),
        }
    }

    fn run(context: checker::Context) -> Result<Outcome, Failure> {
        sdk::run::<Config, Stop>(context, run)
    }
}

#[cfg(feature = "tcp")]
fn run(config: Config, _: &Context) -> Result<Outcome, Stop> {
    use sdk::net::Endpoint;
    let connection = sdk::tcp::connect(&Endpoint { host: config.host.clone(), port: config.port }, Family::Any)?;
    let mut outcome = Outcome::up("it answers").attribute("remote", connection.remote_address());
    if config.tls {
        let session = connection.secure(&sdk::Tls::default().options())?;
        outcome = outcome.attribute("tls", format!("{} {}", session.version(), session.cipher()));
        for certificate in session.served() {
            outcome = outcome.attribute("certificate", format!("{} {}", certificate.subject(), certificate.not_after()));
        }
    }
    if let Some(token) = &config.token {
        connection.write_secret(b"", &token.open()?, b"\n")?;
    } else {
        connection.write(b"hello\n")?;
    }
    let heard = connection.read(1)?;
    sdk::log::write(sdk::log::Level::Info, "heard something");
    let good = heard.first().is_some_and(u8::is_ascii_lowercase) && heard != b"x";
    let outcome = outcome.must(Finding::new("answer", good, "a letter", "none"), "golden.answer", || "no letter".into());
    Ok(outcome.metric("golden.time", connection.timings().total_us as f64 / 1e6, "s"))
}

#[cfg(feature = "http")]
fn run(config: Config, _: &Context) -> Result<Outcome, Stop> {
    use sdk::At;
    use sdk::http::{HeaderValue, Request};
    let scheme = if config.tls { "https" } else { "http" };
    let token = config.token.as_ref().map(Secret::open).transpose()?;
    let mut headers = vec![("accept".to_owned(), HeaderValue::Text("*/*".into()))];
    if let Some(token) = &token {
        headers.push(("authorization".to_owned(), HeaderValue::Bearer(token)));
    }
    let request = Request {
        method: "GET".into(),
        url: format!("{scheme}://{}:{}/", config.host, config.port),
        headers,
        body: Vec::new(),
        versions: Vec::new(),
        family: Family::Any,
        tls: None,
        max_redirects: 3,
        max_body: 1024,
    };
    let response = sdk::http::send(&request).at("http")?;
    let good = response.status() == 200;
    let outcome = Outcome::up("it answers")
        .must(Finding::new("status", good, "200", response.status().to_string()), "http.status", || "not 200".into())
        .attribute("version", response.version())
        .attribute("remote", response.remote_address())
        .attribute("bytes", response.body().0.len().to_string())
        .attribute("hops", response.hops().len().to_string())
        .attribute("tls", response.session().map_or_else(String::new, |session| session.version()));
    Ok(outcome.metric("golden.time", response.timings().total_us as f64 / 1e6, "s"))
}

#[cfg(feature = "dns")]
fn run(config: Config, _: &Context) -> Result<Outcome, Stop> {
    use sdk::At;
    use sdk::dns::{Question, Transport};
    let _ = (Family::Any, None::<Secret>);
    let question = Question {
        name: config.name,
        kind: "A".into(),
        server: Some(format!("{}:{}", config.host, config.port)),
        transport: Transport::Udp,
        recursion_desired: true,
        dnssec_ok: false,
    };
    let answer = sdk::dns::ask(&question).at("dns")?;
    let good = answer.rcode() == 0 && !answer.answers().is_empty();
    let outcome = Outcome::up("it answers")
        .must(Finding::new("rcode", good, "0", answer.rcode().to_string()), "dns.rcode", || "no answer".into())
        .attribute("server", answer.server());
    Ok(outcome.metric("golden.time", answer.elapsed_us() as f64 / 1e6, "s"))
}

/// Every state is part of the contract.
const _: [State; 3] = [State::Up, State::Degraded, State::Down];

sdk::bindings::export!(Golden with_types_in sdk::bindings);
