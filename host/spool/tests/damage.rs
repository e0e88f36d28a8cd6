//! Damage: bits flip, files are cut, emptied, deleted, or appear. Whatever it is, the spool opens within ten seconds, gives no
//! value that was not recorded, and accounts for every recorded entry as an entry or in a gap. A trial is a seed;
//! `SPOOL_SEED=…` runs only that one, `SPOOL_TRIALS=…` more than the default.

#![allow(clippy::unwrap_used, reason = "helpers of a test may fail as the test does")]
#![allow(clippy::print_stdout, reason = "the seed of a failure is on its output")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use picket_spool::{Entry, Position, Settings, Spool, Stored};

/// A directory as a crash leaves it: files without their trailing zeros (journals are 64 MiB of those), and their lengths.
struct Image {
    files: Vec<(PathBuf, Vec<u8>, u64)>,
    recorded: BTreeMap<Position, Vec<u8>>,
    acknowledged: Position,
}

impl Image {
    fn take(dir: &Path, recorded: BTreeMap<Position, Vec<u8>>, acknowledged: Position) -> Self {
        let mut files = Vec::new();
        let mut directories = vec![dir.to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
                if entry.path().is_dir() {
                    directories.push(entry.path());
                    continue;
                }
                let mut bytes = fs::read(entry.path()).unwrap();
                let length = bytes.len() as u64;
                bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
                files.push((entry.path().strip_prefix(dir).unwrap().to_owned(), bytes, length));
            }
        }
        files.sort();
        Self { files, recorded, acknowledged }
    }

    fn restore(&self, dir: &Path) {
        for (name, bytes, length) in &self.files {
            let path = dir.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, bytes).unwrap();
            fs::File::options().write(true).open(&path).unwrap().set_len(*length).unwrap();
        }
    }
}

fn settings(dir: &Path) -> Settings {
    Settings { group: 16, group_wait: Duration::from_millis(2), ..Settings::at(dir) }
}

/// Three epochs, the middle one large enough that the database wrote tables; part of it released; not closed in the end.
async fn image() -> Image {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("spool");
    let mut recorded = BTreeMap::new();
    let mut acknowledged = Position::START;
    let mut number = 0_u64;
    for (entries, released, close) in [(300, 100, true), (4_000, 300, true), (60, 310, false)] {
        let spool = Spool::open(settings(&dir)).unwrap();
        for _ in 0..entries / 20 {
            let appends = (0..20).map(|_| {
                number += 1;
                let (spool, bytes) = (spool.clone(), content(number));
                tokio::spawn(async move {
                    let entry =
                        Entry { at_ms: number as i64, down: number.is_multiple_of(3), bytes: bytes.clone() };
                    (spool.append(entry).await.unwrap(), bytes)
                })
            });
            for append in appends.collect::<Vec<_>>() {
                recorded.extend([append.await.unwrap()]);
            }
        }
        acknowledged = *recorded.keys().nth(released).unwrap();
        spool.release(acknowledged).await.unwrap();
        if close {
            spool.close().await;
        } else {
            return Image::take(&dir, recorded, acknowledged);
        }
    }
    Image::take(&dir, recorded, acknowledged)
}

/// Some hundred bytes that do not repeat, or the tables would be small.
fn content(number: u64) -> Vec<u8> {
    let mut state = number;
    (0..60 + number % 60).flat_map(|_| roll(&mut state, u64::MAX).to_le_bytes()).collect()
}

