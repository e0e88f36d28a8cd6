//! Each server answers once it is started, and is gone once it is dropped.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use picket_servers::*;

fn get(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn refused(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_err()
}

#[test]
fn nginx_serves_its_pages_and_ends() {
    let nginx = Nginx::start(&Authority::new().unwrap()).unwrap();
    assert!(get(nginx.port(), "/").unwrap().contains("Welcome to Picket"));
    assert!(get(nginx.port(), "/private").unwrap().starts_with("HTTP/1.1 401"));
    assert!(get(nginx.port(), "/redirect").unwrap().contains("Location: /\r\n"));
    let (http, https) = (nginx.port(), nginx.tls_port());
    drop(nginx);
    assert!(refused(http) && refused(https));
}

#[test]
fn knot_answers_and_ends() {
    let knot = Knot::start().unwrap();
    let port = knot.port();
    let question =
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x05large\x06picket\x04test\x00\x00\x10\x00\x01";
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.send_to(question, ("127.0.0.1", port)).unwrap();
    let mut answer = [0; 1500];
    socket.recv(&mut answer).unwrap();
    assert_ne!(answer[2] & 0x02, 0, "the large TXT set is truncated over UDP");
    drop(knot);
    assert!(refused(port));
}

#[test]
fn a_pair_replicates_pauses_loses_its_link_and_is_promoted() {
    let begun = std::time::Instant::now();
    let pair = Pair::start(&Authority::new().unwrap()).unwrap();
    println!("started in {:?}", begun.elapsed());
    pair.insert(100).unwrap();
    pair.wait_until_caught_up().unwrap();
    assert_eq!(pair.standby().query("SELECT count(*) FROM demo").unwrap(), "101");
    pair.pause_replay().unwrap();
    pair.resume_replay().unwrap();
    pair.set_link(Link::Cut).unwrap();
    pair.set_link(Link::Up).unwrap();
    pair.promote().unwrap();
    assert_eq!(pair.standby().query("SELECT pg_is_in_recovery()").unwrap(), "f");
    let (primary, standby) = (pair.primary().port(), pair.standby().port());
    drop(pair);
    assert!(refused(primary) && refused(standby));
}

#[test]
fn every_shape_of_a_certificate_can_be_issued() {
    let authority = Authority::new().unwrap();
    for (shape, length) in [
        (Shape::Valid, 2),
        (Shape::ExpiresInDays(3), 2),
        (Shape::IntermediateExpiresInDays(3), 2),
        (Shape::Expired, 2),
        (Shape::NotYetValid, 2),
        (Shape::WrongName, 2),
        (Shape::SelfSigned, 1),
        (Shape::IncompleteChain, 1),
        (Shape::AuthorityAsLeaf, 2),
    ] {
        assert_eq!(authority.issue(shape).unwrap().chain.len(), length, "{shape:?}");
        TlsServer::start(&authority, shape).unwrap();
    }
}

#[test]
fn tcp_services_keep_their_manner() {
    let mut answer = [0; 5];
    let banner = TcpServer::start(Manner::Banner(b"hello".to_vec())).unwrap();
    TcpStream::connect(("127.0.0.1", banner.port())).unwrap().read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"hello");

    let echo = TcpServer::start(Manner::Echo).unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", echo.port())).unwrap();
    stream.write_all(b"again").unwrap();
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"again");

    let reset = TcpServer::start(Manner::Reset).unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", reset.port())).unwrap();
    assert_eq!(stream.read(&mut answer).unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);

    assert!(refused(closed_port().unwrap()));

    let hole = BlackHole::start().unwrap();
    let address = ([127, 0, 0, 1], hole.port()).into();
    let error = TcpStream::connect_timeout(&address, Duration::from_millis(300)).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
}

/// The test runs itself once more; that one starts a program, is killed, and can end nothing.
#[test]
fn a_killed_test_leaves_no_program_behind() {
    const SECOND: &str = "PICKET_SERVERS_SECOND";
    if std::env::var_os(SECOND).is_some() {
        let mut program = leash(Command::new("sleep").arg("1000")).unwrap().spawn().unwrap();
        eprintln!("started {}", program.id());
        program.wait().unwrap();
    }
    let mut second = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_killed_test_leaves_no_program_behind", "--nocapture"])
        .env(SECOND, "1")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(second.stderr.take().unwrap()).lines();
    let started = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("started ")?.parse().ok());
    let program = rustix::process::Pid::from_raw(started.expect("it said what it started")).unwrap();
    rustix::process::test_kill_process(program).expect("the program runs");
    second.kill().unwrap();
    second.wait().unwrap();
    let begun = Instant::now();
    while is_alive(program) {
        assert!(begun.elapsed() < Duration::from_secs(10), "process {program:?} goes on");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// Nobody has to collect what was killed.
fn is_alive(process: rustix::process::Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero()));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}
