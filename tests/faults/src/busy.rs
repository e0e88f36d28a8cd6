//! Who used the processors while something was measured: we, or somebody else on the same machine. A measure that missed its target
//! while others were at work says nothing, and is taken again; one that met it says all.

use std::fs;

/// Since when.
pub struct Watch {
    begun: Ticks,
    pids: Vec<u32>,
}

/// Processor time of the whole machine and of some processes, in the same unit.
#[derive(Clone, Copy, Debug)]
struct Ticks {
    all: u64,
    busy: u64,
    ours: u64,
}

impl Watch {
    /// From now on; these processes and this one are not others. They must live until it is asked.
    pub fn begin(others: impl IntoIterator<Item = u32>) -> Self {
        let pids: Vec<u32> = others.into_iter().chain([std::process::id()]).collect();
        Self { begun: Ticks::now(&pids), pids }
    }

    /// The share of the machine that others used since, in percent.
    pub fn others(&self) -> u64 {
        Ticks::now(&self.pids).others_since(self.begun)
    }
}

impl Ticks {
    fn now(pids: &[u32]) -> Self {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let (all, busy) = machine(stat.lines().next().unwrap_or_default());
        let of = |pid: &u32| process(&fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default());
        Self { all, busy, ours: pids.iter().map(of).sum() }
    }

    fn others_since(self, begun: Self) -> u64 {
        let others = (self.busy - begun.busy).saturating_sub(self.ours.saturating_sub(begun.ours));
        100 * others / (self.all - begun.all).max(1)
    }
}

/// All and busy of the line `cpu user nice system idle iowait irq softirq steal guest guest_nice`. A guest's time is in its user's.
fn machine(line: &str) -> (u64, u64) {
    let ticks: Vec<u64> = line.split_whitespace().skip(1).take(8).filter_map(|n| n.parse().ok()).collect();
    let idle = ticks.iter().skip(3).take(2).sum::<u64>();
    let all = ticks.iter().sum::<u64>();
    (all, all - idle)
}

/// User and system time: two of the fields behind the name, which stands in brackets and may hold anything.
fn process(stat: &str) -> u64 {
    let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    fields.split(' ').skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_neither_idle_nor_ours_is_others() {
        assert_eq!(machine("cpu  10 1 4 70 5 2 3 5 9 9"), (100, 25));
        assert_eq!(process("7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 31 11 0 0 20 0"), 42);
        let begun = Ticks { all: 1_000, busy: 300, ours: 100 };
        assert_eq!(Ticks { all: 1_200, busy: 400, ours: 160 }.others_since(begun), 20);
    }
}
