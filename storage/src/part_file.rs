//! Part files: what one of several builds that share the work of sending an image's layers leaves for the build that comes
//! last and makes the image of them. One small file for each part, in a directory of the user's or below the root
//! directory, written whole or not at all.
//!
//! A part file holds the memos of the part's layers, which count by the rules of [`MemoStore`](crate::MemoStore), and says which
//! plan they are of: a part of another plan, or of another number of parts, is told from those of this one.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::canonical_json;
use crate::error::{Error, Result};
use crate::json::from_json;
use crate::memo::Memos;
use crate::whole::write_whole;

/// The form of the file; memos have a version of their own.
const VERSION: u32 = 1;

/// Files above this many bytes are not ours: a layer takes less than a kilobyte.
const MAX: u64 = 4 << 20;

/// What a part did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartFile {
    version: u32,
    /// A digest over what all layers of all images are made of.
    pub plan: String,
    /// The repositories that the layers went to, in order, as `HOST/REPOSITORY`.
    pub repositories: Vec<String>,
    /// The part's number, from 1.
    pub part: u32,
    /// How many parts there are.
    pub of: u32,
    /// Whether the part came to its end.
    pub finished: bool,
    /// Layers of the part.
    pub layers: u64,
    /// Their bytes, before compression.
    pub bytes: u64,
    /// Digests of the part's layers that came with a base.
    pub blobs: Vec<String>,
    /// The other layers, as far as they could be remembered.
    pub memos: Memos,
}

impl PartFile {
    /// A part that begins.
    #[must_use]
    pub fn begun(
        plan: String,
        repositories: Vec<String>,
        (part, of): (u32, u32),
        (layers, bytes): (u64, u64),
    ) -> Self {
        Self {
            version: VERSION,
            plan,
            repositories,
            part,
            of,
            finished: false,
            layers,
            bytes,
            blobs: Vec::new(),
            memos: Memos::new(),
        }
    }

    /// The part came to its end.
    #[must_use]
    pub fn finished(self, blobs: Vec<String>, memos: Memos) -> Self {
        Self { finished: true, blobs, memos, ..self }
    }
}

/// What there is of part files.
#[derive(Debug, Default)]
pub struct PartFiles {
    /// Those that can be used, by part and number of parts.
    pub files: Vec<(PathBuf, PartFile)>,
    /// What is wrong with the others, in words that name them.
    pub faults: Vec<String>,
}

impl PartFiles {
    /// The memos of all files. Where two files say different things of one layer, neither counts, and that is said.
    pub fn memos(&mut self) -> Memos {
        let mut memos: BTreeMap<_, (&Path, _)> = BTreeMap::new();
        let mut disputed = BTreeMap::new();
        for (path, file) in &self.files {
            for (name, memo) in &file.memos {
                match memos.get(name) {
                    Some((other, said)) if memo.layer != *said => {
                        disputed.insert(name.clone(), (other.to_path_buf(), path.clone()));
                    }
                    Some(_) => {}
                    None => drop(memos.insert(name.clone(), (path, memo.layer.clone()))),
                }
            }
        }
        let mut agreed = Memos::new();
        for (_, file) in &self.files {
            agreed.extend(
                file.memos
                    .iter()
                    .filter(|(name, _)| !disputed.contains_key(*name))
                    .map(|(n, m)| (n.clone(), m.clone())),
            );
        }
        for (one, other) in disputed.into_values() {
            let fault = format!(
                "{} and {} say different things of one layer, so neither is believed and it is read again",
                one.display(),
                other.display()
            );
            if !self.faults.contains(&fault) {
                self.faults.push(fault);
            }
        }
        agreed
    }
}

/// The place of the files of one image's parts.
#[derive(Debug, Clone)]
pub struct PartStore {
    directory: PathBuf,
    prefix: String,
}

