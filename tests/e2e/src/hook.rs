//! A webhook receiver on loopback: checks each signature, remembers each event, and answers as it is told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;

use crate::process::until;

/// The receiver; it ends with the test's process.
pub struct Hook {
    address: SocketAddr,
    status: Arc<AtomicU16>,
    received: Arc<Mutex<Vec<Value>>>,
}

impl Hook {
    /// Receives on a free port what is signed with `secret`.
    pub fn start(secret: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (status, received) = (Arc::new(AtomicU16::new(204)), Arc::<Mutex<Vec<Value>>>::default());
        let (answer, into) = (status.clone(), received.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, into) = (answer.clone(), into.clone());
                std::thread::spawn(move || serve(stream, secret, &answer, &into));
            }
        });
        Self { address, status, received }
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// Answers with this status from now on. What is not answered with a success counts as received all the same.
    pub fn answer(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    /// Everything that was received, also again.
    pub fn received(&self) -> Vec<Value> {
        self.received.lock().expect("no receiver panics").clone()
    }

    /// The kinds of the events, each event once, in the order of their first receipt.
    pub fn kinds(&self) -> Vec<String> {
        let mut seen = std::collections::BTreeSet::new();
        let first = self.received().into_iter().filter(|e| seen.insert(e["id"].to_string()));
        first.map(|e| e["event"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Waits for an event of this kind.
    pub fn event(&self, kind: &str, limit: Duration) -> Value {
        until(&format!("the event {kind}"), limit, || {
            self.received().into_iter().find(|e| e["event"] == kind)
        })
    }
}

fn serve(mut stream: TcpStream, secret: &str, answer: &AtomicU16, received: &Mutex<Vec<Value>>) {
    let mut reader = BufReader::new(stream.try_clone().expect("a socket can be cloned"));
    let (mut length, mut signature, mut delivery) = (0, String::new(), String::new());
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|n| n > 2) {
        if let Some((name, value)) = line.trim().split_once(": ") {
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().unwrap_or(0),
                "picket-signature" => signature = value.to_owned(),
                "picket-delivery" => delivery = value.to_owned(),
                _ => {}
            }
        }
        line.clear();
    }
    let mut body = vec![0; length];
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    let event: Value = serde_json::from_slice(&body).unwrap_or_default();
    let good = is_signed(secret, &signature, &body) && event["id"] == delivery.as_str();
    if good {
        received.lock().expect("no receiver panics").push(event);
    }
    let status = if good { answer.load(Ordering::SeqCst) } else { 401 };
    let _ = write!(stream, "HTTP/1.1 {status} Said\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
}

/// `t=SECONDS,v1=HEX` over the seconds, a full stop and the body.
fn is_signed(secret: &str, signature: &str, body: &[u8]) -> bool {
    let Some((time, hex)) = signature.strip_prefix("t=").and_then(|s| s.split_once(",v1=")) else {
        return false;
    };
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of every length");
    mac.update(format!("{time}.").as_bytes());
    mac.update(body);
    mac.finalize().into_bytes().iter().map(|b| format!("{b:02x}")).collect::<String>() == hex
}
