//! From an assignment to something that can run: the plugin found, the configuration completed, the grant computed.
//!
//! One bad monitor stays a monitor: it gives results of state `error` that say why, and the others go on.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use sandbox::Plugin;
use sandbox::bundled::Plugins;
use serde_json::{Map, Value};
use wire::MonitorId;
use wire::config::Assignment;
use wire::manner::{AddressMode, Manner};

use crate::attempt;
use crate::schedule::{SHORTEST, Wanted};
use crate::shared::{Config, Shared};
use crate::told::Told;

/// All monitors of one configuration.
pub(crate) type Monitors = HashMap<MonitorId, Arc<Monitor>>;

/// A monitor, ready to run or with the reason why it cannot.
#[derive(Debug)]
pub(crate) struct Monitor {
    /// Which.
    pub(crate) id: MonitorId,
    /// For messages.
    pub(crate) name: String,
    /// From start to start.
    pub(crate) interval: Duration,
    /// From resolve to verdict.
    pub(crate) timeout: Duration,
    /// Of the assignment.
    pub(crate) digest: String,
    /// How it is run, whatever its check.
    pub(crate) manner: Arc<Manner>,
    /// What a run needs.
    pub(crate) work: Result<Work, Broken>,
}

/// What a run needs beside its secrets.
#[derive(Debug)]
pub(crate) struct Work {
    /// What runs.
    pub(crate) plugin: Arc<Plugin>,
    /// With defaults filled in and secrets as references.
    pub(crate) config: Config,
    /// What may be reached.
    pub(crate) grant: Arc<net::Grant>,
    /// What `config` refers to.
    pub(crate) secrets: BTreeSet<String>,
    /// What the manner refers to, which the plugin has no part in.
    pub(crate) own_secrets: BTreeSet<String>,
    /// The names that `config` dials, for whoever wants each of their addresses.
    pub(crate) targets: Vec<net::Endpoint>,
}

/// Why a monitor cannot run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Broken {
    /// "config", "plugin.unknown".
    pub(crate) code: &'static str,
    /// For a person.
    pub(crate) summary: String,
}

/// Prepares every monitor of a configuration, keeping those of `before` that did not change.
pub(crate) fn prepare(told: &Told, plugins: &Plugins, before: &Monitors) -> Monitors {
    let mut shared = Shared::of(before);
    let mut prepared = Monitors::new();
    told.monitors(|common, assignment| {
        let kept = before.get(&assignment.id).filter(|kept| is_same(kept, &assignment)).cloned();
        let common = common.get(&assignment.check);
        let ready = kept.unwrap_or_else(|| Arc::new(monitor(&assignment, common, plugins, &mut shared)));
        prepared.insert(assignment.id, ready);
    });
    prepared.shrink_to_fit();
    prepared
}

/// What the schedule needs to know of them.
pub(crate) fn wanted(monitors: &Monitors) -> impl Iterator<Item = Wanted> {
    use std::hash::{DefaultHasher, Hash, Hasher};
    monitors.values().map(|monitor| {
        let mut hasher = DefaultHasher::new();
        monitor.digest.hash(&mut hasher);
        let interval = u64::try_from(monitor.interval.as_millis()).unwrap_or(u64::MAX);
        Wanted { monitor: monitor.id, interval, digest: hasher.finish() }
    })
}

fn is_same(kept: &Monitor, assignment: &Assignment) -> bool {
    kept.digest == assignment.digest
        && kept.name == assignment.name
        && kept.interval == Duration::from_millis(assignment.interval_ms.clamp(SHORTEST, LONGEST))
        && kept.timeout == Duration::from_millis(assignment.timeout_ms)
}

/// What the monitors of a check have where they do not say otherwise.
type Members = Map<String, Value>;

fn monitor(
    assignment: &Assignment,
    common: Option<&Members>,
    plugins: &Plugins,
    shared: &mut Shared,
) -> Monitor {
    Monitor {
        id: assignment.id,
        interval: Duration::from_millis(assignment.interval_ms.clamp(SHORTEST, LONGEST)),
        timeout: Duration::from_millis(assignment.timeout_ms),
        work: work(assignment, common, plugins, shared),
        name: assignment.name.clone(),
        digest: assignment.digest.clone(),
        manner: shared.manner(&assignment.manner),
    }
}