impl PartStore {
    /// `part-I-of-N.json` in a directory, which is made when the first is written.
    #[must_use]
    pub fn in_directory(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), prefix: String::new() }
    }

    /// Notes below a root directory; `key` is what the parts of one image have in common.
    #[must_use]
    pub fn below(root: &Path, key: &str) -> Self {
        Self { directory: root.join("parts"), prefix: format!("{key}-") }
    }

    /// Where the files are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Notes that a part begins. What a part of this very plan left that came to its end stays: it still holds.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn begin(&self, file: &PartFile) -> Result<()> {
        let path = self.path(file);
        if let Ok(there) = read(&path)
            && (there.finished, &there.plan, &there.repositories) == (true, &file.plan, &file.repositories)
        {
            return Ok(());
        }
        self.write(file)
    }

    /// Writes the file of a part in the place of the one there.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn write(&self, file: &PartFile) -> Result<()> {
        let path = self.path(file);
        write_whole(&path, &canonical_json(file)).map_err(|source| Error::Write { path, source })
    }

    /// All files there are, by name.
    ///
    /// # Errors
    /// [`Error::Load`] where the directory cannot be read; one that is not there holds no files.
    pub fn read(&self) -> Result<PartFiles> {
        let mut found = PartFiles::default();
        for path in self.paths()? {
            match read(&path) {
                Ok(file) if self.path(&file) == path => found.files.push((path, file)),
                Ok(file) => found.faults.push(format!(
                    "{} says that it is part {} of {}, whose file is {}: it is not used; remove it",
                    path.display(),
                    file.part,
                    file.of,
                    self.name(&file)
                )),
                Err(reason) => found.faults.push(format!(
                    "the part file {} is not used: {reason}; run its part again, or remove it",
                    path.display()
                )),
            }
        }
        Ok(found)
    }

    /// Removes all files. One that is gone already is as good.
    pub fn clear(&self) {
        for path in self.paths().unwrap_or_default() {
            let _ = fs::remove_file(path);
        }
    }

    fn paths(&self) -> Result<Vec<PathBuf>> {
        let load = |source| Error::Load { path: self.directory.clone(), source };
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            // A root directory that is a file is named where something is to be kept there.
            Err(error) if [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory].contains(&error.kind()) => {
                return Ok(Vec::new());
            }
            Err(source) => return Err(load(source)),
        };
        let mut paths = Vec::new();
        for entry in entries {
            let entry = entry.map_err(load)?;
            let name = entry.file_name();
            let is_ours = name.to_str().is_some_and(|name| {
                name.strip_prefix(&self.prefix)
                    .is_some_and(|name| name.starts_with("part-") && name.ends_with(".json"))
            });
            if is_ours {
                paths.push(entry.path());
            }
        }
        paths.sort();
        Ok(paths)
    }

    fn name(&self, file: &PartFile) -> String {
        format!("{}part-{}-of-{}.json", self.prefix, file.part, file.of)
    }

    fn path(&self, file: &PartFile) -> PathBuf {
        self.directory.join(self.name(file))
    }
}

