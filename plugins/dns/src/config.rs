//! What a monitor's owner can ask for. What an answer must be like is only named here; `judge.rs` compares.

use schemars::JsonSchema;
use sdk::Stop;
use serde::{Deserialize, Serialize};

use crate::rcode::Rcode;

/// What to ask, whom, and what the answer must be like.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The name to ask for, complete; no search list is applied. For PTR the reversed name: "10.2.0.192.in-addr.arpa".
    #[schemars(length(min = 1, max = 255), extend("x-picket-target" = "dns-name"))]
    pub(crate) query_name: String,
    /// The type of record to ask for. A unless set.
    #[serde(default)]
    pub(crate) query_type: QueryType,
    /// Who is asked, "host" or "host:port". Unset, the agent's own resolver: a private name is known nowhere else.
    #[schemars(length(min = 1), extend("x-picket-target" = "resolver"))]
    pub(crate) server: Option<String>,
    /// The port of `server` and `serial_servers` unless they name one, 1 to 65535. Unset, that of the transport: 53, for `dot` 853,
    /// for `doh` 443.
    #[schemars(range(min = 1))]
    pub(crate) port: Option<u16>,
    /// How the question travels. `udp` unless set; an answer that is cut off is asked for again over TCP. `dot` (RFC 7858) and
    /// `doh` (RFC 8484) verify the server by the name or address in `server`.
    #[serde(default)]
    pub(crate) transport: Transport,
    /// Where `doh` asks on the server. Unset, "/dns-query" as everywhere.
    #[schemars(regex(pattern = "^/[^ ?#]*$"))]
    pub(crate) path: Option<String>,
    /// Whether the server is asked to recurse (RD). True unless set.
    #[serde(default = "yes")]
    pub(crate) recursion_desired: bool,
    /// Whether the server must be an authority for the name (AA). False unless set.
    #[serde(default)]
    pub(crate) authoritative: bool,
    /// Response codes of a healthy answer; NXDOMAIN for a name that must not exist. NOERROR only unless set.
    #[serde(default = "noerror")]
    #[schemars(length(min = 1))]
    pub(crate) valid_rcodes: Vec<Rcode>,
    /// Records that the answer must contain, as the record's data in text: "192.0.2.10", "10 mail.example.com". Case, a trailing
    /// dot and quotes do not matter; for A and AAAA a network such as "192.0.2.0/24" stands for each of its addresses. None unless
    /// set.
    #[serde(default)]
    pub(crate) expected: Vec<String>,
    /// How `expected` is compared: `any` of them is there, `all` of them are, or `exact_set`: all of them and no other record.
    /// `any` unless set.
    #[serde(default, rename = "match")]
    pub(crate) compare: Match,
    /// Records that the answer must not contain, written like `expected`. None unless set.
    #[serde(default)]
    pub(crate) not_expected: Vec<String>,
    /// How many records of the type a NOERROR answer must have at least. 1 unless set: a name without addresses helps nobody.
    #[serde(default = "one")]
    pub(crate) min_answers: u32,
    /// Regular expressions (Rust's regex crate), one of which must match a record of the answer section, written as in a zone
    /// file: "www.example.com. 300 IN A 192.0.2.10". None unless set.
    #[serde(default)]
    pub(crate) answer_matches: Vec<String>,
    /// Regular expressions, none of which may match a record of the answer section. None unless set.
    #[serde(default)]
    pub(crate) answer_not_matches: Vec<String>,
    /// The same as `answer_matches` for the authority section. None unless set.
    #[serde(default)]
    pub(crate) authority_matches: Vec<String>,
    /// The same as `answer_not_matches` for the authority section. None unless set.
    #[serde(default)]
    pub(crate) authority_not_matches: Vec<String>,
    /// The same as `answer_matches` for the additional section. None unless set.
    #[serde(default)]
    pub(crate) additional_matches: Vec<String>,
    /// The same as `answer_not_matches` for the additional section. None unless set.
    #[serde(default)]
    pub(crate) additional_not_matches: Vec<String>,
    /// The smallest time to live that a record of the type may have, in seconds. No bound unless set.
    pub(crate) min_ttl: Option<u32>,
    /// The largest time to live that a record of the type may have, in seconds. No bound unless set.
    pub(crate) max_ttl: Option<u32>,
    /// Name servers of the zone, "host" or "host:port": each is asked, as `server` is, for the SOA record of the zone that
    /// `query_name` lies in, and all serials must be equal. None unless set: no serial is compared.
    #[serde(default)]
    #[schemars(extend("x-picket-target" = "resolver"))]
    pub(crate) serial_servers: Vec<String>,
    /// What signatures must say (DNSSEC): `off` nothing; `require_ad` the server must have validated the answer (AD), which is
    /// worth as much as the way to it; `validate` does it on this side, and an answer that is not signed up to a trust anchor is
    /// down. `off` unless set.
    #[serde(default)]
    pub(crate) dnssec: Dnssec,
    /// What `validate` trusts instead of the root's keys: DNSKEY records as a zone file has them, such as
    /// "example.internal. 3600 IN DNSKEY 257 3 13 mdsswUyr…". The root's keys unless set.
    #[serde(default)]
    pub(crate) trust_anchors: Vec<String>,
}

/// Types of records, as RFC 1035 and its successors print them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum QueryType {
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
    pub(crate) fn name(self) -> &'static str {
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
pub(crate) enum Transport {
    #[default]
    Udp,
    Tcp,
    Dot,
    Doh,
}

impl Transport {
    pub(crate) fn name(self) -> &'static str {
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
pub(crate) enum Dnssec {
    #[default]
    Off,
    RequireAd,
    Validate,
}

/// How `expected` is compared.
#[derive(Clone, Copy, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Match {
    #[default]
    Any,
    All,
    ExactSet,
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

impl Config {
    /// What two options say to each other.
    pub(crate) fn agree(&self) -> Result<(), Stop> {
        if self.server.is_none() && matches!(self.transport, Transport::Dot | Transport::Doh) {
            let transport = self.transport.name();
            let message = format!("the agent's own resolver is not asked over {transport}: name a server");
            return Err(Stop::mistake("/server", message));
        }
        if !self.trust_anchors.is_empty() && self.dnssec != Dnssec::Validate {
            return Err(Stop::mistake(
                "/trust_anchors",
                "only `dnssec: validate` needs trust anchors: write both",
            ));
        }
        match (self.min_ttl, self.max_ttl) {
            (Some(least), Some(most)) if least > most => {
                Err(Stop::mistake("/min_ttl", format!("found {least}, which is more than `max_ttl` {most}")))
            }
            _ => Ok(()),
        }
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
            let stop = serde_json::from_value::<Config>(config).unwrap().agree().unwrap_err();
            let Stop::Failure(sdk::Failure::InvalidConfig(mistakes)) = stop else { panic!("{stop:?}") };
            assert_eq!(mistakes[0].at, at);
        }
    }
}
