//! How a record is written down: JSON lines. Files are named once for a layer, whose segments point at them.

use std::collections::HashMap;
use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use oci_spec::image::Descriptor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{ImageRecord, Lines, RecordedLayer, RecordedOrigin, VERSION};
use crate::digest::Digest;
use crate::encode::Compression;
use crate::hash::Hasher;
use crate::image::Layer;
use crate::index::text::bytes_text;
use crate::layer::{Segment, VirtualLayer};
use crate::packed::Packed;
use crate::source::{Fence, SourceFile};

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
        let origin = match &layer.origin {
            RecordedOrigin::Image(name) => OriginText::Image(name.clone()),
            RecordedOrigin::Files { layer, compression } => files(layer, *compression),
        };
        let line = LayerLine { title: layer.title.clone(), layer: layer.layer.clone(), origin };
        serde_json::to_writer(&mut *out, &line)?;
    }
    out.write_all(b"\n")
}

fn files(layer: &VirtualLayer, compression: Compression) -> OriginText {
    let (mut files, mut places) = (Vec::new(), HashMap::new());
    let mut streams: Vec<&Packed> = Vec::new();
    let segments = layer.segments().iter().map(|segment| match segment {
        Segment::Inline(bytes) => SegmentText::Inline(bytes.clone()),
        Segment::Zeros(len) => SegmentText::Zeros(*len),
        Segment::Extent { file, offset, len } => {
            let place = *places.entry(file).or_insert_with(|| {
                files.push(file_text(file));
                files.len() - 1
            });
            SegmentText::Extent(place, *offset, *len)
        }
        Segment::Packed { packed, offset, len, digest } => {
            let place = streams.iter().position(|known| *known == packed).unwrap_or_else(|| {
                streams.push(packed);
                streams.len() - 1
            });
            SegmentText::Packed(place, *offset, *len, digest.clone())
        }
    });
    let segments = segments.collect();
    let stream = |packed: &Packed| match (packed.file(), packed.layer()) {
        (Some(file), _) => Some(StreamText::File(file_text(file))),
        (None, layer) => {
            layer.map(|(layer, locator)| StreamText::Layer(layer.clone().into(), locator.to_owned()))
        }
    };
    let streams = streams.into_iter().filter_map(stream).collect();
    OriginText::Files { compression, files, streams, segments }
}

fn file_text(file: &SourceFile) -> FileText {
    use std::os::unix::ffi::OsStrExt;
    FileText { path: Bytes::copy_from_slice(file.path().as_os_str().as_bytes()), fence: *file.fence() }
}

fn source_file(file: &FileText) -> SourceFile {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    SourceFile::new(OsStr::from_bytes(&file.path), file.fence)
}

/// Reads the first line; checks that the documents are those of its digests.
pub(super) fn image(lines: &mut Lines) -> Result<ImageRecord, String> {
    let text = lines.next().map_err(|error| error.to_string())?.ok_or("it is empty")?;
    let line: ImageLine = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    if line.version != VERSION {
        return Err(format!("it is of version {}, and {VERSION} is known", line.version));
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
        let line: LayerLine = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        let origin = match line.origin {
            OriginText::Image(name) => RecordedOrigin::Image(name),
            OriginText::Files { compression, files, streams, segments } => {
                RecordedOrigin::Files { layer: virtual_layer(&files, streams, segments)?, compression }
            }
        };
        layers.push(RecordedLayer { title: line.title, layer: line.layer, origin });
    }
    Ok(layers)
}

fn virtual_layer(
    files: &[FileText],
    streams: Vec<StreamText>,
    segments: Vec<SegmentText>,
) -> Result<VirtualLayer, String> {
    let beyond = || "a layer points beyond its files".to_owned();
    let files: Vec<_> = files.iter().map(source_file).collect();
    let streams: Vec<_> = streams
        .into_iter()
        .map(|stream| match stream {
            StreamText::File(file) => Packed::of_file(source_file(&file)),
            StreamText::Layer(layer, locator) => Packed::of_record(*layer, locator),
        })
        .collect();
    let segments = segments.into_iter().map(|segment| match segment {
        SegmentText::Inline(bytes) => Ok(Segment::Inline(bytes)),
        SegmentText::Zeros(len) => Ok(Segment::Zeros(len)),
        SegmentText::Extent(place, offset, len) => match files.get(place) {
            Some(file) if offset.checked_add(len).is_some_and(|end| end <= file.size()) => {
                Ok(Segment::Extent { file: file.clone(), offset, len })
            }
            _ => Err(beyond()),
        },
        SegmentText::Packed(place, offset, len, digest) => {
            let packed = streams.get(place).cloned().ok_or_else(beyond)?;
            match (offset.checked_add(len), packed.layer(), &digest) {
                (None, ..) => Err(beyond()),
                (_, Some(_), None) => Err("a file of an image has no digest".to_owned()),
                _ => Ok(Segment::Packed { packed, offset, len, digest }),
            }
        }
    });
    Ok(VirtualLayer::new(segments.collect::<Result<Vec<_>, _>>()?))
}
