//! The dns check: asks a question and judges the answer. This file owns the configuration and the asking; `judge.rs` owns the
//! verdict, `records.rs` what makes two records the same, `chain.rs` which of them answer the question, `sections.rs` the regular
//! expressions.

mod chain;
mod judge;
mod records;
mod sections;

use judge::{Facts, Serial};
use schemars::JsonSchema;
use sdk::dns::{self, Answer, Question};
use sdk::{At, Context, Outcome, Stop};
use sections::Sections;
use serde::{Deserialize, Serialize};

/// What to ask, whom, and what the answer must be like.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// The name to ask for, complete; no search list is applied. For PTR the reversed name: "10.2.0.192.in-addr.arpa".
    #[schemars(length(min = 1, max = 255), extend("x-picket-target" = "dns-name"))]
    query_name: String,
    /// The type of record to ask for. A unless set.
    #[serde(default)]
    query_type: QueryType,
    /// Who is asked, "host" or "host:port". Unset, the agent's own resolver: a private name is known nowhere else.
    #[schemars(length(min = 1), extend("x-picket-target" = "resolver"))]
    server: Option<String>,
    /// The port of `server` and `serial_servers` unless they name one, 1 to 65535. Unset, that of the transport: 53, for `dot` 853,
    /// for `doh` 443.
    #[schemars(range(min = 1))]
    port: Option<u16>,
    /// How the question travels. `udp` unless set; an answer that is cut off is asked for again over TCP. `dot` (RFC 7858) and
    /// `doh` (RFC 8484) verify the server by the name or address in `server`.
    #[serde(default)]
    transport: Transport,
    /// Where `doh` asks on the server. Unset, "/dns-query" as everywhere.
    #[schemars(regex(pattern = "^/[^ ?#]*$"))]
    path: Option<String>,
    /// Whether the server is asked to recurse (RD). True unless set.
    #[serde(default = "yes")]
    recursion_desired: bool,
    /// Whether the server must be an authority for the name (AA). False unless set.
    #[serde(default)]
    authoritative: bool,
    /// Response codes of a healthy answer; NXDOMAIN for a name that must not exist. NOERROR only unless set.
    #[serde(default = "noerror")]
    #[schemars(length(min = 1))]
    valid_rcodes: Vec<Rcode>,
    /// Records that the answer must contain, as the record's data in text: "192.0.2.10", "10 mail.example.com". Case, a trailing
    /// dot and quotes do not matter; for A and AAAA a network such as "192.0.2.0/24" stands for each of its addresses. None unless
    /// set.
    #[serde(default)]
    expected: Vec<String>,
    /// How `expected` is compared: `any` of them is there, `all` of them are, or `exact_set`: all of them and no other record.
    /// `any` unless set.
    #[serde(default, rename = "match")]
    compare: Match,
    /// Records that the answer must not contain, written like `expected`. None unless set.
    #[serde(default)]
    not_expected: Vec<String>,
    /// How many records of the type a NOERROR answer must have at least. 1 unless set: a name without addresses helps nobody.
    #[serde(default = "one")]
    min_answers: u32,
    /// Regular expressions (Rust's regex crate), one of which must match a record of the answer section, written as in a zone
    /// file: "www.example.com. 300 IN A 192.0.2.10". None unless set.
    #[serde(default)]
    answer_matches: Vec<String>,
    /// Regular expressions, none of which may match a record of the answer section. None unless set.
    #[serde(default)]
    answer_not_matches: Vec<String>,
    /// The same as `answer_matches` for the authority section. None unless set.
    #[serde(default)]
    authority_matches: Vec<String>,
    /// The same as `answer_not_matches` for the authority section. None unless set.
    #[serde(default)]
    authority_not_matches: Vec<String>,
    /// The same as `answer_matches` for the additional section. None unless set.
    #[serde(default)]
    additional_matches: Vec<String>,
    /// The same as `answer_not_matches` for the additional section. None unless set.
    #[serde(default)]
    additional_not_matches: Vec<String>,
    /// The smallest time to live that a record of the type may have, in seconds. No bound unless set.
    min_ttl: Option<u32>,
    /// The largest time to live that a record of the type may have, in seconds. No bound unless set.
    max_ttl: Option<u32>,
    /// Name servers of the zone, "host" or "host:port": each is asked, as `server` is, for the SOA record of the zone that
    /// `query_name` lies in, and all serials must be equal. None unless set: no serial is compared.
    #[serde(default)]
    #[schemars(extend("x-picket-target" = "resolver"))]
    serial_servers: Vec<String>,
    /// What signatures must say (DNSSEC): `off` nothing; `require_ad` the server must have validated the answer (AD), which is
    /// worth as much as the way to it; `validate` does it on this side, and an answer that is not signed up to a trust anchor is
    /// down. `off` unless set.
    #[serde(default)]
    dnssec: Dnssec,
    /// What `validate` trusts instead of the root's keys: DNSKEY records as a zone file has them, such as
    /// "example.internal. 3600 IN DNSKEY 257 3 13 mdsswUyr…". The root's keys unless set.
    #[serde(default)]
    trust_anchors: Vec<String>,
}

