//! The life of an identity: tokens that change under way, a copy beside the original, an agent that is revoked and approved.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use picket_e2e::web::Web;
use picket_e2e::{Field, Process, oracle, pause, until};
use serde_json::Value;

fn monitors(url: &str) -> String {
    let one = |name: &str| {
        format!(
            "  - {{ name: {name}, check: http, interval: 1s, timeout: 900ms, locations: [dc1], config: {{ url: \"{url}\" }} }}\n"
        )
    };
    format!("monitors:\n{}{}", one("page"), one("other"))
}

/// Kinds of the agent's events, newest first.
fn told(field: &Field) -> Vec<String> {
    let lines = field.picket(["agents", "events", "edge-1", "--limit", "1000", "--json"]).exits(0).stdout;
    let kind = |line: &str| {
        let event: Value = serde_json::from_str(line).expect("a line is a JSON object");
        event["kind"].as_str().expect("an event has a kind").to_owned()
    };
    lines.lines().map(kind).collect()
}

fn count(field: &Field, kind: &str) -> usize {
    told(field).iter().filter(|k| *k == kind).count()
}

fn state(field: &Field) -> String {
    let agents = field.picket(["agents", "list", "--json"]).exits(0).json();
    agents[0]["state"].as_str().expect("an agent has a state").to_owned()
}

/// The command of the agent, with a token as often as it goes.
fn rotating(field: &Field) -> Command {
    let mut command = field.agent("edge-1");
    command.env("PICKET_ROTATE_EVERY", "1s").env("PICKET_START_WAIT_MS", "0");
    command
}

fn start(field: &Field, command: &mut Command) -> Process {
    Process::start(command, field.path("edge-1.log"))
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("the directory can be made");
    for entry in std::fs::read_dir(from).expect("the directory is there") {
        let path = entry.expect("the directory can be read").path();
        let to = to.join(path.file_name().expect("an entry has a name"));
        match path.is_dir() {
            true => copy(&path, &to),
            false => assert!(std::fs::copy(&path, &to).is_ok()),
        }
    }
}

/// Waits until everything that the agent recorded is stored once or lies in a gap.
fn whole(field: &Field) -> usize {
    until("the history is whole", Duration::from_secs(60), || {
        let log = std::fs::read_to_string(field.path("edge-1.log")).unwrap_or_default();
        let recorded = oracle::recorded(&log);
        let stored = field.results(&["--agent", "edge-1", "--since", "1h", "--limit", "10000"]);
        let gaps = field.picket(["gaps", "--limit", "10000", "--json"]).exits(0).stdout;
        let gaps: Vec<_> =
            gaps.lines().map(|l| serde_json::from_str(l).expect("a line is a JSON object")).collect();
        oracle::judge(&recorded, &stored, &gaps).is_empty().then_some(recorded.len())
    })
}

#[test]
fn an_agent_that_is_killed_while_it_rotates_always_comes_back_and_loses_nothing() {
    let web = Web::start("<h1>Welcome</h1>");
    let mut field = Field::new();
    let token = field.create_agent("edge-1", "dc1");
    let mut agent = start(&field, rotating(&field).env("PICKET_SETUP_TOKEN", token));
    field.apply(&monitors(&web.url()));
    field.result_of("page", "any", |_| true);
    for point in ["identity.pending", "identity.rotated", "identity.activated"] {
        for _ in 0..2 {
            agent.kill();
            let mut dying = start(&field, rotating(&field).env("FAILPOINTS", format!("{point}=return")));
            assert!(!dying.ends(Duration::from_secs(30)).success(), "{point} was never reached");
            let before = count(&field, "rotated");
            agent = start(&field, &mut rotating(&field));
            until(&format!("it rotates on after {point}"), Duration::from_secs(60), || {
                (count(&field, "rotated") > before).then_some(())
            });
        }
    }
    for cycle in 0..10_u64 {
        pause(Duration::from_millis(500 + cycle * 97));
        agent.kill();
        if cycle % 3 == 0 {
            field.kill_control();
            field.start_control();
        }
        agent = start(&field, &mut rotating(&field));
    }
    let before = count(&field, "rotated");
    until("it rotates on", Duration::from_secs(60), || (count(&field, "rotated") > before).then_some(()));
    let (status, _) = agent.terminate();
    assert!(status.success());
    let told = told(&field);
    for kind in ["superseded", "recovered", "forked", "taken_over", "stolen"] {
        assert!(!told.iter().any(|k| k == kind), "{kind} in {told:?}");
    }
    assert!(whole(&field) >= 5);
}

