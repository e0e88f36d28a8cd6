//! The tokens of an agent, one step at a time and in every order.

use proptest::prelude::*;

use super::*;

fn now(ms: u64) -> Now {
    Now { wall: Timestamp::from_millis(1_000_000 + ms.cast_signed()), up_ms: ms }
}

fn standing(tokens: &Tokens, sha256: &str, ms: u64) -> Option<Standing> {
    tokens.judge(sha256, None, now(ms)).map(|(standing, _)| standing)
}

/// Generation 1 is "a"; "b" was registered and used at 0.
fn rotated() -> Tokens {
    Tokens::first("a", now(0).wall).registered(2, "b", now(0).wall).unwrap().activated(now(0))
}

#[test]
fn a_token_before_its_first_use_and_the_one_after_it_are_both_good() {
    let tokens = Tokens::first("a", now(0).wall).registered(2, "b", now(0).wall).unwrap();
    assert_eq!(standing(&tokens, "a", 0), Some(Standing::Active));
    assert_eq!(standing(&tokens, "b", 0), Some(Standing::Pending));
    assert_eq!(standing(&tokens, "c", 0), None);
    assert_eq!(tokens.judge("b", Some(1), now(0)), None, "another generation than its own");
}

#[test]
fn the_token_before_is_good_for_ten_minutes_and_superseded_for_ever_after() {
    let mut tokens = rotated();
    assert_eq!(standing(&tokens, "a", OVERLAP_MS - 1), Some(Standing::Previous));
    assert_eq!(standing(&tokens, "a", OVERLAP_MS), Some(Standing::Superseded));
    for generation in 3..20 {
        let sha256 = format!("token {generation}");
        tokens = tokens.registered(generation, &sha256, now(0).wall).unwrap().activated(now(0));
        assert_eq!(standing(&tokens, "a", 0), Some(Standing::Superseded), "{generation}");
    }
}

#[test]
fn across_a_restart_the_overlap_goes_on_by_the_wall_clock() {
    let stored = serde_json::to_vec(&rotated()).unwrap();
    let tokens: Tokens = serde_json::from_slice(&stored).unwrap();
    let at = |ms: i64| Now { wall: now(0).wall.plus_millis(ms), up_ms: 5 };
    let overlap = OVERLAP_MS.cast_signed();
    for (ms, expected) in [
        (overlap - 1, Standing::Previous),
        (overlap, Standing::Superseded),
        (-1, Standing::Superseded),
        (10 * 365 * 24 * 3_600_000, Standing::Superseded),
    ] {
        assert_eq!(tokens.judge("a", Some(1), at(ms)).unwrap().0, expected, "{ms}");
        assert_eq!(tokens.judge("b", Some(2), at(ms)).unwrap().0, Standing::Active, "{ms}");
    }
}

#[test]
fn the_same_registration_again_changes_nothing_before_and_after_the_first_use() {
    let pending = Tokens::first("a", now(0).wall).registered(2, "b", now(0).wall).unwrap();
    assert_eq!(pending.registered(2, "b", now(7).wall).unwrap(), pending);
    assert_eq!(rotated().registered(2, "b", now(7).wall).unwrap(), rotated());
    assert_eq!(rotated().activated(now(7)), rotated(), "nothing is pending");
}

#[test]
fn a_registration_out_of_turn_or_of_an_old_token_is_refused() {
    for (generation, sha256) in [(1, "c"), (2, "c"), (4, "c"), (3, "a"), (3, "b"), (u64::MAX, "c")] {
        let problem = rotated().registered(generation, sha256, now(0).wall).unwrap_err();
        assert_eq!(problem.code, Problem::CONFLICT, "{generation} {sha256}");
        assert!(problem.detail.contains("generation 3"), "{problem}");
    }
}

