//! How a record is written down: JSON lines. The first is the image; then a line for each layer, and behind that of a layer
//! that was made of entries a line for each of these: no line grows with the number of files.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use oci_spec::image::Descriptor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{ImageRecord, Lines, RecordedLayer, RecordedOrigin, VERSION};
use crate::digest::Digest;
use crate::encode::Compression;
use crate::entry::{Entry, EntryKind, FileContent, LayerPath, Special};
use crate::entry_list::EntryList;
use crate::hash::Hasher;
use crate::image::Layer;
use crate::index::text::{bytes_text, is_zero, optional_text, path_text};
use crate::json::from_json;
use crate::layer::{Segment, VirtualLayer};
use crate::packed::Packed;
use crate::source::{Fence, SourceDirectory, SourceFile};
use crate::xattrs::Xattrs;

#[derive(Serialize, Deserialize)]
struct ImageLine {
    version: u32,
    recorded: u64,
    manifest: Descriptor,
    manifest_text: String,
    config_text: String,
}

#[derive(Serialize, Deserialize)]
struct LayerLine {
    title: String,
    layer: Layer,
    origin: OriginText,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum OriginText {
    Image(String),
    Files {
        compression: Compression,
        files: Vec<FileText>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        streams: Vec<StreamText>,
        segments: Vec<SegmentText>,
    },
    /// Behind the line there are so many others, each an [`EntryLine`]. Files and streams are those that parts of files lie
    /// in.
    Entries {
        compression: Compression,
        mtime: u64,
        count: usize,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        files: Vec<FileText>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        streams: Vec<StreamText>,
    },
}

/// An entry of a layer.
#[derive(Serialize, Deserialize)]
struct EntryLine {
    #[serde(rename = "p", with = "path_text")]
    path: LayerPath,
    #[serde(rename = "k")]
    kind: KindText,
    #[serde(rename = "m")]
    mode: u32,
    #[serde(rename = "u")]
    uid: u32,
    #[serde(rename = "g")]
    gid: u32,
    /// None where it is the layer's.
    #[serde(rename = "t", default, skip_serializing_if = "is_zero")]
    mtime: u32,
    #[serde(rename = "x", default, skip_serializing_if = "Xattrs::is_empty")]
    xattrs: Xattrs,
}

#[derive(Serialize, Deserialize)]
enum KindText {
    #[serde(rename = "d")]
    Directory,
    /// A file whose bytes are at hand.
    #[serde(rename = "i", serialize_with = "to_base64", deserialize_with = "from_base64")]
    Inline(Bytes),
    #[serde(rename = "f")]
    Source(SourceText),
    /// A file in parts of files, or in streams.
    #[serde(rename = "p")]
    Parts(Vec<SegmentText>),
    #[serde(rename = "l")]
    Symlink(#[serde(with = "bytes_text")] Bytes),
    #[serde(rename = "h")]
    HardLink(#[serde(with = "path_text")] LayerPath),
    #[serde(rename = "s")]
    Special(Special),
}

/// A whole source file.
#[derive(Serialize, Deserialize)]
struct SourceText {
    /// The directory that it lies in, where that is another one than that of the file before.
    #[serde(rename = "d", default, skip_serializing_if = "Option::is_none", with = "optional_text")]
    directory: Option<Bytes>,
    #[serde(rename = "n", with = "bytes_text")]
    name: Bytes,
    #[serde(rename = "f")]
    fence: Fence,
}

/// A stream that files come out of.
#[derive(Serialize, Deserialize)]
enum StreamText {
    /// A compressed file.
    #[serde(rename = "f")]
    File(FileText),
    /// A layer, and the name of the image that has it.
    #[serde(rename = "l")]
    Layer(Box<Layer>, String),
}

#[derive(Serialize, Deserialize)]
struct FileText {
    #[serde(with = "bytes_text")]
    path: Bytes,
    fence: Fence,
}

#[derive(Serialize, Deserialize)]
enum SegmentText {
    /// Bytes at hand.
    #[serde(rename = "i", serialize_with = "to_base64", deserialize_with = "from_base64")]
    Inline(Bytes),
    /// Which of the files, offset and length.
    #[serde(rename = "e")]
    Extent(usize, u64, u64),
    /// Which of the streams, offset, length and digest.
    #[serde(rename = "p")]
    Packed(usize, u64, u64, Option<Digest>),
    /// So many zeros.
    #[serde(rename = "z")]
    Zeros(u64),
}

fn to_base64<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(bytes))
}

fn from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    let text = String::deserialize(deserializer)?;
    STANDARD.decode(text).map(Bytes::from).map_err(serde::de::Error::custom)
}

