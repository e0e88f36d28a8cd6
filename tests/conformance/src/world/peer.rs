//! One peer plays its operations: to a connection, to a question, to a request. Owns what a misbehaviour looks like to each of
//! them, in the words of `net`.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use net::{
    Answer, Cause, Certificate, Defect, Endpoint, Entry, Failure, Hidden, NoToken, Phase, Purpose, Question,
    Request, Response, Security, Timings, TlsOptions, TlsSession, TokenRequest, Trust,
};
use sandbox::Stream;

use super::script::{DnsAnswer, HttpAnswer, Lookup, Op, Served, Tls};
use super::{MORNING, Scripted};

/// What whoever grants everything says.
const OBLIGING: &[u8] = b"ok\r\n";
/// How often it says so before it closes: a check that reads to the end shall come to it.
const OBLIGINGLY: u32 = 64;
const DAY: i64 = 86_400;

pub(super) fn fail(cause: Cause, phase: Phase, message: String) -> Failure {
    Failure { cause, phase: Some(phase), message }
}

/// A peer and how far it is.
pub(super) struct Playing {
    world: Scripted,
    at: String,
    ops: VecDeque<Op>,
    heard: Vec<u8>,
    echoed: usize,
    /// Sent, but not read yet.
    sent: VecDeque<u8>,
    obliged: u32,
    noise: u32,
}

impl Playing {
    pub(super) fn new(world: Scripted, at: String, ops: Vec<Op>) -> Self {
        Playing {
            world,
            at,
            ops: ops.into(),
            heard: Vec::new(),
            echoed: 0,
            sent: VecDeque::new(),
            obliged: 0,
            noise: 0x9e37_79b9,
        }
    }

    /// The address was named: nothing is looked up.
    pub(super) fn skip_lookups(&mut self) {
        self.ops.retain(|op| !matches!(op, Op::Resolve(_)));
    }

    /// What the script says about the name.
    pub(super) fn lookup(&mut self) -> Option<Lookup> {
        let at = self.ops.iter().position(|op| matches!(op, Op::Resolve(_)))?;
        match self.ops.remove(at) {
            Some(Op::Resolve(lookup)) => Some(lookup),
            _ => None,
        }
    }

    /// Everything up to the accepted connection.
    pub(super) fn connect(&mut self) -> Result<(), Failure> {
        loop {
            let at = self.at.clone();
            let (name, failure) = match self.ops.front() {
                Some(Op::Dns(_) | Op::Resolve(_)) => {
                    self.ops.pop_front();
                    continue;
                }
                Some(Op::Delay(time)) => {
                    let time = *time;
                    self.ops.pop_front();
                    self.world.pass(time, Phase::Connect, &at)?;
                    continue;
                }
                Some(Op::Refuse) => {
                    let message = format!("{at} refused the connection (connect)");
                    ("refuse", fail(Cause::Refused, Phase::Connect, message))
                }
                Some(Op::Unreachable) => {
                    let message = format!("{at} is unreachable: no route to the host (connect)");
                    ("unreachable", fail(Cause::Unreachable, Phase::Connect, message))
                }
                Some(Op::Drop) => ("drop", self.world.wait(Phase::Connect, &at)),
                Some(Op::Accept) => {
                    self.ops.pop_front();
                    return Ok(());
                }
                _ => return Ok(()),
            };
            self.world.meet(name);
            return Err(failure);
        }
    }

