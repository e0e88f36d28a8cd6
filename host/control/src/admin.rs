//! What people ask for: agents, monitors, results and gaps, as the API and the page show them.

use std::collections::{BTreeMap, HashMap, HashSet};

use wire::admin::{
    AgentCreated, AgentState, AgentView, Apply, ApplyAnswer, CreateAgent, GapView, LocationState,
    MonitorView, ResultView, ResultsPage, Transport,
};
use wire::config::LIMIT;
use wire::event::AgentEventKind;
use wire::push::Push;
use wire::{AgentId, Mistake, MonitorId, Problem, Timestamp, signature};

use crate::agents::{Agent, Device, Setup, name_mistake};
use crate::alert::{Channel, channel};
use crate::assign;
use crate::control::{Control, Registry, Written, failed, lock};
use crate::identity;
use crate::judge::{self, Bar};
use crate::monitors::{self, Monitor, Parsed};
use crate::store::{Filter, KeptGap, Row};
use crate::uplink::invalid;

/// An apply that has no mistake: its monitors, and its channels where it names them.
type Read = (Vec<Parsed>, Option<Vec<Channel>>);

/// Which results are wanted, as people name them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) monitor: Option<String>,
    pub(crate) agent: Option<String>,
    pub(crate) since: Option<Timestamp>,
    pub(crate) limit: usize,
}

impl Control {
    /// Makes an agent and its setup token.
    pub(crate) fn create_agent(&self, wanted: &CreateAgent) -> Result<AgentCreated, Problem> {
        let names = [("/agent", &wanted.agent), ("/location", &wanted.location)];
        let mistakes = names.iter().filter_map(|(at, name)| {
            name_mistake(name).map(|message| Mistake { at: (*at).to_owned(), message })
        });
        let mistakes: Vec<_> = mistakes.collect();
        if !mistakes.is_empty() {
            return Err(invalid(mistakes));
        }
        let now = self.now().wall;
        let ttl_ms = i64::try_from(self.parts.setup_token_ttl.as_millis()).unwrap_or(i64::MAX);
        let expires_at = now.plus_millis(ttl_ms);
        let setup_token = identity::token("pst_");
        let agent = Agent {
            id: AgentId(uuid::Uuid::new_v4()),
            name: wanted.agent.clone(),
            location: wanted.location.clone(),
            created_at: now,
            setup: Setup { sha256: signature::token_sha256(&setup_token), expires_at },
            device: None,
        };
        self.change(|registry| {
            if registry.agents.contains_key(&agent.name) {
                let detail =
                    format!("agent {} exists already: choose another name, or delete it first", agent.name);
                return Err(Problem::new(Problem::CONFLICT, detail));
            }
            registry.agents_mut().insert(agent.name.clone(), agent.clone());
            Ok((vec![Written::Agent(agent, false)], ()))
        })?;
        let CreateAgent { agent, location } = wanted.clone();
        Ok(AgentCreated { agent, location, setup_token, expires_at })
    }

    /// All agents, by name.
    pub(crate) fn agents(&self) -> Vec<AgentView> {
        self.registry().agents.values().map(|agent| self.agent_view(agent)).collect()
    }

    fn agent_view(&self, agent: &Agent) -> AgentView {
        let presence = lock(&self.presence).get(&agent.id).copied().unwrap_or_default();
        let forked = lock(&self.sessions).is_forked(agent.id, self.now().up_ms);
        let state = match &agent.device {
            None => AgentState::Created,
            Some(device) if device.revoked => AgentState::Revoked,
            Some(_) if self.wants_approval(agent) => AgentState::Approval,
            Some(_) if forked => AgentState::Forked,
            Some(_) if self.is_connected(agent.id) => AgentState::Connected,
            Some(_) => AgentState::Away,
        };
        AgentView {
            agent: agent.name.clone(),
            id: agent.device.as_ref().map(|_| agent.id),
            location: agent.location.clone(),
            state,
            last_seen: presence.seen_at,
            version: agent.device.as_ref().map(|d| d.version.clone()),
            pending: presence.pending,
            transport: [AgentState::Connected, AgentState::Forked].contains(&state).then(|| {
                let streams = lock(&self.pushes).has_stream(agent.id);
                if streams { Transport::Stream } else { Transport::Requests }
            }),
            created_at: agent.created_at,
            warnings: lock(&self.warnings).of(agent.id),
            recoveries: agent.device.as_ref().map_or(0, |d| d.recoveries),
        }
    }

