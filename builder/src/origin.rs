//! Where COPY copies from: the build context or an earlier stage; and what comes out of either.

use std::sync::Arc;

use bytes::Bytes;
use crossdock_storage::{Special, Xattrs};

use crate::context::Stat;
use crate::error::Problem;
use crate::ignore::IgnoreFile;
use crate::pattern::{Dialect, Pattern, has_meta};
use crate::tree::{FileNode, Leaf, Node, NodeKind};

/// What a source named or matched, its links followed.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// The path as it was named or matched, relative to the origin's root.
    pub(crate) named: Arc<[u8]>,
    /// From which byte on that path is kept below the destination, see [`Found::below`].
    pub(crate) kept: usize,
    /// The path without links, relative to the origin's root.
    pub(crate) path: Arc<[u8]>,
    /// Whether it is a directory.
    pub(crate) directory: bool,
    /// Whether it is a FIFO, device or socket.
    pub(crate) special: bool,
    /// Where it lies, if a link has led out of the origin.
    pub(crate) place: Option<usize>,
    /// The pattern that ignores this directory, where exceptions may bring back some of what is in it.
    pub(crate) ignored_by: Option<Box<str>>,
    /// What the context saw there; a file is not looked at twice.
    pub(crate) stat: Option<Box<Stat>>,
}

impl Found {
    /// Where it goes below the destination: a file by its name, a directory itself and not into it; with `--parents` what
    /// is behind the pivot.
    pub(crate) fn below(&self) -> &[u8] {
        &self.named[self.kept..]
    }

    /// The directories that `--parents` keeps above it, from the topmost down: the path in the origin, as it was named, and
    /// the one below the destination.
    pub(crate) fn parents(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let slashes = self.below().iter().enumerate().filter(|(_, b)| **b == b'/');
        slashes.map(|(at, _)| (&self.named[..self.kept + at], &self.below()[..at]))
    }
}

/// A file, directory or link that is copied.
#[derive(Debug)]
pub(crate) struct Item<'a> {
    /// The path below the destination.
    pub(crate) path: &'a [u8],
    pub(crate) kind: ItemKind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Modification time in seconds since the epoch; 0 for none.
    pub(crate) mtime: u32,
    pub(crate) xattrs: Xattrs,
    /// Where it is in another tree.
    pub(crate) leaf: Option<Leaf>,
}

impl<'a> Item<'a> {
    /// What a node of a tree is at `path`.
    pub(crate) fn of(node: &Node, path: &'a [u8], leaf: Option<&Leaf>) -> Self {
        let kind = match &node.kind {
            NodeKind::Directory(_) => ItemKind::Directory,
            NodeKind::File(file) => ItemKind::File(file.clone()),
            NodeKind::Symlink(target) => ItemKind::Symlink(target.clone()),
            NodeKind::Special(special) => ItemKind::Special(**special),
        };
        let &Node { mode, uid, gid, mtime, ref xattrs, .. } = node;
        Self { path, kind, mode, uid, gid, mtime, xattrs: xattrs.clone(), leaf: leaf.cloned() }
    }
}

#[derive(Debug)]
pub(crate) enum ItemKind {
    Directory,
    File(FileNode),
    Symlink(Arc<Bytes>),
    Special(Special),
    /// Nothing that an image can have.
    Socket,
}

/// Takes what a walk finds.
pub(crate) type Visit<'a> = dyn FnMut(Item<'_>) -> Result<(), Problem> + 'a;

/// A place to copy from.
pub(crate) trait Origin {
    /// How messages name it, such as `the build context ./ctx`.
    fn name(&self) -> String;

    /// What `source`, a path or pattern, stands for, sorted by path: nothing only where a pattern matches nothing. `parents` is
    /// what `--parents` says.
    fn find(&self, source: &str, parents: bool) -> Result<Vec<Found>, Problem>;

    /// Shows `found` to `visit`, or all that is below it where it is a directory: a directory before its contents,
    /// names sorted by bytes. The directory itself is shown where its path is kept. `exclude` is matched on paths below
    /// the destination.
    fn walk(&self, found: &Found, exclude: &IgnoreFile, visit: &mut Visit<'_>) -> Result<(), Problem>;

    /// Whether `--follow-links` is not given and would copy what symlinks in it point to.
    fn may_follow(&self) -> bool {
        false
    }

    /// Whether there may be what a download has left, which was not looked for yet.
    fn may_have_downloads(&self) -> bool {
        false
    }

    /// Shows the directory that `named` leads to as the one at `below`; not where it is ignored, or not known.
    fn directory(&self, named: &[u8], below: &[u8], visit: &mut Visit<'_>) -> Result<(), Problem>;
}

/// A source as it is looked for.
#[derive(Debug)]
pub(crate) struct SourcePath<'a> {
    /// The parts of the path, cleaned as text.
    pub(crate) parts: Vec<&'a str>,
    /// With `--parents`: so many parts stand before the pivot, a `/./`. From there on paths are kept.
    pivot: Option<usize>,
}

impl<'a> SourcePath<'a> {
    /// `None` where the path leads above the root, or above its pivot.
    pub(crate) fn new(source: &'a str, parents: bool) -> Option<Self> {
        if !parents {
            return Some(Self { parts: source_parts(source)?, pivot: None });
        }
        let (before, behind) = source.split_once("/./").unwrap_or(("", source));
        let mut parts = source_parts(before)?;
        let pivot = Some(parts.len());
        parts.extend(source_parts(behind)?);
        Some(Self { parts, pivot })
    }

