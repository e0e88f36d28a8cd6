//! The requests to channels: the only connections that the control plane opens. Owns the signature, the secret's lookup, and what an
//! answer means; what is sent when is `outbox`'s.

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::StatusCode;
use sha2::Sha256;
use wire::alert::Notice;
use zeroize::Zeroizing;

use super::channel::Channel;
use super::outbox::{Outcome, Parcel};
use crate::api::blocking;
use crate::control::{Control, failed};

/// Delivers until it is aborted. What was under way when it ended before is tried again.
pub(crate) async fn deliver(control: Arc<Control>) {
    let clients = match Clients::new() {
        Ok(clients) => clients,
        Err(error) => {
            tracing::error!(%error, "alerts cannot be delivered");
            return;
        }
    };
    // A failure is in the log already.
    let _ = blocking(&control, |c| {
        c.take_back();
        Ok(())
    })
    .await;
    let mut rang = control.rang.subscribe();
    let mut ticks = tokio::time::interval(LOOK);
    let mut tries = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            _ = rang.changed() => {}
            _ = ticks.tick() => {}
        }
        while tries.try_join_next().is_some() {}
        // Whoever holds what alerts remember may be writing it just now.
        let due = blocking(&control, |c| Ok(c.due())).await;
        for parcel in due.unwrap_or_default() {
            tries.spawn(try_once(control.clone(), clients.clone(), parcel));
        }
    }
}

async fn try_once(control: Arc<Control>, clients: Clients, parcel: Parcel) {
    // Up to the note nothing may end this task: the parcel would be under way for ever.
    let told = AssertUnwindSafe(send_and_tell(&control, &clients, &parcel)).catch_unwind().await;
    let outcome =
        told.unwrap_or_else(|_| Outcome::Failed("the control plane failed at this event".into(), None));
    let noted = blocking(&control, move |c| {
        c.tried(&parcel, &outcome);
        Ok(())
    });
    // A failure is in the log already, and the parcel is tried again.
    let _ = noted.await;
}

async fn send_and_tell(control: &Arc<Control>, clients: &Clients, parcel: &Parcel) -> Outcome {
    let outcome = send(control, clients, parcel).await;
    let (event, channel) = (parcel.event, parcel.channel.as_str());
    match &outcome {
        Outcome::Delivered => {
            tracing::debug!(%event, channel, "delivered");
            failpoint::hit("control.alert.delivered");
        }
        Outcome::Failed(why, _) => {
            tracing::warn!(%event, channel, why, "an alert was not delivered: it is tried again");
        }
        Outcome::Refused(why) => tracing::warn!(%event, channel, why, "an alert is not delivered"),
    }
    outcome
}

async fn send(control: &Arc<Control>, clients: &Clients, parcel: &Parcel) -> Outcome {
    let Some(channel) = control.registry().channels.get(&parcel.channel).cloned() else {
        return Outcome::Refused("the channel was removed".into());
    };
    let id = parcel.event;
    match blocking(control, move |c| c.parts.store.alert(id).map_err(|e| failed(&e))).await {
        Ok(Some(event)) => clients.post(&channel, &event.notice, control.now().wall.as_millis() / 1000).await,
        Ok(None) => Outcome::Refused("the event was forgotten".into()),
        Err(problem) => Outcome::Failed(problem.detail, None),
    }
}

/// One that goes through the proxies of the environment, and one for receivers nearby.
#[derive(Clone)]
struct Clients {
    far: reqwest::Client,
    near: reqwest::Client,
}

impl Clients {
    fn new() -> Result<Self, reqwest::Error> {
        let client = || {
            reqwest::Client::builder()
                .user_agent(concat!("picket/", env!("CARGO_PKG_VERSION")))
                .redirect(reqwest::redirect::Policy::none())
                .timeout(LONGEST)
        };
        Ok(Self { far: client().build()?, near: client().no_proxy().build()? })
    }

    async fn post(&self, channel: &Channel, notice: &Notice, unix_s: i64) -> Outcome {
        let Some(secret) = secret(&channel.secret, Path::new(SECRETS)) else {
            return Outcome::Failed(missing(&channel.secret), None);
        };
        let body = serde_json::to_vec(notice).expect("a notice is texts");
        let client = if channel.url.starts_with("http://") { &self.near } else { &self.far };
        let request = client
            .post(&channel.url)
            .header("content-type", "application/json")
            .header("picket-delivery", notice.id.to_string())
            .header("picket-signature", signature(&secret, unix_s, &body))
            .body(body);
        match request.send().await {
            Ok(answer) => judged(answer.status(), answer.headers().get("retry-after")),
            Err(error) => Outcome::Failed(cause(error), None),
        }
    }
}