/// Types of records, as RFC 1035 and its successors print them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
enum QueryType {
    #[default]
    A,
    Aaaa,
    Cname,
    Mx,
    Ns,
    Soa,
    Srv,
    Txt,
    Ptr,
    Caa,
    Https,
    Svcb,
    Ds,
    Dnskey,
    Tlsa,
}

impl QueryType {
    fn name(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Cname => "CNAME",
            Self::Mx => "MX",
            Self::Ns => "NS",
            Self::Soa => "SOA",
            Self::Srv => "SRV",
            Self::Txt => "TXT",
            Self::Ptr => "PTR",
            Self::Caa => "CAA",
            Self::Https => "HTTPS",
            Self::Svcb => "SVCB",
            Self::Ds => "DS",
            Self::Dnskey => "DNSKEY",
            Self::Tlsa => "TLSA",
        }
    }
}

/// How a question travels.
#[derive(Clone, Copy, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Transport {
    #[default]
    Udp,
    Tcp,
    Dot,
    Doh,
}

impl Transport {
    fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Dot => "dot",
            Self::Doh => "doh",
        }
    }
}

/// What signatures must say.
#[derive(Clone, Copy, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Dnssec {
    #[default]
    Off,
    RequireAd,
    Validate,
}

/// How `expected` is compared.
#[derive(Clone, Copy, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Match {
    #[default]
    Any,
    All,
    ExactSet,
}

/// Response codes (RFC 1035, RFC 2136).
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
enum Rcode {
    NoError,
    FormErr,
    ServFail,
    NxDomain,
    NotImp,
    Refused,
    YxDomain,
    YxRrSet,
    NxRrSet,
    NotAuth,
    NotZone,
}

fn yes() -> bool {
    true
}

fn one() -> u32 {
    1
}

fn noerror() -> Vec<Rcode> {
    vec![Rcode::NoError]
}

sdk::check! {
    name: "dns",
    summary: "A name server answers a question as expected.",
    config: Config,
    metrics: [
        ("dns.lookup_time", "s", "from the question to the answer, a second one over TCP included"),
        ("dns.answers", "1", "records of the asked type in the answer"),
        ("dns.ttl", "s", "smallest time to live among them"),
        ("dns.serial", "1", "serial of the zone, where its SOA record was asked for"),
    ],
    examples: [
        r#"{"query_name": "shop.example.com"}"#,
        r#"{"query_name": "example.com", "query_type": "MX", "expected": ["10 mail.example.com"]}"#,
        r#"{"query_name": "example.com", "query_type": "SOA", "server": "ns1.example.com", "authoritative": true}"#,
    ],
    validate: validate,
    run: run,
}

fn validate(config: &Config) -> Result<(), Stop> {
    sdk::mistakes([
        agree(config),
        judge::Expectations::read(config).map(drop),
        Sections::read(config).map(drop),
    ])
}

fn run(config: Config, _: &Context) -> Result<Outcome, Stop> {
    agree(&config)?;
    let expectations = judge::Expectations::read(&config)?;
    let sections = Sections::read(&config)?;
    let question = question(&config, config.server.as_deref(), &config.query_name, config.query_type);
    let mut asked = match config.dnssec {
        Dnssec::Validate => Asked {
            answer: dns::validate(&question, &config.trust_anchors).at("dns")?,
            transport: config.transport,
            elapsed_us: 0,
        },
        _ => Asked::new(&config, question)?,
    };
    asked.elapsed_us += asked.answer.elapsed_us();
    let found = sections.ask(&asked.answer)?;
    let serials = config.serial_servers.iter().map(|server| serial(&config, server));
    let facts = facts(&config, &asked, found, serials.collect::<Result<_, _>>()?);
    Ok(judge::judge(&config, &expectations, &facts))
}

/// What two options say to each other.
fn agree(config: &Config) -> Result<(), Stop> {
    if config.server.is_none() && matches!(config.transport, Transport::Dot | Transport::Doh) {
        let transport = config.transport.name();
        let message = format!("the agent's own resolver is not asked over {transport}: name a server");
        return Err(Stop::mistake("/server", message));
    }
    if !config.trust_anchors.is_empty() && config.dnssec != Dnssec::Validate {
        return Err(Stop::mistake(
            "/trust_anchors",
            "only `dnssec: validate` needs trust anchors: write both",
        ));
    }
    match (config.min_ttl, config.max_ttl) {
        (Some(least), Some(most)) if least > most => {
            Err(Stop::mistake("/min_ttl", format!("found {least}, which is more than `max_ttl` {most}")))
        }
        _ => Ok(()),
    }
}

fn question(config: &Config, server: Option<&str>, name: &str, kind: QueryType) -> Question {
    let default = match config.transport {
        Transport::Udp | Transport::Tcp => 53,
        Transport::Dot => 853,
        Transport::Doh => 443,
    };
    let server = server.map(|server| {
        let server = with_port(server, config.port.unwrap_or(default));
        match config.transport {
            Transport::Doh => format!("https://{server}{}", config.path.as_deref().unwrap_or_default()),
            _ => server,
        }
    });
    Question {
        name: name.into(),
        kind: kind.name().into(),
        server,
        transport: match config.transport {
            Transport::Udp => dns::Transport::Udp,
            Transport::Tcp => dns::Transport::Tcp,
            Transport::Dot => dns::Transport::Tls,
            Transport::Doh => dns::Transport::Https,
        },
        recursion_desired: config.recursion_desired,
        // A resolver says that it validated (AD) to those who ask for signatures.
        dnssec_ok: config.dnssec != Dnssec::Off,
    }
}

