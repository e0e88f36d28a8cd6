//! What becomes of tokens, leases and copies.

use wire::token::{Challenge, Recover};

use super::*;

const DAY: Duration = Duration::from_secs(24 * 3600);
const MINUTE: Duration = Duration::from_secs(60);

fn nothing() -> Value {
    json!({"epoch": 0, "seq": 0})
}

#[track_caller]
fn is(answer: &(StatusCode, Value), status: u16, code: &str) {
    assert_eq!((answer.0.as_u16(), answer.1["code"].as_str()), (status, Some(code)), "{}", answer.1);
}

#[track_caller]
fn is_ok(answer: &(StatusCode, Value)) {
    assert_eq!(answer.0, StatusCode::OK, "{}", answer.1);
}

impl Plane {
    /// Kinds of the agent's events, newest first.
    async fn told(&self, agent: &str) -> Vec<String> {
        let events = self.get(&format!("/v1/agents/{agent}/events")).await;
        let kind = |event: &Value| event["kind"].as_str().unwrap().to_owned();
        events.as_array().unwrap().iter().map(kind).collect()
    }

    async fn state(&self, agent: usize) -> String {
        self.get("/v1/agents").await[agent]["state"].as_str().unwrap().to_owned()
    }

    async fn order(&self, what: &str) {
        is_ok(&self.call(Method::POST, &format!("/v1/agents/edge-1/{what}"), None).await);
    }

    /// Ends it and starts another one on the same data, at the same time of the wall clock.
    async fn restart(self, data: &Path) -> Self {
        self.restart_after(data, Duration::ZERO).await
    }

    /// The same, when the wall clock shows so much more.
    async fn restart_after(self, data: &Path, time: Duration) -> Self {
        self.pass(time);
        let at = self.now_ms.load(Ordering::SeqCst);
        self.server.abort();
        let control = Arc::downgrade(&self.control);
        drop(self);
        while control.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
        Self::start_at(data, at).await
    }
}

impl Device {
    /// A copy of its data directory.
    fn copy(&self) -> Self {
        Self {
            url: self.url.clone(),
            key: self.key.clone(),
            token: self.token.clone(),
            server_key: self.server_key.clone(),
            lease: self.lease.clone(),
            counter: Mutex::new(0),
            ..*self
        }
    }

    async fn rotate(&self, generation: u64, token: &str) -> (StatusCode, Value) {
        let body = json!({"generation": generation, "token_sha256": token_sha256(token)}).to_string();
        self.send(&self.stamp(), Method::POST, "/v1/token/rotate", body, None).await
    }

    fn with(&mut self, generation: u64, token: &str) {
        (self.generation, self.token) = (generation, token.to_owned());
    }

    /// Says hello and names the lease that it has.
    async fn greet(&mut self) -> (StatusCode, Value) {
        let lease = self.lease.clone();
        self.try_hello(nothing(), Some(&lease)).await
    }

    async fn challenge(&self) -> Challenge {
        let asked = reqwest::Client::new().post(format!("{}/v1/recover/challenge", self.url));
        let answer = asked.body(json!({"agent_id": self.id}).to_string()).send().await.unwrap();
        let challenge: Challenge = answer.json().await.unwrap();
        let text = Challenge::signed(self.id, &challenge.challenge, challenge.generation);
        assert!(wire::signature::verify(&public_key(&self.server_key).unwrap(), &text, &challenge.signature));
        challenge
    }

    /// Recovers; the last member says whether the answer was signed.
    async fn recover(
        &self,
        challenge: &Challenge,
        key: &SigningKey,
        token: &str,
    ) -> (StatusCode, Value, bool) {
        let Challenge { challenge, generation, .. } = challenge;
        let sha256 = token_sha256(token);
        let text = Recover::signed(self.id, challenge, *generation, &sha256);
        let body = Recover {
            agent_id: self.id,
            challenge: challenge.clone(),
            generation: *generation,
            token_sha256: sha256,
            signature: wire::signature::sign(key, &text),
        };
        let body = serde_json::to_vec(&body).unwrap();
        let asked = Asked::new("POST", "/v1/recover", &body);
        let request = reqwest::Client::new().post(format!("{}/v1/recover", self.url));
        let answer = request.body(body).send().await.unwrap();
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = answer.bytes().await.unwrap();
        let stamp = Stamp { agent: self.id, generation: *generation, lease: challenge.clone(), counter: 0 };
        let signed = self.is_signed(&stamp, &asked, status.as_u16(), "", &body, &headers);
        (status, serde_json::from_slice(&body).unwrap(), signed)
    }
}

