//! A web server that is checked: keeps its own account of every check that it served, and is up, down or slow as told.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mood {
    /// 200.
    Up,
    /// 500.
    Down,
    /// 200 after 700 ms.
    Slow,
}

/// The server; it ends with the test's process.
#[derive(Clone)]
pub struct Target {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    mood: AtomicU8,
    served: AtomicU64,
    by_path: Mutex<BTreeMap<String, u64>>,
    down: Mutex<BTreeSet<String>>,
}

impl Target {
    /// Serves on a free port, and is up.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared::default());
        let accepting = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = accepting.clone();
                std::thread::spawn(move || serve(stream, &shared));
            }
        });
        Self { address, shared }
    }

    /// The URL of a page; pages are counted apart.
    pub fn url(&self, page: &str) -> String {
        format!("http://{}/{page}", self.address)
    }

    /// Answers like this from now on.
    pub fn set(&self, mood: Mood) {
        self.shared.mood.store(mood as u8, Ordering::SeqCst);
    }

    /// These pages are down from now on, whatever the others are.
    pub fn set_down(&self, pages: &[&str]) {
        let mut down = self.shared.down.lock().unwrap_or_else(PoisonError::into_inner);
        *down = pages.iter().map(|page| format!("/{page}")).collect();
    }

    /// Checks served so far.
    pub fn served(&self) -> u64 {
        self.shared.served.load(Ordering::SeqCst)
    }

    /// Counts checks of a page that were not made here: results that a row wrote into a spool by itself.
    pub fn credit(&self, page: &str, checks: u64) {
        *self.shared.lock().entry(format!("/{page}")).or_default() += checks;
    }

    /// Checks of that page served so far.
    pub fn served_of(&self, page: &str) -> u64 {
        self.shared.lock().get(&format!("/{page}")).copied().unwrap_or(0)
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, u64>> {
        self.by_path.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn serve(mut stream: impl Read + Write, shared: &Shared) {
    let mut request = [0; 4096];
    let Ok(length @ 1..) = stream.read(&mut request) else { return };
    let head = String::from_utf8_lossy(&request[..length]);
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    shared.served.fetch_add(1, Ordering::SeqCst);
    let page_is_down = shared.down.lock().unwrap_or_else(PoisonError::into_inner).contains(&path);
    *shared.lock().entry(path).or_default() += 1;
    let mood = shared.mood.load(Ordering::SeqCst);
    if mood == Mood::Slow as u8 {
        crate::pause(Duration::from_millis(700));
    }
    let status =
        if page_is_down || mood == Mood::Down as u8 { "500 Internal Server Error" } else { "200 OK" };
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
    // Whoever asked may be dead by now: that is what is tested.
    let _ = stream.write_all(answer.as_bytes());
}
