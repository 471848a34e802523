//! The header of a safetensors file: eight bytes that say how long it is, then JSON with the place of each tensor. The
//! tensors' bytes follow without a gap and end where the file ends (<https://github.com/huggingface/safetensors>, "Format").
//!
//! The crate `safetensors` reads a header only with the whole file in memory, and refuses types of tensors that are newer
//! than it; tests hold this reader against it.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, Visitor};

use super::look::{FIRST, Fault, Look, MOST, Seen, known_by, quoted, text};

/// The format's own limit of a header, in bytes.
const MAX_HEADER: u64 = 100_000_000;

/// The length that stands before the header.
const PREFIX: u64 = 8;

/// What a file's header says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Header {
    names: HashSet<u64>,
}

impl Header {
    /// Whether a tensor of this name is in the file, as far as the header was seen.
    #[must_use]
    pub fn has(&self, tensor: &str) -> bool {
        self.names.contains(&known_by(tensor))
    }

    /// How many tensors were seen.
    #[must_use]
    pub fn count(&self) -> usize {
        self.names.len()
    }
}

#[derive(Deserialize)]
struct Place<'a> {
    #[serde(borrow)]
    dtype: Cow<'a, str>,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

struct Tensor {
    name: Box<str>,
    begin: u64,
    end: u64,
    /// By its type and shape, where the type is known.
    size: Option<u128>,
}

/// Reads the header of a file, at most [`MOST`] bytes of it. `None` where the file's bytes cannot be had.
///
/// # Errors
/// Where the file cannot be one of safetensors that is whole.
pub fn read(file: &mut dyn Look) -> Option<Result<Seen<Header>, Fault>> {
    let len = file.len();
    let mut bytes = file.read(0, FIRST)?;
    let Some(prefix) = bytes.first_chunk::<8>() else {
        return Some(Err(Fault(format!(
            "is no safetensors file: the length of its header takes 8 bytes, and the file has {len}"
        ))));
    };
    let header = u64::from_le_bytes(*prefix);
    if header > MAX_HEADER {
        return Some(Err(Fault(format!(
            "is no safetensors file: its header would have {header} bytes, and the format allows {MAX_HEADER}"
        ))));
    }
    if header > len - PREFIX {
        return Some(Err(Fault(format!(
            "was cut off: its header has {header} bytes, and the file {} behind the header's length",
            len - PREFIX
        ))));
    }
    let end = (PREFIX + header).min(MOST);
    if let Some(more) = end.checked_sub(bytes.len() as u64).filter(|more| *more > 0) {
        bytes.extend(file.read(bytes.len() as u64, usize::try_from(more).unwrap_or_default())?);
    }
    bytes.truncate(usize::try_from(end).unwrap_or_default());
    Some(check(&bytes[8..], end == PREFIX + header, len - PREFIX - header))
}

/// Checks a header, or the beginning of one; `data` are the bytes of the file behind it.
fn check(header: &[u8], whole: bool, data: u64) -> Result<Seen<Header>, Fault> {
    let mut tensors = Vec::new();
    let mut json = serde_json::Deserializer::from_str(text(header, whole)?);
    let parsed = Tensors(&mut tensors).deserialize(&mut json).and_then(|()| json.end());
    match parsed {
        Ok(()) => {}
        Err(error) if !whole && error.is_eof() => {}
        Err(error) => return Err(Fault(format!("has a header that is no JSON of safetensors: {error}"))),
    }
    tensors.sort_unstable_by_key(|tensor| (tensor.begin, tensor.end));
    let mut before: Option<&Tensor> = None;
    for tensor in &tensors {
        let Tensor { name, begin, end, size } = tensor;
        let name = || quoted(name);
        if end < begin {
            return Err(Fault(format!(
                "has a tensor {} that ends at {end}, before it begins at {begin}",
                name()
            )));
        }
        if let Some(size) = size.filter(|size| *size != u128::from(end - begin)) {
            return Err(Fault(format!(
                "has a tensor {} of {size} bytes by its type and shape, and of {} by its place",
                name(),
                end - begin
            )));
        }
        let expected = before.map_or(0, |before| before.end);
        match before {
            Some(other) if *begin < expected => {
                return Err(Fault(format!(
                    "has tensors that lie on one another: {} begins at {begin}, and {} ends at {expected}",
                    name(),
                    quoted(&other.name)
                )));
            }
            _ if whole && *begin > expected => {
                return Err(Fault(format!(
                    "has {} bytes that are of no tensor: {} begins at {begin}, and what is before it ends at {expected}",
                    begin - expected,
                    name()
                )));
            }
            _ => before = Some(tensor),
        }
    }
    let end = before.map_or(0, |last| last.end);
    if end > data || whole && end < data {
        let what = if end > data { "was cut off" } else { "is longer than it says" };
        return Err(Fault(format!(
            "{what}: its tensors have {end} bytes by its header, and the file has {data} for them"
        )));
    }
    let header = Header { names: tensors.iter().map(|tensor| known_by(&tensor.name)).collect() };
    Ok(if whole { Seen::Whole(header) } else { Seen::Part(header) })
}

/// Collects tensors as they are read, so that those before the end of a part are known.
struct Tensors<'t>(&'t mut Vec<Tensor>);

impl<'de> DeserializeSeed<'de> for Tensors<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Tensors<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with the tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<Box<str>>()? {
            if &*name == "__metadata__" {
                map.next_value::<Option<BTreeMap<Box<str>, Box<str>>>>()?;
                continue;
            }
            let Place { dtype, shape, data_offsets: (begin, end) } = map.next_value()?;
            let size = match bits(&dtype) {
                Some(bits) => Some(size(bits, &shape).ok_or_else(|| {
                    A::Error::custom(format_args!(
                        "the shape of {} is of no whole number of bytes",
                        quoted(&name)
                    ))
                })?),
                None => None,
            };
            self.0.push(Tensor { name, begin, end, size });
        }
        Ok(())
    }
}

/// Bytes of a tensor; `None` where they are beyond counting, or no whole number.
fn size(bits: u128, shape: &[u64]) -> Option<u128> {
    let elements = shape.iter().try_fold(1_u128, |all, one| all.checked_mul(u128::from(*one)))?;
    let bits = elements.checked_mul(bits)?;
    bits.is_multiple_of(8).then_some(bits / 8)
}

/// The bits of an element; `None` for a type that is not known here.
fn bits(dtype: &str) -> Option<u128> {
    Some(match dtype {
        "F4" => 4,
        "F6_E2M3" | "F6_E3M2" => 6,
        "BOOL" | "U8" | "I8" | "F8_E5M2" | "F8_E4M3" | "F8_E8M0" | "F8_E4M3FNUZ" | "F8_E5M2FNUZ" => 8,
        "I16" | "U16" | "F16" | "BF16" => 16,
        "I32" | "U32" | "F32" => 32,
        "I64" | "U64" | "F64" | "C64" => 64,
        _ => return None,
    })
}
