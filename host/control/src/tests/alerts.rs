//! What people are told, and what not: results and time go in at the API, events come out of it.

use super::*;

/// A plane with one monitor and one agent, steady: it calls agents absent. Results are told by their state and their second.
struct Scene {
    plane: Plane,
    device: Device,
    monitor: String,
    seq: u64,
}

impl Scene {
    async fn new(dir: &Path) -> Self {
        let plane = Plane::start(dir).await;
        plane.apply(json!([shop()])).await;
        let monitor = plane.get("/v1/monitors/shop").await["id"].as_str().unwrap().to_owned();
        let device = plane.agent("edge-1").await;
        let mut scene = Self { plane, device, monitor, seq: 0 };
        for _ in 0..20 {
            scene.beat(5).await;
        }
        scene
    }

    fn now(&self) -> Timestamp {
        self.plane.control.now().wall
    }

    fn record(&mut self, state: &str, at: Timestamp) -> Value {
        self.seq += 1;
        let mut record = record(&self.monitor, 1, self.seq, state, at);
        record["age_ms"] = json!((self.now().as_millis() - at.as_millis()).max(0));
        record
    }

    async fn live(&mut self, state: &str) {
        let at = self.now();
        let result = self.record(state, at);
        self.send(vec![result]).await;
    }

    /// Sends a batch as an agent whose clock is right.
    async fn send(&self, records: Vec<Value>) {
        let body = json!({"records": records, "pending": records.len(), "sent_at": self.now()}).to_string();
        let stamp = self.device.stamp();
        let (status, answer) = self.device.send(&stamp, Method::POST, "/v1/results", body, None).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
    }

    /// Time passes, a second at a time, without a sign of life.
    fn pass(&self, seconds: u64) {
        for _ in 0..seconds {
            self.plane.pass(Duration::from_secs(1));
            self.plane.control.watch().unwrap();
        }
    }

    /// Time passes with its signs of life.
    async fn beat(&mut self, seconds: u64) {
        for begun in (0..seconds).step_by(10) {
            self.pass((seconds - begun).min(10));
            self.send(vec![]).await;
        }
    }

    /// The agent comes back with results that it recorded meanwhile.
    async fn returns(&mut self, recorded: &[(&str, i64)]) {
        let now = self.now();
        let first = self.seq;
        let records: Vec<_> =
            recorded.iter().map(|(state, back)| self.record(state, now.plus_millis(-back * 1000))).collect();
        self.device.hello(json!({"epoch": 1, "seq": first + records.len() as u64})).await;
        for batch in records.chunks(500) {
            self.send(batch.to_vec()).await;
        }
    }

    /// The same after a restart of the control plane.
    async fn restarted(self, dir: &Path) -> Self {
        let Self { plane, mut device, monitor, seq } = self;
        let now_ms = plane.now_ms.load(std::sync::atomic::Ordering::SeqCst);
        plane.server.abort();
        let control = Arc::downgrade(&plane.control);
        drop(plane);
        while control.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
        let plane = Plane::start_at(dir, now_ms).await;
        device.url.clone_from(&plane.url);
        Self { plane, device, monitor, seq }
    }

    /// What was told, oldest first, without the agents.
    async fn told(&self) -> Vec<Value> {
        let mut events = self.plane.get("/v1/alerts?limit=1000").await.as_array().unwrap().clone();
        events.reverse();
        events.retain(|e| !e["event"].as_str().unwrap().starts_with("agent_"));
        events
    }

    #[track_caller]
    fn check(told: &[Value], expected: &[&str]) {
        let kinds: Vec<_> = told.iter().map(|e| e["event"].as_str().unwrap()).collect();
        assert_eq!(kinds, expected, "{told:#?}");
    }

    /// The runs that the agent was asked for.
    fn asked(&self) -> usize {
        let pushes = crate::control::lock(&self.plane.control.pushes).since(self.device.id, 0);
        pushes.iter().filter(|p| matches!(p.push, wire::push::Push::Run { .. })).count()
    }
}

