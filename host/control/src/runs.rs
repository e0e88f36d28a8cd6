//! Runs that somebody asks for beside the plan: which agents are asked, and what of their results has come. Owns no wait: `api` does.

use std::time::Duration;

use uuid::Uuid;
use wire::admin::{NotRun, ResultView, RunAnswer};
use wire::push::Push;
use wire::{AgentId, MonitorId, Problem};

use crate::admin::no_such;
use crate::control::{Control, failed};
use crate::monitors;
use crate::store::Filter;

/// A run that was asked for.
#[derive(Debug)]
pub(crate) struct Requested {
    request: Uuid,
    monitor: MonitorId,
    /// Everything that arrived up to here was looked at.
    seen: u64,
    /// Location and name of the agents that did not answer yet.
    asked: Vec<(String, String)>,
    results: Vec<ResultView>,
    missing: Vec<NotRun>,
}

impl Control {
    /// Asks one connected agent of each location, or of this one, to run a monitor now.
    pub(crate) fn ask_for_run(&self, name: &str, location: Option<&str>) -> Result<Requested, Problem> {
        let registry = self.registry();
        let Some(monitor) = registry.monitor_named(name) else {
            return Err(no_such("monitor", name, registry.monitors.keys()));
        };
        if !monitor.spec.enabled {
            let detail = format!("monitor {name} is disabled: apply it with enabled: true to run it");
            return Err(Problem::new(Problem::CONFLICT, detail));
        }
        let locations = &monitor.spec.locations;
        if let Some(location) = location.filter(|wanted| !locations.iter().any(|l| l == wanted)) {
            let known: Vec<_> = locations.iter().map(String::as_str).collect();
            let hint = monitors::nearest(location, &known).map_or_else(|| known.join(", "), str::to_owned);
            let detail = format!("monitor {name} does not run at location {location:?}: try {hint}");
            return Err(Problem::new(Problem::NOT_FOUND, detail));
        }
        let mut requested = Requested {
            request: Uuid::new_v4(),
            monitor: monitor.id,
            seen: self.parts.store.arrived(),
            asked: Vec::new(),
            results: Vec::new(),
            missing: Vec::new(),
        };
        for location in locations.iter().filter(|l| location.is_none_or(|wanted| wanted == **l)) {
            match self.runner_at(monitor.id, location) {
                Ok((agent, name)) => {
                    let monitors = vec![monitor.id];
                    self.push(agent, Push::Run { monitors, request: Some(requested.request) });
                    requested.asked.push((location.clone(), name));
                }
                Err(missing) => requested.missing.push(missing),
            }
        }
        Ok(requested)
    }

    /// Looks at what arrived since.
    pub(crate) fn answers(&self, mut requested: Requested) -> Result<Requested, Problem> {
        let filter = Filter { monitor: Some(requested.monitor), ..Filter::default() };
        loop {
            let (rows, upto) =
                self.parts.store.arrivals(requested.seen, &filter, AT_ONCE).map_err(|e| failed(&e))?;
            let more = rows.len() == AT_ONCE;
            requested.seen = upto;
            let ours = rows.into_iter().filter(|row| row.result.request == Some(requested.request));
            for result in self.views(ours.collect()) {
                requested.asked.retain(|(location, _)| *location != result.location);
                requested.results.push(result);
            }
            if !more {
                return Ok(requested);
            }
        }
    }

    /// The agent that runs the monitor there, if it is connected.
    fn runner_at(&self, monitor: MonitorId, location: &str) -> Result<(AgentId, String), NotRun> {
        let (registry, placement) = (self.registry(), self.placement());
        let mut here = registry.agents.values().filter(|a| a.location == location && a.device.is_some());
        let Some(agent) = here.find(|agent| placement.of(agent.id).contains(&monitor)) else {
            let reason = format!("no agent is enrolled at location {location}");
            return Err(NotRun { location: location.to_owned(), agent: None, reason });
        };
        if !self.is_connected(agent.id) {
            let reason = format!("agent {} is not connected", agent.name);
            return Err(NotRun { location: location.to_owned(), agent: Some(agent.name.clone()), reason });
        }
        Ok((agent.id, agent.name.clone()))
    }
}

impl Requested {
    /// Whether nobody is left to answer.
    pub(crate) fn is_answered(&self) -> bool {
        self.asked.is_empty()
    }

    /// What is there after waiting for so long.
    pub(crate) fn answer(self, waited: Duration) -> RunAnswer {
        let late = self.asked.into_iter().map(|(location, agent)| NotRun {
            reason: format!("agent {agent} sent no result within {} s", waited.as_secs()),
            agent: Some(agent),
            location,
        });
        RunAnswer { results: self.results, missing: self.missing.into_iter().chain(late).collect() }
    }
}

/// Arrivals looked at in one step.
const AT_ONCE: usize = 500;
