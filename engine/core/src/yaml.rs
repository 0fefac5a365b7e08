//! From text to a tree in which every key and value knows its place.
//!
//! YAML is read strictly: no anchors and merges, no duplicate keys, `no` is a text, and hard limits,
//! so that a file cannot mean two things or grow while it is read.

mod offsets;

use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::options::MergeKeyPolicy;
use serde_saphyr::{MessageFormatter, Spanned, UserMessageFormatter};

use crate::problem::{Code, File, Place, Problem, Severity};

/// Values of one file. The largest rule in use has about a hundred.
const NODES_MAX: usize = 20_000;
/// Mappings and sequences in each other.
const DEPTH_MAX: usize = 32;
/// Bytes of one file.
const FILE_BYTES_MAX: usize = 1 << 20;

/// One document of a file.
#[derive(Clone, Debug)]
pub struct Document {
    root: Node,
}

/// A value and its place.
#[derive(Clone, Debug)]
struct Node {
    at: Range<usize>,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Scalar(Value),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

#[derive(Clone, Debug)]
struct Key {
    name: String,
    at: Range<usize>,
}

/// Reads all documents of a text. The file has none when it is no YAML, and a problem says why.
pub fn read(path: &str, text: String) -> (File, Vec<Problem>) {
    let mut file = File { path: path.to_owned(), text, documents: vec![] };
    if file.text.len() > FILE_BYTES_MAX {
        let message = format!("this file has {} bytes; the limit is {FILE_BYTES_MAX}", file.text.len());
        let help = "split it into several files".to_owned();
        return (file, vec![problem(path, 0..0, message, Some(help))]);
    }
    let options = serde_saphyr::options! {
        strict_booleans: true,
        underscored_numbers_as_strings: true,
        leading_zero_numbers_as_strings: true,
        merge_keys: MergeKeyPolicy::Error,
        budget: serde_saphyr::budget! {
            max_aliases: 0,
            max_anchors: 0,
            max_nodes: NODES_MAX,
            max_depth: DEPTH_MAX,
        },
    };
    match serde_saphyr::from_multiple_with_options::<Node>(&file.text, options) {
        Ok(roots) => file.documents = roots.into_iter().map(|root| Document { root }).collect(),
        Err(error) => {
            let problem = refusal(&file, &error);
            return (file, vec![problem]);
        }
    }
    (file, vec![])
}

fn refusal(file: &File, error: &serde_saphyr::Error) -> Problem {
    let at = error.location().map_or(0, |location| {
        let line = usize::try_from(location.line()).unwrap_or(1);
        let column = usize::try_from(location.column()).unwrap_or(1);
        offset(&file.text, line, column)
    });
    let reason = UserMessageFormatter.format_message(error).into_owned();
    let (message, help) = explain(&reason);
    // The parser points behind the mark of an anchor or alias.
    let marked = file.text[..at].rfind(['&', '*']).filter(|_| message.starts_with("anchors"));
    let at = marked.unwrap_or(at);
    let end =
        file.text[at..].find(|c: char| c.is_whitespace() || c == ':').map_or(file.text.len(), |end| at + end);
    problem(&file.path, at..end.max(at), message, help)
}

/// The parser's words, where ours help more.
fn explain(reason: &str) -> (String, Option<String>) {
    let help = |text: &str| Some(text.to_owned());
    if reason.contains("Anchors") || reason.contains("Aliases") {
        return ("anchors and aliases are not read".into(), help("write the value where it is needed"));
    }
    if reason.contains("Depth") {
        return (format!("this nests more than {DEPTH_MAX} deep"), help("write it flat"));
    }
    if reason.contains("limits breached") {
        return (
            format!("this file holds more than {NODES_MAX} values"),
            help("split it into several files"),
        );
    }
    if let Some(key) = reason.strip_prefix("duplicate mapping key ") {
        let key = key.trim_end_matches(" is not allowed here");
        return (format!("{key} is written twice"), help("remove one of them"));
    }
    if reason.contains("merge key") {
        return ("`<<` is not read".into(), help("write the fields where they are needed"));
    }
    if reason.contains("tabs disallowed") {
        return ("a tab cannot indent".into(), help("indent with blanks"));
    }
    if reason.contains("mapping values are not allowed") {
        let help = help("quote a value that holds `: `, or mend the indentation");
        return ("a `:` cannot stand here".into(), help);
    }
    (
        format!("this is no YAML: {reason}"),
        help("close what is open before this place: a bracket, a brace or a quote; or mend the indentation"),
    )
}

fn problem(path: &str, span: Range<usize>, message: impl Into<String>, help: Option<String>) -> Problem {
    Problem {
        code: Code::Yaml,
        severity: Severity::Error,
        file: path.to_owned(),
        span,
        message: message.into(),
        help,
    }
}

/// The byte of a line and column, both from 1, the column in characters.
fn offset(text: &str, line: usize, column: usize) -> usize {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let rest = &text[start..];
    start + rest.char_indices().nth(column.saturating_sub(1)).map_or(rest.len(), |(at, _)| at)
}

impl Document {
    /// The document as JSON, without places.
    pub fn json(&self) -> Value {
        self.root.json()
    }

