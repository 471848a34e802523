//! A context in a temporary directory, bases that are made up, and plans as text.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use crossdock_builder::{
    BaseResolver, Containerfile, Context, Error, FileTree, IgnoreFile, OwnPaths, PlanOptions, PlannedBase,
    PlannedImage, TreeOf, plan,
};
use crossdock_storage::{
    BlobStream, Descriptor, EntryKind, Error as StorageError, FileContent, ImageConfig, ImageSource,
    LayerPath, Platform, ReadOptions, ResolvedImage,
};
use serde_json::json;

pub(crate) struct Setup {
    dir: tempfile::TempDir,
    pub(crate) options: PlanOptions,
    pub(crate) bases: Bases,
    pub(crate) own: OwnPaths,
    /// With `--follow-links`, the directories of `--build-context`.
    pub(crate) follow: Option<Vec<PathBuf>>,
}

#[derive(Default)]
pub(crate) struct Bases {
    images: BTreeMap<String, (ImageConfig, FileTree)>,
    pub(crate) asked: Mutex<Vec<String>>,
}

impl Setup {
    /// A context with the files of the tests.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("ctx")).unwrap();
        let options = PlanOptions::new("linux/amd64".parse::<Platform>().unwrap());
        let setup = Self { dir, options, bases: Bases::default(), own: OwnPaths::none(), follow: None };
        setup
            .file("a.txt", "a", 0o640)
            .file("b.txt", "b", 0o644)
            .file("dir/c.txt", "c", 0o644)
            .file("dir/sub/d.txt", "d", 0o600)
            .link("dirlink", "dir")
            .link("filelink", "a.txt")
            .link("dir/inner", "c.txt")
            .mode("dir", 0o755)
            .mode("dir/sub", 0o700)
    }

    /// A directory beside the context.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn context(&self) -> PathBuf {
        self.dir.path().join("ctx")
    }

    pub(crate) fn file(self, path: &str, text: &str, mode: u32) -> Self {
        let at = self.context().join(path);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        fs::write(&at, text).unwrap();
        self.mode(path, mode)
    }

    pub(crate) fn mode(self, path: &str, mode: u32) -> Self {
        fs::set_permissions(self.context().join(path), fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    pub(crate) fn link(self, path: &str, target: &str) -> Self {
        let at = self.context().join(path);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        symlink(target, at).unwrap();
        self
    }

    pub(crate) fn hard_link(self, from: &str, to: &str) -> Self {
        fs::hard_link(self.context().join(from), self.context().join(to)).unwrap();
        self
    }

    pub(crate) fn base(mut self, name: &str, config: serde_json::Value, tree: FileTree) -> Self {
        self.bases.images.insert(name.to_owned(), (serde_json::from_value(config).unwrap(), tree));
        self
    }

    pub(crate) fn build_arg(mut self, name: &str, value: &str) -> Self {
        self.options.build_args.insert(name.to_owned(), Some(value.to_owned()));
        self
    }

    pub(crate) fn try_plan(&self, containerfile: &str) -> Result<PlannedImage, Error> {
        let file = Containerfile::parse("Containerfile", containerfile.as_bytes())?.into();
        let ignore = IgnoreFile::find(&self.context(), None, None)?;
        let mut context = Context::open(&self.context(), ignore)?.without(self.own.clone());
        if let Some(more) = &self.follow {
            context = context.following_links(more)?;
        }
        let context = context.into();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(plan(&file, &context, &self.options, &self.bases))
    }

    pub(crate) fn plan(&self, containerfile: &str) -> PlannedImage {
        self.try_plan(containerfile)
            .unwrap_or_else(|error| panic!("{error}: {:?}", std::error::Error::source(&error)))
    }

    /// The layers of a stage `FROM scratch` with these instructions.
    pub(crate) fn scratch(&self, instructions: &str) -> String {
        self.layers(&self.plan(&format!("FROM scratch\n{instructions}")))
    }

    /// The error of a stage `FROM scratch` with these instructions, with its cause.
    pub(crate) fn error(&self, instructions: &str) -> String {
        self.file_error(&format!("FROM scratch\n{instructions}"))
    }

    pub(crate) fn file_error(&self, containerfile: &str) -> String {
        let error = self.try_plan(containerfile).expect_err("the build is refused");
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        self.shown(&format!("{error}{cause}"))
    }

    pub(crate) fn warnings(&self, image: &PlannedImage) -> String {
        image.warnings.iter().map(|warning| self.shown(&warning.to_string())).collect::<Vec<_>>().join("\n")
    }

    fn shown(&self, text: &str) -> String {
        text.replace(&self.context().display().to_string(), "./ctx")
    }

    pub(crate) fn layers(&self, image: &PlannedImage) -> String {
        let root = fs::canonicalize(self.context()).unwrap();
        let mut lines = Vec::new();
        for layer in &image.layers {
            lines.push(format!("{}:", layer.title));
            assert!(layer.entries.is_sorted_by(|a, b| a.path < b.path), "{layer:?}");
            for entry in &layer.entries {
                let (kind, rest) = match &entry.kind {
                    EntryKind::Directory => ('d', String::new()),
                    EntryKind::File(FileContent::Inline(bytes)) => {
                        ('f', format!(" = {:?}", String::from_utf8_lossy(bytes)))
                    }
                    EntryKind::File(FileContent::Source(file)) => {
                        ('f', format!(" = {}", file.path().strip_prefix(&root).unwrap().display()))
                    }
                    EntryKind::File(FileContent::Parts(parts)) => {
                        let read = parts.bytes_from(0, &ReadOptions::default());
                        let bytes: Vec<u8> = read.flat_map(|chunk| chunk.unwrap().to_vec()).collect();
                        ('f', format!(" = packed {:?}", String::from_utf8_lossy(&bytes)))
                    }
                    EntryKind::Symlink { target } => {
                        ('l', format!(" -> {}", String::from_utf8_lossy(target)))
                    }
                    EntryKind::HardLink { target } => ('h', format!(" -> {target}")),
                    EntryKind::Special(special) => ('s', format!(", {special}")),
                };
                lines.push(format!(
                    "  {kind} {:04o} {}:{} {}{rest}",
                    entry.mode, entry.uid, entry.gid, entry.path
                ));
            }
        }
        lines.join("\n")
    }
}

pub(crate) fn path(text: &str) -> LayerPath {
    LayerPath::clean(text).unwrap()
}

#[derive(Debug)]
struct NoSource;

#[async_trait]
impl ImageSource for NoSource {
    fn name(&self) -> String {
        "a test".to_owned()
    }

    fn image_name(&self) -> Option<String> {
        None
    }

    fn locator(&self) -> String {
        self.name()
    }

    async fn resolve(&self, _platform: &Platform) -> Result<ResolvedImage, StorageError> {
        Err(StorageError::Unusable("no source".to_owned()))
    }

    async fn blob(&self, _blob: &Descriptor, _offset: u64) -> Result<BlobStream, StorageError> {
        Err(StorageError::Unusable("no source".to_owned()))
    }
}

#[async_trait]
impl BaseResolver for Bases {
    async fn resolve(&self, reference: &str, platform: &Platform) -> Result<PlannedBase, StorageError> {
        self.asked.lock().unwrap().push(format!("{reference} {platform}"));
        let Some((config, _)) = self.images.get(reference) else {
            return Err(StorageError::Unusable("no such image".to_owned()));
        };
        let digest = format!("sha256:{}", "0".repeat(64));
        let descriptor =
            json!({"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": 2});
        let manifest = json!({"schemaVersion": 2, "config": descriptor, "layers": []});
        let image = ResolvedImage {
            descriptor: serde_json::from_value(descriptor).unwrap(),
            manifest: serde_json::from_value(manifest).unwrap(),
            config: config.clone(),
            manifest_bytes: Vec::new().into(),
            config_bytes: Vec::new().into(),
        };
        Ok(PlannedBase { reference: reference.to_owned(), source: Arc::new(NoSource), image })
    }

    async fn tree(&self, wanted: TreeOf<'_>) -> Result<FileTree, StorageError> {
        Ok(self.images[&wanted.base.reference].1.clone())
    }
}

pub(crate) fn socket(path: &Path) {
    std::os::unix::net::UnixListener::bind(path).unwrap();
}
