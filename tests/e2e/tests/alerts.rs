//! What a receiver of alerts gets: one event for what changed, none for what is old, each once by its id.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

use std::time::Duration;

use picket_e2e::hook::Hook;
use picket_e2e::web::Web;
use picket_e2e::{Field, until};
use serde_json::Value;

const SECRET: &str = "correct horse battery staple";
const SOON: Duration = Duration::from_secs(30);

/// The longest wait of an agent between two attempts, and a little.
const BACK: Duration = Duration::from_secs(90);

/// A control plane that knows the secret of its channel.
fn field() -> Field {
    field_with("PICKET_SECRET_OPS", SECRET)
}

fn field_with(name: &str, value: &str) -> Field {
    let mut field = Field::named("alerts");
    field.kill_control();
    field.give("PICKET_SECRET_OPS", SECRET);
    field.give(name, value);
    field.start_control();
    field
}

fn file(web: &Web, hook: &Hook) -> String {
    format!(
        "channels:\n  - {{ name: ops, kind: webhook, url: \"{}\", secret: {{ $secret: ops }} }}\n\
         monitors:\n  - {{ name: page, check: http, interval: 1s, timeout: 900ms, locations: [dc1], config: {{ url: \"{}\" }} }}\n",
        hook.url(),
        web.url(),
    )
}

fn listed(field: &Field, args: &[&str]) -> Vec<Value> {
    let out = field.picket([&["alerts", "list", "--json"], args].concat()).exits(0).stdout;
    out.lines().map(|line| serde_json::from_str(line).expect("a line is a JSON object")).collect()
}

fn count(field: &Field, kind: &str) -> usize {
    listed(field, &[]).iter().filter(|e| e["event"] == kind).count()
}

/// How many checks the target saw since.
fn checks(web: &Web, more: u64) {
    let before = web.served();
    until("checks go on", SOON, || (web.served() >= before + more).then_some(()));
}

#[test]
fn an_outage_of_the_control_plane_alerts_about_nothing_that_is_over_and_once_about_what_is_not() {
    let (web, hook) = (Web::start("<h1>Welcome</h1>"), Hook::start(SECRET));
    let mut field = field();
    let _agent = field.start_agent("edge-1", "dc1");
    field.apply(&file(&web, &hook));
    field.result_of("page", "live and up", |r| r["delivery"] == "live" && r["state"] == "up");

    // Down and up again while the control plane is away, for longer than a session is resumed: a line in a digest.
    field.kill_control();
    web.fail(true);
    checks(&web, 5);
    web.fail(false);
    checks(&web, 13);
    field.start_control();
    let digest = hook.event("digest", BACK);
    assert!(digest["lines"][0].as_str().unwrap().starts_with("page was down "), "{digest}");
    assert_eq!(hook.kinds(), ["digest"]);

    // Still down when it comes back: one alert, with the time of the first result that said so.
    field.kill_control();
    web.fail(true);
    checks(&web, 17);
    let away = wire_now();
    field.start_control();
    let down = hook.event("down", BACK);
    assert!(down["since"].as_str().unwrap() < away.as_str(), "{down} since before {away}");
    assert_eq!((&down["monitor"], &down["confirmed"]), (&"page".into(), &false.into()));
    checks(&web, 5);
    assert_eq!((count(&field, "down"), count(&field, "digest")), (1, 1));
    assert_eq!(listed(&field, &["--open"]).len(), 1);
    let shown = field.picket(["alerts", "show", down["id"].as_str().unwrap()]).exits(0).stdout;
    assert!(shown.contains("delivered") && shown.contains("ops"), "{shown}");

    web.fail(false);
    let recovered = hook.event("recovered", BACK);
    assert_eq!(recovered["alert"], down["alert"]);
    assert_eq!(hook.kinds(), ["digest", "down", "recovered"]);
    assert_eq!(listed(&field, &["--open"]), Vec::<Value>::new());
}

#[test]
fn a_control_plane_that_dies_between_delivery_and_its_note_delivers_the_same_id_again() {
    let (web, hook) = (Web::start("<h1>Welcome</h1>"), Hook::start(SECRET));
    let mut field = field();
    let _agent = field.start_agent("edge-1", "dc1");
    field.apply(&file(&web, &hook));
    field.result_of("page", "up", |r| r["state"] == "up");
    field.kill_control();
    field.give("FAILPOINTS", "control.alert.delivered=return");
    field.start_control();
    web.fail(true);
    field.await_end_of_control(BACK);
    let first = hook.received();
    field.give("FAILPOINTS", "");
    field.start_control();
    until("the event comes again", SOON, || (hook.received().len() > first.len()).then_some(()));
    let id = &first.last().unwrap()["id"];
    assert!(hook.received().iter().filter(|e| e["id"] == *id).count() >= 2);
    assert_eq!(hook.received().last().unwrap()["id"], *id, "the same event");
    until("it is noted", SOON, || {
        let shown = field.picket(["alerts", "show", id.as_str().unwrap(), "--json"]).exits(0).json();
        (shown["deliveries"][0]["state"] == "delivered").then_some(())
    });
    assert_eq!(count(&field, "down"), 1);
}

#[test]
fn a_receiver_that_fails_gets_it_again_and_one_that_is_gone_does_not() {
    let (web, hook) = (Web::start("<h1>Welcome</h1>"), Hook::start(SECRET));
    let field = field();
    let _agent = field.start_agent("edge-1", "dc1");
    field.apply(&file(&web, &hook));
    field.result_of("page", "up", |r| r["state"] == "up");
    hook.answer(503);
    web.fail(true);
    until("three tries", SOON, || (hook.received().len() >= 3).then_some(()));
    let ids: Vec<_> = hook.received().iter().map(|e| e["id"].clone()).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    hook.answer(410);
    let state = |id: &Value| {
        let shown = field.picket(["alerts", "show", id.as_str().unwrap(), "--json"]).exits(0).json();
        shown["deliveries"][0].clone()
    };
    let failed = until("it is given up", SOON, || Some(state(&ids[0])).filter(|d| d["state"] == "failed"));
    assert!(failed["error"].as_str().unwrap().contains("410"), "{failed}");
    hook.answer(204);
    web.fail(false);
    let recovered = hook.event("recovered", SOON);
    until("the next one arrives", SOON, || (state(&recovered["id"])["state"] == "delivered").then_some(()));
}

#[test]
fn an_agent_that_is_killed_is_one_event_and_its_return_another() {
    let (web, hook) = (Web::start("<h1>Welcome</h1>"), Hook::start(SECRET));
    // It looks for silent agents from its start on.
    let field = field_with("PICKET_DEBUG_WINDOW_MS", "1000");
    let agent = field.start_agent("edge-1", "dc1");
    field.apply(&file(&web, &hook));
    field.result_of("page", "up", |r| r["state"] == "up");
    agent.kill();
    let gone = hook.event("agent_down", Duration::from_secs(50));
    assert_eq!((&gone["agent"], &gone["state"]), (&"edge-1".into(), &"unknown".into()));
    let _agent = field.restart_agent("edge-1");
    let back = hook.event("agent_up", BACK);
    assert_eq!(back["alert"], gone["alert"]);
    assert_eq!(hook.kinds(), ["agent_down", "agent_up"]);
}

/// Now, as results write it.
fn wire_now() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let date = std::process::Command::new("date")
        .args(["-u", "+%Y-%m-%dT%H:%M:%S.000Z", "-d", &format!("@{}", since.as_secs())])
        .output()
        .unwrap();
    String::from_utf8(date.stdout).unwrap().trim().to_owned()
}
