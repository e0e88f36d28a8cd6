//! G11: what is no component, or not one of ours, or only nearly one. It is refused in words, and nothing of it runs.

use picket_hostile::{Guest, nested, padded};
use sandbox::{LoadError, Sandbox, Settings};

use crate::sandbox;

#[tokio::test]
async fn a_component_of_another_world_is_told_so() {
    let sandbox = sandbox();
    for text in [
        r#"(component (core module $m (func (export "run"))) (core instance $i (instantiate $m))
            (func (export "run") (canon lift (core func $i "run"))))"#,
        r#"(component (component $inner) (instance $i (instantiate $inner)) (export "wasi:cli/run@0.2.12" (instance $i)))"#,
        r#"(component (component $inner) (instance $i (instantiate $inner)) (export "picket:check/checke@0.1.0" (instance $i)))"#,
    ] {
        let error = sandbox.load(&wat::parse_str(text).unwrap()).await.unwrap_err();
        assert_eq!(error, LoadError::World, "{text}");
    }
    // The name fits, what is behind it does not.
    for (name, expected) in [("0.1.0", "contract"), ("0.2.0", "0.2.0"), ("1.0.0", "1.0.0")] {
        let text = format!(
            r#"(component (component $inner) (instance $i (instantiate $inner)) (export "picket:check/checker@{name}" (instance $i)))"#
        );
        let error = sandbox.load(&wat::parse_str(text).unwrap()).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[tokio::test]
async fn a_hundred_megabytes_are_refused_at_a_glance() {
    let mut component = Guest::default().component();
    component.resize(100 << 20, 0);
    let error = sandbox().load(&component).await.unwrap_err();
    assert_eq!(error, LoadError::TooLarge { size: 100 << 20, max: 64 << 20 });
}

#[tokio::test]
async fn a_large_component_needs_the_operators_word() {
    let component = padded(&Guest::default().component(), 8 << 20);
    let error = sandbox().load(&component).await.unwrap_err();
    let LoadError::Large { size, max, digest } = &error else { panic!("{error}") };
    assert_eq!((*size, *max), (component.len(), 8 << 20));
    assert!(error.to_string().contains(&format!("--large-plugin {digest}")), "{error}");
    for (named, permitted) in [(digest.clone(), true), (digest.replace("sha256:", "sha256:0"), false)] {
        let network = net::Network::new(net::Settings::default()).unwrap();
        let sandbox = Sandbox::new(Settings { slots: 1, large: vec![named], ..Settings::default() }, network);
        assert_eq!(sandbox.unwrap().load(&component).await.is_ok(), permitted);
    }
}

#[tokio::test]
async fn deep_nesting_is_refused_or_harmless() {
    let sandbox = sandbox();
    for depth in [50, 99, 120, 5000] {
        let component = nested(depth);
        let error = sandbox.load(&component).await.unwrap_err();
        assert!(matches!(error, LoadError::World | LoadError::Compile(_)), "{depth}: {error}");
    }
    // Types within types: beyond the format's own bound it does not validate.
    for depth in [10, 90] {
        let text = format!("(component (type {} u8 {}", "(list ".repeat(depth), ")".repeat(depth + 2));
        let error = sandbox.load(&wat::parse_str(text).unwrap()).await.unwrap_err();
        assert!(matches!(error, LoadError::World | LoadError::Compile(_)), "{depth}: {error}");
    }
    // Blocks within blocks, in a guest that is otherwise a check.
    let items = format!("(func $deep {} {})", "block ".repeat(5000), "end ".repeat(5000));
    let loaded = sandbox.load(&Guest { items: &items, ..Guest::default() }.component()).await;
    assert!(loaded.is_ok() || matches!(loaded, Err(LoadError::Compile(_))), "{loaded:?}");
}

#[tokio::test]
async fn types_that_double_with_every_line_are_refused() {
    // Forty lines that stand for a billion fields.
    let mut text = "(component (type $t0 (tuple u8 u8))\n".to_owned();
    for n in 1..40 {
        text.push_str(&format!("(type $t{n} (tuple $t{0} $t{0}))\n", n - 1));
    }
    text.push_str("(import \"f\" (func (param \"x\" $t39))))");
    let error = sandbox().load(&wat::parse_str(text).unwrap()).await.unwrap_err();
    assert!(matches!(error, LoadError::Compile(_)), "{error}");
}

/// A small generator (xorshift64*): which bytes are changed is told by the seed alone.
struct Noise(u64);

impl Noise {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }
}

