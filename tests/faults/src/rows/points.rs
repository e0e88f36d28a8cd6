//! T2, T5: the process is killed at every named point of the tree, alone and in pairs, while an agent lives through what leads there:
//! it enrols, rotates, recovers from a backup, finds its database damaged, its spool restored, its disk budget spent,
//! and a target going down.
//!
//! The points are those that the source names; one that no life comes by fails the row.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use picket_e2e::hook::Hook;
use serde_json::json;

use super::drain::add;
use super::process::{returns, stop};
use crate::oracle::Whole;
use crate::row::row;
use crate::stage::{copy, events};
use crate::{Process, Row, Run, Stage, Tally, pause};

pub(super) const ROWS: &[Row] = &[
    row("T2 T5", "kill at every named point", (1, 1), each_point),
    row("T2 T5", "kill at every pair of points", (0, 1), each_pair),
    row("P8", "panic at every named point", (1, 1), each_panic),
];

/// What happens at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The process is gone at once, as after `kill -9`.
    Killed,
    /// Whatever comes by panics, once: the part is started again, or the process ends and is.
    Panic,
}

impl End {
    /// In the words of `FAILPOINTS`.
    fn order(self) -> &'static str {
        match self {
            Self::Killed => "return",
            Self::Panic => "1*panic",
        }
    }

    /// What the log says then.
    fn told(self, point: &str) -> String {
        match self {
            Self::Killed => format!("killed at {point}\n"),
            Self::Panic => format!("failpoint {point} panic"),
        }
    }
}

/// What an agent lives through, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Act {
    Enrol,
    Alert,
    Rotate,
    Recover,
    Quarantine,
    Renumber,
    Evict,
}

/// The acts that lead to a point.
fn acts(point: &str) -> BTreeSet<Act> {
    let more: &[Act] = match point {
        "identity.pending" | "identity.rotated" | "identity.activated" => &[Act::Rotate],
        "control.rotate.before" | "control.rotate.after" => &[Act::Rotate],
        "identity.recovering" | "control.recover.before" | "control.recover.after" => {
            &[Act::Rotate, Act::Recover]
        }
        "spool.quarantine.begin" | "spool.quarantine.renamed" => &[Act::Quarantine],
        "control.alert.delivered" => &[Act::Alert],
        "spool.renumber" => &[Act::Renumber],
        "spool.evict" => &[Act::Evict],
        _ => &[],
    };
    more.iter().copied().chain([Act::Enrol]).collect()
}

/// Each once.
fn each_point(run: &Run) -> Tally {
    let points = points();
    assert!(points.len() > 20, "{points:?}");
    let all: Vec<Vec<&str>> = points.iter().map(|point| vec![point.as_str()]).collect();
    let recorded = lives(run, &all, End::Killed);
    Tally::of(all.len() as u64, "points")
        .and(all.len() as u64, "hit")
        .and(recorded, "recorded")
        .and(0, "lost")
        .and(0, "lock-outs")
}

/// Every two of them, in whichever order the life comes by them.
fn each_pair(run: &Run) -> Tally {
    let points: Vec<_> = points().into_iter().collect();
    let mut all = Vec::new();
    for (n, first) in points.iter().enumerate() {
        all.extend(points[n + 1..].iter().map(|second| vec![first.as_str(), second.as_str()]));
    }
    let recorded = lives(run, &all, End::Killed);
    Tally::of(all.len() as u64, "pairs of points")
        .and(2 * all.len() as u64, "hit")
        .and(recorded, "recorded")
        .and(0, "lost")
        .and(0, "lock-outs")
}

/// Each once: a fault of ours is said and survived, wherever it is.
fn each_panic(run: &Run) -> Tally {
    let points = points();
    let all: Vec<Vec<&str>> = points.iter().map(|point| vec![point.as_str()]).collect();
    let recorded = lives(run, &all, End::Panic);
    Tally::of(all.len() as u64, "points")
        .and(all.len() as u64, "panics")
        .and(recorded, "recorded")
        .and(0, "lost")
        .and(0, "lock-outs")
}

/// A life for each list of points, some side by side. Gives what was recorded in all of them.
fn lives(run: &Run, all: &[Vec<&str>], end: End) -> u64 {
    let lanes = 3;
    let run = Run { count: all.len() as u64, ..*run };
    let recorded = run.side_by_side(lanes, |lane, _| {
        let mine = all.iter().skip(lane as usize).step_by(lanes as usize);
        mine.map(|points| Life::new(points, end).live()).sum::<u64>()
    });
    recorded.iter().sum()
}

