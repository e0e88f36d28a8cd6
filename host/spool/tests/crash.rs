//! Crashes, with real processes: this program is its own victim. Started as `crash record DIR` it appends and prints each recorded
//! position until it is killed; otherwise it is the test that kills it and looks at what is left.

#![allow(clippy::unwrap_used, reason = "helpers of a test may fail as the test does")]
#![allow(clippy::print_stdout, reason = "the seed of a failure is on its output")]

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, ExitCode, Stdio},
    sync::mpsc,
    time::{Duration, Instant, SystemTime},
};

use libtest_mimic::{Arguments, Trial};
use picket_spool::{Entry, Position, Settings, Spool, Stored};

/// Kills of one run; `SPOOL_CYCLES=…` for a soak.
const CYCLES: u64 = 20;

fn main() -> ExitCode {
    let arguments = std::env::args().collect::<Vec<_>>();
    if let [_, verb, dir] = arguments.as_slice()
        && verb == "record"
    {
        record(Path::new(dir));
        return ExitCode::SUCCESS;
    }
    let trials = vec![Trial::test("what_was_recorded_before_a_kill_is_there_after_it", || {
        runtime().block_on(killed());
        Ok(())
    })];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn settings(dir: &Path) -> Settings {
    Settings { capacity_records: 10_000, group_wait: Duration::from_millis(3), ..Settings::at(dir) }
}

/// Appends from 40 tasks for ever and prints `epoch seq number` after each fsync. Numbers are unique within an epoch.
fn record(dir: &Path) {
    runtime().block_on(async {
        let spool = Spool::open(settings(dir)).unwrap();
        let tasks = (0..40_u64).map(|task| {
            let spool = spool.clone();
            tokio::spawn(async move {
                for round in 0_u64.. {
                    let number = round * 40 + task;
                    let bytes = number.to_le_bytes().repeat(1 + (number % 100) as usize);
                    let at = spool.append(Entry { at_ms: number as i64, down: false, bytes }).await.unwrap();
                    // One write a line, so that a kill cuts no line in two.
                    let line = format!("{} {} {number}\n", at.epoch, at.seq);
                    std::io::stdout().write_all(line.as_bytes()).unwrap();
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
    });
}

async fn killed() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("spool");
    let mut dice = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().subsec_nanos().into();
    println!("seed {dice}");
    let mut printed = BTreeMap::new();
    let cycles = std::env::var("SPOOL_CYCLES").ok().and_then(|cycles| cycles.parse().ok()).unwrap_or(CYCLES);
    for cycle in 0..cycles {
        let life = Duration::from_millis(roll(&mut dice, 400));
        let lines = record_and_kill(&dir, life);
        printed.extend(lines);

        let opened = Instant::now();
        let spool = Spool::open(settings(&dir)).unwrap();
        assert!(opened.elapsed() < Duration::from_secs(10), "opened after {:?}", opened.elapsed());
        assert_eq!(spool.status().quarantined, 0, "a kill alone damages nothing");
        check(&everything(&spool).await, &printed, spool.status().acknowledged);
        if cycle % 4 == 1 {
            let recorded = printed.keys().next_back().copied().unwrap_or_default();
            spool.release(recorded).await.unwrap();
        }
        spool.close().await;
    }
    println!("{} recorded", printed.len());
    assert!(printed.len() > 1_000, "only {} recorded: the test proves little", printed.len());
}

/// Starts the victim, lets it live this long after its first line, and gives what it printed.
fn record_and_kill(dir: &Path, life: Duration) -> Vec<(Position, u64)> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let mut child = command.arg("record").arg(dir).stdout(Stdio::piped()).spawn().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let (started, first_line) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        let lines = output.lines().map_while(Result::ok).inspect(|_| started.send(()).unwrap_or_default());
        lines.filter_map(|line| parse(&line)).collect::<Vec<_>>()
    });
    first_line.recv_timeout(Duration::from_secs(60)).expect("the victim recorded nothing");
    let end = Instant::now() + life;
    while first_line.recv_timeout(end.saturating_duration_since(Instant::now())).is_ok() {}
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap()
}

fn parse(line: &str) -> Option<(Position, u64)> {
    let mut words = line.split(' ').map(|word| word.parse::<u64>().ok());
    Some((Position::new(words.next()??, words.next()??), words.next()??))
}

async fn everything(spool: &Spool) -> Vec<Stored> {
    let mut all = Vec::<Stored>::new();
    loop {
        let after = all.last().map_or(Position::START, Stored::position);
        let page = spool.peek(after, 500).await.unwrap();
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

/// Dense, none twice, and everything printed is there with its value or lies in a gap `evicted`.
fn check(given: &[Stored], printed: &BTreeMap<Position, u64>, acknowledged: Position) {
    let mut last = acknowledged;
    let mut numbers = BTreeSet::new();
    let mut missing = BTreeSet::new();
    for stored in given {
        let from = match stored {
            Stored::Entry { position, bytes } => {
                let number = u64::from_le_bytes(bytes[..8].try_into().unwrap());
                assert_eq!(*bytes, number.to_le_bytes().repeat(1 + (number % 100) as usize));
                assert!(numbers.insert((position.epoch, number)), "{number} is there twice");
                assert_eq!(printed.get(position).unwrap_or(&number), &number, "at {position}");
                *position
            }
            Stored::Gap(gap) => {
                assert_eq!(gap.reason.as_str(), "evicted", "{gap:?}");
                missing.extend((gap.from..=gap.to).map(|seq| Position::new(gap.epoch, seq)));
                gap.start()
            }
        };
        let dense = (from.epoch == last.epoch && from.seq == last.seq + 1)
            || (from.epoch > last.epoch && from.seq == 1);
        assert!(dense, "{from} follows {last}");
        last = stored.position();
    }
    let there = given.iter().map(Stored::position).collect::<BTreeSet<_>>();
    for position in printed.keys().filter(|position| **position > acknowledged) {
        assert!(
            there.contains(position) || missing.contains(position),
            "{position} was recorded and is gone"
        );
    }
}

/// splitmix64.
fn roll(state: &mut u64, sides: u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ (mixed >> 27)) % sides
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap()
}
