//! A row of the table: what it does, how often in which form, and the line that tells what came of it.

use std::fmt;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::namespace;

/// One row.
#[derive(Clone, Copy)]
pub struct Row {
    /// As in the matrix: "P1". Several rows may share one.
    pub id: &'static str,
    /// What happens in it, in a few words.
    pub what: &'static str,
    /// Times in the short form; with 0 it belongs to the whole form only.
    pub short: u64,
    /// Times in the whole form.
    pub soak: u64,
    /// Whether it breaks the network itself and wants one of its own.
    pub namespace: bool,
    /// Whether it measures how quick something is, and wants the machine for itself.
    pub alone: bool,
    /// Does it, and tells how often what happened. Panics when something happened that must not.
    pub run: fn(&Run) -> Tally,
}

/// What a row is told.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// How often.
    pub count: u64,
    /// Where its randomness comes from.
    pub seed: u64,
    /// Whether this is the whole form.
    pub soak: bool,
}

/// How often what happened: "60 cycles, 0 lost".
#[derive(Clone, Debug, Default)]
pub struct Tally(Vec<String>);

/// What all rows told: printed and kept in a file when the last of them ended.
#[derive(Clone, Default)]
pub struct Summary(Arc<Mutex<Told>>);

#[derive(Default)]
struct Told {
    /// The program whose rows they are.
    program: String,
    /// Rows that will run.
    expected: usize,
    lines: Vec<String>,
}

/// A row with these counts.
pub const fn row(
    id: &'static str,
    what: &'static str,
    (short, soak): (u64, u64),
    run: fn(&Run) -> Tally,
) -> Row {
    Row { id, what, short, soak, namespace: false, alone: false, run }
}

impl Row {
    /// The same in a network namespace of its own, where the machine allows that.
    #[must_use]
    pub const fn in_namespace(mut self) -> Self {
        self.namespace = true;
        self
    }

    /// The same while nothing else runs: a row of the program `measured`.
    #[must_use]
    pub const fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    /// The test that runs it and adds its line to the summary.
    pub fn trial(self, soak: bool, seed: u64, summary: &Summary) -> Trial {
        let summary = summary.clone();
        let name = format!("{} {}", self.id, self.what);
        Trial::test(name.clone(), move || {
            if self.namespace && namespace::possible() {
                return namespace::run(&name, seed).map(|line| summary.add(line)).map_err(|line| {
                    summary.add(line.lines().last().unwrap_or_default().to_owned());
                    Failed::from(line)
                });
            }
            let run = Run { count: if soak { self.soak } else { self.short }, seed, soak };
            let begun = Instant::now();
            // Nothing of the row is looked at after it broke.
            let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (self.run)(&run)));
            let end = format!("seed {seed}, commit {}, {} s", commit(), begun.elapsed().as_secs());
            match told {
                Ok(tally) => {
                    summary.add(format!("{name}: {tally}, {end}"));
                    Ok(())
                }
                Err(panic) => {
                    let why = panic
                        .downcast_ref::<String>()
                        .map(String::as_str)
                        .or_else(|| panic.downcast_ref::<&str>().copied())
                        .unwrap_or("?");
                    summary.add(format!("{name}: FAILED of {} times, {end}", run.count));
                    Err(Failed::from(format!("{why}\n{name}: {end}")))
                }
            }
        })
    }
}

impl Run {
    /// Randomness of this run's seed; `salt` tells apart what happens side by side.
    pub fn rng(&self, salt: u64) -> StdRng {
        StdRng::seed_from_u64(self.seed ^ salt.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// Divides its times among `lanes`.
    pub fn shares(&self, lanes: u64) -> impl Iterator<Item = u64> {
        let (each, rest) = (self.count / lanes, self.count % lanes);
        (0..lanes).map(move |lane| each + u64::from(lane < rest))
    }

    /// Divides its times among `lanes` that work side by side; `work` is given the lane and its share.
    pub fn side_by_side<T: Send>(&self, lanes: u64, work: impl Fn(u64, u64) -> T + Sync) -> Vec<T> {
        let work = &work;
        std::thread::scope(|scope| {
            let shares = (0..lanes).zip(self.shares(lanes));
            let threads: Vec<_> =
                shares.map(|(lane, share)| scope.spawn(move || work(lane, share))).collect();
            threads.into_iter().map(|t| t.join().unwrap_or_else(|p| std::panic::resume_unwind(p))).collect()
        })
    }
}

impl Tally {
    /// Begins with how often.
    pub fn of(count: u64, what: &str) -> Self {
        Self::default().and(count, what)
    }

    /// And something else.
    #[must_use]
    pub fn and(mut self, count: u64, what: &str) -> Self {
        self.0.push(format!("{count} {what}"));
        self
    }

    /// And something that is a time.
    #[must_use]
    pub fn took(mut self, what: &str, time: Duration) -> Self {
        self.0.push(format!("{what} {:.1} s", time.as_secs_f64()));
        self
    }

    /// And a remark.
    #[must_use]
    pub fn note(mut self, text: impl Into<String>) -> Self {
        self.0.push(text.into());
        self
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}

impl Summary {
    /// So many rows of that program will tell.
    pub fn expect(&self, program: &str, rows: usize) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (told.program, told.expected) = (program.to_owned(), rows);
    }

    #[expect(clippy::print_stdout, reason = "the table belongs to the test program's output")]
    fn add(&self, line: String) {
        println!("{line}");
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.lines.push(line);
        if told.lines.len() < told.expected || namespace::inside() {
            return;
        }
        told.lines.sort();
        let table: String = told.lines.iter().map(|line| format!("{line}\n")).collect();
        println!("\nAll rows of {}:\n{table}", told.program);
        let kept = format!("{KEPT}/{}-summary.txt", told.program);
        if let Err(error) = std::fs::write(&kept, table) {
            eprintln!("the summary could not be kept in {kept}: {error}");
        }
    }
}

/// Where the summaries are kept.
const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target");

/// The commit that is tested, with a mark when the files differ from it.
pub fn commit() -> String {
    let git = |args: &[&str]| {
        let out = Command::new("git").args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output();
        out.ok().filter(|o| o.status.success()).map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short", "HEAD"]) else { return "unknown".to_owned() };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|s| !s.is_empty());
    if changed { format!("{commit}+changes") } else { commit }
}