#[tokio::test]
async fn a_monitor_that_is_down_twice_is_told_once_and_its_recovery_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut scene = Scene::new(dir.path()).await;
    scene.live("up").await;
    scene.live("down").await;
    assert_eq!((scene.asked(), scene.told().await), (1, vec![]));
    for _ in 0..5 {
        scene.beat(1).await;
        scene.live("down").await;
    }
    scene.live("error").await;
    let told = scene.told().await;
    Scene::check(&told, &["down"]);
    assert_eq!(
        (&told[0]["open"], &told[0]["confirmed"], &told[0]["state"]),
        (&json!(true), &json!(false), &json!("down"))
    );
    assert_eq!(told[0]["monitor"], "shop");
    scene.live("up").await;
    scene.live("up").await;
    let told = scene.told().await;
    Scene::check(&told, &["down", "recovered"]);
    assert_eq!(told[0]["alert"], told[1]["alert"]);
    assert_eq!(scene.plane.get("/v1/alerts?open=true").await, json!([]));
    let id = told[1]["id"].as_str().unwrap();
    assert_eq!(scene.plane.get(&format!("/v1/alerts/{id}")).await["event"], "recovered");
}

#[tokio::test]
async fn in_a_window_nobody_is_alerted_and_what_is_still_down_behind_it_has_just_gone_down() {
    let dir = tempfile::tempdir().unwrap();
    let mut scene = Scene::new(dir.path()).await;
    scene.live("up").await;
    let (from, to) = (scene.now().plus_millis(10_000), scene.now().plus_millis(70_000));
    let mut monitor = shop();
    monitor["maintenance"] = json!([{"from": from, "to": to}]);
    monitor["severity"] = json!("critical");
    monitor["runbook_url"] = json!("https://wiki.example/shop");
    scene.plane.apply(json!([monitor])).await;
    // Down just before it: who was asked answers within it.
    scene.live("down").await;
    assert_eq!(scene.asked(), 1);
    scene.beat(11).await;
    for _ in 0..9 {
        scene.live("down").await;
        scene.beat(6).await;
    }
    assert_eq!(scene.plane.get("/v1/monitors/shop").await["state"], "maintenance");
    let latest = scene.plane.get("/v1/results?monitor=shop&limit=1").await["results"][0].clone();
    assert_eq!((&latest["state"], &latest["found"]), (&json!("maintenance"), &json!("down")));
    scene.beat(20).await;
    assert_eq!((scene.asked(), scene.told().await), (1, vec![]));
    let since = scene.now();
    assert!(since > to);
    scene.live("down").await;
    scene.live("down").await;
    let told = scene.told().await;
    Scene::check(&told, &["down"]);
    assert_eq!((&told[0]["since"], &told[0]["severity"]), (&json!(since), &json!("critical")));
    assert_eq!(told[0]["runbook_url"], "https://wiki.example/shop");
    let uptime = scene.plane.get("/v1/monitors/shop").await["uptime"][0].clone();
    assert!((60..=64).contains(&uptime["maintenance_s"].as_u64().unwrap()), "{uptime}");
    assert!(uptime["down_s"].as_u64().unwrap() <= 12, "{uptime}");
    scene.live("up").await;
    let told = scene.told().await;
    Scene::check(&told, &["down", "recovered"]);
}

