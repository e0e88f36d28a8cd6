//! Agents: what is kept of each, and how a setup token turns one into an identity. Pure; sessions live in `identity::lease`.

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use wire::enroll::EnrollRequest;
use wire::{AgentId, Mistake, Problem, Timestamp, signature};

use crate::identity::token::Tokens;

/// An agent from `picket agents create` on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Agent {
    /// Kept for ever; given at creation, told at enrolment.
    pub id: AgentId,
    /// Unique among the agents there are.
    pub name: String,
    /// The named place.
    pub location: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// What it enrols with.
    pub setup: Setup,
    /// Who it is, once enrolled.
    pub device: Option<Device>,
}

/// What is kept of a setup token. The hash stays after its use, so that reuse is told from a guess.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Setup {
    /// Lower-case hexadecimal.
    pub sha256: String,
    /// By this machine's clock.
    pub expires_at: Timestamp,
}

/// An identity that the agent made itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Device {
    /// Binds the setup token; the same again gets the same answer.
    pub enrollment_id: Uuid,
    /// Ed25519, lower-case hexadecimal.
    pub public_key: String,
    /// By what it is recognised.
    #[serde(flatten)]
    pub tokens: Tokens,
    /// The agent's version, as last told.
    pub version: String,
    /// Whether it made an authenticated request: from then on the setup token is burned.
    pub active: bool,
    /// When it was last heard from, to the hour: it outlives a restart.
    #[serde(default)]
    pub seen_at: Timestamp,
    /// When its owner approved it last.
    #[serde(default)]
    pub approved_at: Timestamp,
    /// Whether its owner revoked it.
    #[serde(default)]
    pub revoked: bool,
    /// How often it recovered with its device key.
    #[serde(default)]
    pub recoveries: u64,
}

impl Agent {
    /// What becomes of the agent whose setup token this request shows: itself again when nothing changes.
    pub(crate) fn enrolled(&self, request: &EnrollRequest, now: Timestamp) -> Result<Self, Problem> {
        let EnrollRequest { setup_token, enrollment_id, public_key, token_sha256, version, signature } =
            request;
        let signed = EnrollRequest::signed(setup_token, *enrollment_id, public_key, token_sha256);
        let Some(key) = signature::public_key(public_key) else {
            return Err(invalid("/public_key", "is not an Ed25519 key in hexadecimal"));
        };
        if !is_sha256(token_sha256) {
            return Err(invalid("/token_sha256", "is not 64 lower-case hexadecimal digits"));
        }
        if !signature::verify(&key, &signed, signature) {
            let detail = "the enrolment is not signed by the key that it shows";
            return Err(Problem::new(Problem::BAD_SIGNATURE, detail));
        }
        if let Some(device) = &self.device {
            let same = device.enrollment_id == *enrollment_id
                && device.public_key == *public_key
                && device.tokens.token_sha256 == *token_sha256;
            return if same && !device.active { Ok(self.clone()) } else { Err(self.used()) };
        }
        if now >= self.setup.expires_at {
            let detail = format!(
                "the setup token expired at {}: delete agent {} and create it again",
                self.setup.expires_at, self.name
            );
            return Err(Problem::new(Problem::SETUP_TOKEN_EXPIRED, detail));
        }
        let device = Device {
            enrollment_id: *enrollment_id,
            public_key: public_key.clone(),
            tokens: Tokens::first(token_sha256, now),
            version: version.chars().take(64).collect(),
            active: false,
            seen_at: now,
            approved_at: now,
            revoked: false,
            recoveries: 0,
        };
        Ok(Self { device: Some(device), ..self.clone() })
    }

    /// Whether its owner wants it to work: it enrolled and is not revoked.
    pub(crate) fn is_wanted(&self) -> bool {
        self.device.as_ref().is_some_and(|device| !device.revoked)
    }

    fn used(&self) -> Problem {
        let detail = format!(
            "the setup token of agent {} was used by another device: create another agent for this one",
            self.name
        );
        Problem::new(Problem::SETUP_TOKEN_USED, detail)
    }
}

