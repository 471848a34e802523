//! Where COPY copies from: the build context or an earlier stage; and what comes out of either.

use std::sync::Arc;

use bytes::Bytes;
use cap_std::fs::Metadata;
use crossdock_storage::Xattrs;

use crate::error::Problem;
use crate::ignore::IgnoreFile;
use crate::pattern::{Dialect, Pattern, has_meta};
use crate::tree::FileNode;

/// What a source named or matched, its links followed.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// The last part of the path as it was named or matched; empty for the root.
    pub(crate) name: Vec<u8>,
    /// The path without links, relative to the origin's root.
    pub(crate) path: Vec<u8>,
    /// Whether it is a directory.
    pub(crate) directory: bool,
    /// The pattern that ignores this directory, where exceptions may bring back some of what is in it.
    pub(crate) ignored_by: Option<String>,
    /// What the context saw there; a file is not looked at twice.
    pub(crate) metadata: Option<Metadata>,
}

/// A file, directory or link that is copied.
#[derive(Debug)]
pub(crate) struct Item<'a> {
    /// The path below the directory that is copied; empty for a file that is copied by itself.
    pub(crate) path: &'a [u8],
    pub(crate) kind: ItemKind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) xattrs: Xattrs,
}

#[derive(Debug)]
pub(crate) enum ItemKind {
    Directory,
    /// Names of one file share the `Arc`.
    File(Arc<FileNode>),
    Symlink(Bytes),
}

/// Takes what a walk finds.
pub(crate) type Visit<'a> = dyn FnMut(Item<'_>) -> Result<(), Problem> + 'a;

/// A place to copy from.
pub(crate) trait Origin {
    /// How messages name it, such as `the build context ./ctx`.
    fn name(&self) -> String;

    /// What `source`, a path or pattern, stands for: at least one thing, sorted by path.
    fn find(&self, source: &str) -> Result<Vec<Found>, Problem>;

    /// Shows `found` to `visit`, or all that is below it where it is a directory: a directory before its contents,
    /// names sorted by bytes. `exclude` is matched on paths below the directory, or the name of a file.
    fn walk(&self, found: &Found, exclude: &IgnoreFile, visit: &mut Visit<'_>) -> Result<(), Problem>;
}

/// The parts of a source's path, cleaned as text; `None` where it leads above the root.
pub(crate) fn source_parts(source: &str) -> Option<Vec<&str>> {
    let mut parts = Vec::new();
    for part in source.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts)
}

/// A pattern matches at most so many paths, and so many directories on the way there: links to directories that hold them
/// make `*/*/*` match without end.
const MAX_MATCHES: usize = 2 << 20;
const MAX_DIRECTORIES: usize = 128 << 10;

/// The paths that a source's parts match, one after the other, sorted as long as `names_in` lists the names of a
/// directory sorted. A part without a wildcard is taken as it is, whether it is there or not.
pub(crate) fn glob(
    parts: &[&str],
    names_in: impl Fn(&[u8]) -> Result<Vec<Vec<u8>>, Problem>,
) -> Result<Vec<Vec<u8>>, Problem> {
    let mut matches = vec![Vec::new()];
    for part in parts {
        if !has_meta(part) {
            for path in &mut matches {
                *path = join(path, part.as_bytes());
            }
            continue;
        }
        let pattern = Pattern::new(part, Dialect::Component)
            .map_err(|bad| Problem::new(format!("invalid pattern {part:?}")).with_help(bad.to_string()))?;
        let mut next = Vec::new();
        let too_many = |most| {
            Problem::new(format!("the pattern {:?} matches more than {most} paths", parts.join("/")))
                .with_help("copy the directory that holds them")
        };
        if matches.len() > MAX_DIRECTORIES {
            return Err(too_many(MAX_DIRECTORIES));
        }
        for directory in matches {
            let names = names_in(&directory)?;
            next.extend(names.iter().filter(|name| pattern.matches(name)).map(|name| join(&directory, name)));
            if next.len() > MAX_MATCHES {
                return Err(too_many(MAX_MATCHES));
            }
        }
        matches = next;
    }
    Ok(matches)
}

/// `a/b`, or `b` where `a` is empty.
pub(crate) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(directory.len() + name.len() + 1);
    path.extend_from_slice(directory);
    if !directory.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// The path as messages show it.
pub(crate) fn shown(path: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_through_links_that_lead_back_ends_somewhere() {
        let back = |_: &[u8]| Ok(vec![b"link".to_vec(), b"other".to_vec()]);
        assert_eq!(glob(&["*"; 10], back).unwrap().len(), 1 << 10);
        assert!(glob(&["*"; 40], back).is_err());
        let file = |_: &[u8]| Ok(vec![b"file".to_vec(); MAX_MATCHES + 1]);
        assert!(glob(&["*"], file).is_err());
    }
}
