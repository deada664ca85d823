//! Compiles the JSON Schema of an event, and says of its data whether it is as the schema wants it.

use std::collections::HashSet;

use jsonschema::{
    Draft, PatternOptions, ValidationError, Validator,
    error::ValidationErrorKind,
    paths::{Location, LocationSegment},
};
use serde_json::{Map, Value};
use thiserror::Error;

/// Most bytes of one compiled pattern.
const PATTERN_BYTES_MAX: usize = 1024 * 1024;

/// A schema, ready for use. No pattern in it takes more than linear time, and nothing in it leads out of it.
#[derive(Debug)]
pub(super) struct Schema {
    validator: Validator,
    /// The fields that it describes at the top.
    properties: HashSet<Box<str>>,
    /// Those that are always there.
    required: HashSet<Box<str>>,
    /// Every name that it has for a field, at any depth. Only these are ever told.
    names: HashSet<Box<str>>,
}

/// What is wrong with a schema. Paths are those of the schema's author.
#[derive(Debug, PartialEq, Eq, Error)]
pub(super) enum SchemaError {
    #[error("schema{0} must be a schema")]
    NotASchema(String),
    #[error("schema{0} is no keyword of JSON Schema 2020-12")]
    UnknownKeyword(String),
    #[error("schema{0} must begin with #: nothing outside of the schema is read")]
    Reference(String),
    #[error("schema{0} must be that of JSON Schema 2020-12, or left out")]
    Dialect(String),
    #[error("schema{0} must say additionalProperties: may fields that it does not list leave?")]
    Open(String),
    #[error("schema{path}: {message}")]
    Invalid { path: String, message: String },
}

/// What is wrong with an event's data. It repeats nothing of it.
#[derive(Debug, PartialEq, Eq, Error)]
pub(super) enum Violation {
    #[error("{0} is missing")]
    Missing(String),
    #[error("{path} does not satisfy {keyword}")]
    Keyword { path: String, keyword: String },
}

impl Schema {
    /// Compiles a schema, or tells all that can be told of what is wrong with it.
    pub(super) fn compile(schema: &Value) -> Result<Self, Vec<SchemaError>> {
        let mut survey = Survey::default();
        survey.visit("", schema, Fields::OfTheEvent);
        let built = jsonschema::options()
            .with_draft(Draft::Draft202012)
            .should_validate_formats(true)
            .should_ignore_unknown_formats(false)
            .with_pattern_options(PatternOptions::regex().size_limit(PATTERN_BYTES_MAX))
            .offline()
            .build(schema);
        match built {
            Ok(validator) if survey.errors.is_empty() => {
                let Survey { properties, names, .. } = survey;
                let required = texts(schema.get("required")).collect();
                Ok(Self { validator, properties, required, names })
            }
            Ok(_) => Err(survey.errors),
            Err(error) => {
                // What the survey found is said better there.
                if survey.errors.is_empty() {
                    let path = error.instance_path().to_string();
                    survey.errors.push(SchemaError::Invalid { path, message: error.to_string() });
                }
                Err(survey.errors)
            }
        }
    }

    /// The fields that the schema describes.
    pub(super) fn properties(&self) -> impl Iterator<Item = &str> {
        self.properties.iter().map(|name| &**name)
    }

    pub(super) fn describes(&self, field: &str) -> bool {
        self.properties.contains(field)
    }

    pub(super) fn requires(&self, field: &str) -> bool {
        self.required.contains(field)
    }

    pub(super) fn check(&self, data: &Value) -> Result<(), Violation> {
        if self.validator.is_valid(data) {
            return Ok(());
        }
        match self.validator.validate(data) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.violation(&error)),
        }
    }

    fn violation(&self, error: &ValidationError<'_>) -> Violation {
        let path = self.tellable(error.instance_path());
        if let ValidationErrorKind::Required { property } = error.kind() {
            let name = property.as_str().unwrap_or_default();
            return Violation::Missing(format!("{path}/{name}"));
        }
        let path = if path.is_empty() { "the body".to_owned() } else { path };
        Violation::Keyword { path, keyword: error.kind().keyword().to_owned() }
    }

    /// A path in which the names that the sender made up are not repeated.
    fn tellable(&self, location: &Location) -> String {
        let segments = location.segments().map(|segment| match segment {
            LocationSegment::Index(index) => format!("/{index}"),
            LocationSegment::Property(name) if self.names.contains(&*name) => format!("/{name}"),
            LocationSegment::Property(_) => "/*".to_owned(),
        });
        segments.collect()
    }
}

/// What a walk through a schema finds.
#[derive(Debug, Default)]
struct Survey {
    properties: HashSet<Box<str>>,
    names: HashSet<Box<str>>,
    errors: Vec<SchemaError>,
}

