//! A file of cases, read into types; and the placeholders in it filled from the servers' values.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

/// One file: cases about one matter, and what they share.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// Alias to kind, or to `{kind: settings}`.
    #[serde(default)]
    pub servers: BTreeMap<String, Value>,
    /// Beneath the secrets of every case.
    #[serde(default)]
    pub secrets: BTreeMap<String, String>,
    /// Beneath the configuration of every case.
    #[serde(default)]
    pub config: Map<String, Value>,
    /// Beneath the monitor's own fields of every case.
    #[serde(default)]
    pub monitor: Map<String, Value>,
    /// Name to case. The name is a sentence.
    pub cases: BTreeMap<String, Case>,
}

/// One case.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What the monitor's owner would write.
    #[serde(default)]
    pub config: Map<String, Value>,
    /// The fields that every monitor may have, whatever its check.
    #[serde(default)]
    pub monitor: Map<String, Value>,
    /// What `{"$secret": name}` stands for.
    #[serde(default)]
    pub secrets: BTreeMap<String, String>,
    /// The monitor's own list of targets beside those of its configuration.
    #[serde(default)]
    pub allow: Vec<String>,
    /// "5s" or "500ms"; 5 s when none.
    pub timeout: Option<String>,
    /// What must come of it.
    pub expect: Expect,
}

/// What must come of a case.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// The state.
    pub state: State,
    /// The code, exactly.
    pub code: String,
    /// A part of the summary.
    pub summary_contains: Option<String>,
    /// A part of the evidence.
    pub evidence_contains: Option<String>,
    /// By id, whether it passed.
    #[serde(default)]
    pub findings: BTreeMap<String, bool>,
    /// By name, the smallest and the largest allowed value.
    #[serde(default)]
    pub metrics: BTreeMap<String, (f64, f64)>,
    /// By name, exactly.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
    /// For the code "config": the JSON pointer of a mistake.
    pub mistake_at: Option<String>,
}

/// The state that the agent would report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Every expectation holds.
    Up,
    /// Serves, but needs attention.
    Degraded,
    /// Does not serve.
    Down,
    /// The check could not be made.
    Error,
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Down => "down",
            Self::Error => "error",
        })
    }
}

impl Table {
    /// Reads a file; an error names it, with line and column.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Self::parse(&text).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Reads the text of a file. What the file shares is put beneath each case.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut table: Self = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        for case in table.cases.values_mut() {
            for (key, value) in &table.config {
                case.config.entry(key).or_insert_with(|| value.clone());
            }
            for (key, value) in &table.monitor {
                case.monitor.entry(key).or_insert_with(|| value.clone());
            }
            for (name, value) in &table.secrets {
                case.secrets.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
        Ok(table)
    }
}

impl Case {
    /// The servers of the table that the case mentions: the others need not run for it.
    pub fn servers(&self, table: &Table) -> BTreeMap<String, Value> {
        let texts = self.allow.iter().chain(self.secrets.values());
        let texts = texts.chain(self.expect.attributes.values()).chain(&self.expect.summary_contains);
        let config =
            [&self.config, &self.monitor].map(|fields| Value::from(fields.clone()).to_string()).concat();
        let mentioned = |alias: &String| {
            let begins = format!("${{{alias}.");
            config.contains(&begins) || texts.clone().any(|text| text.contains(&begins))
        };
        table
            .servers
            .iter()
            .filter(|(alias, _)| mentioned(alias))
            .map(|(a, v)| (a.clone(), v.clone()))
            .collect()
    }

    /// Fills every `${alias.field}` in configuration, secrets, targets, expected attributes and summary; an error names the
    /// placeholder that nobody has a value for.
    pub fn filled(mut self, known: &BTreeMap<String, String>) -> Result<Self, String> {
        self.config.values_mut().chain(self.monitor.values_mut()).try_for_each(|value| fill(value, known))?;
        let expected = self.expect.attributes.values_mut().chain(&mut self.expect.summary_contains);
        for text in self.secrets.values_mut().chain(&mut self.allow).chain(expected) {
            *text = fill_text(text, known)?;
        }
        Ok(self)
    }
}

fn fill(value: &mut Value, known: &BTreeMap<String, String>) -> Result<(), String> {
    match value {
        Value::String(text) => {
            let filled = fill_text(text, known)?;
            // Only a placeholder turns into a number: what the author wrote as text stays one.
            *value = match filled.parse::<u64>() {
                Ok(number) if filled != *text => number.into(),
                _ => filled.into(),
            };
            Ok(())
        }
        Value::Array(items) => items.iter_mut().try_for_each(|item| fill(item, known)),
        Value::Object(members) => members.values_mut().try_for_each(|member| fill(member, known)),
        _ => Ok(()),
    }
}

fn fill_text(text: &str, known: &BTreeMap<String, String>) -> Result<String, String> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let end = rest[start..]
            .find('}')
            .map(|length| start + length)
            .ok_or_else(|| format!("`{text}` lacks a }}"))?;
        let name = &rest[start + 2..end];
        // What names no field of a server is the configuration's own.
        if !name.contains('.') {
            filled.push_str(&rest[..=end]);
            rest = &rest[end + 1..];
            continue;
        }
        let value = known.get(name).ok_or_else(|| {
            format!("no server of this file has a value ${{{name}}}; known are {:?}", known.keys())
        })?;
        filled.push_str(&rest[..start]);
        filled.push_str(value);
        rest = &rest[end + 1..];
    }
    filled.push_str(rest);
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_file_shares_lies_beneath_its_cases() {
        let table = Table::parse(
            "config: {method: GET, port: 1}\nsecrets: {a: b}\ncases:\n  it works:\n    config: {port: 2}\n    expect: {state: up, code: ok}\n",
        )
        .unwrap();
        let case = &table.cases["it works"];
        assert_eq!(Value::from(case.config.clone()), json!({"method": "GET", "port": 2}));
        assert_eq!(case.secrets["a"], "b");
    }

    #[test]
    fn a_case_needs_the_servers_that_it_mentions() {
        let table = Table::parse(
            "servers: {web: nginx, old: nginx, dns: knot, other: knot}\nsecrets: {a: \"${old.token}\"}\ncases:\n  it works:\n    config: {url: [\"${web.url}/\"]}\n    monitor: {resolver: \"${dns.server}\"}\n    expect: {state: up, code: ok}\n",
        )
        .unwrap();
        let needed = table.cases["it works"].servers(&table);
        assert_eq!(needed.keys().collect::<Vec<_>>(), ["dns", "old", "web"]);
    }

    #[test]
    fn placeholders_are_filled_and_numbers_become_numbers() {
        let known = BTreeMap::from([("web.port".into(), "80".into())]);
        let mut value = json!({"port": "${web.port}", "url": ["http://x:${web.port}/"], "send": "17"});
        fill(&mut value, &known).unwrap();
        assert_eq!(value, json!({"port": 80, "url": ["http://x:80/"], "send": "17"}));
        let mut own = json!("${1} ${name}");
        fill(&mut own, &known).unwrap();
        assert_eq!(own, json!("${1} ${name}"));
        assert!(fill(&mut json!("${nobody.port}"), &known).unwrap_err().contains("nobody.port"));
    }
}
