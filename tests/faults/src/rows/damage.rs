//! Bits flip, files are cut, emptied, deleted or appear, tears have holes: D6–D8, T14 and C2. Whatever it is, the agent starts within ten
//! seconds, nothing that was not recorded is sent, what was recorded is there or lies in a gap, and one damaged slot costs no identity.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use picket_e2e::oracle::{judge, recorded};
use rand::RngExt;

use crate::damage::{Fate, NAME, Subject, damage};
use crate::image::{Image, LIMIT, keep, scratch};
use crate::lanes::times;
use crate::row::row;
use crate::{Process, Row, Run, Tally, pause};

pub(super) const ROWS: &[Row] = &[
    row("D7", "bits, cuts, holes, noise, missing and strange files in the spool", (150, 8_000), spool),
    row("D8", "the same anywhere in the data directory, under the real agent", (40, 1_900), agent),
    row("T14", "every byte of each identity slot, then both, under the real agent", (10, 100), identity),
    row("D6", "damage, and afterwards the control plane has it all", (2, 30), whole),
];

/// What was counted by lanes that work side by side.
#[derive(Default)]
struct Counts {
    lost: AtomicU64,
    aside: AtomicU64,
    longest_ms: AtomicU64,
}

impl Counts {
    fn tally(&self, count: u64) -> Tally {
        Tally::of(count, "damages")
            .and(0, "wrong values")
            .and(0, "gone without a gap")
            .and(self.lost.load(Ordering::Relaxed), "entries in gaps")
            .and(self.aside.load(Ordering::Relaxed), "databases put aside")
            .took("longest start", Duration::from_millis(self.longest_ms.load(Ordering::Relaxed)))
    }