    /// The next bytes, at most `max`; none at the end of the stream.
    fn read(&mut self, max: usize, phase: Phase) -> Result<Vec<u8>, Failure> {
        let at = self.at.clone();
        loop {
            if !self.sent.is_empty() {
                let count = max.min(self.sent.len());
                return Ok(self.sent.drain(..count).collect());
            }
            match self.ops.front().cloned() {
                Some(Op::Send(bytes)) => {
                    self.sent.extend(bytes.0);
                    self.ops.pop_front();
                }
                Some(Op::Delay(time)) => {
                    self.ops.pop_front();
                    self.world.pass(time, phase, &at)?;
                }
                Some(Op::Trickle(every)) => {
                    self.world.meet("trickle");
                    self.world.pass(every, phase, &at)?;
                    self.sent.push_back(b'x');
                }
                Some(Op::Garbage(count)) => {
                    self.world.meet("garbage");
                    let noise: Vec<u8> = (0..count).map(|_| self.noise()).collect();
                    self.sent.extend(noise);
                    self.ops.pop_front();
                }
                Some(Op::Echo) => {
                    let new = self.heard[self.echoed..].to_vec();
                    self.echoed = self.heard.len();
                    if new.is_empty() {
                        return self.oblige(max);
                    }
                    self.world.meet("echo");
                    self.sent.extend(new);
                }
                Some(Op::Oblige) => return self.oblige(max),
                Some(Op::Reset) => {
                    self.world.meet("reset");
                    return Err(fail(Cause::Reset, phase, format!("{at} reset the connection ({phase})")));
                }
                Some(Op::Close) | None => {
                    self.world.meet("close");
                    return Ok(Vec::new());
                }
                // It waits for something that does not come.
                Some(Op::Silence | Op::Expect(_) | Op::Tls(_)) => {
                    self.world.meet("silence");
                    return Err(self.world.wait(phase, &at));
                }
                Some(_) => {
                    self.ops.pop_front();
                }
            }
        }
    }

    fn oblige(&mut self, max: usize) -> Result<Vec<u8>, Failure> {
        self.obliged += 1;
        if self.obliged > OBLIGINGLY || max == 0 {
            return Ok(Vec::new());
        }
        self.sent.extend(OBLIGING);
        let count = max.min(self.sent.len());
        Ok(self.sent.drain(..count).collect())
    }

    fn write(&mut self, bytes: &[u8]) {
        self.heard.extend(bytes);
        self.echoed = self.echoed.min(self.heard.len());
        while let Some(Op::Expect(expected)) = self.ops.front() {
            let Some(at) = memchr::memmem::find(&self.heard, &expected.0) else { return };
            let end = at + expected.0.len();
            self.heard.drain(..end);
            self.echoed = 0;
            self.ops.pop_front();
        }
    }

    /// A xorshift generator (Marsaglia, 2003): the same noise every time, and no text.
    fn noise(&mut self) -> u8 {
        self.noise ^= self.noise << 13;
        self.noise ^= self.noise >> 17;
        self.noise ^= self.noise << 5;
        self.noise as u8 | 0x80
    }

    /// A handshake with whoever is asked for under `host`.
    fn secure(&mut self, options: &TlsOptions, host: &str) -> Result<TlsSession, Failure> {
        let at = self.at.clone();
        loop {
            match self.ops.front().cloned() {
                Some(Op::Tls(tls)) => {
                    self.ops.pop_front();
                    return self.shake(&tls, options, host);
                }
                Some(Op::Delay(time)) => {
                    self.ops.pop_front();
                    self.world.pass(time, Phase::Handshake, &at)?;
                }
                Some(Op::Oblige | Op::Echo | Op::Http(_)) => {
                    return self.shake(&Tls::default(), options, host);
                }
                Some(Op::Reset) => {
                    self.world.meet("reset");
                    let message = format!("{at} reset the connection (handshake)");
                    return Err(fail(Cause::Reset, Phase::Handshake, message));
                }
                Some(Op::Close) | None => {
                    self.world.meet("close");
                    let message = format!("{at} closed the connection too early (handshake)");
                    return Err(fail(Cause::Closed, Phase::Handshake, message));
                }
                Some(Op::Garbage(_) | Op::Send(_)) => {
                    self.world.meet("garbage");
                    let message = format!("{at} does not speak TLS here");
                    return Err(fail(Cause::Tls("other".to_owned()), Phase::Handshake, message));
                }
                Some(op) => {
                    self.world.meet(if matches!(op, Op::Trickle(_)) { "trickle" } else { "silence" });
                    return Err(self.world.wait(Phase::Handshake, &at));
                }
            }
        }
    }

