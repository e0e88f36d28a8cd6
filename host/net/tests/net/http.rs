//! HTTP exchanges against a hyper server, plain and over TLS.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use picket_net::{
    Budget, Cause, Failure, Family, Header, Phase, Request, Response, Session, TlsOptions, Trust,
};
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::tls::Authority;
use crate::{session, session_with};

type Seen = Arc<Mutex<Vec<String>>>;
type Answer = hyper::Response<Full<Bytes>>;

/// Answers by path; keeps "METHOD path [header: value]… body" of every request.
async fn serve(tls: Option<ServerConfig>) -> (u16, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, seen) = (listener.local_addr().unwrap().port(), Seen::default());
    let (acceptor, kept) = (tls.map(|config| TlsAcceptor::from(Arc::new(config))), seen.clone());
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (acceptor, kept) = (acceptor.clone(), kept.clone());
            tokio::spawn(async move {
                let service = service_fn(move |request| answer(request, kept.clone()));
                match acceptor {
                    None => drop(http1(TokioIo::new(tcp), service).await),
                    Some(acceptor) => {
                        let Ok(tls) = acceptor.accept(tcp).await else { return };
                        match tls.get_ref().1.alpn_protocol() == Some(b"h2") {
                            true => drop(
                                hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                                    .serve_connection(TokioIo::new(tls), service)
                                    .await,
                            ),
                            false => drop(http1(TokioIo::new(tls), service).await),
                        }
                    }
                }
            });
        }
    });
    (port, seen)
}

async fn http1<I, S>(io: I, service: S) -> Result<(), hyper::Error>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    S: hyper::service::HttpService<Incoming, ResBody = Full<Bytes>, Error = Infallible>,
{
    hyper::server::conn::http1::Builder::new().serve_connection(io, service).await
}

async fn answer(request: hyper::Request<Incoming>, seen: Seen) -> Result<Answer, Infallible> {
    let (parts, body) = request.into_parts();
    let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    let shown = ["host", "authorization", "x-plain", "content-type", "accept-encoding"];
    let headers: Vec<_> = shown
        .iter()
        .filter_map(|n| Some(format!("{n}: {}", parts.headers.get(*n)?.to_str().ok()?)))
        .collect();
    seen.lock().unwrap().push(format!("{} {} {} {body}", parts.method, parts.uri.path(), headers.join(", ")));
    let path = parts.uri.path().trim_start_matches('/').to_owned();
    let mut answer = hyper::Response::builder();
    let body = match path.split_once('/') {
        Some(("to", rest)) => {
            let (status, location) = rest.split_once('/').unwrap();
            let location = match parts.uri.query() {
                Some(query) => query.to_owned(),
                None => format!("/{location}"),
            };
            answer = answer.status(status.parse::<u16>().unwrap()).header("location", location);
            String::new()
        }
        Some(("long", length)) => "x".repeat(length.parse().unwrap()),
        Some(("status", code)) => {
            answer = answer.status(code.parse::<u16>().unwrap());
            String::new()
        }
        _ => "Welcome to the Größe".to_owned(),
    };
    Ok(answer.header("X-Twice", "1").header("x-twice", "2").body(Full::new(body.into())).unwrap())
}

fn get(url: impl Into<String>) -> Request {
    Request {
        method: "GET".to_owned(),
        url: url.into(),
        headers: Vec::new(),
        body: Vec::new(),
        versions: Vec::new(),
        family: Family::Any,
        tls: None,
        max_redirects: 10,
        max_body: 1024,
    }
}

async fn send(targets: &[&str], request: Request) -> Result<Response, Failure> {
    session(targets).send(request).await
}

#[tokio::test]
async fn an_exchange_is_measured_and_its_body_searched() {
    let (port, seen) = serve(None).await;
    let session = session(&["127.0.0.1"]);
    let response = session.send(get(format!("http://127.0.0.1:{port}/a?b=c#d"))).await.unwrap();
    assert_eq!((response.status, response.version.as_str(), response.truncated), (200, "1.1", false));
    assert!(
        response.contains("Größe", false) && response.contains("gRÖSSE".replace("SS", "ß").as_str(), true)
    );
    assert!(
        !response.contains("welcome", false)
            && response.contains("WELCOME", true)
            && response.contains("", false)
    );
    assert_eq!(response.header("X-TWICE"), ["1", "2"]);
    assert_eq!(response.remote.port(), port);
    assert!(response.session.is_none());
    let timings = response.timings;
    assert!(
        timings.connect.is_some()
            && timings.send.is_some()
            && timings.first_byte.is_some()
            && timings.transfer.is_some()
    );
    assert!(timings.total >= timings.first_byte.unwrap());
    assert_eq!(session.measured().phases.first_byte, timings.first_byte);
    assert!(session.measured().received > 100);
    let host = format!("GET /a host: 127.0.0.1:{port}, accept-encoding: gzip, deflate, br, zstd ");
    assert_eq!(*seen.lock().unwrap(), [host]);
}

