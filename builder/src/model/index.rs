//! `*.safetensors.index.json`: which tensor is in which shard.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::look::{Fault, Look, Seen, beginning, text};

/// The tensors of each shard, by the shard's name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Index {
    /// By the path of the shard, from the index's directory on.
    pub shards: BTreeMap<Box<str>, Vec<Box<str>>>,
    /// Whether the object has a `weight_map`.
    found: bool,
}

/// Reads an index, at most [`MOST`](super::MOST) bytes of it. `None` where the file's bytes cannot be had.
///
/// # Errors
/// Where it is no index.
pub fn read(file: &mut dyn Look) -> Option<Result<Seen<Index>, Fault>> {
    let (bytes, whole) = beginning(file)?;
    Some(parse(&bytes, whole))
}

fn parse(bytes: &[u8], whole: bool) -> Result<Seen<Index>, Fault> {
    let mut index = Index::default();
    let mut json = serde_json::Deserializer::from_str(text(bytes, whole)?);
    match Object(&mut index).deserialize(&mut json).and_then(|()| json.end()) {
        Ok(()) => {}
        Err(error) if !whole && error.is_eof() => return Ok(Seen::Part(index)),
        Err(error) => return Err(Fault(format!("is no index of shards: {error}"))),
    }
    if !index.found {
        return Err(Fault("is no index of shards: it has no weight_map".to_owned()));
    }
    Ok(Seen::Whole(index))
}

struct Object<'i>(&'i mut Index);
struct WeightMap<'i>(&'i mut Index);

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a weight_map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Box<str>>()? {
            if &*key == "weight_map" {
                self.0.found = true;
                map.next_value_seed(WeightMap(self.0))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for WeightMap<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for WeightMap<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with the file of each tensor")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some((tensor, file)) = map.next_entry::<Box<str>, Box<str>>()? {
            self.0.shards.entry(file).or_default().push(tensor);
        }
        Ok(())
    }
}
