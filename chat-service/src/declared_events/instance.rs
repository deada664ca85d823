//! Reads an event's data so that it can mean one thing only: no name twice, no number that is not kept, no great depth.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value, value::RawValue};
use smallvec::SmallVec;

/// How deep arrays and objects may lie in each other, the data itself included.
pub(super) const DEPTH_MAX: usize = 32;

/// The fields of an object, in their order and unread. A name may be there twice.
#[derive(Debug)]
pub(super) struct RawFields<'a>(pub(super) SmallVec<[(FieldName<'a>, &'a RawValue); 4]>);

/// The name of a field: as it was written, if nothing in it was escaped.
#[derive(Debug, Deserialize)]
pub(super) struct FieldName<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

impl<'de> Deserialize<'de> for RawFields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;

        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = RawFields<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
                let mut fields = SmallVec::new();
                while let Some(field) = object.next_entry()? {
                    fields.push(field);
                }
                Ok(RawFields(fields))
            }
        }

        deserializer.deserialize_map(FieldsVisitor)
    }
}

/// Reads the value of a field of the data.
pub(super) fn field_value(raw: &RawValue) -> Result<Value, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(raw.get());
    Within(DEPTH_MAX - 1).deserialize(&mut deserializer)
}

/// Reads a value that has at most so many levels.
#[derive(Debug, Clone, Copy)]
struct Within(usize);

impl Within {
    fn one_less<E: Error>(self) -> Result<Self, E> {
        self.0.checked_sub(1).map(Self).ok_or_else(|| E::custom("too deep"))
    }
}

impl<'de> DeserializeSeed<'de> for Within {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Within {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("no finite number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Value, A::Error> {
        let inside = self.one_less()?;
        let mut items = Vec::new();
        while let Some(item) = array.next_element_seed(inside)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Value, A::Error> {
        let inside = self.one_less()?;
        let mut fields = Map::new();
        while let Some(name) = object.next_key::<String>()? {
            if fields.insert(name, object.next_value_seed(inside)?).is_some() {
                return Err(A::Error::custom("a name that occurs twice"));
            }
        }
        Ok(Value::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Option<Value> {
        field_value(serde_json::from_str(text).unwrap()).ok()
    }

    #[test]
    fn reads_what_is_plain() {
        for text in ["null", "true", "-1", "18446744073709551615", "0.5", "\"\\u00e9\"", "[{}]"] {
            assert_eq!(read(text), serde_json::from_str(text).ok(), "{text}");
        }
        assert_eq!(read("12345678901234567890123"), Some(12_345_678_901_234_567_890_123.0.into()));
    }

    #[test]
    fn refuses_what_one_reader_would_take_for_this_and_another_for_that() {
        for text in [r#"{"a":1,"a":2}"#, r#"[{"a":1,"\u0061":2}]"#, "1e400", r#""\ud800""#] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn names_are_copied_only_where_something_in_them_was_escaped() {
        let RawFields(fields) = serde_json::from_str(r#"{"a":1,"\u0062":2}"#).unwrap();

        let names: Vec<_> = fields.iter().map(|(FieldName(name), _)| name).collect();
        assert!(matches!(&*names, [Cow::Borrowed("a"), Cow::Owned(b)] if b == "b"), "{names:?}");
    }

    #[test]
    fn depth_has_a_bound() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));

        assert!(read(&nested(DEPTH_MAX - 1)).is_some());
        assert_eq!(read(&nested(DEPTH_MAX)), None);
        assert_eq!(read(&nested(10_000)), None);
    }

    proptest! {
        #[test]
        fn never_panics(text in "[\\[\\]{}\",:0-9eau\\\\ -]{0,64}") {
            if let Ok(raw) = serde_json::from_str::<&RawValue>(&text) {
                let plain: Option<Value> = serde_json::from_str(&text).ok();
                if let Ok(value) = field_value(raw) {
                    prop_assert_eq!(Some(value), plain);
                }
            }
        }
    }
}
