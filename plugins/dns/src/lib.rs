//! The dns check: asks a question and judges the answer. [`config`] says what can be asked, [`question`] asks, [`judge`] owns the
//! verdict, [`expected`] the records that are wanted, [`records`] what makes two records the same, [`chain`] which of them answer the
//! question, [`sections`] the regular expressions.

mod chain;
mod config;
mod expected;
mod judge;
mod question;
mod rcode;
mod records;
mod sections;

use sdk::{At, Context, Outcome, Stop, dns};

use config::{Config, Dnssec};
use expected::Expectations;
use judge::{Facts, Serial};
use question::Asked;
use sections::Sections;

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
    sdk::mistakes([config.agree(), Expectations::read(config).map(drop), Sections::read(config).map(drop)])
}

fn run(config: Config, _: &Context) -> Result<Outcome, Stop> {
    config.agree()?;
    let expectations = Expectations::read(&config)?;
    let sections = Sections::read(&config)?;
    let question =
        question::question(&config, config.server.as_deref(), &config.query_name, config.query_type);
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
    let serials = config.serial_servers.iter().map(|server| question::serial(&config, server));
    let facts = facts(&config, &asked, found, serials.collect::<Result<_, _>>()?);
    Ok(judge::judge(&config, &expectations, &facts))
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