    fn shake(&self, tls: &Tls, options: &TlsOptions, host: &str) -> Result<TlsSession, Failure> {
        let at = &self.at;
        if let Some(reason) = &tls.fails {
            self.world.meet("tls");
            let message = format!("{at} ended the handshake: {reason}");
            return Err(fail(Cause::Tls(reason.clone()), Phase::Handshake, message));
        }
        let name = options.server_name.as_deref().unwrap_or(host);
        let chain = chain(tls, name);
        let defect = defect(tls.certificate, name);
        if let Some(defect) = &defect
            && options.trust != Trust::Unverified
        {
            self.world.meet("tls");
            if options.trust == Trust::Required {
                let message = format!("{at} cannot be trusted: {}", defect.message);
                return Err(fail(Cause::Tls(defect.code.clone()), Phase::Handshake, message));
            }
        }
        Ok(TlsSession {
            version: tls.version.clone().unwrap_or_else(|| "1.3".to_owned()),
            cipher: "TLS13_AES_128_GCM_SHA256".to_owned(),
            alpn: options.alpn.first().cloned(),
            served: chain.clone(),
            path: chain.clone(),
            verified: defect.map_or(Ok(chain), |defect| Err(vec![defect])),
            ..TlsSession::default()
        })
    }

    /// The answer to one question.
    pub(super) fn answer(mut self, question: &Question, server: SocketAddr) -> Result<Answer, Failure> {
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
        let entry = |record: &super::script::Record| Entry {
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

fn octets(ip: std::net::IpAddr) -> Vec<u8> {
    match ip {
        std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
        std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
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
    let record = super::script::Record { name: None, kind: None, ttl: None, data: data.to_owned() };
    DnsAnswer { answers: vec![record], ..DnsAnswer::default() }
}

/// A leaf and its root.
fn chain(tls: &Tls, name: &str) -> Vec<Arc<Certificate>> {
    let now = i64::try_from(MORNING.as_secs()).unwrap_or_default();
    let (not_before, not_after) = match tls.certificate {
        Served::Expired => (now - 100 * DAY, now - DAY),
        Served::NotYetValid => (now + DAY, now + 90 * DAY),
        _ => (now - DAY, now + tls.days.unwrap_or(90) * DAY),
    };
    let carried = if tls.certificate == Served::WrongName { "somebody-else.example" } else { name };
    let subject = format!("CN={carried}");
    let alone = tls.certificate == Served::SelfSigned;
    let leaf = Certificate {
        subject: subject.clone(),
        issuer: if alone { subject } else { "CN=Scripted Root".to_owned() },
        serial: "01".to_owned(),
        not_before,
        not_after,
        dns_names: vec![carried.to_owned()],
        signature_algorithm: "ecdsa-with-SHA256".to_owned(),
        key: ("EC".to_owned(), 256),
        sha256: "aa".repeat(32),
        spki_sha256: "bb".repeat(32),
        ..Certificate::default()
    };
    let root = Certificate {
        subject: "CN=Scripted Root".to_owned(),
        issuer: "CN=Scripted Root".to_owned(),
        serial: "02".to_owned(),
        not_before: now - 1000 * DAY,
        not_after: now + 3000 * DAY,
        signature_algorithm: "ecdsa-with-SHA256".to_owned(),
        key: ("EC".to_owned(), 256),
        sha256: "cc".repeat(32),
        spki_sha256: "dd".repeat(32),
        is_ca: true,
        ..Certificate::default()
    };
    if alone { vec![leaf.into()] } else { vec![leaf.into(), root.into()] }
}

fn defect(served: Served, name: &str) -> Option<Defect> {
    let (code, message) = match served {
        Served::Valid => return None,
        Served::Expired => ("expired", "the certificate has expired".to_owned()),
        Served::NotYetValid => ("not-yet-valid", "the certificate is not valid yet".to_owned()),
        Served::WrongName => ("wrong-name", format!("the certificate is not for {name}")),
        Served::SelfSigned => ("self-signed", "the certificate signed itself".to_owned()),
        Served::Untrusted => {
            ("untrusted", "no authority that is trusted stands behind the certificate".to_owned())
        }
    };
    Some(Defect { code: code.to_owned(), message })
}

/// A request, redirects included.
pub(super) fn exchange(world: &Scripted, request: Request) -> Result<Response, Failure> {
    let mut url = parsed(&request.url)?;
    let mut hops = Vec::new();
    loop {
        let response = hop(world, &request, &url)?;
        hops.push((url.to_string(), response.status));
        let location = response.header("location").into_iter().next();
        let next = match location {
            Some(location) if (300..400).contains(&response.status) => url.join(&location).ok(),
            _ => None,
        };
        match next {
            Some(next) if hops.len() <= usize::from(request.max_redirects) => url = next,
            _ => {
                let hop_timings = vec![response.timings; hops.len()];
                return Ok(Response { hops, hop_timings, ..response });
            }
        }
    }
}

/// A token for whoever asks a server that answers with 200.
pub(super) fn token(world: &Scripted, request: &TokenRequest) -> Result<Hidden, NoToken> {
    let asked = Request {
        method: "POST".to_owned(),
        url: request.url.clone(),
        headers: Vec::new(),
        body: Vec::new(),
        versions: Vec::new(),
        family: request.family,
        tls: request.tls.clone(),
        max_redirects: 0,
        max_body: 0,
    };
    match exchange(world, asked)? {
        Response { status: 200, .. } => Ok(Hidden(b"a-token-of-the-scripted-world".to_vec().into())),
        Response { status, .. } => Err(NoToken::Refused { status, reason: "the script says so".to_owned() }),
    }
}

fn parsed(url: &str) -> Result<url::Url, Failure> {
    url::Url::parse(url)
        .map_err(|e| fail(Cause::Invalid(e.to_string()), Phase::Send, format!("{url:?} is not a URL: {e}")))
}

fn hop(world: &Scripted, request: &Request, url: &url::Url) -> Result<Response, Failure> {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let to = Endpoint::new(host.clone(), url.port_or_known_default().unwrap_or(80));
    let (remote, mut playing) = world.open(&to, Purpose::Target)?;
    let session = match url.scheme() {
        "https" => Some(playing.secure(&request.tls.clone().unwrap_or_default(), &host)?),
        _ => None,
    };
    let answer = playing.respond(request)?;
    let kept = answer.body.len().min(request.max_body as usize);
    let headers = answer.headers.iter();
    Ok(Response {
        status: answer.status,
        version: "1.1".to_owned(),
        headers: headers
            .map(|(name, value)| {
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                (name.to_ascii_lowercase(), value)
            })
            .collect(),
        truncated: kept < answer.body.len(),
        decoded: false,
        body: answer.body.as_bytes()[..kept].to_vec(),
        hops: Vec::new(),
        remote,
        session,
        timings: Timings { connect: Some(Duration::from_millis(1)), ..Timings::default() },
        hop_timings: Vec::new(),
    })
}

impl Playing {
    /// The answer to a request on an open connection.
    fn respond(&mut self, request: &Request) -> Result<HttpAnswer, Failure> {
        let at = self.at.clone();
        let phase = Phase::FirstByte;
        loop {
            let (name, failure) = match self.ops.pop_front() {
                Some(Op::Http(answer)) => return Ok(answer),
                Some(Op::Oblige) => return Ok(plain("ok\n".to_owned())),
                Some(Op::Echo) => {
                    self.world.meet("echo");
                    let headers = request.headers.iter().map(|header| {
                        format!("{}: {}\n", header.name, String::from_utf8_lossy(&header.value))
                    });
                    let body = String::from_utf8_lossy(&request.body).into_owned();
                    return Ok(plain(headers.chain([body]).collect()));
                }
                Some(Op::Delay(time)) => {
                    self.world.pass(time, phase, &at)?;
                    continue;
                }
                Some(Op::Silence | Op::Drop) => ("silence", self.world.wait(phase, &at)),
                Some(Op::Trickle(_)) => ("trickle", self.world.wait(Phase::Transfer, &at)),
                Some(Op::Reset) => {
                    ("reset", fail(Cause::Reset, phase, format!("{at} reset the connection ({phase})")))
                }
                Some(Op::Close) | None => {
                    ("close", fail(Cause::Closed, phase, format!("{at} closed the connection too early")))
                }
                Some(Op::Garbage(_) | Op::Send(_)) => {
                    let message = format!("{at} answered something that is not HTTP");
                    ("garbage", fail(Cause::Protocol(message.clone()), phase, message))
                }
                Some(_) => continue,
            };
            self.world.meet(name);
            return Err(failure);
        }
    }
}

fn plain(body: String) -> HttpAnswer {
    let headers = [("content-type".to_owned(), "text/plain".into())].into_iter().collect();
    HttpAnswer { status: 200, headers, body }
}

/// An open connection to a peer that plays.
pub(super) struct Connection {
    playing: Playing,
    host: String,
    remote: SocketAddr,
    trust: Option<Trust>,
    opened: Duration,
    heard: bool,
}

impl Connection {
    pub(super) fn new(playing: Playing, host: String, remote: SocketAddr) -> Self {
        let opened = playing.world.seen().now;
        Connection { playing, host, remote, trust: None, opened, heard: false }
    }

    fn ready(&self, phase: Phase) -> Result<(), Failure> {
        self.playing.world.called(phase, &self.playing.at)?;
        match self.trust {
            Some(Trust::Recorded) => Err(Failure {
                cause: Cause::Denied,
                phase: None,
                message: "the peer was only recorded, not verified: the stream carries no data".to_owned(),
            }),
            _ => Ok(()),
        }
    }

    fn take(&mut self, max: usize) -> Result<Vec<u8>, Failure> {
        let phase = if self.heard { Phase::Transfer } else { Phase::FirstByte };
        let bytes = self.playing.read(max, phase)?;
        self.heard = true;
        Ok(bytes)
    }
}

#[async_trait]
impl Stream for Connection {
    async fn read(&mut self, max: u32) -> Result<Vec<u8>, Failure> {
        self.ready(Phase::FirstByte)?;
        self.take(max as usize)
    }

    async fn read_exact(&mut self, length: u32) -> Result<Vec<u8>, Failure> {
        self.ready(Phase::FirstByte)?;
        let mut bytes = Vec::new();
        while bytes.len() < length as usize {
            let more = self.take(length as usize - bytes.len())?;
            if more.is_empty() {
                let message = format!(
                    "{} closed the connection after {} of {length} bytes",
                    self.playing.at,
                    bytes.len()
                );
                return Err(fail(Cause::Closed, Phase::Transfer, message));
            }
            bytes.extend(more);
        }
        Ok(bytes)
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.ready(Phase::Send)?;
        self.playing.write(bytes);
        Ok(())
    }

    async fn write_secret(&mut self, prefix: &[u8], secret: &[u8], suffix: &[u8]) -> Result<(), Failure> {
        self.ready(Phase::Send)?;
        if self.trust == Some(Trust::Unverified) {
            let message = format!("{} is not verified, so no secret is sent to it", self.playing.at);
            return Err(Failure { cause: Cause::Denied, phase: None, message });
        }
        self.playing.write(&[prefix, secret, suffix].concat());
        Ok(())
    }

    async fn secure(&mut self, options: TlsOptions) -> Result<TlsSession, Failure> {
        self.playing.world.called(Phase::Handshake, &self.playing.at)?;
        if self.trust.is_some() {
            let message = format!("the connection to {} is TLS already", self.playing.at);
            return Err(fail(Cause::Invalid(message.clone()), Phase::Handshake, message));
        }
        let session = self.playing.secure(&options, &self.host)?;
        self.trust = Some(options.trust);
        Ok(session)
    }

    async fn shutdown(&mut self) -> Result<(), Failure> {
        self.ready(Phase::Send)
    }

    fn remote(&self) -> SocketAddr {
        self.remote
    }

    fn timings(&self) -> Timings {
        Timings {
            connect: Some(Duration::from_millis(1)),
            total: self.playing.world.seen().now - self.opened,
            ..Timings::default()
        }
    }
}
