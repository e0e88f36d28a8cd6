//! A machine that lacks something: whatever it is, it is never told of the target. Each test runs in a child of this program, with limits
//! or a network of its own.

use std::fs::File;
use std::future::poll_fn;
use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use picket_net::{
    Budget, Cause, Ceiling, Endpoint, Failure, Family, Files, Grant, Network, Phase, Question, Session,
    Settings, Transport,
};
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::rules;

/// Runs the test of that name once more behind this script, which says what the child lacks.
///
/// # Panics
/// When the child failed.
fn lacking(test: &str, network: bool, script: &str) {
    if network && !is_possible() {
        // At home the table of errors in `errno` is tested without one.
        assert!(
            std::env::var_os("CI").is_none(),
            "there is no network of one's own here: install util-linux, iproute2 and nftables"
        );
        return;
    }
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new(if network { "unshare" } else { "env" });
    if network {
        command.args(["--user", "--map-root-user", "--net"]);
    }
    command.args(["sh", "-ec", &format!("{script}\nexec \"$0\" \"$@\"")]).arg(program);
    let out = command.args(["--exact", test, "--nocapture"]).env(MARK, "1").output().unwrap();
    let said = [out.stdout, out.stderr].concat();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&said));
}

/// Whether this machine allows networks of one's own.
fn is_possible() -> bool {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--net", "sh", "-c", "ip link set lo up && nft list ruleset"]);
    command.output().is_ok_and(|out| out.status.success())
}

fn is_child() -> bool {
    std::env::var_os(MARK).is_some()
}

/// May reach all that a test wants to; the machine's own name server is nobody.
fn session() -> Session {
    session_asking("127.0.0.1:9")
}

fn session_asking(server: &str) -> Session {
    let targets = rules(&["0.0.0.0/0", "::/0", "localhost", "shop.test"]);
    let names = vec!["shop.test".parse().unwrap()];
    let resolvers = ["127.0.0.1", "::1", "2001:db8:1::2"].map(|ip| ip.parse().unwrap()).into();
    let grant = Grant { targets, names, resolvers, ..Grant::default() };
    let allow = rules(&["127.0.0.0/8", "::1", "0.0.0.0/0", "::/0"]);
    let ceiling = Ceiling { allow, files: Files::All, ..Ceiling::default() };
    let settings = Settings { ceiling, resolver: Some(vec![server.parse().unwrap()]) };
    let ends = Instant::now() + Duration::from_secs(10);
    Network::new(settings).unwrap().session(grant, Budget::default(), ends)
}

async fn failed(session: &Session, host: &str, port: u16) -> Failure {
    session.connect(Endpoint::new(host, port), Family::Any).await.unwrap_err()
}

#[track_caller]
fn check_ours(failure: &Failure, words: &str) {
    assert!(matches!(failure.cause, Cause::Other(_)), "{failure:?}");
    assert!(failure.message.contains(words), "{failure}");
}

fn question(server: &str, transport: Transport) -> Question {
    Question {
        name: "shop.test".to_owned(),
        kind: "A".to_owned(),
        server: Some(server.to_owned()),
        transport,
        recursion_desired: true,
        dnssec_ok: false,
        tls: Default::default(),
    }
}

#[tokio::test]
async fn a_machine_without_a_free_port_does_not_call_its_target_unreachable() {
    if !is_child() {
        let script = "ip link set lo up\necho 40000 40000 > /proc/sys/net/ipv4/ip_local_port_range";
        return lacking(
            "machine::a_machine_without_a_free_port_does_not_call_its_target_unreachable",
            true,
            script,
        );
    }
    // Above the range that connections are made from.
    let listener = TcpListener::bind("127.0.0.1:50000").await.unwrap();
    let session = session();
    let _kept = session.connect(Endpoint::new("127.0.0.1", 50000), Family::Any).await.unwrap();
    check_ours(&failed(&session, "127.0.0.1", 50000).await, "no free port");
    check_ours(&session.ask(question("127.0.0.1:50000", Transport::Tcp)).await.unwrap_err(), "no free port");
    // The other address of the name refuses, but nobody knows what this one would have done.
    check_ours(&failed(&session, "localhost", 50000).await, "no free port");
    // Of a name server that is to be asked again over TCP.
    let udp = tokio::net::UdpSocket::bind("127.0.0.1:50000").await.unwrap();
    tokio::spawn(async move {
        let mut bytes = [0; 512];
        loop {
            let (length, from) = udp.recv_from(&mut bytes).await.unwrap();
            // QR and TC (RFC 1035, section 4.1.1).
            bytes[2] |= 0x82;
            udp.send_to(&bytes[..length], from).await.unwrap();
        }
    });
    let failure = failed(&session_asking("127.0.0.1:50000"), "shop.test", 80).await;
    check_ours(&failure, "no free port");
    assert_eq!(failure.phase, Some(Phase::Resolve));
    drop(listener);
}