#[tokio::test]
async fn the_first_use_of_a_new_token_activates_it_and_the_one_before_stays_good_for_ten_minutes() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    let mut device = plane.agent("edge-1").await;
    let first = device.token.clone();
    for _ in 0..3 {
        is_ok(&device.rotate(2, "second").await);
    }
    plane.pass(DAY);
    device.greet().await;
    is_ok(&device.results(vec![]).await);
    device.with(2, "second");
    is_ok(&device.results(vec![]).await);
    device.with(1, &first);
    plane.pass(9 * MINUTE);
    is_ok(&device.greet().await);
    is_ok(&device.results(vec![]).await);
    plane.pass(MINUTE);
    is(&device.results(vec![]).await, 401, "superseded");
    device.with(2, "second");
    is_ok(&device.greet().await);
    is_ok(&device.results(vec![]).await);
    assert_eq!(plane.told("edge-1").await, ["superseded", "rotated", "enrolled"]);
}

#[tokio::test]
async fn a_rotation_survives_a_restart_at_each_of_its_steps() {
    let dir = tempfile::tempdir().unwrap();
    let mut plane = Plane::start(dir.path()).await;
    let mut device = plane.agent("edge-1").await;
    let first = device.token.clone();
    is_ok(&device.rotate(2, "second").await);
    plane = plane.restart(dir.path()).await;
    device.url.clone_from(&plane.url);
    is_ok(&device.greet().await);
    is_ok(&device.rotate(2, "second").await);
    device.with(2, "second");
    is_ok(&device.results(vec![]).await);
    plane = plane.restart(dir.path()).await;
    device.url.clone_from(&plane.url);
    device.with(1, &first);
    is_ok(&device.greet().await);
    plane.pass(10 * MINUTE);
    is(&device.greet().await, 401, "superseded");
    device.with(2, "second");
    is_ok(&device.greet().await);
}

#[tokio::test]
async fn a_token_without_its_device_key_opens_nothing_and_the_owner_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    let device = plane.agent("edge-1").await;
    let thief = SigningKey::from_bytes(&[77; 32]);
    for n in 0..500_u32 {
        let stamp = device.stamp();
        let body = format!("{{\"replayed\": {n}}}");
        let signature = stamp.sign_request(&thief, "POST", "/v1/results", body.as_bytes());
        let (status, answer, _) =
            device.send_as(&stamp, Method::POST, "/v1/results", body, None, &signature).await;
        is(&(status, answer), 401, "bad_signature");
    }
    assert_eq!(plane.told("edge-1").await, ["stolen", "enrolled"], "once a minute at most");
}

#[tokio::test]
async fn a_setup_token_shown_by_another_device_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    let token = plane.setup_token("edge-1").await;
    is_ok(&Device::new(&plane.url, 1).enroll(&token).await);
    is(&Device::new(&plane.url, 2).enroll(&token).await, 409, "setup_token_used");
    assert_eq!(plane.told("edge-1").await, ["setup_token_reused", "enrolled"]);
    assert_eq!(plane.get("/v1/events?limit=1").await[0]["agent"], "edge-1");
}

#[tokio::test]
async fn the_device_key_recovers_a_token_once_a_challenge_and_each_time_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    let mut device = plane.agent("edge-1").await;
    let challenge = device.challenge().await;
    let thief = SigningKey::from_bytes(&[77; 32]);
    let (status, answer, signed) = device.recover(&challenge, &thief, "mine").await;
    assert_eq!((status.as_u16(), answer["code"].as_str(), signed), (401, Some("unauthorized"), false));
    let (status, answer, signed) = device.recover(&challenge, &device.key, "second").await;
    assert_eq!((status.as_u16(), &answer["generation"], signed), (200, &json!(2), true));
    let (status, answer, signed) = device.recover(&challenge, &device.key, "third").await;
    assert_eq!((status.as_u16(), answer["code"].as_str(), signed), (401, Some("lease_unknown"), true));
    is(&device.greet().await, 401, "superseded");
    device.with(2, "second");
    is_ok(&device.greet().await);
    assert_eq!(plane.get("/v1/agents").await[0]["recoveries"], 1);
    assert_eq!(plane.told("edge-1").await, ["superseded", "recovered", "enrolled"]);
}

