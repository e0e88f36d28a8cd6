//! N1: the name of the control plane has no address for a while: there is no such name, the name server fails, or is silent, or tells an
//! address where nobody is. Checks go on, the last good address serves those who know one, and after the repair the agent is back.

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::{Duration, Instant};

use servers::{Answers, Authority, Inspector, NameServer};

use super::link::connected;
use super::process::{returns, stop};
use crate::namespace::inside;
use crate::proxy::Proxy;
use crate::row::row;
use crate::{Row, Run, Stage, Tally, pause, until, wrap};

pub(super) const ROWS: &[Row] =
    &[row("N1", "no address for the control plane's name", (2, 12), nameless).in_namespace()];

/// What the name server says, and whether it is an answer.
const FAULTS: [(&str, Answers); 4] = [
    ("NXDOMAIN", Answers::Code(3)),
    ("SERVFAIL", Answers::Code(2)),
    ("nothing", Answers::Nothing),
    ("an address where nobody is", Answers::With(Ipv4Addr::new(127, 0, 0, 9))),
];

fn nameless(run: &Run) -> Tally {
    assert!(inside(), "a name server of its own needs a network of its own: this row needs root");
    let stage = Stage::new("N1");
    stage.apply_all(&stage.pages("dc1", 3));
    let (proxy, authority) = (Proxy::start(stage.port()), Authority::new().expect("a key"));
    // Names are for TLS: in the clear an agent speaks to addresses of its own machine only.
    let inspector = Inspector::start(&authority, proxy.port()).expect("loopback has free ports");
    let trusted = stage.write("ca.pem", &authority.pem());
    let good = Answers::With(Ipv4Addr::LOCALHOST);
    let names = NameServer::start(good).expect("port 53 is free in a network of its own");
    let token = stage.create_agent(NAME, "dc1");
    let start = || {
        let mut command = stage.agent_at(NAME, &inspector.url());
        command.arg("--ca-file").arg(&trusted).env("PICKET_SETUP_TOKEN", &token);
        stage.start(NAME, &mut resolving(&stage, &command))
    };
    let is_connected = || connected(&stage, NAME).then_some(());
    let mut agent = start();
    stage.wait_for_result(NAME, PATIENCE, |_| true);
    let (mut back, mut by_memory) = (Duration::ZERO, 0);
    for n in 0..run.count {
        // Other kinds with every seed, where there are fewer times than kinds.
        let (what, fault) = FAULTS[(run.seed + n) as usize % FAULTS.len()];
        // Connected before: the connection is cut, and the name has no address when a new one is wanted.
        until(&format!("{what}: it is connected"), PATIENCE, is_connected);
        let remembered = || stage.log(NAME).matches("trying those that were good last").count();
        let before = remembered();
        names.set(fault);
        proxy.hang_up();
        if matches!(fault, Answers::With(_)) {
            until(&format!("{what}: it notices"), PATIENCE, || (!connected(&stage, NAME)).then_some(()));
        } else {
            // Three attempts, up to a minute apart: the agent did not forget the outage before.
            until(&format!("{what}: it remembers"), 3 * MINUTE, || (remembered() > before).then_some(()));
            returns(&stage, NAME);
            by_memory += 1;
        }
        names.set(good);
        until(&format!("{what}: repaired"), MINUTE, is_connected);
        // A new process knows no address that was good.
        stop(agent);
        names.set(fault);
        agent = start();
        let served = stage.target.served();
        until(&format!("{what}: checks go on"), PATIENCE, || {
            (stage.target.served() > served + 20).then_some(())
        });
        assert!(!connected(&stage, NAME), "{what}: nobody can know the address");
        pause(Duration::from_secs(5));
        names.set(good);
        let repaired = Instant::now();
        until(&format!("{what}: repaired, and the agent is back"), MINUTE, is_connected);
        back = back.max(repaired.elapsed());
        returns(&stage, NAME);
    }
    stop(agent);
    let whole = stage.whole(NAME, PATIENCE);
    Tally::of(run.count, "times without an address")
        .and(run.count.min(FAULTS.len() as u64), "kinds")
        .and(by_memory, "times by the last good address")
        .took("back after the repair at most", back)
        .and(whole.recorded as u64, "recorded")
        .and(0, "lost")
}

/// The same command where every name is asked of the name server on this machine.
fn resolving(stage: &Stage, command: &Command) -> Command {
    let files = [
        stage.write("resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"),
        stage.write("hosts", ""),
        stage.write("nsswitch.conf", "hosts: dns\n"),
    ];
    let mut under = Command::new("unshare");
    under.args(["--mount", "--propagation", "private", "sh", "-c", MOUNT]).args(files);
    wrap(under, command)
}

const MOUNT: &str = "for f in \"$0\" \"$1\" \"$2\"; do \
    to=/etc/${f##*/}; if [ -e \"$to\" ]; then mount --bind \"$f\" \"$to\" || exit 99; fi; done; \
    shift 2; exec \"$@\"";
const NAME: &str = "edge-1";
const MINUTE: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(90);
