//! G7: connections without end, peers that never finish, and what is left of them when the run is over: nothing.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use net::Ceiling;
use picket_hostile::{Guest, SCRATCH, job};
use sandbox::{Fault, Job, Report, Sandbox, Settings, Verdict};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::{LOOP, check};

const TCP: &str = r#"
    (import "picket:net/tcp@0.1.0" "connect" (func $connect (param i32 i32 i32 i32 i32)))
    (import "picket:net/tcp@0.1.0" "[method]connection.read" (func $read (param i32 i32 i32)))
    (import "picket:net/tcp@0.1.0" "[method]connection.read-exact" (func $read_exact (param i32 i32 i32)))
    (import "picket:net/tcp@0.1.0" "[method]connection.write" (func $write (param i32 i32 i32 i32)))
    (import "picket:net/tcp@0.1.0" "[resource-drop]connection" (func $close (param i32)))"#;

/// Where a guest's host stands, and where it wants its answers.
const HOST: usize = SCRATCH + 256;
const ANSWER: usize = SCRATCH;
/// The place of a cause behind that of an answer.
const CAUSE: usize = SCRATCH + 4;
/// As the contract numbers them.
const TIMEOUT: u32 = 0;
const EXHAUSTED: u32 = 6;

/// Ends the run as a crash unless the last answer was an error with that cause.
fn must_be(cause: u32) -> String {
    format!(
        "(if (i32.eqz (i32.load8_u (i32.const {ANSWER}))) (then (unreachable)))
         (if (i32.ne (i32.load8_u (i32.const {CAUSE})) (i32.const {cause})) (then (unreachable)))"
    )
}

/// Runs a guest that may reach a peer, whose port it finds as `$attempt`.
async fn run_against(peer: SocketAddr, items: &str, run: &str, timeout: Duration) -> Report {
    let ceiling = Ceiling { allow: vec!["127.0.0.1".parse().unwrap()], ..Ceiling::default() };
    // Nobody listens there: no test asks the machine's own name servers.
    let resolver = Some(vec!["127.0.0.1:9".parse().unwrap()]);
    let network = net::Network::new(net::Settings { ceiling, resolver }).unwrap();
    let sandbox = Sandbox::new(Settings { slots: 4, ..Settings::default() }, network).unwrap();
    let items = format!("(data (i32.const {HOST}) \"127.0.0.1\") {items}");
    let guest = Guest { imports: TCP, items: &items, run, ..Guest::default() };
    let plugin = sandbox.load(&guest.component()).await.unwrap();
    let allow = [peer.to_string(), "*.example".to_owned()];
    let grant = plugin.schema.grant(&json!({}), &allow).unwrap();
    sandbox
        .run(&plugin, Job { grant: grant.into(), attempt: peer.port().into(), ..job(json!({}), timeout) })
        .await
}

/// A peer that treats each of its connections like that, and closes it when the other side does.
async fn peer<F, T>(treat: F) -> SocketAddr
where
    F: Fn(TcpStream) -> T + Send + 'static,
    T: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(treat(stream));
        }
    });
    address
}

/// Says nothing, and waits for the end.
async fn silent(mut stream: TcpStream) {
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

/// Sends as fast as it can, for ever.
async fn endless(mut stream: TcpStream) {
    let bytes = vec![b'x'; 65_536];
    while stream.write_all(&bytes).await.is_ok() {}
}

/// Connections that this machine has to the peer, as `ss` counts them without those that only wait for their time to be over.
fn open_to(peer: SocketAddr) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let ends = format!(":{:04X}", peer.port());
    let is_open = |line: &&str| {
        let mut fields = line.split_whitespace().skip(2);
        let (remote, state) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        remote.ends_with(&ends) && !matches!(state, "06" | "07")
    };
    table.lines().skip(1).filter(is_open).count()
}

