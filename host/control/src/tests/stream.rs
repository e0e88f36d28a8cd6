//! Pushes, by the stream and by the long poll, and runs that somebody asks for.

use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::Upgraded;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use wire::push::{Push, Waiting};
use wire::stream::{Down, PATH, Up};

use super::*;

/// A stream as an agent has it.
struct Stream {
    socket: WebSocketStream<Upgraded>,
    stamp: Stamp,
    first: Down,
}

impl Device {
    /// The answer to the request that opens a stream.
    async fn ask_for_stream(&self, stamp: &Stamp, path: &str, upgrades: bool) -> reqwest::Response {
        let mut request = reqwest::Client::new()
            .get(format!("{}{path}", self.url))
            .bearer_auth(&self.token)
            .header(header::AGENT, stamp.agent.to_string())
            .header(header::GENERATION, stamp.generation)
            .header(header::LEASE, &stamp.lease)
            .header(header::COUNTER, stamp.counter)
            .header(header::SIGNATURE, stamp.sign_request(&self.key, "GET", path, b""));
        if upgrades {
            request = request
                .header("connection", "upgrade")
                .header("upgrade", "websocket")
                .header("sec-websocket-version", "13")
                .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        }
        request.send().await.unwrap()
    }

    async fn stream(&self, after: u64) -> Stream {
        let (stamp, path) = (self.stamp(), format!("{PATH}?after={after}"));
        let answer = self.ask_for_stream(&stamp, &path, true).await;
        assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
        let raw = answer.upgrade().await.unwrap();
        let mut socket = WebSocketStream::from_raw_socket(raw, Role::Client, None).await;
        let first = next(&mut socket).await.unwrap();
        Stream { socket, stamp, first }
    }
}

/// The next frame; none when the stream ended.
async fn next(socket: &mut WebSocketStream<Upgraded>) -> Option<Down> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => return Some(serde_json::from_str(&text).unwrap()),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            _ => return None,
        }
    }
}

impl Stream {
    async fn next(&mut self) -> Option<Down> {
        next(&mut self.socket).await
    }

    /// The next push, which has to be signed for this lease.
    async fn push(&mut self, device: &Device) -> (u64, Push) {
        let Some(Down::Push { number, body, signature }) = self.next().await else { panic!("no push") };
        let key = public_key(&device.server_key).unwrap();
        assert!(self.stamp.verify_push(&key, number, body.as_bytes(), &signature));
        (number, serde_json::from_str(&body).unwrap())
    }

    /// Sends a request, and gives its answer, which has to be signed as one by HTTPS is.
    async fn ask(&mut self, device: &Device, method: &str, path: &str, body: &str) -> (u16, Value) {
        let stamp = device.stamp();
        let signature = stamp.sign_request(&device.key, method, path, body.as_bytes());
        let asked = Asked::new(method, path, body.as_bytes());
        self.send(&stamp, method, path, body, signature).await;
        loop {
            match self.next().await.expect("the stream goes on") {
                Down::Push { .. } => {}
                Down::Answer { counter, status, etag, body, signature, .. } => {
                    assert_eq!(counter, stamp.counter);
                    let key = public_key(&device.server_key).unwrap();
                    assert!(stamp.verify_answer(&key, &asked, status, &etag, body.as_bytes(), &signature));
                    return (status, serde_json::from_str(&body).unwrap_or(Value::Null));
                }
            }
        }
    }

    async fn send(&mut self, stamp: &Stamp, method: &str, path: &str, body: &str, signature: String) {
        let up = Up::Request {
            counter: stamp.counter,
            method: method.into(),
            path: path.into(),
            etag: None,
            accept: None,
            body: body.into(),
            signature,
        };
        self.socket.send(Message::text(serde_json::to_string(&up).unwrap())).await.unwrap();
    }
}

const HEARTBEAT: &str = r#"{"records":[],"pending":0,"sent_at":"2026-11-20T18:00:00.000Z"}"#;

