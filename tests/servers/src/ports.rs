//! Ports of 127.0.0.1 for programs that must be told of one before they listen there, and whether they listen by now. Listeners of this
//! process take port zero instead.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::Error;

/// A port that is free now, and that nobody else is handed in this process. None of those that the system gives to whoever asks for
/// port zero or connects: between this moment and that in which a program listens there, one of them would be taken by somebody else,
/// who may even answer in its place.
pub(crate) fn free_port() -> Result<u16, Error> {
    static NEXT: OnceLock<AtomicU32> = OnceLock::new();
    let range = range();
    let count = u32::from(range.end - range.start);
    // Processes at the same time begin at different ones.
    let next = NEXT.get_or_init(|| AtomicU32::new(std::process::id().wrapping_mul(DISTANCE)));
    for _ in 0..count {
        let at = next.fetch_add(1, Ordering::Relaxed) % count;
        let port = range.start + u16::try_from(at).unwrap_or_default();
        if is_free(port) {
            return Ok(port);
        }
    }
    Err(Error::Socket { action: "find a free port of 127.0.0.1", source: io::ErrorKind::AddrInUse.into() })
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
        && UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Below what the system gives away by itself.
fn range() -> Range<u16> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let low = text.split_whitespace().next().and_then(|low| low.parse().ok()).unwrap_or(32_768);
    if low > FIRST + 1000 { FIRST..low } else { FIRST..u16::MAX }
}

/// Whether somebody accepts connections there.
pub(crate) fn accepts(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Whether somebody there answers `say` with a text in which `hear` stands: a program accepts connections for a while before it serves
/// them.
pub(crate) fn answers(port: u16, say: &[u8], hear: &[u8]) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(say)?;
        let mut heard = Vec::new();
        let mut part = [0; 256];
        while heard.len() < 4096 {
            let count = stream.read(&mut part)?;
            if count == 0 {
                break;
            }
            heard.extend_from_slice(&part[..count]);
            if heard.windows(hear.len()).any(|text| text == hear) {
                return Ok(true);
            }
        }
        io::Result::Ok(false)
    };
    ask().unwrap_or(false)
}

/// Ports below are for the services of a machine.
const FIRST: u16 = 10_000;
/// Prime, and more than one process asks for.
const DISTANCE: u32 = 211;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_handed_out_twice_and_none_is_the_systems_to_give() {
        let ports: Vec<u16> = (0..200).map(|_| free_port().unwrap()).collect();
        let distinct: std::collections::BTreeSet<_> = ports.iter().collect();
        assert_eq!(distinct.len(), ports.len());
        assert!(ports.iter().all(|port| range().contains(port)), "{ports:?}");
        let given = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        assert!(!range().contains(&given), "{given}");
    }

    #[test]
    fn whoever_listens_and_says_nothing_does_not_answer_yet() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(accepts(port));
        std::thread::spawn(move || {
            for (stream, greeting) in listener.incoming().skip(1).zip(["", "220 other\r\n", "220 ready\r\n"])
            {
                let _ = stream.unwrap().write_all(greeting.as_bytes());
            }
        });
        let found: Vec<bool> = (0..3).map(|_| answers(port, b"", b"ready")).collect();
        assert_eq!(found, [false, false, true]);
    }
}
