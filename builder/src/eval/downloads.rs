//! What a download has left beside the files of a model: `.cache/huggingface` of `hf download --local-dir`, whose notes have the
//! time, and files that were not finished. Two downloads of one model differ in nothing else, and should make one layer.

use crossdock_storage::Xattrs;

use super::notes::{MAX_NAMED, count};
use crate::error::Problem;
use crate::origin::{Item, ItemKind, shown};
use crate::plan::Downloads;
use crate::size::size;

/// How the names of files end that were not finished.
const UNFINISHED: [&str; 2] = [".incomplete", ".part"];

/// Where `huggingface_hub` keeps notes in the directory that it downloads to, and the directories of notes in there; the cache
/// itself has others (`hub`, `datasets`), which have files of models.
const CACHE: [&str; 2] = [".cache", "huggingface"];
const NOTES: [&str; 3] = ["download", "trees", "upload"];

/// The credentials of a user, which `hf auth login` keeps there.
const TOKENS: [&str; 2] = ["token", "stored_tokens"];

/// Watches what one COPY or ADD takes along.
pub(super) struct Watch {
    treat: Downloads,
    /// What its sources name by itself is meant.
    names_cache: bool,
    names_unfinished: bool,
    left: Left,
    /// Directories that are there only for what is left out, as long as nothing else was seen in them.
    held: Vec<Held>,
}

/// What was left out, or is told of.
#[derive(Default)]
struct Left {
    /// The first of them, and how many there are; the last one.
    first: Vec<String>,
    count: usize,
    last: Vec<u8>,
    files: u64,
    bytes: u64,
}

struct Held {
    /// In the context.
    path: Vec<u8>,
    /// Whether something in it was left out.
    spared: bool,
    below: Vec<u8>,
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: u32,
    xattrs: Xattrs,
}

impl Held {
    fn item(&self) -> Item<'_> {
        let Self { below, mode, uid, gid, mtime, xattrs, .. } = self;
        let (kind, xattrs) = (ItemKind::Directory, xattrs.clone());
        Item { path: below, kind, mode: *mode, uid: *uid, gid: *gid, mtime: *mtime, xattrs, leaf: None }
    }

    fn holds(&self, path: &[u8]) -> bool {
        path.strip_prefix(self.path.as_slice()).is_some_and(|rest| rest.starts_with(b"/"))
    }
}

impl Watch {
    /// `sources` are those of the instruction, as they are written.
    pub(super) fn new<'a>(treat: Downloads, sources: impl Iterator<Item = &'a str>) -> Self {
        let (mut names_cache, mut names_unfinished) = (false, false);
        for part in sources.flat_map(|source| source.split('/')) {
            names_cache |= CACHE.contains(&part);
            names_unfinished |= UNFINISHED.iter().any(|ending| part.ends_with(ending));
        }
        Self { treat, names_cache, names_unfinished, left: Left::default(), held: Vec::new() }
    }

    /// Whether there may be something to leave out in what is called so.
    pub(super) fn minds(&self, named: &[u8], below: &[u8]) -> bool {
        let has = |path: &[u8]| path.windows(CACHE[0].len()).any(|part| part == CACHE[0].as_bytes());
        self.treat != Downloads::Keep
            && (!self.held.is_empty()
                || has(named)
                || has(below)
                || is_unfinished(below)
                || is_unfinished(named))
    }

    /// Gives on what the image takes; `path` is that of the item in the context.
    pub(super) fn offer(
        &mut self,
        path: &[u8],
        item: Item<'_>,
        put: &mut dyn FnMut(Item<'_>) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        self.end(Some(path), put)?;
        let cache = if self.names_cache { Cache::No } else { Cache::of(path) };
        let is_file = matches!(item.kind, ItemKind::File(_));
        let unfinished = is_file && !self.names_unfinished && is_unfinished(path);
        let top = match cache {
            Cache::Note(top) => top,
            _ if unfinished => path,
            Cache::Above if self.treat == Downloads::LeaveOut && matches!(item.kind, ItemKind::Directory) => {
                let Item { path: below, mode, uid, gid, mtime, xattrs, .. } = item;
                let (path, below) = (path.to_vec(), below.to_vec());
                self.held.push(Held { path, spared: false, below, mode, uid, gid, mtime, xattrs });
                return Ok(());
            }
            _ => return self.release(item, put),
        };
        match self.treat {
            Downloads::LeaveOut => {
                self.left.add(top, &item);
                self.held.iter_mut().for_each(|held| held.spared = true);
                Ok(())
            }
            // Of the cache the directories that are left over are told of anyway.
            Downloads::Tell if unfinished => {
                self.left.add(path, &item);
                self.release(item, put)
            }
            Downloads::Tell | Downloads::Keep => self.release(item, put),
        }
    }

    /// Gives an item on, and before it the directories around it that were held back.
    fn release(
        &mut self,
        item: Item<'_>,
        put: &mut dyn FnMut(Item<'_>) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        for held in self.held.drain(..) {
            put(held.item())?;
        }
        put(item)
    }

    /// Ends the directories that do not hold `path`: one of which nothing was left out is in the image, be it empty.
    pub(super) fn end(
        &mut self,
        path: Option<&[u8]>,
        put: &mut dyn FnMut(Item<'_>) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        while let Some(last) = self.held.last() {
            if path.is_some_and(|path| last.holds(path)) {
                break;
            }
            if last.spared {
                self.held.pop();
                continue;
            }
            for held in self.held.drain(..) {
                put(held.item())?;
            }
        }
        Ok(())
    }

    /// What is said of it, and what to do.
    pub(super) fn told(self, keyword: &str) -> Option<(String, String)> {
        let Left { first, count: tops, files, bytes, .. } = self.left;
        if files == 0 {
            return None;
        }
        let more = match tops - first.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let what = format!("{}{more}, {} of {}", first.join(", "), count(files, "file"), size(bytes));
        Some(if self.treat == Downloads::Tell {
            let message =
                format!("{keyword} takes files into the image that a download has not finished: {what}");
            (message, "finish the download, or name them in --exclude".to_owned())
        } else {
            let message = format!("{keyword} leaves out what a download has left: {what}");
            (message, "build with --keep-download-cache to copy it".to_owned())
        })
    }
}