/// Writes a record.
pub(super) fn write(out: &mut impl Write, image: &ImageRecord, layers: &[RecordedLayer]) -> io::Result<()> {
    let utf8 = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).map_err(io::Error::other);
    let line = ImageLine {
        version: VERSION,
        recorded: image.recorded,
        manifest: image.manifest.clone(),
        manifest_text: utf8(&image.manifest_bytes)?,
        config_text: utf8(&image.config_bytes)?,
    };
    serde_json::to_writer(&mut *out, &line)?;
    for layer in layers {
        out.write_all(b"\n")?;
        let mut tables = Tables::default();
        let (origin, entries) = match &layer.origin {
            RecordedOrigin::Image(name) => (OriginText::Image(name.clone()), None),
            RecordedOrigin::Files { layer, compression } => match layer.entry_list() {
                Some(entries) => (tables.entries(entries, *compression), Some(entries)),
                None => (tables.segments(layer, *compression), None),
            },
        };
        let line = LayerLine { title: layer.title.clone(), layer: layer.layer.clone(), origin };
        serde_json::to_writer(&mut *out, &line)?;
        let mut before = None;
        for entry in entries.into_iter().flat_map(EntryList::entries) {
            out.write_all(b"\n")?;
            serde_json::to_writer(&mut *out, &tables.entry(entry, &mut before))?;
        }
    }
    out.write_all(b"\n")
}

/// The files and streams of a layer that its segments point at.
#[derive(Default)]
struct Tables {
    files: Vec<FileText>,
    places: HashMap<SourceFile, usize>,
    streams: Vec<Packed>,
}

impl Tables {
    fn segments(&mut self, layer: &VirtualLayer, compression: Compression) -> OriginText {
        let segments = layer.segments().map(|segment| self.segment(segment)).collect();
        let files = std::mem::take(&mut self.files);
        OriginText::Files { compression, files, streams: self.streams(), segments }
    }

    fn entries(&mut self, entries: &EntryList, compression: Compression) -> OriginText {
        for entry in entries.entries() {
            if let EntryKind::File(FileContent::Parts(parts)) = &entry.kind {
                parts.segments().for_each(|segment| drop(self.segment(segment)));
            }
        }
        OriginText::Entries {
            compression,
            mtime: entries.mtime(),
            count: entries.entries().len(),
            files: std::mem::take(&mut self.files),
            streams: self.streams(),
        }
    }

    /// `before` is the directory of the file before.
    fn entry<'a>(&mut self, entry: &'a Entry, before: &mut Option<&'a SourceDirectory>) -> EntryLine {
        let kind = match &entry.kind {
            EntryKind::Directory => KindText::Directory,
            EntryKind::File(FileContent::Inline(bytes)) => KindText::Inline(bytes.clone()),
            EntryKind::File(FileContent::Source(file)) => {
                let directory = file.directory();
                let same = before.replace(directory) == Some(directory);
                let text = |path: &Path| Bytes::copy_from_slice(path.as_os_str().as_bytes());
                KindText::Source(SourceText {
                    directory: (!same).then(|| text(directory.path())),
                    name: Bytes::copy_from_slice(file.name()),
                    fence: file.fence(),
                })
            }
            EntryKind::File(FileContent::Parts(parts)) => {
                KindText::Parts(parts.segments().map(|segment| self.segment(segment)).collect())
            }
            EntryKind::Symlink { target } => KindText::Symlink(target.clone()),
            EntryKind::HardLink { target } => KindText::HardLink(target.clone()),
            EntryKind::Special(special) => KindText::Special(*special),
        };
        let (path, xattrs) = (entry.path.clone(), entry.xattrs.clone());
        EntryLine { path, kind, mode: entry.mode, uid: entry.uid, gid: entry.gid, mtime: entry.mtime, xattrs }
    }

    fn segment(&mut self, segment: Segment) -> SegmentText {
        match segment {
            Segment::Inline(bytes) => SegmentText::Inline(bytes),
            Segment::Zeros(len) => SegmentText::Zeros(len),
            Segment::Extent { file, offset, len } => {
                let files = &mut self.files;
                let place = *self.places.entry(file).or_insert_with_key(|file| {
                    files.push(file_text(file));
                    files.len() - 1
                });
                SegmentText::Extent(place, offset, len)
            }
            Segment::Packed { packed, offset, len, digest } => {
                let place = self.streams.iter().position(|known| *known == packed).unwrap_or_else(|| {
                    self.streams.push(packed);
                    self.streams.len() - 1
                });
                SegmentText::Packed(place, offset, len, digest)
            }
        }
    }

    fn streams(&self) -> Vec<StreamText> {
        let stream = |packed: &Packed| match (packed.file(), packed.layer()) {
            (Some(file), _) => Some(StreamText::File(file_text(file))),
            (None, layer) => {
                layer.map(|(layer, locator)| StreamText::Layer(layer.clone().into(), locator.to_owned()))
            }
        };
        self.streams.iter().filter_map(stream).collect()
    }
}

fn file_text(file: &SourceFile) -> FileText {
    FileText { path: Bytes::copy_from_slice(file.path().as_os_str().as_bytes()), fence: file.fence() }
}

fn source_file(file: &FileText) -> SourceFile {
    SourceFile::new(OsStr::from_bytes(&file.path), file.fence)
}