#[tokio::test]
async fn buffered_results_are_judged_by_the_time_at_which_they_were_made() {
    let dir = tempfile::tempdir().unwrap();
    let mut scene = Scene::new(dir.path()).await;
    let (from, to) = (scene.now().plus_millis(50_000), scene.now().plus_millis(100_000));
    let mut monitor = shop();
    monitor["maintenance"] = json!([{"from": from, "to": to}]);
    scene.plane.apply(json!([monitor])).await;
    scene.live("up").await;
    scene.pass(200);
    scene.returns(&[("down", 160), ("down", 120), ("up", 90)]).await;
    let results = scene.plane.get("/v1/results?monitor=shop").await["results"].clone();
    let states: Vec<_> = results.as_array().unwrap().iter().map(|r| r["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["up", "down", "maintenance", "up"]);
    assert_eq!(results[2]["found"], "down");
}

#[tokio::test]
async fn what_is_over_when_it_arrives_is_told_to_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let mut scene = Scene::new(dir.path()).await;
    scene.live("up").await;
    let now = scene.now();
    let states = ["down", "down", "down", "up"];
    let batch: Vec<_> = states.iter().map(|state| scene.record(state, now)).collect();
    scene.send(batch).await;
    scene.beat(30).await;
    Scene::check(&scene.told().await, &[]);
}

#[tokio::test]
async fn ten_thousand_buffered_downs_are_no_alert_and_one_digest() {
    let dir = tempfile::tempdir().unwrap();
    let mut scene = Scene::new(dir.path()).await;
    scene.live("up").await;
    scene.pass(20_000);
    let buffered: Vec<_> = (0..10_000).map(|n| ("down", 20_000 - n)).collect();
    scene.returns(&buffered).await;
    scene.live("up").await;
    scene.beat(5).await;
    scene.live("up").await;
    scene.beat(60).await;
    let told = scene.told().await;
    Scene::check(&told, &["digest"]);
    assert!(told[0]["summary"].as_str().unwrap().contains("10000 results"), "{}", told[0]["summary"]);
    assert_eq!(told[0]["lines"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_is_still_down_after_an_outage_is_told_once_with_the_time_of_its_first_result() {
    let dir = tempfile::tempdir().unwrap();
    let mut scene = Scene::new(dir.path()).await;
    scene.live("up").await;
    scene.pass(600);
    let since = scene.now().plus_millis(-300_000);
    scene.returns(&[("up", 400), ("down", 300), ("down", 200), ("down", 100)]).await;
    scene.plane.control.watch().unwrap();
    assert_eq!(scene.asked(), 1, "at once, without waiting for the next planned run");
    scene.live("down").await;
    scene.live("down").await;
    scene.live("down").await;
    scene.beat(60).await;
    let told = scene.told().await;
    Scene::check(&told, &["down"]);
    assert_eq!(told[0]["since"], json!(since));
}

#[tokio::test]
async fn of_many_that_an_outage_left_open_those_that_run_rarely_are_asked_first() {
    let dir = tempfile::tempdir().unwrap();
    let mut scene = Scene::new(dir.path()).await;
    let named = |name: &str, interval: &str| {
        let mut monitor = shop();
        (monitor["name"], monitor["interval"]) = (json!(name), json!(interval));
        monitor
    };
    scene
        .plane
        .apply(json!([named("often", "10s"), named("hourly", "1h"), named("now-and-then", "5m")]))
        .await;
    let mut ids = Vec::new();
    for name in ["hourly", "now-and-then", "often"] {
        ids.push(scene.plane.get(&format!("/v1/monitors/{name}")).await["id"].as_str().unwrap().to_owned());
    }
    scene.pass(600);
    let (now, first) = (scene.now(), scene.seq);
    let mut backlog = Vec::new();
    for id in [&ids[2], &ids[0], &ids[1]] {
        scene.monitor.clone_from(id);
        backlog.push(scene.record("down", now.plus_millis(-200_000)));
    }
    scene.device.hello(json!({"epoch": 1, "seq": first + 3})).await;
    scene.send(backlog).await;
    scene.pass(1);
    let pushes = crate::control::lock(&scene.plane.control.pushes).since(scene.device.id, 0);
    let asked: Vec<_> = pushes
        .into_iter()
        .filter_map(|p| match p.push {
            wire::push::Push::Run { monitors, .. } => Some(monitors),
            _ => None,
        })
        .flatten()
        .map(|monitor| monitor.to_string())
        .collect();
    assert_eq!(asked, ids);
}

#[tokio::test]
async fn a_check_that_is_broken_after_an_outage_is_asked_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut scene = Scene::new(dir.path()).await;
    scene.live("up").await;
    scene.pass(600);
    scene.returns(&[("down", 200), ("down", 100)]).await;
    scene.pass(1);
    assert_eq!(scene.asked(), 1);
    scene.live("error").await;
    for _ in 0..20 {
        scene.beat(5).await;
    }
    assert_eq!(scene.asked(), 1);
}

#[tokio::test]
async fn a_restart_of_the_control_plane_neither_repeats_nor_forgets() {
    let dir = tempfile::tempdir().unwrap();
    let mut scene = Scene::new(dir.path()).await;
    scene.live("down").await;
    scene.live("down").await;
    Scene::check(&scene.told().await, &["down"]);
    let mut scene = scene.restarted(dir.path()).await;
    scene.returns(&[("down", 3), ("down", 2)]).await;
    scene.live("down").await;
    scene.live("down").await;
    scene.beat(40).await;
    Scene::check(&scene.told().await, &["down"]);
    scene.live("up").await;
    let told = scene.told().await;
    Scene::check(&told, &["down", "recovered"]);
    assert_eq!(told[0]["alert"], told[1]["alert"]);
}

#[tokio::test]
async fn a_restart_of_the_control_plane_in_the_middle_of_a_backlog_makes_one_digest_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut scene = Scene::new(dir.path()).await;
    scene.live("up").await;
    scene.pass(600);
    let (now, first) = (scene.now(), scene.seq);
    let states = ["down", "up", "down", "down", "up"];
    let backlog: Vec<_> = states.iter().map(|state| scene.record(state, now)).collect();
    let recorded = json!({"epoch": 1, "seq": first + 5});
    scene.device.hello(recorded.clone()).await;
    scene.send(backlog[..2].to_vec()).await;
    let mut scene = scene.restarted(dir.path()).await;
    scene.pass(60);
    Scene::check(&scene.told().await, &[]);
    scene.device.hello(recorded).await;
    scene.pass(20);
    scene.send(backlog[2..3].to_vec()).await;
    scene.pass(20);
    scene.send(backlog[3..].to_vec()).await;
    scene.live("up").await;
    scene.beat(60).await;
    let told = scene.told().await;
    Scene::check(&told, &["digest"]);
    assert!(told[0]["summary"].as_str().unwrap().contains("3 results"), "{}", told[0]["summary"]);
}

#[tokio::test]
async fn a_restart_of_the_control_plane_while_an_alert_is_confirmed_asks_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut scene = Scene::new(dir.path()).await;
    scene.live("up").await;
    scene.live("down").await;
    assert_eq!((scene.asked(), scene.told().await), (1, vec![]));
    let mut scene = scene.restarted(dir.path()).await;
    scene.pass(20);
    assert_eq!(scene.asked(), 0, "nobody is there to hear it");
    scene.returns(&[]).await;
    scene.pass(1);
    assert_eq!(scene.asked(), 1);
    scene.live("down").await;
    scene.live("down").await;
    scene.beat(30).await;
    Scene::check(&scene.told().await, &["down"]);
}

#[tokio::test]
async fn an_agent_that_is_silent_is_told_once_and_only_after_a_window_of_our_own() {
    let dir = tempfile::tempdir().unwrap();
    let scene = {
        let plane = Plane::start(dir.path()).await;
        let device = plane.agent("edge-1").await;
        Scene { plane, device, monitor: String::new(), seq: 0 }
    };
    let agents = async |scene: &Scene| {
        let events = scene.plane.get("/v1/alerts").await;
        let mut told: Vec<_> =
            events.as_array().unwrap().iter().map(|e| e["event"].as_str().unwrap().to_owned()).collect();
        told.reverse();
        told
    };
    let mut scene = scene;
    scene.pass(80);
    assert_eq!(agents(&scene).await, Vec::<String>::new(), "our own first minute and a half");
    scene.pass(30);
    assert_eq!(agents(&scene).await, ["agent_down"]);
    scene.pass(300);
    scene.returns(&[]).await;
    scene.beat(1).await;
    scene.pass(1);
    assert_eq!(agents(&scene).await, ["agent_down", "agent_up"]);
    // The control plane is stopped for an hour: nobody is called absent for that.
    scene.plane.pass(Duration::from_secs(3600));
    scene.pass(60);
    scene.returns(&[]).await;
    scene.beat(1).await;
    scene.pass(20);
    assert_eq!(agents(&scene).await, ["agent_down", "agent_up"]);
    scene.pass(120);
    assert_eq!(agents(&scene).await, ["agent_down", "agent_up", "agent_down"]);
    scene.plane.call(Method::DELETE, "/v1/agents/edge-1", None).await;
    scene.pass(300);
    assert_eq!(
        agents(&scene).await,
        ["agent_down", "agent_up", "agent_down", "agent_up"],
        "not expected any more"
    );
    assert_eq!(scene.plane.get("/v1/alerts?open=true").await, json!([]));
}

#[tokio::test]
async fn an_agent_that_is_deleted_in_the_middle_of_its_backlog_leaves_its_digest_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut scene = Scene::new(dir.path()).await;
    scene.live("up").await;
    scene.pass(600);
    let (now, first) = (scene.now(), scene.seq);
    let backlog: Vec<_> = ["down", "up", "up"].iter().map(|state| scene.record(state, now)).collect();
    scene.device.hello(json!({"epoch": 1, "seq": first + 3})).await;
    scene.send(backlog[..2].to_vec()).await;
    let control = scene.plane.control.clone();
    control.push(scene.device.id, wire::push::Push::Rotate);
    scene.plane.call(Method::DELETE, "/v1/agents/edge-1", None).await;
    scene.pass(60);
    Scene::check(&scene.told().await, &["digest"]);
    let kept = control.parts.store.load().unwrap();
    assert_eq!((kept.digests, kept.cursors, kept.ahead), (vec![], vec![], vec![]));
    assert_eq!(crate::control::lock(&control.pushes).since(scene.device.id, 0), []);
}