/// What an attacker would do who has a good component and a hex editor: cut, flip, repeat, swap.
fn damaged(good: &[u8], noise: &mut Noise) -> Vec<u8> {
    let mut bytes = good.to_vec();
    for _ in 0..=noise.below(3) {
        let at = 8 + noise.below(bytes.len() - 9);
        match noise.below(5) {
            0 => bytes[at] ^= 1 << noise.below(8),
            1 => bytes[at] = [0, 0x7f, 0x80, 0xff][noise.below(4)],
            2 => bytes.truncate(at.max(16)),
            3 => {
                let end = (at + noise.below(64)).min(bytes.len());
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            _ => {
                let other = 8 + noise.below(bytes.len() - 9);
                bytes.swap(at, other);
            }
        }
    }
    bytes
}

#[tokio::test]
async fn a_damaged_component_is_refused_or_runs_within_its_bounds() {
    let soak = std::env::var_os("PICKET_SOAK").is_some_and(|value| value == "1");
    let rounds = if soak { 20_000 } else { 150 };
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0x9e37_79b9_u64);
    let network = net::Network::new(net::Settings::default()).unwrap();
    let sandbox = Sandbox::new(Settings { slots: 4, ..Settings::default() }, network).unwrap();
    let good = Guest::default().component();
    let mut noise = Noise(seed);
    let (mut refused, mut loaded) = (0, 0);
    for _ in 0..rounds {
        match sandbox.load(&damaged(&good, &mut noise)).await {
            Err(error) => {
                assert!(!error.to_string().is_empty());
                refused += 1;
            }
            // The change hit a text, a name, or nothing that counts.
            Ok(plugin) => {
                let job = picket_hostile::job(serde_json::json!({}), std::time::Duration::from_millis(100));
                let report = sandbox.run(&plugin, job).await;
                assert!(report.duration < std::time::Duration::from_secs(10), "{report:?}");
                loaded += 1;
            }
        }
    }
    println!("seed {seed}: {refused} damaged components refused, {loaded} loaded");
    assert!(refused > rounds / 4, "{refused} of {rounds}");
    // The sandbox is as good as before.
    sandbox.load(&good).await.unwrap();
}

#[tokio::test]
async fn a_component_that_is_cut_anywhere_is_refused() {
    let sandbox = sandbox();
    let good = Guest::default().component();
    for part in 1..32 {
        let cut = &good[..good.len() * part / 32];
        let error = sandbox.load(cut).await.unwrap_err();
        assert!(matches!(error, LoadError::Compile(_) | LoadError::World), "{part}: {error}");
    }
}

#[tokio::test]
async fn a_description_that_is_a_bomb_is_refused() {
    // Half a megabyte of brackets where JSON should be, and a schema that asks for itself.
    let deep = format!(
        "{{\"type\":\"object\",\"additionalProperties\":false,\"a\":{}1{}}}",
        "[".repeat(500),
        "]".repeat(500)
    );
    for schema in [
        deep.as_str(),
        r##"{"type":"object","additionalProperties":false,"properties":{"a":{"$ref":"#/properties/a"}}}"##,
        r#"{"type":"object","additionalProperties":false,"properties":{"a":{"$ref":"http://169.254.169.254/latest"}}}"#,
        r#"{"type":"object","additionalProperties":false,"properties":{"a":{"type":"string","pattern":"(a{1000}){1000}"}}}"#,
    ] {
        let schema = schema.replace('\\', "\\\\");
        let error = sandbox().load(&Guest { schema: &schema, ..Guest::default() }.component()).await.err();
        let said = error.map(|error| error.to_string());
        assert!(said.is_some(), "{}", &schema[..80.min(schema.len())]);
    }
}
