//! `LayerKey`: what is known of a layer's archive before one of its files is read, as one hash. Machines that are to make the
//! same layer have the same key, so that a digest which one of them took can be found by the others.
//!
//! docs/virtual-layer.md specifies the key to the byte. Nothing in it depends on where a file lies or when it was written.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::io::{self, Read};

use bytes::Bytes;
use futures_util::StreamExt;

use crate::decode;
use crate::digest::DiffId;
use crate::encode::Compression;
use crate::entry::FileContent;
use crate::error::{Error, Result};
use crate::hash::Hasher;
use crate::image::{ImageSource, Layer, VerifiedStream};
use crate::layer::VirtualLayer;
use crate::memo::ENCODING;
use crate::progress::LayerWatch;
use crate::said_digest::said_digest;

/// A run of an archive whose files are not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Run<'a> {
    /// Bytes that are known: headers, padding, and files that the build makes.
    Known(Bytes),
    /// The content of a file.
    File(&'a FileContent),
}

/// What a layer is found by: see docs/virtual-layer.md.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerKey {
    key: String,
    content: Option<String>,
}

impl LayerKey {
    /// The annotation of a layer's descriptor that has its key.
    pub const KEY: &str = "io.crossdock.layer.key";

    /// The annotation that has the digests of the files in it, as one hash, where something beside them says them.
    pub const CONTENT: &str = "io.crossdock.layer.content";

    /// The key of a layer that is stored in this form; `None` where the layer is no list of entries. No file is read.
    #[must_use]
    pub fn of(layer: &VirtualLayer, compression: Compression) -> Option<Self> {
        let entries = layer.entry_list()?;
        let (mut text, mut known) = (Hasher::new(), Hasher::new());
        text.update(b"io.crossdock.layer 1\n");
        text.update(form(compression).as_bytes());
        let (mut content, mut has_files) = (Some(Hasher::new()), false);
        let (mut offset, mut line) = (0, String::new());
        for run in entries.runs() {
            match run {
                Run::Known(bytes) => {
                    known.update(&bytes);
                    offset += bytes.len() as u64;
                }
                Run::File(file) => {
                    let len = file.len();
                    has_files = true;
                    line.clear();
                    // Writing to a String does not fail.
                    let _ = writeln!(line, "file {offset} {len}");
                    text.update(line.as_bytes());
                    // Once one of them says nothing, the others are not looked at.
                    content = content.and_then(|mut hasher| {
                        let digest = said_digest(file)?;
                        hasher.update(format!("{offset} {len} sha256:{digest}\n").as_bytes());
                        Some(hasher)
                    });
                    offset += len;
                }
            }
        }
        text.update(format!("length {offset}\nknown {}\n", known.finish()).as_bytes());
        let content = content.filter(|_| has_files).map(|hasher| format!("v1:{}", hasher.finish()));
        Some(Self { key: format!("v1:{}", text.finish()), content })
    }

    /// What a descriptor's annotations say of its layer; `None` where they have no key of this version.
    pub fn said<'a>(annotations: impl IntoIterator<Item = (&'a String, &'a String)>) -> Option<Self> {
        let (mut key, mut content) = (None, None);
        for (name, value) in annotations {
            match name.as_str() {
                Self::KEY => key = Some(value.clone()),
                Self::CONTENT => content = Some(value.clone()),
                _ => {}
            }
        }
        Some(Self { key: key.filter(|key| key.starts_with("v1:"))?, content })
    }

    /// Whether something says the digests of the files.
    #[must_use]
    pub const fn has_content(&self) -> bool {
        self.content.is_some()
    }

    /// The key alone: what is said of the files depends on how they came to this machine.
    #[must_use]
    pub fn without_content(self) -> Self {
        Self { content: None, ..self }
    }

    /// The annotations that say it.
    #[must_use]
    pub fn annotations(&self) -> BTreeMap<String, String> {
        let content = self.content.iter().map(|content| (Self::CONTENT.to_owned(), content.clone()));
        content.chain([(Self::KEY.to_owned(), self.key.clone())]).collect()
    }

    /// Whether nothing says that the two are keys of different layers.
    #[must_use]
    pub fn may_be(&self, other: &Self) -> bool {
        let same_content = match (&self.content, &other.content) {
            (Some(own), Some(others)) => own == others,
            _ => true,
        };
        self.key == other.key && same_content
    }
}

