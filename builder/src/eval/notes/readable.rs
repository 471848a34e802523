//! Files that the image's user, or the user that OpenShift gives a pod, cannot read: a model that is there and does not load.

use crossdock_storage::LayerPath;

use super::{Added, Modes, Paths};
use crate::eval::Built;
use crate::eval::owner::ids_of_user;
use crate::tree::{FileTree, Node, NodeKind};

/// Who reads the files of an image, other than root.
pub(super) struct Reader {
    name: String,
    /// `None` for one that owns no file.
    uid: Option<u32>,
    gid: u32,
    /// Whether the Containerfile names it.
    named: bool,
}

/// The user of the image, and the one that OpenShift gives a pod: any number, in group 0.
pub(super) fn readers(built: &Built) -> Vec<Reader> {
    let user = &built.config.config.user;
    let own = ids_of_user(&built.tree, user).filter(|(uid, _)| *uid != 0);
    let own = own.map(|(uid, gid)| Reader { name: format!("USER {user}"), uid: Some(uid), gid, named: true });
    let name = "a pod's user in group 0, as OpenShift gives one,".to_owned();
    own.into_iter().chain([Reader { name, uid: None, gid: 0, named: false }]).collect()
}

impl Reader {
    /// Whether it has all of these rights, in the bits of one class.
    fn may(&self, node: &Node, wanted: u32) -> bool {
        let shift = if self.uid == Some(node.uid) {
            6
        } else if self.gid == node.gid {
            3
        } else {
            0
        };
        node.mode >> shift & wanted == wanted
    }

    fn may_read(&self, node: &Node) -> bool {
        // What is in a directory can be read by who may list and enter it.
        self.may(node, if node.is_directory() { 0o5 } else { 0o4 })
    }

    /// Whether it is a mistake that this one cannot read something. An octal `--chmod` that keeps others from a file is
    /// meant, but not from the user that the image runs as; and nobody means directories that no one may enter.
    fn minds(&self, node: &Node, modes: &Modes) -> bool {
        let closed = node.is_directory() && node.mode & 0o111 == 0;
        self.named || closed || !matches!(modes, Modes::Written(_))
    }
}

/// What is said of what an instruction added and somebody cannot read, and how to mend it. Of several readers one is told of.
pub(super) fn unreadable(
    built: &Built,
    added: &Added,
    files: &FileTree,
    readers: &[Reader],
) -> Vec<(String, String)> {
    let mut denied: Vec<Paths> = readers.iter().map(|_| Paths::default()).collect();
    let mut closed: Vec<Option<(LayerPath, Paths)>> = readers.iter().map(|_| None).collect();
    let mut last: Option<(LayerPath, Vec<Option<LayerPath>>)> = None;
    let written = match &added.modes {
        Modes::Written(mode) => u32::from_str_radix(mode, 8).ok(),
        Modes::Files(_) | Modes::Archive => None,
    };
    // Whether the mode that is written is one of directories, too.
    let mut directories = false;
    files.visit(&mut |path, node| {
        directories |= node.is_entry() && node.is_directory() && written == Some(node.mode);
        if !matches!(node.kind, NodeKind::File(_) | NodeKind::Directory(_)) || !stays(built, path, node) {
            return;
        }
        let parent = path.parent().unwrap_or_default();
        if last.as_ref().is_none_or(|(known, _)| *known != parent) {
            let closed = readers.iter().map(|reader| closed_above(built, path, reader)).collect();
            last = Some((parent, closed));
        }
        let above = last.iter().flat_map(|(_, above)| above);
        for (((reader, denied), closed), above) in readers.iter().zip(&mut denied).zip(&mut closed).zip(above)
        {
            if let Some(directory) = above {
                closed.get_or_insert_with(|| (directory.clone(), Paths::default())).1.add(path);
            } else if !reader.may_read(node) && reader.minds(node, &added.modes) {
                denied.add(path);
            }
        }
    });
    let closed = readers.iter().zip(closed).find_map(|(reader, closed)| {
        let (directory, paths) = closed?;
        let message =
            format!("{} cannot enter {directory}, where {} puts {paths}", reader.name, added.keyword);
        let help =
            "copy to a directory that all may enter; the mode of this one is the base image's".to_owned();
        Some((message, help))
    });
    let denied = readers.iter().zip(denied).find(|(_, denied)| denied.count > 0);
    denied
        .map(|(reader, denied)| told(&denied, reader, added, directories))
        .into_iter()
        .chain(closed)
        .collect()
}

/// Whether the image has it so: a later instruction may have put another file there, or the same with another mode.
fn stays(built: &Built, path: &LayerPath, node: &Node) -> bool {
    built.tree.get(path).is_some_and(|there| {
        (there.mode, there.uid, there.gid) == (node.mode, node.uid, node.gid)
            && there.is_directory() == node.is_directory()
    })
}

/// The directory of the base above `path` that the image's user cannot enter. Those that the build makes are told of by the
/// instruction that makes them; and what a base keeps from users that it does not name, it keeps from them on purpose.
fn closed_above(built: &Built, path: &LayerPath, reader: &Reader) -> Option<LayerPath> {
    let made = |directory: &LayerPath| {
        built.layers.iter().any(|layer| layer.files.get(directory).is_some_and(Node::is_entry))
    };
    let closed = |directory: &LayerPath| {
        let node = built.tree.get(directory);
        node.is_some_and(|node| node.is_directory() && !reader.may(node, 0o1)) && !made(directory)
    };
    path.ancestors().filter(|_| reader.named).find(closed)
}

fn told(denied: &Paths, reader: &Reader, added: &Added, directories: bool) -> (String, String) {
    let keyword = added.keyword;
    let message = format!("{} cannot read what {keyword} adds: {denied}", reader.name);
    let help = match &added.modes {
        Modes::Archive => {
            "unpack the archive in an earlier step of the pipeline and COPY --chmod=a+rX what was in it"
                .to_owned()
        }
        Modes::Files(None) => format!("write {keyword} --chmod=a+rX"),
        Modes::Files(Some(mode)) => format!("write {keyword} --chmod={mode},a+rX"),
        Modes::Written(mode) if directories => format!(
            "write {keyword} --chmod=a+rX and not --chmod={mode}, which is the mode of directories too"
        ),
        Modes::Written(mode) => format!("write {keyword} --chmod=a+r and not --chmod={mode}"),
    };
    (message, help)
}
