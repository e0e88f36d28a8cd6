//! The tcp check.
use sdk::{Context, Outcome, Stop, net::{Endpoint, Family}, tcp};

#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// The name or address to connect to.
    #[schemars(extend("x-picket-target" = "host"))]
    host: String,
    /// The port to connect to.
    #[schemars(range(min = 1))]
    port: u16,
}

fn run(config: Config, _: &Context) -> Result<Outcome, Stop> {
    tcp::connect(&Endpoint { host: config.host, port: config.port }, Family::Any)?;
    Ok(Outcome::up("connected"))
}

sdk::check! { name: "tcp", summary: "Something listens.", config: Config, metrics: [], run: run }
