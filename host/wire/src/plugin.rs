//! What the control plane tells about the plugins that it knows.

use serde::{Deserialize, Serialize};

/// A plugin as `GET /v1/plugins` lists it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PluginView {
    /// "http".
    pub name: String,
    /// Semantic version.
    pub version: String,
    /// One sentence.
    pub summary: String,
    /// "sha256:" and the digest of the component.
    pub digest: String,
    /// JSON Schema 2020-12 of the configuration.
    #[schema(value_type = Object)]
    pub config_schema: serde_json::Value,
}
