//! Reads what the file of namespaces says of events.

use std::{
    fs, io,
    num::{NonZeroU32, NonZeroUsize},
    ops::Range,
    path::{Component, Path},
    sync::Arc,
};

use foldhash::HashSet;
use serde::Deserialize;
use serde_json::{Map, Number, Value};
use thiserror::Error;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    Audience, DeclaredEvent, DeclaredEvents, From, Inboxes, Rate, Retain,
    schema::{Schema, SchemaError},
};
use crate::{
    event_name::{EVENT_NAME_BYTES_MAX, OWN, RESERVED_BY_CLIENTS},
    toml_file::{Fields, TomlFile},
};

/// Fields that the service itself gives an event, or takes from it.
pub(crate) const RESERVED_FIELDS: [&str; 7] =
    ["id", "room", "user", "at", "position", "event", "trace"];

/// Most values of one event that are kept in a room.
pub(crate) const RETAINED_COUNT_MAX: NonZeroUsize = NonZeroUsize::new(1000).expect("it is not 0");

/// How often an event may be sent at most. The intervals between events are counted in nanoseconds.
const PER_SECOND_MAX: u32 = 100_000;

/// Largest file of a schema.
const SCHEMA_BYTES_MAX: u64 = 1024 * 1024;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RateEntry {
    per_second: NonZeroU32,
    burst: Option<NonZeroU32>,
}

/// `true`, `false` or a table.
#[derive(Debug)]
enum RetainEntry {
    Flag(bool),
    Keyed(KeyedEntry),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyedEntry {
    key: String,
    count_max: Option<NonZeroUsize>,
    cleared_by: Option<Box<str>>,
}

/// Why the schema of an event cannot be had.
#[derive(Debug, Error)]
enum ReadSchemaError {
    #[error("schema_file {0} must be a file in this folder or below it")]
    Outside(String),
    #[error("schema_file {0} cannot be read: {1}")]
    Unreadable(String, io::Error),
    #[error("schema_file {0} is larger than {SCHEMA_BYTES_MAX} bytes")]
    TooLarge(String),
    #[error("schema_file {0} is not JSON: {1}")]
    NotJson(String, serde_json::Error),
}

/// Reads the events of a namespace from its table. They are numbered on from `next_number`.
pub(crate) fn read_events(
    file: &mut TomlFile<'_>,
    namespace: &mut Fields<'_>,
    next_number: &mut usize,
) -> DeclaredEvents {
    let inboxes = Inboxes::read(file, namespace);
    let tables = namespace.tables(file, "event");
    let count = tables.len();
    let mut events = Vec::new();
    for (name, fields) in tables {
        check_name(file, &name);
        let number = *next_number;
        *next_number += 1;
        let name = (name.get_ref().as_str(), number);
        events.extend(read_event(file, name, fields, &inboxes));
    }
    if events.len() == count {
        inboxes.check_use(file, &events);
    }
    DeclaredEvents::new(events, inboxes)
}

fn check_name(file: &mut TomlFile<'_>, name: &Spanned<String>) {
    let (span, name) = (name.span(), name.get_ref());
    if name.is_empty() || name.len() > EVENT_NAME_BYTES_MAX {
        file.add(
            &span,
            format_args!("an event's name must have from 1 to {EVENT_NAME_BYTES_MAX} bytes"),
        );
    }
    if name.chars().any(char::is_control) {
        file.add(&span, "an event's name must not contain control characters");
    }
    if RESERVED_BY_CLIENTS.contains(&&**name) {
        file.add(&span, format_args!("Socket.IO reserves the name {name}"));
    }
    if OWN.contains(&&**name) {
        file.add(&span, format_args!("{name} is an event of the service itself"));
    }
}

fn read_event(
    file: &mut TomlFile<'_>,
    (name, number): (&str, usize),
    mut fields: Fields<'_>,
    inboxes: &Inboxes,
) -> Option<DeclaredEvent> {
    let begin = fields.span().clone();
    let schema = read_schema(file, &mut fields);
    let audience = fields.read::<Audience>(file, "audience");
    if audience.is_none() {
        file.add(&begin, format_args!("{name}: audience must be room, user, sender or everyone"));
    }
    let from = fields.read::<From>(file, "from");
    let logged = fields.read::<bool>(file, "logged");
    let echo = fields.read::<bool>(file, "echo");
    let rate = fields.read::<RateEntry>(file, "rate");
    let retain = read_retain(file, &mut fields);
    let public = fields.read::<Vec<Spanned<String>>>(file, "public");
    fields.finish(file);

    let (schema, audience) = (schema?, *audience?.get_ref());
    let from = from.map_or(audience.default_from(), Spanned::into_inner);
    let terms = Terms { begin, audience, from, inboxes, schema: &schema };
    let public = terms.public(file, public);
    let is_logged = terms.logged(file, logged);
    Some(DeclaredEvent {
        name: Arc::from(name),
        number,
        audience,
        from,
        is_logged,
        echoes: terms.echoes(file, echo, is_logged),
        rate: terms.rate(file, rate),
        retain: terms.retain(file, retain, (is_logged, &public)),
        public,
        schema,
    })
}

fn read_retain(file: &mut TomlFile<'_>, fields: &mut Fields<'_>) -> Option<Spanned<RetainEntry>> {
    if let Some(DeValue::Table(_)) = fields.peek("retain") {
        let keyed = fields.read::<KeyedEntry>(file, "retain")?;
        return Some(Spanned::new(keyed.span(), RetainEntry::Keyed(keyed.into_inner())));
    }
    let flag = fields.read::<bool>(file, "retain")?;
    Some(Spanned::new(flag.span(), RetainEntry::Flag(flag.into_inner())))
}

/// What the rest of a declaration must go together with.
#[derive(Debug)]
struct Terms<'a> {
    begin: Range<usize>,
    audience: Audience,
    from: From,
    inboxes: &'a Inboxes,
    schema: &'a Schema,
}

