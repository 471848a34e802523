//! What a template is given: values that print as Go prints them, and are JSON as Go's structs are.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use serde_json::Value as Json;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// A nil pointer.
    Nil,
    /// What a map does not have.
    Missing,
    Bool(bool),
    Int(i64),
    Text(String),
    /// RFC 3339, as the JSON has it.
    Time(String),
    List(Vec<Value>),
    Map(BTreeMap<String, Value>),
    /// Fields in the order of Go's struct.
    Struct(Vec<Field>),
}

/// A field of a struct.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    /// Its key in JSON.
    pub(crate) key: &'static str,
    pub(crate) empty: Empty,
    pub(crate) value: Value,
}

/// What JSON has of a field that is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Empty {
    /// Nothing: `omitempty`.
    Omitted,
    /// `null` for a list or a map: Go never made one.
    Null,
    /// `[]` or `{}`.
    Made,
    /// Nothing, whatever it holds: another name of a field, which templates may use.
    Alias,
}

/// The type that Go gives a value: what is there, and what is where nothing was said.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape {
    Bool,
    Int,
    Text,
    Time,
    List(&'static Shape),
    Map(&'static Shape),
    Struct(&'static [Member]),
    /// A pointer to a struct.
    Pointer(&'static Shape),
}

/// A field of a struct, as Go declares it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Member {
    pub(crate) name: &'static str,
    pub(crate) key: &'static str,
    pub(crate) empty: Empty,
    pub(crate) shape: Shape,
}

impl Value {
    /// What Go's decoder makes of some JSON: fields that the struct has not are left out, those that are not there are
    /// empty.
    pub(crate) fn shaped(json: Option<&Json>, shape: Shape) -> Self {
        let json = json.filter(|json| !json.is_null());
        match (shape, json) {
            (Shape::Bool, json) => Self::Bool(json.and_then(Json::as_bool).unwrap_or(false)),
            (Shape::Int, json) => Self::Int(json.and_then(Json::as_i64).unwrap_or(0)),
            (Shape::Text, json) => Self::Text(json.and_then(Json::as_str).unwrap_or_default().to_owned()),
            (Shape::Time | Shape::Pointer(_), None) => Self::Nil,
            (Shape::Time, Some(json)) => Self::Time(json.as_str().unwrap_or_default().to_owned()),
            (Shape::Pointer(inner), json) => Self::shaped(json, *inner),
            (Shape::List(inner), json) => {
                let items = json.and_then(Json::as_array).into_iter().flatten();
                Self::List(items.map(|item| Self::shaped(Some(item), *inner)).collect())
            }
            (Shape::Map(inner), json) => {
                let items = json.and_then(Json::as_object).into_iter().flatten();
                Self::Map(items.map(|(key, item)| (key.clone(), Self::shaped(Some(item), *inner))).collect())
            }
            (Shape::Struct(members), json) => {
                let fields = members.iter().map(|member| Field {
                    name: member.name,
                    key: member.key,
                    empty: member.empty,
                    value: Self::shaped(json.and_then(|json| json.get(member.key)), member.shape),
                });
                Self::Struct(fields.collect())
            }
        }
    }

    /// Whether `if` takes it.
    pub(crate) fn is_true(&self) -> bool {
        match self {
            Self::Struct(_) | Self::Time(_) => true,
            other => !other.is_empty(),
        }
    }

    /// Whether `omitempty` leaves it out.
    fn is_empty(&self) -> bool {
        match self {
            Self::Nil | Self::Missing => true,
            Self::Bool(value) => !value,
            Self::Int(value) => *value == 0,
            Self::Text(value) | Self::Time(value) => value.is_empty(),
            Self::List(items) => items.is_empty(),
            Self::Map(items) => items.is_empty(),
            Self::Struct(_) => false,
        }
    }

    /// What it is, for errors.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Nil | Self::Missing => "nothing",
            Self::Bool(_) => "true or false",
            Self::Int(_) => "a number",
            Self::Text(_) => "a text",
            Self::Time(_) => "a time",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
            Self::Struct(_) => "a struct",
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// Any JSON; an object is a map.
impl From<&Json> for Value {
    fn from(json: &Json) -> Self {
        match json {
            Json::Null => Self::Nil,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => number.as_i64().map_or_else(|| Self::Text(number.to_string()), Self::Int),
            Json::String(text) => Self::Text(text.clone()),
            Json::Array(items) => Self::List(items.iter().map(Self::from).collect()),
            Json::Object(items) => {
                Self::Map(items.iter().map(|(key, item)| (key.clone(), Self::from(item))).collect())
            }
        }
    }
}

/// As Go's `%v` prints it.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn spaced<T>(
            f: &mut fmt::Formatter<'_>,
            items: impl IntoIterator<Item = T>,
            mut show: impl FnMut(&mut fmt::Formatter<'_>, T) -> fmt::Result,
        ) -> fmt::Result {
            for (at, item) in items.into_iter().enumerate() {
                if at > 0 {
                    f.write_str(" ")?;
                }
                show(f, item)?;
            }
            Ok(())
        }
        match self {
            Self::Nil => f.write_str("<nil>"),
            Self::Missing => f.write_str("<no value>"),
            Self::Bool(value) => value.fmt(f),
            Self::Int(value) => value.fmt(f),
            Self::Text(text) => f.write_str(text),
            Self::Time(text) => match text.parse::<Timestamp>() {
                Ok(time) => write!(f, "{}", time.strftime("%Y-%m-%d %H:%M:%S%.f +0000 UTC")),
                Err(_) => f.write_str(text),
            },
            Self::List(items) => {
                f.write_str("[")?;
                spaced(f, items, |f, item| write!(f, "{item}"))?;
                f.write_str("]")
            }
            Self::Map(items) => {
                f.write_str("map[")?;
                spaced(f, items, |f, (key, item)| write!(f, "{key}:{item}"))?;
                f.write_str("]")
            }
            Self::Struct(fields) => {
                f.write_str("{")?;
                let shown = fields.iter().filter(|field| field.empty != Empty::Alias);
                spaced(f, shown, |f, field| write!(f, "{}", field.value))?;
                f.write_str("}")
            }
        }
    }
}

/// As Go's encoder writes it: a list or map that was never made is `null`.
impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Nil | Self::Missing => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Int(value) => serializer.serialize_i64(*value),
            Self::Text(text) | Self::Time(text) => serializer.serialize_str(text),
            Self::List(items) if items.is_empty() => serializer.serialize_unit(),
            Self::List(items) => serializer.collect_seq(items),
            Self::Map(items) if items.is_empty() => serializer.serialize_unit(),
            Self::Map(items) => serializer.collect_map(items),
            Self::Struct(fields) => {
                let shown = fields.iter().filter(|field| match field.empty {
                    Empty::Alias => false,
                    Empty::Omitted => !field.value.is_empty(),
                    Empty::Null | Empty::Made => true,
                });
                let mut map = serializer.serialize_map(None)?;
                for field in shown {
                    match (&field.value, field.empty) {
                        (Self::List(items), Empty::Made) => map.serialize_entry(field.key, items)?,
                        (Self::Map(items), Empty::Made) => map.serialize_entry(field.key, items)?,
                        (value, _) => map.serialize_entry(field.key, value)?,
                    }
                }
                map.end()
            }
        }
    }
}