    /// Revokes an agent: it stops, keeps its identity and what it recorded, and asks once a minute.
    pub(crate) fn revoke_agent(&self, name: &str) -> Result<AgentView, Problem> {
        let detail = "revoked by its owner: it stops, and keeps its identity and what it recorded".to_owned();
        self.admit_device(name, AgentEventKind::Revoked, detail, |device, _| device.revoked = true)
    }

    /// Asks an agent that is connected for a new token now.
    pub(crate) fn rotate_agent(&self, name: &str) -> Result<AgentView, Problem> {
        let registry = self.registry();
        let Some(agent) = registry.agents.get(name) else {
            return Err(no_such("agent", name, registry.agents.keys()));
        };
        // What waits for a session that begins is forgotten: a push reaches only one that has begun.
        if !agent.is_wanted() || !lock(&self.sessions).is_live(agent.id, self.now().up_ms) {
            let detail = format!(
                "agent {name} is not connected: it makes a new token by itself once it was away for a week"
            );
            return Err(Problem::new(Problem::CONFLICT, detail));
        }
        self.push(agent.id, Push::Rotate);
        Ok(self.agent_view(agent))
    }

    /// Approves an agent: one that was revoked, and one that was silent for too long.
    pub(crate) fn approve_agent(&self, name: &str) -> Result<AgentView, Problem> {
        let detail = "approved by its owner".to_owned();
        self.admit_device(name, AgentEventKind::Approved, detail, |device, now| {
            device.revoked = false;
            device.approved_at = now;
        })
    }

    fn admit_device(
        &self,
        name: &str,
        kind: AgentEventKind,
        detail: String,
        update: impl FnOnce(&mut Device, Timestamp),
    ) -> Result<AgentView, Problem> {
        let now = self.now().wall;
        let agent = self.change(|registry| {
            let Some(agent) = registry.agents_mut().get_mut(name) else {
                return Err(no_such("agent", name, registry.agents.keys()));
            };
            let Some(device) = &mut agent.device else {
                let detail = format!("agent {name} is not enrolled: its setup token is still to be used");
                return Err(Problem::new(Problem::CONFLICT, detail));
            };
            update(device, now);
            let agent = agent.clone();
            Ok((vec![Written::Agent(agent.clone(), true), agent.event(kind, detail, now)], agent))
        })?;
        self.push(agent.id, Push::Hello);
        Ok(self.agent_view(&agent))
    }

    /// Deletes an agent and its identity; its results stay.
    pub(crate) fn delete_agent(&self, name: &str) -> Result<(), Problem> {
        // Held from here on: a batch of it that is under way is stored before, or refused.
        let mut progress = lock(&self.progress);
        let id = self.change(|registry| match registry.agents_mut().remove(name) {
            Some(agent) => Ok((vec![Written::AgentGone(agent.id)], agent.id)),
            None => Err(no_such("agent", name, registry.agents.keys())),
        })?;
        progress.cursors.remove(&id);
        progress.ahead.remove(&id);
        drop(progress);
        lock(&self.sessions).end(id);
        lock(&self.challenges).forget(id);
        lock(&self.presence).remove(&id);
        lock(&self.warnings).end(id);
        lock(&self.told_events).forget(id);
        lock(&self.pushes).end(id);
        // Whoever carries its pushes ends.
        self.pushed.send_modify(|n| *n += 1);
        Ok(())
    }

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

pub(crate) fn no_such<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a String>) -> Problem {
    let known: Vec<_> = known.map(String::as_str).collect();
    let hint =
        monitors::nearest(name, &known).map_or(String::new(), |near| format!(": did you mean {near}?"));
    Problem::new(Problem::NOT_FOUND, format!("there is no {what} {name:?}{hint}"))
}

/// Gaps that a bar looks at: the newest ones.
const GAPS_OF_A_BAR: usize = 1000;

const MIB: usize = 1024 * 1024;