fn work(
    assignment: &Assignment,
    common: Option<&Members>,
    plugins: &Plugins,
    shared: &mut Shared,
) -> Result<Work, Broken> {
    let Assignment { interval_ms, timeout_ms, .. } = assignment;
    if !(SHORTEST..=LONGEST).contains(interval_ms) {
        return Err(Broken::config(format!("interval: found {interval_ms} ms, expected 1 s to 365 days")));
    }
    if *timeout_ms == 0 || timeout_ms >= interval_ms {
        return Err(Broken::config(format!(
            "timeout: found {timeout_ms} ms, expected more than 0 and less than the interval of {interval_ms} ms"
        )));
    }
    let plugin = plugins
        .find(&assignment.check)
        .map_err(|unknown| Broken { code: "plugin.unknown", summary: unknown.to_string() })?;
    let config = whole(&assignment.config, common);
    let config = plugin.schema.complete(&config).map_err(|m| Broken::mistakes(&m))?;
    let mut grant = plugin.schema.grant(&config, &assignment.allow).map_err(|m| Broken::mistakes(&m))?;
    grant.resolvers.extend(attempt::name_servers(&assignment.manner));
    let secrets = plugin.schema.secret_names(&config);
    let own_secrets = assignment.manner.secret_names();
    let targets = match assignment.manner.address_mode {
        AddressMode::All => attempt::targets(plugin, &config),
        AddressMode::Any | AddressMode::First => Vec::new(),
    };
    let Value::Object(completed) = &config else {
        return Err(Broken::config("config: a check takes an object".to_owned()));
    };
    let config = shared.config(completed, common);
    Ok(Work { plugin: plugin.clone(), config, grant: grant.into(), secrets, own_secrets, targets })
}

/// A configuration with what is common beneath it.
fn whole(own: &Value, common: Option<&Members>) -> Value {
    match (own, common) {
        (Value::Object(own), Some(common)) => {
            let mut whole = common.clone();
            whole.extend(own.iter().map(|(key, value)| (key.clone(), value.clone())));
            whole.into()
        }
        _ => own.clone(),
    }
}

impl Broken {
    fn config(summary: String) -> Self {
        Self { code: "config", summary }
    }

    fn mistakes(mistakes: &[sandbox::Mistake]) -> Self {
        Self::config(mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    }
}

/// A year, in milliseconds.
const LONGEST: u64 = 365 * 24 * 3_600_000;

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use wire::config::Configuration;

    use super::*;
    use crate::told::tests::told;

    fn assignment(interval_ms: u64, timeout_ms: u64, check: &str) -> Assignment {
        Assignment {
            id: MonitorId(Uuid::from_u128(1)),
            name: "shop".into(),
            check: check.into(),
            interval_ms,
            timeout_ms,
            config: Value::Null,
            allow: Vec::new(),
            manner: Manner::default(),
            labels: Default::default(),
            digest: "d".into(),
        }
    }

    fn configuration(monitors: Vec<Assignment>) -> Told {
        told(&Configuration { version: 1, common: Default::default(), monitors })
    }

    #[test]
    fn what_a_monitor_says_itself_stands_before_what_is_common() {
        let common = serde_json::json!({"method": "GET", "port": 80});
        let own = serde_json::json!({"method": "PUT", "url": "/"});
        assert_eq!(
            whole(&own, common.as_object()),
            serde_json::json!({"method": "PUT", "port": 80, "url": "/"})
        );
        assert_eq!((whole(&own, None), whole(&Value::Null, common.as_object())), (own, Value::Null));
    }

    #[test]
    fn a_bad_monitor_says_the_bound_or_the_name_and_keeps_a_place_in_the_schedule() {
        for (interval, timeout, check, code, text) in [
            (0, 0, "http", "config", "expected 1 s"),
            (1, 1, "http", "config", "expected 1 s"),
            (u64::MAX, 1, "http", "config", "365 days"),
            (1_000, 1_000, "http", "config", "less than the interval"),
            (1_000, 0, "http", "config", "more than 0"),
            (5_000, 1_000, "htp", "plugin.unknown", "htp"),
        ] {
            let configuration = configuration(vec![assignment(interval, timeout, check)]);
            let monitors = prepare(&configuration, &Plugins::default(), &Monitors::new());
            let broken = monitors.values().next().unwrap().work.as_ref().unwrap_err();
            assert_eq!(broken.code, code);
            assert!(broken.summary.contains(text), "{}", broken.summary);
            let wanted = wanted(&monitors).next().unwrap();
            assert!((SHORTEST..=LONGEST).contains(&wanted.interval));
        }
    }

    #[test]
    fn what_did_not_change_is_not_prepared_again() {
        let configuration = |digest: &str| {
            configuration(vec![Assignment { digest: digest.into(), ..assignment(5_000, 1_000, "x") }])
        };
        let plugins = Plugins::default();
        let first = prepare(&configuration("a"), &plugins, &Monitors::new());
        let same = prepare(&configuration("a"), &plugins, &first);
        let changed = prepare(&configuration("b"), &plugins, &same);
        let id = MonitorId(Uuid::from_u128(1));
        assert!(Arc::ptr_eq(&first[&id], &same[&id]));
        assert!(!Arc::ptr_eq(&same[&id], &changed[&id]));
    }
}