/// Whose fields a part of a schema describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fields {
    /// Those of the event itself. Of these only the public ones leave, whatever the schema allows.
    OfTheEvent,
    /// Those of an object inside, of which it is said whether it has others.
    Settled,
    /// Those of an object inside.
    Unsettled,
}

impl Survey {
    fn visit(&mut self, path: &str, schema: &Value, fields: Fields) {
        match schema {
            Value::Bool(_) => {}
            Value::Object(keywords) => self.visit_keywords(path, keywords, fields),
            Value::Null | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                self.errors.push(SchemaError::NotASchema(path.to_owned()));
            }
        }
    }

    fn visit_keywords(&mut self, path: &str, keywords: &Map<String, Value>, fields: Fields) {
        let says_of_others = keywords.contains_key("additionalProperties")
            || keywords.contains_key("unevaluatedProperties");
        let fields =
            if fields == Fields::Unsettled && says_of_others { Fields::Settled } else { fields };
        if fields == Fields::Unsettled && keywords.contains_key("properties") {
            self.errors.push(SchemaError::Open(path.to_owned()));
        }
        for (keyword, value) in keywords {
            let path = format!("{path}/{keyword}");
            match &**keyword {
                // These describe the same value.
                "if" | "then" | "else" => self.visit(&path, value, fields),
                "allOf" | "anyOf" | "oneOf" => self.visit_list(&path, value, fields),
                "dependentSchemas" => self.visit_map(&path, value, fields),
                // What must not be so describes nothing.
                "not" => self.visit(&path, value, Fields::Settled),
                "properties" => {
                    self.note_properties(value, fields);
                    self.visit_map(&path, value, Fields::Unsettled);
                }
                "patternProperties" | "$defs" => self.visit_map(&path, value, Fields::Unsettled),
                "prefixItems" => self.visit_list(&path, value, Fields::Unsettled),
                "additionalProperties"
                | "unevaluatedProperties"
                | "items"
                | "unevaluatedItems"
                | "contains"
                | "propertyNames"
                | "contentSchema" => {
                    self.visit(&path, value, Fields::Unsettled);
                }
                "$ref" | "$dynamicRef" => {
                    if !value.as_str().is_some_and(|target| target.starts_with('#')) {
                        self.errors.push(SchemaError::Reference(path));
                    }
                }
                "$schema" => {
                    if value != "https://json-schema.org/draft/2020-12/schema" {
                        self.errors.push(SchemaError::Dialect(path));
                    }
                }
                other => {
                    if !KEYWORDS_WITHOUT_SCHEMAS.contains(&other) {
                        self.errors.push(SchemaError::UnknownKeyword(path));
                    }
                }
            }
        }
    }

    fn visit_list(&mut self, path: &str, schemas: &Value, fields: Fields) {
        for (index, schema) in schemas.as_array().into_iter().flatten().enumerate() {
            self.visit(&format!("{path}/{index}"), schema, fields);
        }
    }

    fn visit_map(&mut self, path: &str, schemas: &Value, fields: Fields) {
        for (name, schema) in schemas.as_object().into_iter().flatten() {
            self.visit(&format!("{path}/{name}"), schema, fields);
        }
    }

    fn note_properties(&mut self, properties: &Value, fields: Fields) {
        for name in properties.as_object().into_iter().flat_map(Map::keys) {
            self.names.insert(name.as_str().into());
            if fields == Fields::OfTheEvent {
                self.properties.insert(name.as_str().into());
            }
        }
    }
}

fn texts(list: Option<&Value>) -> impl Iterator<Item = Box<str>> {
    let items = list.and_then(Value::as_array).into_iter().flatten();
    items.filter_map(Value::as_str).map(Into::into)
}