async fn everything(spool: &Spool) -> Vec<Stored> {
    let mut all = Vec::<Stored>::new();
    loop {
        let after = all.last().map_or(Position::START, Stored::position);
        let page = spool.peek(after, 1000).await.unwrap();
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

/// Opens what is left and holds it against what was recorded. Gives how many entries were lost, and whether it was put aside.
async fn check(image: &Image, dir: &Path, what: &str) -> (usize, bool) {
    let opened = Instant::now();
    let spool = match Spool::open(settings(dir)) {
        Ok(spool) => spool,
        Err(error) => panic!("{what}: does not open: {error}"),
    };
    assert!(opened.elapsed() < Duration::from_secs(10), "{what}: opened after {:?}", opened.elapsed());

    let status = spool.status();
    let last_epoch = image.recorded.keys().next_back().unwrap().epoch;
    assert!(status.epoch > last_epoch, "{what}: epoch {} again", status.epoch);
    let mut lost = 0;
    let mut last = Position::START;
    let mut expected = image.recorded.range(image.acknowledged..).skip(1).peekable();
    for stored in everything(&spool).await {
        let end = stored.position();
        assert!(end > last, "{what}: {end} after {last}");
        last = end;
        if let Stored::Entry { position, bytes } = &stored {
            assert_eq!(image.recorded.get(position), Some(bytes), "{what}: a wrong value at {position}");
        }
        while expected.peek().is_some_and(|(position, _)| **position <= end) {
            let (position, _) = expected.next().unwrap();
            let there = match &stored {
                Stored::Entry { position: given, .. } => given == position,
                Stored::Gap(gap) => gap.start() <= *position,
            };
            assert!(there, "{what}: {position} is neither an entry nor in a gap");
            lost += usize::from(matches!(stored, Stored::Gap(_)));
        }
    }
    assert_eq!(expected.next().map(|(position, _)| position), None, "{what}: gone without a gap");

    let appended = spool.append(Entry { at_ms: 0, down: false, bytes: b"after".to_vec() }).await;
    assert_eq!(appended.unwrap(), Position::new(status.epoch, 1), "{what}");
    spool.close().await;
    (lost, status.quarantined > 0)
}

/// Does one thing to one file and says what.
fn damage(image: &Image, dir: &Path, dice: &mut u64) -> String {
    let (name, bytes, _) = &image.files[roll(dice, image.files.len() as u64) as usize];
    let path = dir.join(name);
    let at = roll(dice, bytes.len() as u64 + 1) as usize;
    let what = match roll(dice, 12) {
        0..7 => {
            let mut whole = fs::read(&path).unwrap();
            let at = at.min(whole.len().saturating_sub(1));
            let bit = roll(dice, 8);
            if let Some(byte) = whole.get_mut(at) {
                *byte ^= 1 << bit;
            }
            whole.truncate(whole.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
            let length = fs::metadata(&path).unwrap().len();
            fs::write(&path, whole).unwrap();
            fs::File::options().write(true).open(&path).unwrap().set_len(length).unwrap();
            format!("bit {bit} of byte {at} flipped in")
        }
        7 => {
            fs::File::options().write(true).open(&path).unwrap().set_len(at as u64).unwrap();
            format!("cut to {at} bytes:")
        }
        8 => {
            fs::write(&path, b"").unwrap();
            "emptied:".to_owned()
        }
        9 => {
            fs::remove_file(&path).unwrap();
            "deleted:".to_owned()
        }
        10 => {
            // A hole of zeros, as a torn write leaves it.
            let mut whole = bytes.clone();
            let end = (at + 512).min(whole.len());
            whole[at.min(end)..end].fill(0);
            let length = fs::metadata(&path).unwrap().len();
            fs::write(&path, whole).unwrap();
            fs::File::options().write(true).open(&path).unwrap().set_len(length).unwrap();
            format!("512 bytes of zeros at {at} in")
        }
        _ => {
            fs::write(path.with_file_name("stranger"), b"hello").unwrap();
            "a stranger beside".to_owned()
        }
    };
    format!("{what} {}", name.display())
}

#[tokio::test]
async fn damage_anywhere_is_survived_and_told() {
    let image = image().await;
    let tables =
        image.files.iter().filter(|(name, ..)| name.components().any(|part| part.as_os_str() == "tables"));
    assert!(
        tables.count() > 0,
        "the image has no table: {:?}",
        image.files.iter().map(|file| &file.0).collect::<Vec<_>>()
    );
    let (mut aside, mut losses) = (0, Vec::new());
    for seed in seeds(60) {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("spool");
        image.restore(&dir);
        let mut dice = seed;
        let what = format!("SPOOL_SEED={seed}: {}", damage(&image, &dir, &mut dice));
        let (lost, quarantined) = check(&image, &dir, &what).await;
        println!("{what}: {lost} lost{}", if quarantined { ", put aside" } else { "" });
        aside += usize::from(quarantined);
        losses.push(lost);
    }
    losses.sort_unstable();
    println!(
        "{} trials, {aside} put aside, median loss {} of {}",
        losses.len(),
        losses[losses.len() / 2],
        image.recorded.len()
    );
}

#[tokio::test]
async fn a_directory_without_damage_loses_nothing() {
    let image = image().await;
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("spool");
    image.restore(&dir);
    assert_eq!(check(&image, &dir, "no damage").await, (0, false));
}

#[tokio::test]
async fn a_lost_database_becomes_one_gap_an_epoch_and_only_the_newest_is_kept() {
    let image = image().await;
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("spool");
    image.restore(&dir);
    for n in 1..4_u64 {
        for (name, ..) in image.files.iter().filter(|(name, ..)| name.starts_with("queue")) {
            fs::create_dir_all(dir.join(name).parent().unwrap()).unwrap();
            fs::write(dir.join(name), b"garbage").unwrap();
        }
        let (lost, quarantined) = check(&image, &dir, "garbage").await;
        assert_eq!((lost, quarantined), (image.recorded.range(image.acknowledged..).count() - 1, true));
        let mut kept =
            fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let kept = kept.by_ref().filter(|name| name.starts_with("quarantine")).collect::<Vec<_>>();
        assert_eq!(kept, [format!("quarantine-{n}")]);
    }
}

#[tokio::test]
async fn a_database_that_does_not_open_gives_back_what_its_journal_holds() {
    let image = image().await;
    for (name, at) in [("queue/version", 0), ("queue/0.jnl", 1_000_000)] {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("spool");
        image.restore(&dir);
        let mut bytes = fs::read(dir.join(name)).unwrap();
        bytes[at] ^= 1;
        fs::write(dir.join(name), bytes).unwrap();
        let (lost, quarantined) = check(&image, &dir, name).await;
        assert!(quarantined && lost <= 1, "{name}: {lost} lost");
    }
}

#[tokio::test]
async fn a_hole_in_the_last_writes_as_a_power_cut_leaves_it_costs_only_those() {
    let image = image().await;
    let (name, journal, length) = image.files.iter().find(|(name, ..)| name.ends_with("0.jnl")).unwrap();
    for distance in (600..6_000).step_by(700) {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("spool");
        image.restore(&dir);
        let mut torn = journal.clone();
        let at = torn.len() - distance;
        torn[at..at + 512].fill(0);
        fs::write(dir.join(name), torn).unwrap();
        fs::File::options().write(true).open(dir.join(name)).unwrap().set_len(*length).unwrap();
        let (lost, _) = check(&image, &dir, &format!("512 zeros {distance} before the end")).await;
        assert!(lost <= 40, "{distance}: {lost} lost");
    }
}

#[tokio::test]
async fn with_nothing_left_the_epoch_comes_from_the_settings() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("spool");
    let spool = Spool::open(settings(&dir)).unwrap();
    assert_eq!(spool.status().epoch, 1);
    spool.close().await;
    fs::remove_dir_all(&dir).unwrap();
    let spool = Spool::open(Settings { fallback_epoch: 1_700_000_000, ..settings(&dir) }).unwrap();
    assert_eq!(spool.status().epoch, 1_700_000_000);
}

fn seeds(trials: u64) -> Vec<u64> {
    let number = |name| std::env::var(name).ok().and_then(|value: String| value.parse::<u64>().ok());
    if let Some(seed) = number("SPOOL_SEED") {
        return vec![seed];
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64;
    (0..number("SPOOL_TRIALS").unwrap_or(trials)).map(|n| now.wrapping_add(n)).collect()
}

/// splitmix64.
fn roll(state: &mut u64, sides: u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ (mixed >> 27)) % sides
}
