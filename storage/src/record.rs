//! Image records: what is remembered of an image that was built or pulled. Manifest and config as they are, and for
//! each layer its digests and where its bytes are: the files it is made of with their fences, or an image elsewhere.
//! Nothing of the files is in a record.
//!
//! A record is one file below the root directory, `images/DIGEST.jsonl.zst`: JSON lines, first the image, then its
//! layers. A list of images is one file, `lists/ID.json`. A name is one file, `names/HASH.json`, that says which image
//! or list it stands for. All are written whole or not at all; who moves names, changes lists or removes records holds a
//! lock.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use oci_spec::image::{Descriptor, ImageManifest};
use serde::{Deserialize, Serialize};

use crate::config::ImageConfig;
use crate::digest::Digest;
use crate::encode::Compression;
use crate::error::{Error, Result};
use crate::hash::Hasher;
use crate::image::Layer;
use crate::json::from_json;
use crate::layer::VirtualLayer;
use crate::lock::FileLock;
use crate::whole::{without_path, write_whole, write_whole_by};

mod list;
mod text;

pub use list::{ImageList, ListEntry, ListedPlace};

/// Goes up when a record of this version could not be read by who knows the one before. Version 1 had all headers and files of
/// a layer in one line.
const VERSION: u32 = 2;

/// A line of a record has a manifest in it, or in version 1 the headers of a layer of some million files, and no more.
const MAX_LINE: u64 = 4 << 30;

const RECORD: &str = ".jsonl.zst";

/// An image that is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRecord {
    /// When it was recorded, in seconds since the epoch.
    pub recorded: u64,
    /// The manifest's descriptor; its digest is the image's.
    pub manifest: Descriptor,
    /// The manifest's bytes.
    pub manifest_bytes: Bytes,
    /// The config's bytes; their digest is the image ID.
    pub config_bytes: Bytes,
}

/// A layer of an image that is remembered.
#[derive(Debug, Clone)]
pub struct RecordedLayer {
    /// What it holds, for people.
    pub title: String,
    /// Its digests.
    pub layer: Layer,
    /// Where its bytes are.
    pub origin: RecordedOrigin,
}

/// Where the bytes of a layer are, for a later process.
#[derive(Debug, Clone)]
pub enum RecordedOrigin {
    /// In a blob of an image with this name, with its transport: see [`ImageSource::locator`](crate::ImageSource).
    Image(String),
    /// In files.
    Files {
        /// The layer's bytes. The fences are those of the build; see [`VirtualLayer::renewed`].
        layer: VirtualLayer,
        /// How it is stored.
        compression: Compression,
    },
}

impl ImageRecord {
    /// An image recorded now.
    #[must_use]
    pub fn new(manifest: Descriptor, manifest_bytes: Bytes, config_bytes: Bytes) -> Self {
        let recorded = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        Self { recorded, manifest, manifest_bytes, config_bytes }
    }

    /// The image ID.
    #[must_use]
    pub fn id(&self) -> Digest {
        Hasher::digest(&self.config_bytes)
    }

    /// The manifest.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn manifest(&self) -> Result<ImageManifest> {
        self.parse("manifest", &self.manifest_bytes)
    }

    /// The config.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn config(&self) -> Result<ImageConfig> {
        self.parse("config", &self.config_bytes)
    }

    fn parse<T: serde::de::DeserializeOwned>(&self, what: &str, bytes: &[u8]) -> Result<T> {
        from_json(bytes).map_err(|source| Error::Malformed {
            what: format!("the {what} of {}", self.manifest.digest()),
            source,
        })
    }
}

/// What stands below a root directory.
#[derive(Debug, Default)]
pub struct Records {
    /// The images, the latest first.
    pub images: Vec<ImageRecord>,
    /// The lists of images, the latest first.
    pub lists: Vec<ImageList>,
    /// The names, and the images (by digest) and lists (by ID) that they stand for.
    pub names: BTreeMap<String, Digest>,
    /// Files that are not what they should be, with the reason. They stand in nobody's way.
    pub damaged: Vec<(PathBuf, String)>,
}

impl Records {
    /// Whether an image or list has a name, or is in a list.
    #[must_use]
    pub fn is_wanted(&self, image: &Digest) -> bool {
        let listed = |list: &ImageList| {
            list.entries
                .iter()
                .any(|entry| entry.place == ListedPlace::Record && entry.manifest.digest == *image)
        };
        self.names_of(image).next().is_some() || self.lists.iter().any(listed)
    }

