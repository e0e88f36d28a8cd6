//! Keeps secrets out of a trace: every byte of one becomes a `*`, so that lengths stay and a replay can compare. What is looked for
//! are the forms that `redact` knows, in every text, and in the bytes of a connection however they were cut into reads.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use zeroize::Zeroizing;

use super::Call;
use crate::redact::{self, Secrets};

/// Stands for a byte that is not told.
const STAR: u8 = b'*';

/// What must not be in a trace.
pub(super) struct Mask {
    /// Longest first.
    parts: Vec<Zeroizing<Vec<u8>>>,
}

impl Mask {
    /// The secrets, and what was made with them.
    pub(super) fn new(secrets: &Secrets, proofs: &[Zeroizing<Vec<u8>>]) -> Self {
        let mut parts: Vec<_> = secrets.all().map(|bytes| Zeroizing::new(bytes.to_vec())).collect();
        for bytes in secrets.all().chain(proofs.iter().map(|proof| proof.as_slice())) {
            parts.extend(
                redact::forms(bytes).into_iter().map(|form| Zeroizing::new(form.as_bytes().to_vec())),
            );
        }
        parts.extend(proofs.iter().cloned());
        parts.retain(|part| part.len() >= redact::SHORT);
        parts.sort_by_key(|part| std::cmp::Reverse(part.len()));
        parts.dedup();
        Mask { parts }
    }

    /// Masks everything that the calls say.
    pub(super) fn calls(&self, calls: &mut [Call]) {
        self.streams(calls);
        for call in calls {
            self.value(&mut call.asked);
            if let Some(answer) = &mut call.answer {
                self.value(answer);
            }
            if let Some(failure) = &mut call.failure {
                self.failure(failure);
            }
        }
    }

    fn failure(&self, failure: &mut net::Failure) {
        use net::Cause as C;
        self.text(&mut failure.message);
        if let C::Tls(text) | C::Protocol(text) | C::Proxy(text) | C::Invalid(text) | C::Other(text) =
            &mut failure.cause
        {
            self.text(text);
        }
    }

    /// Every text in a value, also that of bytes in base64.
    pub(super) fn value(&self, value: &mut Value) {
        match value {
            Value::String(text) => self.text(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.value(item)),
            Value::Object(map) => {
                if let Some(mut bytes) = encoded(map) {
                    self.bytes(&mut bytes);
                    map.insert("base64".to_owned(), STANDARD.encode(bytes).into());
                    return;
                }
                map.values_mut().for_each(|value| self.value(value));
            }
            _ => {}
        }
    }

    /// The bytes that went through one connection, in one direction, as if they had gone in one piece.
    fn streams(&self, calls: &mut [Call]) {
        let mut places: BTreeMap<(u32, bool), Vec<usize>> = BTreeMap::new();
        for (index, call) in calls.iter().enumerate() {
            let direction = match call.call.as_str() {
                "tcp.read" | "tcp.read-exact" => true,
                "tcp.write" => false,
                _ => continue,
            };
            if let Some(connection) = call.connection {
                places.entry((connection, direction)).or_default().push(index);
            }
        }
        for ((_, received), indices) in places {
            let parts: Vec<_> = indices.iter().map(|index| piece(&calls[*index], received)).collect();
            let mut whole: Vec<u8> = parts.iter().flatten().flatten().copied().collect();
            self.bytes(&mut whole);
            let mut rest = whole.as_slice();
            for (index, part) in indices.into_iter().zip(parts) {
                let Some(part) = part else { continue };
                let (own, behind) = rest.split_at(part.len());
                rest = behind;
                let place = &mut calls[index];
                match received {
                    true => place.answer = Some(written(own)),
                    false => place.asked["bytes"] = written(own),
                }
            }
        }
    }

    fn bytes(&self, bytes: &mut [u8]) {
        for part in &self.parts {
            let mut from = 0;
            while let Some(at) = memchr::memmem::find(&bytes[from..], part) {
                bytes[from + at..from + at + part.len()].fill(STAR);
                from += at + part.len();
            }
        }
    }

    fn text(&self, text: &mut String) {
        let mut bytes = std::mem::take(text).into_bytes();
        self.bytes(&mut bytes);
        *text = match String::from_utf8(bytes) {
            Ok(text) => text,
            // A secret that is not text may have begun in the middle of a character.
            Err(broken) => String::from_utf8_lossy(broken.as_bytes()).into_owned(),
        };
    }
}

/// The bytes that a call received or sent.
fn piece(call: &Call, received: bool) -> Option<Vec<u8>> {
    let value = if received { call.answer.as_ref()? } else { call.asked.get("bytes")? };
    match value {
        Value::String(text) => Some(text.clone().into_bytes()),
        Value::Object(map) => encoded(map),
        _ => None,
    }
}

