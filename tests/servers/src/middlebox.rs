//! What stands between an agent and its control plane and does not like WebSockets: everything else passes.
//!
//! The request that opens a stream comes on a connection of its own, so the first request of a connection says what it is for.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::Error;
use crate::listener::Listener;
use crate::relay::{Link, pump};

/// What becomes of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upgrade {
    /// It passes.
    Passes,
    /// The middlebox answers with this status and a page of its own.
    Answered(u16),
    /// The upgrade is removed from the request, which then passes.
    Removed,
    /// It passes, and nothing after it: frames are swallowed in both directions.
    Swallowed,
    /// It passes, and the connection is cut after this time.
    CutAfter(Duration),
}

/// The middlebox.
#[derive(Debug)]
pub struct Middlebox {
    listener: Listener,
    streams: Arc<AtomicU64>,
}

impl Middlebox {
    /// Carries connections to that port of 127.0.0.1.
    pub fn start(to: u16, upgrade: Upgrade) -> Result<Middlebox, Error> {
        let streams = Arc::new(AtomicU64::new(0));
        let listener = Listener::start({
            let streams = streams.clone();
            move |stream| carry(stream, to, upgrade, &streams)
        })?;
        Ok(Middlebox { listener, streams })
    }

    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.listener.port()
    }

    /// Requests to open a stream that it saw.
    pub fn streams(&self) -> u64 {
        self.streams.load(Ordering::SeqCst)
    }
}

fn carry(mut near: TcpStream, to: u16, upgrade: Upgrade, streams: &AtomicU64) {
    let Some(mut head) = head(&mut near) else { return };
    let Ok(mut far) = TcpStream::connect((Ipv4Addr::LOCALHOST, to)) else { return };
    let is_stream = head.starts_with(b"GET /v1/stream");
    if is_stream {
        streams.fetch_add(1, Ordering::SeqCst);
    }
    match upgrade {
        Upgrade::Answered(status) if is_stream => {
            let page = "<html>not here</html>";
            let length = page.len();
            let _ = write!(
                near,
                "HTTP/1.1 {status} No\r\ncontent-type: text/html\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{page}"
            );
            return;
        }
        Upgrade::Removed if is_stream => {
            let text = String::from_utf8_lossy(&head).into_owned();
            let kept = text.split("\r\n").filter(|line| {
                let line = line.to_ascii_lowercase();
                !line.starts_with("upgrade:") && !line.starts_with("connection:")
            });
            head = kept.collect::<Vec<_>>().join("\r\n").into_bytes();
        }
        _ => {}
    }
    if far.write_all(&head).is_err() {
        return;
    }
    match upgrade {
        Upgrade::Swallowed if is_stream => {
            let Some(answer) = self::head(&mut far) else { return };
            let _ = near.write_all(&answer);
            // Until the agent gives up.
            let _ = near.read_to_end(&mut Vec::new());
            return;
        }
        Upgrade::CutAfter(time) if is_stream => {
            let Ok(second) = near.try_clone() else { return };
            thread::spawn(move || {
                thread::park_timeout(time);
                let _ = second.shutdown(std::net::Shutdown::Both);
            });
        }
        _ => {}
    }
    let (Ok(near_again), Ok(far_again)) = (near.try_clone(), far.try_clone()) else { return };
    let up = AtomicU8::new(Link::Up as u8);
    thread::scope(|scope| {
        scope.spawn(|| pump(far_again, near_again, &up));
        pump(near, far, &up);
    });
}

/// The bytes up to the end of a head and whatever came with them.
fn head(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let (mut head, mut buffer) = (Vec::new(), [0; 16 * 1024]);
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return None,
            Ok(length) => head.extend_from_slice(&buffer[..length]),
        }
    }
    Some(head)
}
