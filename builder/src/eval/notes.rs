//! What COPY and ADD bring into an image that is most likely not meant to be there, or not as it is: what a clone or a
//! download left beside the files, and files that no pod may read. Only what the built image really has is told of, so it is
//! looked at when the target is done.

use std::collections::HashSet;
use std::sync::Arc;

use crossdock_storage::{Entry, EntryKind, LayerPath};

use super::Built;
use super::owner::ids_of_user;
use crate::containerfile::{Diagnostic, Source, Span};
use crate::layers::{LEFTOVERS, Leftover};
use crate::plan::Warning;

/// Of so many paths one message has the names.
const MAX_NAMED: usize = 3;

/// A COPY or ADD that made a layer.
#[derive(Debug, Clone)]
pub(super) struct Added {
    /// Its layer, as an index into those of its stage.
    pub(super) layer: usize,
    pub(super) source: Arc<Source>,
    pub(super) span: Span,
    pub(super) keyword: &'static str,
    /// The directory that it copied into.
    pub(super) into: Option<LayerPath>,
    /// The names of what its sources name.
    pub(super) named: Vec<String>,
    pub(super) modes: Modes,
    pub(super) ignore: Ignore,
}

/// Where the modes of what was added are from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Modes {
    /// From the files, changed by `--chmod` or not.
    Files,
    /// The Containerfile says what they are.
    Written,
    /// An archive's, which `--chmod` does not change.
    Archive,
}

/// How something can be left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ignore {
    /// By a line of this file.
    File(String),
    /// By `--exclude`.
    Exclude,
    /// Not here.
    No,
}

/// The warnings for a built target.
pub(super) fn warnings(built: &Built) -> Vec<Warning> {
    let readers = readers(built);
    let mut warnings = Vec::new();
    for added in &built.added {
        let Some(layer) = built.layers.get(added.layer) else { continue };
        let found = LEFTOVERS.iter().filter_map(|kind| leftovers(added, &layer.entries, kind));
        let unreadable = unreadable(built, added, &layer.entries, &readers);
        for (message, help) in found.chain(unreadable) {
            let diagnostic = Diagnostic::new(&added.source, added.span, message).with_help(help);
            warnings.push(Warning::At(diagnostic));
        }
    }
    warnings
}

/// What of `entries` lies in a directory of this kind that was copied along, and how to leave it out.
fn leftovers(added: &Added, entries: &[Entry], kind: &Leftover) -> Option<(String, String)> {
    if added.named.iter().any(|name| name == kind.name) || added.ignore == Ignore::No {
        return None;
    }
    let into = added.into.as_ref()?;
    let top = |path: &LayerPath| kind.top(path, into);
    if !entries.iter().any(|entry| top(&entry.path).is_some()) {
        return None;
    }
    // A file whose other names are not left over would be in the image without these, too.
    let kept: HashSet<&LayerPath> = entries
        .iter()
        .filter_map(|entry| match &entry.kind {
            EntryKind::HardLink { target } if top(&entry.path).is_none() => Some(target),
            _ => None,
        })
        .collect();
    let (mut tops, mut files, mut bytes) = (Vec::<LayerPath>::new(), 0_u64, 0);
    for entry in entries {
        let Some(top) = top(&entry.path) else { continue };
        if tops.last() != Some(&top) {
            tops.push(top);
        }
        match &entry.kind {
            EntryKind::Directory => {}
            EntryKind::File(content) => {
                files += 1;
                if !kept.contains(&entry.path) {
                    bytes += content.len();
                }
            }
            EntryKind::HardLink { .. } | EntryKind::Symlink { .. } | EntryKind::Special(_) => files += 1,
        }
    }
    tops.dedup();
    let (what, name) = (kind.what, kind.name);
    let message = format!(
        "{} takes {what} into the image: {}, {} of {}",
        added.keyword,
        named(&tops),
        count(files, "file"),
        size(bytes)
    );
    let help = match &added.ignore {
        Ignore::File(file) => format!("add the line **/{name} to {file}"),
        Ignore::Exclude | Ignore::No => format!("write {} --exclude=**/{name}", added.keyword),
    };
    Some((message, help))
}

/// Who reads the files of an image, other than root.
struct Reader {
    name: String,
    /// `None` for one that owns no file.
    uid: Option<u32>,
    gid: u32,
}

/// The user of the image, and the one that OpenShift gives a pod: any number, in group 0.
fn readers(built: &Built) -> Vec<Reader> {
    let user = &built.config.config.user;
    let own = ids_of_user(&built.tree, user).filter(|(uid, _)| *uid != 0);
    let own = own.map(|(uid, gid)| Reader { name: format!("USER {user}"), uid: Some(uid), gid });
    let pod =
        Reader { name: "a pod's user in group 0, as OpenShift gives one,".to_owned(), uid: None, gid: 0 };
    own.into_iter().chain([pod]).collect()
}

impl Reader {
    fn may_read(&self, entry: &Entry) -> bool {
        let shift = if self.uid == Some(entry.uid) {
            6
        } else if self.gid == entry.gid {
            3
        } else {
            0
        };
        // What is in a directory can be read by who may list and enter it.
        let wanted = if matches!(entry.kind, EntryKind::Directory) { 0o5 } else { 0o4 };
        entry.mode >> shift & wanted == wanted
    }
}

/// What of `entries` somebody cannot read, and how to mend it.
fn unreadable(
    built: &Built,
    added: &Added,
    entries: &[Entry],
    readers: &[Reader],
) -> Option<(String, String)> {
    if added.modes == Modes::Written {
        return None;
    }
    let denied = |reader: &Reader| -> Vec<LayerPath> {
        let denied = entries.iter().filter(|entry| {
            matches!(entry.kind, EntryKind::File(_) | EntryKind::Directory) && !reader.may_read(entry)
        });
        // A later instruction may have put another file there, or the same with another mode.
        let stays = |entry: &&Entry| {
            built.tree.get(&entry.path).is_some_and(|node| {
                (node.mode, node.uid, node.gid) == (entry.mode, entry.uid, entry.gid)
                    && node.is_directory() == matches!(entry.kind, EntryKind::Directory)
            })
        };
        denied.filter(stays).map(|entry| entry.path.clone()).collect()
    };
    let (reader, paths) =
        readers.iter().map(|reader| (reader, denied(reader))).find(|(_, paths)| !paths.is_empty())?;
    let message = format!("{} cannot read what {} adds: {}", reader.name, added.keyword, named(&paths));
    let help = match added.modes {
        Modes::Archive => {
            "unpack the archive in an earlier step of the pipeline and COPY --chmod=a+rX what was in it"
                .to_owned()
        }
        Modes::Files | Modes::Written => format!("write {} --chmod=a+rX", added.keyword),
    };
    Some((message, help))
}

fn named(paths: &[LayerPath]) -> String {
    let (first, rest) = paths.split_at(paths.len().min(MAX_NAMED));
    let mut names = first.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if !rest.is_empty() {
        names.push_str(&format!(" and {} more", rest.len()));
    }
    names
}

fn count(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// Bytes for people, such as `1.5 MiB`.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    while unit + 1 < UNITS.len() && bytes >> (10 * (unit + 1)) != 0 {
        unit += 1;
    }
    if unit == 0 {
        return count(bytes, "byte");
    }
    let tenths = (u128::from(bytes) * 10) >> (10 * unit);
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_for_people() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1, "1 byte"),
            (1023, "1023 bytes"),
            (1024, "1.0 KiB"),
            (3 << 19, "1.5 MiB"),
            (u64::MAX, "16777215.9 TiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
