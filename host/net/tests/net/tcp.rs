//! Connections: refused, reset, black-holed, closed; budgets; who is dialled.

use std::net::SocketAddr;
use std::time::Duration;

use picket_net::{Budget, Cause, Endpoint, Failure, Family, Phase, Session};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::{session, session_with};

/// A server that does this with its first connection.
async fn server<F: Future<Output = ()> + Send>(
    play: impl FnOnce(TcpStream) -> F + Send + 'static,
) -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { play(listener.accept().await.unwrap().0).await });
    Endpoint::new("127.0.0.1", port)
}

async fn failed(session: &Session, to: Endpoint) -> Failure {
    session.connect(to, Family::Any).await.unwrap_err()
}

#[tokio::test]
async fn a_dialogue_is_measured() {
    let to = server(|mut peer| async move {
        peer.write_all(b"hello\r\n").await.unwrap();
        let mut line = [0; 6];
        peer.read_exact(&mut line).await.unwrap();
        peer.write_all(&line).await.unwrap();
    })
    .await;
    let session = session(&["127.0.0.1"]);
    let mut connection = session.connect(to.clone(), Family::Any).await.unwrap();
    assert_eq!(connection.remote().port(), to.port);
    assert_eq!(connection.read_exact(7).await.unwrap(), b"hello\r\n");
    connection.write(b"QUIT\r\n", false).await.unwrap();
    assert_eq!(connection.read(1024).await.unwrap(), b"QUIT\r\n");
    assert_eq!(connection.read(1024).await.unwrap(), b"");
    let (timings, measured) = (connection.timings(), session.measured());
    assert!(timings.connect.is_some() && timings.send.is_some() && timings.first_byte.is_some());
    assert!(timings.resolve.is_none() && timings.handshake.is_none());
    assert_eq!((measured.received, measured.connections), (13, 1));
    assert_eq!(measured.remote, Some(connection.remote()));
    assert_eq!(measured.phases.connect, timings.connect);
}

#[tokio::test]
async fn a_closed_port_is_refused() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let failure = failed(&session(&["127.0.0.1"]), Endpoint::new("127.0.0.1", closed)).await;
    assert_eq!((failure.cause, failure.phase), (Cause::Refused, Some(Phase::Connect)));
    assert_eq!(failure.message, format!("127.0.0.1:{closed} refused the connection (connect)"));
}

/// Where SYNs are dropped: a listener whose backlog is full. It lasts as long as what is given back.
pub(crate) async fn black_hole() -> (SocketAddr, (TcpListener, Vec<TcpStream>)) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut fillers = Vec::new();
    while let Ok(Ok(filler)) =
        tokio::time::timeout(Duration::from_millis(100), TcpStream::connect(address)).await
    {
        fillers.push(filler);
    }
    (address, (listener, fillers))
}

#[tokio::test]
async fn a_black_hole_is_a_timeout_in_connect() {
    let (address, _kept) = black_hole().await;
    let session = session_with(&["127.0.0.1"], &["127.0.0.1"], Budget::default(), Duration::from_millis(300));
    let failure = failed(&session, Endpoint::new("127.0.0.1", address.port())).await;
    assert_eq!((failure.cause, failure.phase), (Cause::Timeout, Some(Phase::Connect)));
    assert!(
        failure.message.starts_with(&format!("timeout in connect with {address} after 0.")),
        "{}",
        failure.message
    );
}

#[tokio::test]
async fn a_silent_server_is_a_timeout_in_first_byte() {
    let to = server(|mut peer| async move { drop(peer.read_to_end(&mut Vec::new()).await) }).await;
    let session = session_with(&["127.0.0.1"], &["127.0.0.1"], Budget::default(), Duration::from_millis(200));
    let mut connection = session.connect(to, Family::Any).await.unwrap();
    let failure = connection.read(1).await.unwrap_err();
    assert_eq!((failure.cause, failure.phase), (Cause::Timeout, Some(Phase::FirstByte)));
    assert!(session.measured().phases.first_byte.unwrap() > Duration::ZERO, "a timeout is measured too");
}

#[tokio::test]
async fn a_reset_is_a_reset() {
    let to = server(|peer| async move { peer.set_zero_linger().unwrap() }).await;
    let mut connection = session(&["127.0.0.1"]).connect(to, Family::Any).await.unwrap();
    assert_eq!(connection.read(1).await.unwrap_err().cause, Cause::Reset);
}

