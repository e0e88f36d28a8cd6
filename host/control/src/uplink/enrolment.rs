//! How a setup token becomes an identity, once. What of a request is right is decided by `agents`.

use wire::enroll::{EnrollAnswer, EnrollRequest};
use wire::event::AgentEventKind;
use wire::{Problem, signature};

use crate::agents::Agent;
use crate::control::{Control, Registry, Written};
use crate::identity;

impl Control {
    /// Makes an identity of a setup token, once.
    pub(crate) fn enroll(&self, request: &EnrollRequest) -> Result<EnrollAnswer, Problem> {
        let shown = signature::token_sha256(&request.setup_token);
        let now = self.now().wall;
        let mut reused = None;
        // A stranger waits for no change, and holds up none.
        owner(&self.registry(), &shown)?;
        failpoint::hit("control.enroll.before");
        let enrolled = self.change(|registry| {
            let agent = owner(registry, &shown)?;
            let enrolled = match agent.enrolled(request, now) {
                Err(problem) if problem.code == Problem::SETUP_TOKEN_USED => {
                    reused = Some(agent.clone());
                    return Err(problem);
                }
                enrolled => enrolled?,
            };
            if enrolled == *agent {
                return Ok((vec![], enrolled));
            }
            tracing::info!(agent = agent.name, location = agent.location, "agent enrolled");
            registry.agents_mut().insert(enrolled.name.clone(), enrolled.clone());
            self.seen(enrolled.id, None);
            let event = enrolled.event(AgentEventKind::Enrolled, format!("in {}", enrolled.location), now);
            Ok((vec![Written::Agent(enrolled.clone(), true), event], enrolled))
        });
        if let Some(agent) = reused {
            let told = "another device showed its setup token, which was used already, and was refused";
            self.note(&agent, AgentEventKind::SetupTokenReused, told);
        }
        let enrolled = enrolled?;
        failpoint::hit("control.enroll.after");
        Ok(EnrollAnswer {
            agent_id: enrolled.id,
            generation: enrolled.device.map_or(1, |d| d.tokens.generation),
            name: enrolled.name,
            location: enrolled.location,
            server_key: hex::encode(self.parts.keys.server.verifying_key().to_bytes()),
        })
    }
}

/// The agent whose setup token has this hash.
fn owner<'a>(registry: &'a Registry, shown: &str) -> Result<&'a Agent, Problem> {
    let owner = registry.agents.values().find(|a| identity::same(&a.setup.sha256, shown));
    owner.ok_or_else(|| {
        let detail = "the setup token is unknown: create one with picket agents create";
        Problem::new(Problem::SETUP_TOKEN_UNKNOWN, detail)
    })
}
