//! How an agent comes to its identity: everything on disk first, then the same request until there is a definite answer.

use std::future::Future;
use std::time::Duration;

use reqwest::Method;
use wire::enroll::{EnrollAnswer, EnrollRequest};
use wire::signature::{Asked, Stamp, public_key, token_sha256};
use wire::{API, Problem};
use zeroize::Zeroizing;

use super::keeper::{Keeper, Kept};
use super::{Enrolling, Identity, Loaded, State, slot, store};
use crate::slots::Slots;
use crate::uplink::backoff::Backoff;
use crate::uplink::client::EXCHANGE;
use crate::uplink::retry_after;
use crate::uplink::transport::{Answer, Request, Transport};
use crate::{Error, clock};

/// The identity on disk, or a new one for `setup_token`. Keeps trying while nobody gives a definite answer, telling each new reason to
/// `say`, until `shutdown`.
pub(crate) async fn identity(
    data: &std::path::Path,
    transport: &Transport,
    setup_token: Option<&str>,
    mut say: impl FnMut(&str),
    shutdown: impl Future<Output = ()>,
) -> Result<Keeper, Error> {
    let Loaded { mut slots, state, frail } = super::load(data)?;
    if let State::Active(kept) = state {
        // A kill between the two writes of an enrolment, or damage since. Where the disk refuses, it stays as good as it was.
        if frail && let Err(error) = store(&mut slots, &slot::encode_active(&kept)) {
            tracing::warn!(%error, "one of the two files of the identity is damaged or old, and cannot be written");
        }
        return Ok(Keeper::new(slots, *kept));
    }
    let Some(setup_token) = setup_token.map(str::trim).filter(|token| !token.is_empty()) else {
        return Err(Error::NoIdentity(data.to_owned()));
    };
    let begun = match state {
        State::Enrolling(begun) if !frail => *begun,
        State::Enrolling(begun) => begin(&mut slots, *begun)?,
        State::New | State::Active(_) => begin(&mut slots, Enrolling::new())?,
    };
    let mut shutdown = std::pin::pin!(shutdown);
    let mut backoff = Backoff::default();
    let mut reason = "told to stop before the control plane was asked".to_owned();
    let mut asks;
    loop {
        let answer = tokio::select! {
            answer = ask(transport, &begun, setup_token) => answer,
            () = &mut shutdown => return Err(Error::NotEnrolled { reason }),
        };
        match answer {
            Ok(answer) => return keep(slots, begun, answer),
            Err(NoAnswer::Definite(detail)) => {
                return Err(Error::Refused { control: transport.control().to_owned(), detail });
            }
            Err(NoAnswer::Unclear { reason: unclear, asked }) => {
                if unclear != reason {
                    say(&unclear);
                    reason = unclear;
                }
                asks = asked.map(|asked| retry_after::wait(asked, false, rand::random()));
            }
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.failed_or(asks, rand::random())) => {}
            () = &mut shutdown => return Err(Error::NotEnrolled { reason }),
        }
    }
}

/// Puts an enrolment on disk before anything is said of it: in both slots, or damage to one would begin another, which the setup
/// token is not good for any more.
fn begin(slots: &mut Slots, begun: Enrolling) -> Result<Enrolling, Error> {
    for _ in 0..2 {
        store(slots, &slot::encode_enrolling(&begun))?;
        failpoint::hit("identity.enrolling");
    }
    Ok(begun)
}

/// Makes the answer durable; from here on the setup token is never needed again.
fn keep(mut slots: Slots, begun: Enrolling, answer: Verified) -> Result<Keeper, Error> {
    let Verified { answer, server_key } = answer;
    let kept = Kept::fresh(enrolled(begun, answer, server_key), clock::wall());
    // Twice: neither slot may hold the enrolment any more, or damage to the other would begin it again.
    for _ in 0..2 {
        store(&mut slots, &slot::encode_active(&kept))?;
        failpoint::hit("identity.active");
    }
    Ok(Keeper::new(slots, kept))
}

