//! A whole agent as people run it: the optimised binary, enrolled, with many monitors of all five checks, its spool and its uplink.
//! Memory is what the kernel says is resident; lateness is what its own results say, started less planned.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use picket_e2e::{Field, Process, pause, until};
use picket_faults::http;
use serde_json::{Value, json};
use servers::{Authority, Knot, Manner, Nginx, Postgres, TcpServer};
use wire::Timestamp;

use crate::cpu;
use crate::row::{Bound, Effort, Figure, Of, Target};
use crate::rows::target;

pub(crate) const TEN_THOUSAND: &[Target] = &[
    target(Of::Figure("resident"), Bound::AtMost(32.0)),
    target(Of::Figure("late, p99"), Bound::AtMost(250.0)),
    target(Of::Figure("missed"), Bound::AtMost(0.0)),
];
pub(crate) const HUNDRED_THOUSAND: &[Target] = &[
    target(Of::Figure("resident"), Bound::AtMost(64.0)),
    target(Of::Figure("late, p99"), Bound::AtMost(250.0)),
    target(Of::Figure("missed"), Bound::AtMost(0.0)),
];
pub(crate) const IDLE: &[Target] = &[target(Of::Figure("late, p99"), Bound::AtMost(5.0))];

/// Every monitor runs at least twice.
pub(crate) fn ten_thousand(_: &Effort) -> Result<Vec<Figure>> {
    with(10_000)
}

/// The same with ten times as many.
pub(crate) fn hundred_thousand(_: &Effort) -> Result<Vec<Figure>> {
    with(100_000)
}

fn with(monitors: usize) -> Result<Vec<Figure>> {
    let field = Field::named("bench");
    let world = World::start()?;
    apply(&field, &world.monitors(monitors))?;
    let agent = start(&field)?;
    let watched = watch(&agent, Duration::from_secs(150))?;
    let run = results(&field)?;
    if run.is_empty() {
        bail!("no result arrived:\n{}", agent.output());
    }
    let others = run.iter().filter(|r| r["state"] != "up").count();
    Ok(vec![
        Figure::once("resident", "MiB", watched.peak),
        Figure::once("resident at the end", "MiB", watched.last),
        Figure::once("processor", "%", watched.cpu_percent),
        Figure::once("late, p99", "ms", lateness(&run)?),
        Figure::once("missed", "runs", run.iter().filter_map(|r| r["missed"].as_u64()).sum::<u64>() as f64),
        Figure::once("results", "", run.len() as f64),
        Figure::once("not up", "results", others as f64),
    ])
}

/// 50 monitors every second, nothing else.
pub(crate) fn idle(effort: &Effort) -> Result<Vec<Figure>> {
    let field = Field::named("bench");
    let nginx = Nginx::start(&Authority::new()?)?;
    let page = |n: usize| {
        json!({
            "name": format!("page-{n}"), "check": "http", "interval": "1s", "timeout": "900ms", "locations": ["dc1"],
            "config": {"url": nginx.url("/"), "keyword": "Welcome"},
        })
    };
    apply(&field, &(0..50).map(page).collect::<Vec<_>>())?;
    let agent = start(&field)?;
    let watched = watch(&agent, Duration::from_secs((effort.seconds * effort.rounds).max(10).into()))?;
    let run = results(&field)?;
    Ok(vec![
        Figure::once("late, p99", "ms", lateness(&run)?),
        Figure::once("resident", "MiB", watched.peak),
        Figure::once("results", "", run.len() as f64),
    ])
}

/// Far longer than the control plane may take for 100,000 monitors: a row that ends here says nothing.
const APPLIED: Duration = Duration::from_secs(600);

/// What the monitors look at.
struct World {
    nginx: Nginx,
    tcp: TcpServer,
    knot: Knot,
    postgres: Postgres,
    authority: Authority,
}

impl World {
    fn start() -> Result<Self> {
        let authority = Authority::new()?;
        Ok(Self {
            nginx: Nginx::start(&authority)?,
            tcp: TcpServer::start(Manner::Echo)?,
            knot: Knot::start()?,
            postgres: Postgres::start(&authority)?,
            authority,
        })
    }

    /// Of a hundred 2 each of tcp, dns and tls; one of PostgreSQL for each thousand; the others are pages. However many monitors there
    /// are, 800 of them are pages that take four seconds to answer: with one run of each a minute about 54 are under way at any time,
    /// and leave places to the others. With more than 64 at once no schedule starts every run in time.
    fn monitors(&self, count: usize) -> Vec<Value> {
        (0..count).map(|n| self.monitor(n, n % (count / 100) < 8)).collect()
    }

