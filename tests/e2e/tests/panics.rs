//! A fault of ours: a part of the agent that panics is counted, said and started again; the rest never notices.

use std::time::Duration;

use picket_e2e::process::command;
use picket_e2e::web::Web;
use picket_e2e::{Field, Finished, Process, until};

fn start(field: &Field, failpoints: &str) -> Process {
    let token = field.create_agent("edge-1", "dc1");
    let mut command = field.agent("edge-1");
    command.env("PICKET_SETUP_TOKEN", token).env("FAILPOINTS", failpoints);
    Process::start(&mut command, field.path("edge-1.log"))
}

fn health(field: &Field) -> Finished {
    Finished::of(command(["health", "--data"]).arg(field.path("edge-1")))
}

#[test]
fn every_part_that_panics_is_started_again_and_picket_health_counts_it() {
    let web = Web::start("<h1>Welcome</h1>");
    let field = Field::new();
    let mut agent = start(
        &field,
        "agent.runner=4*off->1*panic;agent.uplink=3*off->2*panic;agent.follow=1*off->1*panic;\
         agent.prepare=1*panic;agent.state=1*off->1*panic;agent.run=1*panic",
    );
    field.apply(&format!(
        "monitors:\n  - {{ name: page, check: http, interval: 1s, timeout: 900ms, locations: [dc1], config: {{ url: \"{}\" }} }}\n",
        web.url()
    ));
    let broken = field.result_of("page", "the panic of its run", |r| r["code"] == "agent.panic");
    assert_eq!(broken["state"], "error", "a fault of ours is never down");
    let counts =
        "panicked: preparation of monitors 1, runner 1, state file 1, uplink 2, wait for configuration 1";
    until("picket health counts every panic", Duration::from_secs(60), || {
        assert!(agent.runs(), "{}", agent.output());
        health(&field).exits(0).stdout.contains(counts).then_some(())
    });
    let served = web.served();
    until("checks go on", Duration::from_secs(60), || (web.served() > served + 3).then_some(()));
    let last = field.results(&["--monitor", "page"]).last().expect("results")["seq"].as_u64();
    field.result_of("page", "a live one after all panics", |r| {
        r["delivery"] == "live" && r["seq"].as_u64() > last
    });
    assert_eq!(agent.output().matches("is started again").count(), 6);
    let (status, _) = agent.terminate();
    assert!(status.success(), "{status}");
}

#[test]
fn a_part_that_only_panics_ends_the_agent_with_70() {
    let field = Field::new();
    let mut agent = start(&field, "agent.uplink=panic");
    assert_eq!(agent.ends(Duration::from_secs(60)).code(), Some(70));
    assert!(agent.output().contains("the uplink panicked 5 times within 60 s"), "{}", agent.output());
}
