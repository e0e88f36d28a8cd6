//! The way from token to token: its steps, and every order of kills, losses and backups against a control plane of a few lines.

use proptest::prelude::*;

use super::*;

const DAY: Duration = Duration::from_secs(24 * 3_600);
const WEEK: Duration = Duration::from_secs(7 * 24 * 3_600);

fn rotation(age: Duration) -> Rotation {
    Rotation::new(WEEK, false, age, Duration::ZERO, 0.5)
}

fn pending() -> Rotation {
    Rotation::new(WEEK, true, Duration::ZERO, Duration::ZERO, 0.5)
}

#[test]
fn a_token_is_rotated_every_seven_days_a_tenth_more_or_less() {
    for (chance, due) in [(0.0, 6.3), (0.5, 7.0), (1.0, 7.7)] {
        let rotation = Rotation::new(WEEK, false, Duration::ZERO, Duration::ZERO, chance);
        let due = DAY.mul_f64(due);
        assert_eq!(rotation.next(due - Duration::from_secs(1), true), Step::Wait(spread(WEEK, chance)));
        assert_eq!(rotation.next(due + Duration::from_secs(1), true), Step::Prepare);
        assert_eq!(rotation.next(due + DAY, false), Step::Wait(Duration::MAX), "it needs a session");
    }
    assert_eq!(rotation(8 * DAY).next(Duration::ZERO, true), Step::Prepare);
}

#[test]
fn from_the_fifth_day_on_a_session_that_begins_is_the_occasion() {
    let mut rotation = rotation(Duration::ZERO);
    rotation.welcomed(DAY * 5 - Duration::from_secs(1), Which::Active);
    assert!(matches!(rotation.next(DAY * 5, true), Step::Wait(_)));
    rotation.welcomed(DAY * 5, Which::Active);
    assert_eq!(rotation.next(DAY * 5, true), Step::Prepare);
}

#[test]
fn no_token_is_made_more_often_than_once_a_minute_whoever_asks() {
    let mut rotation = rotation(Duration::ZERO);
    rotation.ask();
    assert_eq!(rotation.next(Duration::ZERO, true), Step::Prepare);
    rotation.prepared();
    assert_eq!(rotation.next(Duration::ZERO, true), Step::Register);
    rotation.registered();
    assert_eq!(rotation.next(Duration::ZERO, true), Step::Prove);
    rotation.activated(Duration::ZERO, 0.5);
    rotation.ask();
    assert_eq!(rotation.next(Duration::from_secs(59), true), Step::Wait(SHORTEST));
    assert_eq!(rotation.next(SHORTEST, true), Step::Prepare);
}

#[test]
fn a_step_that_fails_is_repeated_and_a_use_from_the_registration_on() {
    let mut rotation = pending();
    rotation.failed(Duration::ZERO, 1.0);
    assert_eq!(rotation.next(Duration::from_secs(1), true), Step::Wait(Duration::from_secs(2)));
    assert_eq!(rotation.next(Duration::from_secs(2), true), Step::Register);
    rotation.registered();
    rotation.failed(Duration::from_secs(2), 0.0);
    assert_eq!(rotation.next(Duration::from_secs(3), true), Step::Register);
}

#[test]
fn a_token_that_is_over_gives_way_to_the_pending_one_and_that_to_the_device_key() {
    let mut rotation = pending();
    assert_eq!(rotation.refused(Which::Active, Refusal::Signed), Which::Pending);
    assert_eq!(rotation.next(Duration::ZERO, false), Step::Wait(Duration::MAX), "the hello tries it");
    assert!(rotation.welcomed(Duration::ZERO, Which::Pending), "it is the active one");

    let mut rotation = pending();
    rotation.refused(Which::Active, Refusal::Signed);
    assert_eq!(rotation.refused(Which::Pending, Refusal::Unsigned), Which::Pending, "once is nothing");
    assert_eq!(rotation.refused(Which::Pending, Refusal::Unsigned), Which::Active);
    assert_eq!(rotation.next(Duration::ZERO, false), Step::Recover);

    let mut rotation = Rotation::new(WEEK, false, DAY, Duration::ZERO, 0.5);
    assert_eq!(rotation.refused(Which::Active, Refusal::Signed), Which::Active);
    assert_eq!(rotation.next(Duration::ZERO, false), Step::Recover);
}