#[tokio::test]
async fn each_hop_has_its_own_phases_and_may_go_over_the_same_connection() {
    let ((port, seen), (other, _)) = (serve(None).await, serve(None).await);
    for (value, connections) in [("keep-alive", 1), ("close", 2)] {
        let session = session(&["127.0.0.1"]);
        let mut request = get(format!("http://127.0.0.1:{port}/to/302/end"));
        request.headers = vec![Header::plain("Connection", value)];
        let response = session.send(request).await.unwrap();
        assert_eq!((response.status, response.hops.len()), (200, 2));
        let [first, second] = response.hop_timings.as_slice() else { panic!("{:?}", response.hop_timings) };
        assert!(first.connect.is_some() && first.first_byte.is_some() && second.first_byte.is_some());
        assert_eq!(second.connect.is_none(), connections == 1, "{value}");
        assert!(first.total + second.total <= response.timings.total);
        assert_eq!(session.measured().connections, connections, "{value}");
    }
    assert_eq!(seen.lock().unwrap().len(), 4);
    let elsewhere = session(&["127.0.0.1"]);
    let mut request = get(format!("http://127.0.0.1:{port}/to/302/?http://127.0.0.1:{other}/end"));
    request.headers = vec![Header::plain("Connection", "keep-alive")];
    elsewhere.send(request).await.unwrap();
    assert_eq!(elsewhere.measured().connections, 2, "another origin has another connection");
}

#[tokio::test]
async fn a_kept_connection_that_the_server_closes_is_no_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        for answer in [
            "HTTP/1.1 302 Found\r\nLocation: /end\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        ] {
            // It promises to keep the connection, and does not.
            let (mut peer, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 1024];
            assert!(peer.read(&mut buffer).await.unwrap() > 0);
            peer.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let mut request = get(format!("http://127.0.0.1:{port}/"));
    request.headers = vec![Header::plain("Connection", "keep-alive")];
    let response = send(&["127.0.0.1"], request).await.unwrap();
    assert_eq!((response.status, response.hops.len()), (200, 2));
}

#[tokio::test]
async fn a_body_is_kept_up_to_the_bound() {
    let (port, _) = serve(None).await;
    for (length, kept, truncated) in
        [(1023, 1023, false), (1024, 1024, false), (1025, 1024, true), (500_000, 1024, true)]
    {
        let response =
            send(&["127.0.0.1"], get(format!("http://127.0.0.1:{port}/long/{length}"))).await.unwrap();
        assert_eq!((response.body.len(), response.truncated), (kept, truncated), "{length}");
    }
    let budget = Budget { body: 10, ..Budget::default() };
    let small = session_with(&["127.0.0.1"], &["127.0.0.1"], budget, Duration::from_secs(10));
    let response = small.send(get(format!("http://127.0.0.1:{port}/long/20"))).await.unwrap();
    assert_eq!((response.body.len(), response.truncated), (10, true));
    let response = small.send(get(format!("http://127.0.0.1:{port}/long/20"))).await.unwrap();
    assert_eq!(
        (response.body.len(), response.truncated),
        (0, true),
        "the budget is the run's, not the response's"
    );
}

