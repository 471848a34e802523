//! Extended attributes, as far as an image carries them: `user.*` and `security.capability`. All others are the machine's:
//! SELinux labels, access control lists, what overlayfs notes.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// More bytes of attributes than this are refused, in a file system and in an archive; Linux has 64 KiB for one.
const MAX: usize = 256 << 10;

/// The attributes of a file or directory that an image carries, by name. Cheap to clone; nearly always empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Xattrs(Option<Arc<BTreeMap<Bytes, Bytes>>>);

impl Xattrs {
    /// Those of `all` that an image carries.
    #[must_use]
    pub fn new(all: impl IntoIterator<Item = (Bytes, Bytes)>) -> Self {
        let carried: BTreeMap<_, _> = all.into_iter().filter(|(name, _)| is_carried(name)).collect();
        Self((!carried.is_empty()).then(|| Arc::new(carried)))
    }

    /// Those that what is at `path` has; a link is not followed. A file system without attributes has none.
    ///
    /// # Errors
    /// Those of the file system, and where there are more than 256 KiB.
    pub fn of_path(path: &Path) -> io::Result<Self> {
        let names = match xattr::list(path) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::Unsupported => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        let mut all = Vec::new();
        let mut size = 0;
        for name in names.filter(|name| is_carried(name.as_bytes())) {
            // One that is gone meanwhile changes the file's fence.
            let Some(value) = xattr::get(path, &name)? else { continue };
            size += name.len() + value.len();
            if size > MAX {
                return Err(io::Error::other(format!("its extended attributes have more than {MAX} bytes")));
            }
            all.push((Bytes::from(name.into_vec()), Bytes::from(value)));
        }
        Ok(Self::new(all))
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Names and values, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        self.0.iter().flat_map(|all| all.iter())
    }

    /// Bytes of memory that they take, about.
    pub(crate) fn memory(&self) -> usize {
        self.iter().map(|(name, value)| 128 + name.len() + value.len()).sum()
    }
}

fn is_carried(name: &[u8]) -> bool {
    name.starts_with(b"user.") || name == b"security.capability"
}

impl Serialize for Xattrs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer
            .collect_seq(self.iter().map(|(name, value)| (STANDARD.encode(name), STANDARD.encode(value))))
    }
}

impl<'de> Deserialize<'de> for Xattrs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let decode = |text: String| STANDARD.decode(text).map(Bytes::from).map_err(serde::de::Error::custom);
        let all = Vec::<(String, String)>::deserialize(deserializer)?
            .into_iter()
            .map(|(name, value)| Ok((decode(name)?, decode(value)?)));
        Ok(Self::new(all.collect::<Result<Vec<_>, D::Error>>()?))
    }
}
