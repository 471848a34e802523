//! The files of an image that the check is about, directory by directory.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use crossdock_storage::{Counters, FileContent, LayerPath, Peek};

use super::gguf::{self, Gguf};
use super::index::{self, Index};
use super::look::{Fault, Seen};
use super::pointer::{Pointer, is_pickle, may_point, pointer};
use super::safetensors::{self, Header};
use crate::tree::{FileTree, Node, NodeKind, State};

/// How the names of what is looked at end, and of what other frameworks have weights in.
const WEIGHTS: [&str; 6] = [".safetensors", ".gguf", INDEX, ".h5", ".msgpack", ".ot"];

/// How the names of what is kept with Git LFS end, as the hub has it by default.
const POINTED: [&str; 43] = [
    ".7z",
    ".arrow",
    ".bin",
    ".bz2",
    ".ckpt",
    ".data",
    ".engine",
    ".ftz",
    ".ggml",
    ".gguf",
    ".gz",
    ".h5",
    ".joblib",
    ".keras",
    ".llamafile",
    ".mlmodel",
    ".model",
    ".model.v3",
    ".msgpack",
    ".nemo",
    ".npy",
    ".npz",
    ".onnx",
    ".onnx_data",
    ".ot",
    ".parquet",
    ".pb",
    ".pdiparams",
    ".pdparams",
    ".pickle",
    ".pkl",
    ".pt",
    ".pth",
    ".rar",
    ".safetensors",
    ".tar",
    ".tflite",
    ".tgz",
    ".tiktoken",
    ".wasm",
    ".xz",
    ".zip",
    ".zst",
];

/// Large vocabularies are kept so, too.
const TOKENIZERS: [&str; 2] = ["tokenizer.json", "tekken.json"];

/// The prefix of the files that macOS puts beside others, with what its own file systems know of them.
const APPLE_DOUBLE: &str = "._";

/// How the names of files end that may be pickles.
pub(super) const PICKLES: [&str; 5] = [".bin", ".pt", ".pth", ".pkl", ".ckpt"];

/// How the name of an index ends.
pub(super) const INDEX: &str = ".safetensors.index.json";

/// A file, with what was seen in it.
#[derive(Debug)]
pub(super) struct File {
    pub(super) path: LayerPath,
    pub(super) len: u64,
    /// The same for all names of one file.
    pub(super) id: usize,
    content: Option<FileContent>,
    /// `None` where it was not looked into.
    pub(super) seen: Option<Box<Contents>>,
}

/// What a file turned out to be.
#[derive(Debug)]
pub(super) enum Contents {
    Pointer(Pointer),
    Safetensors(Result<Seen<Header>, Fault>),
    Gguf(Result<Seen<Gguf>, Fault>),
    Index(Result<Seen<Index>, Fault>),
    Pickle,
}

/// By directory.
pub(super) type Files = BTreeMap<LayerPath, Vec<File>>;

/// The files that `layers` bring into the image and that the check is about; not those of the base.
pub(super) fn of<'a>(tree: &FileTree, layers: impl Iterator<Item = &'a FileTree>) -> Files {
    let mut files = Files::new();
    for layer in layers {
        layer.visit(&mut |path, _| {
            let name = String::from_utf8_lossy(path.file_name().unwrap_or_default()).to_ascii_lowercase();
            let is_weights = WEIGHTS.iter().chain(&PICKLES).any(|ending| name.ends_with(ending));
            if name.starts_with(APPLE_DOUBLE) || !is_weights && !is_pointed(&name) {
                return;
            }
            // A later layer may have put something else there.
            let Some(file) = tree.get(path).and_then(|node| file(tree, path, node)) else { return };
            if is_weights || may_point(file.len) {
                files.entry(path.parent().unwrap_or_default()).or_default().push(file);
            }
        });
    }
    for files in files.values_mut() {
        files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        files.dedup_by(|a, b| a.path == b.path);
    }
    files
}

fn is_pointed(lower: &str) -> bool {
    POINTED.iter().any(|ending| lower.ends_with(ending)) || TOKENIZERS.contains(&lower)
}

fn file(tree: &FileTree, path: &LayerPath, node: &Node) -> Option<File> {
    let node = match &node.kind {
        NodeKind::Symlink(_) => match tree.lookup(path, true).ok()?.state {
            State::Found(node) => node,
            State::Missing | State::Unknown => return None,
        },
        _ => node,
    };
    let NodeKind::File(file) = &node.kind else { return None };
    let content = file.content();
    let len = content.as_ref()?.len();
    Some(File { path: path.clone(), len, id: file.id().0, content, seen: None })
}

impl File {
    pub(super) fn name(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.path.file_name().unwrap_or_default())
    }

    /// Looks into the file, where its name says that there is something to see.
    pub(super) fn look(&mut self, counters: &Arc<Counters>) {
        let Some(content) = self.content.take() else { return };
        let mut peek = Peek::new(content, Arc::clone(counters));
        self.seen = self.contents(&mut peek).map(Box::new);
    }

    fn contents(&self, peek: &mut Peek) -> Option<Contents> {
        if let Some(pointer) = pointer(peek) {
            return Some(Contents::Pointer(pointer));
        }
        let name = self.name().to_ascii_lowercase();
        if name.ends_with(INDEX) {
            index::read(peek).map(Contents::Index)
        } else if name.ends_with(".safetensors") {
            safetensors::read(peek).map(Contents::Safetensors)
        } else if name.ends_with(".gguf") {
            gguf::read(peek).map(Contents::Gguf)
        } else {
            let may_be = PICKLES.iter().any(|ending| name.ends_with(ending)) && self.len > 0;
            (may_be && is_pickle(peek)).then_some(Contents::Pickle)
        }
    }

    /// Whether the name ends so, in small letters or not.
    pub(super) fn ends(&self, ending: &str) -> bool {
        self.name().to_ascii_lowercase().ends_with(ending)
    }

    /// Whether it is what a model is loaded from, by its name.
    pub(super) fn is_weights(&self) -> bool {
        self.ends(".safetensors") || self.ends(".gguf") || self.is_pytorch()
    }

    pub(super) fn is_pytorch(&self) -> bool {
        self.name().starts_with("pytorch_model") && self.ends(".bin")
    }
}
