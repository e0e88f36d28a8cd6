use uuid::Uuid;

use super::*;

/// One unit, its agent, and a clock in seconds. Results say what they found and when.
struct Bench {
    unit: Unit,
    rule: Rule,
    session: Session,
    seq: u64,
    drained: bool,
    away: bool,
    now_s: u64,
    /// What came of it, in words.
    told: Vec<String>,
}

impl Bench {
    fn new(failures: u32, successes: u32, confirm: Confirm) -> Self {
        let rule = Rule { failures, successes, confirm, degraded: true };
        Self {
            unit: Unit::default(),
            rule,
            session: Session { agent: AgentId(Uuid::from_u128(1)), recorded: Position::default() },
            seq: 0,
            drained: true,
            away: false,
            now_s: 1000,
            told: vec![],
        }
    }

    /// Confirmed by the same agent.
    fn usual() -> Self {
        Self::new(1, 1, Confirm::SameAgent)
    }

    fn live(&mut self, level: Level) -> &mut Self {
        self.seq += 1;
        let (at, seq) = (self.now_s, self.seq);
        self.take(true, level, at, seq)
    }

    fn buffered(&mut self, level: Level, at_s: u64) -> &mut Self {
        self.seq += 1;
        let seq = self.seq;
        self.take(false, level, at_s, seq)
    }

    fn take(&mut self, live: bool, level: Level, at_s: u64, seq: u64) -> &mut Self {
        let at = Timestamp::from_millis(i64::try_from(at_s * 1000).unwrap());
        let seen = Seen { session: self.session, position: Position { epoch: 1, seq }, live, level, at };
        self.unit.see(&seen, self.rule, self.now_s * 1000);
        self.look()
    }

    fn error(&mut self) -> &mut Self {
        self.seq += 1;
        self.unit.see_unclear(self.session.agent, Position { epoch: 1, seq: self.seq });
        self.look()
    }

    /// A result within a maintenance window.
    fn maintained(&mut self) -> &mut Self {
        self.seq += 1;
        self.unit.see_maintained(self.session.agent, Position { epoch: 1, seq: self.seq });
        self.look()
    }

    fn look(&mut self) -> &mut Self {
        let heard_ms = (!self.away).then_some(self.now_s * 1000);
        let about = About { drained: self.drained, heard_ms };
        match self.unit.look(self.rule, about, self.now_s * 1000) {
            None => {}
            Some(Step::Ask(_)) => self.told.push("ask".into()),
            Some(Step::Turn(t)) => {
                let since = t.since.as_millis() / 1000;
                self.told.push(format!("{:?} since {since}", t.to));
                assert!(!t.confirmed);
            }
        }
        self
    }

    fn pass(&mut self, seconds: u64) -> &mut Self {
        for _ in 0..seconds {
            self.now_s += 1;
            self.look();
        }
        self
    }

    /// The agent was away and says hello: what it has recorded until now is buffered.
    fn hello(&mut self, buffered: u64) -> &mut Self {
        self.session.recorded = Position { epoch: 1, seq: self.seq + buffered };
        self.drained = buffered == 0;
        self
    }

    fn drained(&mut self) -> &mut Self {
        self.drained = true;
        self.look()
    }

    #[track_caller]
    fn says(&mut self, expected: &[&str]) -> &mut Self {
        assert_eq!(std::mem::take(&mut self.told), expected);
        self
    }
}

use Level::{Degraded, Down, Up};

#[test]
fn buffered_down_later_up_and_live_up_is_no_alert() {
    let mut b = Bench::usual();
    b.live(Up).pass(100).hello(3);
    b.buffered(Down, 1010).buffered(Down, 1020).buffered(Up, 1090).drained().live(Up).pass(60).says(&[]);
}

#[test]
fn buffered_down_and_the_first_live_down_is_confirmed_and_told_once_with_the_original_time() {
    let mut b = Bench::usual();
    b.live(Up).pass(100).hello(2);
    b.buffered(Down, 1010).buffered(Down, 1020).says(&[]);
    b.drained().says(&["ask"]).live(Down).says(&["ask"]).live(Down).says(&["Down since 1010"]);
    b.live(Down).pass(60).live(Down).says(&[]);
}

#[test]
fn an_alert_from_before_ends_with_the_first_live_up_and_not_with_a_buffered_one() {
    let mut b = Bench::usual();
    b.live(Down).live(Down).says(&["ask", "Down since 1000"]);
    b.pass(100).hello(2).buffered(Up, 1050).buffered(Up, 1060).drained().says(&["ask"]);
    b.live(Up).says(&["Up since 1050"]);
}

