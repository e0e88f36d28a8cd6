//! `picket agents`: make agents, list them, rotate, revoke and approve them, tell what befell them, delete them.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use clap::{ArgMatches, Subcommand};
use wire::Timestamp;
use wire::admin::{AgentCreated, AgentView, CreateAgent};
use wire::event::AgentEvent;

use crate::client::{self, Access, Client, Named};
use crate::failure::{Failure, exit};
use crate::output::{self, Columns, Entry};

/// Make, list, rotate, revoke, approve and delete agents, and show what befell them
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make an agent and print its setup token, which is shown this once
    Create {
        /// Its name: lower case, digits, hyphens, dots; 1 to 63 characters
        #[arg(value_name = "NAME")]
        agent: String,
        /// The named place where it stands; agents of one location stand in for each other
        #[arg(long, value_name = "LOCATION")]
        location: String,
        /// Print one JSON object: agent, location, setup_token, expires_at
        #[arg(long)]
        json: bool,
        /// Name of the image in the docker line
        #[arg(long, default_value = "picket", value_name = "IMAGE")]
        image: String,
        #[command(flatten)]
        access: Access,
    },
    /// List the agents: state, last seen, version, pending results
    List {
        /// Print one JSON array
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        access: Access,
    },
    /// Ask an agent for a new token now, should somebody have read the one it has; it makes at most one a minute
    Rotate(Named),
    /// Revoke an agent: it stops within a minute, and keeps its identity and what it recorded until it is approved
    Revoke {
        /// Do not ask
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        agent: Named,
    },
    /// Approve an agent: one that was revoked, or one that was silent for more than 90 days
    Approve(Named),
    /// Show what befell the identities of agents, newest first: rotations, recoveries, copies, stolen tokens
    Events {
        /// Only of this agent
        #[arg(value_name = "NAME")]
        agent: Option<String>,
        /// At most so many, the newest: 1 to 1000
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        limit: u32,
        /// Print one JSON object a line: at, agent, kind, detail
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        access: Access,
    },
    /// Delete an agent: it is refused from now on, its results stay
    Delete(Named),
}

pub(crate) async fn run(args: Args, matches: &ArgMatches) -> Result<u8, Failure> {
    match args.verb {
        Verb::Create { agent, location, json, image, access } => {
            let client = access.client(matches)?;
            let created: AgentCreated = client.post("/agents", &CreateAgent { agent, location }).await?;
            if json {
                output::json_pretty(&created)?;
            } else {
                output::line(&welcome(&created, &client, &image))?;
            }
        }
        Verb::List { json, access } => {
            let agents: Vec<AgentView> = access.client(matches)?.get("/agents", &[]).await?;
            if json {
                output::json_pretty(&agents)?;
            } else {
                let table = table(&agents, Columns::new(HEADINGS), jiff::Timestamp::now().into());
                output::line(if agents.is_empty() {
                    "no agents yet: `picket agents create NAME --location PLACE` makes one"
                } else {
                    &table
                })?;
                for line in warnings(&agents) {
                    output::line(&line)?;
                }
            }
        }
        Verb::Rotate(agent) => {
            let path = agent.path("agents", "/rotate");
            let view: AgentView = agent.access.client(matches)?.post(&path, &()).await?;
            output::line(&format!(
                "{} is asked: `picket agents events {}` tells when it is done",
                view.agent, view.agent
            ))?;
        }
        Verb::Revoke { yes, agent } => {
            let path = agent.path("agents", "/revoke");
            let client = agent.access.client(matches)?;
            if !yes && !confirmed(&agent.name)? {
                return Ok(exit::GENERAL);
            }
            let view: AgentView = client.post(&path, &()).await?;
            output::line(&format!(
                "{} revoked: `picket agents approve {}` lifts it",
                view.agent, view.agent
            ))?;
        }
        Verb::Approve(agent) => {
            let path = agent.path("agents", "/approve");
            let view: AgentView = agent.access.client(matches)?.post(&path, &()).await?;
            output::line(&format!("{} approved: it goes on within a minute", view.agent))?;
        }
        Verb::Events { agent, limit, json, access } => {
            let path = match agent {
                Some(agent) => format!("/agents/{}/events", client::segment(&agent)),
                None => "/events".to_owned(),
            };
            let query = [("limit", Some(limit.to_string()))];
            let events: Vec<AgentEvent> = access.client(matches)?.get(&path, &query).await?;
            if json {
                events.iter().try_for_each(output::json)?;
            } else if events.is_empty() {
                output::line("no events")?;
            } else {
                output::line(&told(&events, Columns::new(EVENT_HEADINGS)))?;
            }
        }
        Verb::Delete(agent) => {
            let path = agent.path("agents", "");
            agent.access.client(matches)?.delete(&path).await?;
            output::line(&format!("{} deleted", agent.name))?;
        }
    }
    Ok(0)
}

const HEADINGS: &[&str] = &["agent", "location", "state", "last seen", "version", "pending", "by"];

fn table(agents: &[AgentView], mut columns: Columns, now: Timestamp) -> String {
    for agent in agents {
        columns.row([
            (&agent.agent).into(),
            (&agent.location).into(),
            Entry::state(&agent.state.to_string()),
            output::or_dash(agent.last_seen.map(|at| output::ago(at, now))),
            output::or_dash(agent.version.as_ref()),
            output::or_dash(agent.pending),
            output::or_dash(agent.transport),
        ]);
    }
    columns.text()
}

/// One line a warning, below the table.
fn warnings(agents: &[AgentView]) -> Vec<String> {
    let lines = agents.iter().flat_map(|agent| {
        let line = |w: &wire::admin::Warning| {
            format!("warning: {}: {} (since {})", agent.agent, w.detail, output::local(w.since))
        };
        agent.warnings.iter().map(line).collect::<Vec<_>>()
    });
    lines.collect()
}