#[tokio::test]
async fn after_a_week_of_silence_a_token_is_good_for_a_rotation_only() {
    for (days, first) in [(6, "ok"), (30, "rotate_first"), (89, "rotate_first")] {
        let dir = tempfile::tempdir().unwrap();
        let plane = Plane::start(dir.path()).await;
        let mut device = plane.agent("edge-1").await;
        plane.pass(DAY * days);
        is_ok(&device.greet().await);
        if first == "ok" {
            is_ok(&device.results(vec![]).await);
            continue;
        }
        is(&device.results(vec![]).await, 403, first);
        is_ok(&device.greet().await);
        is(&device.results(vec![]).await, 403, first);
        is_ok(&device.rotate(2, "second").await);
        is(&device.results(vec![]).await, 403, first);
        device.with(2, "second");
        is_ok(&device.results(vec![]).await);
        is_ok(&device.greet().await);
        assert_eq!(plane.state(0).await, "connected");
    }
}

#[tokio::test]
async fn after_ninety_days_of_silence_the_owner_approves_also_across_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    let mut device = plane.agent("edge-1").await;
    plane.pass(DAY * 91);
    plane.control.keep_alive().unwrap();
    let plane = plane.restart(dir.path()).await;
    device.url.clone_from(&plane.url);
    is(&device.greet().await, 403, "approval_required");
    assert_eq!(plane.state(0).await, "approval");
    plane.order("approve").await;
    is_ok(&device.greet().await);
    is(&device.results(vec![]).await, 403, "rotate_first");
    is_ok(&device.rotate(2, "second").await);
    device.with(2, "second");
    is_ok(&device.results(vec![]).await);
    assert_eq!(plane.told("edge-1").await, ["rotated", "approved", "approval_required", "enrolled"]);
}

#[tokio::test]
async fn a_revoked_agent_is_told_so_with_a_signature_until_it_is_approved_also_across_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    let mut device = plane.agent("edge-1").await;
    plane.order("revoke").await;
    is(&device.results(vec![]).await, 403, "revoked");
    is(&device.rotate(2, "second").await, 403, "revoked");
    let plane = plane.restart(dir.path()).await;
    device.url.clone_from(&plane.url);
    is(&device.greet().await, 403, "revoked");
    let challenge = device.challenge().await;
    let (status, answer, signed) = device.recover(&challenge, &device.key, "second").await;
    assert_eq!((status.as_u16(), answer["code"].as_str(), signed), (403, Some("revoked"), true));
    assert_eq!(plane.state(0).await, "revoked");
    plane.order("approve").await;
    is_ok(&device.greet().await);
    is_ok(&device.results(vec![]).await);
    assert_eq!(plane.told("edge-1").await, ["approved", "revoked", "enrolled"]);
}

#[tokio::test]
async fn neither_the_control_planes_own_absence_nor_a_jump_of_its_clock_makes_an_agent_silent() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    let mut device = plane.agent("edge-1").await;
    plane.pass(DAY * 6);
    plane.control.keep_alive().unwrap();
    let plane = plane.restart_after(dir.path(), DAY * 365 * 10).await;
    device.url.clone_from(&plane.url);
    assert_eq!(plane.state(0).await, "away");
    is_ok(&device.greet().await);
    is_ok(&device.results(vec![]).await);
}

#[tokio::test]
async fn an_agent_from_before_silence_was_limited_is_let_in_after_an_upgrade() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    let mut device = plane.agent("edge-1").await;
    plane
        .control
        .change(|registry| {
            let agent = registry.agents_mut().get_mut("edge-1").unwrap();
            let old = agent.device.as_mut().unwrap();
            (old.seen_at, old.approved_at) = (Timestamp::default(), Timestamp::default());
            Ok((vec![crate::control::Written::Agent(agent.clone(), false)], ()))
        })
        .unwrap();
    let plane = plane.restart(dir.path()).await;
    device.url.clone_from(&plane.url);
    is_ok(&device.greet().await);
    is_ok(&device.results(vec![]).await);
}

#[tokio::test]
async fn a_new_token_that_was_asked_of_a_device_which_died_is_asked_of_the_one_that_takes_over() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    let mut original = plane.agent("edge-1").await;
    is_ok(&original.results(vec![]).await);
    let mut copy = original.copy();
    is_ok(&original.greet().await);
    is_ok(&original.results(vec![]).await);
    is(&copy.greet().await, 409, "forked");
    plane.order("rotate").await;
    let asked = async |device: &Device| {
        let path = "/v1/pushes?after=0&wait=0";
        let (_, waiting) = device.send(&device.stamp(), Method::GET, path, String::new(), None).await;
        waiting["pushes"].as_array().unwrap().iter().any(|numbered| numbered["push"]["kind"] == "rotate")
    };
    plane.pass(MINUTE / 2);
    is_ok(&copy.greet().await);
    assert!(asked(&copy).await);
    is_ok(&copy.rotate(2, "second").await);
    copy.with(2, "second");
    is_ok(&copy.results(vec![]).await);
    is_ok(&copy.greet().await);
    assert!(!asked(&copy).await, "it is in use");
}

