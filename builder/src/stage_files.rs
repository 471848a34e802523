//! An earlier stage, or an image, as what `COPY --from` copies from: its [`FileTree`], links followed inside its root.

use crossdock_storage::LayerPath;

use crate::error::Problem;
use crate::ignore::{IgnoreFile, ParentMatch};
use crate::origin::{Found, Item, Origin, SourcePath, Visit, glob, join, shown};
use crate::tree::{FileNode, FileTree, Leaf, Node, NodeKind, State, layer_path};

/// The files of an earlier stage or an image.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StageFiles<'a> {
    pub(crate) tree: &'a FileTree,
    /// As messages name it, such as `stage "build"`.
    pub(crate) name: &'a str,
}

impl StageFiles<'_> {
    fn in_base(&self, path: &[u8]) -> Problem {
        Problem::new(format!(
            "{} cannot be taken out of the layers of {}: what they hold of it is not known, or not all of it",
            layer_path(path),
            self.name
        ))
        .with_help("put the file into the context in an earlier step of the pipeline and COPY it from there")
    }

    /// The names in a directory, sorted, and whether they are directories; none where it is none.
    fn names_in(&self, path: &[u8]) -> Vec<(Vec<u8>, bool)> {
        let Ok(State::Found(node)) = self.tree.lookup(&layer_path(path), true).map(|lookup| lookup.state)
        else {
            return Vec::new();
        };
        node.children().map(|(name, child)| (name.to_vec(), child.is_directory())).collect()
    }

    /// What is in a directory.
    fn inside(
        &self,
        node: &Node,
        walk: &mut Walk<'_, '_>,
        path: &[u8],
        matched: &ParentMatch,
    ) -> Result<(), Problem> {
        let len = walk.below.len();
        for (name, child, leaf) in node.children_and_leaves() {
            if len > 0 {
                walk.below.push(b'/');
            }
            walk.below.extend_from_slice(name);
            let path = join(path, name);
            let verdict = walk.exclude.child(&walk.below, matched);
            let left_out = verdict.ignored_by.is_some();
            if !left_out {
                self.one(child, walk, &path, leaf)?;
            }
            if child.is_directory() && (!left_out || walk.exclude.may_except_below(&walk.below)) {
                self.inside(child, walk, &path, &verdict.matched)?;
            }
            walk.below.truncate(len);
        }
        Ok(())
    }

    fn one(
        &self,
        node: &Node,
        walk: &mut Walk<'_, '_>,
        path: &[u8],
        leaf: Option<&Leaf>,
    ) -> Result<(), Problem> {
        if matches!(node.kind, NodeKind::File(FileNode::InBase)) {
            return Err(self.in_base(path));
        }
        (walk.visit)(Item::of(node, &walk.below, leaf))
    }
}

struct Walk<'a, 'v> {
    exclude: &'a IgnoreFile,
    visit: &'a mut Visit<'v>,
    below: Vec<u8>,
}

impl Origin for StageFiles<'_> {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn find(&self, source: &str, parents: bool) -> Result<Vec<Found>, Problem> {
        let Some(wanted) = SourcePath::new(source, parents) else {
            return Err(Problem::source(format!("{source:?} leads above the root of {}", self.name)));
        };
        let bad = |error: crate::tree::LookupError| Problem::new(format!("{error} in {}", self.name));
        let literal =
            LayerPath::clean(wanted.literal()).map_err(|e| Problem::source(format!("{source:?}: {e}")))?;
        let pattern = wanted.has_meta();
        let mut for_directories = false;
        let paths = match self.tree.lookup(&literal, true) {
            Ok(lookup) if matches!(lookup.state, State::Found(_)) || !pattern => vec![literal],
            Err(error) if !pattern => return Err(bad(error)),
            _ => {
                for_directories = wanted.is_for_directories();
                let paths = glob(&wanted, |path| Ok(self.names_in(path)))?;
                paths.iter().map(|path| layer_path(path)).collect()
            }
        };
        let mut found: Vec<Found> = Vec::new();
        for path in paths {
            let lookup = self.tree.lookup(&path, true).map_err(bad)?;
            match lookup.state {
                State::Found(node) if for_directories && !node.is_directory() => {}
                State::Found(node) => found.push(Found {
                    kept: wanted.kept(path.as_bytes(), node.is_directory()),
                    named: path.as_bytes().into(),
                    path: lookup.path.as_bytes().into(),
                    directory: node.is_directory(),
                    special: matches!(node.kind, NodeKind::Special(_)),
                    place: None,
                    ignored_by: None,
                    stat: None,
                }),
                State::Unknown if !pattern => return Err(self.in_base(lookup.path.as_bytes())),
                State::Missing if !pattern => {
                    return Err(Problem::source(format!("{source:?} is not in {}", self.name)));
                }
                State::Unknown | State::Missing => {}
            }
        }
        match (found.is_empty(), self.tree.is_unknown()) {
            (true, true) => Err(Problem::source(format!(
                "{source:?} matches nothing that {} copied, and the files of its base image are not known",
                self.name
            ))),
            _ => Ok(found),
        }
    }

    fn walk(&self, found: &Found, exclude: &IgnoreFile, visit: &mut Visit<'_>) -> Result<(), Problem> {
        let Some(node) = self.tree.get(&layer_path(&found.path)) else {
            return Err(Problem::new(format!("{} is not in {}", shown(&found.path), self.name)));
        };
        let mut walk = Walk { exclude, visit, below: found.below().to_vec() };
        let verdict = exclude.verdict(found.below());
        let left_out = verdict.ignored_by.is_some();
        if found.directory {
            // What an unknown base has below the directory would be missing without a word.
            if self.tree.is_unknown() {
                return Err(self.in_base(&found.path));
            }
            if !left_out && !found.below().is_empty() {
                self.one(node, &mut walk, &found.path, None)?;
            }
            return self.inside(node, &mut walk, &found.path, &verdict.matched);
        }
        if left_out {
            return Ok(());
        }
        // Names of one file that are copied one by one are files of their own, as from the context.
        let apart = match &node.kind {
            NodeKind::File(file) => Node { kind: NodeKind::File(file.clone().apart()), ..node.clone() },
            _ => node.clone(),
        };
        self.one(&apart, &mut walk, &found.path, None)
    }

    fn directory(&self, named: &[u8], below: &[u8], visit: &mut Visit<'_>) -> Result<(), Problem> {
        match self.tree.lookup(&layer_path(named), true).map(|lookup| lookup.state) {
            Ok(State::Found(node)) => {
                let mut walk = Walk { exclude: &IgnoreFile::none(), visit, below: below.to_vec() };
                self.one(node, &mut walk, named, None)
            }
            _ => Ok(()),
        }
    }
}