fn encoded(map: &serde_json::Map<String, Value>) -> Option<Vec<u8>> {
    let text = map.get("base64").filter(|_| map.len() == 1)?.as_str()?;
    STANDARD.decode(text).ok()
}

/// Bytes as `net` writes them down.
pub(super) fn written(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => serde_json::json!({ "base64": STANDARD.encode(bytes) }),
    }
}

/// What `written` wrote.
pub(super) fn read(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::String(text) => Some(text.clone().into_bytes()),
        Value::Object(map) => encoded(map),
        _ => None,
    }
}

/// Texts of a verdict with what the host redacts and what a trace masks written in one way, so that two of them can be compared.
pub(super) fn masked_alike(value: &mut Value) {
    match value {
        Value::String(text) if text.contains("****") => {
            let mut parts = text.split("****");
            let mut plain = parts.next().unwrap_or_default().to_owned();
            for part in parts {
                let rest = part.trim_start_matches('*');
                // What is left of a longer run belongs to the same secret.
                if !plain.ends_with(redact::REDACTED) {
                    plain.push_str(redact::REDACTED);
                }
                plain.push_str(rest);
            }
            *text = plain;
        }
        Value::Array(items) => items.iter_mut().for_each(masked_alike),
        Value::Object(map) => map.values_mut().for_each(masked_alike),
        _ => {}
    }
}

/// Whether what was asked is what the trace says; a `*` there stands for any byte.
pub(super) fn fits(traced: &Value, asked: &Value) -> bool {
    if let (Some(traced), Some(asked)) = (read(traced), read(asked)) {
        let same = |(traced, asked): (&u8, &u8)| *traced == STAR || traced == asked;
        return traced.len() == asked.len() && traced.iter().zip(&asked).all(same);
    }
    match (traced, asked) {
        (Value::Array(traced), Value::Array(asked)) => {
            traced.len() == asked.len() && traced.iter().zip(asked).all(|(traced, asked)| fits(traced, asked))
        }
        (Value::Object(traced), Value::Object(asked)) => {
            // A trace of an older version lacks what has been added since.
            traced.iter().all(|(key, value)| fits(value, asked.get(key).unwrap_or(&Value::Null)))
        }
        (traced, asked) => traced == asked,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mask() -> Mask {
        let mut secrets = Secrets::new();
        secrets.insert("password", b"hunter22".to_vec());
        Mask::new(&secrets, &[Zeroizing::new(b"proof-of-it".to_vec())])
    }

    fn read_call(connection: u32, answer: Value) -> Call {
        Call {
            call: "tcp.read".into(),
            connection: Some(connection),
            asked: json!({"max": 9}),
            answer: Some(answer),
            failure: None,
        }
    }

    #[test]
    fn a_secret_becomes_stars_of_its_length_in_every_form() {
        let mut value = json!({"a": ["x hunter22 y", "68756e7465723232"], "b": {"base64": STANDARD.encode(b"\xffhunter22")}});
        mask().value(&mut value);
        assert_eq!(
            value,
            json!({"a": ["x ******** y", "****************"], "b": {"base64": STANDARD.encode(b"\xff********")}})
        );
    }

    #[test]
    fn a_secret_that_came_in_two_reads_is_found() {
        let mut calls =
            [read_call(1, "a hun".into()), read_call(2, "-".into()), read_call(1, "ter22 b".into())];
        mask().calls(&mut calls);
        let answers: Vec<_> = calls.iter().map(|call| call.answer.clone().unwrap()).collect();
        assert_eq!(answers, [json!("a ***"), json!("-"), json!("***** b")]);
    }

    #[test]
    fn a_proof_is_as_secret_as_what_it_was_made_with() {
        let mut value = json!("p=proof-of-it");
        mask().value(&mut value);
        assert_eq!(value, json!("p=***********"));
    }

    #[test]
    fn what_is_redacted_and_what_is_masked_are_the_same_in_a_verdict() {
        let mut verdict = json!({"evidence": ["Bearer *********, again ****", "** *", "a*****"]});
        masked_alike(&mut verdict);
        assert_eq!(
            verdict,
            json!({"evidence": ["Bearer [redacted], again [redacted]", "** *", "a[redacted]"]})
        );
    }

    #[test]
    fn a_star_stands_for_any_byte() {
        assert!(fits(&json!({"bytes": "AUTH ****\r\n"}), &json!({"bytes": "AUTH abcd\r\n", "new": 1})));
        assert!(!fits(&json!("AUTH ****"), &json!("AUTH abc")));
        assert!(!fits(&json!({"max": 1}), &json!({"max": 2})));
        assert!(!fits(&json!([1]), &json!([1, 2])));
    }
}
