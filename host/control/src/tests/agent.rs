//! What agents are promised.

use super::*;

#[tokio::test]
async fn an_agent_enrols_says_hello_and_gets_its_monitors() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    plane.apply(json!([shop()])).await;
    let device = plane.agent("edge-1").await;
    let path = "/v1/config?wait=0";
    let (status, told) = device.send(&device.stamp(), Method::GET, path, String::new(), None).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(told["monitors"][0]["name"], "shop");
    assert_eq!(told["monitors"][0]["interval_ms"], 5000);
    assert_eq!(told["monitors"][0]["config"]["method"], "GET");
    let etag = told["etag"].as_str().unwrap();
    let (status, _) = device.send(&device.stamp(), Method::GET, path, String::new(), Some(etag)).await;
    assert_eq!(status, StatusCode::NOT_MODIFIED);
    let agents = plane.get("/v1/agents").await;
    assert_eq!((&agents[0]["state"], &agents[0]["version"]), (&json!("connected"), &json!("0.1.0")));
}

#[tokio::test]
async fn what_an_agent_is_told_is_made_once_between_two_changes() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    plane.apply(json!([shop()])).await;
    let device = plane.agent("edge-1").await;
    let ask = async |etag: &str| {
        device.send(&device.stamp(), Method::GET, "/v1/config?wait=0", String::new(), Some(etag)).await
    };
    let remembered = || plane.control.placement().tag(device.id).map(str::to_owned);
    // Nothing but what is remembered can say that the agent has this one.
    assert_eq!(remembered(), None);
    plane.control.placement().remember(device.id, "\"remembered\"");
    assert_eq!(ask("\"remembered\"").await.0, StatusCode::NOT_MODIFIED);

    let mut another = shop();
    another["interval"] = json!("7s");
    plane.apply(json!([another])).await;
    assert_eq!(remembered(), None);
    let (status, told) = ask("\"remembered\"").await;
    assert_eq!((status, &told["monitors"][0]["interval_ms"]), (StatusCode::OK, &json!(7000)));
    let etag = told["etag"].as_str().unwrap();
    assert_eq!(remembered().as_deref(), Some(etag));
    assert_eq!(ask(etag).await.0, StatusCode::NOT_MODIFIED);
}

#[tokio::test]
async fn an_agent_that_cannot_unpack_is_not_told_more_than_it_takes() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    let long = |name: &str| {
        let config = json!({"url": "http://a/", "body": name.repeat(wire::BODY_LIMIT / 2)});
        json!({"name": name, "check": "http", "locations": ["dc1"], "config": config})
    };
    plane.apply(json!([long("a"), long("b")])).await;
    let device = plane.agent("edge-1").await;
    let (status, told) = device.send(&device.stamp(), Method::GET, "/v1/config", String::new(), None).await;
    let detail = "the monitors of this agent are 9 MiB, and its version takes at most 8 MiB: update it";
    assert_eq!((status.as_u16(), &told["detail"]), (413, &json!(detail)), "{told}");
}

#[tokio::test]
async fn a_change_ends_the_wait_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    let device = plane.agent("edge-1").await;
    let (_, told) = device.send(&device.stamp(), Method::GET, "/v1/config?wait=0", String::new(), None).await;
    let etag = told["etag"].as_str().unwrap();
    let stamp = device.stamp();
    let waiting = device.send(&stamp, Method::GET, "/v1/config?wait=30", String::new(), Some(etag));
    let ((status, changed), _) = tokio::join!(waiting, plane.apply(json!([shop()])));
    assert_eq!(status, StatusCode::OK);
    assert_eq!(changed["monitors"][0]["name"], "shop");
    assert!(changed["version"].as_u64() > told["version"].as_u64());
}

