//! Where a connection string leads: the host reads it for the grant, the `postgres` check for its connection, each with a parser of its
//! own. Whatever the check would dial is what the grant names, also of a string that nobody would write.

use std::path::Path;
use std::sync::Arc;

use net::{Endpoint, Grant, Rule};
use sandbox::{Job, Limits, Secrets};
use serde_json::json;

use crate::bench::Bench;

/// What both make of one string.
struct Led {
    /// None where no monitor can have it.
    granted: Option<Vec<Rule>>,
    /// By itself, whether it was granted or not.
    dialled: Vec<Endpoint>,
}

impl Bench {
    /// Every string of the table, and as many that are put together by chance. An error says which one leads the two apart.
    pub fn agree_on_connection_strings(&self, component: &Path, by_chance: usize) -> Result<(), String> {
        for (dsn, expected) in TABLE {
            let led = self.led(component, dsn)?;
            led.agrees(dsn)?;
            let found = led.granted.filter(|_| !led.dialled.is_empty()).unwrap_or_default();
            let found: Vec<_> = found.iter().map(ToString::to_string).collect();
            if found != Vec::from_iter(*expected) {
                return Err(format!("{dsn:?} leads to {found:?}, expected {expected:?}"));
            }
        }
        let mut chance = Chance(1);
        let mut led_somewhere = 0;
        for _ in 0..by_chance {
            let dsn = chance.string();
            let led = self.led(component, &dsn)?;
            led.agrees(&dsn)?;
            led_somewhere += usize::from(!led.dialled.is_empty());
        }
        // Else they would prove nothing.
        match led_somewhere * 20 >= by_chance {
            true => Ok(()),
            false => Err(format!("only {led_somewhere} of {by_chance} strings by chance lead anywhere")),
        }
    }

    fn led(&self, component: &Path, dsn: &str) -> Result<Led, String> {
        let plugin = self.plugin(component)?;
        let schema = &plugin.schema;
        let written = json!({ "dsn": dsn, "user": "picket" });
        let completed = schema.complete(&written);
        let granted = completed.as_ref().ok().and_then(|config| schema.grant(config, &[]).ok());
        let job = Job {
            monitor: "led".into(),
            config: completed.unwrap_or(written).to_string(),
            attempt: 1,
            timeout: TIME,
            // Nothing: it is written down before it is denied.
            grant: Grant::default().into(),
            route: net::Route::default(),
            secrets: Secrets::new(),
            limits: Limits { grace: TIME, ..Limits::default() },
        };
        let recorded = self.block_on(|sandbox| async move {
            sandbox.record(&plugin, job, |session| Arc::new(session)).await.map_err(|error| error.to_string())
        });
        let (_, trace) = recorded?;
        let calls = trace.calls.into_iter().filter(|call| call.call == "tcp.connect");
        let dialled = calls.map(|call| serde_json::from_value(call.asked["to"].clone()));
        let dialled = dialled.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
        Ok(Led { granted: granted.map(|grant| grant.targets), dialled })
    }
}

impl Led {
    fn agrees(&self, dsn: &str) -> Result<(), String> {
        for to in &self.dialled {
            let agreed = match (Rule::target(&to.host, to.port), &self.granted) {
                (Ok(rule), Some(granted)) => *granted == [rule],
                (Ok(_), None) => false,
                // Whatever that is, the network does not dial it.
                (Err(_), granted) => granted.is_none(),
            };
            if !agreed {
                return Err(format!("{dsn:?}: {to} is dialled, granted is {:?}", self.granted));
            }
        }
        Ok(())
    }
}

/// Knuth's generator: the same strings on every machine.
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or_default() % most
    }

    /// A proper beginning, and anything behind it.
    fn string(&mut self) -> String {
        let mut string = BEGINNINGS[self.below(BEGINNINGS.len())].to_owned();
        for _ in 0..self.below(7) {
            string.push_str(PARTS[self.below(PARTS.len())]);
        }
        string
    }
}

const BEGINNINGS: [&str; 8] = [
    "postgresql://",
    "postgres://a.test",
    "postgres://picket@a.test:5433/",
    "postgresql:///app?host=a.test",
    "postgres://[2001:db8::1]",
    "host=a.test",
    "host='a.test' port=5433",
    "",
];

const PARTS: [&str; 34] = [
    "host=",
    "port=",
    "hostaddr=",
    "user=",
    "dbname=",
    "a.test",
    "b.test",
    "5433",
    "5434",
    "192.0.2.1",
    "[2001:db8::2]",
    "::1",
    "?",
    "&",
    "/",
    "//",
    "://",
    "@",
    ":",
    "[",
    "]",
    ",",
    "=",
    "'",
    "\\",
    " ",
    "\t",
    "\u{a0}",
    "%",
    "%61",
    "%2C",
    "%3a",
    "#",
    ";",
];

