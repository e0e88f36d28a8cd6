//! The cases that find a healthy server up, again and again and many at once, while others use the processors: what is up once must be
//! up always. Owns the repetition; what a case is and what it must find is its file's.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::bench::Bench;
use crate::case::{State, Table};

/// The healthy cases of one check.
pub struct Again {
    component: PathBuf,
    /// File and name of a case, with the table that it stands in.
    cases: Vec<(String, Arc<Table>)>,
}

/// How often, and beside how much.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Runs in all, the cases in turn.
    pub runs: usize,
    /// Runs at the same time.
    pub at_once: usize,
    /// Threads that do nothing but use a processor meanwhile.
    pub load: usize,
}

impl Again {
    /// Those of the tables whose cases must find their target up.
    pub fn new(component: PathBuf, tables: &[Arc<Table>]) -> Self {
        let healthy = |table: &Arc<Table>| {
            let up = table.cases.iter().filter(|(_, case)| case.expect.state == State::Up);
            up.map(|(name, _)| (name.clone(), table.clone())).collect::<Vec<_>>()
        };
        Self { component, cases: tables.iter().flat_map(healthy).collect() }
    }

    /// Whether there is anything to repeat.
    pub fn is_empty(&self) -> bool {
        self.cases.is_empty()
    }

    /// Runs them; an error tells the first false verdicts, and how many there were.
    pub fn run(&self, bench: &Bench, effort: Effort) -> Result<(), String> {
        let (next, over) = (AtomicUsize::new(0), AtomicBool::new(false));
        let wrong: Vec<String> = std::thread::scope(|scope| {
            for _ in 0..effort.load {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                });
            }
            let work = || {
                let mut wrong = Vec::new();
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= effort.runs {
                        return wrong;
                    }
                    let (name, table) = &self.cases[n % self.cases.len()];
                    if let Err(error) = bench.check(&self.component, table, &table.cases[name]) {
                        wrong.push(format!("run {n}, {name}: {error}"));
                    }
                }
            };
            let workers: Vec<_> = (0..effort.at_once).map(|_| scope.spawn(work)).collect();
            let wrong = workers
                .into_iter()
                .flat_map(|worker| worker.join().unwrap_or_else(|_| vec!["a run panicked".to_owned()]));
            let wrong = wrong.collect();
            over.store(true, Ordering::Relaxed);
            wrong
        });
        match wrong.is_empty() {
            true => Ok(()),
            false => {
                let some: Vec<_> = wrong.iter().take(5).map(String::as_str).collect();
                Err(format!("{} of {} runs were wrong:\n{}", wrong.len(), effort.runs, some.join("\n")))
            }
        }
    }
}
