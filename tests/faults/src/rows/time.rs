//! N14, N15: the wall clock is wrong or jumps, the machine sleeps for a minute or a month. Results keep their order and their ids, what is
//! live is live by the boot clock, what was found before a sleep is not, what was missed is counted and not run, and nobody is alerted.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use picket_e2e::oracle::recorded;
use rand::RngExt;
use rand::rngs::StdRng;
use rustix::process::Signal;
use serde_json::Value;
use servers::{Authority, Shape, TlsServer};

use crate::image::LIMIT;
use crate::preload::Orders;
use crate::proxy::{Link, Proxy};
use crate::row::row;
use crate::{Process, Row, Run, Stage, Tally, pause, until, wrap};

pub(super) const ROWS: &[Row] = &[
    row("N14", "a wall clock that is wrong at start and jumps", (7, 70), wall),
    row("N15", "sleeps of a minute to a month", (6, 60), sleep),
    row("N14 N15", "random jumps and sleeps", (40, 1_000), schedule),
];

/// Hours, decades, the beginning of time and its end in 2071: each at the start of an agent, and back, and again as a jump.
fn wall(run: &Run) -> Tally {
    let stage = Stage::new("N14");
    let names: Vec<String> = (0..LANES).map(|lane| format!("edge-{lane}")).collect();
    stage.apply_all(&names.iter().flat_map(|name| stage.pages(name, 2)).collect::<Vec<_>>());
    let counts = run.side_by_side(LANES, |lane, share| {
        let bent = Bent::new(&stage, &names[usize::try_from(lane).expect("a handful")]);
        let offsets = offsets();
        let mut warned = 0;
        let mut agent = bent.start();
        bent.lives(&agent);
        for time in 0..share {
            let offset = offsets[usize::try_from(lane + LANES * time).expect("hundreds") % offsets.len()];
            agent.kill();
            bent.orders.wall(offset);
            agent = bent.start();
            bent.lives(&agent);
            assert!(bent.warned(true), "nobody warns of a clock that is {offset} ms ahead");
            warned += 1;
            bent.orders.wall(0);
            bent.lives(&agent);
            assert!(!bent.warned(false), "the warning stays although the clock is right");
            bent.orders.wall(offset);
            bent.lives(&agent);
        }
        bent.orders.wall(0);
        (bent.ends(agent).0, warned)
    });
    young_certificate(&stage);
    Tally::of(run.count, "clocks, at start and as a jump")
        .and(counts.iter().map(|(_, warned)| warned).sum(), "warnings about the clock")
        .and(counts.iter().map(|(kept, _)| kept).sum(), "recorded")
        .and(0, "lost, twice or out of order")
        .and(alerts(&stage), "alerts")
}

/// In 1970 every certificate is too young: that is said of the clock, and of no forger.
fn young_certificate(stage: &Stage) {
    let authority = Authority::new().expect("certificates can be made");
    let server = TlsServer::start(&authority, Shape::Valid).expect("loopback has free ports");
    let orders = Orders::new(stage.dir(), "young");
    orders.wall(offsets()[4]);
    let mut command = stage.agent_at("young", &format!("https://localhost:{}", server.port()));
    command.arg("--ca-file").arg(stage.write("ca.pem", &authority.pem()));
    command.env("PICKET_SETUP_TOKEN", "any");
    orders.give(&mut command, &stage.path("young"));
    let agent = stage.start("young", &mut command);
    until("the agent suspects its clock", LIMIT, || {
        agent.output().contains("clock: this machine's clock says 1970-").then_some(())
    });
}

