//! N11: the control plane commits, and its answer is cut after byte k, for every k. The agent sends again, and nothing is there twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::proxy::{Fate, Proxy};
use crate::row::row;
use crate::rows::process::{returns, stop};
use crate::rows::requests_only;
use crate::{Row, Run, Stage, Tally, until};

pub(super) const ROWS: &[Row] =
    &[row("N11", "answers cut after the commit, at every byte", (100, 1_000), cuts)];

/// Agents side by side; each is started, has the answer to its first batch cut, sends it again, and is killed once that was answered:
/// a new process has no patience to lose.
fn cuts(run: &Run) -> Tally {
    let stage = Stage::new("N11");
    let lanes = 5;
    let monitors: Vec<_> = (0..lanes).flat_map(|lane| stage.pages(&format!("dc{lane}"), 4)).collect();
    stage.apply_all(&monitors);
    let (next, longest) = (AtomicU64::new(0), AtomicU64::new(0));
    let recorded =
        run.side_by_side(lanes, |lane, cycles| lane_of_cuts(&stage, lane, cycles, &next, &longest));
    Tally::of(run.count, "answers cut")
        .and(longest.into_inner(), "bytes the longest")
        .and(recorded.iter().sum::<usize>() as u64, "recorded")
        .and(0, "lost")
        .and(0, "twice")
}

fn lane_of_cuts(stage: &Stage, lane: u64, cycles: u64, next: &AtomicU64, longest: &AtomicU64) -> usize {
    let name = format!("edge-{lane}");
    let proxy = Proxy::start(stage.port());
    proxy.policy(requests_only(|_| Fate::Pass));
    let agent = stage.enrol_at(&name, &format!("dc{lane}"), &proxy.url());
    stage.wait_for_result(&name, Duration::from_secs(60), |_| true);
    agent.kill();
    // Whether the answer to be cut was cut, and how often a batch was answered after that.
    let (cut, after) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    for _ in 0..cycles {
        cut.store(0, Ordering::SeqCst);
        after.store(0, Ordering::SeqCst);
        let newest = proxy.exchanges().into_iter().rev().find(|e| e.request.path() == "/v1/results");
        let length = newest.map_or(300, |e| e.answer.raw.len() as u64);
        longest.fetch_max(length, Ordering::SeqCst);
        // Of all lengths, the same number of times; a prime step, so that a short run sees all of the answer too.
        let at = next.fetch_add(1, Ordering::SeqCst) * 89 % length;
        let (cut_now, after_now) = (cut.clone(), after.clone());
        proxy.policy(requests_only(move |request| {
            if request.path() != "/v1/results"
                || request.json()["records"].as_array().is_none_or(Vec::is_empty)
            {
                return Fate::Pass;
            }
            if cut_now.swap(1, Ordering::SeqCst) == 0 {
                return Fate::CutAnswer(at as usize);
            }
            after_now.fetch_add(1, Ordering::SeqCst);
            Fate::Pass
        }));
        let agent = stage.start(&name, &mut stage.agent_at(&name, &proxy.url()));
        until("a batch is sent again after its answer was cut", Duration::from_secs(60), || {
            (after.load(Ordering::SeqCst) >= 2).then_some(())
        });
        agent.kill();
    }
    proxy.policy(requests_only(|_| Fate::Pass));
    let agent = stage.start(&name, &mut stage.agent_at(&name, &proxy.url()));
    returns(stage, &name);
    let whole = stage.whole(&name, Duration::from_secs(60));
    stop(agent);
    whole.recorded
}
