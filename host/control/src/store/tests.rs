use std::collections::BTreeMap;

use uuid::Uuid;
use wire::event::AgentEventKind;
use wire::results::Phases;

use super::*;

/// An *up* result of monitor 1 by this agent, received when it started.
pub(crate) fn row(agent: u128, epoch: u64, seq: u64, at: Timestamp) -> Row {
    let id = agent << 96 | u128::from(epoch) << 64 | u128::from(seq);
    Row {
        agent: AgentId(Uuid::from_u128(agent)),
        agent_name: format!("edge-{agent}"),
        location: "dc1".into(),
        position: Position { epoch, seq },
        received_at: at,
        delivery: Delivery::Live,
        age_ms: None,
        result: RunResult {
            id: ResultId(Uuid::from_u128(id)),
            monitor_id: MonitorId(Uuid::from_u128(1)),
            planned_at: at,
            started_at: at,
            duration_ms: 5,
            attempt: 1,
            request: None,
            missed: 0,
            state: State::Up,
            code: "ok".into(),
            summary: "fine".into(),
            phases: Phases { connect: Some(0.001), ..Phases::default() },
            remote_address: None,
            metrics: vec![],
            findings: vec![],
            attributes: BTreeMap::new(),
            evidence: None,
            plugin_digest: None,
            config_digest: String::new(),
            agent_version: "0.1.0".into(),
        },
        found: None,
    }
}

fn at(s: i64) -> Timestamp {
    Timestamp::from_millis(s * 1000)
}

/// Rows of agent 1, each started and received at its seq's second.
fn rows(seqs: std::ops::RangeInclusive<u64>) -> Vec<Row> {
    seqs.map(|seq| row(1, 1, seq, at(i64::try_from(seq).unwrap()))).collect()
}

#[test]
fn a_result_stands_where_its_agents_clock_says_unless_its_age_contradicts_that() {
    // Received at second 100,000, after a run of 5 ms.
    let check = |started_s, age_s: Option<u64>, expected_ms| {
        let mut row = Row { received_at: at(100_000), ..row(1, 1, 1, at(started_s)) };
        row.age_ms = age_s.map(|s| s.saturating_mul(1000));
        assert_eq!(row.at().as_millis(), expected_ms, "started at {started_s}, {age_s:?} old");
    };
    check(99_990, Some(10), 99_990_000);
    check(99_800, Some(10), 99_800_000);
    check(100_050, Some(10), 100_000_000);
    check(60_000, Some(10), 99_989_995);
    check(10_000, Some(40_000), 59_999_995);
    check(900_000, Some(40_000), 59_999_995);
    check(60_000, None, 60_000_000);
    check(900_000, None, 100_000_000);
    check(60_000, Some(u64::MAX), Timestamp::from_millis(i64::MIN).as_millis());
}

fn ingest(store: &Embedded, rows: &[Row], gaps: &[KeptGap]) -> u64 {
    let latest = [rows.last().unwrap()];
    store.ingest(&Ingested { gaps, latest: &latest, ..batch(rows) }).unwrap()
}

/// The batch of [`ingest`] without gaps.
fn batch(rows: &[Row]) -> Ingested<'_> {
    let last = rows.last().unwrap();
    Ingested {
        agent: last.agent,
        cursor: last.position,
        received_at: last.received_at,
        rows,
        gaps: &[],
        ahead: &[],
        passed: &[],
        moved: &[],
        latest: &[],
        alerts: &[],
    }
}

fn gap(received: Timestamp) -> KeptGap {
    KeptGap {
        agent: AgentId(Uuid::from_u128(1)),
        agent_name: "edge-1".into(),
        received_at: received,
        gap: Gap {
            epoch: 1,
            from: 1,
            to: 2,
            reason: "evicted".into(),
            first_at: None,
            last_at: None,
            down: None,
        },
    }
}

fn seqs(rows: &[Row]) -> Vec<u64> {
    rows.iter().map(|r| r.position.seq).collect()
}

#[test]
fn what_was_stored_is_there_after_a_reopen() {
    let dir = tempfile::tempdir().unwrap();
    let stored = rows(1..=3);
    {
        let store = Embedded::open(dir.path()).unwrap();
        assert_eq!(ingest(&store, &stored, &[gap(at(3))]), 3);
        store.commit(&[Write::Version(7)]).unwrap();
    }
    let store = Embedded::open(dir.path()).unwrap();
    let kept = store.load().unwrap();
    assert_eq!(kept.version, 7);
    assert_eq!(kept.cursors, [(stored[0].agent, Position { epoch: 1, seq: 3 }, at(3))]);
    assert_eq!(kept.latest, [stored[2].clone()]);
    assert_eq!(store.arrived(), 3);
    assert_eq!(store.arrivals(0, &Filter::default(), 10).unwrap(), (stored, 3));
    assert_eq!(store.gaps(None, 10).unwrap(), [gap(at(3))]);
    assert_eq!(ingest(&store, &rows(4..=4), &[]), 4, "arrivals go on");
}