    /// Where a place lies in the text. A pointer to what is not there leads to what should hold it.
    pub(crate) fn span(&self, place: &Place, text: &str) -> Range<usize> {
        let mut node = &self.root;
        let mut key = None;
        for step in place.pointer.split('/').skip(1) {
            let step = step.replace("~1", "/").replace("~0", "~");
            let next = match &node.kind {
                Kind::Map(entries) => {
                    entries.iter().find(|(key, _)| key.name == step).map(|(key, node)| (Some(key), node))
                }
                Kind::List(elements) => {
                    step.parse::<usize>().ok().and_then(|place| elements.get(place)).map(|node| (None, node))
                }
                Kind::Scalar(_) => None,
            };
            let Some((found, child)) = next else { break };
            key = found.or(key);
            node = child;
        }
        match (&place.range, key) {
            (_, Some(key)) if place.key || (node.at.is_empty() && place.range.is_none()) => key.at.clone(),
            (Some(range), _) => {
                if let Kind::Scalar(Value::String(value)) = &node.kind {
                    offsets::locate(&text[node.at.clone()], value, range, node.at.start)
                } else {
                    node.at.clone()
                }
            }
            _ => node.at.clone(),
        }
    }
}

impl Node {
    fn json(&self) -> Value {
        match &self.kind {
            Kind::Scalar(value) => value.clone(),
            Kind::List(elements) => Value::Array(elements.iter().map(Node::json).collect()),
            Kind::Map(entries) => {
                let entries = entries.iter().map(|(key, node)| (key.name.clone(), node.json()));
                Value::Object(entries.collect::<Map<_, _>>())
            }
        }
    }
}

fn bytes(location: serde_saphyr::Location) -> Range<usize> {
    let span = location.span();
    let start = span.byte_offset().and_then(|at| usize::try_from(at).ok()).unwrap_or(0);
    let length = span.byte_len().and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
    start..start + length
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Kind>::deserialize(deserializer)?;
        Ok(Node { at: bytes(spanned.defined), kind: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KindVisitor)
    }
}

struct KindVisitor;

impl<'de> Visitor<'de> for KindVisitor {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Kind, E> {
        Ok(Kind::Scalar(Value::Bool(truth)))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Kind, E> {
        Ok(Kind::Scalar(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Kind, E> {
        Ok(Kind::Scalar(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Kind, E> {
        Ok(Kind::Scalar(Number::from_f64(number).map_or(Value::Null, Value::Number)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Kind, E> {
        Ok(Kind::Scalar(text.into()))
    }

    fn visit_unit<E>(self) -> Result<Kind, E> {
        Ok(Kind::Scalar(Value::Null))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Kind, A::Error> {
        let mut elements = vec![];
        while let Some(element) = access.next_element()? {
            elements.push(element);
        }
        Ok(Kind::List(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Kind, A::Error> {
        let mut entries = vec![];
        while let Some(key) = access.next_key::<Spanned<String>>()? {
            entries.push((Key { name: key.value, at: bytes(key.defined) }, access.next_value()?));
        }
        Ok(Kind::Map(entries))
    }
}