#[tokio::test]
async fn the_first_frame_of_a_stream_is_signed_for_the_request_that_opened_it() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    let device = plane.agent("edge-1").await;
    assert_eq!(plane.get("/v1/agents").await[0]["transport"], "requests");
    let stream = device.stream(0).await;
    let Down::Answer { counter, status, etag, body, signature, .. } = &stream.first else {
        panic!("a push came first");
    };
    assert_eq!((*counter, *status, &body[..]), (stream.stamp.counter, 101, ""));
    let key = public_key(&device.server_key).unwrap();
    let asked = Asked::new("GET", &format!("{PATH}?after=0"), b"");
    assert!(stream.stamp.verify_answer(&key, &asked, *status, etag, b"", signature));
    assert_eq!(plane.get("/v1/agents").await[0]["transport"], "stream");
}

#[tokio::test]
async fn a_stream_is_refused_to_whoever_may_not_ask_and_without_an_upgrade() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    let device = plane.agent("edge-1").await;
    let stamp = device.stamp();
    assert_eq!(device.ask_for_stream(&stamp, PATH, true).await.status(), 101);
    let again = device.ask_for_stream(&stamp, PATH, true).await;
    assert_eq!(again.status(), 401, "a replay");
    assert!(again.headers().contains_key(header::SIGNATURE));
    let old = device.stamp_of("0123", 5);
    assert_eq!(device.ask_for_stream(&old, PATH, true).await.status(), 401);
    let plain = device.ask_for_stream(&device.stamp(), PATH, false).await;
    assert_eq!(plain.status(), 422);
    assert!(plain.text().await.unwrap().contains("something between removed it"));
}

#[tokio::test]
async fn requests_go_by_the_stream_as_they_go_by_https() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    plane.apply(json!([shop()])).await;
    let id = plane.get("/v1/monitors/shop").await["id"].as_str().unwrap().to_owned();
    let device = plane.agent("edge-1").await;
    let mut stream = device.stream(0).await;
    let (status, told) = stream.ask(&device, "GET", "/v1/config", "").await;
    assert_eq!((status, &told["monitors"][0]["name"]), (200, &json!("shop")));
    let batch = json!({"records": [record(&id, 1, 1, "up", Timestamp::from_millis(START_MS))], "pending": 1,
        "sent_at": "2026-11-20T18:00:00.000Z"});
    let (status, ack) = stream.ask(&device, "POST", "/v1/results", &batch.to_string()).await;
    assert_eq!((status, ack), (200, json!({"cursor": {"epoch": 1, "seq": 1}})));
    assert_eq!(plane.get("/v1/results").await["results"][0]["seq"], 1);
    assert_eq!(stream.ask(&device, "POST", "/v1/monitors/apply", "{}").await.0, 404);
    assert_eq!(device.results(vec![]).await.0, StatusCode::OK, "both ways at once");
}

#[tokio::test]
async fn a_request_on_a_stream_needs_its_own_signature_and_a_fresh_counter() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    let device = plane.agent("edge-1").await;
    let mut stream = device.stream(0).await;
    let stamp = device.stamp();
    let signature = stamp.sign_request(&device.key, "POST", "/v1/results", HEARTBEAT.as_bytes());
    let mut statuses = Vec::new();
    for body in ["{}", HEARTBEAT, HEARTBEAT] {
        stream.send(&stamp, "POST", "/v1/results", body, signature.clone()).await;
        loop {
            if let Some(Down::Answer { status, .. }) = stream.next().await {
                statuses.push(status);
                break;
            }
        }
    }
    assert_eq!(statuses, [401, 200, 401], "another body, itself, a replay");
}

#[tokio::test]
async fn pushes_come_by_the_stream_once_and_by_the_long_poll_until_they_are_confirmed() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    let device = plane.agent("edge-1").await;
    let mut stream = device.stream(0).await;
    let (number, first) = stream.push(&device).await;
    assert!(matches!((number, first), (1, Push::Configuration { .. })), "the configuration of the lease");
    plane.apply(json!([shop()])).await;
    let (number, changed) = stream.push(&device).await;
    assert!(matches!((number, changed), (2, Push::Configuration { .. })));
    plane.control.push(device.id, Push::Rotate);
    assert_eq!(stream.push(&device).await, (3, Push::Rotate));
    drop(stream);

    let poll = async |after: u64| {
        let path = format!("/v1/pushes?after={after}&wait=0");
        let (status, waiting) = device.send(&device.stamp(), Method::GET, &path, String::new(), None).await;
        assert_eq!(status, StatusCode::OK, "{waiting}");
        let Waiting { pushes } = serde_json::from_value(waiting).unwrap();
        pushes.into_iter().map(|push| push.number).collect::<Vec<_>>()
    };
    assert_eq!(poll(1).await, [2, 3], "they may be lost with the stream");
    assert_eq!(poll(3).await, [0; 0]);
    assert_eq!(poll(0).await, [0; 0], "confirmed is forgotten");
    let mut again = device.stream(3).await;
    plane.control.push(device.id, Push::Hello);
    assert_eq!(again.push(&device).await, (4, Push::Hello));
}

