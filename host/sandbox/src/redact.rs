//! Keeps secrets out of every text that leaves a run, and cuts texts to their bounds. Owns no bound of its own.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use zeroize::Zeroizing;

/// Stands where a secret stood.
pub(crate) const REDACTED: &str = "[redacted]";

/// Below this many bytes a secret is hidden only where it is the whole text: as a part it would eat harmless words.
pub(crate) const SHORT: usize = 4;

/// A line of a longer secret is hidden by itself from so many bytes on.
const LINE: usize = 12;

/// Secrets by the name that a configuration gives them. `Debug` prints names only; the bytes are wiped when it is dropped.
#[derive(Clone, Default)]
pub struct Secrets(BTreeMap<String, Zeroizing<Vec<u8>>>);

impl Secrets {
    /// No secret.
    pub fn new() -> Self {
        Secrets::default()
    }

    /// Adds one, replacing an older one of that name.
    pub fn insert(&mut self, name: impl Into<String>, bytes: Vec<u8>) {
        self.0.insert(name.into(), Zeroizing::new(bytes));
    }

    /// The bytes of the secret of that name.
    pub fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.0.get(name).map(|bytes| bytes.as_slice())
    }

    /// The bytes of every secret.
    pub(crate) fn all(&self) -> impl Iterator<Item = &[u8]> {
        self.0.values().map(|bytes| bytes.as_slice())
    }

    /// The names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Replaces secrets in texts: as they stand and as base64, percent-encoding, hexadecimal and JSON write them.
pub(crate) struct Redactor(RwLock<Forms>);

#[derive(Default)]
struct Forms {
    /// Longest first, so that no pattern leaves the rest of a longer one behind.
    parts: Vec<Zeroizing<String>>,
    /// Only where they are everything.
    wholes: Vec<Zeroizing<String>>,
}

impl Redactor {
    pub(crate) fn new(secrets: &Secrets) -> Self {
        let mut forms = Forms::default();
        for bytes in secrets.0.values() {
            forms.add(bytes);
        }
        forms.sort();
        Redactor(RwLock::new(forms))
    }

    /// One more secret, which came in the course of a run.
    pub(crate) fn learn(&self, bytes: &[u8]) {
        let mut forms = self.0.write().unwrap_or_else(PoisonError::into_inner);
        forms.add(bytes);
        forms.sort();
    }

    /// The text without any secret.
    pub(crate) fn clean(&self, mut text: String) -> String {
        let forms = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if forms.wholes.iter().any(|whole| **whole == text) {
            return REDACTED.to_owned();
        }
        for part in &forms.parts {
            if text.contains(part.as_str()) {
                text = text.replace(part.as_str(), REDACTED);
            }
        }
        text
    }

    /// The text's beginning of at most so many bytes without any secret, and whether something was cut. `incomplete` says that the
    /// text itself was cut before.
    pub(crate) fn start(&self, text: &str, max: usize, incomplete: bool) -> (String, bool) {
        let head = &text[..text.floor_char_boundary(max.saturating_add(self.longest()))];
        let shortened = incomplete || head.len() < text.len();
        let mut clean = self.clean(head.to_owned());
        if shortened {
            // The end may be the beginning of a secret.
            clean.truncate(clean.floor_char_boundary(clean.len().saturating_sub(self.longest())));
        }
        let (clean, cut) = cut(clean, max);
        (clean, cut || shortened)
    }

    /// The longest form of any secret, in bytes: where a text was cut, so much of its end may be the beginning of one.
    pub(crate) fn longest(&self) -> usize {
        let forms = self.0.read().unwrap_or_else(PoisonError::into_inner);
        forms.parts.first().map_or(0, |part| part.len())
    }
}

impl Forms {
    fn add(&mut self, bytes: &[u8]) {
        match bytes.len() {
            0 => {}
            1..SHORT => self.wholes.push(Zeroizing::new(String::from_utf8_lossy(bytes).into_owned())),
            _ => self.parts.extend(forms(bytes)),
        }
    }