fn enrolled(begun: Enrolling, answer: EnrollAnswer, server_key: ed25519_dalek::VerifyingKey) -> Identity {
    Identity {
        agent: answer.agent_id,
        name: answer.name,
        location: answer.location,
        generation: answer.generation,
        token: begun.token,
        key: begun.key,
        server_key,
        fresh: true,
    }
}

/// An answer whose signature fits the key that it brings.
struct Verified {
    answer: EnrollAnswer,
    server_key: ed25519_dalek::VerifyingKey,
}

enum NoAnswer {
    /// The control plane's last word on this setup token.
    Definite(String),
    /// Nobody's last word.
    Unclear {
        reason: String,
        /// How long it asks to wait. It is not signed.
        asked: Option<Duration>,
    },
}

async fn ask(transport: &Transport, begun: &Enrolling, setup_token: &str) -> Result<Verified, NoAnswer> {
    let public_key = hex::encode(begun.key.verifying_key().as_bytes());
    let token_sha256 = token_sha256(&begun.token);
    let signed =
        Zeroizing::new(EnrollRequest::signed(setup_token, begun.enrollment_id, &public_key, &token_sha256));
    let body = EnrollRequest {
        setup_token: setup_token.to_owned(),
        enrollment_id: begun.enrollment_id,
        public_key,
        token_sha256,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        signature: hex::encode(ed25519_dalek::Signer::sign(&begun.key, signed.as_bytes()).to_bytes()),
    };
    let body = serde_json::to_vec(&body).expect("strings are always JSON");
    let path = format!("{API}/enroll");
    let asked = Asked::new(Method::POST.as_str(), &path, &body);
    let request = Request::new(Method::POST, &path, body, EXCHANGE);
    let answer = transport
        .exchange(request)
        .await
        .map_err(|reason| format!("cannot reach {}: {reason}", transport.control()))
        .map_err(|reason| NoAnswer::Unclear { reason, asked: None })?;
    judge(begun, &asked, &answer)
}

/// What an answer means. Pure: whatever is neither a signed identity nor a refusal in the control plane's own form is unclear.
fn judge(begun: &Enrolling, asked: &Asked, answer: &Answer) -> Result<Verified, NoAnswer> {
    let unclear = |why: &str| NoAnswer::Unclear {
        reason: format!("answered {} {why}", answer.status),
        asked: answer.retry_after,
    };
    if (200..300).contains(&answer.status) {
        let enrolled: EnrollAnswer = serde_json::from_slice(&answer.body)
            .map_err(|_| unclear("with something that is no identity"))?;
        let server_key =
            public_key(&enrolled.server_key).ok_or_else(|| unclear("with a key that is none"))?;
        let lease = begun.enrollment_id.to_string();
        let stamp = Stamp { agent: enrolled.agent_id, generation: enrolled.generation, lease, counter: 0 };
        let Answer { status, etag, signature, body, .. } = answer;
        if !stamp.verify_answer(&server_key, asked, *status, etag, body, signature) {
            return Err(unclear("without a signature that fits"));
        }
        return Ok(Verified { answer: enrolled, server_key });
    }
    let problem = answer.content_type.starts_with("application/problem+json");
    match serde_json::from_slice::<Problem>(&answer.body) {
        Ok(problem_body) if problem && DEFINITE.contains(&problem_body.code.as_str()) => {
            Err(NoAnswer::Definite(problem_body.to_string()))
        }
        Ok(problem_body) if problem => Err(unclear(&format!("({})", problem_body.detail))),
        _ => Err(unclear("and is not a Picket control plane")),
    }
}