#[tokio::test]
async fn a_push_ends_the_long_poll_and_a_change_for_others_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    let device = plane.agent("edge-1").await;
    let elsewhere =
        json!({"name": "far", "check": "http", "locations": ["dc2"], "config": {"url": "http://a/"}});
    let wait = async |after: u64| {
        let path = format!("/v1/pushes?after={after}&wait=30");
        device.send(&device.stamp(), Method::GET, &path, String::new(), None).await.1["pushes"].clone()
    };
    assert_eq!(wait(0).await[0]["push"]["kind"], "configuration");
    let (pushes, ()) = tokio::join!(wait(1), async {
        plane.apply(json!([elsewhere])).await;
        plane.control.push(device.id, Push::Rotate);
    });
    assert_eq!(pushes, json!([{"number": 2, "push": {"kind": "rotate"}}]));
}

#[tokio::test]
async fn a_new_stream_or_a_new_session_ends_the_stream_before() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    let mut device = plane.agent("edge-1").await;
    let mut first = device.stream(0).await;
    let mut second = device.stream(0).await;
    let ended = async |stream: &mut Stream| while stream.next().await.is_some() {};
    ended(&mut first).await;
    device.hello(json!({"epoch": 0, "seq": 0})).await;
    ended(&mut second).await;
    let third = device.stream(0).await;
    drop(third);
}

#[tokio::test]
async fn a_run_is_asked_of_the_agent_and_its_result_is_the_answer() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    let mut everywhere = shop();
    everywhere["locations"] = json!(["dc1", "dc2"]);
    plane.apply(json!([everywhere])).await;
    let device = plane.agent("edge-1").await;
    let mut stream = device.stream(0).await;
    let asking = plane.call(Method::POST, "/v1/monitors/shop/run?wait=20", None);
    let answering = async {
        let (monitor, request) = loop {
            if let (_, Push::Run { monitors, request }) = stream.push(&device).await {
                break (monitors[0], request.expect("somebody waits for it"));
            }
        };
        let mut found = record(&monitor.to_string(), 1, 1, "down", Timestamp::from_millis(START_MS));
        found["result"]["request"] = json!(request);
        device.results(vec![found]).await;
    };
    let ((status, answer), ()) = tokio::join!(asking, answering);
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(answer["results"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&answer["results"][0]["state"], &answer["results"][0]["agent"]),
        (&json!("down"), &json!("edge-1"))
    );
    assert_eq!(answer["missing"][0]["reason"], "no agent is enrolled at location dc2");
}

#[tokio::test]
async fn a_run_that_cannot_be_asked_for_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    let mut off = shop();
    off["name"] = json!("off");
    off["enabled"] = json!(false);
    plane.apply(json!([shop(), off])).await;
    for (path, status, words) in [
        ("/v1/monitors/shop/run?location=dc3", 404, "does not run at location \"dc3\": try dc1"),
        ("/v1/monitors/shp/run", 404, "did you mean shop?"),
        ("/v1/monitors/off/run", 409, "enabled: true"),
    ] {
        let (found, answer) = plane.call(Method::POST, path, None).await;
        assert_eq!(found.as_u16(), status, "{answer}");
        assert!(answer["detail"].as_str().unwrap().contains(words), "{answer}");
    }
    let device = plane.agent("edge-1").await;
    let (_, silent) = plane.call(Method::POST, "/v1/monitors/shop/run?wait=1", None).await;
    assert_eq!(silent["missing"][0]["reason"], "agent edge-1 sent no result within 1 s");
    plane.pass(Duration::from_secs(31));
    let (_, away) = plane.call(Method::POST, "/v1/monitors/shop/run", None).await;
    assert_eq!(away["missing"][0]["reason"], "agent edge-1 is not connected");
    drop(device);
}
