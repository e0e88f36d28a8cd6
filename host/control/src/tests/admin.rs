//! What people and their tools are promised.

use super::*;
use crate::assign::Placement;

#[tokio::test]
async fn without_the_admin_token_nothing_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    let client = reqwest::Client::new();
    for path in ["/v1/agents", "/v1/monitors", "/v1/results", "/v1/gaps", "/v1/plugins"] {
        let answer = client.get(format!("{}{path}", plane.url)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        let wrong = client.get(format!("{}{path}", plane.url)).bearer_auth("pat_wrong").send().await.unwrap();
        assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED, "{path}");
    }
    for path in ["/healthz", "/v1/openapi.json"] {
        let answer = client.get(format!("{}{path}", plane.url)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn an_apply_with_mistakes_changes_nothing_and_names_all_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    let other = json!({"name": "other", "check": "htp", "interval": "100ms", "locations": []});
    let (status, problem) =
        plane.call(Method::POST, "/v1/monitors/apply", Some(json!({"monitors": [shop(), other]}))).await;
    assert_eq!((status.as_u16(), &problem["code"]), (422, &json!("invalid")));
    let at: Vec<_> =
        problem["mistakes"].as_array().unwrap().iter().map(|m| m["at"].as_str().unwrap()).collect();
    assert_eq!(at, ["/monitors/1/locations", "/monitors/1/interval", "/monitors/1/check"]);
    assert_eq!(plane.get("/v1/monitors").await, json!([]));
}

#[tokio::test]
async fn a_dry_run_tells_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    let body = json!({"monitors": [shop()], "dry_run": true});
    let (_, answer) = plane.call(Method::POST, "/v1/monitors/apply", Some(body)).await;
    assert_eq!(answer["changes"], json!([{"monitor": "shop", "change": "created"}]));
    assert_eq!(plane.get("/v1/monitors").await, json!([]));
}

#[tokio::test]
async fn a_monitor_keeps_its_id_until_it_is_deleted_and_its_results_stay() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    plane.apply(json!([shop()])).await;
    let id = async || plane.get("/v1/monitors/shop").await["id"].as_str().unwrap().to_owned();
    let first = id().await;
    let mut changed = shop();
    changed["interval"] = json!("7s");
    let answer = plane.apply(json!([changed])).await;
    assert_eq!(answer["changes"][0]["changed"], json!(["/interval", "/timeout"]));
    assert_eq!(id().await, first);
    let device = plane.agent("edge-1").await;
    device.results(vec![record(&first, 1, 1, "up", Timestamp::from_millis(START_MS))]).await;
    let (status, _) = plane.call(Method::DELETE, "/v1/monitors/shop", None).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    plane.apply(json!([shop()])).await;
    assert_ne!(id().await, first);
    assert_eq!(plane.get("/v1/monitors/shop").await["state"], "pending");
    let old = plane.get(&format!("/v1/results?monitor={first}")).await;
    assert_eq!(old["results"][0]["monitor"], json!(first));
}

#[tokio::test]
async fn whoever_follows_results_sees_each_once() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    plane.apply(json!([shop()])).await;
    let id = plane.get("/v1/monitors/shop").await["id"].as_str().unwrap().to_owned();
    let device = plane.agent("edge-1").await;
    let at = Timestamp::from_millis(START_MS);
    device.results(vec![record(&id, 1, 1, "up", at)]).await;
    let page = plane.get("/v1/results?monitor=shop").await;
    assert_eq!(page["results"].as_array().unwrap().len(), 1);
    let path = format!("/v1/results?monitor=shop&wait=30&after={}", page["cursor"].as_str().unwrap());
    let (followed, _) = tokio::join!(plane.get(&path), device.results(vec![record(&id, 1, 2, "down", at)]));
    let seqs: Vec<_> = followed["results"].as_array().unwrap().iter().map(|r| r["seq"].clone()).collect();
    assert_eq!(seqs, [json!(2)]);
}

#[tokio::test]
async fn questions_that_cannot_be_answered_say_why() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    plane.apply(json!([shop()])).await;
    plane.setup_token("edge-1").await;
    let table = [
        (Method::GET, "/v1/monitors/shob", 404, "there is no monitor \"shob\": did you mean shop?"),
        (Method::DELETE, "/v1/agents/edge-2", 404, "there is no agent \"edge-2\": did you mean edge-1?"),
        (Method::GET, "/v1/results?agent=nobody-there", 404, "there is no agent \"nobody-there\""),
        (Method::GET, "/v1/results?since=yesterday", 422, "the input has a mistake"),
        (Method::GET, "/v1/results?colour=red", 422, "the input has a mistake"),
        (Method::GET, "/v2/anything", 404, "there is nothing at this path"),
    ];
    for (method, path, expected, detail) in table {
        let (status, problem) = plane.call(method, path, None).await;
        assert_eq!((status.as_u16(), problem["detail"].as_str()), (expected, Some(detail)), "{path}");
    }
    let again = json!({"agent": "edge-1", "location": "dc1"});
    assert_eq!(plane.call(Method::POST, "/v1/agents", Some(again)).await.0.as_u16(), 409);
    let (status, problem) =
        plane.call(Method::POST, "/v1/agents", Some(json!({"agent": "A B", "location": "dc1"}))).await;
    assert_eq!((status.as_u16(), &problem["mistakes"][0]["at"]), (422, &json!("/agent")));
}

#[tokio::test]
async fn monitors_move_away_from_an_agent_that_is_gone_and_the_version_grows() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    plane.apply(json!([shop()])).await;
    let mut first = plane.agent("edge-1").await;
    let mut second = Device::new(&plane.url, 2);
    let token = plane.setup_token("edge-2").await;
    second.enroll(&token).await;
    second.hello(json!({"epoch": 0, "seq": 0})).await;
    let runs = |placed: &Placement, device: &Device| !placed.of(device.id).is_empty();
    let placed = plane.control.placement();
    let (runner, other) = if runs(&placed, &first) { (first, &mut second) } else { (second, &mut first) };
    let version = plane.control.registry().version;
    plane.pass(Duration::from_secs(31));
    other.hello(json!({"epoch": 0, "seq": 0})).await;
    plane.control.settle().unwrap();
    let placed = plane.control.placement();
    assert!(runs(&placed, other) && !runs(&placed, &runner));
    assert_eq!(plane.control.registry().version, version + 1);
}
