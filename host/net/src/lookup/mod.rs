//! Questions to name servers as the thing that is checked: one message out, one back. hickory-proto writes and reads the messages;
//! how they travel is said in `carry`, what their signatures are worth in `validate`. Lookups on the way to a connection are made in
//! `resolve`.

mod carry;
mod validate;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use tokio::time::Instant;
use url::Url;

pub(crate) use validate::validate;

use crate::errno::told;
use crate::grant::{Policy, Purpose};
use crate::host::{canonical_name, split_port};
use crate::record::{absolute, entries, kind};
use crate::resolve::{name_servers, resolve};
use crate::session::{Run, fail};
use crate::types::{Answer, Cause, Endpoint, Failure, Family, Phase, Question, TlsOptions, Transport};

/// Asks once; of the system's servers, the first that answers.
pub(crate) async fn ask(run: &Arc<Run>, question: Question) -> Result<Answer, Failure> {
    let asked = Asked::new(run, &question)?;
    let reply = asked.to.put(run, &asked.message(&question)).await?;
    Ok(reply.answer())
}

/// A question that may be asked, and the way to whom.
struct Asked {
    query: Query,
    to: Addressee,
}

impl Asked {
    /// Asks the grant for the name.
    fn new(run: &Run, question: &Question) -> Result<Self, Failure> {
        let name = canonical_name(&question.name).map_err(|e| refused(e.to_string()))?;
        let kind: RecordType = kind(&question.kind)
            .ok_or_else(|| refused(format!("{:?} is not a record type", question.kind)))?;
        let policy = Policy { grant: &run.grant, ceiling: &run.shared.ceiling, control: &[] };
        policy.may_ask(&name).map_err(|refusal| run.denied(refusal))?;
        let asked =
            Name::from_ascii(&name).map_err(|e| refused(format!("{name:?} cannot be asked for: {e}")))?;
        Ok(Self { query: Query::query(absolute(asked), kind), to: Addressee::new(question)? })
    }

    fn message(&self, question: &Question) -> Message {
        let mut message = Message::query();
        message.add_query(self.query.clone());
        message.metadata.recursion_desired = question.recursion_desired;
        if question.dnssec_ok {
            message.set_edns(with_signatures());
        }
        message
    }
}

/// EDNS that asks for signatures.
fn with_signatures() -> Edns {
    let mut edns = Edns::new();
    edns.set_dnssec_ok(true);
    edns.set_max_payload(UDP_PAYLOAD);
    edns
}

/// To whom a question goes, and how.
#[derive(Clone)]
struct Addressee {
    /// The system's own when none.
    server: Option<Endpoint>,
    /// For HTTPS.
    path: String,
    transport: Transport,
    tls: TlsOptions,
    /// A question beside the one that is asked: counted like a name on the way to a connection.
    beside: bool,
}

impl Addressee {
    fn new(question: &Question) -> Result<Self, Failure> {
        let (transport, tls) = (question.transport, question.tls.clone());
        let port = match transport {
            Transport::Udp | Transport::Tcp => 53,
            Transport::Tls => 853,
            Transport::Https => 443,
        };
        let Some(server) = &question.server else {
            return match transport {
                Transport::Udp | Transport::Tcp => {
                    Ok(Self { server: None, path: String::new(), transport, tls, beside: false })
                }
                _ => Err(refused(
                    "the system's name servers are asked over udp and tcp; name a server".to_owned(),
                )),
            };
        };
        if let Some(written) = server.strip_prefix("https://").filter(|_| transport == Transport::Https) {
            let url = Url::parse(server).map_err(|e| refused(format!("{server:?} is not a URL: {e}")))?;
            let host = written.split(['/', '?', '#']).next().unwrap_or_default();
            let (host, named) = split_port(host).map_err(|e| refused(e.to_string()))?;
            let path = match url.path() {
                "/" => DNS_QUERY.to_owned(),
                path => path.to_owned(),
            };
            let server = Some(Endpoint::new(unbracketed(host), named.unwrap_or(port)));
            return Ok(Self { server, path, transport, tls, beside: false });
        }
        let (host, named) = split_port(server).map_err(|e| refused(e.to_string()))?;
        let server = Some(Endpoint::new(unbracketed(host), named.unwrap_or(port)));
        Ok(Self { server, path: DNS_QUERY.to_owned(), transport, tls, beside: false })
    }