#[test]
fn what_came_ahead_is_remembered_until_it_is_passed_and_may_move() {
    let dir = tempfile::tempdir().unwrap();
    let stored = rows(7..=8);
    let agent = stored[0].agent;
    let [first, second] = [0, 1].map(|n: usize| (stored[n].position, stored[n].result.id));
    let there = Position { epoch: 2, seq: 1 };
    {
        let store = Embedded::open(dir.path()).unwrap();
        let cursor = Position { epoch: 1, seq: 2 };
        store.ingest(&Ingested { cursor, ahead: &[first, second], ..batch(&stored) }).unwrap();
        let kept = store.load().unwrap();
        assert_eq!(kept.ahead, [(agent, first.0, first.1), (agent, second.0, second.1)]);
        let (passed, moved) = ([first.0], [(first.1, there)]);
        store.ingest(&Ingested { rows: &[], passed: &passed, moved: &moved, ..batch(&stored) }).unwrap();
    }
    let store = Embedded::open(dir.path()).unwrap();
    assert_eq!(store.load().unwrap().ahead, [(agent, second.0, second.1)]);
    let (found, arrived) = store.arrivals(0, &Filter::default(), 9).unwrap();
    let positions = (found[0].position, found[1].position);
    assert_eq!((positions, arrived), ((there, second.0), 2), "the order of storing stays");
    assert_eq!(Row { position: first.0, ..found[0].clone() }, stored[0], "and nothing else of it changes");
    store.commit(&[Write::AgentGone(agent)]).unwrap();
    assert_eq!(store.load().unwrap().ahead, []);
}

#[test]
fn what_alerts_remember_is_written_with_the_results_and_there_after_a_reopen() {
    use crate::alert::{Channel, Digest, Event, KeptUnit, Parcel, Watch};
    let read = |value| serde_json::from_value::<Event>(value).unwrap();
    let event = |n: u128, open: bool| {
        read(serde_json::json!({
            "id": Uuid::from_u128(n << 80 | 7), "alert": Uuid::from_u128(n), "event": "down", "monitor": "shop", "agent": "edge-1",
            "location": "dc1", "state": "down", "since": at(1), "at": at(1), "summary": "down", "confirmed": false, "open": open,
        }))
    };
    let (open, closed) = (event(1_000, true), event(2_000, false));
    let parcel = |event: &Event| Parcel::new(event.notice.id, event.notice.alert, "ops".into(), at(1));
    let (monitor, agent) = (MonitorId(Uuid::from_u128(1)), AgentId(Uuid::from_u128(1)));
    let unit = KeptUnit {
        monitor,
        location: "dc1".into(),
        settled: crate::alert::Level::Down,
        alert: Some(Uuid::nil()),
    };
    let digest = Digest::new(agent, "edge-1".into(), "dc1".into());
    let watch = Watch { clocks: [(agent, Uuid::nil())].into(), ..Watch::default() };
    let channel: Channel = serde_json::from_value(
        serde_json::json!({"name": "ops", "kind": "webhook", "url": "https://a/", "secret": "ops"}),
    )
    .unwrap();
    let dir = tempfile::tempdir().unwrap();
    {
        let store = Embedded::open(dir.path()).unwrap();
        store.commit(&[Write::Channel(&channel)]).unwrap();
        let (first, second) = (parcel(&open), parcel(&closed));
        let alerts = [
            Write::Unit(&unit),
            Write::Digest(&digest),
            Write::Watch(&watch),
            Write::Told(&open),
            Write::Told(&closed),
            Write::Parcel(&first),
            Write::Parcel(&second),
        ];
        store.ingest(&Ingested { alerts: &alerts, ..batch(&rows(1..=1)) }).unwrap();
    }
    let store = Embedded::open(dir.path()).unwrap();
    let kept = store.load().unwrap();
    assert_eq!((kept.channels, kept.units, kept.digests), (vec![channel], vec![unit], vec![digest.clone()]));
    assert_eq!((kept.watch, kept.open, kept.waiting.len()), (watch, vec![open.clone()], 2));
    assert_eq!(store.alerts(None, 9).unwrap(), [closed.clone(), open.clone()], "newest first");
    assert_eq!(store.alerts(Some(Timestamp::from_millis(1_500)), 9).unwrap(), std::slice::from_ref(&closed));
    assert_eq!(store.alert(open.notice.id).unwrap(), Some(open.clone()));
    assert_eq!(store.parcels(closed.notice.id).unwrap(), [parcel(&closed)]);

    store.forget_alerts(at(99)).unwrap();
    assert_eq!(store.alerts(None, 9).unwrap(), [open], "one that goes on stays");
    assert_eq!(store.parcels(closed.notice.id).unwrap(), []);
    store
        .commit(&[Write::UnitGone(monitor, "dc1"), Write::DigestGone(agent), Write::ChannelGone("ops")])
        .unwrap();
    let kept = store.load().unwrap();
    assert_eq!((kept.channels.len(), kept.units.len(), kept.digests.len()), (0, 0, 0));
}