    fn monitor(&self, n: usize, slow: bool) -> Value {
        let ca = self.authority.pem();
        let (check, config) = match n % 100 {
            _ if n.is_multiple_of(1_000) => (
                "postgres",
                json!({
                    "host": "127.0.0.1", "port": self.postgres.port(), "user": servers::POSTGRES_USER, "mode": "primary",
                    "password": {"$secret": "postgres"}, "sslmode": "disable", "min_standbys": 0,
                }),
            ),
            _ if slow => ("http", json!({"url": self.nginx.url("/slow")})),
            10 | 11 => ("tcp", json!({"host": "127.0.0.1", "port": self.tcp.port()})),
            12 | 13 => ("dns", json!({"query_name": "www.picket.test", "server": self.knot.server()})),
            14 | 15 => ("tls", json!({"host": "localhost", "port": self.nginx.tls_port(), "ca": ca})),
            _ => ("http", json!({"url": self.nginx.url("/"), "keyword": "Welcome"})),
        };
        json!({"name": format!("monitor-{n}"), "check": check, "interval": "60s", "locations": ["dc1"], "config": config})
    }
}

fn apply(field: &Field, monitors: &[Value]) -> Result<()> {
    let bearer = format!("Bearer {}", field.token());
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let body = json!({ "monitors": monitors }).to_string();
    let answer =
        http::ask_within(APPLIED, field.port(), "POST", "/v1/monitors/apply", &headers, body.as_bytes())?;
    if answer.status() != 200 {
        let said = String::from_utf8_lossy(&answer.body);
        bail!("the control plane refuses the monitors: {}", said.chars().take(500).collect::<String>());
    }
    Ok(())
}

fn start(field: &Field) -> Result<Process> {
    let token = field.create_agent("edge-1", "dc1");
    let mut command = field.agent("edge-1");
    command.env("PICKET_SETUP_TOKEN", token).env("RUST_LOG", "warn").args(["--allow", "::1"]);
    command.env("PICKET_SECRET_POSTGRES", servers::POSTGRES_PASSWORD);
    command.arg("--plugins").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/plugins"));
    let agent = Process::start(&mut command, field.path("edge-1.log"));
    until("the agent sends results", Duration::from_secs(120), || {
        page(field, "0", 1).ok()?["results"].as_array()?.first().map(|_| ())
    });
    Ok(agent)
}

/// What the process used meanwhile.
struct Watched {
    peak: f64,
    last: f64,
    cpu_percent: f64,
}

fn watch(agent: &Process, time: Duration) -> Result<Watched> {
    let (begun, cpu) = (Instant::now(), cpu::of(agent.pid())?);
    let (mut peak, mut last) = (0.0_f64, 0.0);
    while begun.elapsed() < time {
        pause(Duration::from_millis(500));
        last = cpu::resident(agent.pid())?;
        peak = peak.max(last);
    }
    let used = cpu::of(agent.pid())? - cpu;
    Ok(Watched { peak, last, cpu_percent: 100.0 * used.as_secs_f64() / begun.elapsed().as_secs_f64() })
}

fn page(field: &Field, after: &str, limit: usize) -> Result<Value> {
    let bearer = format!("Bearer {}", field.token());
    let path = format!("/v1/results?agent=edge-1&limit={limit}&after={after}");
    let answer = http::ask(field.port(), "GET", &path, &[("authorization", bearer.as_str())], b"")?;
    serde_json::from_slice(&answer.body).context("results are JSON")
}

fn results(field: &Field) -> Result<Vec<Value>> {
    let (mut all, mut after) = (Vec::new(), "0".to_owned());
    loop {
        let mut page = page(field, &after, 10_000)?;
        let Value::Array(some) = page["results"].take() else { bail!("results are a list") };
        if some.is_empty() {
            return Ok(all);
        }
        all.extend(some);
        page["cursor"].as_str().unwrap_or_default().clone_into(&mut after);
    }
}

/// Milliseconds between the plan and the start, of which 99 in a hundred are shorter.
fn lateness(results: &[Value]) -> Result<f64> {
    let time = |result: &Value, key: &str| {
        result[key].as_str().and_then(|text| text.parse::<Timestamp>().ok()).map(Timestamp::as_millis)
    };
    let mut late: Vec<_> = results
        .iter()
        .filter_map(|result| Some(time(result, "started_at")? - time(result, "planned_at")?))
        .collect();
    late.sort_unstable();
    let last = late.len().checked_sub(1).context("no result arrived")?;
    Ok(late[last * 99 / 100] as f64)
}