/// Why this cannot name an agent, a location or a monitor.
pub(crate) fn name_mistake(name: &str) -> Option<String> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let good = (1..=63).contains(&name.len())
        && name.chars().all(allowed)
        && name.starts_with(|c: char| c.is_ascii_alphanumeric());
    let rule = "1 to 63 lower-case letters, digits, hyphens and dots, a letter or digit first";
    (!good).then(|| format!("{:?} is not a name: write {rule}", name.chars().take(80).collect::<String>()))
}

/// Whether this is a hash as agents send it.
pub(crate) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// The problem of a request with one mistake.
pub(crate) fn invalid(at: &str, message: &str) -> Problem {
    let mistakes = vec![Mistake { at: at.to_owned(), message: message.to_owned() }];
    Problem { mistakes, ..Problem::new(Problem::INVALID, "the request has a mistake") }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer, SigningKey};

    use super::*;

    const TOKEN: &str = "pst_secret";
    const DAY: i64 = 24 * 3600 * 1000;

    fn agent() -> Agent {
        Agent {
            id: AgentId(Uuid::from_u128(1)),
            name: "edge-1".into(),
            location: "dc1".into(),
            created_at: Timestamp::from_millis(0),
            setup: Setup { sha256: signature::token_sha256(TOKEN), expires_at: Timestamp::from_millis(DAY) },
            device: None,
        }
    }

    fn request(key: u8) -> EnrollRequest {
        let key = SigningKey::from_bytes(&[key; 32]);
        let (id, public) = (Uuid::from_u128(7), hex::encode(key.verifying_key().to_bytes()));
        let token_sha256 = signature::token_sha256("active");
        let signed = EnrollRequest::signed(TOKEN, id, &public, &token_sha256);
        EnrollRequest {
            setup_token: TOKEN.into(),
            enrollment_id: id,
            public_key: public,
            token_sha256,
            version: "0.1.0".into(),
            signature: hex::encode(key.sign(signed.as_bytes()).to_bytes()),
        }
    }

    fn check(agent: &Agent, request: &EnrollRequest, at: i64, code: Option<&str>) -> Agent {
        let outcome = agent.enrolled(request, Timestamp::from_millis(at));
        assert_eq!(outcome.as_ref().err().map(|p| p.code.as_str()), code);
        outcome.unwrap_or_else(|_| agent.clone())
    }

    #[test]
    fn a_setup_token_makes_one_identity_and_the_same_request_again_changes_nothing() {
        let enrolled = check(&agent(), &request(1), 0, None);
        assert_eq!(check(&enrolled, &request(1), DAY + 5, None), enrolled);
        check(&enrolled, &request(2), 0, Some(Problem::SETUP_TOKEN_USED));
    }

    #[test]
    fn the_first_authenticated_request_burns_the_token() {
        let mut enrolled = check(&agent(), &request(1), 0, None);
        enrolled.device.as_mut().unwrap().active = true;
        check(&enrolled, &request(1), 0, Some(Problem::SETUP_TOKEN_USED));
    }

    #[test]
    fn a_setup_token_is_good_until_its_last_millisecond() {
        check(&agent(), &request(1), DAY - 1, None);
        check(&agent(), &request(1), DAY, Some(Problem::SETUP_TOKEN_EXPIRED));
    }

    #[test]
    fn an_enrolment_with_an_altered_part_is_refused() {
        let altered = |change: fn(&mut EnrollRequest), code| {
            let mut r = request(1);
            change(&mut r);
            check(&agent(), &r, 0, Some(code));
        };
        altered(|r| r.enrollment_id = Uuid::from_u128(8), Problem::BAD_SIGNATURE);
        altered(|r| r.token_sha256 = signature::token_sha256("mine"), Problem::BAD_SIGNATURE);
        altered(|r| r.public_key = request(2).public_key, Problem::BAD_SIGNATURE);
        altered(|r| r.public_key = "zz".into(), Problem::INVALID);
        altered(|r| r.token_sha256 = "A".repeat(64), Problem::INVALID);
    }

    #[test]
    fn names_are_lower_case_and_short() {
        for good in ["a", "edge-1", "db.prod", &"x".repeat(63)] {
            assert_eq!(name_mistake(good), None, "{good}");
        }
        for bad in ["", "Edge", "a b", "-a", "ä", "a/b", &"x".repeat(64)] {
            assert!(name_mistake(bad).is_some(), "{bad}");
        }
    }
}
