//! Uptime as `picket monitors show` tells it: what came later is known, what nobody saw is unknown and said.

use std::time::Duration;

use picket_e2e::web::Web;
use picket_e2e::{Field, pause, until};
use serde_json::Value;

fn day(field: &Field) -> Value {
    field.picket(["monitors", "show", "page", "--json"]).exits(0).json()["uptime"][0].clone()
}

fn seconds(uptime: &Value, key: &str) -> u64 {
    uptime[key].as_u64().expect("a number of seconds")
}

#[test]
fn an_outage_of_the_control_plane_is_known_afterwards_and_one_of_the_agent_stays_unknown() {
    let web = Web::start("<h1>Welcome</h1>");
    let mut field = Field::new();
    let agent = field.start_agent("edge-1", "dc1");
    field.apply(&format!(
        "monitors:\n  - {{ name: page, check: http, interval: 1s, timeout: 900ms, locations: [dc1], config: {{ url: \"{}\" }} }}\n",
        web.url()
    ));
    field.result_of("page", "live", |r| r["delivery"] == "live");
    let before = day(&field);

    field.kill_control();
    pause(Duration::from_secs(8));
    field.start_control();
    let healed = until("the outage is known", Duration::from_secs(90), || {
        let uptime = day(&field);
        (seconds(&uptime, "known_s") >= seconds(&before, "known_s") + 8).then_some(uptime)
    });
    assert!(seconds(&healed, "unknown_s") <= seconds(&before, "unknown_s") + 4, "{before} {healed}");

    let last = field.results(&["--monitor", "page"]).len();
    agent.kill();
    pause(Duration::from_secs(8));
    let _agent = field.restart_agent("edge-1");
    until("checks go on", Duration::from_secs(60), || {
        (field.results(&["--monitor", "page"]).len() > last + 2).then_some(())
    });
    let cut = day(&field);
    // The last result before the kill speaks for 2.9 s, the first after the start takes its time.
    let silent = seconds(&cut, "unknown_s") - seconds(&healed, "unknown_s");
    assert!(silent >= 4, "the agent was away for 8 s: {healed} {cut}");
    assert_eq!((cut["up_percent"].as_f64(), seconds(&cut, "down_s")), (Some(100.0), 0), "nobody saw it down");
    let text = field.picket(["monitors", "show", "page"]).exits(0).stdout;
    assert!(text.contains("24h   dc1       100 % of "), "{text}");
    let page = |s: &str| text.lines().filter(|l| l.contains(s)).count();
    assert_eq!(page(" known, "), 3, "{text}");
}