#[test]
fn in_thirty_days_of_unsigned_refusals_a_recovery_is_tried_once_an_hour_and_the_first_at_once() {
    let (mut rotation, mut tries, mut first) = (rotation(Duration::ZERO), 0_u32, None);
    for second in 0..30 * 24 * 3_600_u64 {
        let now = Duration::from_secs(second);
        if second % 30 == 0 {
            rotation.refused(Which::Active, Refusal::Unsigned);
        }
        if rotation.next(now, false) == Step::Recover {
            tries += 1;
            first.get_or_insert(second);
            rotation.failed(now, 0.5);
        }
    }
    assert_eq!((first, tries), (Some(30), 30 * 24));
    rotation.heard();
    assert_eq!(rotation.next(DAY * 30, false), Step::Wait(Duration::MAX), "it was a proxy");
}

#[test]
fn a_recovery_on_unsigned_words_that_succeeds_is_not_repeated_within_the_hour_either() {
    let (mut rotation, mut recoveries) = (rotation(Duration::ZERO), 0_u32);
    for second in (0..24 * 3_600_u64).step_by(30) {
        let now = Duration::from_secs(second);
        rotation.refused(Which::Active, Refusal::Unsigned);
        if rotation.next(now, false) == Step::Recover {
            recoveries += 1;
            rotation.activated(now, 0.5);
        }
    }
    assert!((23..=24).contains(&recoveries), "{recoveries} in a day");
}

/// The control plane, as far as it knows tokens: each a number that is its generation and one that tells it from others.
#[derive(Clone, Debug)]
struct Control {
    active: Token,
    pending: Option<Token>,
    previous: Option<(Token, Duration)>,
    retired: Vec<Token>,
}

type Token = (u64, u64);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Judged {
    Good,
    Superseded,
    Unknown,
}

impl Control {
    fn judge(&mut self, token: Token, now: Duration) -> Judged {
        if self.pending == Some(token) {
            let until = now + Duration::from_secs(600);
            self.retired.extend(self.previous.take().map(|(token, _)| token));
            self.previous = Some((std::mem::replace(&mut self.active, token), until));
            self.pending = None;
        }
        match self.previous {
            _ if self.active == token => Judged::Good,
            Some((previous, until)) if previous == token && now < until => Judged::Good,
            Some((previous, _)) if previous == token => Judged::Superseded,
            _ if self.retired.contains(&token) => Judged::Superseded,
            _ => Judged::Unknown,
        }
    }

    fn register(&mut self, token: Token) -> bool {
        let follows = token.0 == self.active.0 + 1;
        if follows {
            self.pending = Some(token);
        }
        follows || self.active == token
    }

    fn next(&self) -> u64 {
        self.pending.map_or(self.active.0, |pending| pending.0) + 1
    }

    fn recover(&mut self, token: Token) {
        if token != self.active {
            self.retired.extend(self.previous.take().map(|(token, _)| token));
            self.retired.extend(self.pending.take());
            self.retired.push(std::mem::replace(&mut self.active, token));
        }
    }
}

/// What happens to one exchange.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Link {
    Whole,
    AnswerLost,
    Cut,
    /// Where there are two, the second is cut.
    CutLater,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Turn(Link),
    /// The agent dies, and starts with what is on its disk.
    Kill,
    Pass(u64),
    /// The agent's disk, or the control plane's, is as it was a while ago.
    RestoreAgent,
    RestoreControl,
    Backup,
}

fn event(restores: bool) -> impl Strategy<Value = Event> {
    let link = prop_oneof![3 => Just(Link::Whole), 1 => Just(Link::AnswerLost), 1 => Just(Link::Cut), 1 => Just(Link::CutLater)];
    let restores = u32::from(restores);
    prop_oneof![
        20 => link.prop_map(Event::Turn),
        3 => Just(Event::Kill),
        6 => (1..900_u64).prop_map(Event::Pass),
        restores => Just(Event::RestoreAgent),
        restores => Just(Event::RestoreControl),
        2 * restores => Just(Event::Backup),
    ]
}

type Disk = (Token, Option<Token>);

/// One agent and its control plane.
#[derive(Debug)]
struct World {
    control: Control,
    disk: Disk,
    rotation: Rotation,
    speaks: Which,
    session: bool,
    now: Duration,
    made: u64,
    recoveries: u32,
    /// Tokens that came into use by a rotation, not by a recovery.
    rotations: u32,
    backups: (Disk, Control),
}

impl World {
    fn new() -> Self {
        let control = Control { active: (1, 1), pending: None, previous: None, retired: vec![] };
        let (disk, now) = (((1, 1), None), Duration::ZERO);
        let rotation = Rotation::new(SHORTEST, false, Duration::ZERO, now, 0.5);
        let backups = (disk, control.clone());
        let speaks = Which::Active;
        Self {
            control,
            disk,
            rotation,
            speaks,
            session: false,
            now,
            made: 1,
            recoveries: 0,
            rotations: 0,
            backups,
        }
    }

