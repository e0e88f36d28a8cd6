//! The golden components of a contract: as small as a check can be that uses all of one interface. A feature picks which.

use sdk::bindings::exports::picket::check::{checker, validator};
use sdk::net::Family;
use sdk::{Context, Failure, Finding, Mistake, Outcome, Secret, State, Stop};
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
    #[cfg(feature = "regex")]
    #[serde(default = "letter")]
    pattern: String,
}

#[cfg(feature = "regex")]
fn letter() -> String {
    "^(?<letter>[a-wyz])".into()
}

fn port() -> u16 {
    7
}

#[cfg(not(any(feature = "dns", feature = "regex", feature = "oauth2")))]
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

#[cfg(feature = "regex")]
const SCHEMA: &str = r#"{"type":"object","additionalProperties":false,"required":["host"],"properties":{
"host":{"type":"string","minLength":1,"description":"What to reach.","x-picket-target":"host"},
"port":{"type":"integer","minimum":1,"maximum":65535,"default":7,"description":"On which port; 7 unless set."},
"tls":{"type":"boolean","default":false,"description":"Whether over TLS; false unless set."},
"token":{"type":"object","additionalProperties":false,"required":["$secret"],"properties":{"$secret":{"type":"string"}},
"description":"What to send.","x-picket-secret":true},
"pattern":{"type":"string","default":"^(?<letter>[a-wyz])","description":"What to look for; a letter unless set."}},
"examples":[{"host":"shop.example","port":7},{"host":"shop.example","port":7,"pattern":"^(?:(?<letter>[a-wyz])|(-)(-))"}]}"#;

#[cfg(feature = "oauth2")]
const SCHEMA: &str = r#"{"type":"object","additionalProperties":false,"required":["host","token"],"properties":{
"host":{"type":"string","minLength":1,"description":"What to reach.","x-picket-target":"host"},
"port":{"type":"integer","minimum":1,"maximum":65535,"default":7,"description":"On which port; 7 unless set."},
"tls":{"type":"boolean","default":false,"description":"Whether over TLS; false unless set."},
"token":{"type":"object","additionalProperties":false,"required":["$secret"],"properties":{"$secret":{"type":"string"}},
"description":"The client's secret.","x-picket-secret":true}},
"examples":[{"host":"shop.example","port":7,"token":{"$secret":"golden"}},
{"host":"shop.example","port":443,"tls":true,"token":{"$secret":"golden"}}]}"#;

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

impl validator::Guest for Golden {
    #[cfg(not(feature = "regex"))]
    fn validate(_: String) -> Result<(), Vec<Mistake>> {
        Ok(())
    }

    /// A pattern is compiled by the host here too.
    #[cfg(feature = "regex")]
    fn validate(config: String) -> Result<(), Vec<Mistake>> {
        let config: Config = serde_json::from_str(&config).map_err(|e| vec![mistake("", e.to_string())])?;
        sdk::regex::compile(&config.pattern).map(drop).map_err(|e| vec![mistake("/pattern", e)])
    }
}

#[cfg(feature = "regex")]
fn mistake(at: &str, message: String) -> Mistake {
    Mistake { at: at.into(), message }
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

#[cfg(feature = "oauth2")]
fn run(config: Config, _: &Context) -> Result<Outcome, Stop> {
    use sdk::At;
    use sdk::http::{HeaderValue, Request};
    use sdk::oauth2::{Proof, Refusal, TokenRequest};
    let origin = format!("{}://{}:{}", if config.tls { "https" } else { "http" }, config.host, config.port);
    let secret = config.token.as_ref().map(Secret::open).transpose()?;
    let Some(secret) = secret else { return Ok(Outcome::down("oauth2.secret", "no secret")) };
    let mut refusals = Vec::new();
    for (proof, scopes) in [(Proof::Basic, vec![]), (Proof::Body, vec!["read".to_owned()])] {
        let token = match sdk::oauth2::token(&TokenRequest {
            url: format!("{origin}/token"),
            client_id: "golden".into(),
            client_secret: &secret,
            scopes,
            parameters: vec![("audience".into(), "shop".into())],
            proof,
            family: Family::Any,
            tls: None,
        }) {
            Ok(token) => token,
            Err(Refusal::Failed(error)) => return Err(error.stop("oauth2")),
            Err(Refusal::Refused((status, reason))) => {
                refusals.push(format!("{status} {reason}"));
                continue;
            }
        };
        let response = sdk::http::send(&Request {
            method: "GET".into(),
            url: format!("{origin}/"),
            headers: vec![("authorization".to_owned(), HeaderValue::Bearer(&token))],
            body: Vec::new(),
            versions: Vec::new(),
            family: Family::Any,
            tls: None,
            max_redirects: 0,
            max_body: 1024,
        })
        .at("http")?;
        let good = response.status() == 200;
        let outcome = Outcome::up("it lets the client in")
            .must(Finding::new("status", good, "200", response.status().to_string()), "http.status", || "not 200".into());
        return Ok(outcome.metric("golden.time", response.timings().total_us as f64 / 1e6, "s"));
    }
    Ok(Outcome::down("oauth2.refused", format!("no token: {}", refusals.join("; "))))
}

#[cfg(feature = "regex")]
fn run(config: Config, _: &Context) -> Result<Outcome, Stop> {
    use sdk::net::Endpoint;
    let _ = (config.tls, &config.token);
    let pattern = sdk::regex::compile(&config.pattern)
        .map_err(|e| Failure::InvalidConfig(vec![mistake("/pattern", e)]))?;
    let connection = sdk::tcp::connect(&Endpoint { host: config.host.clone(), port: config.port }, Family::Any)?;
    connection.write(b"hello\n")?;
    let heard = connection.read(64)?;
    let failed = Failure::Internal;
    let good = pattern.matches(&heard).map_err(failed)?;
    let captured = pattern.captures(&heard).map_err(failed)?;
    let mut outcome = Outcome::up("it answers");
    for (name, at) in pattern.groups().into_iter().zip(captured.into_iter().flatten()) {
        let at = at.map_or_else(|| "none".to_owned(), |(from, to)| format!("{from}..{to}"));
        outcome = outcome.attribute(&format!("group.{}", name.unwrap_or_default()), at);
    }
    let outcome = outcome.must(Finding::new("answer", good, "a match", "none"), "golden.answer", || "no match".into());
    Ok(outcome.metric("golden.time", connection.timings().total_us as f64 / 1e6, "s"))
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