#[test]
fn a_recovery_ends_every_other_token_and_is_idempotent() {
    let tokens = rotated().registered(3, "c", now(0).wall).unwrap();
    let recovered = tokens.recovered(4, "d", now(0).wall).unwrap();
    assert_eq!(standing(&recovered, "d", 0), Some(Standing::Active));
    for over in ["a", "b", "c"] {
        assert_eq!(standing(&recovered, over, 0), Some(Standing::Superseded), "{over}");
    }
    assert_eq!(recovered.recovered(4, "d", now(9).wall).unwrap(), recovered);
    assert!(tokens.recovered(3, "d", now(0).wall).is_err(), "a generation that was given out");
    assert_eq!(tokens.recovered(9, "d", now(0).wall).unwrap().generation, 9, "the agent was further");
}

#[test]
fn tokens_as_they_were_stored_before_there_were_rotations_are_read() {
    let stored = r#"{"token_sha256": "a", "generation": 1, "version": "0.1.0"}"#;
    let tokens: Tokens = serde_json::from_str(stored).unwrap();
    assert_eq!(tokens, Tokens::first("a", Timestamp::default()));
}

/// What an agent has on its disk.
#[derive(Clone, Debug)]
struct Agent {
    active: (u64, String),
    pending: Option<(u64, String)>,
    /// Whether it was told that the pending token is known.
    told: bool,
}

/// A step of an agent or of the world. `bool`: whether the answer arrives.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Makes a token and has it on disk.
    Prepare,
    /// Registers it with the active one.
    Register(bool),
    /// Uses it for the first time, and marks it active when it was accepted.
    Use(bool),
    /// Dies and starts again: only what is on disk stays.
    Crash,
    /// The control plane starts again.
    Restart,
    /// Time passes.
    Pass(u64),
}

fn is_good(tokens: &Tokens, (generation, sha256): &(u64, String), ms: u64) -> bool {
    let judged = tokens.judge(sha256, Some(*generation), now(ms));
    judged.is_some_and(|(standing, _)| standing != Standing::Superseded)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::Prepare),
        any::<bool>().prop_map(Step::Register),
        any::<bool>().prop_map(Step::Use),
        Just(Step::Crash),
        Just(Step::Restart),
        (1..2 * OVERLAP_MS).prop_map(Step::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn in_no_order_of_steps_are_both_tokens_of_an_agent_refused(steps in prop::collection::vec(step(), 0..60)) {
        let mut agent = Agent { active: (1, "token 1".into()), pending: None, told: false };
        let (mut tokens, mut ms, mut made) = (Tokens::first("token 1", now(0).wall), 0, 1);
        for step in steps {
            let good = |tokens: &Tokens, token: &(u64, String)| is_good(tokens, token, ms);
            match step {
                Step::Prepare if agent.pending.is_none() => {
                    made += 1;
                    agent.pending = Some((agent.active.0 + 1, format!("token {made}")));
                    agent.told = false;
                }
                Step::Register(answered) => {
                    if let Some((generation, sha256)) = agent.pending.clone() && good(&tokens, &agent.active) {
                        tokens = tokens.registered(generation, &sha256, now(ms).wall).unwrap();
                        agent.told |= answered;
                    }
                }
                Step::Use(answered) => {
                    let active_is_over = !good(&tokens, &agent.active);
                    if let Some(pending) = agent.pending.clone() && (agent.told || active_is_over) {
                        prop_assert!(good(&tokens, &pending));
                        tokens = if tokens.pending.is_some() { tokens.activated(now(ms)) } else { tokens };
                        if answered {
                            agent = Agent { active: pending, pending: None, told: false };
                        }
                    }
                }
                Step::Crash => agent.told = false,
                Step::Restart => {
                    tokens = serde_json::from_slice(&serde_json::to_vec(&tokens).unwrap()).unwrap();
                }
                Step::Pass(time) => ms += time,
                Step::Prepare => {}
            }
            let pending = agent.pending.as_ref().is_some_and(|token| is_good(&tokens, token, ms));
            prop_assert!(is_good(&tokens, &agent.active, ms) || pending, "{agent:?} {tokens:?}");
        }
    }
}
