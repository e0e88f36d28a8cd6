//! How a setup token becomes an identity, once. What of a request is right is decided by `agents`.

use wire::Problem;
use wire::enroll::{EnrollAnswer, EnrollRequest};
use wire::signature;

use crate::control::{Control, Written};
use crate::identity;

impl Control {
    /// Makes an identity of a setup token, once.
    pub(crate) fn enroll(&self, request: &EnrollRequest) -> Result<EnrollAnswer, Problem> {
        let shown = signature::token_sha256(&request.setup_token);
        let now = self.now().wall;
        let enrolled = self.change(|registry| {
            let owner = registry.agents.values().find(|a| identity::same(&a.setup.sha256, &shown));
            let Some(agent) = owner else {
                let detail = "the setup token is unknown: create one with picket agents create";
                return Err(Problem::new(Problem::SETUP_TOKEN_UNKNOWN, detail));
            };
            let enrolled = agent.enrolled(request, now).inspect_err(|problem| {
                if problem.code == Problem::SETUP_TOKEN_USED {
                    tracing::warn!(
                        agent = agent.name,
                        "another device tried to enrol with a used setup token"
                    );
                }
            })?;
            if enrolled == *agent {
                return Ok((vec![], enrolled));
            }
            tracing::info!(agent = agent.name, location = agent.location, "agent enrolled");
            registry.agents.insert(enrolled.name.clone(), enrolled.clone());
            self.seen(enrolled.id, None);
            Ok((vec![Written::Agent(enrolled.clone(), true)], enrolled))
        })?;
        Ok(EnrollAnswer {
            agent_id: enrolled.id,
            generation: enrolled.device.map_or(1, |d| d.generation),
            name: enrolled.name,
            location: enrolled.location,
            server_key: hex::encode(self.keys.server.verifying_key().to_bytes()),
        })
    }
}
