//! Extended attributes, as far as an image carries them: `user.*` and `security.capability`. All others are the machine's:
//! SELinux labels, access control lists, what overlayfs notes.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use nix::sys::statfs::{FUSE_SUPER_MAGIC, FsType, statfs};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// More bytes of attributes than this are refused, in a file system and in an archive; Linux has 64 KiB for one.
const MAX: usize = 256 << 10;

/// The attributes of a file or directory that an image carries, by name. Cheap to clone; nearly always empty.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Xattrs(Option<Arc<Box<[u8]>>>);

/// Bytes of a length in what [`Xattrs`] holds: names and values in turn, each behind its length.
const LENGTH: usize = size_of::<u32>();

impl Xattrs {
    /// Those of `all` that an image carries.
    #[must_use]
    pub fn new(all: impl IntoIterator<Item = (Bytes, Bytes)>) -> Self {
        let carried: BTreeMap<_, _> = all.into_iter().filter(|(name, _)| is_carried(name)).collect();
        let mut bytes = Vec::new();
        for part in carried.iter().flat_map(|(name, value)| [name, value]) {
            let len = u32::try_from(part.len())
                .expect("archives and file systems have at most some hundred KiB of them");
            bytes.extend_from_slice(&len.to_le_bytes());
            bytes.extend_from_slice(part);
        }
        Self((!bytes.is_empty()).then(|| Arc::new(bytes.into())))
    }

    /// Those that what is at `path` has; a link is not followed.
    ///
    /// A file system without attributes has none, which is no loss and not told. Where a file system in user space (FUSE,
    /// 9p) answers with an error, the attributes are left out and [`FoundXattrs::refused`] has the error: many of these do not
    /// implement the calls, and which error they answer with is up to them. From a file system of the kernel an error is one:
    /// the attributes may be there, and a program without its capability does not work.
    ///
    /// # Errors
    /// Those of the file system, with "extended attributes" in their text, and where there are more than 256 KiB.
    pub fn of_path(path: &Path) -> io::Result<FoundXattrs> {
        read(&Kernel(path))
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Names and values, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest: &[u8] = self.0.as_ref().map_or(&[], |all| all);
        let mut part = move || {
            let (len, behind) = rest.split_first_chunk::<LENGTH>()?;
            let (part, behind) = behind.split_at_checked(usize::try_from(u32::from_le_bytes(*len)).ok()?)?;
            rest = behind;
            Some(part)
        };
        std::iter::from_fn(move || Some((part()?, part()?)))
    }

    /// Bytes of memory that they take, about.
    pub(crate) fn memory(&self) -> usize {
        self.0.as_ref().map_or(0, |all| 128 + all.len())
    }
}

impl fmt::Debug for Xattrs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes| String::from_utf8_lossy(bytes);
        f.debug_map().entries(self.iter().map(|(name, value)| (text(name), text(value)))).finish()
    }
}

/// What could be learned of the attributes of a path.
#[derive(Debug, Default)]
#[must_use]
pub struct FoundXattrs {
    /// Those that are carried.
    pub xattrs: Xattrs,
    /// The file system's error where it did not give them, or not all of them.
    pub refused: Option<io::Error>,
}

/// The calls behind [`Xattrs::of_path`].
trait Attributes {
    fn names(&self) -> io::Result<Vec<Vec<u8>>>;

    /// `None` where there is no attribute of this name.
    fn value(&self, name: &[u8]) -> io::Result<Option<Vec<u8>>>;

    /// Whether the file system is a program's and not the kernel's.
    fn in_user_space(&self) -> bool;
}

/// A path, asked by the system calls. `xattr` asks again where a value has grown between the call for its size and the one
/// for its bytes (ERANGE).
struct Kernel<'a>(&'a Path);

impl Attributes for Kernel<'_> {
    fn names(&self) -> io::Result<Vec<Vec<u8>>> {
        Ok(xattr::list(self.0)?.map(OsStringExt::into_vec).collect())
    }

    fn value(&self, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
        xattr::get(self.0, OsStr::from_bytes(name))
    }

    fn in_user_space(&self) -> bool {
        const V9FS: FsType = FsType(0x0102_1997);
        statfs(self.0).is_ok_and(|fs| [FUSE_SUPER_MAGIC, V9FS].contains(&fs.filesystem_type()))
    }
}

