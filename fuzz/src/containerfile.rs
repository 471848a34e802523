//! A Containerfile and what follows from it: parsing, checking, and the plan against a small context and made-up bases.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use crossdock_builder::{
    BaseResolver, BuildContext, Containerfile, Context, Diagnostic, FileTree, IgnoreFile, PlanOptions,
    PlannedBase, PlannedImage, TreeOf, Warning, base_references, check, plan,
};
use crossdock_storage::{
    BlobStream, Descriptor, Entry, EntryKind, Error, FileContent, ImageConfig, ImageSource, IndexKind,
    LayerIndex, LayerPath, Platform, ResolvedImage, Xattrs, canonical_json, encode_entries,
};
use serde_json::json;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::base_index::told;

/// A line that stands between the Containerfile and what goes with it: the ONBUILD triggers of the image `triggers`, a
/// line each; the ignore file; and lines of the command line.
const NEXT: &str = "\n%%\n";

/// No config of an input of a few kilobytes has more bytes.
const MAX_CONFIG: usize = 80 << 20;

/// Plans images.
pub struct Containerfiles {
    runtime: Runtime,
    context: TempDir,
    tree: FileTree,
}

impl Containerfiles {
    pub fn new() -> Self {
        Self {
            runtime: tokio::runtime::Builder::new_current_thread().build().expect("a runtime"),
            context: context().expect("the context is made"),
            tree: tree(),
        }
    }

    /// Parses, checks and plans what `input` stands for. Errors lie inside of the text and can be told; what is planned
    /// can be written as layers, and read from them again.
    pub fn run(&self, input: &[u8]) {
        let text = String::from_utf8_lossy(input);
        let mut sections = text.split(NEXT);
        let first = sections.next().unwrap_or_default();
        // Bytes that are not UTF-8 are to reach the parser as well.
        let first = if first.len() == text.len() { input } else { first.as_bytes() };
        let file = match Containerfile::parse("Containerfile", first) {
            Ok(file) => file,
            Err(error) => {
                diagnostic(error.diagnostic());
                return told(&error);
            }
        };
        file.warnings.iter().for_each(diagnostic);
        let unreadable = file.stages.iter().filter_map(|stage| stage.unreadable.as_ref());
        unreadable.for_each(|error| diagnostic(error.diagnostic()));
        let triggers = sections.next().unwrap_or_default().lines().map(str::to_owned).collect();
        let ignore = match IgnoreFile::parse(".containerignore", sections.next().unwrap_or_default()) {
            Ok(ignore) => ignore,
            Err(error) => return told(&error),
        };
        let options = options(sections.next().unwrap_or_default());
        let refused = check(&file, &options).is_err();
        assert_eq!(refused, base_references(&file, &options).is_err(), "two looks at the same text agree");
        let (file, context) =
            (file.into(), Context::open(self.context.path(), ignore).expect("a directory").into());
        let bases = Bases { tree: &self.tree, triggers };
        match self.runtime.block_on(plan(&file, &context, &options, &bases)) {
            Ok(image) => {
                assert!(!refused, "what is refused is not planned");
                checked(&image);
            }
            Err(error) => {
                error.diagnostic().map(diagnostic);
                assert!(!error.render().is_empty());
                told(&error);
            }
        }
    }
}

/// The command line: `NAME=value` and `NAME` are build arguments.
fn options(lines: &str) -> PlanOptions {
    let mut options = PlanOptions::new("linux/arm64/v8".parse().expect("a platform"));
    options.build_contexts.insert("image".to_owned(), BuildContext::Image("base".to_owned()));
    for line in lines.lines() {
        match (line.split_once(' '), line.split_once('=')) {
            (None, _) if line == "--squash" => options.squash = true,
            (Some(("--target", stage)), _) => options.target = Some(stage.to_owned()),
            (Some(("--from", image)), _) => options.from = Some(image.to_owned()),
            (_, Some((name, value))) => {
                options.build_args.insert(name.to_owned(), Some(value.to_owned()));
            }
            _ => {
                options.build_args.insert(line.to_owned(), None);
            }
        }
    }
    options
}

