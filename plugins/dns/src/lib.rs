//! The dns check: asks one question and judges the answer. This file owns the configuration and the asking; `judge.rs` owns the
//! verdict, `records.rs` what makes two records the same.

mod judge;
mod records;

use judge::Facts;
use schemars::JsonSchema;
use sdk::dns::{self, Answer, Question};
use sdk::{At, Context, Outcome, Stop};
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
    /// The port of `server` unless that names one, 1 to 65535. 53 unless set.
    #[serde(default = "port")]
    #[schemars(range(min = 1))]
    port: u16,
    /// How the question travels. `udp` unless set; an answer that is cut off is asked for again over TCP.
    #[serde(default)]
    transport: Transport,
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

fn port() -> u16 {
    53
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
    ],
    run: run,
}

fn run(config: Config, _: &Context) -> Result<Outcome, Stop> {
    let expectations = judge::Expectations::read(&config)?;
    let mut question = Question {
        name: config.query_name.clone(),
        kind: config.query_type.name().into(),
        server: config.server.as_deref().map(|server| with_port(server, config.port)),
        transport: match config.transport {
            Transport::Udp => dns::Transport::Udp,
            Transport::Tcp => dns::Transport::Tcp,
        },
        recursion_desired: config.recursion_desired,
        dnssec_ok: false,
    };
    let mut answer = dns::ask(&question).at("dns")?;
    let mut elapsed_us = answer.elapsed_us();
    if answer.truncated() && config.transport == Transport::Udp {
        question.transport = dns::Transport::Tcp;
        answer = dns::ask(&question).at("dns")?;
        elapsed_us += answer.elapsed_us();
    }
    let over_tcp = matches!(question.transport, dns::Transport::Tcp);
    Ok(judge::judge(&config, &expectations, &facts(&config, &answer, elapsed_us, over_tcp)))
}

fn facts(config: &Config, answer: &Answer, elapsed_us: u64, over_tcp: bool) -> Facts {
    let kind = config.query_type.name();
    let records = answer.answers().into_iter().filter(|entry| entry.kind == kind);
    Facts {
        rcode: answer.rcode(),
        authoritative: answer.authoritative(),
        records: records.map(|entry| (entry.data, entry.ttl)).collect(),
        server: answer.server(),
        over_tcp,
        elapsed_us,
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
    use super::*;

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