/// A file, or why it is none.
fn read(path: &Path) -> std::result::Result<PartFile, String> {
    let metadata = fs::metadata(path).map_err(|error| error.to_string())?;
    if !metadata.is_file() || metadata.len() > MAX {
        return Err(format!("it is no regular file of at most {MAX} bytes"));
    }
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    #[derive(Deserialize)]
    struct Head {
        version: u32,
    }
    let damaged = |error| format!("it is damaged ({error})");
    let head: Head = from_json(&bytes).map_err(damaged)?;
    if head.version != VERSION {
        return Err(format!("it is of version {}, and this crossdock knows version {VERSION}", head.version));
    }
    let file: PartFile = from_json(&bytes).map_err(damaged)?;
    if file.part == 0 || file.part > file.of {
        return Err(format!("there is no part {} of {}", file.part, file.of));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use oci_spec::image::{Descriptor, MediaType};

    use super::*;
    use crate::{
        Compression, DiffId, FileState, Hasher, Layer, MemoStore, Segment, SourceFile, VirtualLayer,
    };

    fn file(part: u32, of: u32) -> PartFile {
        PartFile::begun("plan".to_owned(), vec!["host/a".to_owned()], (part, of), (1, 5))
    }

    fn layer(directory: &Path, name: &str) -> VirtualLayer {
        let path = directory.join(name);
        fs::write(&path, name).unwrap();
        let old = SystemTime::now() - std::time::Duration::from_secs(100);
        fs::File::open(&path).unwrap().set_modified(old).unwrap();
        let file = SourceFile::stat(&path).unwrap();
        VirtualLayer::new([Segment::Extent { len: file.size(), file, offset: 0 }])
    }

    fn digested(text: &[u8]) -> Layer {
        let digest = Hasher::digest(text);
        Layer {
            descriptor: Descriptor::new(MediaType::ImageLayer, text.len() as u64, digest.clone()),
            diff_id: DiffId::of_tar(digest),
        }
    }

    /// Long after the change time of any file that was written just now.
    fn later() -> SystemTime {
        SystemTime::now() + std::time::Duration::from_secs(100)
    }

    #[test]
    fn a_layer_that_one_build_digested_is_known_to_another_by_the_same_rules() {
        let directory = tempfile::tempdir().unwrap();
        let store = PartStore::in_directory(&directory.path().join("parts"));
        let (one, other) = (layer(directory.path(), "first"), layer(directory.path(), "again"));
        let making = MemoStore::nowhere().collecting();
        assert!(making.remember(&one, Compression::None, &digested(b"first"), later()).unwrap());
        store.write(&file(1, 2).finished(Vec::new(), making.collected())).unwrap();

        let mut read = store.read().unwrap();
        assert_eq!(read.faults, Vec::<String>::new());
        let using = MemoStore::nowhere().bringing(read.memos());
        let recalled = using.recall(&one, Compression::None).unwrap();
        assert_eq!((recalled.state, recalled.layer), (FileState::Same, digested(b"first")));
        assert_eq!(using.recall(&other, Compression::None), None);
        assert_eq!(using.recall(&one, Compression::Gzip { level: 6 }), None);
        // A chown moves the change time alone.
        let path = directory.path().join("first");
        fs::hard_link(&path, directory.path().join("link")).unwrap();
        let touched = SourceFile::stat(&path).unwrap();
        let touched = VirtualLayer::new([Segment::Extent { len: touched.size(), file: touched, offset: 0 }]);
        assert_eq!(using.recall(&touched, Compression::None).unwrap().state, FileState::Touched);
    }

    #[test]
    fn a_layer_whose_files_are_too_new_is_passed_on_to_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let one = layer(directory.path(), "first");
        let making = MemoStore::nowhere().collecting();
        let long_ago = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1000);
        assert!(!making.remember(&one, Compression::None, &digested(b"first"), long_ago).unwrap());
        assert!(making.collected().is_empty());
    }

    #[test]
    fn files_that_cannot_be_used_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let store = PartStore::in_directory(directory.path());
        store.write(&file(1, 4)).unwrap();
        let path = |name: &str| directory.path().join(name);
        let text = fs::read_to_string(path("part-1-of-4.json")).unwrap();
        let replaced = |from: &str, to: &str| {
            assert!(text.contains(from), "{text}");
            text.replace(from, to)
        };
        for (name, text, reason) in [
            ("part-1-of-4 (1).json", text.clone(), "whose file is part-1-of-4.json"),
            ("part-2-of-4.json", text.clone(), "says that it is part 1 of 4"),
            ("part-3-of-4.json", text[..text.len() / 2].to_owned(), "damaged"),
            ("part-4-of-4.json", replaced("\"version\":1", "\"version\":9"), "version 9"),
            ("part-5-of-4.json", replaced("\"part\":1", "\"part\":5"), "there is no part 5 of 4"),
            ("part-0-of-4.json", replaced("\"part\":1", "\"part\":0"), "there is no part 0 of 4"),
            ("part-x.json", "{}".to_owned(), "damaged"),
        ] {
            fs::write(path(name), text).unwrap();
            let found = store.read().unwrap();
            assert_eq!((found.files.len(), found.faults.len()), (1, 1), "{name}: {:?}", found.faults);
            assert!(found.faults[0].contains(name) && found.faults[0].contains(reason), "{:?}", found.faults);
            fs::remove_file(path(name)).unwrap();
        }
        fs::write(path("notes.json"), "{}").unwrap();
        assert!(store.read().unwrap().faults.is_empty(), "what is not called a part is somebody else's");
    }

    #[test]
    fn two_files_that_contradict_each_other_are_not_believed() {
        let directory = tempfile::tempdir().unwrap();
        let one = layer(directory.path(), "first");
        let store = PartStore::in_directory(&directory.path().join("parts"));
        for (part, text) in [(1, b"first"), (2, b"wrong")] {
            let making = MemoStore::nowhere().collecting();
            making.remember(&one, Compression::None, &digested(text), later()).unwrap();
            store.write(&file(part, 2).finished(Vec::new(), making.collected())).unwrap();
        }
        let mut found = store.read().unwrap();
        assert!(found.memos().is_empty());
        assert!(found.faults[0].contains("part-1-of-2.json") && found.faults[0].contains("part-2-of-2.json"));
    }

    #[test]
    fn a_part_that_begins_again_keeps_what_it_left_of_the_same_plan_alone() {
        let directory = tempfile::tempdir().unwrap();
        let store = PartStore::below(directory.path(), "key");
        let is_empty = || store.paths().unwrap().is_empty();
        assert!(is_empty());
        store.write(&file(1, 2).finished(vec!["sha256:0".to_owned()], Memos::new())).unwrap();
        store.begin(&file(1, 2)).unwrap();
        assert!(store.read().unwrap().files[0].1.finished);
        store.begin(&PartFile { plan: "other".to_owned(), ..file(1, 2) }).unwrap();
        assert!(!store.read().unwrap().files[0].1.finished);
        PartStore::below(directory.path(), "other").clear();
        assert!(!is_empty(), "each has its own");
        store.clear();
        assert!(is_empty());
    }
}
