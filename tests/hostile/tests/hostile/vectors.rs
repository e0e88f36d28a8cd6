//! G8: every spelling, wrapping, alias and redirect of an address that is always denied, carried to every door. All are refused, and no packet
//! leaves: in a network where every address would answer, which is counted by who listens and by `nft`.
//!
//! A vector is a line of `vectors.txt`. The grant of these runs names everything: what denies is nothing but the address.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use net::{Ceiling, Host};
use picket_hostile::network::{Counter, delegated, is_own};
use picket_hostile::{Attempt, Door, Step, Zone, job};
use sandbox::{Job, Plugin, Sandbox, Settings};
use serde_json::json;

const VECTORS: &str = include_str!("../../vectors.txt");

/// A line.
struct Vector {
    kind: &'static str,
    text: String,
    /// What the name server says of it.
    steps: Vec<Step>,
}

fn vectors() -> Vec<Vector> {
    let lines = VECTORS.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let vectors = lines.map(|line| {
        let (kind, rest) = line.split_once(' ').unwrap_or_else(|| panic!("a kind and a text: {line}"));
        let (text, steps) = rest.split_once(" -> ").unwrap_or((rest, ""));
        let step = |word: &str| word.parse().map_or_else(|_| Step::Alias(word.to_owned()), Step::Address);
        Vector { kind, text: text.replace("\\t", "\t"), steps: steps.split_whitespace().map(step).collect() }
    });
    vectors.collect()
}

/// What the doors lead to in these tests.
struct Field {
    sandbox: Sandbox,
    plugins: HashMap<&'static str, Arc<Plugin>>,
    /// Redirects to where `location` says.
    redirecting: SocketAddr,
    location: Arc<Mutex<String>>,
    zone: Zone,
}

impl Field {
    async fn new(vectors: &[Vector]) -> Field {
        let names: HashMap<String, Vec<Step>> = vectors
            .iter()
            .filter(|vector| !vector.steps.is_empty())
            .filter_map(|vector| match host_of(vector).parse() {
                Ok(Host::Name(name)) => Some((name, vector.steps.clone())),
                _ => None,
            })
            .collect();
        let zone =
            Zone::start((Ipv4Addr::LOCALHOST, 0).into(), move |name| names.get(name).cloned()).unwrap();
        let location = Arc::new(Mutex::new(String::new()));
        let redirecting = redirecting(location.clone());
        // Exactly the server that redirects is open, on its port; nothing else of what is always denied.
        let ceiling = Ceiling { allow: vec![redirecting.to_string().parse().unwrap()], ..Ceiling::default() };
        let resolver = Some(vec![zone.address()]);
        let network = net::Network::new(net::Settings { ceiling, resolver }).unwrap();
        let sandbox = Sandbox::new(Settings { slots: 4, ..Settings::default() }, network).unwrap();
        let mut plugins = HashMap::new();
        for door in Door::ALL {
            let plugin = sandbox.load(&door.guest().component()).await.unwrap();
            plugins.insert(name(door), plugin);
        }
        Field { sandbox, plugins, redirecting, location, zone }
    }

    /// What a guest says that carries the target to the door.
    async fn attempt(&self, door: Door, target: &str, port: u16, allow: &[&str]) -> Attempt {
        let plugin = &self.plugins[name(door)];
        let allow: Vec<_> = allow.iter().map(ToString::to_string).collect();
        let mut grant = plugin.schema.grant(&json!({}), &allow).unwrap();
        grant.resolvers.clone_from(&grant.targets);
        grant.names = vec!["*.test".parse().unwrap()];
        let job = Job {
            monitor: target.to_owned(),
            attempt: port.into(),
            grant: grant.into(),
            ..job(json!({}), Duration::from_secs(10))
        };
        let report = self.sandbox.run(plugin, job).await;
        Door::attempt(&report.verdict)
    }
}

fn name(door: Door) -> &'static str {
    match door {
        Door::Tcp => "picket:net/tcp",
        Door::Http => "picket:net/http",
        Door::Dns => "picket:net/dns",
        Door::Lookup => "wasi:sockets/ip-name-lookup",
        Door::Connect => "wasi:sockets/tcp",
        Door::Datagram => "wasi:sockets/udp",
        Door::WasiHttp => "wasi:http",
    }
}