#[tokio::test]
async fn redirects_change_the_method_as_rfc_9110_says() {
    let (port, seen) = serve(None).await;
    for (status, method, then) in [
        (301, "POST", "GET"),
        (302, "POST", "GET"),
        (303, "POST", "GET"),
        (303, "PUT", "GET"),
        (303, "HEAD", "HEAD"),
        (301, "PUT", "PUT"),
        (307, "POST", "POST"),
        (308, "POST", "POST"),
    ] {
        let mut request = get(format!("http://127.0.0.1:{port}/to/{status}/end"));
        request.method = method.to_owned();
        request.body = if method == "HEAD" { Vec::new() } else { b"body".to_vec() };
        request.headers = vec![
            Header::plain("content-type", "text/plain"),
            Header::sensitive("authorization", "Bearer s3cret"),
        ];
        let response = send(&["127.0.0.1"], request).await.unwrap();
        let base = format!("http://127.0.0.1:{port}");
        assert_eq!(
            response.hops,
            [(format!("{base}/to/{status}/end"), status), (format!("{base}/end"), 200)]
        );
        let last = seen.lock().unwrap().pop().unwrap();
        assert!(last.starts_with(&format!("{then} /end ")), "{status} {method}: {last}");
        assert!(last.contains("Bearer s3cret"), "the origin is the same: {last}");
        let keeps = then == method && then != "HEAD";
        assert_eq!((last.ends_with(" body"), last.contains("text/plain")), (keeps, then == method), "{last}");
    }
}

#[tokio::test]
async fn credentials_stay_with_their_origin() {
    let ((here, _), (there, seen)) = (serve(None).await, serve(None).await);
    for location in [format!("http://127.0.0.1:{there}/end"), format!("//127.0.0.1:{there}/end")] {
        let mut request = get(format!("http://127.0.0.1:{here}/to/302/?{location}"));
        request.headers = vec![
            Header::sensitive("X-Secret", "s3cret"),
            Header::sensitive("Authorization", "Bearer s3cret"),
            Header::plain("Host", "shop.example"),
            Header::plain("X-Plain", "stays"),
        ];
        let response = send(&["127.0.0.1"], request).await.unwrap();
        assert_eq!((response.status, response.hops.len(), response.remote.port()), (200, 2, there));
        let last = seen.lock().unwrap().pop().unwrap();
        assert_eq!(
            last,
            format!(
                "GET /end host: 127.0.0.1:{there}, x-plain: stays, accept-encoding: gzip, deflate, br, zstd "
            )
        );
    }
}

