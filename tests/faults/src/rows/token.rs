//! T1, T9: a setup token in a hundred hands, and requests that somebody recorded.

use rand::RngExt as _;
use serde_json::json;
use wire::signature::Stamp;

use crate::device::Device;
use crate::row::row;
use crate::{Row, Run, Stage, Tally};

pub(super) const ROWS: &[Row] = &[
    row("T1", "one setup token, parallel enrolments", (100, 10_000), enrolments),
    row("T9", "replays with altered parts", (500, 10_000), replays),
];

/// Hundreds of devices, a new setup token for each hundred: one becomes the agent, all others are told 409.
fn enrolments(run: &Run) -> Tally {
    let stage = Stage::new("T1");
    let (port, rounds) = (stage.port(), run.count / 100);
    for round in 0..rounds {
        let token = stage.create_agent(&format!("edge-{round}"), "dc1");
        let hundred = Run { count: 100, ..*run };
        let statuses = hundred.side_by_side(100, |n, _| {
            Device::new(port, run.seed ^ (round * 100 + n) << 32).enroll(&token).status()
        });
        assert_eq!(statuses.iter().filter(|s| **s == 200).count(), 1, "{statuses:?}");
        assert_eq!(statuses.iter().filter(|s| **s == 409).count(), 99, "{statuses:?}");
        let view = stage.agent_view(&format!("edge-{round}"));
        assert!(view["id"].is_string(), "the one that was first is an agent: {view}");
    }
    Tally::of(rounds * 100, "enrolments").and(rounds, "agents").and(rounds * 99, "told 409")
}

/// What somebody recorded who has the token but not the device key: sent again as it was, and with each part altered.
fn replays(run: &Run) -> Tally {
    let stage = Stage::new("T9");
    let mut device = Device::new(stage.port(), run.seed);
    let token = stage.create_agent("edge-1", "dc1");
    assert_eq!(device.enroll(&token).status(), 200);
    device.hello(&json!({"epoch": 0, "seq": 0}));
    let (path, body) = ("/v1/results", br#"{"records":[],"pending":0,"sent_at":"2026-11-20T18:00:00.000Z"}"#);
    let stamp = device.stamp();
    let signature = device.sign(&stamp, "POST", path, body);
    assert_eq!(device.send_signed(&stamp, "POST", path, body, &signature).status(), 200, "the first is good");
    let mut rng = run.rng(9);
    let mut accepted = Vec::new();
    for n in 0..run.count {
        let (mut stamp, mut signature, mut path, mut body) =
            (stamp.clone(), signature.clone(), path.to_owned(), body.to_vec());
        let mut method = "POST";
        match n % 9 {
            0 => {}
            1 => stamp.counter = stamp.counter.wrapping_add(rng.random_range(1..2_000)),
            2 => stamp.generation = rng.random_range(2..9),
            3 => stamp.lease = device.lease.chars().rev().collect(),
            4 => path += &format!("?again={n}"),
            5 => {
                let at = rng.random_range(0..body.len());
                body[at] ^= 1 << rng.random_range(0..7);
            }
            6 => {
                let at = rng.random_range(0..signature.len());
                let other = if signature.as_bytes()[at] == b'0' { "1" } else { "0" };
                signature.replace_range(at..=at, other);
            }
            7 => method = "PUT",
            _ => path = ["/v1/config?wait=0", "/v1/hello", "/v1/nonce2"][rng.random_range(0..3)].to_owned(),
        }
        let answer = device.send_signed(&stamp, method, &path, &body, &signature);
        if answer.status() < 400 {
            accepted.push(format!("{method} {path} {stamp:?}: {}", answer.start));
        }
    }
    assert_eq!(accepted, Vec::<String>::new());
    // Neither did any of it take the lease from the device.
    let next = Stamp { counter: stamp.counter + 1, ..stamp };
    assert_eq!(device.send_as(&next, "POST", path, body).status(), 200, "the device itself goes on");
    Tally::of(run.count, "replays").and(0, "accepted")
}