#[tokio::test]
async fn a_monitor_that_is_deleted_or_disabled_ends_its_alert_and_says_so() {
    let mut disabled = shop();
    disabled["enabled"] = json!(false);
    let ways: [(&str, Method, &str, Option<Value>); 2] = [
        ("deleted", Method::DELETE, "/v1/monitors/shop", None),
        ("disabled", Method::POST, "/v1/monitors/apply", Some(json!({"monitors": [disabled]}))),
    ];
    for (word, method, path, body) in ways {
        let dir = tempfile::tempdir().unwrap();
        let mut scene = Scene::new(dir.path()).await;
        scene.live("down").await;
        scene.live("down").await;
        assert_eq!(scene.plane.get("/v1/alerts?open=true").await.as_array().unwrap().len(), 1);
        let (status, answer) = scene.plane.call(method, path, body).await;
        assert!(status.is_success(), "{answer}");
        scene.beat(1).await;
        assert_eq!(scene.plane.get("/v1/alerts?open=true").await, json!([]));
        let told = scene.told().await;
        Scene::check(&told, &["down", "recovered"]);
        assert_eq!((&told[0]["alert"], &told[1]["monitor"]), (&told[1]["alert"], &json!("shop")));
        let summary = told[1]["summary"].as_str().unwrap();
        assert!(summary.starts_with(&format!("the monitor was {word}, which ends this alert")), "{summary}");
        scene.beat(30).await;
        Scene::check(&scene.told().await, &["down", "recovered"]);
    }
}