#[tokio::test]
async fn setup_tokens_that_are_wrong_used_or_expired_say_which() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    let (mut first, mut second) = (Device::new(&plane.url, 1), Device::new(&plane.url, 2));
    let check = |(status, answer): (StatusCode, Value), expected: u16, code: &str| {
        assert_eq!((status.as_u16(), answer["code"].as_str()), (expected, Some(code)), "{answer}");
    };
    check(first.enroll("pst_wrong").await, 401, "setup_token_unknown");
    let token = plane.setup_token("edge-1").await;
    let (_, answer) = first.enroll(&token).await;
    assert_eq!(first.enroll(&token).await.1, answer, "the same request again gets the same answer");
    check(second.enroll(&token).await, 409, "setup_token_used");
    first.hello(json!({"epoch": 0, "seq": 0})).await;
    check(first.enroll(&token).await, 409, "setup_token_used");
    let late = plane.setup_token("edge-2").await;
    plane.pass(Duration::from_secs(24 * 3600));
    check(second.enroll(&late).await, 410, "setup_token_expired");
}

#[tokio::test]
async fn of_a_hundred_devices_with_one_setup_token_one_becomes_an_agent() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    let token = plane.setup_token("edge-1").await;
    let mut tries = tokio::task::JoinSet::new();
    for seed in 0..100 {
        let (mut device, token) = (Device::new(&plane.url, seed), token.clone());
        tries.spawn(async move { device.enroll(&token).await.0.as_u16() });
    }
    let statuses = tries.join_all().await;
    assert_eq!(statuses.iter().filter(|s| **s == 200).count(), 1);
    assert_eq!(statuses.iter().filter(|s| **s == 409).count(), 99);
}

#[tokio::test]
async fn a_request_is_accepted_once_and_only_as_it_was_signed() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    let device = plane.agent("edge-1").await;
    let body = json!({"records": [], "pending": 0, "sent_at": "2026-11-20T18:00:00.000Z"}).to_string();
    let (post, path) = (Method::POST, "/v1/results");
    let stamp = device.stamp();
    let signature = stamp.sign_request(&device.key, "POST", path, body.as_bytes());
    let send = async |stamp: &Stamp, path: &str, body: &str, signature: &str| {
        let (status, answer, signed) =
            device.send_as(stamp, post.clone(), path, body.to_owned(), None, signature).await;
        assert!(signed, "{answer}");
        (status.as_u16(), answer["code"].as_str().unwrap_or_default().to_owned())
    };
    let refused = |code: &str| (401, code.to_owned());
    let stranger = Stamp { generation: 2, ..stamp.clone() };
    let (status, answer, signed) =
        device.send_as(&stranger, post.clone(), path, body.clone(), None, &signature).await;
    assert_eq!((status.as_u16(), &answer["code"], signed), (401, &json!("unauthorized"), false));
    let other = Stamp { counter: 99, ..stamp.clone() };
    assert_eq!(send(&other, path, &body, &signature).await, refused("bad_signature"), "another counter");
    let with_query = format!("{path}?a=b");
    assert_eq!(send(&stamp, &with_query, &body, &signature).await, refused("bad_signature"), "another path");
    assert_eq!(send(&stamp, path, "{}", &signature).await, refused("bad_signature"), "another body");
    assert_eq!(send(&stamp, path, &body, &signature).await, (200, String::new()));
    assert_eq!(send(&stamp, path, &body, &signature).await, refused("bad_signature"), "a replay");
    let old = device.stamp_of("0123", 5);
    let signature = old.sign_request(&device.key, "POST", path, body.as_bytes());
    assert_eq!(send(&old, path, &body, &signature).await, refused("lease_unknown"));
}

#[tokio::test]
async fn a_stolen_token_without_the_key_opens_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    let device = plane.agent("edge-1").await;
    let stamp = device.stamp();
    let thief = SigningKey::from_bytes(&[77; 32]);
    let signature = stamp.sign_request(&thief, "GET", "/v1/config", b"");
    let (status, answer, _) =
        device.send_as(&stamp, Method::GET, "/v1/config", String::new(), None, &signature).await;
    assert_eq!((status, &answer["code"]), (StatusCode::UNAUTHORIZED, &json!("bad_signature")));
}