/// Refusals that no repetition changes.
const DEFINITE: [&str; 4] =
    [Problem::SETUP_TOKEN_UNKNOWN, Problem::SETUP_TOKEN_USED, Problem::SETUP_TOKEN_EXPIRED, Problem::INVALID];

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;
    use uuid::Uuid;
    use wire::AgentId;

    use super::super::load;
    use super::*;

    fn answer(status: u16, content_type: &str, body: &str) -> Answer {
        Answer {
            status,
            etag: String::new(),
            retry_after: None,
            signature: String::new(),
            content_type: content_type.into(),
            body: body.into(),
        }
    }

    fn asked() -> Asked {
        Asked::new("POST", "/v1/enroll", b"{}")
    }

    /// A right answer to `begun`.
    fn signed(begun: &Enrolling) -> Answer {
        let key = SigningKey::from_bytes(&[3; 32]);
        let enrolled = EnrollAnswer {
            agent_id: AgentId(Uuid::from_u128(5)),
            name: "edge-1".into(),
            location: "dc1".into(),
            generation: 1,
            server_key: hex::encode(key.verifying_key().as_bytes()),
        };
        let body = serde_json::to_string(&enrolled).unwrap();
        let stamp = Stamp {
            agent: enrolled.agent_id,
            generation: 1,
            lease: begun.enrollment_id.to_string(),
            counter: 0,
        };
        let signature = stamp.sign_answer(&key, &asked(), 200, "", body.as_bytes());
        Answer { signature, ..answer(200, "application/json", &body) }
    }

    #[test]
    fn only_the_control_planes_own_refusals_are_definite() {
        let begun = Enrolling::new();
        let problem = |code: &str| format!(r#"{{"code":"{code}","detail":"the setup token is gone"}}"#);
        let json = "application/problem+json";
        for (answer, definite) in [
            (answer(401, json, &problem(Problem::SETUP_TOKEN_UNKNOWN)), true),
            (answer(409, json, &problem(Problem::SETUP_TOKEN_USED)), true),
            (answer(410, json, &problem(Problem::SETUP_TOKEN_EXPIRED)), true),
            (answer(409, "text/html", &problem(Problem::SETUP_TOKEN_USED)), false),
            (answer(500, json, &problem(Problem::INTERNAL)), false),
            (answer(401, "text/html", "<html>sign in</html>"), false),
            (answer(407, "", ""), false),
            (answer(302, "", ""), false),
            (answer(200, "text/html", "<html>welcome to the hotel</html>"), false),
        ] {
            match judge(&begun, &asked(), &answer) {
                Err(NoAnswer::Definite(detail)) => assert!(definite && detail.contains("gone")),
                Err(NoAnswer::Unclear { reason, .. }) => assert!(!definite, "{reason}"),
                Ok(_) => panic!("{} is no identity", answer.status),
            }
        }
    }

    #[test]
    fn a_control_plane_that_has_too_much_to_do_says_when_to_come_again() {
        let busy = r#"{"code":"busy","detail":"too much to do"}"#;
        for (content_type, body) in [("application/problem+json", busy), ("text/html", "<html>busy</html>")] {
            let later = Some(Duration::from_secs(20));
            let answer = Answer { retry_after: later, ..answer(429, content_type, body) };
            let Err(NoAnswer::Unclear { asked: told, .. }) = judge(&Enrolling::new(), &asked(), &answer)
            else {
                panic!("it is no last word")
            };
            assert_eq!(told, later);
        }
    }

    #[test]
    fn one_damaged_slot_costs_no_identity() {
        for damaged in ["slot.a", "slot.b"] {
            let dir = tempfile::tempdir().unwrap();
            let mut slots = load(dir.path()).unwrap().slots;
            let begun = begin(&mut slots, Enrolling::new()).unwrap();
            let Ok(verified) = judge(&begun, &asked(), &signed(&begun)) else {
                panic!("the answer is right")
            };
            let identity = keep(slots, begun, verified).unwrap().active();
            std::fs::write(dir.path().join("identity").join(damaged), b"torn").unwrap();
            let State::Active(read) = load(dir.path()).unwrap().state else {
                panic!("{damaged} held the only identity")
            };
            assert_eq!((read.identity.agent, &read.identity.name), (identity.agent, &identity.name));
        }
    }

    #[test]
    fn one_damaged_slot_costs_no_enrolment_that_was_spoken_of() {
        for damaged in ["slot.a", "slot.b"] {
            let dir = tempfile::tempdir().unwrap();
            let begun = begin(&mut load(dir.path()).unwrap().slots, Enrolling::new()).unwrap();
            std::fs::write(dir.path().join("identity").join(damaged), b"torn").unwrap();
            let State::Enrolling(read) = load(dir.path()).unwrap().state else {
                panic!("{damaged} held the only enrolment")
            };
            assert_eq!(read.enrollment_id, begun.enrollment_id);
        }
    }

    /// What a start in this directory gives, without a setup token and without a control plane.
    async fn start(data: &std::path::Path) -> Result<Keeper, Error> {
        let nobody = "http://127.0.0.1:9".parse().unwrap();
        let transport = Transport::new(&nobody, None, &crate::Proxy::default()).unwrap();
        identity(data, &transport, None, |_| (), std::future::pending()).await
    }

    #[tokio::test]
    async fn a_start_puts_an_identity_that_only_one_slot_holds_into_both() {
        for (older, newest) in [("slot.a", "slot.b"), ("slot.b", "slot.a")] {
            let dir = tempfile::tempdir().unwrap();
            let mut slots = load(dir.path()).unwrap().slots;
            let begun = begin(&mut slots, Enrolling::new()).unwrap();
            let Ok(verified) = judge(&begun, &asked(), &signed(&begun)) else {
                panic!("the answer is right")
            };
            let agent = keep(slots, begun, verified).unwrap().active().agent;
            let slot = |name| dir.path().join("identity").join(name);
            std::fs::write(slot(older), b"torn").unwrap();
            assert_eq!(start(dir.path()).await.unwrap().active().agent, agent);
            std::fs::write(slot(newest), b"torn").unwrap();
            assert_eq!(start(dir.path()).await.unwrap().active().agent, agent, "{older}, then {newest}");
        }
    }

    #[tokio::test]
    async fn an_enrolment_that_was_killed_between_its_two_writes_is_whole_after_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let mut slots = load(dir.path()).unwrap().slots;
        let begun = begin(&mut slots, Enrolling::new()).unwrap();
        let Ok(Verified { answer, server_key }) = judge(&begun, &asked(), &signed(&begun)) else {
            panic!("the answer is right")
        };
        let kept = Kept::fresh(enrolled(begun, answer, server_key), clock::wall());
        store(&mut slots, &slot::encode_active(&kept)).unwrap();
        start(dir.path()).await.unwrap();
        for damaged in ["slot.a", "slot.b"] {
            let path = dir.path().join("identity").join(damaged);
            let whole = std::fs::read(&path).unwrap();
            std::fs::write(&path, b"torn").unwrap();
            assert!(matches!(load(dir.path()).unwrap().state, State::Active(_)), "{damaged}");
            std::fs::write(&path, whole).unwrap();
        }
    }

    #[test]
    fn an_identity_counts_only_with_the_signature_over_this_enrolment() {
        let (begun, other) = (Enrolling::new(), Enrolling::new());
        assert!(judge(&begun, &asked(), &signed(&begun)).is_ok());
        let another = Asked::new("POST", "/v1/enroll", b"[]");
        assert!(judge(&begun, &another, &signed(&begun)).is_err(), "the answer to another request");
        let unsigned = Answer { signature: String::new(), ..signed(&begun) };
        for wrong in [unsigned, signed(&other)] {
            assert!(matches!(judge(&begun, &asked(), &wrong), Err(NoAnswer::Unclear { .. })));
        }
    }
}
