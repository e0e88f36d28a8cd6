//! D4, D12, P3: a directory that belongs to somebody else or cannot be written, one that an older version left, and an agent that the
//! kernel kills for its memory.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use picket_e2e::oracle::recorded;
use picket_e2e::process;
use rand::RngExt;
use spool::{Settings, Spool, Stored};

use crate::damage::{Fate, alone, fate};
use crate::golden::{self, Golden};
use crate::image::{LIMIT, block_on, everything, scratch};
use crate::row::row;
use crate::{Row, Run, Stage, Tally, pause, until, wrap};

pub(super) const ROWS: &[Row] = &[
    row("P3", "killed by the kernel for its memory", (5, 100), memory),
    row("D4", "wrong owners and permissions", (7, 7), owners),
    row("D12", "data directories of released versions", (1, 1), golden),
];

/// Every directory that a release left still opens: same identity, same configuration, nothing lost.
fn golden(_: &Run) -> Tally {
    golden::update();
    let all = Golden::all();
    let mut pending = 0;
    for golden in &all {
        let home = scratch();
        let data = home.path().join("data");
        golden.restore(&data);
        // Compiled plugins are of one build: here they are compiled anew.
        lend_plugins(home.path());
        let mut command = alone(&data);
        command.env("PICKET_PLUGINS", home.path().join("plugins"));
        match fate(&mut command, &home.path().join("log"), 9 * LIMIT) {
            Fate::Checks(_, output) if output.contains(&golden.id) => {}
            fate => panic!("{}: {fate:?}", golden.version),
        }
        let held = held(&data.join("spool"));
        for (at, id) in &golden.pending {
            assert_eq!(held.get(at), Some(id), "{}: what was recorded at {at}", golden.version);
        }
        pending += golden.pending.len() as u64;
    }
    Tally::of(all.len() as u64, "directories").and(pending, "results still there").and(0, "lost")
}

fn held(dir: &Path) -> BTreeMap<spool::Position, String> {
    block_on(async {
        let spool = Spool::open(Settings::at(dir)).expect("it was opened before");
        let id = |bytes: &[u8]| {
            let entry: serde_json::Value = serde_json::from_slice(bytes).ok()?;
            Some(entry["result"]["id"].as_str()?.to_owned())
        };
        let held = everything(&spool).await.into_iter().filter_map(|stored| match stored {
            Stored::Entry { position, bytes } => Some((position, id(&bytes)?)),
            Stored::Gap(_) => None,
        });
        let held = held.collect();
        spool.close().await;
        held
    })
}

/// What an operator gets wrong with volumes: each is said with the line that helps, or the agent goes on without the disk.
fn owners(run: &Run) -> Tally {
    let home = scratch();
    fs::set_permissions(home.path(), Permissions::from_mode(0o755)).expect("it is ours");
    let program = lent(home.path());
    let golden = Golden::all().pop().expect("there is one");
    let data = |name: &str| home.path().join(name);
    let start = |name: &str, user: u32| {
        let inner = alone(&data(name));
        let mut command = std::process::Command::new(&program);
        command.args(inner.get_args()).env_clear();
        command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env("PICKET_PLUGINS", home.path().join("plugins")).uid(user).gid(user);
        fate(&mut command, &data(&format!("{}.log", name.replace('/', "-"))), LIMIT)
    };
    let mode = |path: PathBuf, mode| {
        fs::set_permissions(&path, Permissions::from_mode(mode))
            .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    };
    let restored = |name: &str| {
        golden.restore(&data(name));
        fs::write(data(name).join("lock"), "1\n").expect("it is ours");
        give(&data(name), USER);
    };

    fs::create_dir(data("root's")).expect("it is ours");
    says(start("root's", USER), 78, "chown -R 65532");
    fs::create_dir(data("user's")).expect("it is ours");
    give(&data("user's"), USER);
    says(start("user's", 0), 78, "belongs to user 65532");
    says(start("missing/data", USER), 77, "missing/data");
    restored("sealed");
    mode(data("sealed/identity/slot.a"), 0o000);
    mode(data("sealed/identity/slot.b"), 0o000);
    says(start("sealed", USER), 77, "identity");
    fs::create_dir(data("closed")).expect("it is ours");
    give(&data("closed"), USER);
    mode(data("closed"), 0o500);
    says(start("closed", USER), 77, "closed");
    // It has an identity: it goes on checking without the disk, or with what it has of it.
    restored("locked");
    for part in ["", "spool", "config", "identity"] {
        mode(data("locked").join(part), 0o500);
    }
    goes_on("locked", start("locked", USER));
    restored("mixed");
    give(&data("mixed/spool"), 0);
    goes_on("mixed", start("mixed", USER));
    Tally::of(run.count, "cases").and(0, "without a word that helps")
}

#[track_caller]
fn says(fate: Fate, status: i32, words: &str) {
    match fate {
        Fate::Ends(Some(found), output) if found == status && output.contains(words) => {}
        other => panic!("expected {status} and {words:?}: {other:?}"),
    }
}

