//! What tools that serve, list and sign models read in an image's manifest: annotations of its layers as olot writes them
//! (`olot/basics.py` and `olot/utils/files.py` of olot 1.2, <https://github.com/containers/olot>). rh-model-signing takes the digests
//! of files from them and need not pull a layer of one file; Red Hat's catalogue finds the model card by them.
//!
//! | a layer | `olot.layer.content.type` | `.digest` | `.inlayerpath`, and its last part as `.name` and title |
//! |---|---|---|---|
//! | one file below /models and nothing else but directories | `file` | the SHA-256 of the file | the file |
//! | anything else with something below /models | `directory` | none: readers pull the layer | the directory that has all of it |
//! | nothing below /models | not annotated | | |

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use crossdock_storage::{
    CONTENT_DIGEST, Descriptor, Digest, Entry, EntryKind, Error, FileContent, HistoryEntry, LayerPath,
    Result, SourceFile, VirtualLayer,
};

use crate::plan::{PlannedImage, PlannedLayer, PlannedStep};

/// The directory that a model lies in: KServe links or mounts it, and the readers of the annotations strip it.
const MODELS: &str = "models";

const TYPE: &str = "olot.layer.content.type";
const PATH: &str = "olot.layer.content.inlayerpath";
const NAME: &str = "olot.layer.content.name";
const TITLE: &str = "org.opencontainers.image.title";
const LAYER_TYPE: &str = "io.opendatahub.modelcar.layer.type";
const CARD: &str = "modelcard";
/// The manifest's annotation that has the digest of the card's layer.
const CARD_LAYER: &str = "io.opendatahub.layers.modelcard";

/// What is asked for with `--modelcar`.
#[derive(Debug, Clone, Default)]
pub struct ModelcarOptions {
    /// `--modelcard`: the file that describes the model, which gets a layer of its own.
    pub card: Option<PathBuf>,
}

/// The layers of an image that are annotated.
#[derive(Debug, Clone, Default)]
pub struct Modelcar {
    /// The place of the card's layer among all layers.
    pub card: Option<usize>,
}

/// Annotations of a descriptor.
pub(crate) type Annotations = HashMap<String, String>;

/// Adds the card as the last layer of a plan: `/models/NAME`, for root and everybody to read. Its time is that of all files.
pub(crate) fn add_card(image: &mut PlannedImage, file: &Path) -> Result<()> {
    let unusable = |reason: &str| Error::Unusable(format!("--modelcard {}: {reason}", file.display()));
    let opened = |source| Error::Open { path: file.to_owned(), source };
    let path = std::path::absolute(file).map_err(opened)?;
    if !std::fs::metadata(&path).map_err(opened)?.is_file() {
        return Err(unusable("it is no file"));
    }
    let name = path.file_name().ok_or_else(|| unusable("it has no name"))?.to_string_lossy().into_owned();
    let place = LayerPath::clean(format!("{MODELS}/{name}")).map_err(|error| unusable(&error.to_string()))?;
    let title = format!("--modelcard {name}");
    let entry = Entry {
        path: place,
        kind: EntryKind::File(FileContent::Source(SourceFile::stat(path)?)),
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: 0,
        xattrs: Default::default(),
    };
    let history = HistoryEntry {
        created: image.config.created.clone(),
        created_by: Some(title.clone()),
        author: image.config.author.clone(),
        ..HistoryEntry::default()
    };
    let created_by = title.clone();
    image.steps.push(PlannedStep { history, layer: Some(image.layers.len()) });
    image.layers.push(PlannedLayer { title, created_by, entries: vec![entry] });
    Ok(())
}

/// Refuses an image without a model where its readers look for one: what is new in it, or what its base says.
pub(crate) fn check(image: &PlannedImage) -> Result<()> {
    let mut new = image.layers.iter().flat_map(|layer| &layer.entries);
    let of_base = image.base.iter().flat_map(|base| base.image.manifest.layers());
    let annotated =
        |layer: &Descriptor| layer.annotations().as_ref().is_some_and(|said| said.contains_key(TYPE));
    if new.any(is_of_model) || of_base.into_iter().any(annotated) {
        return Ok(());
    }
    Err(Error::Unusable(
        "--modelcar: the image has no file below /models, where KServe and readers of the annotations look for the model; \
         write COPY model /models, or leave --modelcar out"
            .to_owned(),
    ))
}

fn is_of_model(entry: &Entry) -> bool {
    let models = LayerPath::clean(MODELS).unwrap_or_default();
    let has_bytes = matches!(entry.kind, EntryKind::File(_) | EntryKind::HardLink { .. });
    has_bytes && entry.path.starts_with(&models) && entry.path != models
}

/// The annotations of a new layer; `content` is the digest of its only file, where it has one. `None` where nothing in it is of
/// the model.
pub(crate) fn of_layer(layer: &VirtualLayer, content: Option<&Digest>, is_card: bool) -> Option<Annotations> {
    let mut of_model = layer.entries()?.iter().filter(|entry| is_of_model(entry));
    let first = of_model.next()?;
    // A name that is no text cannot be said here: whoever pulls the layer finds it.
    let only = layer.only_file().and_then(|(entry, _)| std::str::from_utf8(entry.path.as_bytes()).ok());
    let (kind, path, digest) = match (only, content) {
        (Some(path), Some(digest)) => ("file", format!("/{path}"), Some(digest)),
        _ => {
            let mut directory = first.path.parent().unwrap_or_default();
            for entry in of_model {
                while !entry.path.starts_with(&directory) {
                    directory = directory.parent().unwrap_or_default();
                }
            }
            ("directory", directory.to_string(), None)
        }
    };
    let name = path.rsplit('/').next().unwrap_or_default().to_owned();
    let mut annotations = Annotations::from([
        (TYPE.to_owned(), kind.to_owned()),
        (TITLE.to_owned(), name.clone()),
        (NAME.to_owned(), name),
        (PATH.to_owned(), path),
    ]);
    annotations.extend(digest.map(|digest| (CONTENT_DIGEST.to_owned(), digest.to_string())));
    annotations.extend(is_card.then(|| (LAYER_TYPE.to_owned(), CARD.to_owned())));
    Some(annotations)
}

/// Bytes that the annotations of a layer take in the manifest at most, before its file is read.
pub(crate) fn planned(layer: &VirtualLayer) -> u64 {
    let content = crossdock_storage::Hasher::digest(b"");
    of_layer(layer, Some(&content), true)
        .map_or(0, |annotations| crossdock_storage::canonical_json(&annotations).len() as u64)
}

/// Whether a layer says what it holds of a model.
pub(crate) fn is_said(annotations: &Annotations) -> bool {
    annotations.contains_key(TYPE)
}

/// Whether a layer says that it is the card's.
pub(crate) fn is_card(annotations: &Annotations) -> bool {
    annotations.get(LAYER_TYPE).is_some_and(|kind| kind == CARD)
}

/// What a layer of a base says, where the image has another card than the base: readers take the first that they find.
pub(crate) fn without_card(mut annotations: Annotations) -> Annotations {
    if is_card(&annotations) {
        annotations.remove(LAYER_TYPE);
    }
    annotations
}

/// Says in the manifest which layer is the card's.
pub(crate) fn point_to(annotations: &mut BTreeMap<String, String>, card: &Descriptor) {
    annotations.insert(CARD_LAYER.to_owned(), card.digest().to_string());
}