#[test]
fn still_down_after_the_outage_says_nothing_anew() {
    let mut b = Bench::usual();
    b.live(Down).live(Down).says(&["ask", "Down since 1000"]);
    b.pass(100)
        .hello(2)
        .buffered(Down, 1050)
        .buffered(Up, 1060)
        .buffered(Down, 1070)
        .drained()
        .live(Down)
        .says(&[]);
}

#[test]
fn a_live_down_waits_for_the_backlog_to_say_since_when_but_not_for_ever() {
    let mut b = Bench::usual();
    b.live(Up).pass(100).hello(3);
    // The live lane overtakes the backlog.
    b.take(true, Down, 1100, 10).take(true, Down, 1101, 11).says(&["ask"]);
    b.buffered(Up, 1010).buffered(Down, 1020).buffered(Down, 1030).says(&[]);
    b.drained().says(&["Down since 1020"]);

    let mut b = Bench::usual();
    b.live(Up).pass(100).hello(3);
    b.take(true, Down, 1100, 10).take(true, Down, 1101, 11).says(&["ask"]);
    b.pass(9).says(&[]).pass(1).says(&["Down since 1100"]);
}

#[test]
fn a_live_up_in_between_cuts_the_backlog_off() {
    let mut b = Bench::usual();
    b.live(Up).pass(100).hello(1);
    b.take(true, Up, 1100, 10).take(true, Down, 1105, 11).take(true, Down, 1106, 12);
    b.buffered(Down, 1010).drained().says(&["ask", "Down since 1105"]);
}

#[test]
fn a_live_down_that_the_second_run_does_not_confirm_is_no_alert() {
    let mut b = Bench::usual();
    b.live(Down).says(&["ask"]).live(Up).pass(60).says(&[]);
}

#[test]
fn without_an_answer_within_fifteen_seconds_the_alert_is_told_all_the_same() {
    let mut b = Bench::usual();
    b.live(Down).says(&["ask"]).pass(14).says(&[]).pass(1).says(&["Down since 1000"]);
}

#[test]
fn an_agent_that_goes_away_while_it_is_asked_leaves_no_alert_behind() {
    let mut b = Bench::usual();
    b.live(Down).says(&["ask"]);
    b.away = true;
    b.pass(60).says(&[]);
}

#[test]
fn so_many_in_a_row_as_the_monitor_says() {
    let mut b = Bench::new(3, 2, Confirm::None);
    b.live(Down).live(Down).live(Up).live(Down).live(Down).says(&[]).live(Down).says(&["Down since 1000"]);
    b.live(Up).live(Down).live(Up).says(&[]).live(Up).says(&["Up since 1000"]);
}

#[test]
fn worse_and_better_within_an_alert_is_told_and_alternating_troubles_count_together() {
    let mut b = Bench::new(1, 1, Confirm::None);
    b.live(Degraded).says(&["Degraded since 1000"]).pass(5).live(Down).says(&["Down since 1005"]);
    b.pass(5).live(Degraded).says(&["Degraded since 1010"]).pass(5).live(Up).says(&["Up since 1015"]);
    let mut b = Bench::new(3, 1, Confirm::None);
    b.live(Down).live(Degraded).live(Down).says(&["Down since 1000"]);
}

#[test]
fn a_result_that_was_overtaken_says_nothing() {
    let mut b = Bench::new(1, 1, Confirm::None);
    b.take(true, Up, 1000, 5).take(true, Down, 999, 4).says(&[]);
}

#[test]
fn buffered_results_of_an_agent_that_came_back_do_not_speak_for_the_one_that_took_over() {
    let mut b = Bench::usual();
    b.live(Up).pass(50);
    let first = b.session;
    b.session = Session { agent: AgentId(Uuid::from_u128(2)), recorded: Position::default() };
    b.live(Up);
    b.session = first;
    b.hello(2).buffered(Down, 1010).buffered(Down, 1020).drained().pass(30).says(&[]);
}

#[test]
fn a_move_within_the_location_keeps_the_alert() {
    let mut b = Bench::usual();
    b.live(Down).live(Down).says(&["ask", "Down since 1000"]);
    b.session = Session { agent: AgentId(Uuid::from_u128(2)), recorded: Position::default() };
    b.pass(5).live(Down).live(Down).says(&[]).live(Up).says(&["Up since 1005"]);
}

