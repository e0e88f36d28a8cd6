//! The checks that there are: the bundled plugins, by their descriptions. Nothing is run here, so no network is behind them.

use std::path::Path;
use std::sync::Arc;

use sandbox::bundled::{self, Plugins};
use sandbox::{Plugin, Sandbox};
use serde_json::Value;
use wire::Mistake;
use wire::plugin::PluginView;

use crate::Error;
use crate::monitors::{Checks, Refused};

/// The bundled plugins.
pub(crate) struct Bundled(Plugins);

impl Bundled {
    /// Loads them from this directory, or from where they usually lie. A file that is no plugin is left out and named in the log.
    pub(crate) async fn load(directory: Option<&Path>, cache: &Path) -> Result<Self, Error> {
        let settings = sandbox::Settings { slots: 4, cache: Some(cache.to_owned()), ..Default::default() };
        let failed = |e: &dyn std::error::Error| Error::Plugins(e.to_string());
        let sandbox = Sandbox::describing(settings).map_err(|e| failed(&e))?;
        let directory = bundled::directory(directory).map_err(|e| failed(&e))?;
        let plugins = bundled::load_all(&sandbox, &directory).await.map_err(|e| failed(&e))?;
        for (path, error) in &plugins.refused {
            tracing::warn!(path = %path.display(), %error, "a plugin is left out");
        }
        let names: Vec<_> = plugins.iter().map(|p| p.description.name.as_str()).collect();
        tracing::info!(directory = %directory.display(), plugins = names.join(", "), "plugins loaded");
        Ok(Self(plugins))
    }

    /// All of them, by name.
    pub(crate) fn views(&self) -> Vec<PluginView> {
        self.0.iter().map(view).collect()
    }
}

fn view(plugin: &Arc<Plugin>) -> PluginView {
    let sandbox::Description { name, version, summary, config_schema, .. } = plugin.description.clone();
    PluginView { name, version, summary, digest: plugin.digest.clone(), config_schema }
}

impl Checks for Bundled {
    /// Called on a thread that may block: a plugin's own rules run in the sandbox.
    fn complete(&self, check: &str, config: &Value, allow: &[String]) -> Result<Value, Refused> {
        let plugin = self.0.find(check).map_err(|e| Refused::Unknown(e.to_string()))?;
        let completed = plugin.schema.complete(config).map_err(|m| Refused::Config(mistakes(m)))?;
        plugin.schema.grant(&completed, &[]).map_err(|m| Refused::Config(mistakes(m)))?;
        if !allow.is_empty() {
            plugin.schema.grant(&completed, allow).map_err(|m| Refused::Allow(within_allow(m)))?;
        }
        let judged = tokio::runtime::Handle::current().block_on(plugin.validate(&completed));
        match judged {
            Ok(found) if found.is_empty() => Ok(completed),
            Ok(found) => Err(Refused::Config(mistakes(found))),
            Err(fault) => {
                let message = format!("the plugin failed at judging the configuration: {fault}");
                Err(Refused::Config(vec![Mistake { at: String::new(), message }]))
            }
        }
    }
}

/// The sandbox says where in the monitor, we say where in the list.
fn within_allow(found: Vec<sandbox::Mistake>) -> Vec<Mistake> {
    let within = |at: String| at.strip_prefix("/allow").map_or(at.clone(), str::to_owned);
    mistakes(found).into_iter().map(|m| Mistake { at: within(m.at), ..m }).collect()
}

fn mistakes(found: Vec<sandbox::Mistake>) -> Vec<Mistake> {
    found.into_iter().map(|m| Mistake { at: m.at, message: m.message }).collect()
}
