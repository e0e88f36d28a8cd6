//! A name server that says what a function says, also something else each time, and never for longer than now. UDP; it forgets nothing
//! and knows no other server.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

/// One step of an answer, for the name before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The name is another one's alias.
    Alias(String),
    /// The name has that address.
    Address(IpAddr),
}

/// The name server; it ends when it is dropped.
#[derive(Debug)]
pub struct Zone {
    address: SocketAddr,
    asked: Arc<AtomicU32>,
    ending: Arc<AtomicBool>,
}

impl Zone {
    /// Answers at that address, port 0 for a free one. The function gets a name in lower case without its last dot; nothing means that there
    /// is no such name. Addresses of the family that was not asked for are left out.
    ///
    /// # Errors
    /// When the address cannot be used.
    pub fn start(
        at: SocketAddr,
        says: impl Fn(&str) -> Option<Vec<Step>> + Send + 'static,
    ) -> io::Result<Zone> {
        let socket = UdpSocket::bind(at)?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let zone = Zone { address: socket.local_addr()?, asked: Arc::default(), ending: Arc::default() };
        let (asked, ending) = (zone.asked.clone(), zone.ending.clone());
        thread::spawn(move || {
            let mut query = [0; 1500];
            while !ending.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut query) else { continue };
                asked.fetch_add(1, Ordering::Relaxed);
                if let Some(answer) = answer(&query[..length], &says) {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Ok(zone)
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Questions so far.
    pub fn asked(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Zone {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
    }
}

const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;

/// The answer to a query with one question; nothing to what is none.
fn answer(query: &[u8], says: &impl Fn(&str) -> Option<Vec<Step>>) -> Option<Vec<u8>> {
    let question = query.get(12..)?;
    let (mut at, mut labels) = (0, Vec::new());
    loop {
        let length = usize::from(*question.get(at)?);
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(question.get(at + 1..at + 1 + length)?).to_ascii_lowercase());
        at += 1 + length;
    }
    let kind = u16::from_be_bytes([*question.get(at + 1)?, *question.get(at + 2)?]);
    let question = question.get(..at + 5)?;
    let steps = says(&labels.join("."));
    let code = u8::from(steps.is_none()) * 3;
    let (mut owner, mut records, mut count) = (vec![0xc0, 12], Vec::new(), 0u8);
    for step in steps.unwrap_or_default() {
        let (record, data, next) = match step {
            Step::Alias(name) => (CNAME, labels_of(&name), Some(labels_of(&name))),
            Step::Address(IpAddr::V4(ip)) => (A, ip.octets().to_vec(), None),
            Step::Address(IpAddr::V6(ip)) => (AAAA, ip.octets().to_vec(), None),
        };
        if record == kind || record == CNAME {
            records.extend_from_slice(&owner);
            records.extend_from_slice(&record.to_be_bytes());
            // IN, and no time to live.
            records.extend_from_slice(&[0, 1, 0, 0, 0, 0]);
            records.extend_from_slice(&(data.len() as u16).to_be_bytes());
            records.extend_from_slice(&data);
            count += 1;
        }
        owner = next.unwrap_or(owner);
    }
    let head = [query[0], query[1], 0x84 | query[2] & 1, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0];
    Some([&head, question, &records[..]].concat())
}

fn labels_of(name: &str) -> Vec<u8> {
    let mut bytes: Vec<u8> =
        name.split('.').flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).collect();
    bytes.push(0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_the_chain_and_the_family_that_was_asked_for() {
        let says = |name: &str| {
            assert_eq!(name, "a.b");
            Some(vec![
                Step::Alias("c".into()),
                Step::Address("192.0.2.1".parse().unwrap()),
                Step::Address("fd00::1".parse().unwrap()),
            ])
        };
        let query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01A\x01b\x00\x00\x01\x00\x01";
        let told = answer(query, &says).unwrap();
        assert_eq!(&told[..8], b"\x12\x34\x85\x80\x00\x01\x00\x02");
        let alias = b"\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x00\x00\x03\x01c\x00";
        let address = b"\x01c\x00\x00\x01\x00\x01\x00\x00\x00\x00\x00\x04\xc0\x00\x02\x01";
        assert_eq!(told[query.len()..], [&alias[..], &address[..]].concat());
        assert_eq!(answer(query, &|_: &str| None).unwrap()[3], 0x83);
    }
}
