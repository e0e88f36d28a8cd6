//! What an exchange found, as plain values: asked of the host once, judged in `judge`.

use std::fmt::{self, Display};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sdk::http::Response;
use sdk::net::Timings;
use sdk::{Stop, tls};

use crate::patterns::{Assertions, Found};
use crate::{Config, OnBodyTooLarge, json};

/// What the exchange found.
#[derive(Clone)]
pub(crate) struct Facts {
    pub(crate) status: u16,
    /// "1.1", "2".
    pub(crate) version: String,
    /// URL and status, the last response included.
    pub(crate) hops: Vec<(String, u16)>,
    /// Of each hop; none where there was only one.
    pub(crate) hop_times: Vec<Hop>,
    /// Whether the body contains `keyword`; none when it is not set.
    pub(crate) keyword: Option<bool>,
    /// Whether the body contains `keyword_absent`; none when it is not set.
    pub(crate) keyword_absent: Option<bool>,
    pub(crate) patterns: Found,
    /// What each rule of `json` found, or why the body is no JSON.
    pub(crate) json: Result<Vec<json::Said>, String>,
    /// Whether the body was over the limit; false when that does not matter.
    pub(crate) too_large: bool,
    pub(crate) encrypted: bool,
    pub(crate) certificate: Option<Certificate>,
    pub(crate) took: Duration,
}

impl Facts {
    /// Asks the host only for what an assertion needs: the body stays there, unless it is read as JSON.
    pub(crate) fn ask(
        config: &Config,
        assertions: &Assertions,
        rules: &json::Rules<'_>,
        response: &Response,
    ) -> Result<Self, Stop> {
        let contains = |text: &String| response.contains(text, !config.case_sensitive);
        let session = response.session();
        let verified = session.as_ref().and_then(|session| session.verified().ok());
        let hops = response.hops();
        Ok(Self {
            status: response.status(),
            version: response.version(),
            hop_times: match hops.len() {
                1 => Vec::new(),
                _ => response.hop_timings().into_iter().map(Hop::from).collect(),
            },
            hops,
            keyword: config.keyword.as_ref().map(contains),
            keyword_absent: config.keyword_absent.as_ref().map(contains),
            patterns: assertions.ask(config, response)?,
            json: rules.ask(response)?,
            too_large: config.on_body_too_large == OnBodyTooLarge::Fail && response.truncated(),
            encrypted: session.is_some(),
            certificate: verified.and_then(|chain| first_to_expire(&chain)),
            took: Duration::from_micros(response.timings().total_us),
        })
    }
}

/// How long one hop took, in microseconds: all of it, and the phases that happened.
#[derive(Clone)]
pub(crate) struct Hop {
    pub(crate) total: u64,
    pub(crate) phases: Vec<(&'static str, u64)>,
}

impl From<Timings> for Hop {
    fn from(timings: Timings) -> Self {
        let phases = [
            ("resolve", timings.resolve_us),
            ("connect", timings.connect_us),
            ("handshake", timings.handshake_us),
            ("send", timings.send_us),
            ("first byte", timings.first_byte_us),
            ("transfer", timings.transfer_us),
        ];
        let happened = phases.into_iter().filter_map(|(name, time)| Some((name, time?))).collect();
        Self { total: timings.total_us, phases: happened }
    }
}

impl Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |us: &u64| format!("{}.{:03}", us / 1000, us % 1000);
        let phases: Vec<String> =
            self.phases.iter().map(|(name, time)| format!("{name} {}", ms(time))).collect();
        write!(f, "{} ms ({})", ms(&self.total), phases.join(", "))
    }
}

/// The certificate that expires first.
#[derive(Clone)]
pub(crate) struct Certificate {
    pub(crate) subject: String,
    /// Seconds until then, negative once it has.
    pub(crate) left: i64,
}

/// Of the verified chain without its root, which is trusted whatever it says.
fn first_to_expire(chain: &[tls::Certificate]) -> Option<Certificate> {
    let judged = &chain[..chain.len().saturating_sub(1).max(1).min(chain.len())];
    let first = judged.iter().min_by_key(|certificate| certificate.not_after())?;
    Some(Certificate { subject: first.subject(), left: first.not_after().saturating_sub(now()) })
}

/// In seconds since 1970-01-01T00:00:00Z. Asked where there is a certificate only: the host's clock is not there for nothing.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
