//! Write a check for Picket: a configuration struct, one function, and [`check!`].
//!
//! This crate owns the way between the WIT contract and plain Rust: the description with its schema, reading the
//! configuration, building an [`Outcome`], and what becomes of a failed exchange. It does not own any check.
//!
//! ```
//! //! Whether something listens.
//! use sdk::{Context, Outcome, Stop, net::{Endpoint, Family}, tcp};
//!
//! #[derive(serde::Deserialize, schemars::JsonSchema)]
//! #[serde(deny_unknown_fields)]
//! struct Config {
//!     /// The name or address to connect to.
//!     #[schemars(extend("x-picket-target" = "host"))]
//!     host: String,
//!     /// The port to connect to.
//!     #[schemars(range(min = 1))]
//!     port: u16,
//! }
//!
//! fn run(config: Config, _: &Context) -> Result<Outcome, Stop> {
//!     tcp::connect(&Endpoint { host: config.host, port: config.port }, Family::Any)?;
//!     Ok(Outcome::up("connected"))
//! }
//!
//! sdk::check! {
//!     name: "listens",
//!     summary: "Something listens.",
//!     config: Config,
//!     metrics: [],
//!     examples: [r#"{"host": "db.example.com", "port": 5432}"#],
//!     run: run,
//! }
//! # fn main() {}
//! ```
//!
//! Build with `cargo build --target wasm32-wasip2`; the file is the whole plugin. Everything blocks, as the host suspends
//! the guest. Functions of [`tcp`], [`http`], [`dns`], [`regex`], [`oauth2`] and [`secrets`] only exist inside the sandbox:
//! outside of it they panic, so keep what judges the facts apart from what fetches them, and test that with
//! `cargo test --lib`.

pub mod config;
mod options;
mod outcome;
pub mod pattern;
mod schema;
mod stop;

/// The generated side of the contract. For [`check!`] only.
#[doc(hidden)]
#[allow(missing_docs, unsafe_code, unreachable_pub, clippy::all)]
pub mod bindings {
    wit_bindgen::generate!({
        world: "check-with-validator",
        path: "../../wit",
        pub_export_macro: true,
        export_macro_name: "export",
        default_bindings_module: "sdk::bindings",
        additional_derives: [PartialEq],
        additional_derives_ignore: [
            "question", "entry", "options", "defect", "request", "header-value",
            "connection", "session", "certificate", "secret", "response", "answer", "pattern", "token-request",
        ],
        generate_all,
    });
}

pub use bindings::picket::check::verdict::{Failure, Finding, Metric, Mistake, Outcome, State};
pub use bindings::picket::net::{dns, http, log, oauth2, regex, secrets, tcp, tls, types as net};
pub use config::{Duration, Secret};
pub use outcome::EVIDENCE;
pub use pattern::Patterns;
pub use schema::{About, describe, misread, omissions};
pub use stop::{At, Stop, mistakes};

/// What one run gets beside its configuration.
#[derive(Clone, Debug)]
pub struct Context {
    /// From the start of the run to its deadline. The host's own operations fail with `timeout` when it is used up.
    pub budget: std::time::Duration,
    /// Which attempt at the same planned time this is, from 1.
    pub attempt: u32,
    /// The monitor's name, for messages.
    pub monitor: String,
}

/// Makes the crate a check.
///
/// `metrics` lists what `run` may emit as `(name, UCUM unit, description)`; the version is the crate's own. `examples` are
/// configurations that make sense, as JSON: the schema shows them, the reference page prints them, and `picket plugin test` runs
/// each. `validate` is a function of the configuration with the rules that no schema can say, a [`Stop::mistake`] for each that is
/// broken; it is asked when a monitor is applied, without a network, so `run` asks it again. None where there are none. `run` is a
/// function of the configuration and the [`Context`]; its error is anything that becomes a [`Stop`]. Adds tests that every option is
/// documented and every example can be read.
#[macro_export]
macro_rules! check {
    (name: $name:literal, summary: $summary:literal, config: $config:ty, metrics: [$($metric:expr),* $(,)?], $(examples: [$($example:expr),* $(,)?],)? $(validate: $validate:path,)? run: $run:path $(,)?) => {
        #[allow(unsafe_code)]
        const _: () = {
            #[allow(dead_code)]
            struct Check;

            // Outside the sandbox nobody calls the check, but what it consists of is not dead.
            #[allow(dead_code)]
            fn called() {
                let _ = ($run, RULES);
            }

            #[allow(dead_code)]
            const RULES: &[$crate::Rule<$config>] = &[$($validate)?];

            #[allow(dead_code)]
            const ABOUT: $crate::About = $crate::About {
                name: $name,
                version: env!("CARGO_PKG_VERSION"),
                summary: $summary,
                metrics: &[$($metric),*],
                examples: &[$($($example),*)?],
            };

            impl $crate::bindings::exports::picket::check::checker::Guest for Check {
                fn describe() -> $crate::bindings::exports::picket::check::checker::Description {
                    $crate::describe::<$config>(&ABOUT)
                }

                fn run(
                    context: $crate::bindings::exports::picket::check::checker::Context,
                ) -> Result<$crate::Outcome, $crate::Failure> {
                    $crate::run::<$config, _>(context, $run)
                }
            }

            impl $crate::bindings::exports::picket::check::validator::Guest for Check {
                fn validate(config: String) -> Result<(), Vec<$crate::Mistake>> {
                    $crate::validate::<$config>(&config, RULES)
                }
            }

            #[cfg(target_arch = "wasm32")]
            $crate::bindings::export!(Check with_types_in $crate::bindings);
        };

        #[cfg(test)]
        #[test]
        fn every_option_of_the_check_is_documented() {
            assert_eq!($crate::omissions::<$config>(), Vec::<String>::new());
        }

        #[cfg(test)]
        #[test]
        fn every_example_of_the_check_can_be_read() {
            assert_eq!($crate::misread::<$config>(&[$($($example),*)?]), Vec::<String>::new());
        }
    };
}

/// What no schema can say of a configuration. For [`check!`] only.
#[doc(hidden)]
pub type Rule<C> = fn(&C) -> Result<(), Stop>;

/// Reads the configuration and asks the check's own rules. For [`check!`] only.
#[doc(hidden)]
pub fn validate<C>(given: &str, rules: &[Rule<C>]) -> Result<(), Vec<Mistake>>
where
    C: serde::de::DeserializeOwned,
{
    let judged = config::read::<C>(given).map_err(Stop::from);
    match judged.and_then(|config| stop::mistakes(rules.iter().map(|rule| rule(&config)))) {
        Err(Stop::Failure(Failure::InvalidConfig(mistakes))) => Err(mistakes),
        // What else stops a run says nothing about the configuration.
        _ => Ok(()),
    }
}

/// Reads the configuration and runs the check. For [`check!`] only.
#[doc(hidden)]
pub fn run<C, E>(
    given: bindings::exports::picket::check::checker::Context,
    check: fn(C, &Context) -> Result<Outcome, E>,
) -> Result<Outcome, Failure>
where
    C: serde::de::DeserializeOwned,
    E: Into<Stop>,
{
    let config = config::read(&given.config)?;
    let context = Context {
        budget: std::time::Duration::from_millis(given.budget_ms.into()),
        attempt: given.attempt,
        monitor: given.monitor,
    };
    check(config, &context).or_else(|stop| stop.into().verdict())
}