    /// The names of an image or list.
    pub fn names_of(&self, image: &Digest) -> impl Iterator<Item = &str> {
        self.names.iter().filter(move |(_, digest)| *digest == image).map(|(name, _)| name.as_str())
    }
}

/// The image records below one root directory. Several processes may use it at once.
#[derive(Debug, Clone)]
pub struct RecordStore {
    root: PathBuf,
}

/// A name's file.
#[derive(Serialize, Deserialize)]
struct Name {
    name: String,
    image: Digest,
}

impl RecordStore {
    /// The records below `root`; nothing is created before the first one is written.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The root directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Records an image, and moves `names` to it.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn put<'a>(
        &self,
        image: &ImageRecord,
        layers: &[RecordedLayer],
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<()> {
        let path = self.record_path(image.manifest.digest());
        let write = || {
            write_whole_by(&path, |file| {
                let encoder = zstd::Encoder::new(file, zstd::DEFAULT_COMPRESSION_LEVEL)?;
                // JSON comes in crumbs.
                let mut bytes = BufWriter::new(encoder);
                text::write(&mut bytes, image, layers)?;
                bytes.into_inner()?.finish().map(drop)
            })
        };
        let _lock = self.lock()?;
        write().map_err(|source| Error::Write { path: path.clone(), source })?;
        names.into_iter().try_for_each(|name| self.write_name(name, image.manifest.digest()))
    }

    /// All that is there.
    ///
    /// # Errors
    /// [`Error::Load`] where a directory cannot be read.
    pub fn list(&self) -> Result<Records> {
        let mut records = Records::default();
        for path in files(&self.images())? {
            match self.open(&path) {
                Ok(Some((image, _))) => records.images.push(image),
                Ok(None) => {}
                Err(error) => records.damaged.push((path, told(&error))),
            }
        }
        for path in files(&self.lists())? {
            match list::read(&path) {
                Ok(list) => records.lists.extend(list),
                Err(error) => records.damaged.push((path, told(&error))),
            }
        }
        for path in files(&self.names_directory())? {
            match read_name(&path) {
                Ok(Some(Name { name, image })) => drop(records.names.insert(name, image)),
                Ok(None) => {}
                Err(error) => records.damaged.push((path, told(&error))),
            }
        }
        records.images.sort_by(|a, b| {
            b.recorded
                .cmp(&a.recorded)
                .then_with(|| a.manifest.digest().digest().cmp(b.manifest.digest().digest()))
        });
        records
            .lists
            .sort_by(|a, b| b.recorded.cmp(&a.recorded).then_with(|| a.id.digest().cmp(b.id.digest())));
        Ok(records)
    }

    /// The image of this digest.
    ///
    /// # Errors
    /// [`Error::Load`] and [`Error::Unusable`] for a record that cannot be read or is damaged.
    pub fn image(&self, digest: &Digest) -> Result<Option<ImageRecord>> {
        Ok(self.open(&self.record_path(digest))?.map(|(image, _)| image))
    }

    /// The image that a name stands for by its digest, or the list by its ID.
    ///
    /// # Errors
    /// As [`image`](Self::image).
    pub fn named(&self, name: &str) -> Result<Option<Digest>> {
        Ok(read_name(&self.name_path(name))?.map(|name| name.image))
    }

    /// The layers of a recorded image.
    ///
    /// # Errors
    /// As [`image`](Self::image); [`Error::Unusable`] where the record is gone.
    pub fn layers(&self, image: &ImageRecord) -> Result<Vec<RecordedLayer>> {
        let path = self.record_path(image.manifest.digest());
        let Some((_, lines)) = self.open(&path)? else {
            return Err(Error::Unusable(format!(
                "the image {} is not recorded any more",
                image.manifest.digest()
            )));
        };
        let layers = text::layers(lines).map_err(|reason| damaged(&path, &reason))?;
        let expected = image.manifest()?;
        let same = layers.len() == expected.layers().len()
            && layers
                .iter()
                .zip(expected.layers())
                .all(|(layer, descriptor)| layer.layer.descriptor == *descriptor);
        if same { Ok(layers) } else { Err(damaged(&path, "its layers are not those of its manifest")) }
    }

    /// Gives an image or list another name; what had it before loses it.
    ///
    /// # Errors
    /// [`Error::Write`]; [`Error::Unusable`] where there is no such image.
    pub fn tag(&self, image: &Digest, name: &str) -> Result<()> {
        let _lock = self.lock()?;
        if !self.record_path(image).exists() && !self.list_path(image).exists() {
            return Err(Error::Unusable(format!("the image {image} is not recorded any more")));
        }
        self.write_name(name, image)
    }

