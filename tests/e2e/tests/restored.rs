//! An agent whose data directory comes from a backup: it was set back to an earlier life, and what it records from then on must not be
//! taken for what the later life sent under the same positions.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use picket_e2e::web::Web;
use picket_e2e::{Field, until};

#[test]
fn an_agent_with_a_restored_data_directory_goes_on_under_new_positions() {
    let web = Web::start("<h1>Welcome</h1>");
    let field = Field::new();
    let agent = field.start_agent("edge-1", "dc1");
    let monitor = format!(
        "monitors:\n  - {{ name: page, check: http, interval: 1s, timeout: 900ms, locations: [dc1], config: {{ url: \"{}\" }} }}\n",
        web.url()
    );
    field.apply(&monitor);
    field.result_of("page", "of the first life", |r| r["epoch"] == 1);
    agent.terminate();
    let (data, backup) = (field.path("edge-1"), field.path("backup"));
    copy(&data, &backup);

    // The later life, which the backup knows nothing of.
    let agent = field.restart_agent("edge-1");
    field.result_of("page", "of the second life", |r| r["epoch"] == 2 && r["seq"].as_u64() >= Some(4));
    agent.kill();
    std::fs::remove_dir_all(&data).unwrap();
    copy(&backup, &data);

    // It begins with epoch 2 again, of which the control plane has results already.
    let agent = field.restart_agent("edge-1");
    let live = until("a live result of the restored agent", Duration::from_secs(120), || {
        let results = field.results(&["--monitor", "page", "--limit", "1000"]);
        results.into_iter().find(|r| r["epoch"].as_u64() >= Some(3) && r["delivery"] == "live")
    });
    let log = std::fs::read_to_string(field.path("edge-1.log")).unwrap();
    assert!(log.contains("was restored or copied"), "{log}");
    let (status, _) = agent.terminate();
    assert!(status.success());

    let stored = field.results(&["--agent", "edge-1", "--since", "1h", "--limit", "10000"]);
    let ids: BTreeSet<_> = stored.iter().map(|r| r["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), stored.len(), "nothing is stored twice");
    for epoch in [2, live["epoch"].as_u64().unwrap()] {
        let seqs: BTreeSet<_> = stored
            .iter()
            .filter(|r| r["epoch"].as_u64() == Some(epoch))
            .map(|r| r["seq"].as_u64().unwrap())
            .collect();
        assert_eq!(seqs, (1..=seqs.len() as u64).collect(), "epoch {epoch} is whole");
    }
}

fn copy(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.is_ok_and(|status| status.success()), "copying {} fails", from.display());
}
