//! Questions to a small name server built with hickory-proto, over UDP and TCP, and names on the way to a connection.

use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hickory_proto::op::{Message, Metadata, ResponseCode};
use hickory_proto::rr::rdata::svcb::{Alpn, SvcParamKey, SvcParamValue, Unknown};
use hickory_proto::rr::rdata::{A, AAAA, CAA, CNAME, HTTPS, MX, NULL, SOA, SRV, SVCB, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use picket_net::{
    Answer, Budget, Cause, Ceiling, Endpoint, Failure, Family, Grant, Network, Phase, Question, Session,
    Settings, TlsOptions, Transport,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use crate::rules;
use crate::tcp::black_hole;
use crate::tls::Authority;

/// Listens on one port over both transports.
pub(crate) async fn server() -> SocketAddr {
    let (tcp, udp) = loop {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
            break (tcp, udp);
        }
    };
    let at = tcp.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = udp.recv_from(&mut buffer).await {
            for reply in answer(&buffer[..length], true) {
                udp.send_to(&reply, from).await.unwrap();
            }
        }
    });
    tokio::spawn(async move {
        while let Ok((mut peer, _)) = tcp.accept().await {
            let mut asked = vec![0; peer.read_u16().await.unwrap().into()];
            peer.read_exact(&mut asked).await.unwrap();
            for reply in answer(&asked, false) {
                peer.write_u16(u16::try_from(reply.len()).unwrap()).await.unwrap();
                peer.write_all(&reply).await.unwrap();
            }
        }
    });
    at
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn answer(asked: &[u8], udp: bool) -> Vec<Vec<u8>> {
    let asked = Message::from_vec(asked).unwrap();
    let query = asked.queries[0].clone();
    let mut reply = Message::response(asked.metadata.id, asked.metadata.op_code);
    reply.metadata = Metadata::response_from_request(&asked.metadata);
    reply.add_query(query.clone());
    reply.metadata.authoritative = true;
    let mut add = |data: RData| {
        reply.add_answer(Record::from_rdata(query.name().clone(), 300, data));
    };
    let asked_name = query.name().to_ascii().to_lowercase();
    match (asked_name.as_str(), query.query_type()) {
        ("silent.test.", _) => return Vec::new(),
        ("garbled.test.", _) => return vec![[&asked.metadata.id.to_be_bytes()[..], &[0xff; 3]].concat()],
        ("spoofed.test.", RecordType::A) => {
            add(RData::A(A::new(10, 0, 0, 1)));
            let mut spoofed = reply.clone();
            spoofed.metadata.id ^= 1;
            return vec![spoofed.to_vec().unwrap(), reply.to_vec().unwrap()];
        }
        ("cut.test.", _) if udp => reply.metadata.truncation = true,
        ("cut.test.", _) => add(RData::A(A::new(10, 0, 0, 1))),
        ("gone.test.", _) => {
            reply.metadata.response_code = ResponseCode::NXDomain;
            let soa = SOA::new(name("ns.test."), name("root.test."), 7, 3600, 600, 86400, 60);
            reply.add_authority(Record::from_rdata(name("test."), 60, RData::SOA(soa)));
        }
        ("broken.test.", _) => reply.metadata.response_code = ResponseCode::ServFail,
        ("local.test.", RecordType::A) => add(RData::A(A::new(127, 0, 0, 1))),
        ("two.test.", RecordType::A) => {
            add(RData::A(A::new(127, 0, 0, 1)));
            add(RData::A(A::new(127, 0, 0, 2)));
        }
        ("mixed.test.", RecordType::A) => add(RData::A(A::new(10, 255, 255, 1))),
        ("mixed.test.", RecordType::AAAA) => {
            add(RData::AAAA(AAAA::from_str("::ffff:169.254.169.254").unwrap()));
        }
        ("all.test.", RecordType::A) => {
            add(RData::CNAME(CNAME(name("Other.test."))));
            add(RData::A(A::new(10, 0, 0, 1)));
        }
        ("all.test.", RecordType::AAAA) => add(RData::AAAA(AAAA::from_str("2001:db8::1").unwrap())),
        ("all.test.", RecordType::MX) => add(RData::MX(MX::new(10, name("mail.test.")))),
        ("all.test.", RecordType::SRV) => add(RData::SRV(SRV::new(1, 2, 5060, name("sip.test.")))),
        ("all.test.", RecordType::TXT) => {
            add(RData::TXT(TXT::new(vec!["v=spf1 ".into(), "-all \"q\"".into()])));
        }
        ("all.test.", RecordType::CAA) => {
            add(RData::CAA(CAA::new_issue(false, Some(name("ca.test")), Vec::new())));
        }
        ("all.test.", RecordType::HTTPS) => {
            let alpn = SvcParamValue::Alpn(Alpn(vec!["h2".into(), "h3".into()]));
            let path = SvcParamValue::Unknown(Unknown(b"/q".to_vec()));
            let parameters = vec![(SvcParamKey::Alpn, alpn), (SvcParamKey::Unknown(7), path)];
            add(RData::HTTPS(HTTPS(SVCB::new(1, Name::root(), parameters))));
        }
        ("all.test.", RecordType::DS) => {
            let rdata = NULL::with(vec![0x30, 0x39, 13, 2, 0xab, 0xcd]);
            add(RData::Unknown { code: RecordType::DS, rdata });
        }
        ("all.test.", RecordType::Unknown(65400)) => {
            let rdata = NULL::with(vec![1, 2, 3]);
            add(RData::Unknown { code: RecordType::Unknown(65400), rdata });
        }
        _ => {}
    }
    vec![reply.to_vec().unwrap()]
}

