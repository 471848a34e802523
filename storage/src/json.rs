//! JSON documents. Canonical: the bytes that are hashed are the bytes that are kept and sent. And as others write them:
//! `null` counts as absent, and in a list as the empty value.

use serde::Serialize;
use serde::de::{DeserializeOwned, Error as _};
use serde_json::{Map, Value, json};

/// Serialises with sorted object keys and without white space, so that equal values give equal bytes whatever
/// map they were kept in.
///
/// # Panics
/// Never for the types of this workspace: only a map with keys that are not strings fails.
#[must_use]
pub fn canonical_json<T: Serialize>(value: &T) -> Vec<u8> {
    // serde_json's Value keeps objects in a BTreeMap: the detour through it sorts what oci-spec keeps in HashMaps.
    let value = serde_json::to_value(value).expect("a value with string keys");
    serde_json::to_vec(&value).expect("a JSON value serialises")
}

/// Reads a document that somebody else may have written. A `null` counts as absent, wherever it stands: Go writes one for
/// a pointer, slice or map that was never made, and reads one as if it were not there. In a list a `null` has a place, and is
/// the empty text or object, as in Go; of a list of digests or descriptors it is an error, for none of them can be empty.
///
/// # Errors
/// Where the document is no JSON, or none of this kind.
pub fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> serde_json::Result<T> {
    let error = match serde_json::from_slice(bytes) {
        Ok(read) => return Ok(read),
        Err(error) => error,
    };
    // A document without null is what it is, and the error at hand names the place.
    let Ok(mut value) = serde_json::from_slice(bytes) else { return Err(error) };
    match remove_nulls("", &mut value) {
        Ok(true) => serde_json::from_value(value),
        Ok(false) => Err(error),
        Err(NullEntry(name)) => Err(serde_json::Error::custom(format!("an entry of {name} is null"))),
    }
}

/// A list of this name has a null in it that can be nothing.
#[derive(Debug, PartialEq)]
struct NullEntry(String);

/// Removes the nulls in the member `name` of a document, and says whether there was one.
fn remove_nulls(name: &str, value: &mut Value) -> Result<bool, NullEntry> {
    let mut found = false;
    match value {
        Value::Array(items) => {
            for item in items {
                if !item.is_null() {
                    found |= remove_nulls("", item)?;
                } else if let Some(empty) = empty_entry(name)? {
                    *item = empty;
                    found = true;
                }
            }
        }
        Value::Object(members) => {
            for (member, value) in std::mem::take(members) {
                let value = match value {
                    Value::Null => {
                        found = true;
                        stand_in(name, &member)
                    }
                    mut value => {
                        found |= remove_nulls(&member, &mut value)?;
                        Some(value)
                    }
                };
                members.extend(value.map(|value| (member, value)));
            }
        }
        _ => {}
    }
    Ok(found)
}

/// What a null in a list is; `None` in lists that are not ours to understand.
fn empty_entry(list: &str) -> Result<Option<Value>, NullEntry> {
    match list {
        "history" | "errors" => Ok(Some(json!({}))),
        "Cmd" | "Entrypoint" | "Env" | "OnBuild" | "Shell" | "Test" | "features" | "os.features" | "tags"
        | "urls" => Ok(Some(json!(""))),
        "layers" | "manifests" | "diff_ids" => Err(NullEntry(list.to_owned())),
        _ => Ok(None),
    }
}

/// What takes the place of a null; `None` for nothing. Where the user chose the names of the members, a name says something
/// by itself: a volume is there, whatever its value. Lists of descriptors have no default, and are empty.
fn stand_in(parent: &str, member: &str) -> Option<Value> {
    match (parent, member) {
        ("Volumes" | "ExposedPorts", _) => Some(Value::Object(Map::new())),
        ("Labels" | "annotations", _) => Some(json!("")),
        (_, "layers" | "manifests") => Some(json!([])),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn keys_are_sorted_whatever_the_map() {
        let map: HashMap<_, _> = (0..100).map(|i| (format!("k{i:03}"), i)).collect();
        let text = String::from_utf8(canonical_json(&map)).unwrap();
        let keys: Vec<_> = text.split('"').filter(|s| s.starts_with('k')).collect();
        assert!(keys.is_sorted(), "{text}");
        assert_eq!(keys.len(), 100);
    }

    #[test]
    fn null_is_absent_and_names_that_the_user_chose_stay() {
        let text = r#"{"a":null,"b":[null,{"c":null,"d":1}],"layers":null,"Labels":{"x":null},"config":
            {"Volumes":{"/x":null},"ExposedPorts":null}}"#;
        let mut value = serde_json::from_str(text).unwrap();
        assert_eq!(remove_nulls("", &mut value), Ok(true));
        let expected = json!({"b": [null, {"d": 1}], "layers": [], "Labels": {"x": ""}, "config": {"Volumes": {"/x": {}}}});
        assert_eq!(value, expected);
        assert_eq!(remove_nulls("", &mut value), Ok(false));
    }

    #[test]
    fn null_in_a_list_is_the_empty_value_or_an_error_and_never_dropped() {
        let text = r#"{"config": {"Cmd": ["a", null], "Env": [null]}, "history": [null, {"a": null}], "errors": [null]}"#;
        let mut value = serde_json::from_str(text).unwrap();
        assert_eq!(remove_nulls("", &mut value), Ok(true));
        let expected =
            json!({"config": {"Cmd": ["a", ""], "Env": [""]}, "history": [{}, {}], "errors": [{}]});
        assert_eq!(value, expected);
        for list in ["layers", "manifests", "diff_ids"] {
            let error =
                from_json::<HashMap<String, Vec<String>>>(format!("{{\"{list}\": [null]}}").as_bytes());
            assert_eq!(error.unwrap_err().to_string(), format!("an entry of {list} is null"));
        }
    }

    #[test]
    fn an_error_names_the_place_where_no_null_stands() {
        let error = from_json::<HashMap<String, u32>>(b"{\"a\": 1,\n\"b\": \"x\"}").unwrap_err();
        assert_eq!((error.line(), error.column()), (2, 8));
        let read: HashMap<String, u32> = from_json(b"{\"a\": 1, \"b\": null}").unwrap();
        assert_eq!(read, HashMap::from([("a".to_owned(), 1)]));
        assert!(from_json::<HashMap<String, u32>>(b"{\"a\": null, \"b\": \"x\"}").is_err());
    }
}