#[tokio::test]
async fn an_agent_that_is_connected_can_be_asked_for_a_new_token() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    let device = plane.agent("edge-1").await;
    plane.order("rotate").await;
    let path = "/v1/pushes?after=0&wait=0";
    let (_, waiting) = device.send(&device.stamp(), Method::GET, path, String::new(), None).await;
    let pushes = waiting["pushes"].as_array().unwrap();
    assert!(pushes.iter().any(|numbered| numbered["push"]["kind"] == "rotate"), "{waiting}");
    plane.pass(MINUTE);
    is(&plane.call(Method::POST, "/v1/agents/edge-1/rotate", None).await, 409, "conflict");
}

#[tokio::test]
async fn of_two_devices_with_one_identity_the_second_stands_by_and_takes_over_when_the_first_is_silent() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    let mut original = plane.agent("edge-1").await;
    is_ok(&original.results(vec![]).await);
    let mut copy = original.copy();
    is_ok(&copy.greet().await);
    is_ok(&copy.results(vec![]).await);
    is(&original.results(vec![]).await, 401, "lease_unknown");
    is(&original.greet().await, 409, "forked");
    is_ok(&copy.results(vec![]).await);
    assert_eq!(plane.state(0).await, "forked");
    plane.pass(Duration::from_secs(20));
    is(&original.greet().await, 409, "forked");
    is_ok(&copy.results(vec![]).await);
    plane.pass(Duration::from_secs(29));
    is(&original.greet().await, 409, "forked");
    plane.pass(Duration::from_secs(1));
    let answer = original.greet().await;
    is_ok(&answer);
    assert_eq!(answer.1["renumber"], true, "the copy may have used its positions");
    is_ok(&original.results(vec![]).await);
    is(&copy.greet().await, 409, "forked");
    assert_eq!(
        plane.told("edge-1").await,
        ["taken_over", "forked", "enrolled"],
        "forked at most once a minute"
    );
}

#[tokio::test]
async fn a_copy_whose_token_was_rotated_away_stands_by_instead_of_recovering() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    let mut original = plane.agent("edge-1").await;
    is_ok(&original.results(vec![]).await);
    let mut copy = original.copy();
    is_ok(&original.greet().await);
    is_ok(&original.rotate(2, "second").await);
    original.with(2, "second");
    is_ok(&original.results(vec![]).await);
    plane.pass(10 * MINUTE);
    is_ok(&original.greet().await);
    is_ok(&original.results(vec![]).await);
    is(&copy.greet().await, 409, "forked");
}

#[tokio::test]
async fn lost_welcomes_deaths_before_they_are_kept_and_restarts_make_no_fork() {
    let dir = tempfile::tempdir().unwrap();
    let mut plane = Plane::start(dir.path()).await;
    let mut device = plane.agent("edge-1").await;
    is_ok(&device.results(vec![]).await);
    let kept = device.lease.clone();
    for _ in 0..5 {
        let answer = device.try_hello(nothing(), Some(&kept)).await;
        is_ok(&answer);
        assert_eq!(answer.1["renumber"], false);
    }
    is_ok(&device.results(vec![]).await);
    is_ok(&device.greet().await);
    plane = plane.restart(dir.path()).await;
    device.url.clone_from(&plane.url);
    let answer = device.try_hello(nothing(), Some(&kept)).await;
    is_ok(&answer);
    assert_eq!(answer.1["renumber"], false);
    is_ok(&device.results(vec![]).await);
    assert_eq!(plane.told("edge-1").await, ["enrolled"]);
}

#[tokio::test]
async fn of_the_events_of_an_agent_the_newest_thousand_are_kept_and_a_deleted_one_takes_them_along() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    let _device = plane.agent("edge-1").await;
    for _ in 0..520 {
        plane.control.revoke_agent("edge-1").unwrap();
        plane.control.approve_agent("edge-1").unwrap();
    }
    let told = plane.control.events(Some("edge-1"), 5_000).unwrap();
    assert_eq!(told.len(), 1_000);
    assert!(plane.told("edge-1").await.iter().all(|kind| kind != "enrolled"));
    assert_eq!(told[0].kind, wire::event::AgentEventKind::Approved);
    plane.control.delete_agent("edge-1").unwrap();
    assert_eq!(plane.control.events(None, 10).unwrap(), []);
    assert!(plane.control.events(Some("edge-1"), 10).is_err());
}
