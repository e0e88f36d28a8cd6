//! G9: a name server that says something else each time, with no time to live. A run asks once, judges every address of the answer, and
//! dials none but those: whoever comes at all comes to the one that was good.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use net::Ceiling;
use picket_hostile::network::{Counter, delegated};
use picket_hostile::{Attempt, Door, Step, Zone, job};
use sandbox::{Job, Sandbox, Settings};
use serde_json::json;

/// Tries, in all.
const SHORT: u32 = 300;
const WHOLE: u32 = 10_000;

/// The only address that the operator opened, on one port.
const GOOD: &str = "127.0.0.1";
/// What the name leads to in between, alone or beside the good one.
const BAD: [&str; 9] = [
    "127.0.0.2",
    "127.0.0.3",
    "::1",
    "169.254.169.254",
    "0.0.0.0",
    "::ffff:127.0.0.2",
    "fe80::1",
    "fd00:ec2::254",
    "64:ff9b::7f00:2",
];

/// What the name server says the n-th time: the good address, a bad one, both in either order, or an alias in front of a bad one.
fn says(n: u32) -> Vec<Step> {
    // An odd number, so that question and answer of the two families do not keep in step.
    let address = |text: &str| Step::Address(text.parse().unwrap());
    let (good, bad) = (address(GOOD), address(BAD[n as usize / 5 % BAD.len()]));
    match n % 5 {
        0 | 3 => vec![good],
        1 => vec![bad],
        2 => vec![good, bad],
        _ => vec![Step::Alias("other.test".to_owned()), bad, good],
    }
}

/// Listens there; those who come are redirected to the name once more, and then told "ok".
fn listen(at: SocketAddr) -> Option<Arc<AtomicU32>> {
    let listener = TcpListener::bind(at).ok()?;
    let came = Arc::new(AtomicU32::new(0));
    let counted = came.clone();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            counted.fetch_add(1, Ordering::SeqCst);
            thread::spawn(move || {
                let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
                let mut request = [0; 1024];
                let length = stream.read(&mut request).unwrap_or(0);
                let first = request[..length].starts_with(b"GET / ");
                let location = format!("location: http://again.test:{}/second\r\n", at.port());
                let head = if first { format!("302 Found\r\n{location}") } else { "200 OK\r\n".to_owned() };
                let _ = stream.write_all(
                    format!("HTTP/1.1 {head}content-length: 0\r\nconnection: close\r\n\r\n").as_bytes(),
                );
            });
        }
    });
    Some(came)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_is_rebound_is_never_followed() {
    if delegated("rebinding::a_name_that_is_rebound_is_never_followed") {
        return;
    }
    let free = TcpListener::bind((GOOD, 0)).unwrap().local_addr().unwrap().port();
    let good = SocketAddr::new(GOOD.parse().unwrap(), free);
    let reached = listen(good).unwrap();
    let victims: Vec<_> =
        BAD.iter().filter_map(|ip| listen(SocketAddr::new(ip.parse::<IpAddr>().unwrap(), free))).collect();
    assert!(victims.len() >= 2, "this machine has 127.0.0.2 and 127.0.0.3");
    let (turn, turns) = (Arc::new(AtomicU32::new(0)), 3);
    let zone = Zone::start((GOOD.parse::<IpAddr>().unwrap(), 0).into(), {
        let turn = turn.clone();
        // Each question of a pair, A and AAAA, may get another answer too.
        move |_| Some(says(turn.fetch_add(1, Ordering::SeqCst) / turns))
    })
    .unwrap();
    let counter = Counter::start(&[zone.address(), good]);
    let ceiling = Ceiling { allow: vec![good.to_string().parse().unwrap()], ..Ceiling::default() };
    let network = net::Network::new(net::Settings { ceiling, resolver: Some(vec![zone.address()]) }).unwrap();
    let sandbox = Sandbox::new(Settings { slots: 4, ..Settings::default() }, network).unwrap();

    let soak = std::env::var_os("PICKET_SOAK").is_some_and(|value| value == "1");
    let tries = if soak { WHOLE } else { SHORT };
    let (mut got_through, mut refused) = (0, 0);
    let doors = [Door::Tcp, Door::Http, Door::Lookup, Door::WasiHttp];
    let mut plugins = Vec::new();
    for door in doors {
        plugins.push(sandbox.load(&door.guest().component()).await.unwrap());
    }
    for n in 0..tries {
        let (door, plugin) = (doors[n as usize % 4], &plugins[n as usize % 4]);
        let target = match door {
            Door::Http => format!("http://rebind.test:{free}/"),
            Door::WasiHttp => format!("rebind.test:{free}"),
            _ => "rebind.test".to_owned(),
        };
        let grant = plugin.schema.grant(&json!({}), &["*.test".to_owned()]).unwrap();
        let before = zone.asked();
        let job = Job {
            monitor: target,
            attempt: free.into(),
            grant: grant.into(),
            ..job(json!({}), Duration::from_secs(10))
        };
        let report = sandbox.run(plugin, job).await;
        match Door::attempt(&report.verdict) {
            Attempt::Reached => got_through += 1,
            Attempt::Refused(code) => {
                // A name with addresses of the other family only has none; that is no refusal, and nothing is dialled.
                assert!(door.refuses(code) || matches!(code, 7 | 18), "{door:?}: {report:?}");
                refused += 1;
            }
        }
        // A and AAAA of each of the two names and of the alias, and never again for the same one.
        assert!(zone.asked() - before <= 8, "{door:?} asked {} times", zone.asked() - before);
    }
    let hits: u32 = victims.iter().map(|victim| victim.load(Ordering::SeqCst)).sum();
    let packets = counter.as_ref().map_or(0, Counter::packets);
    println!(
        "{tries} tries: {got_through} came to the good address, {refused} were refused, {hits} hits, {packets} packets"
    );
    assert_eq!((hits, packets), (0, 0), "connections and packets to addresses that are denied");
    assert!(got_through > tries / 20 && refused > tries / 20, "{got_through} and {refused} of {tries}");
    assert!(reached.load(Ordering::SeqCst) >= got_through);
}
