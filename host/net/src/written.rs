//! How the values of this crate are written down as JSON, where serde's own way would be long or would not come back: times in
//! microseconds, bytes as text where they are text, certificates that several share.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::tls::Certificate;
use crate::types::Defect;

/// Whole microseconds.
pub(crate) mod micros {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        whole(*time).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        Ok(Duration::from_micros(u64::deserialize(from)?))
    }
}

/// Whole microseconds, or nothing.
pub(crate) mod maybe_micros {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(time: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        time.map(whole).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(from)?.map(Duration::from_micros))
    }
}

/// A text where the bytes are UTF-8, `{"base64": …}` otherwise.
pub(crate) mod bytes {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        Bytes::from(bytes).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        Bytes::deserialize(from)?.read().map_err(serde::de::Error::custom)
    }
}

/// A chain whose certificates several hold.
pub(crate) mod chain {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(chain: &[Arc<Certificate>], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(chain.iter().map(Arc::as_ref))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Arc<Certificate>>, D::Error> {
        Ok(shared(Vec::deserialize(from)?))
    }
}

/// What the verification of a chain said.
pub(crate) mod verified {
    use super::*;

    type Verified = Result<Vec<Arc<Certificate>>, Vec<Defect>>;

    pub(crate) fn serialize<S: Serializer>(verified: &Verified, to: S) -> Result<S::Ok, S::Error> {
        let plain = verified.as_ref().map(|chain| chain.iter().map(Arc::as_ref).collect::<Vec<_>>());
        plain.serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Verified, D::Error> {
        Ok(Result::<Vec<Certificate>, Vec<Defect>>::deserialize(from)?.map(shared))
    }
}

/// Bytes as they are written down.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Bytes {
    Text(String),
    Base64 { base64: String },
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Bytes::Text(text.to_owned()),
            Err(_) => Bytes::Base64 { base64: STANDARD.encode(bytes) },
        }
    }
}

impl Bytes {
    fn read(self) -> Result<Vec<u8>, base64::DecodeError> {
        match self {
            Bytes::Text(text) => Ok(text.into_bytes()),
            Bytes::Base64 { base64 } => STANDARD.decode(base64),
        }
    }
}

fn whole(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn shared(chain: Vec<Certificate>) -> Vec<Arc<Certificate>> {
    chain.into_iter().map(Arc::new).collect()
}

#[cfg(test)]
mod tests {
    use crate::{Answer, Cause, Certificate, Defect, Entry, Failure, Phase, Response, TlsSession};

    fn round(value: &impl serde::Serialize) -> String {
        serde_json::to_string(value).unwrap()
    }

    #[test]
    fn what_is_written_down_comes_back() {
        let failure = Failure {
            cause: Cause::Tls("expired".into()),
            phase: Some(Phase::FirstByte),
            message: "no".into(),
        };
        assert_eq!(round(&failure), r#"{"cause":{"tls":"expired"},"phase":"first-byte","message":"no"}"#);
        assert_eq!(serde_json::from_str::<Failure>(&round(&failure)).unwrap(), failure);

        let certificate = Certificate { der: vec![0xff, 0], not_after: 7, ..Certificate::default() };
        let session = TlsSession {
            served: vec![certificate.into()],
            verified: Err(vec![Defect { code: "expired".into(), message: "old".into() }]),
            ..TlsSession::default()
        };
        assert_eq!(serde_json::from_str::<TlsSession>(&round(&session)).unwrap(), session);

        let answer = Answer {
            rcode: 0,
            authoritative: true,
            truncated: false,
            authenticated: false,
            answers: vec![Entry {
                name: "a.".into(),
                kind: "A".into(),
                ttl: 1,
                data: "192.0.2.1".into(),
                rdata: vec![192, 0, 2, 1],
            }],
            authority: Vec::new(),
            additional: Vec::new(),
            server: "192.0.2.53:53".parse().unwrap(),
            elapsed: std::time::Duration::from_micros(12),
            security: Some((crate::Security::Bogus, "expired".into())),
        };
        assert_eq!(serde_json::from_str::<Answer>(&round(&answer)).unwrap(), answer);
    }

    #[test]
    fn a_body_is_a_text_where_it_is_one() {
        let response = |body: &[u8]| Response {
            status: 200,
            version: "1.1".into(),
            headers: Vec::new(),
            body: body.to_vec(),
            truncated: false,
            decoded: false,
            hops: Vec::new(),
            remote: "192.0.2.1:80".parse().unwrap(),
            session: None,
            timings: crate::Timings::default(),
            hop_timings: vec![crate::Timings::default()],
        };
        assert!(round(&response(b"hello")).contains(r#""body":"hello""#));
        let bytes = round(&response(b"\xff\x00"));
        assert!(bytes.contains(r#""body":{"base64":"/wA="}"#), "{bytes}");
        assert_eq!(serde_json::from_str::<Response>(&bytes).unwrap().body, b"\xff\x00");
    }

    #[test]
    fn a_header_with_a_credential_is_written_without_it() {
        let header = crate::Header::sensitive("authorization", "Bearer hunter22");
        assert_eq!(round(&header), r#"{"name":"authorization","sensitive":true}"#);
        assert_eq!(round(&crate::Header::plain("accept", "*/*")), r#"{"name":"accept","value":"*/*"}"#);
    }
}
