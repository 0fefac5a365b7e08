//! The JSON Schemas of the documents, and what a document that does not satisfy its schema is told.

use std::sync::OnceLock;

use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::{ValidationError, Validator};
use schemars::generate::SchemaSettings;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use qscaler_cel::closest;

use crate::document::rule::RuleDocument;
use crate::document::test::TestDocument;
use crate::document::workload::WorkloadDocument;
use crate::problem::{Code, Finding, Place};

/// A kind of document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// [`RuleDocument`].
    Rule,
    /// [`TestDocument`].
    Test,
    /// [`WorkloadDocument`].
    Workload,
}

/// A document by its kind, read by its type.
#[derive(Clone, Debug, PartialEq)]
pub enum Read {
    /// A rule.
    Rule(RuleDocument),
    /// Tests of rules.
    Test(TestDocument),
    /// A workload.
    Workload(WorkloadDocument),
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 3] = [Kind::Rule, Kind::Test, Kind::Workload];

    /// What stands after `kind:`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Rule => "ScalingRule",
            Kind::Test => "RuleTest",
            Kind::Workload => "Workload",
        }
    }

    /// The schema's file, under `schemas/`.
    pub fn file(self) -> &'static str {
        match self {
            Kind::Rule => "rule.schema.json",
            Kind::Test => "test.schema.json",
            Kind::Workload => "workload.schema.json",
        }
    }

    /// The schema, in JSON Schema 2020-12.
    pub fn schema(self) -> Value {
        let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
        let generator = settings.into_generator();
        let schema = match self {
            Kind::Rule => generator.into_root_schema_for::<RuleDocument>(),
            Kind::Test => generator.into_root_schema_for::<TestDocument>(),
            Kind::Workload => generator.into_root_schema_for::<WorkloadDocument>(),
        };
        let mut value = schema.to_value();
        flatten_variants(&mut value);
        value
    }

    fn compiled(self) -> &'static (Value, Validator) {
        static COMPILED: [OnceLock<(Value, Validator)>; 3] = [const { OnceLock::new() }; 3];
        COMPILED[self as usize].get_or_init(|| {
            let schema = self.schema();
            let validator = jsonschema::draft202012::new(&schema).expect("our schemas are schemas");
            (schema, validator)
        })
    }
}

/// A document that does not satisfy its schema.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// Why.
    pub findings: Vec<Finding>,
    /// What it would be with these mended, if that can be guessed: to look for further problems, never
    /// to be used.
    pub mended: Option<Box<Read>>,
}

/// Reads one document: by its kind, through the schema, into its type. All problems at once.
pub fn read(document: usize, json: &Value) -> Result<Read, Refusal> {
    let refuse = |finding| Refusal { findings: vec![finding], mended: None };
    let kind = kind_of(document, json).map_err(refuse)?;
    let (schema, validator) = kind.compiled();
    let errors: Vec<_> = validator.iter_errors(json).collect();
    if !errors.is_empty() {
        let findings = errors.iter().flat_map(|error| describe(document, schema, json, error)).collect();
        let mended = [true, false].into_iter().find_map(|strict| mend(kind, schema, json, (&errors, strict)));
        return Err(Refusal { findings, mended: mended.map(Box::new) });
    }
    // The schema is made from the types, so this says something only where a type is stricter.
    typed(kind, json)
        .map_err(|error| refuse(Finding::error(Code::Value, Place::value(document, ""), error.to_string())))
}

fn typed(kind: Kind, json: &Value) -> serde_json::Result<Read> {
    match kind {
        Kind::Rule => RuleDocument::deserialize(json).map(Read::Rule),
        Kind::Test => TestDocument::deserialize(json).map(Read::Test),
        Kind::Workload => WorkloadDocument::deserialize(json).map(Read::Workload),
    }
}

