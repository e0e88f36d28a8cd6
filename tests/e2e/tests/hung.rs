//! Targets that accept and never answer: more of them than the agent has places. The others are checked in time.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

use std::net::TcpListener;
use std::time::Duration;

use picket_e2e::web::Web;
use picket_e2e::{Field, Process, until};

#[test]
fn many_that_hang_do_not_hold_up_the_others() {
    let web = Web::start("<h1>Welcome</h1>");
    // Nobody ever accepts: connections wait in its queue.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let field = Field::new();
    let token = field.create_agent("edge-1", "dc1");
    let mut command = field.agent("edge-1");
    command.env("PICKET_SETUP_TOKEN", token).args(["--concurrency", "4"]);
    let _agent = Process::start(&mut command, field.path("edge-1.log"));
    // They need eight places and have three.
    let hung: String = (0..12)
        .map(|n| {
            format!(
                "  - {{ name: hung-{n}, check: http, interval: 3s, timeout: 2s, retries: 0, locations: [dc1], config: {{ url: \"http://{}/\" }} }}\n",
                silent.local_addr().unwrap()
            )
        })
        .collect();
    field.apply(&format!(
        "monitors:\n  - {{ name: page, check: http, interval: 1s, timeout: 900ms, locations: [dc1], config: {{ url: \"{}\" }} }}\n{hung}",
        web.url()
    ));
    for n in 0..12 {
        let down = field.result_of(&format!("hung-{n}"), "down", |r| r["state"] == "down");
        assert!(down["code"].as_str().unwrap().contains("timeout"), "{down}");
    }
    let page = || field.results(&["--monitor", "page", "--limit", "1000"]);
    let before = page().len();
    let later = until("ten more results of the page", Duration::from_secs(60), || {
        let all = page();
        (all.len() >= before + 10).then(|| all[all.len() - 10..].to_vec())
    });
    assert!(later.iter().all(|result| result["state"] == "up"), "{later:?}");
    let missed: u64 = later.iter().filter_map(|result| result["missed"].as_u64()).sum();
    // Fifty where everybody waits for those that hang.
    assert!(missed <= 15, "{missed} runs of the page were missed beside ten that were made");
}
