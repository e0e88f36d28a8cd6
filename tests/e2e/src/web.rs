//! A web server on loopback that serves one page and counts how often: the target's own account of what was checked.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The server; it ends with the test's process.
pub struct Web {
    address: SocketAddr,
    served: Arc<AtomicU64>,
    down: Arc<AtomicBool>,
}

impl Web {
    /// Serves `page` on a free port.
    pub fn start(page: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let address = listener.local_addr().expect("a bound socket has an address");
        let served = Arc::new(AtomicU64::new(0));
        let down = Arc::new(AtomicBool::new(false));
        let (count, fails) = (served.clone(), down.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (count, fails) = (count.clone(), fails.clone());
                std::thread::spawn(move || {
                    let mut stream = stream;
                    let mut request = [0; 4096];
                    if !matches!(stream.read(&mut request), Ok(n) if n > 0) {
                        return;
                    }
                    count.fetch_add(1, Ordering::Relaxed);
                    let status =
                        if fails.load(Ordering::SeqCst) { "503 Service Unavailable" } else { "200 OK" };
                    let head = format!(
                        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                        page.len()
                    );
                    let _ =
                        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(page.as_bytes()));
                });
            }
        });
        Self { address, served, down }
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Answers 503 from now on, or serves again.
    pub fn fail(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    /// Requests answered so far.
    pub fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }
}