#[test]
fn an_identity_from_a_backup_recovers_with_its_device_key() {
    let field = Field::new();
    let token = field.create_agent("edge-1", "dc1");
    let agent = start(&field, field.agent("edge-1").env("PICKET_SETUP_TOKEN", token));
    until("it is connected", Duration::from_secs(60), || (state(&field) == "connected").then_some(()));
    let (identity, backup) = (field.path("edge-1/identity"), field.path("backup"));
    copy(&identity, &backup);
    until("it can be asked", Duration::from_secs(60), || {
        field.picket(["agents", "rotate", "edge-1"]).status.success().then_some(())
    });
    until("it rotates when asked", Duration::from_secs(60), || (count(&field, "rotated") == 1).then_some(()));
    agent.kill();
    let agent = start(&field, &mut rotating(&field));
    until("three rotations", Duration::from_secs(60), || (count(&field, "rotated") >= 3).then_some(()));
    agent.kill();
    copy(&backup, &identity);
    let agent = start(&field, &mut field.agent("edge-1"));
    until("it recovers", Duration::from_secs(60), || (count(&field, "recovered") == 1).then_some(()));
    until("it is connected", Duration::from_secs(60), || (state(&field) == "connected").then_some(()));
    drop(agent);
    let agents = field.picket(["agents", "list", "--json"]).exits(0).json();
    assert_eq!(agents[0]["recoveries"], 1);
}

#[test]
fn a_copied_data_directory_stands_by_and_takes_over_when_the_original_ends() {
    let web = Web::start("<h1>Welcome</h1>");
    let field = Field::new();
    let agent = field.start_agent("edge-1", "dc1");
    field.apply(&monitors(&web.url()));
    field.result_of("page", "any", |_| true);
    agent.kill();
    copy(&field.path("edge-1"), &field.path("copy"));
    let agent = field.restart_agent("edge-1");
    until("it is connected", Duration::from_secs(60), || {
        field.results(&["--monitor", "page"]).iter().any(|r| r["epoch"] == 2).then_some(())
    });
    let twin = Process::start(&mut field.agent("copy"), field.path("copy.log"));
    // Two heartbeats.
    until("the fork is found", Duration::from_secs(60), || (state(&field) == "forked").then_some(()));
    assert_eq!(count(&field, "forked"), 1);
    until("one of the two stands by", Duration::from_secs(5), || {
        (agent.output() + &twin.output()).contains("this one stands by").then_some(())
    });
    let original_stands_by = agent.output().contains("this one stands by");
    let (holder, standby) = if original_stands_by { (twin, agent) } else { (agent, twin) };
    holder.kill();
    until("the other takes over", Duration::from_secs(60), || {
        standby.output().contains("on duty again").then_some(())
    });
    assert_eq!(count(&field, "taken_over"), 1);
    let taken = field.results(&["--monitor", "page", "--limit", "1"])[0]["epoch"].as_u64().unwrap();
    field.result_of("page", "of the one that took over", |r| r["epoch"].as_u64().unwrap() > taken);
}

#[test]
fn a_revoked_agent_stops_keeps_what_it_has_and_goes_on_once_it_is_approved_also_after_restarts() {
    let web = Web::start("<h1>Welcome</h1>");
    let mut field = Field::new();
    let agent = field.start_agent("edge-1", "dc1");
    field.apply(&monitors(&web.url()));
    field.result_of("page", "any", |_| true);
    field.picket(["agents", "revoke", "edge-1"]).exits(64);
    field.picket(["agents", "revoke", "edge-1", "--yes"]).exits(0);
    until("it hears of it", Duration::from_secs(60), || {
        agent.output().contains("the owner revoked this agent").then_some(())
    });
    pause(Duration::from_secs(2));
    let before = web.served();
    agent.kill();
    field.kill_control();
    let agent = field.restart_agent("edge-1");
    pause(Duration::from_secs(8));
    assert_eq!(web.served(), before, "it checks nothing, also while the control plane is away");
    field.start_control();
    assert_eq!(state(&field), "revoked");
    field.picket(["agents", "approve", "edge-1"]).exits(0);
    until("it checks again", Duration::from_secs(90), || (web.served() > before + 3).then_some(()));
    drop(agent);
    assert!(identity(&field).iter().all(|path| path.is_file()));
    assert_eq!(&told(&field)[..2], ["approved", "revoked"]);
}

fn identity(field: &Field) -> Vec<PathBuf> {
    ["slot.a", "slot.b"].map(|name| field.path("edge-1/identity").join(name)).into()
}