#[tokio::test]
async fn after_a_restart_leases_are_unknown_and_everything_else_is_as_before() {
    let dir = tempfile::tempdir().unwrap();
    let mut device;
    {
        let plane = Plane::start(dir.path()).await;
        device = plane.agent("edge-1").await;
        let applied = plane.apply(json!([shop()])).await;
        assert_eq!(applied["changes"][0]["change"], "created");
        let id = plane.get("/v1/monitors/shop").await["id"].as_str().unwrap().to_owned();
        let (status, _) =
            device.results(vec![record(&id, 1, 1, "up", Timestamp::from_millis(START_MS))]).await;
        assert_eq!(status, StatusCode::OK);
        plane.server.abort();
        // The store is free once the last task that serves is gone.
        let control = Arc::downgrade(&plane.control);
        drop(plane);
        while control.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
    }
    let plane = Plane::start(dir.path()).await;
    device.url.clone_from(&plane.url);
    let (status, answer) = device.results(vec![]).await;
    assert_eq!((status, &answer["code"]), (StatusCode::UNAUTHORIZED, &json!("lease_unknown")));
    let welcome = device.hello(json!({"epoch": 1, "seq": 3})).await;
    assert_eq!(welcome["cursor"], json!({"epoch": 1, "seq": 1}));
    assert_eq!(plane.get("/v1/results").await["results"].as_array().unwrap().len(), 1);
    assert_eq!(plane.get("/v1/monitors/shop").await["state"], "up");
}

#[tokio::test]
async fn the_same_batch_again_changes_nothing_and_a_hole_becomes_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    plane.apply(json!([shop()])).await;
    let id = plane.get("/v1/monitors/shop").await["id"].as_str().unwrap().to_owned();
    let mut device = plane.agent("edge-1").await;
    device.hello(json!({"epoch": 1, "seq": 1})).await;
    let at = |s: i64| Timestamp::from_millis(START_MS + s * 1000);
    let batch = || {
        vec![record(&id, 1, 1, "up", at(1)), record(&id, 1, 2, "down", at(2)), record(&id, 1, 5, "up", at(5))]
    };
    for _ in 0..3 {
        let (status, ack) = device.results(batch()).await;
        assert_eq!((status, ack), (StatusCode::OK, json!({"cursor": {"epoch": 1, "seq": 5}})));
    }
    let page = plane.get("/v1/results").await;
    let told: Vec<_> = page["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| (r["seq"].as_u64().unwrap(), r["state"].as_str().unwrap(), r["delivery"].as_str().unwrap()))
        .collect();
    assert_eq!(told, [(1, "up", "buffered"), (2, "down", "live"), (5, "up", "live")]);
    assert_eq!(page["results"][0]["monitor"], "shop");
    assert_eq!(page["results"][0]["agent"], "edge-1");
    let gaps = plane.get("/v1/gaps").await;
    assert_eq!(
        (&gaps[0]["from"], &gaps[0]["to"], &gaps[0]["reason"]),
        (&json!(3), &json!(4), &json!("missing"))
    );
    assert_eq!(gaps.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_result_that_cannot_be_read_and_results_of_a_deleted_monitor_block_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    let device = plane.agent("edge-1").await;
    let at = Timestamp::from_millis(START_MS);
    let nobody = Uuid::from_u128(5).to_string();
    let bad = json!({"kind": "result", "epoch": 1, "seq": 2, "result": {"state": "purple"}});
    let (status, answer) =
        device.results(vec![record(&nobody, 1, 1, "up", at), bad, record(&nobody, 1, 3, "up", at)]).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(answer["cursor"], json!({"epoch": 1, "seq": 3}));
    assert_eq!(answer["mistakes"][0]["at"], "/records/1");
    assert_eq!(plane.get("/v1/gaps").await[0]["reason"], "rejected");
    assert_eq!(plane.get("/v1/results").await["results"][0]["monitor"], nobody);
    let (status, answer) = device.results(vec![json!({"kind": "result"})]).await;
    assert_eq!((status.as_u16(), &answer["code"]), (422, &json!("invalid")));
}

#[tokio::test]
async fn an_agent_that_is_silent_is_away_and_its_monitors_are_unknown() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    plane.apply(json!([shop()])).await;
    let id = plane.get("/v1/monitors/shop").await["id"].as_str().unwrap().to_owned();
    assert_eq!(plane.get("/v1/monitors/shop").await["state"], "pending");
    let device = plane.agent("edge-1").await;
    device.results(vec![record(&id, 1, 1, "down", Timestamp::from_millis(START_MS))]).await;
    assert_eq!(plane.get("/v1/monitors/shop").await["state"], "down");
    plane.pass(Duration::from_secs(31));
    assert_eq!(plane.get("/v1/agents").await[0]["state"], "away");
    assert_eq!(plane.get("/v1/monitors/shop").await["state"], "unknown");
}