#[track_caller]
fn goes_on(name: &str, fate: Fate) {
    match fate {
        Fate::Checks(..) => {}
        // In memory nothing is recorded; that it runs after ten seconds, and says why, is what can be asked of it.
        Fate::Nothing(output) if output.contains("configuration in use") && output.contains("WARN") => {}
        other => panic!("{name}: {other:?}"),
    }
}

/// The program and its plugins where another user may read them.
fn lent(home: &Path) -> PathBuf {
    let to = home.join("picket");
    fs::copy(process::picket(), &to).expect("there is room for the program");
    lend_plugins(home);
    to
}

fn lend_plugins(home: &Path) {
    let plugins = home.join("plugins");
    fs::create_dir(&plugins).expect("it is ours");
    let built = process::picket().with_file_name("../plugins/http.wasm");
    fs::copy(built, plugins.join("http.wasm")).expect("it was built");
}

fn give(path: &Path, user: u32) {
    chown(path, Some(user), Some(user)).expect("these rows run as root");
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("a directory").flatten() {
            give(&entry.path(), user);
        }
    }
}

/// Too little memory for an agent: the kernel kills it wherever it stands. With enough it goes on as after any kill.
fn memory(run: &Run) -> Tally {
    let group = Group::new();
    let stage = Stage::new("P3");
    stage.apply_all(&stage.pages("dc1", 10));
    let token = stage.create_agent("edge-1", "dc1");
    let start = |limit: Option<u64>| {
        let mut command = stage.agent("edge-1");
        command.env("PICKET_SETUP_TOKEN", &token);
        match limit {
            Some(bytes) => stage.start("edge-1", &mut group.under(&command, bytes)),
            None => stage.start("edge-1", &mut command),
        }
    };
    let (mut kills, mut rng) = (0, run.rng(0));
    let mut mib = 52;
    while kills < run.count {
        let mut agent = start(Some(mib * 1024 * 1024));
        let end = std::time::Instant::now() + Duration::from_secs(1);
        while agent.runs() && std::time::Instant::now() < end {
            pause(Duration::from_millis(5));
        }
        // A bound that kills within a second, somewhere: below it is killed at once, above it never.
        if agent.runs() {
            mib = mib.saturating_sub(rng.random_range(1..6)).max(12);
        } else {
            kills += 1;
            mib += rng.random_range(0..5);
        }
        agent.kill();
    }
    let agent = start(None);
    let before = recorded(&agent.output()).len();
    until("the agent records again", 9 * LIMIT, || {
        (recorded(&agent.output()).len() > before + 20).then_some(())
    });
    let (status, _) = agent.terminate();
    assert!(status.success(), "{status}");
    let whole = stage.whole("edge-1", 3 * LIMIT);
    Tally::of(kills, "kills").and(whole.recorded as u64, "recorded").and(0, "lost").note(group.kind)
}

/// A bound on memory: a control group, removed when it is dropped, or else the address space of the process.
struct Group {
    /// The group and the file with its bound.
    group: Option<(PathBuf, &'static str)>,
    kind: &'static str,
}

impl Group {
    fn new() -> Self {
        const NAME: &str = "picket-faults-";
        let name = format!("{NAME}{}", std::process::id());
        let kinds = [
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "by cgroup v1"),
            ("/sys/fs/cgroup", "memory.max", "by cgroup v2"),
        ];
        for (root, limit, kind) in kinds {
            // Groups of programs that were killed; one that is in use stays.
            for left in fs::read_dir(root).into_iter().flatten().flatten() {
                if left.file_name().to_string_lossy().starts_with(NAME) {
                    let _ = fs::remove_dir(left.path());
                }
            }
            let path = Path::new(root).join(&name);
            if fs::create_dir(&path).is_ok() {
                if path.join(limit).exists() {
                    return Self { group: Some((path, limit)), kind };
                }
                let _ = fs::remove_dir(&path);
            }
        }
        Self { group: None, kind: "by a bound on its address space, for want of a control group" }
    }

    fn under(&self, command: &std::process::Command, bytes: u64) -> std::process::Command {
        let under = match &self.group {
            Some((path, limit)) => {
                fs::write(path.join(limit), bytes.to_string()).expect("the bound can be set");
                let mut under = std::process::Command::new("sh");
                under.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]).arg(path.join("cgroup.procs"));
                under
            }
            None => {
                let mut under = std::process::Command::new("prlimit");
                under.arg(format!("--as={bytes}"));
                under
            }
        };
        wrap(under, command)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let Some((path, _)) = &self.group else { return };
        // Its last process may take a moment to go.
        for _ in 0..50 {
            if fs::remove_dir(path).is_ok() {
                return;
            }
            pause(Duration::from_millis(20));
        }
    }
}

/// As in the image.
const USER: u32 = 65532;