/// The same answers over TLS, and over HTTPS at `/dns-query` on another port.
async fn secure_servers(authority: &Authority, names: &[&str]) -> (u16, u16) {
    let tls = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let https = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ports = (tls.local_addr().unwrap().port(), https.local_addr().unwrap().port());
    let acceptor = TlsAcceptor::from(Arc::new(authority.leaf(names).config()));
    let second = TlsAcceptor::from(Arc::new(authority.leaf(names).config()));
    tokio::spawn(async move {
        while let Ok((tcp, _)) = tls.accept().await {
            let Ok(mut peer) = acceptor.accept(tcp).await else { continue };
            let Ok(length) = peer.read_u16().await else { continue };
            let mut asked = vec![0; length.into()];
            peer.read_exact(&mut asked).await.unwrap();
            for reply in answer(&asked, false) {
                peer.write_u16(u16::try_from(reply.len()).unwrap()).await.unwrap();
                peer.write_all(&reply).await.unwrap();
            }
        }
    });
    tokio::spawn(async move {
        while let Ok((tcp, _)) = https.accept().await {
            let Ok(peer) = second.accept(tcp).await else { continue };
            let service = service_fn(over_https);
            drop(http1::Builder::new().serve_connection(TokioIo::new(peer), service).await);
        }
    });
    ports
}

/// RFC 8484, section 4.
async fn over_https(
    request: hyper::Request<Incoming>,
) -> Result<hyper::Response<Full<Bytes>>, std::convert::Infallible> {
    let (parts, body) = request.into_parts();
    let kind = parts.headers.get("content-type").cloned().unwrap();
    let asked = body.collect().await.unwrap().to_bytes();
    let answered = match (parts.method.as_str(), parts.uri.path(), kind.to_str().unwrap()) {
        ("POST", "/dns-query" | "/other", "application/dns-message") => answer(&asked, false).concat(),
        ("POST", "/page", _) => {
            return Ok(hyper::Response::builder()
                .header("content-type", "text/html")
                .body(Full::new(Bytes::from_static(b"<html>")))
                .unwrap());
        }
        _ => return Ok(hyper::Response::builder().status(404).body(Full::default()).unwrap()),
    };
    let response = hyper::Response::builder().header("content-type", kind);
    Ok(response.body(Full::new(answered.into())).unwrap())
}