#[tokio::test]
async fn a_wrong_clock_is_told_once_and_moves_no_monitor() {
    let dir = tempfile::tempdir().unwrap();
    let mut scene = Scene::new(dir.path()).await;
    let batch = |at: &str| json!({"records": [], "pending": 0, "sent_at": at}).to_string();
    for at in ["2036-11-20T18:00:00.000Z", "2036-11-20T18:00:05.000Z", "2071-01-01T00:00:00.000Z"] {
        scene.device.send(&scene.device.stamp(), Method::POST, "/v1/results", batch(at), None).await;
        scene.pass(10);
    }
    Scene::check(&scene.told().await, &["clock"]);
    let right = scene.now().to_string();
    scene.device.send(&scene.device.stamp(), Method::POST, "/v1/results", batch(&right), None).await;
    scene.pass(1);
    Scene::check(&scene.told().await, &["clock", "clock"]);
    scene.live("up").await;
    assert_eq!(scene.plane.get("/v1/alerts?open=true").await, json!([]));
    let old = |scene: &mut Scene| {
        let mut record = scene.record("down", "2016-01-01T00:00:00Z".parse().unwrap());
        record["age_ms"] = json!(0);
        record
    };
    let batch = [old(&mut scene), old(&mut scene)];
    for result in batch {
        scene.send(vec![result]).await;
    }
    let told = scene.told().await;
    Scene::check(&told, &["clock", "clock", "down"]);
    assert!(told[2]["since"].as_str().unwrap().starts_with("2026-"), "by our own clock: {}", told[2]);
}