#[tokio::test]
async fn what_was_under_way_over_a_suspend_is_not_taken_before_a_hello_says_what_is_old() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    plane.apply(json!([shop()])).await;
    let id = plane.get("/v1/monitors/shop").await["id"].as_str().unwrap().to_owned();
    let mut device = plane.agent("edge-1").await;
    let batch = || vec![record(&id, 1, 1, "down", Timestamp::from_millis(START_MS))];
    plane.pass(Duration::from_secs(31));
    let (status, answer) = device.results(batch()).await;
    assert_eq!((status.as_u16(), &answer["code"]), (401, &json!("lease_unknown")));
    device.hello(json!({"epoch": 1, "seq": 1})).await;
    assert_eq!(device.results(batch()).await.0, StatusCode::OK);
    assert_eq!(plane.get("/v1/results").await["results"][0]["delivery"], "buffered");
}

#[tokio::test]
async fn a_deleted_agent_is_told_so_without_a_signature() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    let device = plane.agent("edge-1").await;
    let (status, _) = plane.call(Method::DELETE, "/v1/agents/edge-1", None).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let (stamp, path) = (device.stamp(), "/v1/results");
    let signature = stamp.sign_request(&device.key, "POST", path, b"{}");
    let (status, answer, signed) =
        device.send_as(&stamp, Method::POST, path, "{}".to_owned(), None, &signature).await;
    assert_eq!((status.as_u16(), &answer["code"], signed), (401, &json!("unauthorized"), false));
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    let device = plane.agent("edge-1").await;
    let body = " ".repeat(wire::BODY_LIMIT + 1);
    let stamp = device.stamp();
    let signature = stamp.sign_request(&device.key, "POST", "/v1/results", body.as_bytes());
    let (status, answer, signed) =
        device.send_as(&stamp, Method::POST, "/v1/results", body, None, &signature).await;
    assert_eq!((status.as_u16(), &answer["code"], signed), (413, &json!("too_large"), false));
    let enrolment = reqwest::Client::new().post(format!("{}/v1/enroll", plane.url));
    let answer = enrolment.body(" ".repeat(16 * 1024 + 1)).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 413);
}

#[tokio::test]
async fn what_comes_ahead_of_a_backlog_is_there_at_once_and_stays_live_when_the_backlog_brings_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    plane.apply(json!([shop()])).await;
    let id = plane.get("/v1/monitors/shop").await["id"].as_str().unwrap().to_owned();
    let mut device = plane.agent("edge-1").await;
    let welcome = device.hello(json!({"epoch": 1, "seq": 3})).await;
    assert_eq!(
        (&welcome["cursor"], &welcome["seen"]),
        (&json!({"epoch": 0, "seq": 0}), &json!({"epoch": 0, "seq": 0}))
    );
    let at = |s: i64| Timestamp::from_millis(START_MS + s * 1000);
    let send = async |lane: &str, seqs: std::ops::RangeInclusive<u64>| {
        let records: Vec<_> = seqs.map(|seq| record(&id, 1, seq, "up", at(seq.cast_signed()))).collect();
        let body = json!({"lane": lane, "records": records, "pending": 6, "sent_at": at(60)}).to_string();
        let (status, ack) = device.send(&device.stamp(), Method::POST, "/v1/results", body, None).await;
        assert_eq!(status, StatusCode::OK, "{ack}");
        ack["cursor"]["seq"].as_u64().unwrap()
    };
    let told = async || {
        let page = plane.get("/v1/results?after=0").await;
        let results = page["results"].as_array().unwrap().clone();
        let told = |r: &Value| (r["seq"].as_u64().unwrap(), r["delivery"].as_str().unwrap().to_owned());
        results.iter().map(told).collect::<Vec<_>>()
    };
    assert_eq!(send("live", 5..=5).await, 0);
    assert_eq!(send("live", 5..=6).await, 0);
    let live = |seq| (seq, "live".to_owned());
    assert_eq!(told().await, [live(5), live(6)]);
    assert_eq!(plane.get("/v1/monitors/shop").await["state"], "up");
    assert_eq!(send("backlog", 1..=5).await, 5);
    assert_eq!(send("backlog", 1..=6).await, 6);
    let buffered = |seq| (seq, "buffered".to_owned());
    assert_eq!(told().await, [live(5), live(6), buffered(1), buffered(2), buffered(3), live(4)]);
    assert_eq!(plane.get("/v1/gaps").await, json!([]));
    let latest = plane.get("/v1/monitors/shop").await;
    assert_eq!(latest["by_location"][0]["last_result_at"], json!(at(6)), "what is newer stays the latest");
    assert_eq!(send("live", 9..=9).await, 6);
    assert_eq!(device.hello(json!({"epoch": 1, "seq": 9})).await["seen"], json!({"epoch": 1, "seq": 9}));
}

