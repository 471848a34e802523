//! The layer plan: small files together, each large file a layer of its own.
//!
//! A model's shards are hashed, sent and later pulled in parallel, and a changed config.json does not send them
//! again. Each layer is whole by itself: it names the directories of its files that the build makes (unpackers that
//! have to invent a directory would give it a mode and owner of their own), and a hard link is with its target.

use std::collections::{BTreeMap, BTreeSet};

use crate::entry::{Entry, EntryKind, LayerPath};

/// Files of this many bytes or more get a layer of their own, unless asked otherwise: 64 MiB.
pub const DEFAULT_LAYER_FILE_SIZE: u64 = 64 << 20;

/// Layers of an image at most, the base's included: container runtimes stop at 127 or 128 (overlayfs's options fit
/// one page), and some room is left for who builds upon the image.
pub const MAX_LAYERS: usize = 100;

/// Splits what one COPY or ADD adds into layers: first the small files, then the large ones in path order.
///
/// Files of `layer_file_size` bytes or more are large. No more than `max_layers` layers come out (at least one, where
/// there are entries): where there would be more, neighbouring large files share one.
#[must_use]
pub fn shard(mut entries: Vec<Entry>, layer_file_size: u64, max_layers: usize) -> Vec<Vec<Entry>> {
    let large: Vec<LayerPath> =
        entries.iter().filter(|e| e.is_large(layer_file_size)).map(|e| e.path.clone()).collect();
    let small_room = usize::from(entries.iter().any(|e| !e.is_large(layer_file_size) && is_content(e)));
    let room = max_layers.saturating_sub(small_room);
    if large.is_empty() || room == 0 || entries.is_empty() {
        return if entries.is_empty() { Vec::new() } else { vec![entries] };
    }
    let layers = large.len().min(room);
    // Large file i of n goes to layer i * layers / n: neighbours together, as even as can be.
    let layer_of: BTreeMap<&LayerPath, usize> =
        large.iter().enumerate().map(|(i, path)| (path, i * layers / large.len())).collect();

    let home = |entry: &Entry| match &entry.kind {
        EntryKind::HardLink { target } => layer_of.get(target).copied(),
        _ => layer_of.get(&entry.path).copied(),
    };
    let mut groups: Vec<Vec<Entry>> = vec![Vec::new(); layers];
    // What is small stays where it is: there may be very many of them.
    for entry in entries.extract_if(.., |entry| home(entry).is_some()) {
        if let Some(layer) = home(&entry) {
            groups[layer].push(entry);
        }
    }
    let small = entries;
    let mut parents: BTreeMap<LayerPath, Option<Entry>> =
        groups.iter().flatten().flat_map(|entry| entry.path.ancestors()).map(|path| (path, None)).collect();
    for entry in small.iter().filter(|entry| matches!(entry.kind, EntryKind::Directory)) {
        if let Some(parent) = parents.get_mut(&entry.path) {
            *parent = Some(entry.clone());
        }
    }
    for group in &mut groups {
        let above: BTreeSet<LayerPath> = group.iter().flat_map(|entry| entry.path.ancestors()).collect();
        let mut whole: Vec<Entry> =
            above.iter().filter_map(|path| parents.get(path).cloned().flatten()).collect();
        whole.append(group);
        *group = whole;
    }
    // Directories that lead to large files only need no layer of their own.
    let needed = small.iter().any(is_content) || {
        let covered: BTreeSet<&LayerPath> = groups.iter().flatten().map(|e| &e.path).collect();
        small.iter().any(|e| !covered.contains(&e.path))
    };
    if needed {
        groups.insert(0, small);
    }
    groups
}

fn is_content(entry: &Entry) -> bool {
    !matches!(entry.kind, EntryKind::Directory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::FileContent;

    fn path(text: &str) -> LayerPath {
        LayerPath::clean(text).unwrap()
    }

    fn entry(at: &str, kind: EntryKind) -> Entry {
        Entry {
            path: path(at),
            kind,
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: 0,
            xattrs: crate::Xattrs::default(),
        }
    }

    fn file(at: &str, size: usize) -> Entry {
        entry(at, EntryKind::File(FileContent::Inline(vec![0; size].into())))
    }

    fn names(layers: &[Vec<Entry>]) -> Vec<Vec<String>> {
        layers.iter().map(|l| l.iter().map(|e| e.path.to_string()).collect()).collect()
    }

    #[test]
    fn a_large_file_has_a_layer_with_its_directories_and_links() {
        let layers = shard(
            vec![
                entry("m", EntryKind::Directory),
                file("m/a", 10),
                entry("m/d", EntryKind::Directory),
                file("m/d/big", 100),
                entry("m/link", EntryKind::HardLink { target: path("m/d/big") }),
            ],
            100,
            10,
        );
        assert_eq!(names(&layers), [vec!["/m", "/m/a", "/m/d"], vec!["/m", "/m/d", "/m/d/big", "/m/link"]]);
    }

    #[test]
    fn no_layer_for_directories_that_another_layer_has() {
        let layers = shard(vec![entry("m", EntryKind::Directory), file("m/big", 100)], 100, 10);
        assert_eq!(names(&layers), [vec!["/m", "/m/big"]]);
    }

    #[test]
    fn an_empty_directory_beside_large_files_is_not_lost() {
        let layers = shard(
            vec![entry("m", EntryKind::Directory), file("m/big", 100), entry("m/void", EntryKind::Directory)],
            100,
            10,
        );
        assert_eq!(names(&layers), [vec!["/m", "/m/void"], vec!["/m", "/m/big"]]);
    }

    #[test]
    fn neighbours_share_a_layer_where_there_are_too_many() {
        let big: Vec<_> = (0..7).map(|i| file(&format!("{i}"), 100)).collect();
        let layers = shard([vec![file("!small", 1)], big].concat(), 100, 4);
        assert_eq!(
            names(&layers),
            [vec!["/!small"], vec!["/0", "/1", "/2"], vec!["/3", "/4"], vec!["/5", "/6"]]
        );
    }
}