#[tokio::test]
async fn an_early_end_is_closed() {
    let to = server(|mut peer| async move { peer.write_all(b"abc").await.unwrap() }).await;
    let mut connection = session(&["127.0.0.1"]).connect(to, Family::Any).await.unwrap();
    let failure = connection.read_exact(4).await.unwrap_err();
    assert_eq!(failure.cause, Cause::Closed);
    assert!(failure.message.contains("after 3 of 4 bytes"), "{}", failure.message);
}

#[tokio::test]
async fn a_server_that_says_too_much_exhausts_the_run() {
    let to = server(|mut peer| async move { while peer.write_all(&[b'x'; 4096]).await.is_ok() {} }).await;
    let budget = Budget { received: 10_000, ..Budget::default() };
    let session = session_with(&["127.0.0.1"], &["127.0.0.1"], budget, Duration::from_secs(10));
    let mut connection = session.connect(to, Family::Any).await.unwrap();
    let failure = connection.read_exact(1_000_000).await.unwrap_err();
    assert_eq!(failure.cause, Cause::Exhausted);
    assert!(failure.message.contains("10000 bytes"), "{}", failure.message);
}

#[tokio::test]
async fn connections_are_counted_over_the_whole_session() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = Endpoint::new("127.0.0.1", listener.local_addr().unwrap().port());
    let budget = Budget { connections: 2, ..Budget::default() };
    let session = session_with(&["127.0.0.1"], &["127.0.0.1"], budget, Duration::from_secs(10));
    for _ in 0..2 {
        session.clone().connect(to.clone(), Family::Any).await.unwrap();
    }
    assert_eq!(failed(&session, to).await.cause, Cause::Exhausted);
}

#[tokio::test]
async fn a_denied_target_gets_no_packet_and_is_noted() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let closed = session_with(&["0.0.0.0/0"], &[], Budget::default(), Duration::from_secs(10));
    for host in ["127.0.0.1", "localhost"] {
        let failure = failed(&closed, Endpoint::new(host, port)).await;
        assert_eq!(failure.cause, Cause::Denied);
        assert!(failure.message.contains("--allow 127.0.0.1 "), "{}", failure.message);
    }
    for host in ["0x7f.1", "2130706433", "::ffff:127.0.0.1", "127.1"] {
        let failure = failed(&closed, Endpoint::new(host, port)).await;
        assert_eq!(failure.cause, Cause::Denied);
        assert!(failure.message.contains("write 127.0.0.1"), "{}", failure.message);
    }
    assert_eq!((closed.measured().denials.len(), closed.measured().connections), (6, 0));
    let accepted = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
    assert!(accepted.is_err(), "somebody connected");
}

#[tokio::test]
async fn a_name_tries_its_next_address_when_one_refuses() {
    // localhost is ::1 and 127.0.0.1; only the second listens.
    let to = server(|mut peer| async move { peer.write_all(b"v4").await.unwrap() }).await;
    let session = session(&["localhost"]);
    let mut connection = session.connect(Endpoint::new("localhost", to.port), Family::Any).await.unwrap();
    assert!(connection.remote().is_ipv4());
    assert_eq!(connection.read(9).await.unwrap(), b"v4");
    assert!(connection.timings().resolve.is_some());
    // The name is remembered: no second lookup.
    let failure = failed(&session, Endpoint::new("localhost", to.port)).await;
    assert_eq!(failure.cause, Cause::Refused);
}

#[tokio::test]
async fn a_family_limits_what_is_dialled() {
    let failure =
        session(&["127.0.0.1"]).connect(Endpoint::new("127.0.0.1", 9), Family::V6).await.unwrap_err();
    assert_eq!(failure.cause, Cause::Dns(0));
    assert!(failure.message.contains("no IPv6 address"), "{}", failure.message);
}

#[tokio::test]
async fn a_name_that_no_server_answers_for_is_a_timeout_in_resolve() {
    let session = session_with(&["nowhere.example"], &[], Budget::default(), Duration::from_millis(300));
    let failure = failed(&session, Endpoint::new("nowhere.example", 80)).await;
    assert_eq!((failure.cause, failure.phase), (Cause::Timeout, Some(Phase::Resolve)), "{}", failure.message);
}

#[test]
fn a_network_can_be_made_before_anything_runs() {
    picket_net::Network::new(picket_net::Settings::default()).unwrap();
}
