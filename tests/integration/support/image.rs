//! An image as others see it: fetched by skopeo, every digest computed anew, its layers laid upon one another by this
//! file alone. Nothing of crossdock is used.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tar::EntryType;

use super::{digest_of, digest_of_reader, named, skopeo_copy, tool};

/// A valid image; one that is not valid is a failed test.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) digest: String,
    pub(crate) manifest: Value,
    pub(crate) config: Value,
    /// From the bottom up.
    pub(crate) layers: Vec<Layer>,
    /// The root file system, by path without the leading slash.
    pub(crate) files: Files,
    /// The names of each file that has several.
    pub(crate) links: Vec<Vec<String>>,
    /// The contents of small files, by digest.
    pub(crate) texts: Texts,
}

/// What there is, by path.
pub(crate) type Files = BTreeMap<String, Node>;

/// Contents by digest.
pub(crate) type Texts = BTreeMap<String, Vec<u8>>;

/// What is small enough to be shown in a message, in bytes.
const SMALL: u64 = 80;

/// A layer of an image.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) media_type: String,
    /// In the order of the archive.
    pub(crate) entries: Vec<(String, Node)>,
}

impl Layer {
    pub(crate) fn paths(&self) -> Vec<&str> {
        self.entries.iter().map(|(path, _)| path.as_str()).collect()
    }
}

/// One thing in a file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    /// The low twelve bits.
    pub(crate) mode: u32,
    pub(crate) owner: (u64, u64),
    pub(crate) mtime: u64,
    /// Extended attributes by name.
    pub(crate) xattrs: BTreeMap<String, Vec<u8>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    File {
        digest: String,
        len: u64,
    },
    Symlink(String),
    Fifo,
    /// `c` or `b`, and its numbers.
    Device(char, u32, u32),
    /// In an archive only.
    HardLink(String),
    Whiteout,
}

impl Image {
    /// Fetches an image from a registry.
    pub(crate) fn pull(name: &str) -> Self {
        Self::read(&format!("docker://{name}"))
    }

    /// Fetches an image for another architecture.
    pub(crate) fn pull_for(name: &str, architecture: &str) -> Self {
        Self::read_with(&["--override-arch", architecture], &format!("docker://{name}"))
    }

    /// Fetches an image from anywhere that skopeo can.
    pub(crate) fn read(source: &str) -> Self {
        Self::read_with(&[], source)
    }

    fn read_with(global: &[&str], source: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        skopeo_copy(global, source, &format!("dir:{}", directory.path().display()));
        // skopeo calls the layers of an archive compressed, whatever they are.
        Self::of_directory(directory.path(), !source.starts_with("docker-archive:"))
    }

    /// Reads an image from skopeo's `dir:`.
    pub(crate) fn of_directory(directory: &Path, typed: bool) -> Self {
        Self::of_blobs(&fs::read(directory.join("manifest.json")).unwrap(), directory, typed)
    }

    fn of_blobs(manifest_bytes: &[u8], directory: &Path, typed: bool) -> Self {
        let manifest: Value = serde_json::from_slice(manifest_bytes).unwrap();
        assert_eq!(manifest["schemaVersion"], 2);
        let config_bytes = fs::read(checked_blob(directory, &manifest["config"])).unwrap();
        let config: Value = serde_json::from_slice(&config_bytes).unwrap();
        let mut layers = Vec::new();
        let mut diff_ids = Vec::new();
        let mut texts = Texts::new();
        for descriptor in manifest["layers"].as_array().unwrap() {
            let blob = checked_blob(directory, descriptor);
            let media_type = if typed { descriptor["mediaType"].as_str().unwrap() } else { "tar" };
            let (layer, diff_id) = read_layer(&blob, media_type, &mut texts);
            layers.push(layer);
            diff_ids.push(Value::from(diff_id));
        }
        assert_eq!(config["rootfs"]["type"], "layers");
        assert_eq!(config["rootfs"]["diff_ids"], Value::from(diff_ids), "diff IDs");
        let history = config["history"].as_array().map_or(&[][..], Vec::as_slice);
        let of_layers = history.iter().filter(|line| line["empty_layer"] != true).count();
        // `--omit-history` leaves none.
        if !history.is_empty() {
            assert_eq!(of_layers, layers.len(), "lines of the history that have a layer: {history:#?}");
        }
        for name in ["architecture", "os"] {
            assert!(config[name].as_str().is_some_and(|value| !value.is_empty()), "{name}");
        }
        let (files, links) = flatten(&layers);
        Self { digest: digest_of(manifest_bytes), manifest, config, layers, files, links, texts }
    }

    #[track_caller]
    pub(crate) fn node(&self, path: &str) -> &Node {
        let there = || self.files.keys().collect::<Vec<_>>();
        self.files.get(path).unwrap_or_else(|| panic!("no {path}: {:?}", there()))
    }