#[tokio::test]
async fn a_machine_without_ipv6_reaches_half_of_a_name() {
    if !is_child() {
        let script = "ip link set lo up\necho 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6";
        return lacking("machine::a_machine_without_ipv6_reaches_half_of_a_name", true, script);
    }
    let session = session();
    let failure = session.ask(question("[::1]:53", Transport::Udp)).await.unwrap_err();
    assert_eq!(failure.cause, Cause::Unreachable, "{failure}");
    assert_eq!(failed(&session, "localhost", 50000).await.cause, Cause::Refused);
    let failure = failed(&session, "::1", 50000).await;
    assert_eq!(failure.cause, Cause::Unreachable, "{failure}");
    assert!(failure.message.contains("no address of its kind"), "{failure}");
    // A name server that this machine has no way to is down for it as any other host.
    let failure = failed(&session_asking("[::1]:53"), "shop.test", 80).await;
    assert_eq!((failure.cause, failure.phase), (Cause::Unreachable, Some(Phase::Resolve)));
    let mut socket = session.datagrams(true).unwrap();
    let peer = "[::1]:53".parse().unwrap();
    socket.permit(peer).await.unwrap();
    let failure = poll_fn(|cx| socket.poll_send(cx, b"?", peer)).await.unwrap_err();
    assert_eq!(failure.cause, Cause::Unreachable, "{failure}");
}

#[tokio::test]
async fn what_this_machine_forbids_is_not_the_targets_and_what_a_router_forbids_is() {
    if !is_child() {
        let script = "ip link set lo up\nip route add prohibit 192.0.2.1\nip -6 route add prohibit 2001:db8::1
            ip -6 addr add 2001:db8:1::1 dev lo\nip -6 route add local 2001:db8:1::2 dev lo
            nft add table inet t
            nft 'add chain inet t out { type filter hook output priority 0; }'
            nft 'add chain inet t in { type filter hook input priority 0; }'
            nft add rule inet t out udp dport 53 drop
            nft add rule inet t in ip6 daddr 2001:db8:1::2 tcp dport 80 reject with icmpv6 type admin-prohibited";
        let name = "machine::what_this_machine_forbids_is_not_the_targets_and_what_a_router_forbids_is";
        return lacking(name, true, script);
    }
    let session = session();
    for host in ["192.0.2.1", "2001:db8::1"] {
        check_ours(&failed(&session, host, 80).await, "a route or a security policy of its own");
    }
    check_ours(&session.ask(question("127.0.0.1:53", Transport::Udp)).await.unwrap_err(), "a firewall rule");
    let failure = failed(&session_asking("127.0.0.1:53"), "shop.test", 80).await;
    check_ours(&failure, "cannot look up shop.test: nothing is known of the name server 127.0.0.1:53: ");
    check_ours(&failure, "a firewall rule");
    let failure = session.ask(question("[2001:db8:1::2]:80", Transport::Tcp)).await.unwrap_err();
    assert_eq!(failure.cause, Cause::Unreachable, "{failure}");
    assert!(failure.message.contains("prohibits it"), "{failure}");
    let failure = failed(&session, "2001:db8:1::2", 80).await;
    assert_eq!(failure.cause, Cause::Unreachable, "{failure}");
}

#[tokio::test]
async fn a_process_without_a_free_descriptor_knows_nothing_of_its_target() {
    if !is_child() {
        let name = "machine::a_process_without_a_free_descriptor_knows_nothing_of_its_target";
        return lacking(name, false, "ulimit -n 64");
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let session = session();
    let kept: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    let raise = "raise LimitNOFILE";
    check_ours(&failed(&session, "127.0.0.1", port).await, raise);
    check_ours(&failed(&session, "shop.test", port).await, raise);
    for transport in [Transport::Udp, Transport::Tcp] {
        let server = format!("127.0.0.1:{port}");
        check_ours(&session.ask(question(&server, transport)).await.unwrap_err(), raise);
    }
    check_ours(&session.datagrams(false).unwrap_err(), raise);
    drop(kept);
    assert_eq!(
        session.connect(Endpoint::new("127.0.0.1", port), Family::Any).await.unwrap().remote().ip(),
        IpAddr::from([127, 0, 0, 1])
    );
}

const MARK: &str = "PICKET_NET_LACKING";