const EVENT_HEADINGS: &[&str] = &["at", "agent", "event", "detail"];

fn told(events: &[AgentEvent], mut columns: Columns) -> String {
    for event in events {
        columns.row([
            output::local(event.at).into(),
            (&event.agent).into(),
            event.kind.to_string().into(),
            (&event.detail).into(),
        ]);
    }
    columns.text()
}

/// Whether the person at the terminal agrees to revoke; without a terminal nobody can be asked.
fn confirmed(agent: &str) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::text(exit::USAGE, "revoking asks first, and there is no terminal to ask in")
            .advice("write --yes"));
    }
    output::line(&format!("revoke {agent}? It stops checking until it is approved. Write yes:"))?;
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    Ok(read.is_ok() && matches!(answer.trim(), "y" | "yes"))
}

fn welcome(created: &AgentCreated, client: &Client, image: &str) -> String {
    let AgentCreated { agent, location, setup_token, expires_at } = created;
    let control = client.address();
    // From a container's own network the loopback of this machine cannot be reached.
    let network = if client.is_local() { " --network host" } else { "" };
    let data = PathBuf::from(".").join(agent);
    format!(
        "agent {agent} in {location}: its setup token is shown this once, is good for one device and until {}\n\n  \
         {setup_token}\n\n\
         in a container:\n\n  \
         docker run -d --name picket-{agent} --restart unless-stopped --read-only --cap-drop ALL --security-opt no-new-privileges{network} \\\n    \
         -e PICKET_CONTROL={control} \\\n    \
         -e PICKET_SETUP_TOKEN={setup_token} \\\n    \
         -v picket-{agent}:/data {image}\n\n\
         or here:\n\n  \
         PICKET_SETUP_TOKEN={setup_token} picket agent --control {control} --data {}",
        output::local(*expires_at),
        data.display(),
    )
}

#[cfg(test)]
mod tests {
    use wire::admin::{AgentState, Warning, WarningKind};

    use super::*;
    use crate::client::Secret;

    fn created() -> AgentCreated {
        AgentCreated {
            agent: "edge-1".into(),
            location: "dc1".into(),
            setup_token: "pst_abc".into(),
            expires_at: "2026-11-21T18:00:00.000Z".parse().unwrap(),
        }
    }

    fn text(control: &str) -> String {
        let client = Client::new(control.parse().unwrap(), Secret("t".into()), None).unwrap();
        welcome(&created(), &client, "picket")
    }

    #[test]
    fn prints_the_token_and_a_line_for_docker() {
        let text = text("https://picket.example.com");
        assert!(text.contains("\n  pst_abc\n"), "{text}");
        for part in [
            "--read-only",
            "--cap-drop ALL",
            "-e PICKET_CONTROL=https://picket.example.com \\",
            "-v picket-edge-1:/data picket",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains("--network host"));
    }

    #[test]
    fn a_control_plane_on_this_machine_is_reached_from_a_container_by_the_hosts_network() {
        assert!(text("http://127.0.0.1:8440").contains("--network host"));
    }

    #[test]
    fn the_json_form_has_exactly_the_four_members() {
        let json = serde_json::to_value(created()).unwrap();
        let names: Vec<&String> = json.as_object().unwrap().keys().collect();
        assert_eq!(names, ["agent", "location", "setup_token", "expires_at"]);
    }

    #[test]
    fn events_stand_in_a_table() {
        let event = AgentEvent {
            at: "2026-11-20T18:00:00.000Z".parse().unwrap(),
            agent: "edge-1".into(),
            kind: wire::event::AgentEventKind::TakenOver,
            detail: "box-2 (boot 1) speaks as this agent now".into(),
        };
        let text = told(&[event], Columns::with(EVENT_HEADINGS, false, None));
        for part in ["EVENT", "edge-1", "taken_over", "box-2"] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }

    #[test]
    fn lists_agents_with_a_dash_for_what_is_not_known_yet() {
        let agents = [
            AgentView {
                agent: "edge-1".into(),
                id: None,
                location: "dc1".into(),
                state: AgentState::Connected,
                last_seen: Some("2026-11-20T18:00:00.000Z".parse().unwrap()),
                version: Some("0.1.0".into()),
                pending: Some(0),
                transport: Some(wire::admin::Transport::Stream),
                created_at: Timestamp::default(),
                warnings: vec![Warning {
                    kind: WarningKind::Clock,
                    since: "2026-11-20T17:00:00.000Z".parse().unwrap(),
                    detail: "its clock is 2 h ahead of the control plane's".into(),
                }],
                recoveries: 0,
            },
            AgentView {
                agent: "edge-2".into(),
                id: None,
                location: "dc2".into(),
                state: AgentState::Created,
                last_seen: None,
                version: None,
                pending: None,
                transport: None,
                created_at: Timestamp::default(),
                warnings: vec![],
                recoveries: 0,
            },
        ];
        let text =
            table(&agents, Columns::with(HEADINGS, false, None), "2026-11-20T18:00:03.000Z".parse().unwrap());
        assert_eq!(
            text,
            "AGENT   LOCATION  STATE      LAST SEEN  VERSION  PENDING  BY\n\
             edge-1  dc1       connected  3 s ago    0.1.0    0        stream\n\
             edge-2  dc2       created    -          -        -        -"
        );
        let lines = warnings(&agents);
        let [line] = &lines[..] else { panic!("{lines:?}") };
        assert!(
            line.starts_with("warning: edge-1: its clock is 2 h ahead of the control plane's (since "),
            "{line}"
        );
    }
}