/// Cut off, asleep, awake and connected again: what was found before the sleep is not live, and what was due in it is counted.
fn sleep(run: &Run) -> Tally {
    const MINUTE: u64 = 60;
    const SLEEPS: [u64; 6] = [MINUTE, 10 * MINUTE, 60 * MINUTE, 24 * 60 * MINUTE, 30 * 24 * 60 * MINUTE, 0];
    let stage = Stage::new("N15");
    let names: Vec<String> = (0..LANES).map(|lane| format!("edge-{lane}")).collect();
    stage.apply_all(&names.iter().flat_map(|name| stage.pages(name, 2)).collect::<Vec<_>>());
    let counts = run.side_by_side(LANES, |lane, share| {
        let bent = Bent::new(&stage, &names[usize::try_from(lane).expect("a handful")]);
        let mut agent = bent.start();
        bent.lives(&agent);
        let mut slept = Duration::ZERO;
        let (mut before, mut lane_missed) = (Vec::new(), 0);
        for time in 0..share {
            let seconds = SLEEPS[usize::try_from(lane + LANES * time).expect("hundreds") % SLEEPS.len()];
            bent.proxy.link(Link::Refused);
            bent.records(&agent, 4);
            agent.signal(Signal::STOP);
            before.extend(recorded(&agent.output()).last().copied());
            let connections = connections(&agent);
            if seconds == 0 {
                // Another month, in a time namespace: the whole process sees it, from its start on.
                agent.kill();
                bent.proxy.link(Link::Up);
                agent = bent.start_after(slept + Duration::from_secs(30 * 24 * 3_600));
                bent.lives(&agent);
                kill_started(agent, &stage.path(bent.name));
                agent = bent.start();
                bent.lives(&agent);
                continue;
            }
            slept += Duration::from_secs(seconds);
            bent.orders.slept(slept);
            let served = bent.served();
            bent.proxy.link(Link::Up);
            let woken = Instant::now();
            agent.signal(Signal::CONT);
            bent.lives(&agent);
            let (due, runs) = (2 * (woken.elapsed().as_secs() + 3), bent.served() - served);
            assert!(runs <= due, "{runs} checks after a sleep of {seconds} s where {due} were due at most");
            let again = self::connections(&agent) - connections;
            assert!(again <= 1, "connected {again} times after a sleep");
            lane_missed += 2 * seconds;
        }
        let (kept, stored) = bent.ends(agent);
        for (epoch, seq) in before {
            let early = stored.iter().filter(|r| at(r).0 == epoch && at(r).1 <= seq && at(r).1 + 3 > seq);
            let live: Vec<_> = early.filter(|r| r["delivery"] == "live").collect();
            assert!(live.is_empty(), "found before the sleep and yet live: {live:#?}");
        }
        let missed: u64 = stored.iter().filter_map(|result| result["missed"].as_u64()).sum();
        assert!(missed + 30 >= lane_missed, "{missed} are counted as missed, and {lane_missed} were");
        (kept, missed)
    });
    Tally::of(run.count, "sleeps")
        .and(counts.iter().map(|(kept, _)| kept).sum(), "recorded")
        .and(0, "lost or twice")
        .and(counts.iter().map(|(_, missed)| missed).sum(), "missed and counted")
        .and(alerts(&stage), "alerts")
}

/// Kills what started the agent, and waits until the agent is gone with it: its directory can be locked then.
fn kill_started(wrapper: Process, data: &Path) {
    wrapper.kill();
    until("the agent has ended with what started it", Duration::from_secs(20), || {
        File::open(data.join("lock")).expect("it ran here").try_lock().ok()
    });
}

/// Anything in any order, a second or less apart.
fn schedule(run: &Run) -> Tally {
    let stage = Stage::new("N15r");
    let lanes = if run.soak { 6 } else { 2 };
    let names: Vec<String> = (0..lanes).map(|lane| format!("edge-{lane}")).collect();
    stage.apply_all(&names.iter().flat_map(|name| stage.pages(name, 2)).collect::<Vec<_>>());
    let counts = run.side_by_side(lanes, |lane, share| {
        let mut rng = run.rng(lane);
        let bent = Bent::new(&stage, &names[usize::try_from(lane).expect("a handful")]);
        let mut agent = bent.start();
        bent.lives(&agent);
        let (begun, served, mut slept) = (Instant::now(), bent.served(), Duration::ZERO);
        let mut sleeps = 0;
        for _ in 0..share {
            pause(Duration::from_millis(rng.random_range(50..900)));
            match rng.random_range(0..10) {
                0..4 => bent.orders.wall(anything(&mut rng)),
                4 => bent.orders.wall(0),
                5 => {
                    agent.kill();
                    agent = bent.start();
                    sleeps += 1;
                }
                6 => {
                    bent.proxy.link(Link::Refused);
                    pause(Duration::from_millis(rng.random_range(0..1_500)));
                    bent.proxy.link(Link::Up);
                }
                _ => {
                    agent.signal(Signal::STOP);
                    // From seconds to a month, each order of magnitude as often as the others.
                    slept += Duration::from_secs_f64(10_f64.powf(rng.random_range(0.0..6.5)));
                    bent.orders.slept(slept);
                    pause(Duration::from_millis(rng.random_range(0..300)));
                    agent.signal(Signal::CONT);
                    sleeps += 1;
                }
            }
        }
        bent.orders.wall(0);
        bent.lives(&agent);
        let (due, runs) = (2 * (begun.elapsed().as_secs() + 3 + 2 * sleeps), bent.served() - served);
        assert!(runs <= due, "{runs} checks where {due} were due at most");
        bent.ends(agent).0
    });
    Tally::of(run.count, "jumps, sleeps, cuts and kills")
        .and(counts.iter().sum(), "recorded")
        .and(0, "lost, twice or out of order")
        .and(alerts(&stage), "alerts")
}

/// An agent whose clocks are bent, behind a proxy.
struct Bent<'a> {
    stage: &'a Stage,
    name: &'a str,
    token: String,
    proxy: Proxy,
    orders: Orders,
}