    fn sort(&mut self) {
        self.parts.sort_by_key(|part| std::cmp::Reverse(part.len()));
        self.parts.dedup();
    }
}

/// Every way in which these bytes are commonly written.
pub(crate) fn forms(bytes: &[u8]) -> Vec<Zeroizing<String>> {
    let text = Zeroizing::new(String::from_utf8_lossy(bytes).into_owned());
    let mut forms = vec![
        Zeroizing::new(percent(bytes)),
        Zeroizing::new(lower_escapes(&percent(bytes))),
        // A form's (application/x-www-form-urlencoded).
        Zeroizing::new(percent(bytes).replace("%20", "+")),
        Zeroizing::new(lower_escapes(&percent(bytes)).replace("%20", "+")),
        Zeroizing::new(hex::encode(bytes)),
        Zeroizing::new(hex::encode_upper(bytes)),
    ];
    forms.extend(json(&text));
    forms.extend(base64(bytes));
    // A key of several lines is often printed line by line.
    forms.extend(text.lines().filter(|line| line.len() >= LINE).map(|line| Zeroizing::new(line.to_owned())));
    forms.push(text);
    forms.retain(|form| form.len() >= SHORT);
    forms
}

/// The inside of a JSON string (RFC 8259, section 7), with and without the escapes that are left to the writer: `\/`, and numbers
/// for what is not ASCII, whose digits may be lower or upper case.
fn json(text: &str) -> Vec<Zeroizing<String>> {
    let quoted = Zeroizing::new(serde_json::Value::String(text.to_owned()).to_string());
    let plain = Zeroizing::new(quoted[1..quoted.len() - 1].to_owned());
    let lower = Zeroizing::new(ascii(&plain, |unit| format!("\\u{unit:04x}")));
    let upper = Zeroizing::new(ascii(&plain, |unit| format!("\\u{unit:04X}")));
    let slashes = |form: &Zeroizing<String>| Zeroizing::new(form.replace('/', "\\/"));
    [plain, lower, upper].into_iter().flat_map(|form| [slashes(&form), form]).collect()
}

/// The text with an escape for each UTF-16 unit of what is not ASCII.
fn ascii(text: &str, escape: impl Fn(u16) -> String) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        match character.is_ascii() {
            true => escaped.push(character),
            false => escaped.extend(character.encode_utf16(&mut [0; 2]).iter().map(|unit| escape(*unit))),
        }
    }
    escaped
}

/// RFC 3986, section 2.1: everything but the unreserved characters.
fn percent(bytes: &[u8]) -> String {
    let mut text = String::new();
    for &byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => text.push(byte as char),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

/// The same with lower-case digits behind each percent sign.
fn lower_escapes(text: &str) -> String {
    let mut parts = text.split('%');
    let mut lower = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        lower.push('%');
        lower.push_str(&part[..2].to_lowercase());
        lower.push_str(&part[2..]);
    }
    lower
}

/// The characters that stand for these bytes alone in base64, in both alphabets (RFC 4648, sections 4 and 5), wherever they begin
/// in the encoded data: behind "user:" as well as at its start.
fn base64(bytes: &[u8]) -> Vec<Zeroizing<String>> {
    use base64::Engine as _;
    let mut forms = Vec::new();
    for shift in 0..3_usize {
        let shifted = Zeroizing::new([&[0; 2][..shift.min(2)], bytes].concat());
        // The first characters mix with what stands before, the last one with what follows.
        let first = (shift * 8).div_ceil(6);
        let last = shifted.len() * 8 / 6;
        for engine in [
            base64::engine::general_purpose::STANDARD_NO_PAD,
            base64::engine::general_purpose::URL_SAFE_NO_PAD,
        ] {
            let text = Zeroizing::new(engine.encode(&*shifted));
            forms.push(Zeroizing::new(text[first..last].to_owned()));
        }
    }
    forms
}