#[test]
fn the_newest_come_first_and_filters_hold() {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(dir.path()).unwrap();
    ingest(&store, &rows(1..=5), &[]);
    let mut other = row(2, 1, 9, at(3));
    other.result.monitor_id = MonitorId(Uuid::from_u128(2));
    ingest(&store, &[other.clone()], &[]);
    let newest = |filter: Filter, upto, limit| store.newest(&filter, upto, limit).unwrap();
    let all = Filter::default();
    assert_eq!(seqs(&newest(all, 9, 3)), [5, 4, 9]);
    assert_eq!(seqs(&newest(all, 5, 9)), [5, 4, 3, 2, 1], "none that arrived later");
    let monitor = Some(MonitorId(Uuid::from_u128(1)));
    assert_eq!(seqs(&newest(Filter { monitor, ..all }, 9, 2)), [5, 4]);
    assert_eq!(seqs(&newest(Filter { monitor, since: Some(at(4)), ..all }, 9, 9)), [5, 4]);
    assert_eq!(seqs(&newest(Filter { agent: Some(other.agent), ..all }, 9, 9)), [9]);
    let (followed, upto) = store.arrivals(4, &all, 1).unwrap();
    assert_eq!((seqs(&followed), upto), (vec![5], 5));
    let (followed, upto) = store.arrivals(0, &Filter { agent: Some(other.agent), ..all }, 5).unwrap();
    assert_eq!((seqs(&followed), upto), (vec![9], 6));
    assert_eq!(store.arrivals(6, &all, 5).unwrap(), (vec![], 6));
}

#[test]
fn a_history_holds_states_in_the_order_of_time() {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(dir.path()).unwrap();
    let mut stored = rows(1..=4);
    stored[1].result.state = State::Down;
    stored[2].delivery = Delivery::Buffered;
    stored[2].location = "dc2".into();
    stored[3].result.started_at = at(99_999);
    ingest(&store, &stored, &[]);
    let points = store.history(MonitorId(Uuid::from_u128(1)), at(2), at(100)).unwrap();
    let told: Vec<_> = points.iter().map(|p| (p.at, p.state, p.delivery, &p.location[..])).collect();
    let expected = [
        (at(2), State::Down, Delivery::Live, "dc1"),
        (at(3), State::Up, Delivery::Buffered, "dc2"),
        (at(4), State::Up, Delivery::Live, "dc1"),
    ];
    assert_eq!(told, expected, "never after its receipt");
}

#[test]
fn a_result_that_is_known_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(dir.path()).unwrap();
    ingest(&store, &rows(1..=1), &[]);
    let ids: Vec<_> = rows(1..=2).iter().map(|r| r.result.id).collect();
    assert_eq!(store.known(&ids).unwrap(), [true, false]);
}

#[test]
fn what_is_old_is_forgotten_whole_and_arrivals_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(dir.path()).unwrap();
    ingest(&store, &rows(1..=10), &[gap(at(1)), gap(at(9))]);
    assert_eq!(store.forget(at(8), at(99), 3).unwrap(), 3);
    assert_eq!(store.forget(at(8), at(99), 100).unwrap(), 5, "four results and a gap");
    assert_eq!(store.forget(at(8), at(99), 100).unwrap(), 0);
    let filter = Filter::default();
    assert_eq!(seqs(&store.newest(&filter, 10, 99).unwrap()), [10, 9, 8]);
    assert_eq!(seqs(&store.arrivals(0, &filter, 99).unwrap().0), [8, 9, 10]);
    assert_eq!(store.history(MonitorId(Uuid::from_u128(1)), at(0), at(99)).unwrap().len(), 3);
    assert_eq!(store.known(&[rows(1..=1)[0].result.id]).unwrap(), [false]);
    assert_eq!(store.gaps(None, 9).unwrap().len(), 1);
    store.forget(at(99), at(99), 100).unwrap();
    drop(store);
    let store = Embedded::open(dir.path()).unwrap();
    assert_eq!(ingest(&store, &rows(11..=11), &[]), 11);
}