/// Soon nothing is open to the peer.
async fn all_is_closed(peer: SocketAddr) {
    let patience = Instant::now() + Duration::from_secs(10);
    while open_to(peer) > 0 {
        assert!(Instant::now() < patience, "{} connections are still open", open_to(peer));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[track_caller]
fn fine(report: &Report) {
    assert!(matches!(report.verdict, Verdict::Outcome(_)), "{report:?}");
}

/// One more connection to the peer.
fn connect() -> String {
    format!(
        "(call $connect (i32.const {HOST}) (i32.const 9) (local.get $attempt) (i32.const 0) (i32.const {ANSWER}))"
    )
}

#[tokio::test]
async fn a_storm_of_connections_ends_at_its_budget_and_leaves_none() {
    let peer = peer(silent).await;
    let connect = connect();
    for close in ["", "(call $close (i32.load (i32.const 260)))"] {
        // Closing one makes no room for another: what counts is how many were made.
        let run = format!(
            "(local $made i32)
             (block $refused (loop $more
               {connect}
               (br_if $refused (i32.load8_u (i32.const {ANSWER})))
               {close}
               (local.set $made (i32.add (local.get $made) (i32.const 1)))
               (br $more)))
             (if (i32.ne (local.get $made) (i32.const 16)) (then (unreachable)))
             {}
             (loop $again {connect} {}
               (local.set $made (i32.add (local.get $made) (i32.const 1)))
               (br_if $again (i32.lt_u (local.get $made) (i32.const 200))))",
            must_be(EXHAUSTED),
            must_be(EXHAUSTED),
        );
        assert_eq!(CAUSE, 260, "where the handle lies too");
        let report = run_against(peer, "", &run, PATIENT).await;
        fine(&report);
        assert_eq!(report.measured.connections, 16, "{report:?}");
        all_is_closed(peer).await;
    }
}

#[tokio::test]
async fn connections_of_a_run_that_crashed_or_was_cut_off_are_closed() {
    let peer = peer(silent).await;
    let (connect, open) = (connect(), (0..8).map(|_| connect()).collect::<String>());
    let report = run_against(peer, "", &format!("{open} (unreachable)"), PATIENT).await;
    check(&report, &Fault::Trap("unreachable".into()));
    assert_eq!(report.measured.connections, 8, "{report:?}");
    all_is_closed(peer).await;
    let report = run_against(peer, "", &format!("{connect} {LOOP}"), Duration::from_millis(200)).await;
    check(&report, &Fault::Wall);
    all_is_closed(peer).await;
    // In the middle of a call that waits.
    let wait = format!(
        "{connect} (call $read (i32.load (i32.const {CAUSE})) (i32.const 1) (i32.const {ANSWER})) {}",
        must_be(TIMEOUT)
    );
    fine(&run_against(peer, "", &wait, Duration::from_millis(200)).await);
    all_is_closed(peer).await;
}

#[tokio::test]
async fn a_peer_that_sends_one_byte_at_a_time_is_given_up_at_the_deadline() {
    let peer = peer(async |mut stream: TcpStream| {
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let run = format!(
        "{} (call $read_exact (i32.load (i32.const {CAUSE})) (i32.const 1000000) (i32.const {ANSWER})) {}",
        connect(),
        must_be(TIMEOUT),
    );
    let report = run_against(peer, "", &run, Duration::from_millis(500)).await;
    fine(&report);
    assert!(report.duration >= Duration::from_millis(500), "{report:?}");
    assert!(report.measured.received < 1000, "{report:?}");
    all_is_closed(peer).await;
}

#[tokio::test]
async fn a_peer_that_never_ends_is_given_up_at_the_budget() {
    let peer = peer(endless).await;
    for read in [
        "(call $read (local.get $handle) (i32.const 1048576) (i32.const 256))",
        "(call $read_exact (local.get $handle) (i32.const -1) (i32.const 256))",
    ] {
        let run = format!(
            "(local $handle i32) {} (local.set $handle (i32.load (i32.const {CAUSE})))
             (loop $more {read} (br_if $more (i32.eqz (i32.load8_u (i32.const {ANSWER}))))) {}",
            connect(),
            must_be(EXHAUSTED),
        );
        let report = run_against(peer, "", &run, PATIENT).await;
        fine(&report);
        // The byte too many says that there were more.
        assert_eq!(report.measured.received, (10 << 20) + 1, "{report:?}");
        all_is_closed(peer).await;
    }
}

#[tokio::test]
async fn a_peer_that_never_reads_is_given_up_at_the_deadline() {
    // It accepts and does nothing, until the other side is gone.
    let peer = peer(async |stream: TcpStream| {
        let _ = stream.ready(tokio::io::Interest::ERROR).await;
    })
    .await;
    let run = format!(
        "(local $handle i32) {} (local.set $handle (i32.load (i32.const {CAUSE})))
         (drop (memory.grow (i32.const 32)))
         (loop $more
           (call $write (local.get $handle) (i32.const 0) (i32.const 1000000) (i32.const {ANSWER}))
           (br_if $more (i32.eqz (i32.load8_u (i32.const {ANSWER}))))) {}",
        connect(),
        must_be(TIMEOUT),
    );
    let report = run_against(peer, "", &run, Duration::from_millis(700)).await;
    fine(&report);
    assert!(report.duration >= Duration::from_millis(700), "{report:?}");
}

#[tokio::test]
async fn a_storm_of_names_ends_at_its_budget() {
    let peer = peer(silent).await;
    // Each name is another one; four lookups for each connection that a run may make.
    let name = HOST + 64;
    let items = format!("(data (i32.const {name}) \"aaaa.example\")");
    let run = format!(
        "(local $n i32)
         (loop $more
           (i32.store8 (i32.const {name}) (i32.add (i32.const 97) (i32.rem_u (local.get $n) (i32.const 26))))
           (i32.store8 (i32.const {second}) (i32.add (i32.const 97) (i32.div_u (local.get $n) (i32.const 26))))
           (call $connect (i32.const {name}) (i32.const 12) (local.get $attempt) (i32.const 0) (i32.const {ANSWER}))
           (if (i32.eqz (i32.load8_u (i32.const {ANSWER}))) (then (unreachable)))
           (local.set $n (i32.add (local.get $n) (i32.const 1)))
           (br_if $more (i32.ne (i32.load8_u (i32.const {CAUSE})) (i32.const {EXHAUSTED}))))
         (if (i32.ne (local.get $n) (i32.const 65)) (then (unreachable)))",
        second = name + 1,
    );
    let report = run_against(peer, &items, &run, Duration::from_secs(60)).await;
    fine(&report);
    assert_eq!(report.measured.connections, 0, "{report:?}");
}

/// Enough for whoever does not wait.
const PATIENT: Duration = Duration::from_secs(10);