fn session(system: SocketAddr, names: &[&str], resolvers: &[&str], targets: &[&str]) -> Session {
    session_for(Duration::from_secs(10), system, names, resolvers, targets)
}

fn session_for(
    time: Duration,
    system: SocketAddr,
    names: &[&str],
    resolvers: &[&str],
    targets: &[&str],
) -> Session {
    let grant = Grant {
        targets: rules(targets),
        names: names.iter().map(|n| n.parse().unwrap()).collect(),
        resolvers: rules(resolvers),
        ..Grant::default()
    };
    let ceiling = Ceiling { allow: rules(&["127.0.0.0/8"]), ..Ceiling::default() };
    let settings = Settings { ceiling, resolver: Some(vec![system]) };
    Network::new(settings).unwrap().session(grant, Budget::default(), Instant::now() + time)
}

fn question(name: &str, kind: &str) -> Question {
    Question {
        name: name.to_owned(),
        kind: kind.to_owned(),
        server: None,
        transport: Transport::Udp,
        recursion_desired: true,
        dnssec_ok: false,
        tls: TlsOptions::default(),
    }
}

async fn ask(name: &str, kind: &str) -> Result<Answer, Failure> {
    session(server().await, &["*.test"], &[], &[]).ask(question(name, kind)).await
}

#[tokio::test]
async fn every_type_is_shown_in_its_presentation() {
    let server = server().await;
    for (kind, data) in [
        ("A", "10.0.0.1"),
        ("AAAA", "2001:db8::1"),
        ("MX", "10 mail.test."),
        ("SRV", "1 2 5060 sip.test."),
        ("TXT", "v=spf1 -all \"q\""),
        ("CAA", "0 issue \"ca.test\""),
        ("HTTPS", "1 . alpn=h2,h3 key7=\"/q\""),
        ("TYPE65", "1 . alpn=h2,h3 key7=\"/q\""),
        ("DS", "12345 13 2 ABCD"),
        ("TYPE65400", "\\# 3 010203"),
        ("TYPE28", "2001:db8::1"),
        ("a", "10.0.0.1"),
    ] {
        for transport in [Transport::Udp, Transport::Tcp] {
            let asked = Question { transport, ..question("All.test.", kind) };
            let answer = session(server, &["all.test"], &[], &[]).ask(asked).await.unwrap();
            let entry = answer.answers.last().unwrap();
            assert_eq!((entry.data.as_str(), entry.name.as_str(), entry.ttl), (data, "all.test.", 300));
            assert!(
                answer.authoritative && !answer.truncated && answer.rcode == 0 && answer.server == server
            );
        }
    }
    let answer = ask("all.test", "A").await.unwrap();
    assert_eq!((answer.answers[0].kind.as_str(), answer.answers[0].data.as_str()), ("CNAME", "Other.test."));
    assert_eq!(answer.answers[0].rdata, b"\x05Other\x04test\x00");
    assert_eq!(answer.answers[1].rdata, [10, 0, 0, 1]);
    assert_eq!(ask("all.test", "TYPE65400").await.unwrap().answers[0].kind, "TYPE65400");
}

#[tokio::test]
async fn an_error_code_is_an_answer() {
    let gone = ask("gone.test", "A").await.unwrap();
    assert_eq!((gone.rcode, gone.answers.len()), (3, 0));
    assert_eq!(gone.authority[0].data, "ns.test. root.test. 7 3600 600 86400 60");
    assert_eq!(ask("broken.test", "A").await.unwrap().rcode, 2);
}

#[tokio::test]
async fn a_cut_answer_says_so_and_comes_whole_over_tcp() {
    let server = server().await;
    let session = session(server, &["cut.test"], &[], &[]);
    let cut = session.ask(question("cut.test", "A")).await.unwrap();
    assert!(cut.truncated && cut.answers.is_empty());
    let whole =
        session.ask(Question { transport: Transport::Tcp, ..question("cut.test", "A") }).await.unwrap();
    assert!(!whole.truncated && whole.answers.len() == 1);
    assert_eq!(session.measured().connections, 2);
}

