//! How a peer answers questions, as a name server does.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use net::{Answer, Cause, Entry, Failure, Phase, Question, Security};

use super::super::script::{DnsAnswer, Op, Record};
use super::{Playing, fail};

impl Playing {
    /// The answer to one question.
    pub(in super::super) fn answer(
        mut self,
        question: &Question,
        server: SocketAddr,
    ) -> Result<Answer, Failure> {
        let at = self.at.clone();
        let phase = Phase::FirstByte;
        loop {
            let (name, failure) = match self.ops.pop_front() {
                Some(Op::Dns(answer)) => {
                    if answer.rcode != 0 {
                        self.world.meet("dns");
                    }
                    return Ok(self.answered(&answer, question, server));
                }
                Some(Op::Oblige | Op::Echo) => {
                    return Ok(self.answered(&obliging(question), question, server));
                }
                Some(Op::Delay(time)) => {
                    self.world.pass(time, phase, &at)?;
                    continue;
                }
                Some(Op::Refuse) => {
                    ("refuse", fail(Cause::Refused, phase, format!("{at} refused the connection ({phase})")))
                }
                Some(Op::Unreachable) => (
                    "unreachable",
                    fail(Cause::Unreachable, phase, format!("{at} is unreachable: no route to the host")),
                ),
                Some(Op::Drop) => ("drop", self.world.wait(phase, &at)),
                Some(Op::Silence) => ("silence", self.world.wait(phase, &at)),
                Some(Op::Trickle(_)) => ("trickle", self.world.wait(phase, &at)),
                Some(Op::Reset) => {
                    ("reset", fail(Cause::Reset, phase, format!("{at} reset the connection ({phase})")))
                }
                Some(Op::Close) => {
                    ("close", fail(Cause::Closed, phase, format!("{at} closed the connection too early")))
                }
                Some(Op::Garbage(_) | Op::Send(_)) => {
                    let message = format!("{at} answered something that is no DNS message");
                    ("garbage", fail(Cause::Protocol(message.clone()), phase, message))
                }
                Some(_) => continue,
                // A script about something else, a handshake or a lookup on the way.
                None => return Ok(self.answered(&obliging(question), question, server)),
            };
            self.world.meet(name);
            return Err(failure);
        }
    }

    fn answered(&self, answer: &DnsAnswer, question: &Question, server: SocketAddr) -> Answer {
        let absolute = |name: &str| format!("{}.", name.trim_end_matches('.'));
        let entry = |record: &Record| Entry {
            name: absolute(record.name.as_deref().unwrap_or(&question.name)),
            kind: record.kind.clone().unwrap_or_else(|| question.kind.clone()),
            ttl: record.ttl.unwrap_or(300),
            data: record.data.clone(),
            rdata: record.data.parse().map_or_else(|_| Vec::new(), octets),
        };
        Answer {
            rcode: answer.rcode,
            authoritative: answer.authoritative,
            truncated: answer.truncated,
            authenticated: answer.authenticated,
            answers: answer.answers.iter().map(entry).collect(),
            authority: Vec::new(),
            additional: Vec::new(),
            server,
            elapsed: Duration::from_millis(1),
            security: Some((answer.security.unwrap_or(Security::Secure), "the script says so".to_owned())),
        }
    }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// One record of the type that was asked for.
fn obliging(question: &Question) -> DnsAnswer {
    let data = match question.kind.as_str() {
        "A" => "10.9.8.7",
        "AAAA" => "fd00::7",
        "MX" => "10 mail.example.",
        "SRV" => "0 0 5432 host.example.",
        "SOA" => "ns.example. admin.example. 1 7200 3600 1209600 3600",
        "CAA" => "0 issue \"ca.example\"",
        "TXT" => "ok",
        _ => "host.example.",
    };
    let record = Record { name: None, kind: None, ttl: None, data: data.to_owned() };
    DnsAnswer { answers: vec![record], ..DnsAnswer::default() }
}