/// Reads the first line; checks that the documents are those of its digests.
pub(super) fn image(lines: &mut Lines) -> Result<ImageRecord, String> {
    let text = lines.next().map_err(|error| error.to_string())?.ok_or("it is empty")?;
    let line: ImageLine = from_json(text.as_bytes()).map_err(|error| error.to_string())?;
    if !(1..=VERSION).contains(&line.version) {
        return Err(format!("it is of version {}, and versions up to {VERSION} are known", line.version));
    }
    let image = ImageRecord {
        recorded: line.recorded,
        manifest: line.manifest,
        manifest_bytes: line.manifest_text.into(),
        config_bytes: line.config_text.into(),
    };
    if Hasher::digest(&image.manifest_bytes) != *image.manifest.digest() {
        return Err("its manifest is not that of its digest".to_owned());
    }
    let manifest = image.manifest().map_err(|error| error.to_string())?;
    if image.id() != *manifest.config().digest() {
        return Err("its config is not that of its manifest".to_owned());
    }
    Ok(image)
}

/// Reads the lines after the first.
pub(super) fn layers(mut lines: Lines) -> Result<Vec<RecordedLayer>, String> {
    let mut layers = Vec::new();
    while let Some(text) = lines.next().map_err(|error| error.to_string())? {
        let line: LayerLine = from_json(text.as_bytes()).map_err(|error| error.to_string())?;
        let origin = match line.origin {
            OriginText::Image(name) => RecordedOrigin::Image(name),
            OriginText::Files { compression, files, streams, segments } => {
                let layer = Places::new(&files, streams).layer(segments)?;
                RecordedOrigin::Files { layer, compression }
            }
            OriginText::Entries { compression, mtime, count, files, streams } => {
                let places = Places::new(&files, streams);
                let layer =
                    VirtualLayer::of_entries(EntryList::new(entries(&mut lines, count, &places)?, mtime));
                RecordedOrigin::Files { layer, compression }
            }
        };
        layers.push(RecordedLayer { title: line.title, layer: line.layer, origin });
    }
    Ok(layers)
}

/// Reads the lines of so many entries.
fn entries(lines: &mut Lines, count: usize, places: &Places) -> Result<Vec<Entry>, String> {
    let mut entries = Vec::new();
    let mut directory: Option<SourceDirectory> = None;
    for _ in 0..count {
        let text = lines.next().map_err(|error| error.to_string())?.ok_or("it ends within a layer")?;
        let line: EntryLine = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let kind = match line.kind {
            KindText::Directory => EntryKind::Directory,
            KindText::Inline(bytes) => EntryKind::File(FileContent::Inline(bytes)),
            KindText::Source(SourceText { directory: other, name, fence }) => {
                if let Some(path) = other {
                    directory = Some(SourceDirectory::new(OsStr::from_bytes(&path)));
                }
                let directory = directory.as_ref().ok_or("a file has no directory")?;
                EntryKind::File(FileContent::Source(directory.file(name.as_ref().into(), fence)))
            }
            KindText::Parts(segments) => EntryKind::File(FileContent::Parts(places.layer(segments)?)),
            KindText::Symlink(target) => EntryKind::Symlink { target },
            KindText::HardLink(target) => EntryKind::HardLink { target },
            KindText::Special(special) => EntryKind::Special(special),
        };
        let EntryLine { path, mode, uid, gid, mtime, xattrs, .. } = line;
        entries.push(Entry { path, kind, mode, uid, gid, mtime, xattrs });
    }
    Ok(entries)
}

/// The files and streams that the segments of a layer point at.
struct Places {
    files: Vec<SourceFile>,
    streams: Vec<Packed>,
}

impl Places {
    fn new(files: &[FileText], streams: Vec<StreamText>) -> Self {
        let stream = |stream| match stream {
            StreamText::File(file) => Packed::of_file(source_file(&file)),
            StreamText::Layer(layer, locator) => Packed::of_record(*layer, locator),
        };
        Self {
            files: files.iter().map(source_file).collect(),
            streams: streams.into_iter().map(stream).collect(),
        }
    }

    fn layer(&self, segments: Vec<SegmentText>) -> Result<VirtualLayer, String> {
        let beyond = || "a layer points beyond its files".to_owned();
        let segments = segments.into_iter().map(|segment| match segment {
            SegmentText::Inline(bytes) => Ok(Segment::Inline(bytes)),
            SegmentText::Zeros(len) => Ok(Segment::Zeros(len)),
            SegmentText::Extent(place, offset, len) => match self.files.get(place) {
                Some(file) if offset.checked_add(len).is_some_and(|end| end <= file.size()) => {
                    Ok(Segment::Extent { file: file.clone(), offset, len })
                }
                _ => Err(beyond()),
            },
            SegmentText::Packed(place, offset, len, digest) => {
                let packed = self.streams.get(place).cloned().ok_or_else(beyond)?;
                match (offset.checked_add(len), packed.layer(), &digest) {
                    (None, ..) => Err(beyond()),
                    (_, Some(_), None) => Err("a file of an image has no digest".to_owned()),
                    _ => Ok(Segment::Packed { packed, offset, len, digest }),
                }
            }
        });
        Ok(VirtualLayer::new(segments.collect::<Result<Vec<_>, _>>()?))
    }
}