    /// Sends the message and waits for the one that answers it.
    async fn put(&self, run: &Arc<Run>, message: &Message) -> Result<Reply, Failure> {
        let bytes = message.to_vec().map_err(|e| refused(format!("the question cannot be written: {e}")))?;
        if let (Transport::Tls | Transport::Https, Some(server)) = (self.transport, &self.server) {
            let carried = match self.transport {
                Transport::Tls => carry::over_tls(run, server, &self.tls, &bytes).await?,
                _ => carry::over_https(run, server, &self.path, &self.tls, &bytes).await?,
            };
            return read(&carried.bytes, message, carried.server, carried.elapsed);
        }
        let servers = match &self.server {
            None => name_servers(run).await?.servers.clone(),
            Some(server) => resolve(run, server, Family::Any, Purpose::Resolver).await?.addresses,
        };
        let mut failed = None;
        for (i, server) in servers.iter().enumerate() {
            match self.beside {
                true => run.take_lookup(&server.to_string())?,
                false => run.take_connection(server)?,
            }
            let share = (run.deadline - Instant::now()) / u32::try_from(servers.len() - i).unwrap_or(1);
            let asking = self.put_to(run, *server, &bytes, message);
            match tokio::time::timeout(share, asking).await {
                Ok(Ok(reply)) => return Ok(reply),
                Ok(Err(failure)) => failed = Some(told(failed, failure)),
                Err(_) => failed = Some(told(failed, run.timeout(Phase::FirstByte, server))),
            }
        }
        Err(failed
            .unwrap_or_else(|| refused("this machine has no name server; name one as server".to_owned())))
    }

    async fn put_to(
        &self,
        run: &Run,
        server: SocketAddr,
        bytes: &[u8],
        message: &Message,
    ) -> Result<Reply, Failure> {
        let begun = Instant::now();
        let answered = match self.transport {
            Transport::Udp => carry::over_udp(run, server, bytes, message).await,
            _ => match carry::over_tcp(run, server, bytes).await {
                Ok(carried) => read(&carried, message, server, begun.elapsed()),
                Err(failure) => Err(failure),
            },
        };
        let elapsed = begun.elapsed();
        run.spend(Phase::FirstByte, elapsed);
        let reply = answered?;
        run.note_remote(server);
        Ok(Reply { elapsed, ..reply })
    }
}

/// A message that answers ours.
struct Reply {
    message: Message,
    server: SocketAddr,
    elapsed: Duration,
}

impl Reply {
    fn answer(&self) -> Answer {
        let meta = &self.message.metadata;
        Answer {
            // Message::from_vec has put EDNS' upper bits (RFC 6891) into it.
            rcode: meta.response_code.into(),
            authoritative: meta.authoritative,
            truncated: meta.truncation,
            authenticated: meta.authentic_data,
            answers: entries(&self.message.answers),
            authority: entries(&self.message.authorities),
            additional: entries(&self.message.additionals),
            server: self.server,
            elapsed: self.elapsed,
            security: None,
        }
    }
}

/// Reads a message that must answer `asked`. One that was cut off may end anywhere: its header alone says so then.
fn read(bytes: &[u8], asked: &Message, server: SocketAddr, elapsed: Duration) -> Result<Reply, Failure> {
    let message = match Message::from_vec(bytes) {
        Ok(message) if is_reply(&message, asked) => message,
        Ok(_) => return Err(broken(server, "the answer belongs to another question")),
        Err(_) if is_cut(bytes, asked) => {
            let mut cut = Message::response(asked.metadata.id, OpCode::Query);
            cut.metadata.truncation = true;
            cut
        }
        Err(error) => return Err(broken(server, &error.to_string())),
    };
    Ok(Reply { message, server, elapsed })
}

/// Whether the header and the question are those of an answer to ours that says that it was cut off (RFC 1035, section 4.1.1: QR and
/// TC are set, the operation is QUERY).
fn is_cut(bytes: &[u8], asked: &Message) -> bool {
    let Ok(ours) = asked.to_vec() else { return false };
    let same = match (question(bytes), question(&ours)) {
        (Some(theirs), Some(ours)) => theirs.eq_ignore_ascii_case(ours),
        _ => false,
    };
    same && bytes[..2] == ours[..2] && bytes[2] & 0xfa == 0x82
}

/// Name, type and class of the first question.
fn question(bytes: &[u8]) -> Option<&[u8]> {
    let mut at = HEADER;
    while *bytes.get(at)? != 0 {
        at += 1 + usize::from(bytes[at]);
    }
    bytes.get(HEADER..at + 5)
}

/// Servers that refuse or fail may leave the question out; an answer with records may not.
fn is_reply(reply: &Message, asked: &Message) -> bool {
    let same = |a: &Query, b: &Query| {
        a.query_type() == b.query_type() && a.name().to_lowercase() == b.name().to_lowercase()
    };
    reply.metadata.id == asked.metadata.id
        && reply.metadata.message_type == MessageType::Response
        && reply.metadata.op_code == OpCode::Query
        && (!reply.queries.is_empty() || reply.answers.is_empty())
        && reply.queries.iter().zip(&asked.queries).all(|(a, b)| same(a, b))
}

fn broken(server: SocketAddr, reason: &str) -> Failure {
    fail(Cause::Protocol(reason.to_owned()), Phase::Transfer, format!("{server} broke DNS: {reason}"))
}

fn refused(message: String) -> Failure {
    fail(Cause::Invalid(message.clone()), Phase::Send, message)
}

fn unbracketed(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// RFC 9715: what passes everywhere without being cut in pieces.
const UDP_PAYLOAD: u16 = 1232;
const HEADER: usize = 12;
/// RFC 8484's own example, and what every server of it uses.
const DNS_QUERY: &str = "/dns-query";