/// The host that a vector is about.
fn host_of(vector: &Vector) -> &str {
    let text = vector.text.trim();
    let text = text.split_once("://").map_or(text, |(_, rest)| rest);
    text.split('/').next().unwrap_or_default()
}

/// A server that redirects whoever comes.
fn redirecting(location: Arc<Mutex<String>>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let to = location.lock().unwrap().clone();
            answer(
                stream,
                &format!(
                    "HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                ),
            );
        }
    });
    address
}

fn answer(mut stream: TcpStream, with: &str) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let _ = stream.read(&mut [0; 4096]);
    let _ = stream.write_all(with.as_bytes());
}

/// Answers on port 80 of every address that this machine has; in a network of our own, of all there are.
fn everywhere() -> Arc<AtomicU32> {
    let came = Arc::new(AtomicU32::new(0));
    for any in [IpAddr::from(Ipv6Addr::UNSPECIFIED), Ipv4Addr::UNSPECIFIED.into()] {
        // The first takes both families on most machines, and the second is in use then.
        let Ok(listener) = TcpListener::bind((any, 80)) else { continue };
        let came = came.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                came.fetch_add(1, Ordering::SeqCst);
                answer(stream, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            }
        });
    }
    came
}

/// As a URL has it.
fn bracketed(host: &str) -> String {
    match host.contains(':') && !host.starts_with('[') {
        true => format!("[{host}]"),
        false => host.to_owned(),
    }
}