    fn took(&self, time: Duration) {
        self.longest_ms.fetch_max(u64::try_from(time.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// In this process, on what the real agent left: thousands in minutes.
fn spool(run: &Run) -> Tally {
    let subject = Subject::new("D7", 4_000);
    let image = subject.image.below("spool");
    assert!(image.files().any(|(name, _)| name.components().any(|c| c.as_os_str() == "tables")), "no tables");
    let counts = Counts::default();
    times(run, LANES, |n| {
        // A start that takes too long may have waited for a busy machine: then the same once more.
        for last in [false, true] {
            let mut rng = run.rng(n);
            let dir = scratch();
            image.restore(dir.path());
            let mut what = String::new();
            // Mostly one thing anywhere; now and then three in the database. Database and mirror slots at once leave nothing that knows.
            let (times, part) = if rng.random_bool(0.1) { (3, "queue") } else { (1, "") };
            for _ in 0..times {
                let (name, how) = damage(&image.below(part), &dir.path().join(part), &mut rng);
                what = format!("{what}{part}/{}: {how}; ", name.display());
            }
            match subject.truth.check(dir.path()) {
                Ok(kept) if kept.opened > LIMIT && !last => continue,
                Ok(kept) if kept.opened > LIMIT => {
                    broken(&dir, n, &what, &format!("opened after {:?}", kept.opened))
                }
                Ok(kept) => {
                    counts.lost.fetch_add(kept.lost, Ordering::Relaxed);
                    counts.aside.fetch_add(u64::from(kept.aside), Ordering::Relaxed);
                    counts.took(kept.opened);
                    break;
                }
                Err(wrong) => broken(&dir, n, &what, &wrong),
            }
        }
    });
    counts.tally(run.count)
}

/// The real binary on a damaged copy of its directory.
fn agent(run: &Run) -> Tally {
    let subject = Subject::new("D8", 400);
    let counts = Counts::default();
    times(run, LANES, |n| {
        let mut rng = run.rng(n);
        let home = scratch();
        let dir = home.path().join("data");
        subject.image.restore(&dir);
        // The spool has a row of its own: here the rest of the directory comes first.
        let part = ["identity", "identity", "config", "spool", ""][rng.random_range(0..5)];
        let (name, how) = damage(&subject.image.below(part), &dir.join(part), &mut rng);
        let what = format!("{part}/{}: {how}", name.display());
        match subject.fate(&dir, &home.path().join("log")) {
            Fate::Checks(took, output) if output.contains(&subject.id) => counts.took(took),
            fate => broken(&home, n, &what, &format!("{fate:?}")),
        }
        match subject.truth.check(&dir.join("spool")) {
            Ok(kept) => drop(counts.lost.fetch_add(kept.lost, Ordering::Relaxed)),
            Err(wrong) => broken(&home, n, &what, &wrong),
        }
    });
    counts.tally(run.count)
}

/// Each byte of each slot in turn, as far as the count goes; then both slots, which is said and ends it.
fn identity(run: &Run) -> Tally {
    let subject = Subject::new("T14", 0);
    let slots = subject.image.below("identity");
    let bytes: Vec<_> =
        slots.files().flat_map(|(name, bytes)| (0..bytes.len()).map(move |at| (name, bytes, at))).collect();
    let counts = Counts::default();
    times(run, LANES, |n| {
        let place = (n * bytes.len() as u64 / run.count) as usize;
        let (name, whole, at) = bytes[place];
        let home = scratch();
        let dir = home.path().join("data");
        subject.image.restore(&dir);
        let mut flipped = whole.to_vec();
        flipped[at] ^= 1 << (n % 8);
        crate::image::put(&dir.join("identity").join(name), &flipped, slots.length(name));
        match subject.fate(&dir, &home.path().join("log")) {
            Fate::Checks(took, output) if output.contains(&subject.id) => counts.took(took),
            fate => broken(&home, n, &format!("{} byte {at}", name.display()), &format!("{fate:?}")),
        }
    });
    let home = scratch();
    let dir = home.path().join("data");
    subject.image.restore(&dir);
    for (name, bytes) in slots.files() {
        crate::image::put(&dir.join("identity").join(name), &bytes[1..], slots.length(name));
    }
    let before = Image::take(&dir.join("identity"));
    match subject.fate(&dir, &home.path().join("log")) {
        // 65: what is stored is damaged. Nobody but a person may decide what to do without a key.
        Fate::Ends(Some(65), output) if output.contains("both slots are damaged") => {}
        fate => panic!("both slots damaged: {fate:?}"),
    }
    let after = Image::take(&dir.join("identity"));
    assert!(before.files().eq(after.files()), "damaged slots are evidence, and were changed");
    counts.tally(run.count).note("both slots damaged: exit 65, untouched")
}

/// The damaged agent finds its control plane again: what is stored there is what was recorded, everything else is said as a gap.
fn whole(run: &Run) -> Tally {
    let mut subject = Subject::new("D6", 1_500);
    let mut lost = 0;
    let parts = ["spool", "spool/queue", "identity", "config"];
    for n in 0..run.count {
        let mut rng = run.rng(n);
        let part = parts[usize::try_from(n).expect("tens") % parts.len()];
        for (name, image) in [("cp", &subject.control), (NAME, &subject.image)] {
            let dir = subject.stage.path(name);
            std::fs::remove_dir_all(&dir).expect("it was there");
            image.restore(&dir);
        }
        let data = subject.stage.path(NAME);
        let (name, how) = damage(&subject.image.below(part), &data.join(part), &mut rng);
        let what = format!("trial {n}: {part}/{}: {how}", name.display());
        subject.stage.start_control();
        let log = subject.stage.path("trial.log");
        let _ = std::fs::remove_file(&log);
        let agent = Process::start(&mut subject.stage.agent(NAME), &log);
        lost += settle(&subject, &agent, &what);
        agent.kill();
        subject.stage.kill_control();
    }
    Tally::of(run.count, "damages").and(0, "wrong values stored").and(0, "holes").and(lost, "entries in gaps")
}

/// Waits until everything is there or said to be missing, and gives how much is missing.
fn settle(subject: &Subject, agent: &Process, what: &str) -> u64 {
    let begun = Instant::now();
    let before: String = subject
        .truth
        .pending()
        .map(|(at, _)| format!("recorded monitor=before epoch={} seq={}\n", at.epoch, at.seq))
        .collect();
    loop {
        let stored = subject.stage.stored(NAME);
        for result in &stored {
            let number = |key: &str| result[key].as_u64().unwrap_or(0);
            let at = spool::Position::new(number("epoch"), number("seq"));
            let Some(bytes) = subject.truth.at(at) else { continue };
            let truth: serde_json::Value = serde_json::from_slice(bytes).expect("it was recorded as JSON");
            for key in ["id", "state", "code", "summary", "started_at", "duration_ms"] {
                assert_eq!(result[key], truth["result"][key], "{what}: {key} at {at}");
            }
        }
        let log = before.clone() + &agent.output();
        let gaps = subject.stage.gaps_of(NAME);
        let wrong = judge(&recorded(&log), &stored, &gaps);
        let begins = stored.iter().any(|r| r["epoch"].as_u64() > Some(subject.truth.epoch()));
        if wrong.is_empty() && begins {
            let count = |gap: &serde_json::Value| Some(gap["to"].as_u64()? - gap["from"].as_u64()? + 1);
            return gaps.iter().filter_map(count).sum();
        }
        let some = &wrong[..wrong.len().min(5)];
        assert!(begun.elapsed() < 6 * LIMIT, "{what}: {some:?} of {} wrong\n{log}", wrong.len());
        pause(Duration::from_millis(300));
    }
}

/// Ends the row, with the directory kept to look at.
fn broken(home: &tempfile::TempDir, n: u64, what: &str, wrong: &str) -> ! {
    panic!("time {n}: {what}: {wrong}; kept in {}", keep(home).display())
}

const LANES: u64 = 2;
