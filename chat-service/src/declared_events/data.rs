//! Reads what one event carries: checks it, and takes from it what may leave.

use std::borrow::Cow;

use serde_json::{Map, Value, value::RawValue};
use thiserror::Error;

use super::{
    Audience, DeclaredEvent, Retain,
    instance::{DEPTH_MAX, FieldName, RawFields, field_value},
    schema::Violation,
};

/// Most bytes of data that a client may send.
pub(crate) const CLIENT_DATA_BYTES_MAX: usize = 64 * 1024;

/// Longest value of a field that says which latest value is replaced, in bytes of JSON.
const KEY_BYTES_MAX: usize = 256;

/// Who sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sender {
    /// A client. Where its event goes, and the id that makes a retry harmless, stand among the data.
    Client,
    /// Another service, which says so beside the data.
    Service,
}

/// An event's data, as it goes on from here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Data {
    /// The fields that leave, as the sender wrote them: the inside of a JSON object.
    pub(crate) fields: String,
    /// Which latest value it replaces, where a field says so.
    pub(crate) key: Option<Box<str>>,
}

/// Where a client's event goes.
#[derive(Debug, Default)]
pub(crate) struct Address<'a> {
    pub(crate) room: Option<&'a RawValue>,
    pub(crate) user: Option<&'a RawValue>,
    /// The client's own name for it.
    pub(crate) id: Option<&'a RawValue>,
}

/// Why data is not accepted. Repeats nothing of it.
#[derive(Debug, PartialEq, Eq, Error)]
pub(crate) enum DataError {
    #[error("the body must be an object")]
    NotAnObject,
    #[error("the body must have at most {CLIENT_DATA_BYTES_MAX} bytes")]
    TooLarge,
    #[error(
        "the body must be JSON that names no field twice, has at most {DEPTH_MAX} levels and only finite numbers"
    )]
    NotPlain,
    #[error("{0}")]
    Violation(String),
    #[error("/{0} must be a string, a number, true or false, of at most {KEY_BYTES_MAX} bytes")]
    Key(Box<str>),
}

impl From<Violation> for DataError {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation.to_string())
    }
}

impl DeclaredEvent {
    /// Reads the body of an event.
    pub(crate) fn read<'a>(
        &self,
        body: &'a RawValue,
        sender: Sender,
    ) -> Result<(Data, Address<'a>), DataError> {
        if !body.get().starts_with('{') {
            return Err(DataError::NotAnObject);
        }
        if sender == Sender::Client && body.get().len() > CLIENT_DATA_BYTES_MAX {
            return Err(DataError::TooLarge);
        }
        let RawFields(raw) = serde_json::from_str(body.get()).map_err(|_| DataError::NotPlain)?;

        let mut address = Address::default();
        let mut fields = String::with_capacity(body.get().len());
        let mut values = Map::new();
        for (name, value) in raw {
            if let Some(place) = self.addressed(&mut address, &name.0, sender) {
                if place.replace(value).is_some() {
                    return Err(DataError::NotPlain);
                }
                continue;
            }
            if self.is_public(&name.0) {
                push_field(&mut fields, &name, value);
            }
            let value = field_value(value).map_err(|_| DataError::NotPlain)?;
            if values.insert(name.0.into_owned(), value).is_some() {
                return Err(DataError::NotPlain);
            }
        }
        let values = Value::Object(values);
        self.schema.check(&values)?;
        let key =
            self.retain.as_ref().and_then(|retain| retain.field()).map(|field| key(field, &values));
        Ok((Data { fields, key: key.transpose()? }, address))
    }

    /// The key of what was logged.
    pub(crate) fn key_of(&self, payload: &[u8]) -> Option<Box<str>> {
        let field = self.retain.as_ref()?.field()?;
        let RawFields(fields) = serde_json::from_slice(payload).ok()?;
        let (_, value) = fields.into_iter().find(|(FieldName(name), _)| name == field)?;
        let values = Map::from_iter([(field.to_owned(), field_value(value).ok()?)]);
        key(field, &Value::Object(values)).ok()
    }

    /// Whether the value of its key is gone with what has been sent: a JSON object.
    pub(crate) fn clears(&self, object: &[u8]) -> bool {
        let Some(Retain::ByField { cleared_by: Some(cleared_by), .. }) = &self.retain else {
            return false;
        };
        let is_set = |(FieldName(name), value): &(FieldName<'_>, &RawValue)| {
            **name == **cleared_by && value.get() == "true"
        };
        serde_json::from_slice(object).is_ok_and(|RawFields(fields)| fields.iter().any(is_set))
    }

    /// Where a field goes that is not for the receivers.
    fn addressed<'s, 'a>(
        &self,
        address: &'s mut Address<'a>,
        name: &str,
        sender: Sender,
    ) -> Option<&'s mut Option<&'a RawValue>> {
        match name {
            _ if sender == Sender::Service => None,
            "room" if self.audience == Audience::Room => Some(&mut address.room),
            "user" if self.audience == Audience::User => Some(&mut address.user),
            "id" if self.is_logged => Some(&mut address.id),
            _ => None,
        }
    }
}

fn push_field(fields: &mut String, FieldName(name): &FieldName<'_>, value: &RawValue) {
    if !fields.is_empty() {
        fields.push(',');
    }
    match name {
        // What was not escaped need not be.
        Cow::Borrowed(name) => {
            fields.push('"');
            fields.push_str(name);
            fields.push('"');
        }
        Cow::Owned(name) => fields.push_str(&Value::from(name.as_str()).to_string()),
    }
    fields.push(':');
    fields.push_str(value.get());
}

fn key(field: &str, values: &Value) -> Result<Box<str>, DataError> {
    let text = match values.get(field) {
        Some(value @ (Value::String(_) | Value::Number(_) | Value::Bool(_))) => value.to_string(),
        Some(Value::Null | Value::Array(_) | Value::Object(_)) | None => String::new(),
    };
    if text.is_empty() || text.len() > KEY_BYTES_MAX {
        return Err(DataError::Key(field.into()));
    }
    Ok(text.into())
}