/// A place lies in its text, and both forms of the message are lines.
fn diagnostic(diagnostic: &Diagnostic) {
    let text = diagnostic.source().text();
    assert!(text.get(diagnostic.span().range()).is_some(), "{:?} in {text:?}", diagnostic.span());
    assert!(!diagnostic.to_string().contains('\n'), "{diagnostic}");
    assert_eq!(diagnostic.render().split('\n').count(), 4, "{}", diagnostic.render());
}

/// What holds for any plan: its entries are sorted, and the layer that is made of them holds just these.
pub(crate) fn checked(image: &PlannedImage) {
    for warning in &image.warnings {
        if let Warning::At(at) = warning {
            diagnostic(at);
        }
    }
    assert!(canonical_json(&image.config).len() <= MAX_CONFIG);
    for layer in &image.layers {
        let entries = &layer.entries;
        assert!(entries.is_sorted_by(|a, b| a.path < b.path), "{entries:?}");
        let tar = encode_entries(entries.clone(), 0).expect("entries of a plan make a layer");
        let index = LayerIndex::of_files(&tar).expect("a layer that was made here can be read");
        let planned: BTreeMap<_, _> = entries.iter().map(|entry| (&entry.path, entry)).collect();
        assert_eq!(index.entries.len(), planned.len());
        for found in &index.entries {
            let entry = planned[&found.path];
            let same = match (&found.kind, &entry.kind) {
                (IndexKind::Directory, EntryKind::Directory) => true,
                (IndexKind::File(size), EntryKind::File(content)) => *size == content.len(),
                (IndexKind::Symlink(found), EntryKind::Symlink { target }) => **found == *target,
                (IndexKind::HardLink(found), EntryKind::HardLink { target }) => found == target,
                (IndexKind::Special(found), EntryKind::Special(special)) => found == special,
                _ => false,
            };
            assert!(same, "{entry:?} became {found:?}");
            assert_eq!((found.mode, found.uid, found.gid), (entry.mode, entry.uid, entry.gid), "{entry:?}");
        }
    }
}

fn context() -> std::io::Result<TempDir> {
    let dir = TempDir::new()?;
    let at = |path: &str| dir.path().join(path);
    fs::create_dir_all(at("dir/sub/deep"))?;
    for name in ["a.txt", "b.txt", "[x]", "dir/c.txt", "dir/sub/d.bin", "dir/sub/deep/e", "dir/.wh.f"] {
        fs::write(at(name), name)?;
    }
    fs::hard_link(at("a.txt"), at("dir/a2.txt"))?;
    for (name, target) in [
        ("link", "a.txt"),
        ("dirlink", "dir"),
        ("dir/self", "."),
        ("dir/up", ".."),
        ("out", "../.."),
        ("rooted", "/dir/c.txt"),
        ("loop", "loop2"),
        ("loop2", "loop"),
        ("lost", "nothing"),
    ] {
        symlink(target, at(name))?;
    }
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o4751);
    header.set_size(5);
    tar.append_data(&mut header, "in/archive", &b"hello"[..])?;
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    tar.append_link(&mut header, "in/link", "/tmp")?;
    let tar = tar.into_inner()?;
    fs::write(at("a.tar"), &tar)?;
    let mut gzip = flate2::write::GzEncoder::new(fs::File::create(at("a.tgz"))?, flate2::Compression::fast());
    gzip.write_all(&tar)?;
    gzip.finish()?;
    fs::write(at("broken.tar"), &tar[..700])?;
    Ok(dir)
}

