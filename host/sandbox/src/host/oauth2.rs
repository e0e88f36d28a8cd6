//! `picket:net/oauth2`: tokens that a check uses without seeing them.

use wasmtime::component::Resource;

use super::Secret;
use super::bindings::picket::net::oauth2;
use super::no_network;
use crate::state::State;

impl oauth2::Host for State {
    async fn token(
        &mut self,
        request: oauth2::TokenRequest,
    ) -> wasmtime::Result<Result<Resource<Secret>, oauth2::Refusal>> {
        let Some(world) = self.world()? else {
            return Ok(Err(oauth2::Refusal::Failed(no_network())));
        };
        let secret = self.table.get(&request.client_secret)?.bytes().to_vec();
        let token = world.token(net::TokenRequest {
            url: request.url,
            client_id: request.client_id,
            client_secret: net::Hidden(secret.into()),
            scopes: request.scopes,
            parameters: request.parameters,
            proof: match request.proof {
                oauth2::Proof::Basic => net::Proof::Basic,
                oauth2::Proof::Body => net::Proof::Body,
            },
            family: request.family.into(),
            tls: request.tls.map(Into::into),
        });
        let token = token.await;
        self.back();
        match token {
            Ok(token) => {
                // Before the component can hear of it in any other way.
                self.redactor.learn(&token.0);
                Ok(Ok(self.table.push(Secret::made(token.0))?))
            }
            Err(net::NoToken::Failed(failure)) => Ok(Err(oauth2::Refusal::Failed(failure.into()))),
            Err(net::NoToken::Refused { status, reason }) => {
                Ok(Err(oauth2::Refusal::Refused((status, reason))))
            }
        }
    }
}
