//! Lists of images: what becomes an image index or a manifest list when it is sent. A list says what each entry is for
//! and where the image is; the images themselves are records, or on a registry.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::{RecordStore, damaged, read_name};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::hash::Hasher;
use crate::json::from_json;
use crate::manifest_entry::ManifestEntry;
use crate::platform::Platform;
use crate::whole::write_whole;

/// Goes up when a list of this version could not be read any more.
const VERSION: u32 = 1;

/// A list of images that is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageList {
    version: u32,
    /// Names the list; made up when it was created, and the same whatever is added.
    pub id: Digest,
    /// When it was created, in seconds since the epoch.
    pub recorded: u64,
    /// The images, in the order in which they were added.
    pub entries: Vec<ListEntry>,
}

/// An image of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListEntry {
    /// As the index will have it.
    pub manifest: ManifestEntry,
    /// Where the image is.
    pub place: ListedPlace,
}

/// Where an image of a list is, for a later process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ListedPlace {
    /// Recorded under its digest.
    Record,
    /// Elsewhere, under this name, with its transport: see [`ImageSource::locator`](crate::ImageSource).
    Image(String),
}

impl ImageList {
    /// Adds an image, in the place of the same one.
    pub fn add(&mut self, entry: ListEntry) {
        self.entries.retain(|other| other.manifest.digest != entry.manifest.digest);
        self.entries.push(entry);
    }

    /// Adds an image that was just built: it takes the place of those that were there for its platform, which who pulls
    /// would find first.
    pub fn renew(&mut self, entry: ListEntry) {
        self.entries.retain(|other| other.manifest.platform() != entry.manifest.platform());
        self.add(entry);
    }

    /// The entry of this digest.
    pub fn entry(&mut self, digest: &Digest) -> Option<&mut ListEntry> {
        self.entries.iter_mut().find(|entry| entry.manifest.digest == *digest)
    }

    /// The image for a platform; `image` names the list.
    ///
    /// # Errors
    /// As [`ManifestEntry::select`].
    pub fn select(&self, wanted: &Platform, image: &str) -> Result<&ListEntry> {
        let manifests = self.entries.iter().map(|entry| &entry.manifest);
        let chosen = ManifestEntry::select(manifests, wanted, image)?;
        // It is one of them.
        let entry = self.entries.iter().find(|entry| entry.manifest.digest == chosen.digest);
        entry.ok_or_else(|| Error::Unusable(format!("the list {image} has no image {}", chosen.digest)))
    }
}

impl RecordStore {
    /// Makes an empty list called `name`; with `amend`, the list that has the name is as good.
    ///
    /// # Errors
    /// [`Error::Unusable`] where the name is taken; [`Error::Write`].
    pub fn create_list(&self, name: &str, amend: bool) -> Result<ImageList> {
        let _lock = self.lock()?;
        if let Some(taken) = read_name(&self.name_path(name))?
            && (self.record_path(&taken.image).exists() || self.list_path(&taken.image).exists())
        {
            return match read(&self.list_path(&taken.image))? {
                Some(list) if amend => Ok(list),
                Some(_) => Err(Error::Unusable(format!(
                    "{name} is a list already: add to it, use --amend, or remove it with `manifest rm`"
                ))),
                None => Err(Error::Unusable(format!("{name} is the name of an image: choose another"))),
            };
        }
        self.write_new_list(Vec::new(), [name])
    }

    /// Makes a list of these images, and moves `names` to it.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn put_list<'a>(
        &self,
        entries: Vec<ListEntry>,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<ImageList> {
        let _lock = self.lock()?;
        self.write_new_list(entries, names)
    }

    fn write_new_list<'a>(
        &self,
        entries: Vec<ListEntry>,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<ImageList> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // The lock keeps others from the same moment, and the process from those of another machine.
        let unique = format!("list {} {} {}", now.as_nanos(), std::process::id(), self.root.display());
        let id = Hasher::digest(unique.as_bytes());
        let list = ImageList { version: VERSION, id, recorded: now.as_secs(), entries };
        self.write_list(&list)?;
        names.into_iter().try_for_each(|name| self.write_name(name, &list.id))?;
        Ok(list)
    }

    /// The list of this ID.
    ///
    /// # Errors
    /// [`Error::Load`] and [`Error::Unusable`] for a record that cannot be read or is damaged.
    pub fn image_list(&self, id: &Digest) -> Result<Option<ImageList>> {
        read(&self.list_path(id))
    }

    /// Changes a list; nobody else does at the same time. Nothing is changed where `change` fails.
    ///
    /// # Errors
    /// Those of `change`; [`Error::Unusable`] where there is no such list any more; [`Error::Write`].
    pub fn change_list<T>(&self, id: &Digest, change: impl FnOnce(&mut ImageList) -> Result<T>) -> Result<T> {
        let _lock = self.lock()?;
        let mut list = read(&self.list_path(id))?
            .ok_or_else(|| Error::Unusable(format!("the list {id} is not recorded any more")))?;
        let changed = change(&mut list)?;
        self.write_list(&list)?;
        Ok(changed)
    }

    fn write_list(&self, list: &ImageList) -> Result<()> {
        let path = self.list_path(&list.id);
        write_whole(&path, &crate::canonical_json(list)).map_err(|source| Error::Write { path, source })
    }

    pub(super) fn lists(&self) -> PathBuf {
        self.root.join("lists")
    }

    pub(super) fn list_path(&self, id: &Digest) -> PathBuf {
        self.lists().join(format!("{}.json", id.digest()))
    }
}

pub(super) fn read(path: &Path) -> Result<Option<ImageList>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::Load { path: path.to_owned(), source }),
    };
    let list: ImageList = from_json(&bytes).map_err(|error| damaged(path, &error.to_string()))?;
    if list.version != VERSION {
        return Err(damaged(path, &format!("it is of version {}, and {VERSION} is known", list.version)));
    }
    if path.file_stem().and_then(|name| name.to_str()) != Some(list.id.digest()) {
        return Err(damaged(path, "it is another list than its file's name says"));
    }
    Ok(Some(list))
}
