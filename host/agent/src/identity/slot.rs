//! What a slot of the identity holds, as bytes. Pure.

use std::sync::Arc;

use ed25519_dalek::{SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use wire::{AgentId, Timestamp};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::keeper::{Kept, Token};
use super::{Enrolling, Identity, State};
use crate::slots::Kind;

/// Identity slots.
pub(crate) const KIND: Kind = *b"id";

/// The payload of an enrolment that was begun.
pub(crate) fn encode_enrolling(enrolling: &Enrolling) -> Zeroizing<Vec<u8>> {
    encode(&Payload::Enrolling {
        enrollment_id: enrolling.enrollment_id,
        secrets: Secrets { token: enrolling.token.to_string(), seed: hex::encode(enrolling.key.as_bytes()) },
    })
}

/// The payload of an enrolled agent.
pub(crate) fn encode_active(kept: &Kept) -> Zeroizing<Vec<u8>> {
    let identity = &kept.identity;
    encode(&Payload::Active {
        agent: identity.agent,
        name: identity.name.clone(),
        location: identity.location.clone(),
        generation: identity.generation,
        secrets: Secrets { token: identity.token.to_string(), seed: hex::encode(identity.key.as_bytes()) },
        server_key: hex::encode(identity.server_key.as_bytes()),
        pending: kept
            .pending
            .as_ref()
            .map(|pending| Pending { generation: pending.generation, token: pending.token.to_string() }),
        revoked: kept.revoked,
        rotated_at: kept.rotated_at,
    })
}

/// What a payload says; none when it says nothing that we understand.
pub(crate) fn decode(payload: &[u8]) -> Option<State> {
    match serde_json::from_slice(payload).ok()? {
        Payload::Enrolling { enrollment_id, secrets } => Some(State::Enrolling(Box::new(Enrolling {
            enrollment_id,
            token: Zeroizing::new(secrets.token.clone()),
            key: secrets.key()?,
        }))),
        Payload::Active {
            agent,
            name,
            location,
            generation,
            secrets,
            server_key,
            pending,
            revoked,
            rotated_at,
        } => {
            let identity = Identity {
                agent,
                name,
                location,
                generation,
                token: Zeroizing::new(secrets.token.clone()),
                key: secrets.key()?,
                server_key: VerifyingKey::from_bytes(&bytes(&server_key)?).ok()?,
                fresh: false,
            };
            let pending = pending.map(|pending| Token {
                generation: pending.generation,
                token: Zeroizing::new(pending.token.clone()),
            });
            Some(State::Active(Box::new(Kept { identity: Arc::new(identity), pending, revoked, rotated_at })))
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
enum Payload {
    Enrolling {
        enrollment_id: Uuid,
        #[serde(flatten)]
        secrets: Secrets,
    },
    Active {
        agent: AgentId,
        name: String,
        location: String,
        generation: u64,
        #[serde(flatten)]
        secrets: Secrets,
        server_key: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pending: Option<Pending>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        revoked: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rotated_at: Option<Timestamp>,
    },
}

/// The token that is to follow.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
struct Pending {
    generation: u64,
    token: String,
}

#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
struct Secrets {
    token: String,
    seed: String,
}

impl Secrets {
    fn key(&self) -> Option<SigningKey> {
        Some(SigningKey::from_bytes(&Zeroizing::new(bytes(&self.seed)?)))
    }
}

fn encode(payload: &Payload) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(serde_json::to_vec(payload).expect("strings and numbers are always JSON"))
}

fn bytes(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_enrolment_that_was_begun_comes_back_with_the_same_id_key_and_token() {
        let begun = Enrolling::new();
        let Some(State::Enrolling(read)) = decode(&encode_enrolling(&begun)) else { panic!() };
        assert_eq!(read.enrollment_id, begun.enrollment_id);
        assert_eq!(read.key, begun.key);
        assert_eq!(read.token, begun.token);
    }

    fn kept() -> Kept {
        let begun = Enrolling::new();
        let identity = Identity {
            agent: AgentId(Uuid::new_v4()),
            name: "edge-1".into(),
            location: "dc1".into(),
            generation: 1,
            token: begun.token,
            server_key: SigningKey::from_bytes(&[5; 32]).verifying_key(),
            fresh: false,
            key: begun.key,
        };
        Kept::fresh(identity, Timestamp::from_millis(5))
    }

    #[test]
    fn an_identity_comes_back_whole() {
        let token = Zeroizing::new("next".to_owned());
        let pending = Some(Token { generation: 2, token });
        for kept in [kept(), Kept { pending, revoked: true, rotated_at: None, ..kept() }] {
            let Some(State::Active(read)) = decode(&encode_active(&kept)) else { panic!() };
            assert_eq!(encode_active(&read), encode_active(&kept));
            let (old, new) = (&kept.identity, &read.identity);
            assert_eq!((new.agent, new.generation, &new.name[..]), (old.agent, 1, "edge-1"));
            assert_eq!((read.revoked, read.rotated_at), (kept.revoked, kept.rotated_at));
            assert_eq!(
                read.pending.map(|p| (p.generation, p.token)),
                kept.pending.map(|p| (p.generation, p.token))
            );
        }
    }

    #[test]
    fn an_identity_from_before_there_were_rotations_is_read() {
        let payload = format!(
            r#"{{"state":"active","agent":"{}","name":"edge-1","location":"dc1","generation":1,"token":"t","seed":"{}","server_key":"{}"}}"#,
            Uuid::nil(),
            "07".repeat(32),
            hex::encode(SigningKey::from_bytes(&[5; 32]).verifying_key().as_bytes()),
        );
        let Some(State::Active(read)) = decode(payload.as_bytes()) else { panic!() };
        assert_eq!((&read.identity.token[..], read.identity.generation), ("t", 1));
        assert!(read.pending.is_none() && !read.revoked && read.rotated_at.is_none());
        assert_eq!(
            encode_active(&read).as_slice(),
            payload.as_bytes(),
            "and an older version reads it again"
        );
    }

    #[test]
    fn bytes_that_say_nothing_are_no_identity() {
        for payload in
            ["", "{}", "null", r#"{"state":"active"}"#, r#"{"state":"enrolling","enrollment_id":1}"#]
        {
            assert!(decode(payload.as_bytes()).is_none(), "{payload}");
        }
    }
}
