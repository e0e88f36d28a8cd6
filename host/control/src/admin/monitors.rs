//! Monitors: applied, deleted, and shown with their states and the bars of their last hour.

use std::collections::{BTreeMap, HashMap, HashSet};

use wire::admin::{Apply, ApplyAnswer, LocationState, MonitorView};
use wire::config::LIMIT;
use wire::{AgentId, Mistake, MonitorId, Problem, Timestamp};

use super::no_such;
use crate::alert::{Channel, channel};
use crate::assign;
use crate::control::{Control, Registry, Written, failed, lock};
use crate::judge::{self, Bar};
use crate::monitors::{self, Monitor, Parsed};
use crate::store::Row;
use crate::uplink::invalid;

/// An apply that has no mistake: its monitors, and its channels where it names them.
type Read = (Vec<Parsed>, Option<Vec<Channel>>);

impl Control {
    /// Applies monitors and channels: all of them or none.
    pub(crate) fn apply(&self, apply: &Apply) -> Result<ApplyAnswer, Problem> {
        let (monitors, channels) = self.read(apply).map_err(invalid)?;
        let now = self.now().wall;
        let (answer, gone) = self.change(|registry| {
            let new_id = || MonitorId(uuid::Uuid::new_v4());
            let plan = monitors::plan(&registry.monitors, monitors, apply.prune, now, new_id);
            let told = match channels {
                Some(channels) => channel::plan(&registry.channels, channels, apply.prune),
                None => channel::Plan::default(),
            };
            let answer = ApplyAnswer { changes: plan.changes, channels: told.changes };
            let before = registry.clone();
            let gone: Vec<_> = plan.gone.iter().map(|m| m.id).collect();
            let deleted = plan.gone.into_iter().map(|m| {
                registry.monitors_mut().remove(&m.spec.name);
                Written::MonitorGone(m.id)
            });
            let mut written: Vec<_> = deleted.collect();
            for monitor in plan.put {
                registry.monitors_mut().insert(monitor.spec.name.clone(), monitor.clone());
                written.push(Written::Monitor(monitor));
            }
            let too_large = too_large(&before, registry);
            if !too_large.is_empty() {
                return Err(invalid(too_large));
            }
            if apply.dry_run {
                return Ok((vec![], (answer, vec![])));
            }
            for name in told.gone {
                registry.channels_mut().remove(&name);
                written.push(Written::ChannelGone(name));
            }
            for channel in told.put {
                registry.channels_mut().insert(channel.name.clone(), channel.clone());
                written.push(Written::Channel(channel));
            }
            Ok((written, (answer, gone)))
        })?;
        self.forget_latest(&gone);
        Ok(answer)
    }

    /// Reads all of an apply, or finds every mistake in it.
    fn read(&self, apply: &Apply) -> Result<Read, Vec<Mistake>> {
        let monitors = monitors::parse_all(&apply.monitors, self.parts.checks.as_ref());
        let channels = apply.channels.as_deref().map(channel::parse_all).transpose();
        let registry = self.registry();
        let stay = registry.channels.keys().filter(|_| apply.channels.is_none() || !apply.prune);
        let listed = apply.channels.iter().flatten().filter_map(|c| c["name"].as_str());
        let known: Vec<_> = stay.map(String::as_str).chain(listed).collect();
        let unknown = channel::unknown(&apply.monitors, &known);
        match (monitors, channels) {
            (Ok(monitors), Ok(channels)) if unknown.is_empty() => Ok((monitors, channels)),
            (monitors, channels) => {
                let found = [monitors.err(), channels.err(), Some(unknown)];
                Err(found.into_iter().flatten().flatten().collect())
            }
        }
    }

    /// Deletes a monitor; its results stay.
    pub(crate) fn delete_monitor(&self, name: &str) -> Result<(), Problem> {
        let id = self.change(|registry| match registry.monitors_mut().remove(name) {
            Some(monitor) => Ok((vec![Written::MonitorGone(monitor.id)], monitor.id)),
            None => Err(no_such("monitor", name, registry.monitors.keys())),
        })?;
        self.forget_latest(&[id]);
        Ok(())
    }

    fn forget_latest(&self, gone: &[MonitorId]) {
        let mut progress = lock(&self.progress);
        gone.iter().for_each(|id| drop(progress.latest.remove(id)));
        gone.iter().for_each(|id| lock(&self.memos).forget(*id));
    }

    /// All monitors, by name.
    pub(crate) fn monitors(&self) -> Vec<MonitorView> {
        let registry = self.registry();
        self.monitor_views(&registry, registry.all_monitors())
    }