/// Mends what is wrong as the problems advise: misspelt fields get their names, what cannot be is
/// left out. Texts of the wrong form are left out too when `strict`; but some must be there.
fn mend(
    kind: Kind,
    schema: &Value,
    json: &Value,
    (errors, strict): (&[ValidationError<'_>], bool),
) -> Option<Read> {
    let mut mended = json.clone();
    for error in errors {
        let pointer = error.instance_path().as_str();
        match error.kind() {
            ValidationErrorKind::AdditionalProperties { unexpected } => {
                let known = properties(parent(schema, error.schema_path().as_str()));
                let object = mended.pointer_mut(pointer)?.as_object_mut()?;
                for name in unexpected {
                    let value = object.remove(name);
                    if let (Some(meant), Some(value)) = (closest(name, known.iter().copied()), value)
                        && !object.contains_key(meant)
                    {
                        object.insert(meant.to_owned(), value);
                    }
                }
            }
            ValidationErrorKind::Required { property } => {
                let name = property.as_str()?;
                let object = mended.pointer_mut(pointer)?.as_object_mut()?;
                // A bound that was forgotten may be anything.
                object.entry(name).or_insert(json!(1_000_000));
            }
            ValidationErrorKind::Pattern { .. } if !strict => {}
            _ => {
                let (holder, field) = pointer.rsplit_once('/')?;
                mended.pointer_mut(holder)?.as_object_mut()?.remove(field);
            }
        }
    }
    typed(kind, &mended).ok()
}

fn kind_of(document: usize, json: &Value) -> Result<Kind, Finding> {
    let known = Kind::ALL.map(Kind::name);
    let list = "`kind: ScalingRule`, `kind: RuleTest` or `kind: Workload`";
    let Some(written) = json.get("kind") else {
        let message = if json.is_object() { "this document has no `kind`" } else { "this is no document" };
        let finding = Finding::error(Code::Kind, Place::value(document, ""), message);
        return Err(finding.help(format!("write `apiVersion: qscaler.dev/v1alpha1` and {list}")));
    };
    let name = written.as_str().unwrap_or_default();
    Kind::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
        let message = format!("`{name}` is no kind of document");
        let help = match closest(name, known) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("write {list}"),
        };
        Finding::error(Code::Kind, Place::value(document, "/kind"), message).help(help)
    })
}

/// Says what a schema's refusal means. One refusal may name several fields.
fn describe(document: usize, schema: &Value, json: &Value, error: &ValidationError<'_>) -> Vec<Finding> {
    let pointer = error.instance_path().as_str().to_owned();
    let at = Place::value(document, pointer.clone());
    let field = pointer.rsplit('/').next().unwrap_or_default();
    let rule = parent(schema, error.schema_path().as_str());
    let one = |finding: Finding| vec![finding];
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            let known = properties(rule);
            let unknown = |name: &String| {
                let place = Place::key(document, format!("{pointer}/{}", escape(name)));
                let help = match closest(name, known.iter().copied()) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => format!("here can stand: {}", known.join(", ")),
                };
                Finding::error(Code::UnknownField, place, format!("there is no field `{name}` here"))
                    .help(help)
            };
            unexpected.iter().map(unknown).collect()
        }
        ValidationErrorKind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            let place = if pointer.is_empty() { at } else { Place::key(document, pointer.clone()) };
            let missing = rule.get("properties").and_then(|properties| properties.get(name));
            let help = missing.and_then(about).map(|about| format!("add `{name}:` {about}"));
            one(Finding::error(Code::MissingField, place, format!("the field `{name}` is missing"))
                .maybe_help(help))
        }
        ValidationErrorKind::Type { kind } => {
            let found = json.pointer(&pointer).map_or("nothing", type_name);
            let message = format!("`{field}` is {found}; it must be {}", wanted(kind));
            one(Finding::error(Code::Value, at, message).maybe_help(example(rule)))
        }
        ValidationErrorKind::Enum { .. } | ValidationErrorKind::Constant { .. } => {
            let options = options(rule);
            let written = json.pointer(&pointer).and_then(Value::as_str).unwrap_or_default();
            let help = match closest(written, options.iter().copied()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("write `{}`", options.join("`, `")),
            };
            one(Finding::error(Code::Value, at, format!("`{field}` cannot be `{written}`")).help(help))
        }
        ValidationErrorKind::Pattern { .. } => {
            let written = json.pointer(&pointer).and_then(Value::as_str).unwrap_or_default();
            one(Finding::error(Code::Value, at, format!("`{field}` cannot be `{written}`"))
                .maybe_help(example(rule)))
        }
        ValidationErrorKind::MinItems { limit } => {
            let message = format!("`{field}` needs at least {limit}");
            one(Finding::error(Code::Value, at, message).maybe_help(example(rule)))
        }
        _ => one(Finding::error(Code::Value, at, format!("`{field}`: {error}")).maybe_help(example(rule))),
    }
}

/// The schema that holds the keyword at `path`.
fn parent<'a>(schema: &'a Value, path: &str) -> &'a Value {
    let holder = path.rsplit_once('/').map_or("", |(holder, _)| holder);
    schema.pointer(holder).unwrap_or(&Value::Null)
}