    /// The path of what this names.
    pub(crate) fn literal(&self) -> Vec<u8> {
        self.parts.join("/").into_bytes()
    }

    /// Whether it may be a pattern.
    pub(crate) fn has_meta(&self) -> bool {
        self.parts.iter().any(|part| has_meta(part))
    }

    /// Whether only directories match: those that a `**` at the end stands for, with all that is in them.
    pub(crate) fn is_for_directories(&self) -> bool {
        self.parts.last() == Some(&ANY_DEPTH)
    }

    /// From which byte on a path that this names or matches is kept.
    pub(crate) fn kept(&self, named: &[u8], directory: bool) -> usize {
        let slash = |(_, byte): &(usize, &u8)| **byte == b'/';
        let mut bytes = named.iter().enumerate();
        let before = match self.pivot {
            Some(0) => return 0,
            Some(pivot) => bytes.filter(slash).nth(pivot - 1),
            None if directory => None,
            None => return bytes.rfind(slash).map_or(0, |(at, _)| at + 1),
        };
        before.map_or(named.len(), |(at, _)| at + 1)
    }
}

fn source_parts(source: &str) -> Option<Vec<&str>> {
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

/// Any number of directories, also none; at the end of a pattern all that is in the directory before it.
const ANY_DEPTH: &str = "**";

/// The paths that a source matches, sorted as long as `names_in` lists the names of a directory sorted, each with whether
/// it is a directory to look into. A part without a wildcard is taken as it is, whether it is there or not.
pub(crate) fn glob(
    source: &SourcePath<'_>,
    names_in: impl Fn(&[u8]) -> Result<Vec<(Vec<u8>, bool)>, Problem>,
) -> Result<Vec<Vec<u8>>, Problem> {
    let mut matches = vec![Vec::new()];
    let last = source.parts.len().saturating_sub(1);
    let too_many = |most| {
        Problem::new(format!("the pattern {:?} matches more than {most} paths", source.parts.join("/")))
            .with_help("copy the directory that holds them")
    };
    for (index, part) in source.parts.iter().enumerate() {
        if *part == ANY_DEPTH {
            // A directory is copied with all that is in it; and what `**/**` matches, one `**` does.
            if index == last || source.parts[index + 1] == ANY_DEPTH {
                continue;
            }
            let mut at = 0;
            while let Some(directory) = matches.get(at).cloned() {
                let names = names_in(&directory)?;
                let inside = names.iter().filter(|(_, enter)| *enter);
                matches.extend(inside.map(|(name, _)| join(&directory, name)));
                if matches.len() > MAX_DIRECTORIES {
                    return Err(too_many(MAX_DIRECTORIES));
                }
                at += 1;
            }
            // What `**/x/**` matches, it may match in several ways.
            matches.sort_unstable();
            matches.dedup();
            continue;
        }
        if !has_meta(part) {
            for path in &mut matches {
                *path = join(path, part.as_bytes());
            }
            continue;
        }
        let pattern = Pattern::new(part, Dialect::Component)
            .map_err(|bad| Problem::new(format!("invalid pattern {part:?}")).with_help(bad.to_string()))?;
        let mut next = Vec::new();
        if matches.len() > MAX_DIRECTORIES {
            return Err(too_many(MAX_DIRECTORIES));
        }
        for directory in matches {
            let names = names_in(&directory)?;
            let names = names.iter().filter(|(name, _)| pattern.matches(name));
            next.extend(names.map(|(name, _)| join(&directory, name)));
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
        let back = |_: &[u8]| Ok(vec![(b"link".to_vec(), true), (b"other".to_vec(), true)]);
        let deep = |times| glob(&SourcePath::new(&"*/".repeat(times), false).unwrap(), back);
        assert_eq!(deep(10).unwrap().len(), 1 << 10);
        assert!(deep(40).is_err());
        assert!(glob(&SourcePath::new("**/x", true).unwrap(), back).is_err());
        let file = |_: &[u8]| Ok(vec![(b"file".to_vec(), false); MAX_MATCHES + 1]);
        assert!(glob(&SourcePath::new("*", false).unwrap(), file).is_err());
    }
}