    /// One monitor, with its uptime.
    pub(crate) fn monitor(&self, name: &str) -> Result<MonitorView, Problem> {
        let registry = self.registry();
        let Some(monitor) = registry.monitor_named(name) else {
            return Err(no_such("monitor", name, registry.monitors.keys()));
        };
        let mut view = self.monitor_views(&registry, [monitor]).remove(0);
        let mut uptimes = self.uptime(monitor)?;
        view.uptime = uptimes.all;
        for place in &mut view.by_location {
            place.uptime = uptimes.by_location.remove(&place.location).unwrap_or_default();
        }
        Ok(view)
    }

    fn monitor_views<'a>(
        &self,
        registry: &Registry,
        monitors: impl IntoIterator<Item = &'a Monitor>,
    ) -> Vec<MonitorView> {
        let present = registry.agents.values().filter(|a| a.is_wanted() && self.is_present(a.id));
        let attended: HashSet<_> = present.map(|a| a.location.as_str()).collect();
        let now = self.now().wall;
        // Once for all: a batch that is stored holds it until it is on disk.
        let progress = lock(&self.progress);
        let view = |monitor| monitor_view(monitor, progress.latest.get(&monitor.id), &attended, now);
        monitors.into_iter().map(view).collect()
    }

    /// What monitors show of the last hour, a minute each.
    pub(crate) fn bars(&self, monitors: &[&Monitor]) -> Result<Vec<Bar>, Problem> {
        let mut lost = HashMap::<_, Vec<_>>::new();
        for kept in self.parts.store.gaps(None, GAPS_OF_A_BAR).map_err(|e| failed(&e))? {
            if let Some(times) = kept.gap.first_at.zip(kept.gap.last_at) {
                lost.entry(kept.agent).or_default().push(times);
            }
        }
        monitors.iter().map(|monitor| self.bar(monitor, &lost)).collect()
    }

    fn bar(
        &self,
        monitor: &Monitor,
        lost: &HashMap<AgentId, Vec<(Timestamp, Timestamp)>>,
    ) -> Result<Bar, Problem> {
        let now = self.now().wall;
        let from = judge::bar_from(monitor, now);
        let points =
            self.parts.store.history(monitor.id, from, now.plus_millis(1)).map_err(|e| failed(&e))?;
        let agents: HashSet<_> = points.iter().map(|p| p.agent).collect();
        let lost: Vec<_> = agents.iter().filter_map(|agent| lost.get(agent)).flatten().copied().collect();
        Ok(judge::bar(monitor, &points, &lost, now))
    }
}

/// The locations whose monitors grew beyond what an agent takes at once.
fn too_large(before: &Registry, after: &Registry) -> Vec<Mistake> {
    let over: Vec<_> =
        assign::sizes(after.all_monitors()).into_iter().filter(|(_, bytes)| *bytes > LIMIT).collect();
    // What was too large before may shrink step by step.
    let before = if over.is_empty() { BTreeMap::new() } else { assign::sizes(before.all_monitors()) };
    let grew =
        over.into_iter().filter(|(location, bytes)| before.get(location).is_none_or(|was| bytes > was));
    let mistake = |(location, bytes): (&str, usize)| Mistake {
        at: "/monitors".to_owned(),
        message: format!(
            "location {location:?} has monitors of {} MiB, and one agent, which may have to run them all, takes at most {} MiB: give some of \
             them another location",
            bytes.div_ceil(MIB),
            LIMIT / MIB,
        ),
    };
    grew.map(mistake).collect()
}

/// What a monitor shows by its latest results; `attended` are the locations at which an agent is present.
fn monitor_view(
    monitor: &Monitor,
    latest: Option<&BTreeMap<String, Row>>,
    attended: &HashSet<&str>,
    now: Timestamp,
) -> MonitorView {
    let state_at = |location: &String| {
        let row = latest.and_then(|latest| latest.get(location));
        LocationState {
            location: location.clone(),
            agent: row.map(|r| r.agent_name.clone()),
            state: judge::shown(monitor, row, attended.contains(location.as_str()), now),
            code: row.map(|r| r.result.code.clone()),
            summary: row.map(|r| r.result.summary.clone()),
            last_result_at: row.map(Row::at),
            uptime: vec![],
        }
    };
    let by_location: Vec<_> = monitor.spec.locations.iter().map(state_at).collect();
    let state = judge::worst(by_location.iter().map(|l| l.state));
    MonitorView { id: monitor.id, spec: monitor.spec.clone(), state, by_location, uptime: vec![] }
}

/// Gaps that a bar looks at: the newest ones.
const GAPS_OF_A_BAR: usize = 1000;

const MIB: usize = 1024 * 1024;