#[tokio::test]
async fn an_answer_to_another_question_is_not_taken() {
    assert_eq!(ask("spoofed.test", "A").await.unwrap().answers[0].data, "10.0.0.1");
    assert!(matches!(ask("garbled.test", "A").await.unwrap_err().cause, Cause::Protocol(_)));
}

#[tokio::test]
async fn silence_and_a_closed_port_are_told_apart() {
    let short = session_for(Duration::from_millis(200), server().await, &["*.test"], &[], &[]);
    let silent = short.ask(question("silent.test", "A")).await.unwrap_err();
    assert_eq!((silent.cause, silent.phase), (Cause::Timeout, Some(Phase::FirstByte)));
    let closed = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let refused = session(closed, &["all.test"], &[], &[]).ask(question("all.test", "A")).await.unwrap_err();
    assert_eq!(refused.cause, Cause::Refused);
}

#[tokio::test]
async fn names_and_servers_outside_the_grant_are_refused() {
    let server = server().await;
    let session = session(server, &["all.test"], &["127.0.0.1"], &[]);
    let failure = session.ask(question("secret.evil.example", "A")).await.unwrap_err();
    assert_eq!(failure.cause, Cause::Denied);
    let at = |server: String| Question { server: Some(server), ..question("all.test", "A") };
    assert_eq!(session.ask(at(server.to_string())).await.unwrap().rcode, 0);
    let failure = session.ask(at("10.0.0.1".to_owned())).await.unwrap_err();
    assert_eq!(failure.cause, Cause::Denied);
    assert!(
        failure.message.contains("10.0.0.1:53 is not among this monitor's name servers"),
        "{}",
        failure.message
    );
    for kind in ["NONSENSE", "TYPE", "AXFR", "TYPE70000"] {
        let failure = session.ask(question("all.test", kind)).await.unwrap_err();
        assert!(failure.message.contains("not a record type"), "{}", failure.message);
    }
    for transport in [Transport::Tls, Transport::Https] {
        let failure = session.ask(Question { transport, ..question("all.test", "A") }).await.unwrap_err();
        assert!(failure.message.contains("name a server"), "{}", failure.message);
    }
}

#[tokio::test]
async fn a_question_travels_over_tls_and_https_to_a_server_that_proves_its_name() {
    let authority = Authority::root("root");
    let (tls, https) = secure_servers(&authority, &["localhost"]).await;
    let trusted = TlsOptions { ca: Some(authority.pem.clone()), ..TlsOptions::default() };
    let resolvers = ["localhost", "127.0.0.1"];
    let ask = async |transport, server: String, tls: &TlsOptions| {
        let session = session(server_of_nobody(), &["all.test", "silent.test"], &resolvers, &[]);
        let question =
            Question { transport, server: Some(server), tls: tls.clone(), ..question("all.test", "A") };
        session.ask(question).await
    };
    for (transport, server) in [
        (Transport::Tls, format!("localhost:{tls}")),
        (Transport::Https, format!("localhost:{https}")),
        (Transport::Https, format!("https://localhost:{https}")),
        (Transport::Https, format!("https://localhost:{https}/other")),
    ] {
        let answer = ask(transport, server.clone(), &trusted).await.unwrap();
        assert_eq!((answer.rcode, answer.answers.len()), (0, 2), "{server}");
        assert_eq!(answer.answers[1].data, "10.0.0.1");
        let failure = ask(transport, server.clone(), &TlsOptions::default()).await.unwrap_err();
        assert_eq!(failure.cause, Cause::Tls("untrusted".to_owned()), "{server}: {}", failure.message);
        let other = server.replace("localhost", "127.0.0.1");
        let failure = ask(transport, other, &trusted).await.unwrap_err();
        assert_eq!(failure.cause, Cause::Tls("wrong-name".to_owned()), "{server}: {}", failure.message);
    }
    for (path, words) in [("/nothing", "status 404"), ("/page", "an answer of type \"text/html\"")] {
        let server = format!("https://localhost:{https}{path}");
        let failure = ask(Transport::Https, server, &trusted).await.unwrap_err();
        assert!(failure.message.contains(words), "{}", failure.message);
    }
}