/// A question that was answered.
struct Asked {
    answer: Answer,
    /// How it came back.
    transport: Transport,
    elapsed_us: u64,
}

impl Asked {
    /// Asks once, and once more over TCP where the answer was cut off.
    fn new(config: &Config, mut question: Question) -> Result<Self, Stop> {
        let answer = dns::ask(&question).at("dns")?;
        if !answer.truncated() || config.transport != Transport::Udp {
            return Ok(Self { answer, transport: config.transport, elapsed_us: 0 });
        }
        question.transport = dns::Transport::Tcp;
        let elapsed_us = answer.elapsed_us();
        Ok(Self { answer: dns::ask(&question).at("dns")?, transport: Transport::Tcp, elapsed_us })
    }
}

/// The serial that a server of the zone has. Where the name is not the zone's own, its SOA record stands in the authority section
/// (RFC 2308, section 3).
fn serial(config: &Config, server: &str) -> Result<Serial, Stop> {
    let question = question(config, Some(server), &config.query_name, QueryType::Soa);
    let answer = Asked::new(config, Question { dnssec_ok: false, ..question })?.answer;
    let mut records = answer.answers();
    records.extend(answer.authority());
    let soa = records.iter().find(|record| record.kind == "SOA");
    let number = soa.and_then(|record| records::serial(&record.data));
    Ok(Serial { server: server.into(), number })
}

fn facts(config: &Config, asked: &Asked, sections: sections::Found, serials: Vec<Serial>) -> Facts {
    let answer = &asked.answer;
    let kind = config.query_type.name();
    let records = chain::of_question(&config.query_name, kind, answer.answers());
    Facts {
        rcode: answer.rcode(),
        authoritative: answer.authoritative(),
        authenticated: answer.authenticated(),
        security: answer.security(),
        records: records.into_iter().map(|entry| (entry.data, entry.ttl)).collect(),
        sections,
        serials,
        server: answer.server(),
        transport: asked.transport,
        elapsed_us: asked.elapsed_us,
    }
}

/// "host", "host:port", "[v6]:port" or a bare IPv6 address.
fn with_port(server: &str, port: u16) -> String {
    let named = match server.rsplit_once(':') {
        Some((host, _)) => !host.contains(':') || host.ends_with(']'),
        None => false,
    };
    match (named, server.contains(':') && !server.starts_with('[')) {
        (true, _) => server.to_owned(),
        (false, true) => format!("[{server}]:{port}"),
        (false, false) => format!("{server}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn options_that_do_not_agree_are_a_mistake() {
        for (options, at) in [
            (json!({"transport": "dot"}), "/server"),
            (json!({"transport": "doh"}), "/server"),
            (json!({"trust_anchors": ["x"], "dnssec": "require_ad"}), "/trust_anchors"),
            (json!({"min_ttl": 10, "max_ttl": 9}), "/min_ttl"),
        ] {
            let mut config = json!({"query_name": "shop.test"});
            config.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
            let stop = agree(&serde_json::from_value(config).unwrap()).unwrap_err();
            let Stop::Failure(sdk::Failure::InvalidConfig(mistakes)) = stop else { panic!("{stop:?}") };
            assert_eq!(mistakes[0].at, at);
        }
    }

    #[test]
    fn each_transport_has_its_port() {
        for (options, server) in [
            (json!({"server": "ns1"}), "ns1:53"),
            (json!({"server": "ns1", "transport": "dot"}), "ns1:853"),
            (json!({"server": "ns1", "transport": "doh"}), "https://ns1:443"),
            (json!({"server": "ns1:8443", "transport": "doh", "path": "/q"}), "https://ns1:8443/q"),
            (
                json!({"server": "2001:db8::1", "port": 5353, "transport": "doh"}),
                "https://[2001:db8::1]:5353",
            ),
        ] {
            let mut config = json!({"query_name": "shop.test"});
            config.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
            let config: Config = serde_json::from_value(config).unwrap();
            let asked = question(&config, config.server.as_deref(), "shop.test", QueryType::A);
            assert_eq!(asked.server.as_deref(), Some(server));
        }
    }

    #[test]
    fn the_port_is_added_where_the_server_names_none() {
        for (server, asked) in [
            ("ns1", "ns1:5353"),
            ("ns1:54", "ns1:54"),
            ("192.0.2.1", "192.0.2.1:5353"),
            ("2001:db8::1", "[2001:db8::1]:5353"),
            ("[2001:db8::1]", "[2001:db8::1]:5353"),
            ("[2001:db8::1]:54", "[2001:db8::1]:54"),
        ] {
            assert_eq!(with_port(server, 5353), asked);
        }
    }
}