impl Left {
    fn add(&mut self, top: &[u8], item: &Item<'_>) {
        if self.last != top {
            if self.first.len() < MAX_NAMED {
                self.first.push(shown(top));
            }
            self.count += 1;
            self.last = top.to_vec();
        }
        if !matches!(item.kind, ItemKind::Directory) {
            self.files += 1;
        }
        if let ItemKind::File(file) = &item.kind {
            self.bytes += file.content().map_or(0, |content| content.len());
        }
    }
}

/// Where a path is to the notes of a download.
enum Cache<'p> {
    No,
    /// It is a directory that has them, and maybe more.
    Above,
    /// It is one of them; the directory that has all of them.
    Note(&'p [u8]),
}

impl<'p> Cache<'p> {
    fn of(path: &'p [u8]) -> Self {
        let mut at = 0;
        let mut parts = path.split(|byte| *byte == b'/').map(|part| {
            at += part.len() + 1;
            (part, at - 1)
        });
        let [cache, huggingface] = CACHE.map(str::as_bytes);
        while let Some((part, _)) = parts.next() {
            if part != cache {
                continue;
            }
            let Some((part, end)) = parts.next() else { return Self::Above };
            if part != huggingface {
                continue;
            }
            let Some((first, _)) = parts.next() else { return Self::Above };
            // A file beside these directories is one of the program's own, be it the user's token.
            let is_note = NOTES.iter().chain(&TOKENS).any(|name| name.as_bytes() == first)
                || parts.next().is_none() && first.contains(&b'.');
            return if is_note { Self::Note(&path[..end]) } else { Self::No };
        }
        Self::No
    }
}

fn is_unfinished(path: &[u8]) -> bool {
    UNFINISHED.iter().any(|ending| path.ends_with(ending.as_bytes()) && path.len() > ending.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_of_a_download_are_told_from_what_a_cache_holds() {
        for (path, expected) in [
            ("m/.cache", "above"),
            ("m/.cache/huggingface", "above"),
            ("m/.cache/huggingface/download", "note m/.cache/huggingface"),
            ("m/.cache/huggingface/download/a.metadata", "note m/.cache/huggingface"),
            (".cache/huggingface/.gitignore", "note .cache/huggingface"),
            (".cache/huggingface/CACHEDIR.TAG", "note .cache/huggingface"),
            ("m/.cache/huggingface/token", "note m/.cache/huggingface"),
            (".cache/huggingface/stored_tokens", "note .cache/huggingface"),
            (".cache/huggingface/hub", "no"),
            (".cache/huggingface/hub/models--a--b/blobs/1", "no"),
            (".cache/pip/x", "no"),
            ("cache/huggingface/download", "no"),
            ("m/config.json", "no"),
        ] {
            let shown = match Cache::of(path.as_bytes()) {
                Cache::No => "no".to_owned(),
                Cache::Above => "above".to_owned(),
                Cache::Note(top) => format!("note {}", String::from_utf8_lossy(top)),
            };
            assert_eq!(shown, expected, "{path}");
        }
    }
}