#[test]
fn one_arrival_stamped_in_the_future_does_not_keep_what_is_old() {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(dir.path()).unwrap();
    ingest(&store, &rows(50..=50), &[]);
    ingest(&store, &rows(1..=3), &[]);
    assert_eq!(store.forget(at(3), at(10), 100).unwrap(), 2);
}

#[test]
fn a_second_store_on_the_same_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _first = Embedded::open(dir.path()).unwrap();
    assert!(matches!(Embedded::open(dir.path()), Err(Error::Open { .. })));
}

#[test]
fn a_store_of_a_newer_version_is_refused_and_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    ingest(&Embedded::open(dir.path()).unwrap(), &rows(1..=3), &[]);
    let format = dir.path().join("format");
    assert_eq!(std::fs::read_to_string(&format).unwrap(), "2\n");
    std::fs::write(&format, "7\n").unwrap();
    let before = files(dir.path());
    let refused = Embedded::open(dir.path()).err().unwrap();
    assert!(matches!(refused, Error::Newer { found: 7, .. }), "{refused}");
    assert!(files(dir.path()) == before, "not one byte was changed");
    assert_eq!(crate::Error::Store(refused).exit_code(), 65);
    // A first write that was cut says nothing about the version.
    std::fs::write(&format, "").unwrap();
    assert_eq!(Embedded::open(dir.path()).unwrap().arrived(), 3);
    // An older version shall not open what this one has written to.
    std::fs::write(&format, "1\n").unwrap();
    assert_eq!(Embedded::open(dir.path()).unwrap().arrived(), 3);
    assert_eq!(std::fs::read_to_string(&format).unwrap(), "2\n");
}

fn files(directory: &std::path::Path) -> BTreeMap<std::path::PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    found
}

/// The child of the test below is the same test with this variable set: it stores and says what was acknowledged, until it is killed.
const CHILD: &str = "PICKET_STORE_TO_FILL";

#[test]
fn what_was_acknowledged_survives_kill_9() {
    if let Some(path) = std::env::var_os(CHILD) {
        let store = Embedded::open(std::path::Path::new(&path)).unwrap();
        for seq in 1.. {
            ingest(&store, &rows(seq..=seq), &[]);
            eprintln!("acknowledged {seq}");
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::tests::what_was_acknowledged_survives_kill_9", "--nocapture"])
        .env(CHILD, dir.path())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let said = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut acknowledged = 0;
    for line in std::io::BufRead::lines(said) {
        let line = line.unwrap();
        if let Some(seq) = line.strip_prefix("acknowledged ") {
            acknowledged = seq.parse().unwrap();
        }
        if acknowledged == 50 {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    let store = Embedded::open(dir.path()).unwrap();
    let (stored, arrived) = store.arrivals(0, &Filter::default(), usize::MAX).unwrap();
    assert!(acknowledged >= 50 && arrived >= acknowledged, "{acknowledged} acknowledged, {arrived} stored");
    assert_eq!(seqs(&stored), (1..=arrived).collect::<Vec<_>>());
    assert_eq!(store.load().unwrap().cursors[0].1.seq, arrived, "results and cursor move together");
}

#[test]
fn events_of_all_agents_come_newest_first_and_no_more_than_asked() {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(dir.path()).unwrap();
    let agent = |n| AgentId(Uuid::from_u128(n));
    let told = |n, s| AgentEvent {
        at: at(s),
        agent: format!("edge-{n}"),
        kind: AgentEventKind::Rotated,
        detail: String::new(),
    };
    for (n, s) in [(1, 1), (u128::MAX, 2), (2, 3), (1, 4), (1, 5), (2, 6)] {
        store.commit(&[Write::Event(agent(n), &told(n, s))]).unwrap();
    }
    let check = |wanted: Option<u128>, limit, expected: &[i64]| {
        let events = store.agent_events(wanted.map(agent), limit).unwrap();
        assert_eq!(events.iter().map(|e| e.at.as_millis() / 1000).collect::<Vec<_>>(), expected);
    };
    check(None, 100, &[6, 5, 4, 3, 2, 1]);
    check(None, 3, &[6, 5, 4]);
    check(Some(1), 2, &[5, 4]);
    check(Some(3), 2, &[]);
}
