//! An agent that is started again and again: it waits, says so, ends at once when it is told to, and leaves the control plane alone.

use std::process::Command;
use std::time::{Duration, Instant};

use picket_e2e::process::command;
use picket_e2e::{Field, Finished, Process, until};

/// An agent that cannot run: it ends a moment after its start, and its waits begin with 200 ms.
fn broken(field: &Field) -> Command {
    let mut command = field.agent("edge-1");
    command.env("FAILPOINTS", "agent.runner=panic").env("PICKET_START_WAIT_MS", "200");
    command
}

#[test]
fn from_the_fifth_start_an_agent_waits_longer_each_time_and_asks_nothing_of_the_control_plane() {
    let field = Field::new();
    let token = field.create_agent("edge-1", "dc1");
    for start in 1..=4 {
        let mut command = broken(&field);
        command.args(["--plugins", "nowhere"]).env("PICKET_SETUP_TOKEN", &token);
        let done = Finished::of(&mut command).exits(70);
        assert!(!done.stderr.contains("started too often"), "start {start}: {}", done.stderr);
    }
    for said in ["starts=5 wait=200ms", "starts=6 wait=400ms"] {
        let done = Finished::of(&mut broken(&field)).exits(70);
        assert!(done.stderr.contains(said), "{said} in {}", done.stderr);
        assert!(!done.stderr.contains("connected to the control plane"), "{}", done.stderr);
    }

    let mut command = broken(&field);
    let waiting = Process::start(command.env("PICKET_START_WAIT_MS", "100000"), field.path("edge-1.log"));
    until("picket health says that it waits", Duration::from_secs(60), || {
        let health = Finished::of(self::command(["health", "--data"]).arg(field.path("edge-1")));
        health.stderr.contains("started 7 times within five minutes, so it waits 60 s").then_some(())
    });
    let asked = Instant::now();
    let (status, _) = waiting.terminate();
    assert!(
        status.success() && asked.elapsed() < Duration::from_secs(2),
        "{status} after {:?}",
        asked.elapsed()
    );
}