#[tokio::test]
async fn each_hop_asks_the_grant_anew() {
    let ((here, _), (there, seen)) = (serve(None).await, serve(None).await);
    let granted = format!("127.0.0.1:{here}");
    for (location, says) in [
        (format!("http://127.0.0.1:{there}/"), format!("add allow: [\"127.0.0.1:{there}\"]")),
        ("http://169.254.169.254/latest/meta-data/".to_owned(), "169.254.169.254:80".to_owned()),
        ("http://[::ffff:169.254.169.254]/".to_owned(), "write 169.254.169.254".to_owned()),
        (format!("http://0x7f.1:{there}/"), "write 127.0.0.1".to_owned()),
        ("//2852039166/".to_owned(), "write 169.254.169.254".to_owned()),
        ("file:///etc/passwd".to_owned(), "neither http nor https".to_owned()),
        ("http://user:s3cret@127.0.0.1/".to_owned(), "password".to_owned()),
    ] {
        let failure =
            send(&[&granted], get(format!("http://127.0.0.1:{here}/to/302/?{location}"))).await.unwrap_err();
        assert!(failure.message.contains(&says), "{location}: {}", failure.message);
        assert!(!failure.message.contains("s3cret"), "{}", failure.message);
    }
    assert!(seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn redirects_end_at_their_number() {
    let (port, _) = serve(None).await;
    let mut request = get(format!("http://127.0.0.1:{port}/to/302/to/302/to/302/end"));
    for (most, status, hops) in [(0, 302, 1), (2, 302, 3), (3, 200, 4)] {
        request.max_redirects = most;
        let response = send(&["127.0.0.1"], request.clone()).await.unwrap();
        assert_eq!((response.status, response.hops.len()), (status, hops));
    }
    let response = send(&["127.0.0.1"], get(format!("http://127.0.0.1:{port}/status/304"))).await.unwrap();
    assert_eq!(response.status, 304);
}

#[tokio::test]
async fn https_speaks_both_versions_and_reports_its_session() {
    let root = Authority::root("Root");
    let mut config = root.leaf(&["shop.example"]).config();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let (port, seen) = serve(Some(config)).await;
    let tls = TlsOptions {
        server_name: Some("shop.example".to_owned()),
        ca: Some(root.pem.clone()),
        ..TlsOptions::default()
    };
    for (versions, version) in [(&[][..], "2"), (&["2"], "2"), (&["1.1"], "1.1")] {
        let mut request = get(format!("https://127.0.0.1:{port}/"));
        request.versions = versions.iter().map(ToString::to_string).collect();
        request.tls = Some(tls.clone());
        request.headers = vec![Header::sensitive("authorization", "Basic s3cret")];
        let response = send(&["127.0.0.1"], request).await.unwrap();
        assert_eq!((response.status, response.version.as_str()), (200, version));
        assert_eq!(response.session.unwrap().verified.unwrap().len(), 2);
        assert!(response.timings.handshake.is_some() && response.timings.send.is_some());
        assert!(seen.lock().unwrap().pop().unwrap().contains("Basic s3cret"));
    }
    let mut request = get(format!("https://127.0.0.1:{port}/"));
    let failure = send(&["127.0.0.1"], request.clone()).await.unwrap_err();
    assert_eq!((failure.cause, failure.phase), (Cause::Tls("untrusted".to_owned()), Some(Phase::Handshake)));
    request.tls = Some(TlsOptions { trust: Trust::Unverified, ..tls.clone() });
    assert!(send(&["127.0.0.1"], request.clone()).await.unwrap().session.unwrap().verified.is_ok());
    request.headers = vec![Header::sensitive("authorization", "Basic s3cret")];
    assert_eq!(send(&["127.0.0.1"], request.clone()).await.unwrap_err().cause, Cause::Denied);
    request.tls = Some(TlsOptions { trust: Trust::Recorded, ..tls });
    request.headers.clear();
    assert_eq!(send(&["127.0.0.1"], request).await.unwrap_err().cause, Cause::Denied);
}

#[tokio::test]
async fn the_budget_of_bytes_ends_both_versions() {
    let root = Authority::root("Root");
    let mut config = root.leaf(&["127.0.0.1"]).config();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let (port, _) = serve(Some(config)).await;
    for version in ["2", "1.1"] {
        let mut request = get(format!("https://127.0.0.1:{port}/long/900000"));
        request.versions = vec![version.to_owned()];
        request.tls = Some(TlsOptions { ca: Some(root.pem.clone()), ..TlsOptions::default() });
        request.max_body = 1_000_000;
        let budget = Budget { received: 100_000, ..Budget::default() };
        let small = session_with(&["127.0.0.1"], &["127.0.0.1"], budget, Duration::from_secs(10));
        let failure = small.send(request).await.unwrap_err();
        assert_eq!(failure.cause, Cause::Exhausted, "HTTP/{version}: {failure:?}");
    }
}

#[tokio::test]
async fn a_redirect_to_what_cannot_be_asked_for_is_the_peers_fault() {
    let (port, _) = serve(None).await;
    let long = "x".repeat(70_000);
    let answer = format!("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:{port}/{long}\r\n\r\n");
    let from = raw(answer.leak().as_bytes(), true).await;
    let failure = send(&["127.0.0.1"], get(format!("http://127.0.0.1:{from}/"))).await.unwrap_err();
    assert!(matches!(failure.cause, Cause::Protocol(_)), "{:?}", failure.cause);
    let failure = send(&["127.0.0.1"], get(format!("http://127.0.0.1:{port}/{long}"))).await.unwrap_err();
    assert!(matches!(failure.cause, Cause::Invalid(_)), "{:?}", failure.cause);
}

#[tokio::test]
async fn a_server_without_http_2_is_told_when_it_is_asked_for() {
    let root = Authority::root("Root");
    let mut config = root.leaf(&["127.0.0.1"]).config();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let (port, _) = serve(Some(config)).await;
    let mut request = get(format!("https://127.0.0.1:{port}/"));
    request.versions = vec!["2".to_owned()];
    request.tls = Some(TlsOptions { ca: Some(root.pem.clone()), ..TlsOptions::default() });
    let failure = send(&["127.0.0.1"], request.clone()).await.unwrap_err();
    assert!(matches!(failure.cause, Cause::Tls(_) | Cause::Protocol(_)), "{failure:?}");
    request.versions = vec!["3".to_owned()];
    assert!(send(&["127.0.0.1"], request).await.unwrap_err().message.contains("write \"1.1\" or \"2\""));
}

/// A server that says these bytes to whatever is asked, then waits or closes.
async fn raw(bytes: &'static [u8], close: bool) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut peer = listener.accept().await.unwrap().0;
        let mut asked = [0; 4096];
        let _ = peer.read(&mut asked).await;
        peer.write_all(bytes).await.unwrap();
        if !close {
            let _ = peer.read_to_end(&mut Vec::new()).await;
        }
    });
    port
}

