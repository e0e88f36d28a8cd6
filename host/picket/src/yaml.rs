//! YAML as people write it, with the place of every key, so that a mistake found later still names its line and column.

use std::fmt;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::{MessageFormatter as _, Spanned, UserMessageFormatter};

use crate::failure::{Failure, exit};

/// A file and what stands in it. YAML 1.2: only `true` and `false` are booleans. JSON is YAML.
#[derive(Debug)]
pub(crate) struct Document {
    /// As given on the command line; "stdin" for "-".
    pub(crate) name: String,
    root: Tree,
}

impl Document {
    /// Reads a file, or stdin for "-".
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let (name, text) = if path == Path::new("-") {
            ("stdin".to_owned(), std::io::read_to_string(std::io::stdin()))
        } else {
            (path.display().to_string(), std::fs::read_to_string(path))
        };
        let text =
            text.map_err(|e| Failure::new(exit::NO_INPUT, e).context(format!("cannot read {name}")))?;
        Self::parse(&name, &text).map_err(|mistake| Failure::text(exit::DATA, mistake))
    }

    /// Reads text; a mistake is "NAME:LINE:COLUMN: what is wrong".
    pub(crate) fn parse(name: &str, text: &str) -> Result<Self, String> {
        let options = serde_saphyr::options! { strict_booleans: true };
        match serde_saphyr::from_str_with_options::<Tree>(text, options) {
            Ok(root) => Ok(Self { name: name.to_owned(), root }),
            Err(e) => {
                let place = e.location().map(|l| Place { line: l.line(), column: l.column() });
                let message = UserMessageFormatter.format_message(e.without_snippet());
                Err(format!("{}: {}", Place::of(name, place), message.escape_debug()))
            }
        }
    }

    /// The whole as JSON.
    pub(crate) fn to_json(&self) -> Value {
        self.root.to_json()
    }

    /// "NAME:LINE:COLUMN" of the key or entry at a JSON pointer, or of the nearest one above it that exists.
    pub(crate) fn place(&self, pointer: &str) -> String {
        let mut tree = &self.root;
        let mut place = tree.place;
        for segment in pointer.split('/').skip(1) {
            let segment = segment.replace("~1", "/").replace("~0", "~");
            match &tree.node {
                Node::Map(members) => {
                    let Some((key, member)) = members.iter().find(|(key, _)| key.text == segment) else {
                        break;
                    };
                    (tree, place) = (member, key.place);
                }
                Node::List(entries) => {
                    let Some(entry) = segment.parse().ok().and_then(|i: usize| entries.get(i)) else { break };
                    (tree, place) = (entry, entry.place);
                }
                Node::Scalar(_) => break,
            }
        }
        Place::of(&self.name, Some(place))
    }
}

#[derive(Debug)]
struct Tree {
    node: Node,
    place: Place,
}

#[derive(Debug)]
enum Node {
    Scalar(Value),
    List(Vec<Tree>),
    Map(Vec<(Key, Tree)>),
}

#[derive(Debug)]
struct Key {
    text: String,
    place: Place,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    line: u64,
    column: u64,
}

impl Place {
    fn of(name: &str, place: Option<Self>) -> String {
        match place {
            Some(Self { line, column }) if line > 0 => format!("{name}:{line}:{column}"),
            _ => name.to_owned(),
        }
    }
}

impl From<serde_saphyr::Location> for Place {
    fn from(location: serde_saphyr::Location) -> Self {
        Self { line: location.line(), column: location.column() }
    }
}

impl Tree {
    fn to_json(&self) -> Value {
        match &self.node {
            Node::Scalar(value) => value.clone(),
            Node::List(entries) => Value::Array(entries.iter().map(Self::to_json).collect()),
            Node::Map(members) => Value::Object(
                members.iter().map(|(key, tree)| (key.text.clone(), tree.to_json())).collect::<Map<_, _>>(),
            ),
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Node>::deserialize(deserializer)?;
        Ok(Self { node: spanned.value, place: spanned.referenced.into() })
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Node, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("a number must be finite"))?;
        Ok(Node::Scalar(number.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(entry) = entries.next_element()? {
            list.push(entry);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Node, A::Error> {
        let mut map: Vec<(Key, Tree)> = Vec::new();
        while let Some(key) = members.next_key::<Spanned<String>>()? {
            if map.iter().any(|(known, _)| known.text == key.value) {
                return Err(A::Error::custom(format_args!("{:?} stands here twice", key.value)));
            }
            let key = Key { text: key.value, place: key.referenced.into() };
            map.push((key, members.next_value()?));
        }
        Ok(Node::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Document;

    const SAMPLE: &str = "monitors:\n  - name: shop\n    check: http\n    config: { url: \"http://x/\", keyword: yes }\n  - name: db\n    check: postgres\n    config:\n      port: 5432\n      tls: true\n";

    fn check(pointer: &str, place: &str) {
        assert_eq!(Document::parse("m.yaml", SAMPLE).unwrap().place(pointer), place, "{pointer}");
    }

    #[test]
    fn reads_yaml_as_json_would_say_it() {
        let json = Document::parse("m.yaml", SAMPLE).unwrap().to_json();
        assert_eq!(json["monitors"][0]["config"], json!({"url": "http://x/", "keyword": "yes"}));
        assert_eq!(json["monitors"][1]["config"], json!({"port": 5432, "tls": true}));
    }

    #[test]
    fn knows_where_each_key_stands() {
        check("/monitors", "m.yaml:1:1");
        check("/monitors/0", "m.yaml:2:5");
        check("/monitors/1/name", "m.yaml:5:5");
        check("/monitors/0/config/keyword", "m.yaml:4:33");
        check("/monitors/1/config/port", "m.yaml:8:7");
    }

    #[test]
    fn a_key_that_is_missing_is_placed_at_its_parent() {
        check("/monitors/1/config/dbname", "m.yaml:7:5");
        check("/monitors/7/name", "m.yaml:1:1");
    }

    #[test]
    fn a_mistake_in_the_syntax_names_line_and_column() {
        let mistake = |text| Document::parse("m.yaml", text).unwrap_err();
        assert!(
            mistake("monitors:\n  - name: shop\n   check: http\n").starts_with("m.yaml:3:"),
            "{}",
            mistake("monitors:\n  - name: shop\n   check: http\n")
        );
        assert!(mistake("a: 1\nb: [1, 2\n").starts_with("m.yaml:"), "{}", mistake("a: 1\nb: [1, 2\n"));
        assert!(mistake("a: 1\na: 2\n").starts_with("m.yaml:2:1: "), "{}", mistake("a: 1\na: 2\n"));
    }

    #[test]
    fn json_is_read_too_with_tabs() {
        let document =
            Document::parse("c.json", "{\n\t\"url\": \"http://x/\",\n\t\"port\": 1.5\n}\n").unwrap();
        assert_eq!(document.to_json(), json!({"url": "http://x/", "port": 1.5}));
    }
}