fn properties(rule: &Value) -> Vec<&str> {
    let properties = rule.get("properties").and_then(Value::as_object);
    properties.into_iter().flatten().map(|(name, _)| name.as_str()).collect()
}

/// The values that a field may have.
fn options(rule: &Value) -> Vec<&str> {
    let options = rule.get("enum").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    options.chain(rule.get("const").and_then(Value::as_str)).collect()
}

/// Turns the `oneOf` of constants that an enum with documented variants becomes into an `enum` with the
/// variants' meanings in the description: editors complete it, CRDs allow it, and its refusals are one.
fn flatten_variants(schema: &mut Value) {
    if let Some(object) = schema.as_object_mut() {
        forbid_null(object);
        let constants: Option<Vec<(Value, String)>> =
            object.get("oneOf").and_then(Value::as_array).and_then(|variants| {
                let constant = |variant: &Value| {
                    let about = variant.get("description").and_then(Value::as_str).unwrap_or_default();
                    Some((variant.get("const")?.clone(), about.to_owned()))
                };
                variants.iter().map(constant).collect()
            });
        if let Some(constants) = constants {
            let meanings: Vec<_> = constants
                .iter()
                .map(|(value, about)| format!("{}: {about}", value.as_str().unwrap_or_default()))
                .collect();
            let about = object.get("description").and_then(Value::as_str).unwrap_or_default();
            let about = if constants.len() > 1 {
                format!("{about}\n{}", meanings.join("\n"))
            } else {
                about.to_owned()
            };
            object.remove("oneOf");
            object.insert("type".into(), "string".into());
            object.insert("enum".into(), constants.into_iter().map(|(value, _)| value).collect());
            object.insert("description".into(), about.into());
        }
    }
    match schema {
        Value::Object(object) => object.values_mut().for_each(flatten_variants),
        Value::Array(elements) => elements.iter_mut().for_each(flatten_variants),
        _ => {}
    }
}

/// A field that may be left out is left out, not left empty.
fn forbid_null(object: &mut Map<String, Value>) {
    let is_null = |one: &Value| *one == json!("null") || *one == json!({ "type": "null" });
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|one| !is_null(one));
        if let [one] = types.as_slice() {
            let one = one.clone();
            object.insert("type".into(), one);
        }
    }
    let alternatives = object.get("anyOf").and_then(Value::as_array).cloned().unwrap_or_default();
    if let [Value::Object(one), null] = alternatives.as_slice()
        && is_null(null)
    {
        object.remove("anyOf");
        for (name, value) in one {
            object.entry(name).or_insert_with(|| value.clone());
        }
    }
}

/// The first sentence of a field's description, as the end of a sentence.
fn about(rule: &Value) -> Option<String> {
    let text = rule.get("description")?.as_str()?;
    let first = text.split(['.', ';', ':']).next()?.replace('\n', " ");
    let mut letters = first.chars();
    let lower = letters.next()?.to_lowercase().chain(letters).collect::<String>();
    Some(format!("({lower})"))
}

fn example(rule: &Value) -> Option<String> {
    let examples: Vec<_> = rule
        .get("examples")?
        .as_array()?
        .iter()
        .take(3)
        .map(|one| match one {
            Value::String(text) => format!("`{text}`"),
            other => format!("`{other}`"),
        })
        .collect();
    (!examples.is_empty()).then(|| format!("write something like {}", examples.join(" or ")))
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "empty",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a group of fields",
    }
}

fn wanted(kind: &TypeKind) -> String {
    let name = |json_type: jsonschema::JsonType| match json_type {
        jsonschema::JsonType::Array => "a list",
        jsonschema::JsonType::Boolean => "true or false",
        jsonschema::JsonType::Integer => "a whole number",
        jsonschema::JsonType::Null => "empty",
        jsonschema::JsonType::Number => "a number",
        jsonschema::JsonType::Object => "a group of fields",
        jsonschema::JsonType::String => "a text",
    };
    match kind {
        TypeKind::Single(one) => name(*one).to_owned(),
        TypeKind::Multiple(several) => {
            let names: Vec<_> =
                several.iter().filter(|one| *one != jsonschema::JsonType::Null).map(name).collect();
            names.join(" or ")
        }
    }
}

fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// The schema as its file holds it.
pub fn text(kind: Kind) -> String {
    let mut schema = kind.schema();
    if let Some(object) = schema.as_object_mut() {
        object.insert("$id".into(), json!(format!("https://qscaler.dev/schemas/{}", kind.file())));
    }
    format!("{schema:#}\n")
}
