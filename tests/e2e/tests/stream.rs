//! The stream between an agent and its control plane, what takes its place where it is blocked, and the proxies that both go through.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

use std::time::{Duration, Instant};

use picket_e2e::web::Web;
use picket_e2e::{Field, Process, until};
use serde_json::Value;
use servers::{Authority, Link, Middlebox, PROXY_PASSWORD, PROXY_USER, Relay, Shape, Tinyproxy, Upgrade};

/// A monitors file: name, interval, location, URL each.
fn monitors(of: &[[&str; 4]]) -> String {
    let one = |[name, interval, location, url]: &[&str; 4]| {
        format!(
            "  - {{ name: {name}, check: http, interval: {interval}, timeout: 900ms, locations: [{location}], config: {{ url: \"{url}\" }} }}\n"
        )
    };
    format!("monitors:\n{}", of.iter().map(one).collect::<String>())
}

/// Starts an agent that reaches the control plane at that port of 127.0.0.1.
fn agent_by(field: &Field, name: &str, location: &str, port: u16) -> Process {
    let token = field.create_agent(name, location);
    let mut command = field.agent(name);
    command.env("PICKET_CONTROL", format!("http://127.0.0.1:{port}")).env("PICKET_SETUP_TOKEN", token);
    Process::start(&mut command, field.path(&format!("{name}.log")))
}