/// A string and where it leads; nowhere where one of the two refuses it.
const TABLE: &[(&str, Option<&str>)] = &[
    ("postgresql://picket@db.test:5433/app", Some("db.test:5433")),
    ("postgres://db.test", Some("db.test:5432")),
    ("postgres://db.test?sslmode=require", Some("db.test:5432")),
    ("host=db.test", Some("db.test:5432")),
    (" host = 'db.test'  port =5433", Some("db.test:5433")),
    // Schemes of others, and of nobody.
    ("POSTGRES://db.test/", None),
    ("mysql://db.test:5433/", None),
    ("postgres:db.test", None),
    ("postgres+ssh://db.test/?host=other.test", None),
    (" postgres://db.test/?host=other.test", None),
    // Unknown keys, and those that lead elsewhere.
    ("host=db.test hostaddr=192.0.2.1", None),
    ("hostaddr=192.0.2.1", None),
    ("postgres://db.test/?hostaddr=192.0.2.1", None),
    ("host=db.test target_session_attrs=any", None),
    ("service=prod", None),
    ("HOST=db.test", None),
    ("host=db.test passfile=/tmp/x", None),
    // Sockets.
    ("host=/var/run/postgresql", None),
    ("host=@abstract", None),
    ("postgresql://%2Fvar%2Frun/app", None),
    ("postgresql:///app?host=/var/run", None),
    // Percent encodings, once undone.
    ("postgres://%64b.test/", Some("db.test:5432")),
    ("postgres:///?%68ost=db.test&p%6Frt=5433", Some("db.test:5433")),
    ("postgres://db.test/?host=other%2Etest", Some("other.test:5432")),
    ("postgres://db%2etest%3a5433/", None),
    ("postgres://db.test%2fapp", None),
    ("postgres://db.test%40other.test/", None),
    ("postgres://%2564b.test/", None),
    ("postgres://%zz/", None),
    ("postgres://db.test%00/", None),
    ("postgres://b%C3%BCcher.test/", Some("xn--bcher-kva.test:5432")),
    // Several hosts.
    ("postgres://a.test,b.test/", None),
    ("postgres://a.test:5432,b.test:5433/", None),
    ("postgres://[::1],[::2]/", None),
    ("postgres://a.test%2Cb.test/", None),
    ("host=a.test,b.test", None),
    ("host=a.test port=5432,5433", None),
    ("host=a.test host=b.test", Some("b.test:5432")),
    ("host=a.test host=''", Some("a.test:5432")),
    ("postgres://a.test:5433/?host=b.test&port=5434", Some("b.test:5434")),
    // Literals.
    ("postgres://[2001:db8::1]:5433/", Some("[2001:db8::1]:5433")),
    ("postgres://[2001:db8::1]/", Some("[2001:db8::1]:5432")),
    ("host=2001:db8::1", Some("[2001:db8::1]:5432")),
    ("postgres:///?host=2001:db8::1", Some("[2001:db8::1]:5432")),
    ("postgres://2001:db8::1/", None),
    ("postgres://[2001:db8::1/", None),
    ("postgres://[fe80::1%25eth0]/", None),
    ("host=[2001:db8::1]", Some("[2001:db8::1]:5432")),
    ("host=0x7f.1", None),
    ("host=192.0.2.1 port=65535", Some("192.0.2.1:65535")),
    ("host=192.0.2.1 port=65536", None),
    // Quoting.
    (r"host=db\.test", Some("db.test:5432")),
    (r"host='db.test\' port=5433", None),
    (r"host='d\b.test'port=5433", Some("db.test:5433")),
    ("host='db.test", None),
    ("host=db.test dbname='host=other.test'", Some("db.test:5432")),
    ("dbname='x' host=db.test user='it''s'", None),
    ("host=db.test user=x://host=other.test", Some("db.test:5432")),
    // Where a part ends.
    ("postgres://user@host@db.test/", Some("db.test:5432")),
    ("postgres://db.test/app@other.test", Some("db.test:5432")),
    ("postgres://db.test/app?user=@other.test/", Some("db.test:5432")),
    ("postgres://db.test#@other.test/", Some("other.test:5432")),
    ("postgres://db.test\\@other.test/", Some("other.test:5432")),
    ("postgres://db.test:/", Some("db.test:5432")),
    ("", None),
];

const TIME: std::time::Duration = std::time::Duration::from_secs(20);