impl<'a> Bent<'a> {
    fn new(stage: &'a Stage, name: &'a str) -> Self {
        let (token, proxy) = (stage.create_agent(name, name), Proxy::start(stage.port()));
        Self { stage, name, token, proxy, orders: Orders::new(stage.dir(), name) }
    }

    fn start(&self) -> Process {
        self.stage.start(self.name, &mut self.command())
    }

    /// On a machine that was booted so much longer ago.
    fn start_after(&self, time: Duration) -> Process {
        let mut later = std::process::Command::new("unshare");
        later.args(["--kill-child", "--time", "--boottime", &time.as_secs().to_string()]);
        let mut command = wrap(later, &self.command());
        // The library is for the agent, not for unshare; what the file says is in the namespace already.
        command.env_remove("LD_PRELOAD").env_remove("PICKET_DEBUG_SLEPT");
        self.stage.start(self.name, &mut command)
    }

    fn command(&self) -> std::process::Command {
        let mut command = self.stage.agent_at(self.name, &self.proxy.url());
        command.env("PICKET_SETUP_TOKEN", &self.token);
        self.orders.give(&mut command, &self.stage.path(self.name));
        command
    }

    /// Checks that the target served to it.
    fn served(&self) -> u64 {
        (0..2).map(|n| self.stage.target.served_of(&format!("{}-{n}", self.name))).sum()
    }

    /// Waits until so many more are recorded.
    fn records(&self, agent: &Process, more: usize) {
        let before = recorded(&agent.output()).len();
        until(&format!("{} records", self.name), 3 * LIMIT, || {
            (recorded(&agent.output()).len() >= before + more).then_some(())
        });
    }

    /// Waits until something that is recorded from now on arrives live.
    fn lives(&self, agent: &Process) {
        let last = recorded(&agent.output()).last().copied().unwrap_or_default();
        self.stage.wait_for_result(self.name, 9 * LIMIT, |r| r["delivery"] == "live" && at(r) > last);
    }

    /// Whether the control plane warns about its clock; waits for that as long as it is expected.
    fn warned(&self, expected: bool) -> bool {
        let clock = |warning: &Value| warning["kind"] == "clock";
        let warned = || {
            let view = self.stage.agent_view(self.name);
            view["warnings"].as_array().is_some_and(|warnings| warnings.iter().any(clock))
        };
        let end = Instant::now() + LIMIT;
        while warned() != expected && Instant::now() < end {
            pause(Duration::from_millis(100));
        }
        warned()
    }

    /// Stops it and judges it; gives how much it recorded, and what is stored.
    fn ends(&self, agent: Process) -> (u64, Vec<Value>) {
        let (status, _) = agent.terminate();
        assert!(status.success(), "{}: {status}", self.name);
        let whole = self.stage.whole(self.name, 3 * LIMIT);
        let stored = self.stage.stored(self.name);
        let down: Vec<_> = stored.iter().filter(|r| r["state"] != "up").collect();
        assert!(down.is_empty(), "the target was up all the time: {down:#?}");
        // By the control plane's clock, and not by the agent's.
        let order =
            stored.windows(2).all(|two| two[0]["received_at"].as_str() <= two[1]["received_at"].as_str());
        assert!(order, "{}: received at times that do not grow", self.name);
        (whole.recorded as u64, stored)
    }
}

/// What a clock may be ahead, in milliseconds.
fn offsets() -> [i64; 7] {
    const HOUR: i64 = 3_600_000;
    const YEAR: i64 = 365 * 24 * HOUR;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is not 1970");
    let now = i64::try_from(now.as_millis()).expect("it is not the end of time");
    let (epoch, end) = (60_000 - now, 101 * YEAR + 25 * 24 * HOUR - now);
    [HOUR, -HOUR, 10 * YEAR, -10 * YEAR, epoch, end, 5 * 60_000 + 30_000]
}

/// Minutes to decades, ahead or behind.
fn anything(rng: &mut StdRng) -> i64 {
    let size = 10_f64.powf(rng.random_range(4.0..11.5)) as i64;
    if rng.random_bool(0.5) { size } else { -size }
}

fn at(result: &Value) -> (u64, u64) {
    (result["epoch"].as_u64().unwrap_or(0), result["seq"].as_u64().unwrap_or(0))
}

fn connections(agent: &Process) -> usize {
    agent.output().matches("connected to the control plane").count()
}

/// Alerts about monitors: there must be none.
fn alerts(stage: &Stage) -> u64 {
    let listed = stage.get("/v1/alerts?limit=1000");
    let about_a_target = |alert: &&Value| ["down", "degraded"].iter().any(|event| alert["event"] == *event);
    let wrong: Vec<_> = listed.as_array().expect("a list").iter().filter(about_a_target).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    wrong.len() as u64
}

const LANES: u64 = 2;