#[tokio::test]
async fn uptime_knows_of_an_agent_whose_clock_is_behind() {
    let dir = tempfile::tempdir().unwrap();
    let mut scene = Scene::new(dir.path()).await;
    for state in ["up", "up", "down", "up", "up"] {
        let behind = scene.now().plus_millis(-6 * 3_600_000);
        let mut result = scene.record(state, behind);
        result["age_ms"] = json!(0);
        scene.send(vec![result]).await;
        scene.pass(5);
    }
    let monitor = scene.plane.get("/v1/monitors/shop").await;
    let day = &monitor["uptime"][0];
    assert_eq!((&day["known_s"], &day["down_s"]), (&json!(26), &json!(5)), "{monitor:#}");
    let last = scene.now().plus_millis(-5_012);
    assert_eq!(monitor["by_location"][0]["last_result_at"], json!(last));
}

#[tokio::test]
async fn channels_are_applied_with_the_monitors_and_mistakes_in_both_are_found_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    let ops = || json!({"name": "ops", "kind": "webhook", "url": "https://hooks.example.com/", "secret": {"$secret": "ops"}});
    let apply = async |body: Value| plane.call(Method::POST, "/v1/monitors/apply", Some(body)).await;
    let mut monitor = shop();
    monitor["channels"] = json!(["opps"]);
    let mut literal = ops();
    literal["secret"] = json!("hunter2");
    let (status, problem) = apply(json!({"monitors": [monitor], "channels": [literal]})).await;
    let at: Vec<_> =
        problem["mistakes"].as_array().unwrap().iter().map(|m| m["at"].as_str().unwrap()).collect();
    assert_eq!((status.as_u16(), at), (422, vec!["/channels/0/secret", "/monitors/0/channels/0"]));
    assert!(!problem.to_string().contains("hunter2"));

    monitor["channels"] = json!(["ops"]);
    let (_, answer) = apply(json!({"monitors": [monitor], "channels": [ops()]})).await;
    assert_eq!(answer["channels"], json!([{"channel": "ops", "change": "created"}]));
    let (status, answer) = apply(json!({"monitors": [monitor]})).await;
    assert_eq!((status.as_u16(), answer.get("channels")), (200, None), "without the key they stay");
    let (status, _) = apply(json!({"monitors": [monitor], "channels": [], "prune": true})).await;
    assert_eq!(status.as_u16(), 422, "a monitor names it");
    let (_, answer) = apply(json!({"monitors": [shop()], "channels": [], "prune": true})).await;
    assert_eq!(answer["channels"], json!([{"channel": "ops", "change": "deleted"}]));
}