impl Terms<'_> {
    fn public(
        &self,
        file: &mut TomlFile<'_>,
        listed: Option<Spanned<Vec<Spanned<String>>>>,
    ) -> HashSet<Box<str>> {
        for field in self.schema.properties().filter(|field| RESERVED_FIELDS.contains(field)) {
            file.add(
                &self.begin,
                format_args!("schema describes {field}, which the service itself says"),
            );
        }
        let Some(listed) = listed else {
            return self.schema.properties().map(Into::into).collect();
        };
        let mut public = HashSet::default();
        for field in listed.into_inner() {
            let (span, field) = (field.span(), field.into_inner());
            if !self.schema.describes(&field) {
                file.add(
                    &span,
                    format_args!("public lists {field}, which the schema does not describe"),
                );
            }
            public.insert(field.into());
        }
        public
    }

    fn logged(&self, file: &mut TomlFile<'_>, logged: Option<Spanned<bool>>) -> bool {
        let Some(logged) = logged.filter(|logged| *logged.get_ref()) else { return false };
        match self.audience {
            Audience::Room => {}
            Audience::User => self.inboxes.check_kept(file, &logged.span()),
            Audience::Sender | Audience::Everyone => {
                file.add(&logged.span(), "logged is for what goes to a room or to a user");
            }
        }
        true
    }

    fn echoes(
        &self,
        file: &mut TomlFile<'_>,
        echo: Option<Spanned<bool>>,
        is_logged: bool,
    ) -> bool {
        let Some(echo) = echo else { return is_logged };
        if self.from == From::Services {
            file.add(&echo.span(), "echo is for what clients send");
        }
        if is_logged && !echo.get_ref() {
            file.add(&echo.span(), "what is logged goes to everyone in the room, its sender too");
        }
        echo.into_inner()
    }

    fn rate(&self, file: &mut TomlFile<'_>, rate: Option<Spanned<RateEntry>>) -> Option<Rate> {
        let Some(rate) = rate else {
            let reaches_strangers = matches!(self.audience, Audience::User | Audience::Everyone);
            if self.from == From::Clients && reaches_strangers {
                file.add(
                    &self.begin,
                    "what clients may send to any user or to everyone needs a rate",
                );
            }
            return None;
        };
        if self.from == From::Services {
            file.add(&rate.span(), "rate is for what clients send");
        }
        let RateEntry { per_second, burst } = *rate.get_ref();
        if per_second.get() > PER_SECOND_MAX {
            file.add(&rate.span(), format_args!("per_second must be at most {PER_SECOND_MAX}"));
        }
        Some(Rate { per_second: per_second.get(), burst: burst.unwrap_or(per_second).get() })
    }

    fn retain(
        &self,
        file: &mut TomlFile<'_>,
        retain: Option<Spanned<RetainEntry>>,
        (is_logged, public): (bool, &HashSet<Box<str>>),
    ) -> Option<Retain> {
        let retain = retain?;
        let span = retain.span();
        let KeyedEntry { key, count_max, cleared_by } = match retain.into_inner() {
            RetainEntry::Flag(false) => return None,
            RetainEntry::Flag(true) => {
                self.check_retain_audience(file, &span);
                return Some(Retain::Single);
            }
            RetainEntry::Keyed(entry) => entry,
        };
        self.check_retain_audience(file, &span);
        if count_max.is_some_and(|count| count > RETAINED_COUNT_MAX) {
            file.add(&span, format_args!("count_max must be at most {RETAINED_COUNT_MAX}"));
        }
        if key == "user" {
            if self.from == From::Services || is_logged {
                file.add(
                    &span,
                    "values are kept by user where clients send them and none is logged",
                );
            }
            if count_max.is_some() || cleared_by.is_some() {
                file.add(&span, "count_max and cleared_by are not for values kept by user");
            }
            return Some(Retain::ByUser);
        }
        if !self.schema.requires(&key) || !public.contains(&*key) {
            file.add(
                &span,
                format_args!("key {key} must be public, and the schema must require it"),
            );
        }
        if let Some(field) = cleared_by.as_deref()
            && (field == key || !public.contains(field))
        {
            file.add(&span, format_args!("cleared_by {field} must be public, and not the key"));
        }
        let count_max = count_max.unwrap_or(RETAINED_COUNT_MAX);
        Some(Retain::ByField { field: key.into(), count_max, cleared_by })
    }

    fn check_retain_audience(&self, file: &mut TomlFile<'_>, span: &Range<usize>) {
        if self.audience != Audience::Room {
            file.add(span, "retain is for what goes to a room");
        }
    }
}

