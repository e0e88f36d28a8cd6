//! `picket demo`: everything at once, twice in a row, and nothing left behind.

use std::time::Duration;

use picket_e2e::process::command;
use picket_e2e::{Finished, Process, until};

#[test]
fn the_demo_shows_every_sample_monitor_in_its_expected_state_twice_in_a_row() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let done = Finished::of(command(["demo", "--for", "25s"]).env("TMPDIR", dir.path())).exits(0);
        // One of each check, and the one that fails on purpose; that each state is the expected one is in the exit status.
        for monitor in
            ["shop", "internal-dns", "mail-relay", "vpn-certificate", "orders-replica", "shop-checkout"]
        {
            assert!(done.stdout.contains(monitor), "{monitor} is missing in:\n{}", done.stdout);
        }
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().flatten().map(|e| e.path()).collect();
        assert!(left.is_empty(), "left behind: {left:?}");
    }
}

#[test]
fn an_interrupt_ends_the_demo_and_everything_it_started() {
    let dir = tempfile::tempdir().unwrap();
    let logs = tempfile::tempdir().unwrap();
    let mut demo = Process::start(command(["demo"]).env("TMPDIR", dir.path()), logs.path().join("demo.log"));
    until("results come in", Duration::from_secs(60), || {
        assert!(demo.runs(), "{}", demo.output());
        demo.output().contains("up").then_some(())
    });
    let family = descendants(demo.pid());
    assert!(family.len() >= 3, "control plane and two agents run: {family:?}");
    demo.signal(rustix::process::Signal::INT);
    demo.ends(Duration::from_secs(20));
    for pid in family {
        until(&format!("process {pid} is gone"), Duration::from_secs(5), || {
            (!std::path::Path::new(&format!("/proc/{pid}/exe")).exists()).then_some(())
        });
    }
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().flatten().map(|e| e.path()).collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

/// Every process below that one.
fn descendants(pid: u32) -> Vec<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children
        .split_whitespace()
        .filter_map(|p| p.parse().ok())
        .flat_map(|child| std::iter::once(child).chain(descendants(child)).collect::<Vec<_>>())
        .collect()
}
