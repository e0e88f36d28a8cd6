//! Results and gaps, found by what people name.

use wire::admin::{GapView, ResultView, ResultsPage};
use wire::{AgentId, MonitorId, Problem, Timestamp};

use super::no_such;
use crate::control::{Control, failed};
use crate::store::{Filter, KeptGap, Row};

/// Which results are wanted, as people name them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) monitor: Option<String>,
    pub(crate) agent: Option<String>,
    pub(crate) since: Option<Timestamp>,
    pub(crate) limit: usize,
}

impl Control {
    /// The newest results that match.
    pub(crate) fn results(&self, wanted: &Wanted) -> Result<ResultsPage, Problem> {
        let filter = self.filter(wanted)?;
        let upto = self.parts.store.arrived();
        let mut rows = self.parts.store.newest(&filter, upto, wanted.limit).map_err(|e| failed(&e))?;
        rows.sort_by_key(|r| (r.at(), r.result.id));
        Ok(ResultsPage { results: self.views(rows), cursor: upto.to_string() })
    }

    /// What was stored after a cursor and matches.
    pub(crate) fn results_after(&self, wanted: &Wanted, after: u64) -> Result<ResultsPage, Problem> {
        let filter = self.filter(wanted)?;
        let (rows, upto) = self.parts.store.arrivals(after, &filter, wanted.limit).map_err(|e| failed(&e))?;
        Ok(ResultsPage { results: self.views(rows), cursor: upto.to_string() })
    }

    fn filter(&self, wanted: &Wanted) -> Result<Filter, Problem> {
        let registry = self.registry();
        let monitor = wanted.monitor.as_ref().map(|name| match registry.monitor_named(name) {
            Some(monitor) => Ok(monitor.id),
            None => {
                name.parse().map(MonitorId).map_err(|_| no_such("monitor", name, registry.monitors.keys()))
            }
        });
        let agent = wanted.agent.as_ref().map(|name| match registry.agents.get(name) {
            Some(agent) => Ok(agent.id),
            None => name.parse().map(AgentId).map_err(|_| no_such("agent", name, registry.agents.keys())),
        });
        Ok(Filter { monitor: monitor.transpose()?, agent: agent.transpose()?, since: wanted.since })
    }

    pub(crate) fn views(&self, rows: Vec<Row>) -> Vec<ResultView> {
        let registry = self.registry();
        let view = |row: Row| ResultView {
            monitor: match registry.monitor(row.result.monitor_id) {
                Some(monitor) => monitor.spec.name.clone(),
                None => row.result.monitor_id.to_string(),
            },
            agent: row.agent_name,
            location: row.location,
            epoch: row.position.epoch,
            seq: row.position.seq,
            result: row.result,
            found: row.found,
            received_at: row.received_at,
            delivery: row.delivery,
        };
        rows.into_iter().map(view).collect()
    }

    /// Gaps, newest receipt first.
    pub(crate) fn gaps(&self, agent: Option<String>, limit: usize) -> Result<Vec<GapView>, Problem> {
        let filter = self.filter(&Wanted { agent, ..Wanted::default() })?;
        let gaps = self.parts.store.gaps(filter.agent, limit).map_err(|e| failed(&e))?;
        let view =
            |kept: KeptGap| GapView { agent: kept.agent_name, gap: kept.gap, received_at: kept.received_at };
        Ok(gaps.into_iter().map(view).collect())
    }
}