impl Audience {
    /// Nobody reaches strangers unless that is said.
    fn default_from(self) -> From {
        match self {
            Self::Room | Self::Sender => From::Clients,
            Self::User | Self::Everyone => From::Services,
        }
    }
}

fn read_schema(file: &mut TomlFile<'_>, fields: &mut Fields<'_>) -> Option<Schema> {
    let inline = fields.take("schema");
    let named = fields.read::<String>(file, "schema_file");
    let (span, schema) = match (inline, named) {
        (Some(schema), None) => (schema.span(), json(file, &schema)?),
        (None, Some(name)) => {
            let span = name.span();
            match read_schema_file(file.folder(), name.get_ref()) {
                Ok(schema) => (span, schema),
                Err(error) => {
                    file.add(&span, error);
                    return None;
                }
            }
        }
        (Some(_), Some(_)) | (None, None) => {
            let begin = fields.span().clone();
            file.add(&begin, "either schema or schema_file is needed");
            return None;
        }
    };
    match Schema::compile(&schema) {
        Ok(schema) => Some(schema),
        Err(errors) => {
            errors.iter().for_each(|error: &SchemaError| file.add(&span, error));
            None
        }
    }
}

/// Reads a schema from the folder of the settings or from below it.
fn read_schema_file(folder: &Path, name: &str) -> Result<Value, ReadSchemaError> {
    let relative = Path::new(name);
    if relative.components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err(ReadSchemaError::Outside(name.to_owned()));
    }
    let unreadable = |error| ReadSchemaError::Unreadable(name.to_owned(), error);
    let path = folder.join(relative).canonicalize().map_err(unreadable)?;
    // A link may lead out.
    if !path.starts_with(folder.canonicalize().map_err(unreadable)?) {
        return Err(ReadSchemaError::Outside(name.to_owned()));
    }
    if fs::metadata(&path).map_err(unreadable)?.len() > SCHEMA_BYTES_MAX {
        return Err(ReadSchemaError::TooLarge(name.to_owned()));
    }
    let text = fs::read(&path).map_err(unreadable)?;
    serde_json::from_slice(&text).map_err(|error| ReadSchemaError::NotJson(name.to_owned(), error))
}

/// What is written in TOML, as JSON.
fn json(file: &mut TomlFile<'_>, value: &Spanned<DeValue<'_>>) -> Option<Value> {
    let converted = match value.get_ref() {
        DeValue::String(text) => Some(Value::from(&**text)),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map(Value::from)
            .or_else(|_| u64::from_str_radix(number.as_str(), number.radix()).map(Value::from))
            .ok(),
        DeValue::Float(number) => {
            number.as_str().parse().ok().and_then(Number::from_f64).map(Value::Number)
        }
        DeValue::Boolean(value) => Some(Value::from(*value)),
        DeValue::Datetime(_) => None,
        DeValue::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| json(file, item)).collect();
            return items.into_iter().collect::<Option<Vec<_>>>().map(Value::Array);
        }
        DeValue::Table(table) => return json_object(file, table),
    };
    if converted.is_none() {
        file.add(&value.span(), "JSON has no such value");
    }
    converted
}

fn json_object(file: &mut TomlFile<'_>, table: &DeTable<'_>) -> Option<Value> {
    let fields: Vec<_> = table
        .iter()
        .map(|(name, value)| Some((name.get_ref().to_string(), json(file, value)?)))
        .collect();
    fields.into_iter().collect::<Option<Map<_, _>>>().map(Value::Object)
}

#[cfg(test)]
mod tests;