/// The digits by which the guests are told an address.
fn digits(ip: IpAddr) -> String {
    let octets = match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

const EVERYTHING: &[&str] =
    &["0.0.0.0/0", "::/0", "*.test", "test", "localhost", "*.localhost", "*.internal", "socalhost.test"];
/// What has a name is granted by it alone: an address of it would be granted by itself otherwise.
const NAMES: &[&str] = &["*.test", "localhost", "*.localhost", "*.internal"];

#[tokio::test]
async fn no_vector_gets_through_any_door() {
    if delegated("vectors::no_vector_gets_through_any_door") {
        return;
    }
    let vectors = vectors();
    assert!(vectors.len() >= 200, "{} vectors", vectors.len());
    let field = Field::new(&vectors).await;
    let came = if is_own() { everywhere() } else { Arc::default() };
    let counter = Counter::start(&[field.zone.address(), field.redirecting]);
    let (mut attempts, mut wrong) = (0, Vec::new());
    for vector in &vectors {
        let text = vector.text.as_str();
        let allow = if vector.steps.is_empty() { EVERYTHING } else { NAMES };
        let mut tries = Vec::new();
        if vector.kind == "host" {
            let url = format!("http://{}/", bracketed(text));
            tries.push((Door::Tcp, text.to_owned(), 80));
            tries.push((Door::Http, url.clone(), 80));
            tries.push((Door::Dns, text.to_owned(), 53));
            tries.push((Door::Dns, format!("{}:80", bracketed(text)), 80));
            tries.push((Door::Lookup, text.to_owned(), 80));
            tries.push((Door::WasiHttp, bracketed(text), 80));
            if let Ok(ip) = text.parse() {
                tries.push((Door::Connect, digits(ip), 80));
                tries.push((Door::Datagram, digits(ip), 53));
            }
            for address in &vector.steps {
                if let Step::Address(ip) = address
                    && net::classify(*ip) != net::Class::Open
                {
                    tries.push((Door::Connect, digits(*ip), 80));
                    tries.push((Door::Datagram, digits(*ip), 80));
                }
            }
            redirect(&field, &url, allow, &mut attempts, &mut wrong).await;
        } else {
            tries.push((Door::Http, text.to_owned(), 80));
            let authority = text.split_once("//").map_or(text, |(_, rest)| rest.trim_end_matches('/'));
            tries.push((Door::WasiHttp, authority.to_owned(), 80));
            redirect(&field, text, allow, &mut attempts, &mut wrong).await;
        }
        for (door, target, port) in tries {
            attempts += 1;
            match field.attempt(door, &target, port, allow).await {
                Attempt::Refused(code) if door.refuses(code) => {}
                other => wrong.push(format!("{}: {target:?} on {port}: {other:?}", name(door))),
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {attempts} attempts:\n{}", wrong.len(), wrong.join("\n"));
    let packets = counter.as_ref().map_or(0, Counter::packets);
    println!(
        "{} vectors, {attempts} attempts, {} connections, {packets} packets",
        vectors.len(),
        came.load(Ordering::SeqCst)
    );
    assert_eq!((came.load(Ordering::SeqCst), packets), (0, 0), "connections and packets to denied addresses");
    if let Some(counter) = counter {
        the_doors_lead_out_and_the_counters_count(&field, &came, &counter).await;
    }
}

async fn redirect(field: &Field, to: &str, allow: &[&str], attempts: &mut u32, wrong: &mut Vec<String>) {
    // A header's value has no line in it, and what is not ASCII is percent-encoded by nobody.
    // And "http:x" is a path of the page that says it.
    let rest = to.strip_prefix("http:").unwrap_or("//");
    if to.contains(['\t', '\n']) || !rest.starts_with("//") && !rest.starts_with("\\") {
        return;
    }
    field.location.lock().unwrap().clone_from(&to.to_owned());
    let from = field.redirecting.to_string();
    let allow: Vec<_> = allow.iter().copied().chain([from.as_str()]).collect();
    *attempts += 1;
    match field.attempt(Door::Http, &format!("http://{from}/"), 80, &allow).await {
        // Denied, or nothing that the peer may say at all: another scheme, a text that is no URL.
        Attempt::Refused(1 | 9) => {}
        other => wrong.push(format!("a redirect to {to:?}: {other:?}")),
    }
}

/// What makes the zeros above mean something: where it is granted, each door leads out, and both counters see it.
async fn the_doors_lead_out_and_the_counters_count(field: &Field, came: &AtomicU32, counter: &Counter) {
    let asked = Zone::start("10.1.2.3:53".parse().unwrap(), |_| Some(Vec::new())).unwrap();
    let before = counter.packets();
    for (door, target, port) in [
        (Door::Tcp, "10.1.2.3", 80),
        (Door::Http, "http://10.1.2.3/", 80),
        (Door::Dns, "10.1.2.3", 53),
        (Door::Lookup, "10.1.2.3", 80),
        (Door::Connect, "0a010203", 80),
        (Door::Connect, "fd120000000000000000000000000001", 80),
        (Door::Datagram, "0a010203", 80),
        (Door::WasiHttp, "10.1.2.3", 80),
    ] {
        assert_eq!(field.attempt(door, target, port, EVERYTHING).await, Attempt::Reached, "{}", name(door));
    }
    assert_eq!(asked.asked(), 1);
    assert!(came.load(Ordering::SeqCst) >= 5, "{came:?}");
    assert!(counter.packets() > before + 20, "{}", counter.packets());
    // So would have been what the guests were refused.
    let (connections, before) = (came.load(Ordering::SeqCst), counter.packets());
    answer(TcpStream::connect(("169.254.169.254", 80)).unwrap(), "");
    assert!(came.load(Ordering::SeqCst) > connections);
    assert!(counter.packets() > before);
}

#[tokio::test]
async fn what_nobody_granted_is_refused_at_every_door() {
    let field = Field::new(&vectors()).await;
    for (door, target, port) in [
        (Door::Tcp, "192.0.2.7", 80),
        (Door::Tcp, "elsewhere.test", 80),
        (Door::Http, "http://192.0.2.7/", 80),
        (Door::Http, "http://elsewhere.test/", 80),
        (Door::Dns, "192.0.2.7", 53),
        (Door::Lookup, "192.0.2.7", 80),
        (Door::Lookup, "elsewhere.test", 80),
        (Door::Connect, "c0000207", 80),
        (Door::Connect, "fd120000000000000000000000000001", 80),
        (Door::Datagram, "c0000207", 53),
        (Door::WasiHttp, "192.0.2.7", 80),
        (Door::WasiHttp, "elsewhere.test", 80),
    ] {
        for allow in [&[][..], &["192.0.2.8"], &["192.0.2.7:81", "elsewhere.test:81"]] {
            let attempt = field.attempt(door, target, port, allow).await;
            // A name that is granted on another port may be looked up, and is there the name server's to deny.
            let unknown = target == "elsewhere.test" && door == Door::Lookup && allow.len() == 2;
            assert!(
                matches!(attempt, Attempt::Refused(code) if door.refuses(code) || unknown && code == 18),
                "{}: {target} with {allow:?}: {attempt:?}",
                name(door)
            );
        }
    }
}