    fn start(&mut self) {
        self.rotation = Rotation::new(SHORTEST, self.disk.1.is_some(), Duration::ZERO, self.now, 0.5);
        (self.speaks, self.session) = (Which::Active, false);
    }

    fn token(&self, which: Which) -> Token {
        match which {
            Which::Active => self.disk.0,
            Which::Pending => self.disk.1.unwrap_or(self.disk.0),
        }
    }

    fn prepare(&mut self, generation: u64) {
        self.made += 1;
        self.disk.1 = Some((generation, self.made));
    }

    fn activate(&mut self) {
        self.disk = (self.token(Which::Pending), None);
        self.speaks = Which::Active;
        self.rotation.activated(self.now, 0.5);
        self.rotations += 1;
    }

    /// Shows a token; whether it was taken. What is refused is told, and ends the session.
    fn show(&mut self, which: Which, link: Link) -> bool {
        if link == Link::Cut {
            return false;
        }
        let judged = self.control.judge(self.token(which), self.now);
        if link == Link::AnswerLost {
            return false;
        }
        let refusal = match judged {
            Judged::Good => return true,
            Judged::Superseded => Refusal::Signed,
            Judged::Unknown => Refusal::Unsigned,
        };
        self.speaks = self.rotation.refused(which, refusal);
        self.session = false;
        false
    }

    fn turn(&mut self, link: Link) {
        if !self.session && self.show(self.speaks, link) {
            self.session = true;
            if self.rotation.welcomed(self.now, self.speaks) {
                self.activate();
            }
        }
        let done = match self.rotation.next(self.now, self.session) {
            Step::Wait(_) => return,
            Step::Prepare => {
                self.prepare(self.disk.0.0 + 1);
                self.rotation.prepared();
                true
            }
            Step::Register => {
                let next = self.token(Which::Pending);
                let shown = link != Link::Cut && self.control.judge(self.disk.0, self.now) == Judged::Good;
                let known = shown && self.control.register(next);
                let done = self.show(Which::Active, link) && known;
                if done {
                    self.rotation.registered();
                } else if shown && link != Link::AnswerLost && next.0 != self.disk.0.0 + 1 {
                    self.rotation.out_of_turn();
                }
                done
            }
            Step::Prove => {
                let done = self.show(Which::Pending, link);
                if done {
                    self.activate();
                }
                done
            }
            Step::Recover => {
                let lowest = self.control.next().max(self.disk.0.0 + 1);
                if link != Link::Cut && self.disk.1.is_none_or(|pending| pending.0 < lowest) {
                    self.prepare(lowest);
                }
                if link == Link::Whole || link == Link::AnswerLost {
                    self.control.recover(self.token(Which::Pending));
                    self.recoveries += 1;
                }
                if link == Link::Whole {
                    self.activate();
                    self.rotations -= 1;
                }
                link == Link::Whole
            }
        };
        if !done {
            self.rotation.failed(self.now, 0.5);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Turn(link) => self.turn(link),
            Event::Kill => self.start(),
            Event::Pass(seconds) => self.now += Duration::from_secs(seconds),
            Event::Backup => self.backups = (self.disk, self.control.clone()),
            Event::RestoreAgent => {
                self.disk = self.backups.0;
                self.start();
            }
            Event::RestoreControl => {
                self.control = self.backups.1.clone();
                self.session = false;
            }
        }
    }

    /// Nothing goes wrong any more: whether rotations come to their end, and the agent speaks with a token that is good.
    fn settles(&mut self) -> bool {
        for turn in 0..400 {
            if turn == 200 {
                self.rotations = 0;
            }
            self.now += Duration::from_secs(10);
            self.session = false;
            self.turn(Link::Whole);
        }
        let good = self.session && self.control.judge(self.token(self.speaks), self.now) == Judged::Good;
        good && self.rotations >= 2
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn kills_and_lost_messages_lock_nobody_out_and_need_no_device_key(
        events in prop::collection::vec(event(false), 0..120)
    ) {
        let mut world = World::new();
        events.into_iter().for_each(|event| world.happen(event));
        prop_assert!(world.settles(), "{world:#?}");
        prop_assert_eq!(world.recoveries, 0, "{:#?}", world);
    }

    #[test]
    fn backups_on_either_side_lock_nobody_out(events in prop::collection::vec(event(true), 0..120)) {
        let mut world = World::new();
        events.into_iter().for_each(|event| world.happen(event));
        prop_assert!(world.settles(), "{world:#?}");
    }
}