/// One agent and its control plane, which die at the points that are armed.
struct Life {
    stage: Stage,
    end: End,
    /// Points that nobody came by yet.
    armed: BTreeSet<String>,
    acts: BTreeSet<Act>,
    setup_token: String,
    agent: Option<Process>,
    /// Receives the alerts.
    hook: Hook,
}

impl Life {
    fn new(points: &[&str], end: End) -> Self {
        let mut stage = Stage::new("T5");
        stage.apply_all(&stage.pages("dc1", 4));
        let setup_token = stage.create_agent("edge-1", "dc1");
        let armed: BTreeSet<String> = points.iter().map(|p| (*p).to_owned()).collect();
        let acts = points.iter().flat_map(|point| acts(point)).collect();
        stage.kill_control();
        stage.give("PICKET_SECRET_OPS", SECRET);
        let hook = Hook::start(SECRET);
        let mut life = Self { stage, end, armed, acts, setup_token, agent: None, hook };
        life.start_control();
        life
    }

    /// All acts; then it must be whole and well.
    fn live(mut self) -> u64 {
        for act in self.acts.clone() {
            self.play(act);
        }
        assert!(self.armed.is_empty(), "{:?} was never come by in {:?}", self.armed, self.acts);
        let agent = self.agent.take().unwrap_or_else(|| self.start_agent(None));
        returns(&self.stage, "edge-1");
        stop(agent);
        self.settled().recorded as u64
    }

    /// Nothing is lost, but for what a life is about: a damaged database, a spent budget.
    fn settled(&self) -> Whole {
        let limit = Duration::from_secs(60);
        match self.acts.contains(&Act::Quarantine) || self.acts.contains(&Act::Evict) {
            true => self.stage.accounted("edge-1", limit),
            false => self.stage.whole("edge-1", limit),
        }
    }

    fn play(&mut self, act: Act) {
        let stage = &self.stage;
        let data = stage.path("edge-1");
        match act {
            Act::Enrol => self.until(act, |stage| stored(stage) >= 3),
            Act::Alert => {
                let secret = json!({"$secret": "ops"});
                let channel =
                    json!({"name": "ops", "kind": "webhook", "url": self.hook.url(), "secret": secret});
                let body = json!({ "monitors": [], "channels": [channel] });
                let answer = self.stage.call("POST", "/v1/monitors/apply", &body).expect("it answers");
                assert_eq!(answer.status(), 200, "{}", String::from_utf8_lossy(&answer.body));
                self.stage.target.set_down(&["dc1-0"]);
                self.until(act, |stage| {
                    let events = stage.try_get("/v1/alerts").unwrap_or_default();
                    events[0]["event"] == "down" && events[0]["deliveries"][0]["state"] == "delivered"
                });
                self.stage.target.set_down(&[]);
            }
            Act::Rotate => {
                self.rest();
                copy(&data.join("identity"), &self.stage.path("backup"));
                self.until(act, |stage| events(stage, "edge-1", "rotated") >= 3);
            }
            Act::Recover => {
                self.rest();
                let identity = data.join("identity");
                std::fs::remove_dir_all(&identity).expect("it is ours");
                copy(&self.stage.path("backup"), &identity);
                self.until(act, |stage| events(stage, "edge-1", "recovered") >= 1);
            }
            Act::Quarantine => {
                self.rest();
                let damaged = files(&data.join("spool/queue"), "jnl").into_iter().filter(|path| damage(path));
                assert!(damaged.count() > 0, "no journal holds a result");
                let before = stored(&self.stage);
                self.until(act, move |stage| stored(stage) > before + 3);
            }
            Act::Renumber => {
                self.rest();
                let backup = self.stage.path("spool-backup");
                copy(&data.join("spool"), &backup);
                let before = stored(&self.stage);
                self.until(Act::Enrol, move |stage| stored(stage) > before + 5);
                self.rest();
                std::fs::remove_dir_all(data.join("spool")).expect("it is ours");
                copy(&backup, &data.join("spool"));
                let before = stored(&self.stage);
                self.until(act, move |stage| stored(stage) > before + 5);
            }
            Act::Evict => {
                self.rest();
                add(&self.stage, "edge-1", "dc1", 10_100, "up");
                let before = stored(&self.stage);
                self.until(act, move |stage| stored(stage) > before + 9_000);
            }
        }
    }

