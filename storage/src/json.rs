//! Canonical JSON: the bytes that are hashed are the bytes that are kept and sent.

use serde::Serialize;

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
}