#[tokio::test]
async fn a_peer_that_breaks_http_is_told_apart() {
    async fn failed(session: Session, bytes: &'static [u8], close: bool) -> (Cause, Option<Phase>, String) {
        let port = raw(bytes, close).await;
        let failure = session.send(get(format!("http://127.0.0.1:{port}/"))).await.unwrap_err();
        (failure.cause, failure.phase, failure.message.replace(&port.to_string(), "PORT"))
    }
    let long = || session(&["127.0.0.1"]);
    let short =
        || session_with(&["127.0.0.1"], &["127.0.0.1"], Budget::default(), Duration::from_millis(200));
    let (cause, phase, _) = failed(long(), b"", true).await;
    assert_eq!((cause, phase), (Cause::Closed, Some(Phase::FirstByte)));
    let (cause, _, message) = failed(long(), b"SSH-2.0-OpenSSH_9.2\r\n\r\n", true).await;
    assert!(matches!(cause, Cause::Protocol(_)), "{message}");
    let (cause, phase, _) = failed(long(), b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc", true).await;
    assert_eq!((cause, phase), (Cause::Closed, Some(Phase::Transfer)));
    let (cause, phase, message) = failed(short(), b"", false).await;
    assert_eq!((cause, phase), (Cause::Timeout, Some(Phase::FirstByte)));
    assert!(message.starts_with("timeout in first byte with 127.0.0.1:PORT after 0."), "{message}");
    let (cause, phase, _) = failed(short(), b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc", false).await;
    assert_eq!((cause, phase), (Cause::Timeout, Some(Phase::Transfer)));
    let response = long()
        .send(get(format!("http://127.0.0.1:{}/", raw(b"HTTP/1.0 200 OK\r\n\r\nabc", true).await)))
        .await
        .unwrap();
    assert_eq!((response.version.as_str(), &response.body[..]), ("1.0", &b"abc"[..]));
}

/// What moves the bytes of HTTP/2 ends at the same moment as the exchange that waits for them: the first to go must not speak for both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_over_http_2_is_a_timeout_whoever_hears_of_it_first() {
    // Settings without any, and nothing after them.
    const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    let mut waiting = tokio::task::JoinSet::new();
    for n in 0..400 {
        let port = raw(SETTINGS, false).await;
        let time = Duration::from_millis(100 + n % 50);
        let mut request = get(format!("http://127.0.0.1:{port}/"));
        request.versions = vec!["2".into()];
        waiting.spawn(async move {
            session_with(&["127.0.0.1"], &["127.0.0.1"], Budget::default(), time).send(request).await
        });
    }
    while let Some(sent) = waiting.join_next().await {
        let failure = sent.unwrap().unwrap_err();
        assert_eq!(failure.cause, Cause::Timeout, "{}", failure.message);
    }
}

#[tokio::test]
async fn a_request_that_cannot_be_made_says_what_to_write() {
    let bad = |change: fn(&mut Request)| {
        let mut request = get("http://127.0.0.1:9/");
        change(&mut request);
        request
    };
    for (request, says) in [
        (bad(|r| r.url = "127.0.0.1".into()), "https://example.com/"),
        (bad(|r| r.url = "ftp://127.0.0.1/".into()), "neither http nor https"),
        (bad(|r| r.url = "http://u:s3cret@127.0.0.1/".into()), "write them as auth"),
        (bad(|r| r.url = "http://2130706433/".into()), "write 127.0.0.1"),
        (bad(|r| r.method = "GE T".into()), "not a method"),
        (bad(|r| r.method = "CONNECT".into()), "not a method"),
        (bad(|r| r.headers = vec![Header::plain("a b", "x")]), "not a header's name"),
    ] {
        let failure = send(&["127.0.0.1"], request).await.unwrap_err();
        assert!(failure.message.contains(says), "{}", failure.message);
        assert!(!failure.message.contains("s3cret"), "{}", failure.message);
    }
    let (port, _) = serve(None).await;
    let mut request = get(format!("http://127.0.0.1:{port}/"));
    request.headers = vec![Header::sensitive("x-key", "s3cret\r\nevil: 1")];
    let failure = send(&["127.0.0.1"], request.clone()).await.unwrap_err();
    assert!(failure.message.contains("x-key") && !failure.message.contains("s3cret"), "{}", failure.message);
    assert!(!format!("{request:?}").contains("s3cret"));
}
