//! Symlinks that lead nowhere inside the image: a model whose files are links into a cache that stayed behind.

use std::fmt::Write as _;

use crossdock_storage::LayerPath;

use super::{Added, MAX_NAMED, Modes};
use crate::eval::Built;
use crate::tree::{FileTree, NodeKind, State};

/// Where the kernel's own file systems are in a container, whatever the image has there.
const MOUNTED: [&str; 3] = ["proc", "sys", "dev"];

/// What is said of the symlinks of an instruction that lead nowhere in the built image, and how to mend it.
pub(super) fn dangling(built: &Built, added: &Added, files: &FileTree) -> Option<(String, String)> {
    let volumes = built.config.config.volumes.keys().map(String::as_str);
    let mounted: Vec<LayerPath> =
        MOUNTED.into_iter().chain(volumes).filter_map(|path| LayerPath::confined(path).ok()).collect();
    let (mut first, mut count) = (String::new(), 0_usize);
    files.visit(&mut |path, node| {
        let NodeKind::Symlink(target) = &node.kind else { return };
        // A later instruction may have put something else there.
        let stays = built.tree.get(path).is_some_and(|there| there.kind == node.kind);
        let dangles = || match built.tree.lookup(path, true) {
            Ok(lookup) => match lookup.state {
                State::Missing => !mounted.iter().any(|directory| lookup.path.starts_with(directory)),
                // What an unknown base has may be what it leads to.
                State::Found(_) | State::Unknown => false,
            },
            // Through a file, or round and round.
            Err(_) => true,
        };
        if stays && dangles() {
            if count < MAX_NAMED {
                let comma = if count > 0 { ", " } else { "" };
                // Writing to a String does not fail.
                let _ = write!(first, "{comma}{path} -> {}", String::from_utf8_lossy(target).escape_debug());
            }
            count += 1;
        }
    });
    let links = match count {
        0 => return None,
        1 => "1 symlink leads".to_owned(),
        count => format!("{count} symlinks lead"),
    };
    let more = match count.saturating_sub(MAX_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let message = format!("{links} nowhere in the image: {first}{more}");
    let help = if added.modes == Modes::Archive {
        "make the archive with what they point to in it, or in their place, as tar --dereference does"
    } else if added.follow {
        "build with --follow-links to copy what they point to, or copy the directory that holds both"
    } else {
        "copy the directory that holds both the links and what they point to"
    };
    Some((message, help.to_owned()))
}
