//! A TCP relay whose link can be cut, refused or frozen: the network between two servers, in our hands.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, Ordering};
use std::thread;
use std::time::Duration;

use crate::Error;
use crate::listener::Listener;
use crate::process::{pause, timed_out};

/// The state of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Link {
    /// Bytes flow.
    Up,
    /// Open connections are closed, new ones are closed at once.
    Cut,
    /// Connections stay open and no byte passes: a black hole.
    Frozen,
}

/// The relay.
#[derive(Debug)]
pub struct Relay {
    listener: Listener,
    link: Arc<AtomicU8>,
    to: Arc<AtomicU16>,
}

impl Relay {
    /// Carries connections to that port of 127.0.0.1.
    pub fn start(to: u16) -> Result<Relay, Error> {
        let link = Arc::new(AtomicU8::new(Link::Up as u8));
        let to = Arc::new(AtomicU16::new(to));
        let listener = Listener::start({
            let (link, to) = (link.clone(), to.clone());
            move |stream| carry(stream, to.load(Ordering::SeqCst), &link)
        })?;
        Ok(Relay { listener, link, to })
    }

    /// Listens before it is known where to: connections are closed at once until [`Relay::lead_to`].
    pub(crate) fn to_nowhere() -> Result<Relay, Error> {
        Relay::start(0)
    }

    /// Carries connections to that port from now on; open ones stay.
    pub(crate) fn lead_to(&self, port: u16) {
        self.to.store(port, Ordering::SeqCst);
    }

    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.listener.port()
    }

    /// Changes the link, open connections included.
    pub fn set(&self, link: Link) {
        self.link.store(link as u8, Ordering::SeqCst);
        if link == Link::Cut {
            self.listener.hang_up();
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.set(Link::Cut);
    }
}

fn carry(near: TcpStream, to: u16, link: &Arc<AtomicU8>) {
    if to == 0 || link.load(Ordering::SeqCst) == Link::Cut as u8 {
        return;
    }
    let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, to)) else { return };
    let (Ok(near_again), Ok(far_again)) = (near.try_clone(), far.try_clone()) else { return };
    let back = thread::spawn({
        let link = link.clone();
        move || pump(far_again, near_again, &link)
    });
    pump(near, far, link);
    let _ = back.join();
}

/// Moves bytes one way until either side ends or the link is cut.
pub(crate) fn pump(mut from: TcpStream, mut to: TcpStream, link: &AtomicU8) {
    // The link is looked at between two reads.
    let _ = from.set_read_timeout(Some(Duration::from_millis(50)));
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match link.load(Ordering::SeqCst) {
            state if state == Link::Cut as u8 => break,
            state if state == Link::Frozen as u8 => {
                pause();
                continue;
            }
            _ => {}
        }
        let length = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if timed_out(&error) => continue,
            Err(_) => break,
        };
        // What came while the link froze waits with it.
        while link.load(Ordering::SeqCst) == Link::Frozen as u8 {
            pause();
        }
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
