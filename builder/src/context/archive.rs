//! A tar archive as a build context. Nothing of it is unpacked: its files are extents of the archive, or come out of its
//! stream where that is compressed.
//!
//! The archive is taken as ADD would unpack it into an empty root directory, which nothing leads out of: `..` in names and
//! links stops there, and absolute ones begin there.

use crossdock_storage::{
    Cancel, LayerPath, ReadOptions, SourceArchive, SourceFile, VirtualLayer, is_archive,
};

use crate::error::{Error, Problem};
use crate::eval::tree_of_archive;
use crate::ignore::{IgnoreFile, ParentMatch};
use crate::origin::{Found, Item, Origin, Visit, join, shown};
use crate::stage_files::StageFiles;
use crate::tree::{FileTree, Leaf, MAX_LINKS, Node, NodeKind, State, layer_path};

/// The beginning of a file that tells whether it is an archive, in bytes.
const HEAD: usize = 512;

/// Links are followed to at most so many files and directories, as in a directory.
const MAX_FOLLOWED: usize = 2 << 20;

/// What an archive holds.
pub(super) struct Archive {
    tree: FileTree,
    /// As messages call it.
    name: String,
    pub(super) ignore: IgnoreFile,
    /// Whether the archive ends without the blocks that say so.
    pub(super) cut: bool,
    /// Whether links are followed.
    pub(super) follow: bool,
}

impl Archive {
    /// Reads what is in `file`; `None` where it is no archive.
    pub(super) fn open(file: &SourceFile, name: &str, cancel: &Cancel) -> Result<Option<Self>, Error> {
        let fail = |reason: String, source| Error::ContextArchive { name: name.to_owned(), reason, source };
        let read = SourceArchive::read(file, cancel).map_err(|source| {
            if cancel.is_cancelled() {
                Error::Interrupted
            } else {
                fail(String::new(), Some(Box::new(source)))
            }
        })?;
        let Some(archive) = read else { return Ok(None) };
        let cut = archive.cut;
        let tree = tree_of_archive(archive).map_err(|problem| fail(format!(": {}", problem.text()), None))?;
        Ok(Some(Self { tree, cut, ..Self::empty(name) }))
    }

    pub(super) fn empty(name: &str) -> Self {
        let (tree, ignore) = (FileTree::empty(), IgnoreFile::none());
        Self { tree, name: name.to_owned(), ignore, cut: false, follow: false }
    }

    /// The bytes of a file.
    pub(super) fn read(&self, path: &str, most: u64) -> Result<Option<Vec<u8>>, Error> {
        let fail = |reason: String| Error::ContextArchive { name: self.name.clone(), reason, source: None };
        let at = LayerPath::confined(path).map_err(|error| fail(format!(": {path:?}: {error}")))?;
        let node = match self.tree.lookup(&at, true) {
            Ok(lookup) => match lookup.state {
                State::Found(node) => node,
                State::Missing | State::Unknown => return Ok(None),
            },
            Err(error) => return Err(fail(format!(": {error}"))),
        };
        let content = match &node.kind {
            NodeKind::File(file) => file.content(),
            NodeKind::Directory(_) | NodeKind::Symlink(_) | NodeKind::Special(_) => None,
        };
        let content = content.ok_or_else(|| fail(format!(": {path} is no file that can be read")))?;
        if content.len() > most {
            return Err(fail(format!(": {path} has more than {most} bytes")));
        }
        let bytes = head_of(&content.into_parts(), usize::try_from(most).unwrap_or(usize::MAX));
        bytes.map(Some).map_err(|source| Error::ContextArchive {
            name: self.name.clone(),
            reason: String::new(),
            source: Some(Box::new(source)),
        })
    }

    /// Whether a file looks like an archive itself.
    pub(super) fn is_nested(&self, found: &Found) -> bool {
        let Some(Node { kind: NodeKind::File(file), .. }) = self.tree.get(&layer_path(&found.path)) else {
            return false;
        };
        let content = file.content();
        content
            .is_some_and(|content| head_of(&content.into_parts(), HEAD).is_ok_and(|head| is_archive(&head)))
    }

    fn files<'a>(&'a self, name: &'a str) -> StageFiles<'a> {
        StageFiles { tree: &self.tree, name }
    }

    fn ignored(&self, line: usize) -> String {
        format!("{}:{line}", self.ignore.name())
    }

    /// What is in a directory.
    fn inside(
        &self,
        node: &Node,
        walk: &mut Walk<'_, '_>,
        path: &[u8],
        matched: &(ParentMatch, ParentMatch),
    ) -> Result<(), Problem> {
        let len = walk.below.len();
        walk.around.push(path.to_vec());
        for (name, child, leaf) in node.children_and_leaves() {
            if len > 0 {
                walk.below.push(b'/');
            }
            walk.below.extend_from_slice(name);
            let path = join(path, name);
            let ignored = self.ignore.child(&path, &matched.0);
            let excluded = walk.exclude.child(&walk.below, &matched.1);
            let left_out = ignored.ignored_by.is_some() || excluded.ignored_by.is_some();
            let enter = (ignored.ignored_by.is_none() || self.ignore.may_except_below(&path))
                && (excluded.ignored_by.is_none() || walk.exclude.may_except_below(&walk.below));
            let matched = (ignored.matched, excluded.matched);
            match &child.kind {
                NodeKind::Directory(_) => {
                    if !left_out {
                        one(child, walk, None)?;
                    }
                    if enter {
                        self.inside(child, walk, &path, &matched)?;
                    }
                }
                _ if left_out => {}
                NodeKind::Symlink(_) if self.follow => self.behind(child, walk, &path, &matched.1)?,
                _ => one(child, walk, leaf)?,
            }
            walk.below.truncate(len);
        }
        walk.around.pop();
        Ok(())
    }

