//! How names and contents, which are bytes, stand in JSON.

/// Whether a number need not be written down.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
pub(crate) const fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Bytes as JSON text: those that are not UTF-8, or begin with the mark, as Latin-1 behind a mark.
pub(crate) mod bytes_text {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer};

    /// No path has a NUL byte; other texts seldom begin with one.
    const MARK: char = '\0';

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(bytes) {
            Ok(text) if !text.starts_with(MARK) => serializer.serialize_str(text),
            _ => {
                let text: String =
                    std::iter::once(MARK).chain(bytes.iter().map(|b| char::from(*b))).collect();
                serializer.serialize_str(&text)
            }
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.strip_prefix(MARK) {
            None => Ok(text.into()),
            Some(latin) => latin
                .chars()
                .map(|c| u8::try_from(u32::from(c)).map_err(serde::de::Error::custom))
                .collect::<Result<Vec<u8>, _>>()
                .map(Bytes::from),
        }
    }
}

pub(crate) mod optional_text {
    use bytes::Bytes;
    use serde::{Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(bytes: &Option<Bytes>, serializer: S) -> Result<S::Ok, S::Error> {
        super::bytes_text::serialize(bytes.as_deref().unwrap_or_default(), serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Bytes>, D::Error> {
        super::bytes_text::deserialize(deserializer).map(Some)
    }
}

pub(crate) mod boxed_text {
    use bytes::Bytes;
    use serde::{Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        super::bytes_text::serialize(bytes, serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Box<Bytes>, D::Error> {
        super::bytes_text::deserialize(deserializer).map(Box::new)
    }
}

pub(crate) mod optional_box_text {
    use bytes::Bytes;
    use serde::{Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        bytes: &Option<Box<Bytes>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        super::bytes_text::serialize(bytes.as_ref().map_or(&[], |bytes| bytes), serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Box<Bytes>>, D::Error> {
        super::boxed_text::deserialize(deserializer).map(Some)
    }
}

pub(crate) mod path_text {
    use serde::{Deserializer, Serializer};

    use crate::entry::LayerPath;

    pub(crate) fn serialize<S: Serializer>(path: &LayerPath, serializer: S) -> Result<S::Ok, S::Error> {
        super::bytes_text::serialize(path.as_bytes(), serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<LayerPath, D::Error> {
        LayerPath::clean(super::bytes_text::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}