    /// The layers' digests, from the bottom up.
    pub(crate) fn layer_digests(&self) -> Vec<String> {
        let layers = self.manifest["layers"].as_array().unwrap();
        layers.iter().map(|layer| layer["digest"].as_str().unwrap().to_owned()).collect()
    }
}

impl Node {
    /// A file with these bytes, owner root, time 0.
    pub(crate) fn file(bytes: &[u8], mode: u32) -> Self {
        let kind = Kind::File { digest: digest_of(bytes), len: bytes.len() as u64 };
        Self { kind, mode, owner: (0, 0), mtime: 0, xattrs: BTreeMap::new() }
    }

    pub(crate) fn directory(mode: u32) -> Self {
        Self { kind: Kind::Directory, mode, owner: (0, 0), mtime: 0, xattrs: BTreeMap::new() }
    }

    pub(crate) fn symlink(target: &str) -> Self {
        Self {
            kind: Kind::Symlink(target.to_owned()),
            mode: 0o777,
            owner: (0, 0),
            mtime: 0,
            xattrs: BTreeMap::new(),
        }
    }
}

/// Checks that a layout on disk is whole: each blob is what its name says, and there is nothing else.
pub(crate) fn check_layout(directory: &Path) -> Vec<Value> {
    let marker: Value = serde_json::from_slice(&fs::read(directory.join("oci-layout")).unwrap()).unwrap();
    assert_eq!(marker["imageLayoutVersion"], "1.0.0");
    for entry in fs::read_dir(directory.join("blobs/sha256")).unwrap() {
        let entry = entry.unwrap();
        let (digest, _) = digest_of_reader(File::open(entry.path()).unwrap());
        assert_eq!(digest, format!("sha256:{}", entry.file_name().to_string_lossy()));
    }
    let mut names: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    // Locks and half-written files of builds under way.
    names.retain(|name| !name.to_string_lossy().starts_with(".crossdock"));
    names.sort();
    assert_eq!(names, ["blobs", "index.json", "oci-layout"]);
    let index: Value = serde_json::from_slice(&fs::read(directory.join("index.json")).unwrap()).unwrap();
    index["manifests"].as_array().unwrap().clone()
}

/// Unpacks an image from a registry with umoci. As root owners come out as they are in the image, else not.
pub(crate) fn unpack(name: &str) -> Files {
    let directory = tempfile::tempdir().unwrap();
    let layout = directory.path().join("layout").display().to_string();
    let bundle = directory.path().join("bundle").display().to_string();
    skopeo_copy(&[], &format!("docker://{name}"), &format!("oci:{layout}:latest"));
    let image = format!("{layout}:latest");
    let rootless: &[&str] = if is_root() { &[] } else { &["--rootless"] };
    tool("umoci", &[&["unpack"], rootless, &["--image", &image, &bundle]].concat());
    let mut files = Files::new();
    walk(&directory.path().join("bundle/rootfs"), "", &mut files);
    files
}

/// Whether owners and modes bind this process.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

fn walk(directory: &Path, prefix: &str, files: &mut Files) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        let path = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        let kind = if metadata.is_dir() {
            walk(&entry.path(), &format!("{path}/"), files);
            Kind::Directory
        } else if metadata.is_symlink() {
            Kind::Symlink(fs::read_link(entry.path()).unwrap().to_str().unwrap().to_owned())
        } else {
            let (digest, len) = digest_of_reader(File::open(entry.path()).unwrap());
            Kind::File { digest, len }
        };
        let node = Node {
            kind,
            mode: metadata.mode() & 0o7777,
            owner: (metadata.uid().into(), metadata.gid().into()),
            mtime: u64::try_from(metadata.mtime()).unwrap(),
            xattrs: BTreeMap::new(),
        };
        files.insert(path, node);
    }
}

/// The file of a blob, once its digest and size are right.
fn checked_blob(directory: &Path, descriptor: &Value) -> std::path::PathBuf {
    let digest = descriptor["digest"].as_str().unwrap();
    let path = directory.join(digest.strip_prefix("sha256:").unwrap());
    let (actual, size) = digest_of_reader(File::open(&path).unwrap());
    assert_eq!(actual, digest);
    assert_eq!(Some(size), descriptor["size"].as_u64(), "size of {digest}");
    path
}

/// A layer's entries and diff ID.
fn read_layer(path: &Path, media_type: &str, texts: &mut Texts) -> (Layer, String) {
    let media_type = media_type.to_owned();
    let file = io::BufReader::new(File::open(path).unwrap());
    let tar: Box<dyn Read> = match media_type.rsplit(['+', '.']).next().unwrap() {
        "gzip" => Box::new(MultiGzDecoder::new(file)),
        "zstd" => Box::new(zstd::Decoder::new(file).unwrap()),
        "tar" => Box::new(file),
        _ => panic!("{media_type}"),
    };
    let mut archive = tar::Archive::new(Hashing { inner: tar, hasher: Sha256::new() });
    let entries = archive.entries().unwrap().map(|entry| read_entry(entry.unwrap(), texts)).collect();
    let mut rest = archive.into_inner();
    io::copy(&mut rest, &mut io::sink()).unwrap();
    (Layer { media_type, entries }, named(rest.hasher))
}