#[test]
fn after_a_restart_what_was_told_is_not_told_again_and_what_was_not_is_asked() {
    let latest = |level| {
        Some((AgentId(Uuid::from_u128(1)), level, Timestamp::from_millis(900_000), Position::default()))
    };
    let mut b = Bench::usual();
    b.unit = Unit::kept(Down, latest(Down));
    b.hello(1).buffered(Down, 950).drained().live(Down).live(Down).says(&[]);
    let mut b = Bench::usual();
    b.unit = Unit::kept(Up, latest(Down));
    b.hello(1)
        .buffered(Down, 950)
        .drained()
        .says(&["ask"])
        .live(Down)
        .live(Down)
        .says(&["ask", "Down since 900"]);
}

#[test]
fn an_unanswered_question_about_the_backlog_is_asked_again_while_the_agent_is_there() {
    let mut b = Bench::usual();
    b.live(Up).pass(100).hello(1).buffered(Down, 1010).drained().says(&["ask"]);
    b.pass(14).says(&[]).pass(1).says(&["ask"]);
    b.away = true;
    b.pass(60).says(&[]);
}

#[test]
fn a_question_about_the_backlog_that_an_error_answers_is_not_asked_again() {
    let mut b = Bench::usual();
    b.live(Up).pass(100).hello(1).buffered(Down, 1010).drained().says(&["ask"]);
    b.error().pass(60).says(&[]);
    b.live(Down).says(&["ask"]).live(Down).says(&["Down since 1010"]);
}

#[test]
fn an_outage_in_the_middle_of_a_row_begins_the_row_anew() {
    let mut b = Bench::new(3, 1, Confirm::None);
    b.live(Down).live(Down).pass(100).hello(1).buffered(Down, 1010).drained().live(Down).live(Down);
    b.says(&["ask"]).live(Down).says(&["Down since 1000"]);
}

#[test]
fn a_window_drops_what_was_about_to_turn_and_what_is_still_down_behind_it_just_went_down() {
    let mut b = Bench::usual();
    b.live(Up).live(Down).says(&["ask"]);
    b.maintained().pass(60).says(&[]);
    b.maintained().pass(60).says(&[]);
    b.live(Down).says(&["ask"]).live(Down).says(&["Down since 1120"]);
    b.maintained().pass(600).maintained().says(&[]);
    b.live(Up).says(&["Up since 1720"]);
}

#[test]
fn what_was_down_before_a_window_of_an_outage_does_not_say_since_when() {
    let mut b = Bench::usual();
    b.live(Up).pass(100).hello(3);
    b.buffered(Down, 1010).maintained().buffered(Down, 1090).drained().says(&["ask"]);
    b.live(Down).says(&["ask"]).live(Down).says(&["Down since 1090"]);
}

#[test]
fn a_result_of_a_window_that_was_overtaken_says_nothing() {
    let mut b = Bench::usual();
    b.live(Up).live(Down).says(&["ask"]);
    b.unit.see_maintained(b.session.agent, Position { epoch: 1, seq: 1 });
    b.live(Down).says(&["Down since 1000"]);
}

#[test]
fn whatever_happens_alerts_begin_with_live_results_only_and_each_ends_before_the_next() {
    for seed in 1..=500_u64 {
        let mut random = seed;
        let mut next = |n: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % n
        };
        let confirm = if next(2) == 0 { Confirm::None } else { Confirm::SameAgent };
        let mut b = Bench::new(1 + next(3) as u32, 1 + next(2) as u32, confirm);
        // Every fourth target is always well when it is looked at live.
        let never_down = seed % 4 == 0;
        let (mut live_downs, mut open) = (0, false);
        for _ in 0..200 {
            match next(6) {
                0..=2 => {
                    let down = !never_down && next(3) == 0;
                    live_downs += u64::from(down);
                    b.live(if down { Down } else { Up });
                }
                3 => {
                    let n = next(6);
                    b.hello(n);
                    for back in (0..n).rev() {
                        let (level, at) = (if next(2) == 0 { Down } else { Up }, b.now_s - back);
                        b.buffered(level, at);
                    }
                    b.drained();
                }
                4 => {
                    b.pass(next(20));
                }
                _ => b.away = !b.away,
            }
            for told in std::mem::take(&mut b.told) {
                if told.starts_with("Down") {
                    assert!(!open && live_downs > 0, "seed {seed}: {told}");
                    (open, live_downs) = (true, 0);
                } else if told.starts_with("Up") {
                    assert!(std::mem::take(&mut open), "seed {seed}: {told}");
                }
            }
        }
        assert!(!never_down || !open, "seed {seed}");
    }
}
