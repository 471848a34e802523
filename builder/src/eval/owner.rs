//! `user[:group]` to numbers.
//!
//! buildah's rules: a user's number alone is the group's too, a group alone leaves the user 0, names are looked up
//! in the stage's `/etc/passwd` and `/etc/group`. Those of a base image can be read only where its tree holds them.

use std::fs;

use bytes::Bytes;
use crossdock_storage::{FileContent, LayerPath};

use crate::error::Problem;
use crate::tree::{FileNode, FileTree, NodeKind, State};

/// The largest user database that is read, in bytes.
const LIMIT: u64 = 1 << 20;

/// User and group of `spec`.
pub(super) fn owner(tree: &FileTree, spec: &str) -> Result<(u32, u32), Problem> {
    let (user, group) = spec.split_once(':').unwrap_or((spec, ""));
    if user.is_empty() && group.is_empty() {
        return Err(Problem::new(format!("{spec:?} names no user")));
    }
    let (uid, default_gid) = match user {
        "" => (0, 0),
        user => user_ids(tree, user)?,
    };
    let gid = match group {
        "" => default_gid,
        group => group_id(tree, group)?,
    };
    Ok((uid, gid))
}

fn user_ids(tree: &FileTree, user: &str) -> Result<(u32, u32), Problem> {
    if let Some(uid) = number(user) {
        return Ok((uid, uid));
    }
    let found = read(tree, "etc/passwd").and_then(|text| {
        let text = String::from_utf8_lossy(&text).into_owned();
        let line = text.lines().find(|line| line.split(':').next() == Some(user))?;
        let fields: Vec<&str> = line.split(':').collect();
        Some((number(fields.get(2)?)?, number(fields.get(3)?)?))
    });
    match (found, user) {
        (Some(ids), _) => Ok(ids),
        (None, "root") => Ok((0, 0)),
        (None, user) => Err(unknown("user", user, "/etc/passwd")),
    }
}

fn group_id(tree: &FileTree, group: &str) -> Result<u32, Problem> {
    if let Some(gid) = number(group) {
        return Ok(gid);
    }
    let found = read(tree, "etc/group").and_then(|text| {
        let text = String::from_utf8_lossy(&text).into_owned();
        let line = text.lines().find(|line| line.split(':').next() == Some(group))?;
        number(line.split(':').nth(2)?)
    });
    match (found, group) {
        (Some(gid), _) => Ok(gid),
        (None, "root") => Ok(0),
        (None, group) => Err(unknown("group", group, "/etc/group")),
    }
}

fn unknown(what: &str, name: &str, file: &str) -> Problem {
    Problem::new(format!("the {what} {name:?} is not in what is known of the image's {file}"))
        .with_help(format!("write the {what}'s number"))
}

fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()))
}

/// A small file of the tree whose content is at hand.
fn read(tree: &FileTree, path: &str) -> Option<Bytes> {
    let path = LayerPath::clean(path).ok()?;
    let State::Found(node) = tree.lookup(&path, true).ok()?.state else { return None };
    let NodeKind::File(file) = &node.kind else { return None };
    match &**file {
        FileNode::Known(FileContent::Inline(bytes)) => Some(bytes.clone()),
        FileNode::Known(FileContent::Source(source)) if source.size() <= LIMIT => {
            fs::read(source.path()).ok().map(Bytes::from)
        }
        FileNode::Known(FileContent::Source(_)) | FileNode::InBase => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::tree::Node;

    #[test]
    fn numbers_and_names() {
        let mut tree = FileTree::empty();
        for (path, text) in [
            ("etc/passwd", "root:x:0:0::/:/bin/sh\napp:x:100:200::/:/bin/sh\n"),
            ("etc/group", "wheel:x:10:app\n"),
        ] {
            let content = FileNode::Known(FileContent::Inline(Bytes::from_static(text.as_bytes())));
            let kind = NodeKind::File(Arc::new(content));
            tree.insert(&LayerPath::clean(path).unwrap(), Node { kind, mode: 0o644, uid: 0, gid: 0 });
        }
        for (spec, expected) in [
            ("7", Some((7, 7))),
            ("5:6", Some((5, 6))),
            (":5", Some((0, 5))),
            ("5:", Some((5, 5))),
            ("app", Some((100, 200))),
            ("app:wheel", Some((100, 10))),
            ("app:7", Some((100, 7))),
            ("7:wheel", Some((7, 10))),
            ("nobody", None),
            ("1:nogroup", None),
            (":", None),
            ("-1", None),
            ("4294967296", None),
        ] {
            assert_eq!(owner(&tree, spec).ok(), expected, "{spec}");
        }
        assert_eq!(owner(&FileTree::unknown(), "root:root").ok(), Some((0, 0)));
        assert_eq!(owner(&FileTree::unknown(), "app").ok(), None);
    }
}
