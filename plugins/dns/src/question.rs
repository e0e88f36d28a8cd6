//! Asking: whom, how, and once more where an answer was cut off. Judges nothing.

use sdk::dns::{self, Answer, Question};
use sdk::{At, Stop};

use crate::config::{Config, Dnssec, QueryType, Transport};
use crate::judge::Serial;
use crate::records;

pub(crate) fn question(config: &Config, server: Option<&str>, name: &str, kind: QueryType) -> Question {
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
pub(crate) struct Asked {
    pub(crate) answer: Answer,
    /// How it came back.
    pub(crate) transport: Transport,
    pub(crate) elapsed_us: u64,
}

impl Asked {
    /// Asks once, and once more over TCP where the answer was cut off.
    pub(crate) fn new(config: &Config, mut question: Question) -> Result<Self, Stop> {
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
pub(crate) fn serial(config: &Config, server: &str) -> Result<Serial, Stop> {
    let question = question(config, Some(server), &config.query_name, QueryType::Soa);
    let answer = Asked::new(config, Question { dnssec_ok: false, ..question })?.answer;
    let mut records = answer.answers();
    records.extend(answer.authority());
    let soa = records.iter().find(|record| record.kind == "SOA");
    let number = soa.and_then(|record| records::serial(&record.data));
    Ok(Serial { server: server.into(), number })
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
