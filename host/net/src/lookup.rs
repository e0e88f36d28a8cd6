//! Questions to name servers as the thing that is checked: one message out, one back, over UDP or TCP. hickory-proto writes and
//! reads the messages. Lookups on the way to a connection are made in `resolve`.

use std::net::SocketAddr;
use std::sync::Arc;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::Name;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::Instant;

use crate::grant::{Policy, Purpose};
use crate::host::{canonical_name, split_port};
use crate::record::{absolute, entries, kind};
use crate::resolve::resolve;
use crate::session::{Run, fail, io_failure};
use crate::types::{Answer, Cause, Endpoint, Failure, Family, Phase, Question, Transport};

/// Asks once; of the system's servers, the first that answers.
pub(crate) async fn ask(run: &Arc<Run>, question: Question) -> Result<Answer, Failure> {
    let refused = |message: String| fail(Cause::Invalid(message.clone()), Phase::Send, message);
    if matches!(question.transport, Transport::Tls | Transport::Https) {
        return Err(refused("questions over TLS and HTTPS are not spoken yet; use udp or tcp".to_owned()));
    }
    let name = canonical_name(&question.name).map_err(|e| refused(e.to_string()))?;
    let kind =
        kind(&question.kind).ok_or_else(|| refused(format!("{:?} is not a record type", question.kind)))?;
    let policy = Policy { grant: &run.grant, ceiling: &run.shared.ceiling, control: &[] };
    policy.may_ask(&name).map_err(|refusal| run.denied(refusal))?;
    let asked = Name::from_ascii(&name).map_err(|e| refused(format!("{name:?} cannot be asked for: {e}")))?;
    let query = Query::query(absolute(asked), kind);
    let servers = match &question.server {
        None => run.shared.resolver.servers.clone(),
        Some(server) => {
            let (host, port) = split_port(server).map_err(|e| refused(e.to_string()))?;
            let host = host.trim_start_matches('[').trim_end_matches(']');
            resolve(run, &Endpoint::new(host, port.unwrap_or(DNS)), Family::Any, Purpose::Resolver)
                .await?
                .addresses
        }
    };
    let mut failed = None;
    for (i, server) in servers.iter().enumerate() {
        run.take_connection(server)?;
        let share = (run.deadline - Instant::now()) / u32::try_from(servers.len() - i).unwrap_or(1);
        let asking = ask_one(run, *server, &query, &question);
        match tokio::time::timeout(share, asking).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(failure)) => failed.get_or_insert(failure),
            Err(_) => failed.get_or_insert(run.timeout(Phase::FirstByte, server)),
        };
    }
    Err(failed.unwrap_or_else(|| refused("this machine has no name server; name one as server".to_owned())))
}

async fn ask_one(
    run: &Run,
    server: SocketAddr,
    query: &Query,
    question: &Question,
) -> Result<Answer, Failure> {
    let message = message(query, question);
    let bytes = message.to_vec().map_err(|e| broken(server, &e.to_string()))?;
    let begun = Instant::now();
    let answered = match question.transport {
        Transport::Udp => over_udp(run, server, &bytes, &message).await,
        _ => over_tcp(run, server, &bytes).await,
    };
    let elapsed = begun.elapsed();
    run.spend(Phase::FirstByte, elapsed);
    let reply = answered?;
    let reply = Message::from_vec(&reply).map_err(|e| broken(server, &e.to_string()))?;
    if !is_reply(&reply, &message) {
        return Err(broken(server, "the answer belongs to another question"));
    }
    run.note_remote(server);
    let meta = &reply.metadata;
    Ok(Answer {
        // Message::from_vec has put EDNS' upper bits (RFC 6891) into it.
        rcode: meta.response_code.into(),
        authoritative: meta.authoritative,
        truncated: meta.truncation,
        authenticated: meta.authentic_data,
        answers: entries(&reply.answers),
        authority: entries(&reply.authorities),
        additional: entries(&reply.additionals),
        server,
        elapsed,
    })
}

/// Sends, and waits for a message with the same id and question from the same address; anything else is somebody else's.
async fn over_udp(run: &Run, server: SocketAddr, bytes: &[u8], asked: &Message) -> Result<Vec<u8>, Failure> {
    let local: SocketAddr = if server.is_ipv6() { ([0u16; 8], 0).into() } else { ([0u8; 4], 0).into() };
    let failed = |phase| move |e: std::io::Error| io_failure(&e, phase, &server);
    let socket = UdpSocket::bind(local).await.map_err(failed(Phase::Connect))?;
    socket.connect(server).await.map_err(failed(Phase::Connect))?;
    socket.send(bytes).await.map_err(failed(Phase::Send))?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let received = run.within(Phase::FirstByte, &server, socket.recv(&mut buffer)).await?;
        let length = received.map_err(failed(Phase::FirstByte))?;
        run.tally.receive(length).map_err(failed(Phase::FirstByte))?;
        // The two bytes of the id are all that must be readable: a garbled answer is an answer that is broken.
        if buffer[..length].starts_with(&asked.metadata.id.to_be_bytes()) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

/// RFC 1035, section 4.2.2: two bytes of length in front.
async fn over_tcp(run: &Run, server: SocketAddr, bytes: &[u8]) -> Result<Vec<u8>, Failure> {
    let failed = |phase| move |e: std::io::Error| io_failure(&e, phase, &server);
    let connecting = run.within(Phase::Connect, &server, TcpStream::connect(server)).await?;
    let mut stream = connecting.map_err(failed(Phase::Connect))?;
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes();
    let framed = [&length, bytes].concat();
    run.within(Phase::Send, &server, stream.write_all(&framed)).await?.map_err(failed(Phase::Send))?;
    let reading = async {
        let length = stream.read_u16().await?;
        let mut reply = vec![0; length.into()];
        stream.read_exact(&mut reply).await?;
        run.tally.receive(reply.len() + 2)?;
        Ok(reply)
    };
    run.within(Phase::FirstByte, &server, reading).await?.map_err(failed(Phase::FirstByte))
}

fn message(query: &Query, question: &Question) -> Message {
    let mut message = Message::query();
    message.add_query(query.clone());
    message.metadata.recursion_desired = question.recursion_desired;
    if question.dnssec_ok {
        let mut edns = Edns::new();
        edns.set_dnssec_ok(true);
        edns.set_max_payload(UDP_PAYLOAD);
        message.set_edns(edns);
    }
    message
}

/// Servers that refuse or fail may leave the question out.
fn is_reply(reply: &Message, asked: &Message) -> bool {
    let same = |a: &Query, b: &Query| {
        a.query_type() == b.query_type() && a.name().to_lowercase() == b.name().to_lowercase()
    };
    reply.metadata.id == asked.metadata.id
        && reply.metadata.message_type == MessageType::Response
        && reply.metadata.op_code == OpCode::Query
        && reply.queries.iter().zip(&asked.queries).all(|(a, b)| same(a, b))
}

fn broken(server: SocketAddr, reason: &str) -> Failure {
    fail(Cause::Protocol(reason.to_owned()), Phase::Transfer, format!("{server} broke DNS: {reason}"))
}

const DNS: u16 = 53;
/// RFC 9715: what passes everywhere without being cut in pieces.
const UDP_PAYLOAD: u16 = 1232;
