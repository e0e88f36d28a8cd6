//! How a message travels to a name server and one comes back: UDP, TCP, TLS, HTTPS. What it says is read in the parent, but for UDP,
//! where anybody may send something.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::Instant;

use super::{Reply, broken, read};
use crate::dial::Connection;
use crate::errno::{io_failure, way_failure};
use crate::grant::Purpose;
use crate::session::Run;
use crate::types::{Endpoint, Failure, Family, Header, Phase, Request, TlsOptions};

/// What came back over a connection of its own.
pub(super) struct Carried {
    pub(super) bytes: Vec<u8>,
    pub(super) server: SocketAddr,
    /// From the question's first byte to the answer's last.
    pub(super) elapsed: Duration,
}

/// Sends, and waits for a message from the same address that answers the question. Whoever guesses the id may send another one
/// first, so what is garbled or belongs to another question does not end the waiting at once; it is what is said when nothing
/// better comes.
pub(super) async fn over_udp(
    run: &Run,
    server: SocketAddr,
    bytes: &[u8],
    asked: &Message,
) -> Result<Reply, Failure> {
    let local: SocketAddr = if server.is_ipv6() { ([0u16; 8], 0).into() } else { ([0u8; 4], 0).into() };
    let failed = |phase| move |e: std::io::Error| way_failure(&e, phase, server, &server);
    let socket = UdpSocket::bind(local).await.map_err(failed(Phase::Connect))?;
    socket.connect(server).await.map_err(failed(Phase::Connect))?;
    let begun = Instant::now();
    socket.send(bytes).await.map_err(failed(Phase::Send))?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    let mut odd: Option<(Failure, Instant)> = None;
    loop {
        let end = odd.as_ref().map_or(run.deadline, |(_, until)| *until);
        let received = match tokio::time::timeout_at(end, socket.recv(&mut buffer)).await {
            Ok(received) => received.map_err(failed(Phase::FirstByte))?,
            Err(_) => {
                return Err(
                    odd.map_or_else(|| run.timeout(Phase::FirstByte, &server), |(failure, _)| failure)
                );
            }
        };
        run.tally.receive(received).map_err(failed(Phase::FirstByte))?;
        let datagram = &buffer[..received];
        if !datagram.starts_with(&asked.metadata.id.to_be_bytes()) {
            continue;
        }
        match read(datagram, asked, server, begun.elapsed()) {
            Ok(reply) => return Ok(reply),
            Err(failure) => {
                odd.get_or_insert_with(|| (failure, run.deadline.min(Instant::now() + BETTER)));
            }
        }
    }
}

/// RFC 1035, section 4.2.2: two bytes of length in front.
pub(super) async fn over_tcp(run: &Run, server: SocketAddr, bytes: &[u8]) -> Result<Vec<u8>, Failure> {
    let failed = |phase| move |e: std::io::Error| io_failure(&e, phase, &server);
    let connecting = run.within(Phase::Connect, &server, TcpStream::connect(server)).await?;
    let mut stream = connecting.map_err(|e| way_failure(&e, Phase::Connect, server, &server))?;
    let sending = run.within(Phase::Send, &server, stream.write_all(&framed(bytes))).await?;
    sending.map_err(failed(Phase::Send))?;
    let reading = async {
        let length = stream.read_u16().await?;
        let mut reply = vec![0; length.into()];
        stream.read_exact(&mut reply).await?;
        run.tally.receive(reply.len() + 2)?;
        Ok(reply)
    };
    run.within(Phase::FirstByte, &server, reading).await?.map_err(failed(Phase::FirstByte))
}

/// RFC 7858: the same behind a handshake that verifies the server by the name or the address that was asked.
pub(super) async fn over_tls(
    run: &Arc<Run>,
    server: &Endpoint,
    tls: &TlsOptions,
    bytes: &[u8],
) -> Result<Carried, Failure> {
    let mut connection = Connection::open_for(run, server, Family::Any, Purpose::Resolver).await?;
    connection.secure(tls.clone()).await?;
    let begun = Instant::now();
    connection.write(&framed(bytes), false).await?;
    let length = connection.read_exact(2).await?;
    let length = u16::from_be_bytes([length[0], length[1]]);
    let bytes = connection.read_exact(length.into()).await?;
    Ok(Carried { bytes, server: connection.remote(), elapsed: begun.elapsed() })
}

/// RFC 8484, section 4.1.
pub(super) async fn over_https(
    run: &Arc<Run>,
    server: &Endpoint,
    path: &str,
    tls: &TlsOptions,
    bytes: &[u8],
) -> Result<Carried, Failure> {
    let request = Request {
        method: "POST".to_owned(),
        url: format!("https://{server}{path}"),
        headers: vec![Header::plain("content-type", MEDIA_TYPE), Header::plain("accept", MEDIA_TYPE)],
        body: bytes.to_vec(),
        versions: Vec::new(),
        family: Family::Any,
        tls: Some(tls.clone()),
        max_redirects: 0,
        max_body: u16::MAX.into(),
    };
    let response = crate::http::send_for(run, request, Purpose::Resolver).await?;
    let kind = response.header("content-type").concat();
    let server = response.remote;
    if response.status != 200 {
        return Err(broken(server, &format!("status {} instead of an answer", response.status)));
    }
    if kind.split(';').next().is_none_or(|kind| !kind.trim().eq_ignore_ascii_case(MEDIA_TYPE)) {
        return Err(broken(server, &format!("an answer of type {kind:?}, not {MEDIA_TYPE}")));
    }
    let timings = response.timings;
    let phases = [timings.send, timings.first_byte, timings.transfer];
    let elapsed = phases.into_iter().flatten().sum();
    Ok(Carried { bytes: response.body, server, elapsed })
}

fn framed(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes();
    [&length, bytes].concat()
}

/// How long a proper answer is waited for behind one that is none.
const BETTER: Duration = Duration::from_secs(1);
const MEDIA_TYPE: &str = "application/dns-message";