const KEYWORDS_WITHOUT_SCHEMAS: [&str; 34] = [
    "$anchor",
    "$comment",
    "$dynamicAnchor",
    "$id",
    "const",
    "contentEncoding",
    "contentMediaType",
    "default",
    "dependentRequired",
    "deprecated",
    "description",
    "enum",
    "examples",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "format",
    "maxContains",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minContains",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "pattern",
    "readOnly",
    "required",
    "title",
    "type",
    "uniqueItems",
    "writeOnly",
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn errors(schema: &Value) -> Vec<String> {
        let errors = Schema::compile(schema).unwrap_err();
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn says_of_data_where_it_is_wrong_and_nothing_of_what_it_holds() {
        let schema = Schema::compile(&json!({
            "required": ["x"],
            "additionalProperties": { "maxLength": 3 },
            "properties": {
                "x": { "type": "number", "maximum": 10 },
                "points": { "items": {
                    "properties": { "y": { "type": "integer" } },
                    "required": ["y"],
                    "additionalProperties": false,
                } },
                "colour": { "pattern": "^#[0-9a-f]{6}$" },
                "at": { "format": "date-time" },
            },
        }))
        .unwrap();
        let says = |data: Value| schema.check(&data).unwrap_err().to_string();

        assert_eq!(schema.check(&json!({ "x": 1, "colour": "#00ff00" })), Ok(()));
        assert_eq!(says(json!({})), "/x is missing");
        assert_eq!(says(json!({ "x": "secret" })), "/x does not satisfy type");
        assert_eq!(says(json!({ "x": 11 })), "/x does not satisfy maximum");
        assert_eq!(says(json!({ "x": 1, "points": [{ "y": 1 }, {}] })), "/points/1/y is missing");
        assert_eq!(
            says(json!({ "x": 1, "points": [{ "y": 1, "secret": 1 }] })),
            "/points/0 does not satisfy additionalProperties"
        );
        assert_eq!(says(json!({ "x": 1, "secret": "long" })), "/* does not satisfy maxLength");
        assert_eq!(says(json!({ "x": 1, "colour": "red" })), "/colour does not satisfy pattern");
        assert_eq!(says(json!({ "x": 1, "at": "today" })), "/at does not satisfy format");
    }

    #[test]
    fn tells_all_that_is_wrong_with_a_schema() {
        assert_eq!(
            errors(&json!({
                "requried": ["x"],
                "$schema": "http://json-schema.org/draft-07/schema#",
                "properties": {
                    "a": 7,
                    "b": { "$ref": "https://example.com/b.json" },
                    "c": { "properties": { "d": true } },
                    "e": { "allOf": [{ "properties": {} }], "unevaluatedProperties": false },
                    "f": { "$ref": "file.json#/f" },
                },
            })),
            [
                "schema/$schema must be that of JSON Schema 2020-12, or left out",
                "schema/properties/a must be a schema",
                "schema/properties/b/$ref must begin with #: nothing outside of the schema is read",
                "schema/properties/c must say additionalProperties: may fields that it does not list leave?",
                "schema/properties/f/$ref must begin with #: nothing outside of the schema is read",
                "schema/requried is no keyword of JSON Schema 2020-12",
            ]
        );
    }

    #[test]
    fn refuses_what_is_no_schema_or_takes_more_than_linear_time() {
        for (schema, expected) in [
            (json!({ "type": "nubmer" }), "schema/type: "),
            (json!({ "properties": { "x": { "maximum": "1" } } }), "schema/properties/x/maximum: "),
            (json!({ "properties": { "x": { "$ref": "#/$defs/none" } } }), "schema: "),
            (json!({ "properties": { "x": { "pattern": "(a+)+$(?=b)" } } }), "schema/properties/x"),
            (json!({ "properties": { "x": { "pattern": "(a)\\1" } } }), "schema/properties/x"),
            (json!({ "properties": { "x": { "pattern": "(" } } }), "schema/properties/x"),
            (
                json!({ "properties": { "x": { "pattern": "(x{1000}){1000}" } } }),
                "schema/properties/x",
            ),
            (json!({ "patternProperties": { "(?!x)": true } }), "schema"),
            (json!({ "properties": { "x": { "format": "e-mail" } } }), "schema"),
        ] {
            let errors = errors(&schema);
            assert_eq!(errors.len(), 1, "{schema}: {errors:?}");
            assert!(errors[0].starts_with(expected), "{schema}: {errors:?}");
        }
    }

    #[test]
    fn a_pattern_takes_linear_time() {
        let schema = Schema::compile(&json!({ "properties": { "x": { "pattern": "^(a+)+$" } } }));
        let long = format!("{}b", "a".repeat(50_000));

        assert!(schema.unwrap().check(&json!({ "x": long })).is_err());
    }

    #[test]
    fn a_schema_that_only_refers_to_itself_ends() {
        for circle in [
            json!({ "$ref": "#" }),
            json!({
                "$ref": "#/$defs/a",
                "$defs": { "a": { "$ref": "#/$defs/b" }, "b": { "$ref": "#/$defs/a" } },
            }),
        ] {
            if let Ok(schema) = Schema::compile(&circle) {
                let _checked = schema.check(&json!({ "x": 1 }));
            }
        }
        let tree = json!({
            "properties": { "children": { "items": { "$ref": "#" } } },
            "additionalProperties": false,
        });
        let schema = Schema::compile(&tree).unwrap();
        assert!(schema.check(&json!({ "children": [{ "children": [{ "x": 1 }] }] })).is_err());
    }

    #[test]
    fn knows_the_fields_of_the_event_itself() {
        let schema = Schema::compile(&json!({
            "required": ["a"],
            "properties": { "a": { "properties": { "inner": true }, "additionalProperties": true } },
            "oneOf": [{ "properties": { "b": true } }, { "properties": { "c": true } }],
        }))
        .unwrap();

        let mut properties: Vec<_> = schema.properties().collect();
        properties.sort_unstable();
        assert_eq!(properties, ["a", "b", "c"]);
        assert!(schema.requires("a") && !schema.requires("b"));
        assert!(!schema.describes("inner"));
    }
}
