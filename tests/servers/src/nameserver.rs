//! A name server that knows one address for every name, and fails as it is told. UDP; for what a server should get right there is knot.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// How it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answers {
    /// With this address; IPv6 has none.
    With(Ipv4Addr),
    /// With this code (RFC 1035, 4.1.1): 2 is SERVFAIL, 3 NXDOMAIN.
    Code(u8),
    /// Not at all.
    Nothing,
}

/// The name server; it ends when it is dropped.
#[derive(Debug)]
pub struct NameServer {
    answers: Arc<Mutex<Option<Answers>>>,
}

impl NameServer {
    /// Listens on port 53 of 127.0.0.1: whoever starts it owns the network.
    pub fn start(answers: Answers) -> io::Result<NameServer> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 53))?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let answers = Arc::new(Mutex::new(Some(answers)));
        let told = answers.clone();
        thread::spawn(move || {
            let mut question = [0; 512];
            loop {
                let asked = socket.recv_from(&mut question);
                // What was set before the question counts.
                let Some(answers) = *told.lock().unwrap_or_else(PoisonError::into_inner) else { return };
                let Ok((length, from)) = asked else { continue };
                if let Some(answer) = answer(&question[..length], answers) {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Ok(NameServer { answers })
    }

    /// Answers like this from now on.
    pub fn set(&self, answers: Answers) {
        *self.answers.lock().unwrap_or_else(PoisonError::into_inner) = Some(answers);
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        *self.answers.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// The answer to a query with one question; nothing to what is none.
fn answer(query: &[u8], answers: Answers) -> Option<Vec<u8>> {
    let question = query.get(12..)?;
    let mut end = 0;
    while *question.get(end)? != 0 {
        end += usize::from(question[end]) + 1;
    }
    let question = question.get(..end + 5)?;
    let is_ipv4 = question[end + 1..end + 3] == [0, 1];
    let (code, address) = match answers {
        Answers::With(address) => (0, is_ipv4.then_some(address)),
        Answers::Code(code) => (code, None),
        Answers::Nothing => return None,
    };
    let count = u8::from(address.is_some());
    let mut answer = vec![query[0], query[1], 0x84 | query[2] & 1, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0];
    answer.extend_from_slice(question);
    if let Some(address) = address {
        // The name of the question, A, IN, no time to live, four bytes.
        answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        answer.extend_from_slice(&address.octets());
    }
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_answered_with_the_address_the_code_or_not_at_all() {
        let query = |kind: u8| {
            [&b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x00\x00"[..], &[kind, 0, 1]].concat()
        };
        let told = answer(&query(1), Answers::With(Ipv4Addr::new(192, 0, 2, 1))).unwrap();
        assert_eq!(
            (&told[..4], told[7], &told[told.len() - 4..]),
            (&b"\x12\x34\x85\x80"[..], 1, &[192, 0, 2, 1][..])
        );
        let none = answer(&query(28), Answers::With(Ipv4Addr::LOCALHOST)).unwrap();
        assert_eq!((none[3] & 15, none[7], none.len()), (0, 0, query(28).len()));
        assert_eq!(answer(&query(1), Answers::Code(3)).unwrap()[3], 0x83);
        assert_eq!(answer(&query(1), Answers::Nothing), None);
        assert_eq!(answer(b"\x00", Answers::Code(2)), None);
    }
}
