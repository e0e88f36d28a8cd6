//! Cut off: the control plane goes away, the agent is killed meanwhile, and afterwards the history is whole.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

use std::time::Duration;

use picket_e2e::web::Web;
use picket_e2e::{Field, oracle, pause, until};

fn monitors(url: &str) -> String {
    let one = |name: &str, config: &str| {
        format!(
            "  - {{ name: {name}, check: http, interval: 1s, timeout: 900ms, locations: [dc1], config: {config} }}\n"
        )
    };
    format!(
        "monitors:\n{}{}{}",
        one("page", &format!("{{ url: \"{url}\", keyword: Welcome }}")),
        one("missing", &format!("{{ url: \"{url}\", keyword: Nowhere }}")),
        one("refused", "{ url: \"http://127.0.0.1:9/\" }"),
    )
}

/// Everything that the control plane has of one agent, and what is wrong with it.
fn wrong(field: &Field, agent: &str) -> (usize, Vec<String>) {
    let log = std::fs::read_to_string(field.path(&format!("{agent}.log"))).unwrap_or_default();
    let recorded = oracle::recorded(&log);
    let stored = field.results(&["--agent", agent, "--since", "1h", "--limit", "10000"]);
    let gaps = field.picket(["gaps", "--limit", "10000", "--json"]).exits(0).stdout;
    let gaps: Vec<_> = gaps.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    (recorded.len(), oracle::judge(&recorded, &stored, &gaps))
}

#[test]
fn after_an_outage_with_a_killed_agent_the_history_is_whole_and_says_what_was_buffered() {
    let web = Web::start("<h1>Welcome</h1>");
    let mut field = Field::new();
    let agent = field.start_agent("edge-1", "dc1");
    field.apply(&monitors(&web.url()));
    let live = field.result_of("page", "live and up", |r| r["delivery"] == "live" && r["state"] == "up");
    assert_eq!(live["epoch"], 1);
    assert_eq!(field.result_of("missing", "down", |r| r["state"] == "down")["code"], "http.keyword");
    assert_eq!(field.result_of("refused", "down", |r| r["state"] == "down")["code"], "tcp.refused");

    field.kill_control();
    let before = web.served();
    until("checks go on without the control plane", Duration::from_secs(60), || {
        (web.served() > before + 6).then_some(())
    });
    agent.kill();
    let before = web.served();
    let agent = field.restart_agent("edge-1");
    until("checks go on after a restart", Duration::from_secs(60), || {
        (web.served() > before + 6).then_some(())
    });
    field.start_control();

    let buffered = field.result_of("page", "of the second epoch, buffered", |r| {
        r["delivery"] == "buffered" && r["epoch"] == 2
    });
    assert_eq!(buffered["state"], "up");
    field
        .result_of("page", "of the second epoch, live again", |r| r["delivery"] == "live" && r["epoch"] == 2);
    let (status, took) = agent.terminate();
    assert!(status.success() && took < Duration::from_secs(5), "SIGTERM: {status} after {took:?}");
    let recorded = until("the history is whole", Duration::from_secs(60), || {
        let (recorded, wrong) = wrong(&field, "edge-1");
        wrong.is_empty().then_some(recorded)
    });
    assert!(recorded > 12, "the agent's log tells of {recorded} recorded results");
    let stored = field.results(&["--monitor", "page", "--limit", "10000"]);
    for result in &stored {
        let (planned, received) =
            (result["planned_at"].as_str().unwrap(), result["received_at"].as_str().unwrap());
        assert!(
            planned.len() == 24 && planned.ends_with('Z') && received.ends_with('Z'),
            "{planned} {received}"
        );
    }
}

#[test]
fn twenty_kills_lose_nothing_and_store_nothing_twice() {
    let web = Web::start("<h1>Welcome</h1>");
    let mut field = Field::new();
    let mut agent = field.start_agent("edge-1", "dc1");
    field.apply(&monitors(&web.url()));
    field.result_of("page", "any", |_| true);
    for cycle in 0..20_u64 {
        let before = web.served();
        until("the agent checks", Duration::from_secs(60), || (web.served() > before + 3).then_some(()));
        // A different point of the second in every cycle, so that the kill meets recording, sending and releasing.
        pause(Duration::from_millis(cycle * 137 % 1000));
        agent.kill();
        if cycle == 7 {
            field.kill_control();
        }
        agent = field.restart_agent("edge-1");
        if cycle == 12 {
            field.start_control();
        }
    }
    field.result_of("page", "of the last epoch", |r| r["epoch"] == 21);
    let (status, _) = agent.terminate();
    assert!(status.success());
    let mut seen = Vec::new();
    let recorded = until("the history is whole", Duration::from_secs(60), || {
        let (recorded, wrong) = wrong(&field, "edge-1");
        if wrong != seen {
            eprintln!("{wrong:#?}");
            seen = wrong;
        }
        seen.is_empty().then_some(recorded)
    });
    assert!(recorded >= 40, "the agent's log tells of {recorded} recorded results");
}

#[test]
fn a_configuration_too_long_for_the_stream_arrives_packed_and_is_there_after_a_restart_while_cut_off() {
    let web = Web::start("<h1>Welcome</h1>");
    let mut field = Field::new();
    let agent = field.start_agent("edge-1", "dc1");
    field.apply(&monitors(&web.url()));
    field.result_of("page", "up", |r| r["state"] == "up");
    // Each says something else, so that nothing of it is told once for all.
    let long: String = (0..12)
        .map(|n| {
            let body = format!("{n:04}").repeat(1 << 18);
            format!(
                "  - {{ name: long-{n}, check: http, interval: 24h, locations: [dc1], config: {{ url: \"http://127.0.0.1:9/\", body: \"{body}\" }} }}\n"
            )
        })
        .collect();
    field.apply(&format!("{}{long}", monitors(&web.url())));
    // The log of both lives.
    let in_use = |agent: &picket_e2e::Process| agent.output().matches("monitors=15").count();
    let of_first = until("all fifteen are in use", Duration::from_secs(60), || {
        Some(in_use(&agent)).filter(|times| *times > 0)
    });

    field.kill_control();
    agent.kill();
    let size = |slot: &str| std::fs::metadata(field.path(&format!("edge-1/config/{slot}"))).unwrap().len();
    let kept = size("slot.a").max(size("slot.b"));
    assert!(kept < 1 << 20, "{kept} bytes are kept of twelve million");
    let before = web.served();
    let agent = field.restart_agent("edge-1");
    until("checks go on after a restart", Duration::from_secs(60), || {
        (web.served() > before + 3).then_some(())
    });
    assert!(in_use(&agent) > of_first, "{}", agent.output());
}
