//! `user[:group]` to numbers.
//!
//! buildah's rules: a user's number alone is the group's too, a group alone leaves the user 0, names are looked up
//! in the stage's `/etc/passwd` and `/etc/group`, whether a base or a COPY brought them; links are followed.

use std::fs;

use bytes::Bytes;
use crossdock_storage::LayerPath;

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

/// The numbers that a process of an image's `USER` has; `None` where they cannot be told, or nothing is said. A number alone
/// is in the group that the image's `/etc/passwd` has for it, else in group 0: container runtimes have it so.
pub(super) fn ids_of_user(tree: &FileTree, user: &str) -> Option<(u32, u32)> {
    let Some(uid) = number(user) else { return owner(tree, user).ok() };
    let Database::Text(text) = read(tree, "/etc/passwd") else { return Some((uid, 0)) };
    let text = String::from_utf8_lossy(&text);
    let gid = text.lines().find_map(|line| {
        let mut fields = line.split(':').skip(2);
        (number(fields.next()?) == Some(uid)).then(|| number(fields.next()?)).flatten()
    });
    Some((uid, gid.unwrap_or(0)))
}

fn user_ids(tree: &FileTree, user: &str) -> Result<(u32, u32), Problem> {
    if let Some(uid) = number(user) {
        return Ok((uid, uid));
    }
    let found = fields(tree, "/etc/passwd", "user", user).and_then(|fields| {
        match (fields.get(2).and_then(number), fields.get(3).and_then(number)) {
            (Some(uid), Some(gid)) => Ok((uid, gid)),
            _ => Err(Problem::new(format!(
                "the line of the user {user:?} in the image's /etc/passwd is damaged"
            ))),
        }
    });
    if user == "root" { found.or(Ok((0, 0))) } else { found }
}

fn group_id(tree: &FileTree, group: &str) -> Result<u32, Problem> {
    if let Some(gid) = number(group) {
        return Ok(gid);
    }
    let found = fields(tree, "/etc/group", "group", group).and_then(|fields| {
        fields.get(2).and_then(number).ok_or_else(|| {
            Problem::new(format!("the line of the group {group:?} in the image's /etc/group is damaged"))
        })
    });
    if group == "root" { found.or(Ok(0)) } else { found }
}

/// The line of a user database that begins with `name`.
fn fields(tree: &FileTree, file: &str, what: &str, name: &str) -> Result<Vec<String>, Problem> {
    let unknown = |why: String| {
        Err(Problem::new(format!("the {what} {name:?} is not known: {why}"))
            .with_help(format!("write the {what}'s number")))
    };
    let text = match read(tree, file) {
        Database::Text(text) => text,
        Database::Missing => return unknown(format!("the image has no {file}")),
        Database::Unknown => return unknown(format!("what is in the image's {file} cannot be told here")),
    };
    let text = String::from_utf8_lossy(&text);
    match text.lines().find(|line| line.split(':').next() == Some(name)) {
        Some(line) => Ok(line.split(':').map(str::to_owned).collect()),
        None => unknown(format!("it is not in the image's {file}")),
    }
}

fn number(text: impl AsRef<str>) -> Option<u32> {
    let text = text.as_ref();
    text.parse().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()))
}

/// A user database of the tree.
enum Database {
    Text(Bytes),
    Missing,
    /// It is somewhere that is not read for this, or too large.
    Unknown,
}

fn read(tree: &FileTree, path: &str) -> Database {
    let found = LayerPath::clean(path).ok().and_then(|path| tree.lookup(&path, true).ok());
    let node = match found.map(|lookup| lookup.state) {
        Some(State::Found(node)) => node,
        Some(State::Unknown) => return Database::Unknown,
        Some(State::Missing) | None => return Database::Missing,
    };
    let NodeKind::File(file) = &node.kind else { return Database::Missing };
    match file {
        FileNode::Inline(bytes) => Database::Text(Bytes::clone(bytes)),
        FileNode::Source(source) if source.size() <= LIMIT => {
            fs::read(source.path()).map_or(Database::Unknown, |bytes| Database::Text(bytes.into()))
        }
        FileNode::Source(_) | FileNode::Parts(_) | FileNode::InBase => Database::Unknown,
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
            let kind = NodeKind::File(FileNode::Inline(Arc::new(Bytes::from_static(text.as_bytes()))));
            tree.insert(&LayerPath::clean(path).unwrap(), Node { kind, ..Node::directory(0o644) });
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
        for (user, expected) in [
            ("", None),
            ("7", Some((7, 0))),
            ("100", Some((100, 200))),
            ("100:5", Some((100, 5))),
            ("app", Some((100, 200))),
            ("nobody", None),
        ] {
            assert_eq!(ids_of_user(&tree, user), expected, "{user}");
        }
        assert_eq!(ids_of_user(&FileTree::unknown(), "7"), Some((7, 0)));
        assert_eq!(owner(&FileTree::unknown(), "root:root").ok(), Some((0, 0)));
        assert_eq!(owner(&FileTree::unknown(), "app").ok(), None);
    }
}
