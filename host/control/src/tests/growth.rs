//! With many agents and monitors nobody waits for anybody else.

use std::sync::mpsc;

use super::*;
use crate::control::lock;

/// Does it on a thread of its own while a change is under way. None when it waits for the change.
fn beside_a_change<T: Send + 'static>(
    plane: &Plane,
    work: impl FnOnce(&Control) -> T + Send + 'static,
) -> Option<T> {
    let (done, outcome) = mpsc::channel();
    let control = plane.control.clone();
    let waited = plane.control.change(|_| {
        std::thread::spawn(move || done.send(work(&control)));
        Ok((vec![], outcome.recv_timeout(LONG).ok()))
    });
    waited.unwrap()
}

#[tokio::test]
async fn a_stranger_who_tries_to_enrol_waits_for_no_change_and_holds_up_none() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    let stranger = EnrollRequest {
        setup_token: "pst_guessed".into(),
        enrollment_id: Uuid::nil(),
        public_key: String::new(),
        token_sha256: String::new(),
        version: String::new(),
        signature: String::new(),
    };
    let refused = beside_a_change(&plane, move |control| control.enroll(&stranger).unwrap_err().code);
    assert_eq!(refused.as_deref(), Some("setup_token_unknown"));
}

#[tokio::test]
async fn an_agent_that_comes_back_to_what_it_ran_waits_for_no_change() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    plane.apply(json!([shop()])).await;
    let device = plane.agent("edge-1").await;
    let version = plane.control.registry().version;
    plane.pass(Duration::from_secs(120));
    assert!(plane.control.seen(device.id, None), "it was away");
    assert!(beside_a_change(&plane, |control| control.settle().is_ok()).is_some());
    assert_eq!(plane.control.registry().version, version);
}

#[tokio::test]
async fn whoever_delivers_alerts_holds_up_no_worker_while_the_disk_is_slow() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    let delivering = tokio::spawn(crate::alert::deliver(plane.control.clone()));
    while plane.control.rang.receiver_count() == 0 {
        tokio::task::yield_now().await;
    }
    let (held, holds) = mpsc::channel();
    let (release, released) = mpsc::channel();
    let control = plane.control.clone();
    let writer = std::thread::spawn(move || {
        let _book = lock(&control.alerts);
        held.send(()).unwrap();
        released.recv_timeout(LONG).is_ok()
    });
    holds.recv().unwrap();
    plane.control.rang.send_modify(|n| *n += 1);
    // All of this runs on one thread: it comes back to here only while nothing holds that up.
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    release.send(()).unwrap();
    assert!(writer.join().unwrap(), "the only worker waited for the disk");
    delivering.abort();
}

#[tokio::test]
async fn what_no_agent_could_take_at_once_is_refused_with_the_location() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    let large = |name: &str, location: &str| {
        let config = json!({"url": "http://a/", "body": name.repeat(wire::config::LIMIT / 3)});
        json!({"name": name, "check": "http", "locations": [location], "config": config})
    };
    plane.apply(json!([large("a", "dc1"), large("b", "dc1")])).await;
    for dry_run in [true, false] {
        let body = json!({"monitors": [large("c", "dc1")], "dry_run": dry_run});
        let (status, answer) = plane.call(Method::POST, "/v1/monitors/apply", Some(body)).await;
        let message = "location \"dc1\" has monitors of 65 MiB, and one agent, which may have to run them all, takes at most 64 MiB: give some of them another location";
        assert_eq!((status.as_u16(), &answer["mistakes"][0]["message"]), (422, &json!(message)));
    }
    assert_eq!(plane.get("/v1/monitors").await.as_array().unwrap().len(), 2);
    plane.apply(json!([large("c", "dc2")])).await;
}

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(10);