fn state(field: &Field, agent: &str) -> Value {
    let text = std::fs::read(field.path(agent).join("state.json")).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// Waits until the agent says that it speaks that way.
#[track_caller]
fn speaks(field: &Field, agent: &str, transport: &str, within: u64) {
    until(&format!("{agent} speaks by {transport}"), Duration::from_secs(within), || {
        (state(field, agent)["transport"] == transport).then_some(())
    });
}

#[test]
fn a_change_reaches_the_agent_within_a_second_by_the_stream_and_by_the_long_poll() {
    let web = Web::start("<h1>Welcome</h1>");
    let field = Field::new();
    let middlebox = Middlebox::start(field.port(), Upgrade::Answered(403)).unwrap();
    let by_stream = field.start_agent("edge-1", "dc1");
    let by_poll = agent_by(&field, "edge-2", "dc2", middlebox.port());
    speaks(&field, "edge-1", "stream", 60);
    speaks(&field, "edge-2", "requests", 60);
    until("a stream was tried", Duration::from_secs(60), || (middlebox.streams() > 0).then_some(()));
    let agents = field.picket(["agents", "list"]).exits(0).stdout;
    assert!(agents.contains("stream") && agents.contains("requests"), "{agents}");
    let health = field.picket(["health", "--data", field.path("edge-1").to_str().unwrap()]).exits(0).stdout;
    assert!(health.contains("connected by stream"), "{health}");

    for round in 0..3 {
        for (agent, location) in [(&by_stream, "dc1"), (&by_poll, "dc2")] {
            let count = || agent.output().matches("configuration in use").count();
            let before = count();
            field.apply(&monitors(&[[&format!("page-{round}-{location}"), "60s", location, &web.url()]]));
            let applied = Instant::now();
            until("the change is in use", Duration::from_secs(60), || (count() > before).then_some(()));
            let took = applied.elapsed();
            assert!(took < Duration::from_secs(1), "{location}: {took:?}");
        }
    }
}

#[test]
fn whatever_blocks_the_stream_the_agent_reports_and_hears() {
    let web = Web::start("<h1>Welcome</h1>");
    let field = Field::new();
    let cut = Upgrade::CutAfter(Duration::from_secs(2));
    let manners = [Upgrade::Answered(200), Upgrade::Answered(426), Upgrade::Removed, Upgrade::Swallowed, cut];
    let names: Vec<_> = (0..manners.len()).map(|n| format!("blocked-{n}")).collect();
    let boxes = manners.map(|manner| Middlebox::start(field.port(), manner).unwrap());
    let start = |(name, middlebox): (&String, &Middlebox)| agent_by(&field, name, name, middlebox.port());
    let _agents: Vec<_> = names.iter().zip(&boxes).map(start).collect();
    let url = web.url();
    let wanted: Vec<_> = names.iter().map(|name| [&name[..], "1s", &name[..], &url[..]]).collect();
    field.apply(&monitors(&wanted));
    for name in &names {
        // Each compiles its plugins first.
        until(&format!("{name} reports"), Duration::from_secs(180), || {
            (state(&field, name)["connected"] == true).then_some(())
        });
    }
    for ((name, middlebox), manner) in names.iter().zip(&boxes).zip(manners) {
        field.result_of(name, "live and up", |r| r["delivery"] == "live" && r["state"] == "up");
        let ran = field.picket(["monitors", "run", name, "--timeout", "20s"]);
        assert!(ran.exits(0).stdout.starts_with("up: "), "{manner:?}");
        until("a stream is tried again", Duration::from_secs(60), || (middlebox.streams() > 1).then_some(()));
    }
}

#[test]
fn a_stream_that_dies_silently_or_loudly_is_noticed_within_thirty_seconds_and_comes_back() {
    let web = Web::start("<h1>Welcome</h1>");
    let mut field = Field::new();
    let relay = Relay::start(field.port()).unwrap();
    let _agent = agent_by(&field, "edge-1", "dc1", relay.port());
    field.apply(&monitors(&[["page", "1s", "dc1", &web.url()]]));
    speaks(&field, "edge-1", "stream", 60);
    field.result_of("page", "live", |r| r["delivery"] == "live");

    relay.set(Link::Frozen);
    let frozen = Instant::now();
    until("the agent notices", Duration::from_secs(30), || {
        (state(&field, "edge-1")["connected"] == false).then_some(())
    });
    until("the control plane ends the stream", Duration::from_secs(40), || {
        field.control().output().contains("a stream ended").then_some(())
    });
    assert!(frozen.elapsed() < Duration::from_secs(36), "{:?}", frozen.elapsed());
    relay.set(Link::Cut);
    relay.set(Link::Up);
    speaks(&field, "edge-1", "stream", 60);
    field.result_of("page", "of the outage", |r| r["delivery"] != "live");

    field.kill_control();
    until("the agent notices", Duration::from_secs(30), || {
        (state(&field, "edge-1")["transport"] != "stream").then_some(())
    });
    field.start_control();
    speaks(&field, "edge-1", "stream", 60);
}

#[test]
fn run_now_prints_what_the_agent_finds_and_says_why_where_it_does_not() {
    let web = Web::start("<h1>Welcome</h1>");
    let field = Field::new();
    let agent = field.start_agent("edge-1", "dc1");
    field
        .apply(&monitors(&[["page", "1h", "dc1", &web.url()], ["gone", "1h", "dc1", "http://127.0.0.1:9/"]]));
    field.result_of("page", "of the plan", |_| true);
    let before = web.served();
    let ran = field.picket(["monitors", "run", "page"]).exits(0);
    assert!(ran.stdout.starts_with("up: ") && ran.stdout.contains("ran at dc1 on edge-1"), "{}", ran.stdout);
    assert_eq!(web.served(), before + 1, "one run, one request");
    let down = field.picket(["monitors", "run", "gone", "--location", "dc1", "--json"]).exits(2).json();
    assert_eq!(down["results"][0]["code"], "tcp.refused");
    assert!(down["results"][0]["request"].is_string());
    for (args, words) in
        [(&["pge"][..], "did you mean page?"), (&["page", "--location", "dc9"], "does not run at location")]
    {
        let refused = field.picket([&["monitors", "run"], args].concat()).exits(3);
        assert!(refused.stderr.contains(words), "{}", refused.stderr);
    }
    drop(agent);
    until("the agent counts as away", Duration::from_secs(60), || {
        let away = field.picket(["monitors", "run", "page", "--timeout", "1s"]).exits(3).stdout;
        away.contains("agent edge-1 is not connected").then_some(())
    });
}

/// A control plane that speaks TLS with a certificate of `authority`, and the file that trusts it.
fn with_tls(authority: &Authority) -> (Field, String) {
    let mut field = Field::new();
    let identity = authority.issue(Shape::Valid).unwrap();
    let certificate = field.write("chain.pem", &identity.chain_pem);
    let key = field.write("key.pem", &identity.key_pem);
    let trusted = field.write("ca.pem", &authority.pem()).to_str().unwrap().to_owned();
    field.kill_control();
    field.use_tls(&trusted);
    let options = ["--tls-cert", certificate.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    field.start_control_with(&options);
    (field, trusted)
}

#[test]
fn stream_and_requests_go_through_a_proxy_that_wants_a_password() {
    let authority = Authority::new().unwrap();
    let (field, trusted) = with_tls(&authority);
    let proxy = Tinyproxy::start().unwrap();
    let web = Web::start("<h1>Welcome</h1>");
    field.apply(&monitors(&[["page", "1s", "dc1", &web.url()]]));
    let address = format!("http://127.0.0.1:{}", proxy.port());
    let token = field.create_agent("edge-1", "dc1");
    let start = |set: &dyn Fn(&mut std::process::Command)| {
        let mut command = field.agent("edge-1");
        command.env("PICKET_SETUP_TOKEN", &token).env("PICKET_CA_FILE", &trusted).env("RUST_LOG", "trace");
        for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"] {
            command.env_remove(name);
        }
        set(&mut command);
        Process::start(&mut command, field.path("edge-1.log"))
    };

    let agent = start(&|command| {
        command.env("PICKET_PROXY", &address);
    });
    let wants = format!("proxy: the proxy at 127.0.0.1:{} wants a user and a password", proxy.port());
    until("the proxy's wish is told", Duration::from_secs(60), || {
        let why = field.picket(["health", "--data", field.path("edge-1").to_str().unwrap()]).exits(1).stderr;
        why.contains(&wants).then_some(())
    });
    drop(agent);

    let agent = start(&|command| {
        command.env("PICKET_PROXY", &address);
        command.env("PICKET_PROXY_USER", PROXY_USER).env("PICKET_PROXY_PASSWORD", PROXY_PASSWORD);
    });
    speaks(&field, "edge-1", "stream", 60);
    field.result_of("page", "by the proxy", |r| r["delivery"] == "live");
    let opened = proxy.opened();
    assert!(opened.len() >= 2, "one way for requests, one for the stream:\n{}", proxy.log());
    drop(agent);

    // A control plane on this machine is direct unless the operator names a proxy, whatever the environment says.
    let before = proxy.opened().len();
    let agent = start(&|command| {
        let with = address.replace("http://", &format!("http://{PROXY_USER}:{PROXY_PASSWORD}@"));
        command.env("HTTPS_PROXY", with);
    });
    speaks(&field, "edge-1", "stream", 60);
    assert_eq!(proxy.opened().len(), before);
    drop(agent);
    let log = std::fs::read_to_string(field.path("edge-1.log")).unwrap();
    assert!(!log.contains(PROXY_PASSWORD), "the proxy's password is in the log");
    assert!(log.contains("the control plane is reached by a proxy"));
}