    /// Stops the agent in order, with nothing left to send.
    fn rest(&mut self) {
        for _ in 0..20 {
            let agent = self.agent.take().unwrap_or_else(|| self.start_agent(None));
            self.settled();
            let (_, took) = agent.terminate();
            assert!(took < Duration::from_secs(5), "SIGTERM took {took:?}");
            // What was recorded in the last moment may wait for the next start.
            if self.stage.judge("edge-1").wrong.is_empty() {
                return;
            }
        }
        panic!("the agent never stops with nothing left to send");
    }

    /// Lets the agent live until `done`; whoever dies at a point is started again.
    fn until(&mut self, act: Act, done: impl Fn(&Stage) -> bool) {
        let end = Instant::now() + Duration::from_secs(90);
        loop {
            if !self.agent.as_mut().is_some_and(Process::runs) {
                if self.agent.take().is_some() {
                    self.buried();
                }
                self.agent = Some(self.start_agent(Some(act)));
            }
            if !self.stage.control_runs() {
                self.buried();
                self.start_control();
            }
            if self.end == End::Panic {
                self.look();
            }
            if done(&self.stage) && !self.expected(act) {
                return;
            }
            assert!(Instant::now() < end, "{act:?} does not end; armed is still {:?}", self.armed);
            pause(Duration::from_millis(50));
        }
    }

    /// Whether a point of this act was not come by yet.
    fn expected(&self, act: Act) -> bool {
        self.armed.iter().any(|point| acts(point).into_iter().next_back() == Some(act))
    }

    /// Somebody died: at a point that was armed, and at no other.
    fn buried(&mut self) {
        if self.end == End::Killed {
            let before = self.armed.len();
            self.look();
            let armed = &self.armed;
            assert!(armed.len() < before, "somebody died who was not killed; armed is {armed:?}");
        }
    }

    /// Crosses out the points that the logs tell of.
    fn look(&mut self) {
        for log in ["edge-1.log", "control.log"] {
            let text = std::fs::read(self.stage.path(log)).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).into_owned();
            self.armed.retain(|point| !text.contains(&self.end.told(point)));
        }
    }

    fn failpoints(&self) -> String {
        let order = |point: &String| format!("{point}={}", self.end.order());
        self.armed.iter().map(order).collect::<Vec<_>>().join(";")
    }

    fn start_control(&mut self) {
        let armed = self.failpoints();
        self.stage.give("FAILPOINTS", &armed);
        self.stage.start_control();
    }

    fn start_agent(&self, act: Option<Act>) -> Process {
        let mut command = self.stage.agent("edge-1");
        command.env("PICKET_SETUP_TOKEN", &self.setup_token);
        match act {
            Some(Act::Rotate) => drop(command.env("PICKET_ROTATE_EVERY", "1s")),
            Some(Act::Evict) => {
                command.args(["--spool-records", "10000"]);
                if self.expected(Act::Evict) {
                    // What was acknowledged makes room without a word: nothing may be acknowledged yet.
                    command.env("PICKET_CONTROL", "http://127.0.0.1:9");
                }
            }
            _ => {}
        }
        if act.is_some() {
            command.env("FAILPOINTS", self.failpoints());
        }
        self.stage.start("edge-1", &mut command)
    }
}

fn stored(stage: &Stage) -> usize {
    let page = stage.try_get("/v1/results?agent=edge-1&limit=10000").unwrap_or_default();
    page["results"].as_array().map_or(0, Vec::len)
}

/// Flips a bit of a result in a journal, if it holds one. Damage between two records fjall takes for the end of the journal, and opens it.
fn damage(journal: &Path) -> bool {
    let mut bytes = std::fs::read(journal).expect("it is ours");
    let result = br#""result":"#;
    let Some(at) = bytes.windows(result.len()).position(|window| window == result) else { return false };
    bytes[at] ^= 0x10;
    std::fs::write(journal, bytes).expect("it is ours");
    true
}

/// The files below a directory with that extension.
fn files(directory: &Path, extension: &str) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten().map(|e| e.path());
    entries.filter(|path| path.extension().is_some_and(|e| e == extension)).collect()
}

/// The names that the source gives to `failpoint::hit`.
fn points() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../../host")];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            for rest in text.split("failpoint::hit(\"").skip(1) {
                if let Some((name, _)) = rest.split_once('"') {
                    found.insert(name.to_owned());
                }
            }
        }
    }
    found
}

const SECRET: &str = "correct horse battery staple";