fn read(path: &impl Attributes) -> io::Result<FoundXattrs> {
    let names = match path.names() {
        Ok(names) => names,
        // ENOTSUP and ENOSYS.
        Err(error) if error.kind() == io::ErrorKind::Unsupported => return Ok(FoundXattrs::default()),
        Err(error) if path.in_user_space() => {
            return Ok(FoundXattrs { refused: Some(error), ..FoundXattrs::default() });
        }
        Err(error) => return Err(unreadable("its extended attributes", &error)),
    };
    let (mut all, mut size, mut refused) = (Vec::new(), 0, None);
    for name in names.into_iter().filter(|name| is_carried(name)) {
        let value = match path.value(&name) {
            Ok(Some(value)) => value,
            // One that is gone meanwhile changes the file's fence.
            Ok(None) => continue,
            // It was listed, so that something is lost.
            Err(error) if error.kind() == io::ErrorKind::Unsupported || path.in_user_space() => {
                refused.get_or_insert(error);
                continue;
            }
            Err(error) => {
                let what = format!("its extended attribute {}", String::from_utf8_lossy(&name));
                return Err(unreadable(&what, &error));
            }
        };
        size += name.len() + value.len();
        if size > MAX {
            return Err(io::Error::other(format!("its extended attributes have more than {MAX} bytes")));
        }
        all.push((Bytes::from(name), Bytes::from(value)));
    }
    Ok(FoundXattrs { xattrs: Xattrs::new(all), refused })
}

fn unreadable(what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what} cannot be read: {error}"))
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

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::*;

    /// A path of a file system that answers so.
    struct Answers {
        names: Result<&'static [&'static str], Errno>,
        /// The first name's; the others have the value `v`.
        value: Result<Option<&'static str>, Errno>,
        in_user_space: bool,
    }

    impl Attributes for Answers {
        fn names(&self) -> io::Result<Vec<Vec<u8>>> {
            Ok(self.names?.iter().map(|name| name.as_bytes().to_vec()).collect())
        }

        fn value(&self, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
            match self.names?.first() {
                Some(first) if first.as_bytes() == name => Ok(self.value?.map(Into::into)),
                _ => Ok(Some(b"v".to_vec())),
            }
        }

        fn in_user_space(&self) -> bool {
            self.in_user_space
        }
    }

    /// The attributes that are found, and the error that the file system is warned of with; or the error.
    fn outcome(answers: &Answers) -> Result<(String, Option<String>), String> {
        let found = read(answers).map_err(|error| error.to_string())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let shown = found.xattrs.iter().map(|(name, value)| format!("{}={}", text(name), text(value)));
        Ok((shown.collect::<Vec<_>>().join(" "), found.refused.map(|error| error.to_string())))
    }

    const TWO: &[&str] = &["user.a", "user.b"];

    #[test]
    fn a_file_system_without_attributes_has_none_and_says_so_in_its_own_way() {
        let none = (String::new(), None);
        for errno in [Errno::ENOTSUP, Errno::ENOSYS] {
            for in_user_space in [false, true] {
                let answers = Answers { names: Err(errno), value: Ok(None), in_user_space };
                assert_eq!(outcome(&answers), Ok(none.clone()), "{errno}");
            }
        }
        for errno in [Errno::EIO, Errno::EINVAL, Errno::EPERM, Errno::EACCES] {
            let answers = Answers { names: Err(errno), value: Ok(None), in_user_space: true };
            let (found, refused) = outcome(&answers).unwrap();
            assert_eq!((found.as_str(), refused.is_some()), ("", true), "{errno}");
            let error = outcome(&Answers { in_user_space: false, ..answers }).unwrap_err();
            assert!(error.starts_with("its extended attributes cannot be read: "), "{error}");
        }
    }

    #[test]
    fn an_attribute_that_is_listed_is_carried_or_told_of() {
        let answers = |value, in_user_space| Answers { names: Ok(TWO), value, in_user_space };
        assert_eq!(outcome(&answers(Ok(Some("x")), false)), Ok(("user.a=x user.b=v".to_owned(), None)));
        // ENODATA: it was removed after it was listed.
        assert_eq!(outcome(&answers(Ok(None), false)), Ok(("user.b=v".to_owned(), None)));
        for (errno, in_user_space) in
            [(Errno::EIO, true), (Errno::EPERM, true), (Errno::ENOTSUP, true), (Errno::ENOTSUP, false)]
        {
            let (found, refused) = outcome(&answers(Err(errno), in_user_space)).unwrap();
            assert_eq!((found.as_str(), refused.is_some()), ("user.b=v", true), "{errno}");
        }
        for errno in [Errno::EIO, Errno::EPERM, Errno::EACCES, Errno::ERANGE] {
            let error = outcome(&answers(Err(errno), false)).unwrap_err();
            assert!(error.starts_with("its extended attribute user.a cannot be read: "), "{error}");
        }
    }

    #[test]
    fn attributes_of_the_machine_are_not_even_asked_for() {
        let answers = Answers {
            names: Ok(&["trusted.overlay.opaque", "security.selinux"]),
            value: Err(Errno::EPERM),
            in_user_space: false,
        };
        assert_eq!(outcome(&answers), Ok((String::new(), None)));
    }
}