#[tokio::test]
async fn a_clock_that_is_off_is_a_warning_about_the_agent_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    let device = plane.agent("edge-1").await;
    let heartbeat = async |clock_s: i64| {
        let sent_at = Timestamp::from_millis(START_MS + 60_000 + clock_s * 1000);
        let body = json!({"records": [], "pending": 0, "sent_at": sent_at}).to_string();
        device.send(&device.stamp(), Method::POST, "/v1/results", body, None).await;
        plane.get("/v1/agents").await[0].clone()
    };
    assert_eq!(heartbeat(299).await["warnings"], Value::Null);
    let told = heartbeat(-7_300).await;
    assert_eq!(told["warnings"][0]["kind"], "clock");
    let detail = told["warnings"][0]["detail"].as_str().unwrap();
    assert!(
        detail.starts_with("its clock is 121 min behind") || detail.starts_with("its clock is 2 h behind"),
        "{detail}"
    );
    assert_eq!(told["state"], "connected");
    assert_eq!(heartbeat(-270).await["warnings"].as_array().unwrap().len(), 1);
    assert_eq!(heartbeat(-200).await["warnings"], Value::Null);
}

#[tokio::test]
async fn of_a_herd_so_many_begin_a_session_in_a_second_and_the_others_are_told_when() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    let device = plane.agent("edge-1").await;
    let hello = async || {
        let asked = reqwest::Client::new().post(format!("{}/v1/nonce", plane.url)).bearer_auth(&device.token);
        let answer = asked.header(header::AGENT, device.id.to_string()).send().await.unwrap();
        let nonce: wire::session::Nonce = answer.json().await.unwrap();
        let body = json!({"version": "0.1.0", "recorded": {"epoch": 0, "seq": 0}, "pending": 0, "previous_lease": device.lease, "boot_id": "b"});
        let stamp = device.stamp_of(&nonce.nonce, 0);
        device.send(&stamp, Method::POST, "/v1/hello", body.to_string(), None).await
    };
    while plane.control.admit_hello().is_ok() {}
    let (status, problem) = hello().await;
    assert_eq!(
        (status.as_u16(), &problem["code"], &problem["retry_after_s"]),
        (503, &json!("busy"), &json!(1))
    );
    plane.pass(Duration::from_secs(1));
    assert_eq!(hello().await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_control_plane_with_too_much_to_do_says_so_signed_and_still_takes_signs_of_life() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    let device = plane.agent("edge-1").await;
    let mut places = vec![];
    while let Ok(place) = plane.control.admit_batch() {
        places.push(place);
    }
    let result = || record(&Uuid::nil().to_string(), 1, 1, "up", Timestamp::from_millis(START_MS));
    let (status, problem) = device.results(vec![result()]).await;
    assert_eq!((status.as_u16(), &problem["code"]), (503, &json!("busy")));
    assert!((1..=4).contains(&problem["retry_after_s"].as_u64().unwrap()));
    assert_eq!(device.results(vec![]).await.0, StatusCode::OK);
    drop(places);
    assert_eq!(device.results(vec![result()]).await.1, json!({"cursor": {"epoch": 1, "seq": 1}}));
}