    /// Takes a name away; `false` where nothing has it.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn untag(&self, name: &str) -> Result<bool> {
        let _lock = self.lock()?;
        remove(&self.name_path(name))
    }

    /// Whether records can be written, found out before the work that they are about. Nothing is left behind.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn check_writable(&self) -> Result<()> {
        for directory in [self.images(), self.names_directory()] {
            let there = directory.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
            tempfile::NamedTempFile::new_in(there)
                .map_err(without_path)
                .and_then(|mut file| io::Write::write_all(&mut file, b"{}"))
                .map_err(|source| Error::Write { path: directory.clone(), source })?;
        }
        Ok(())
    }

    /// Forgets an image or list that [nobody wants](Records::is_wanted); `false` where it is not there.
    ///
    /// # Errors
    /// As [`remove`](Self::remove).
    pub fn remove_nameless(&self, image: &Digest) -> Result<bool> {
        let _lock = self.lock()?;
        let records = self.list()?;
        if records.is_wanted(image) {
            return Ok(false);
        }
        Ok(remove(&self.record_path(image))? | remove(&self.list_path(image))?)
    }

    /// Forgets an image or list and its names; `false` where there is none.
    ///
    /// # Errors
    /// [`Error::Write`], [`Error::Load`].
    pub fn remove(&self, image: &Digest) -> Result<bool> {
        let _lock = self.lock()?;
        // Names first: one that stands for nothing would be damage.
        for path in files(&self.names_directory())? {
            if read_name(&path).is_ok_and(|name| name.is_some_and(|name| name.image == *image)) {
                remove(&path)?;
            }
        }
        Ok(remove(&self.record_path(image))? | remove(&self.list_path(image))?)
    }

    /// Waits until no other process moves names, changes lists or removes records.
    fn lock(&self) -> Result<FileLock> {
        let path = self.root.join("records.lock");
        fs::create_dir_all(&self.root)
            .and_then(|()| FileLock::hold(&path))
            .map_err(|source| Error::Write { path, source })
    }

    fn open(&self, path: &Path) -> Result<Option<(ImageRecord, Lines)>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::Load { path: path.to_owned(), source }),
        };
        let decoder = zstd::Decoder::new(file).map_err(|error| damaged(path, &error.to_string()))?;
        let mut lines = Lines { from: BufReader::new(decoder), line: String::new() };
        let image = text::image(&mut lines).map_err(|reason| damaged(path, &reason))?;
        if self.record_path(image.manifest.digest()) != path {
            return Err(damaged(path, "it is another image than its file's name says"));
        }
        Ok(Some((image, lines)))
    }

    fn write_name(&self, name: &str, image: &Digest) -> Result<()> {
        let path = self.name_path(name);
        let text = crate::canonical_json(&Name { name: name.to_owned(), image: image.clone() });
        write_whole(&path, &text).map_err(|source| Error::Write { path, source })
    }

    fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    fn names_directory(&self) -> PathBuf {
        self.root.join("names")
    }

    fn record_path(&self, image: &Digest) -> PathBuf {
        self.images().join(format!("{}{RECORD}", image.digest()))
    }

    fn name_path(&self, name: &str) -> PathBuf {
        self.names_directory().join(format!("{}.json", Hasher::digest(name.as_bytes()).digest()))
    }
}

/// The lines of a record, as they are decompressed.
struct Lines {
    from: BufReader<zstd::Decoder<'static, BufReader<File>>>,
    /// The line that was read last.
    line: String,
}

impl Lines {
    fn next(&mut self) -> io::Result<Option<&str>> {
        self.line.clear();
        let read = io::Read::take(&mut self.from, MAX_LINE).read_line(&mut self.line)?;
        Ok((read > 0).then_some(self.line.as_str()))
    }
}

fn read_name(path: &Path) -> Result<Option<Name>> {
    match fs::read(path) {
        Ok(bytes) => from_json(&bytes).map(Some).map_err(|error| damaged(path, &error.to_string())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Load { path: path.to_owned(), source }),
    }
}

fn damaged(path: &Path, reason: &str) -> Error {
    Error::Unusable(format!(
        "the record {} is damaged ({reason}): remove the file, or build or pull the image again",
        path.display()
    ))
}

fn told(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// The files of a directory, sorted; none where there is no directory. Files that are being written have a dot.
fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let load = |source| Error::Load { path: directory.to_owned(), source };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(load(source)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(load)?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

fn remove(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(Error::Write { path: path.to_owned(), source }),
    }
}