/// `t=SECONDS,v1=HEX`: HMAC-SHA256 over the seconds, a full stop and the body.
fn signature(secret: &[u8], unix_s: i64, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of every length");
    mac.update(format!("{unix_s}.").as_bytes());
    mac.update(body);
    format!("t={unix_s},v1={}", hex::encode(mac.finalize().into_bytes()))
}

/// 2xx is success, 410 is for ever. Everything else is tried again, also what says that we are wrong: receivers are repaired too.
fn judged(status: StatusCode, retry_after: Option<&reqwest::header::HeaderValue>) -> Outcome {
    if status.is_success() {
        return Outcome::Delivered;
    }
    let said = format!("the receiver answered {status}");
    if status == StatusCode::GONE {
        return Outcome::Refused(said);
    }
    let seconds = retry_after.and_then(|v| v.to_str().ok()?.trim().parse::<u64>().ok());
    Outcome::Failed(said, seconds.map(|s| s.saturating_mul(1000)))
}

/// The secret of this name: the environment first, then a file. An empty one is none.
fn secret(name: &str, directory: &Path) -> Option<Zeroizing<Vec<u8>>> {
    use std::os::unix::ffi::OsStringExt;
    if let Some(value) = std::env::var_os(variable(name)).filter(|value| !value.is_empty()) {
        return Some(Zeroizing::new(value.into_vec()));
    }
    let mut bytes = Zeroizing::new(std::fs::read(directory.join(name)).ok()?);
    // Editors and `echo` end a file with a line break that is no part of the secret.
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    (!bytes.is_empty()).then_some(bytes)
}

fn missing(name: &str) -> String {
    format!("secret \"{name}\" is not on the control plane: set {} or write {SECRETS}/{name}", variable(name))
}

/// `ops-webhook` is `PICKET_SECRET_OPS_WEBHOOK`, as on agents.
fn variable(name: &str) -> String {
    let upper = name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
    "PICKET_SECRET_".chars().chain(upper).collect()
}

/// The chain of causes, without the address: it may be a secret of its own.
fn cause(error: reqwest::Error) -> String {
    let error = error.without_url();
    let chain = std::iter::successors(Some(&error as &dyn std::error::Error), |e| e.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

const SECRETS: &str = "/run/secrets";

/// A receiver that takes longer gets it again.
const LONGEST: Duration = Duration::from_secs(10);

/// How often the outbox is looked into when nothing rings.
const LOOK: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_the_one_that_others_compute() {
        // echo -n '1700000000.{"a":1}' | openssl dgst -sha256 -hmac key
        let expected = "t=1700000000,v1=a438e398bfafc57e4396bb7fc2304422f0f768e965d073ca313cb52e22e6ad03";
        assert_eq!(signature(b"key", 1_700_000_000, b"{\"a\":1}"), expected);
    }

    #[test]
    fn only_a_success_is_delivered_and_only_410_is_for_ever() {
        let check = |status: u16, after: Option<&'static str>, expected: &str| {
            let after = after.map(reqwest::header::HeaderValue::from_static);
            let outcome = judged(StatusCode::from_u16(status).unwrap(), after.as_ref());
            assert!(format!("{outcome:?}").starts_with(expected), "{status}: {outcome:?}");
        };
        check(204, None, "Delivered");
        check(410, None, "Refused(\"the receiver answered 410 Gone\")");
        check(301, None, "Failed(\"the receiver answered 301 Moved Permanently\", None)");
        check(404, None, "Failed");
        check(503, Some("7"), "Failed(\"the receiver answered 503 Service Unavailable\", Some(7000))");
        check(503, Some("soon"), "Failed(\"the receiver answered 503 Service Unavailable\", None)");
    }

    #[test]
    fn a_secret_comes_from_a_file_without_its_line_end_and_a_missing_one_says_where_to_put_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ops-hook"), "s3cret\r\n").unwrap();
        std::fs::write(dir.path().join("empty"), "\n").unwrap();
        assert_eq!(secret("ops-hook", dir.path()).unwrap().as_slice(), b"s3cret");
        assert!(secret("empty", dir.path()).is_none() && secret("none", dir.path()).is_none());
        assert!(missing("ops-hook").contains("set PICKET_SECRET_OPS_HOOK or write /run/secrets/ops-hook"));
    }
}