fn read_entry(mut entry: tar::Entry<'_, impl Read>, texts: &mut Texts) -> (String, Node) {
    let path = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
    let path = path.trim_start_matches("./").trim_end_matches('/').to_owned();
    let target = entry.link_name_bytes().map(|target| String::from_utf8(target.into_owned()).unwrap());
    let header = entry.header().clone();
    let mut xattrs = BTreeMap::new();
    // A value with a line break is an error to this reader, which cuts records at them.
    for extension in entry.pax_extensions().unwrap().into_iter().flatten().filter_map(Result::ok) {
        if let Some(name) = extension.key().unwrap().strip_prefix("SCHILY.xattr.") {
            xattrs.insert(name.to_owned(), extension.value_bytes().to_vec());
        }
    }
    let kind = match header.entry_type() {
        EntryType::Directory => Kind::Directory,
        EntryType::Symlink => Kind::Symlink(target.unwrap()),
        EntryType::Link => Kind::HardLink(target.unwrap()),
        EntryType::Regular if file_name(&path).starts_with(".wh.") => Kind::Whiteout,
        EntryType::Regular if entry.size() <= SMALL => {
            let mut text = Vec::new();
            entry.read_to_end(&mut text).unwrap();
            let digest = digest_of(&text);
            let len = text.len() as u64;
            texts.insert(digest.clone(), text);
            Kind::File { digest, len }
        }
        EntryType::Regular => {
            let (digest, len) = digest_of_reader(&mut entry);
            Kind::File { digest, len }
        }
        EntryType::Fifo => Kind::Fifo,
        kind @ (EntryType::Char | EntryType::Block) => {
            let number = |number: io::Result<Option<u32>>| number.unwrap().unwrap();
            let letter = if kind == EntryType::Char { 'c' } else { 'b' };
            Kind::Device(letter, number(header.device_major()), number(header.device_minor()))
        }
        other => panic!("{path}: {other:?}"),
    };
    let node = Node {
        kind,
        // buildah writes the kind's bits as well.
        mode: header.mode().unwrap() & 0o7777,
        owner: (header.uid().unwrap(), header.gid().unwrap()),
        mtime: header.mtime().unwrap(),
        xattrs,
    };
    (path, node)
}

fn file_name(path: &str) -> &str {
    Path::new(path).file_name().map_or("", |name| std::str::from_utf8(name.as_bytes()).unwrap())
}

/// Lays layers upon one another (OCI image-spec, layer.md, "Applying Changesets"); the names of each file that has
/// several come with them.
fn flatten(layers: &[Layer]) -> (Files, Vec<Vec<String>>) {
    let mut files = Files::new();
    // Each entry that is no hard link is a file of its own.
    let mut inodes: BTreeMap<String, usize> = BTreeMap::new();
    let mut made = 0;
    for layer in layers {
        for (path, _) in layer.entries.iter().filter(|(_, node)| node.kind == Kind::Whiteout) {
            let name = file_name(path);
            let directory = &path[..path.len() - name.len()];
            let gone = match name {
                ".wh..wh..opq" => directory.to_owned(),
                name => format!("{directory}{}", &name[4..]),
            };
            files.retain(|path, _| {
                *path != gone && !path.starts_with(&format!("{}/", gone.trim_end_matches('/')))
            });
        }
        for (path, node) in layer.entries.iter().filter(|(_, node)| node.kind != Kind::Whiteout) {
            if let Some((parent, _)) = path.rsplit_once('/') {
                let kind = files.get(parent).map(|node| &node.kind);
                assert_eq!(kind, Some(&Kind::Directory), "the parent of {path}, which each layer must find");
            }
            let node = match &node.kind {
                Kind::HardLink(target) => {
                    inodes.insert(path.clone(), inodes[target]);
                    files.get(target).unwrap_or_else(|| panic!("{path} -> {target}")).clone()
                }
                _ => {
                    made += 1;
                    inodes.insert(path.clone(), made);
                    node.clone()
                }
            };
            if node.kind != Kind::Directory {
                files.retain(|other, _| !other.starts_with(&format!("{path}/")));
            }
            files.insert(path.clone(), node);
        }
    }
    let mut names: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for path in files.keys() {
        names.entry(inodes[path]).or_default().push(path.clone());
    }
    let mut links: Vec<Vec<String>> = names.into_values().filter(|names| names.len() > 1).collect();
    links.sort();
    (files, links)
}

/// Hashes what is read through it.
struct Hashing<R> {
    inner: R,
    hasher: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}