impl fmt::Display for LayerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)
    }
}

/// How a layer is stored. Compressed bytes depend on the compressor's version, which is told by its number here.
fn form(compression: Compression) -> String {
    match compression {
        Compression::None => "stored none\n".to_owned(),
        Compression::Gzip { level } => format!("stored gzip {level} {ENCODING}\n"),
        Compression::GzipMembers { level } => format!("stored gzip-members {level} {ENCODING}\n"),
        Compression::Zstd { level } => format!("stored zstd {level} {ENCODING}\n"),
    }
}

/// Reads a blob that was taken for a layer, and compares it with all that is known of the layer without reading its files: that
/// its bytes have the digests of `blob`, and that its archive has the headers, and files of the sizes, that `layer` has. The bytes
/// of the files are not compared.
///
/// # Errors
/// Those of the source; [`Error::Unusable`] where the archive is another one.
pub async fn check_archive(
    source: &dyn ImageSource,
    blob: &Layer,
    layer: &VirtualLayer,
    watch: &LayerWatch,
) -> Result<()> {
    let descriptor = &blob.descriptor;
    let what = format!("blob {} of {}", descriptor.digest(), source.name());
    let stream = source.blob(descriptor, 0).await?;
    let mut stream = VerifiedStream::new(stream, descriptor, what.clone());
    let (sender, receiver) = decode::channel();
    let (layer, diff_id, stored) = (layer.clone(), blob.diff_id.clone(), descriptor.size());
    let reading = tokio::task::spawn_blocking(move || {
        let archive = decode::decoder(receiver, stored, &what)?;
        compare(archive, &layer, &diff_id, &what)
    });
    let (mut sender, mut position) = (Some(sender), 0);
    while let Some(chunk) = stream.next().await {
        let chunk = chunk?;
        position += chunk.len() as u64;
        watch.position(position);
        // Who compares may have seen enough; the digest is that of the whole blob.
        if let Some(open) = &sender
            && open.send(Ok(chunk)).await.is_err()
        {
            sender = None;
        }
    }
    drop(sender);
    reading.await.map_err(|_| Error::Interrupted)?
}

fn compare(mut archive: impl Read, layer: &VirtualLayer, diff_id: &DiffId, what: &str) -> Result<()> {
    let Some(entries) = layer.entry_list() else {
        return Err(Error::Unusable(format!("{what} cannot be compared: the layer is no list of files")));
    };
    let other = |offset: u64| {
        Error::Unusable(format!(
            "{what} is another layer than its key says, from byte {offset} of its archive on: whoever pushed it lied or \
             erred; nothing was tagged, build without --trust-layers-of"
        ))
    };
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 256 << 10];
    let mut offset = 0;
    for run in entries.runs() {
        let (known, len) = match &run {
            Run::Known(bytes) => (Some(bytes), bytes.len() as u64),
            Run::File(content) => (None, content.len()),
        };
        let mut done = 0;
        while done < len {
            let part = usize::try_from(len - done).unwrap_or(usize::MAX).min(buffer.len());
            let part = &mut buffer[..part];
            archive.read_exact(part).map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => other(offset + done),
                _ => decode::limit_or(error, Error::Compress),
            })?;
            hasher.update(part);
            if let Some(known) = known {
                let from = usize::try_from(done).unwrap_or(usize::MAX);
                if known.get(from..from + part.len()) != Some(&*part) {
                    return Err(other(offset + done));
                }
            }
            done += part.len() as u64;
        }
        offset += len;
    }
    let more = archive.read(&mut buffer).map_err(|error| decode::limit_or(error, Error::Compress))?;
    if more > 0 {
        return Err(other(offset));
    }
    let actual = hasher.finish();
    if actual == *diff_id.as_digest() {
        return Ok(());
    }
    let (what, expected) = (format!("the archive in {what}"), diff_id.as_digest().clone());
    Err(Error::DigestMismatch { what, expected, actual })
}