/// What the images `base` and `triggers` hold.
fn tree() -> FileTree {
    let mut tree = FileTree::empty();
    let file = |text: &'static str| EntryKind::File(FileContent::Inline(Bytes::from_static(text.as_bytes())));
    let link = |target: &'static str| EntryKind::Symlink { target: Bytes::from_static(target.as_bytes()) };
    for (path, kind, mode) in [
        ("etc", EntryKind::Directory, 0o755),
        ("etc/passwd", file("root:x:0:0::/:/bin/sh\napp:x:1001:2002:::\nodd:x:x:1\n"), 0o644),
        ("etc/group", file("root:x:0:\nstaff:x:50:app\n"), 0o644),
        ("tmp", EntryKind::Directory, 0o1777),
        ("run", EntryKind::Directory, 0o755),
        ("var/run", link("/run"), 0o777),
        ("usr/bin", EntryKind::Directory, 0o755),
        ("usr/bin/sh", file("sh"), 0o755),
        ("bin", link("usr/bin"), 0o777),
        ("loop", link("loop"), 0o777),
        ("lost", link("no/where"), 0o777),
        ("up", link("../../.."), 0o777),
    ] {
        let path = LayerPath::clean(path).expect("a path");
        tree.apply(Entry { path, kind, mode, uid: 0, gid: 0, mtime: 0, xattrs: Xattrs::default() });
    }
    tree
}

/// `base` and `triggers`, whose contents are known, and `unknown`.
struct Bases<'a> {
    tree: &'a FileTree,
    triggers: Vec<String>,
}

#[async_trait]
impl BaseResolver for Bases<'_> {
    async fn resolve(&self, reference: &str, _platform: &Platform) -> Result<PlannedBase, Error> {
        let mut config = ImageConfig { os: "linux".to_owned(), ..ImageConfig::default() };
        config.config.env = vec!["FROM_BASE=1".to_owned(), "NOVALUE".to_owned()];
        config.config.working_dir = "/usr/./bin".to_owned();
        config.config.cmd = Some(vec!["sh".to_owned()]);
        match reference {
            "base" | "unknown" => {}
            "triggers" => config.config.on_build.clone_from(&self.triggers),
            _ => return no_image(),
        }
        let digest = format!("sha256:{}", "0".repeat(64));
        let descriptor =
            json!({"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": 2});
        let manifest = json!({"schemaVersion": 2, "config": descriptor, "layers": []});
        let image = ResolvedImage {
            descriptor: serde_json::from_value(descriptor).expect("a descriptor"),
            manifest: serde_json::from_value(manifest).expect("a manifest"),
            config,
            manifest_bytes: Bytes::new(),
            config_bytes: Bytes::new(),
        };
        Ok(PlannedBase { reference: reference.to_owned(), source: Arc::new(NoSource), image })
    }

    async fn tree(&self, wanted: TreeOf<'_>) -> Result<FileTree, Error> {
        Ok(if wanted.base.reference == "unknown" { FileTree::unknown() } else { self.tree.clone() })
    }
}

fn no_image<T>() -> Result<T, Error> {
    Err(Error::Unusable("there is no such image".to_owned()))
}

/// For builds from scratch.
pub(crate) struct NoBases;

#[async_trait]
impl BaseResolver for NoBases {
    async fn resolve(&self, _reference: &str, _platform: &Platform) -> Result<PlannedBase, Error> {
        no_image()
    }
}

/// An image whose manifest and config are all there is.
#[derive(Debug)]
struct NoSource;

#[async_trait]
impl ImageSource for NoSource {
    fn name(&self) -> String {
        "fuzz".to_owned()
    }

    fn image_name(&self) -> Option<String> {
        None
    }

    fn locator(&self) -> String {
        self.name()
    }

    async fn resolve(&self, _platform: &Platform) -> Result<ResolvedImage, Error> {
        no_image()
    }

    async fn blob(&self, _blob: &Descriptor, _offset: u64) -> Result<BlobStream, Error> {
        no_image()
    }
}