/// The text's beginning of at most so many bytes, ending between two characters, and whether something was cut.
pub(crate) fn cut(mut text: String, max: usize) -> (String, bool) {
    if text.len() <= max {
        return (text, false);
    }
    text.truncate(text.floor_char_boundary(max));
    (text, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redactor(secret: &str) -> Redactor {
        let mut secrets = Secrets::new();
        secrets.insert("token", secret.as_bytes().to_vec());
        Redactor::new(&secrets)
    }

    fn check(secret: &str, text: &str, expected: &str) {
        assert_eq!(redactor(secret).clean(text.to_owned()), expected);
    }

    #[test]
    fn a_secret_is_hidden_wherever_it_stands() {
        check("hunter22", "Bearer hunter22, again hunter22", "Bearer [redacted], again [redacted]");
        check("hunter22", "nothing here", "nothing here");
    }

    #[test]
    fn a_secret_is_hidden_in_the_usual_encodings() {
        check("p ss/w\"rd", "q=p%20ss%2Fw%22rd&", "q=[redacted]&");
        check("p ss/w\"rd", "q=p%20ss%2fw%22rd&", "q=[redacted]&");
        check("p ss/w\"rd", r#"{"k":"p ss/w\"rd"}"#, r#"{"k":"[redacted]"}"#);
        check("p ss/w\"rd", r#"{"k":"p ss\/w\"rd"}"#, r#"{"k":"[redacted]"}"#);
        check("p ss/w\"rd", "q=p+ss%2Fw%22rd&", "q=[redacted]&");
        check("p ss/w\"rd", "q=p+ss%2fw%22rd&", "q=[redacted]&");
        check("pässword/🔑", r#"["p\u00e4ssword/\ud83d\udd11"]"#, r#"["[redacted]"]"#);
        check("pässword/🔑", r#"["p\u00E4ssword\/\uD83D\uDD11"]"#, r#"["[redacted]"]"#);
        check("pässword/🔑", r#"["pässword\/🔑"]"#, r#"["[redacted]"]"#);
        check("hunter22", "68756e7465723232", "[redacted]");
    }

    #[test]
    fn a_secret_is_hidden_in_base64_behind_any_user_name() {
        use base64::Engine as _;
        for user in ["", "u", "us", "use", "user"] {
            let text =
                base64::engine::general_purpose::STANDARD.encode(format!("{user}:correct horse battery"));
            let clean = redactor("correct horse battery").clean(text.clone());
            assert!(clean.contains(REDACTED), "{text} became {clean}");
            assert!(clean.len() < text.len() - 14, "{text} became {clean}");
        }
    }

    #[test]
    fn a_short_secret_is_hidden_only_where_it_is_everything() {
        check("abc", "abc", "[redacted]");
        check("abc", "abcdef", "abcdef");
    }

    #[test]
    fn a_secret_that_comes_later_is_hidden_too() {
        let redactor = redactor("hunter22");
        redactor.learn(b"token-from-elsewhere");
        let text = "hunter22 and token-from-elsewhere".to_owned();
        assert_eq!(redactor.clean(text), "[redacted] and [redacted]");
        assert!(redactor.longest() >= 40, "the longest form is that of the longer one");
    }

    #[test]
    fn an_empty_secret_hides_nothing() {
        check("", "text", "text");
    }

    #[test]
    fn debug_prints_names_only() {
        let mut secrets = Secrets::new();
        secrets.insert("token", b"hunter22".to_vec());
        assert_eq!(format!("{secrets:?}"), r#"{"token"}"#);
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut("häh".into(), 2), ("h".into(), true));
        assert_eq!(cut("häh".into(), 3), ("hä".into(), true));
        assert_eq!(cut("häh".into(), 4), ("häh".into(), false));
    }
}
