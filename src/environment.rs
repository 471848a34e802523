//! The environment is read here and nowhere else. An empty variable is an unset one, whichever it is: scripts and pod
//! templates unset variables that way.

#![expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]

use std::ffi::OsString;
use std::path::PathBuf;

/// A variable's value, where it has one.
pub(crate) fn var_os(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The same as text; a value that is not UTF-8 is none.
pub(crate) fn var(name: &str) -> Option<String> {
    var_os(name)?.into_string().ok()
}

/// The same as a path.
pub(crate) fn path(name: &str) -> Option<PathBuf> {
    var_os(name).map(PathBuf::from)
}

/// The same where the path is absolute: the XDG base directory specification has others ignored.
pub(crate) fn absolute(name: &str) -> Option<PathBuf> {
    path(name).filter(|path| path.is_absolute())
}

/// A variable that somebody passes on by its name (`--build-arg NAME`, `--env NAME`): it goes on as it is, empty too, as
/// with buildah.
pub(crate) fn passed_on(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