#[tokio::test]
async fn a_server_over_tls_and_https_is_asked_only_within_the_grant() {
    let session = session(server_of_nobody(), &["all.test"], &["127.0.0.1:1"], &["127.0.0.1:2"]);
    for (transport, server) in [
        (Transport::Tls, "127.0.0.1:2"),
        (Transport::Https, "127.0.0.1:2"),
        (Transport::Https, "https://169.254.169.254/dns-query"),
        (Transport::Https, "https://0x7f.1:1/"),
    ] {
        let server = Some(server.to_owned());
        let asked = Question { transport, server, ..question("all.test", "A") };
        let failure = session.ask(asked).await.unwrap_err();
        assert_eq!(failure.cause, Cause::Denied, "{}", failure.message);
    }
    assert_eq!(session.measured().connections, 0);
}

/// No test asks the machine's own.
fn server_of_nobody() -> SocketAddr {
    ([127, 0, 0, 1], 9).into()
}

#[tokio::test]
async fn a_name_is_resolved_by_the_given_servers_on_the_way_to_a_connection() {
    let server = server().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let session =
        session(server, &[], &[], &["local.test", "gone.test", "broken.test", "none.test", "mixed.test"]);
    let connection = session.connect(Endpoint::new("Local.test.", port), Family::Any).await.unwrap();
    assert_eq!(connection.remote(), listener.local_addr().unwrap());
    assert!(connection.timings().resolve.is_some());
    let again = session.connect(Endpoint::new("local.test", port), Family::Any).await.unwrap();
    assert!(again.timings().resolve.is_none(), "resolved twice");
    for (name, cause) in
        [("gone.test", Cause::Dns(3)), ("broken.test", Cause::Dns(2)), ("none.test", Cause::Dns(0))]
    {
        let failure = session.connect(Endpoint::new(name, port), Family::Any).await.unwrap_err();
        assert_eq!((failure.cause, failure.phase), (cause, Some(Phase::Resolve)), "{}", failure.message);
    }
    let failure = session.connect(Endpoint::new("mixed.test", port), Family::V4).await.unwrap_err();
    assert_eq!(failure.cause, Cause::Denied);
    assert!(
        failure.message.contains("leads to 169.254.169.254, which is always denied"),
        "{}",
        failure.message
    );
    assert_eq!(session.measured().denials, [failure.message]);
}

#[tokio::test]
async fn a_second_address_is_tried_beside_a_first_that_does_not_answer() {
    let (hole, _kept) = black_hole().await;
    let _alive = TcpListener::bind(("127.0.0.2", hole.port())).await.unwrap();
    let session = session(server().await, &[], &[], &["two.test"]);
    let connection = session.connect(Endpoint::new("two.test", hole.port()), Family::Any).await.unwrap();
    assert_eq!(connection.remote().ip().to_string(), "127.0.0.2");
    assert!(connection.timings().connect.unwrap() < Duration::from_secs(5));
    assert_eq!(session.measured().connections, 1);
}

#[tokio::test]
async fn names_are_looked_up_four_times_as_often_as_connections_are_made() {
    let session = session(server().await, &[], &[], &["gone.test"]);
    for _ in 0..64 {
        let failure = session.connect(Endpoint::new("gone.test.", 80), Family::Any).await.unwrap_err();
        assert_eq!(failure.cause, Cause::Dns(3));
    }
    let failure = session.connect(Endpoint::new("gone.test.", 80), Family::Any).await.unwrap_err();
    assert_eq!((failure.cause, failure.phase), (Cause::Exhausted, Some(Phase::Resolve)));
}