    /// What a link leads to, in the place of the link; the link, where that is nothing or around it.
    fn behind(
        &self,
        link: &Node,
        walk: &mut Walk<'_, '_>,
        path: &[u8],
        excluded: &ParentMatch,
    ) -> Result<(), Problem> {
        let Ok(found) = self.tree.lookup(&layer_path(path), true) else { return one(link, walk, None) };
        let target = found.path.as_bytes();
        let verdict = self.ignore.verdict(target);
        let node = match found.state {
            State::Found(node)
                if !walk.around.iter().any(|around| around == target)
                    && !layer_path(path).starts_with(&found.path) =>
            {
                node
            }
            _ => return one(link, walk, None),
        };
        if verdict.ignored_by.is_some() && !(node.is_directory() && self.ignore.may_except_below(target)) {
            return one(link, walk, None);
        }
        walk.followed += 1;
        if walk.depth >= MAX_LINKS || walk.followed > MAX_FOLLOWED {
            return Err(Problem::new(format!(
                "--follow-links finds no end of what is behind the symlink {}",
                shown(path)
            ))
            .with_help("name it in .containerignore, or leave --follow-links out"));
        }
        one(node, walk, None)?;
        if node.is_directory() {
            walk.depth += 1;
            self.inside(node, walk, target, &(verdict.matched, excluded.clone()))?;
            walk.depth -= 1;
        }
        Ok(())
    }
}

struct Walk<'a, 'v> {
    exclude: &'a IgnoreFile,
    visit: &'a mut Visit<'v>,
    below: Vec<u8>,
    /// The directories around.
    around: Vec<Vec<u8>>,
    /// How many links to directories led here, and what was found behind links so far.
    depth: usize,
    followed: usize,
}

impl Origin for Archive {
    fn name(&self) -> String {
        format!("the build context {}", self.name)
    }

    fn find(&self, source: &str, parents: bool) -> Result<Vec<Found>, Problem> {
        let name = self.name();
        let (mut kept, mut ignored) = (Vec::new(), None);
        for mut found in self.files(&name).find(source, parents)? {
            let line = self.ignore.verdict(&found.named).ignored_by;
            let line = line.or_else(|| self.ignore.verdict(&found.path).ignored_by);
            if let Some(line) = line
                && !(found.directory && self.ignore.may_except_below(&found.path))
            {
                ignored.get_or_insert((found.named, line));
                continue;
            }
            found.ignored_by = line.map(|line| self.ignored(line).into());
            kept.push(found);
        }
        match (kept.is_empty(), ignored) {
            (true, Some((path, line))) => Err(Problem::source(format!(
                "{source:?} is not in {name} ({} is ignored by {})",
                shown(&path),
                self.ignored(line)
            ))),
            _ => Ok(kept),
        }
    }

    fn walk(&self, found: &Found, exclude: &IgnoreFile, visit: &mut Visit<'_>) -> Result<(), Problem> {
        let name = self.name();
        if !found.directory {
            return self.files(&name).walk(found, exclude, visit);
        }
        let Some(node) = self.tree.get(&layer_path(&found.path)) else {
            return Err(Problem::new(format!("{} is not in {name}", shown(&found.path))));
        };
        let below = found.below().to_vec();
        let mut walk = Walk { exclude, visit, below, around: Vec::new(), depth: 0, followed: 0 };
        let excluded = exclude.verdict(found.below());
        if excluded.ignored_by.is_none() && found.ignored_by.is_none() && !found.below().is_empty() {
            one(node, &mut walk, None)?;
        }
        let ignored = self.ignore.verdict(&found.path).matched;
        self.inside(node, &mut walk, &found.path, &(ignored, excluded.matched))
    }

    fn directory(&self, named: &[u8], below: &[u8], visit: &mut Visit<'_>) -> Result<(), Problem> {
        if self.ignore.verdict(named).ignored_by.is_some() {
            return Ok(());
        }
        let name = self.name();
        self.files(&name).directory(named, below, visit)
    }
}

fn one(node: &Node, walk: &mut Walk<'_, '_>, leaf: Option<&Leaf>) -> Result<(), Problem> {
    (walk.visit)(Item::of(node, &walk.below, leaf))
}

/// The first bytes of what lies in `parts`, at most so many.
fn head_of(parts: &VirtualLayer, most: usize) -> crossdock_storage::Result<Vec<u8>> {
    let mut head = Vec::new();
    for chunk in parts.bytes_from(0, &ReadOptions::default()) {
        head.extend_from_slice(&chunk?);
        if head.len() >= most {
            head.truncate(most);
            break;
        }
    }
    Ok(head)
}
