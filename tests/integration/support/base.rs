//! Base images, made by the test.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tar::{EntryType, Header};

use super::{architecture, digest_of, skopeo_copy};

/// An image with gzip layers.
#[derive(Debug, Clone)]
pub(crate) struct Base {
    /// Tar archives, from the bottom up.
    layers: Vec<Vec<u8>>,
    architecture: String,
    variant: Option<String>,
    variables: Vec<String>,
    /// What the config says beside its variables.
    config: Value,
}

impl Base {
    /// What distributions look like: `/tmp` for all, `/var/run` a link to `/run`.
    pub(crate) fn new() -> Self {
        let mut system = LayerBuilder::default();
        system.directory("etc", 0o755).file(
            "etc/passwd",
            0o644,
            b"root:x:0:0::/:/bin/sh\nmodel:x:77:78::/:\n",
        );
        system
            .directory("run", 0o755)
            .directory("tmp", 0o1777)
            .directory("usr", 0o755)
            .directory("var", 0o755);
        system.link("var/run", "/run");
        let mut program = LayerBuilder::default();
        program.directory("usr", 0o755).directory("usr/bin", 0o755).file(
            "usr/bin/serve",
            0o755,
            b"#!/bin/sh\n",
        );
        Self {
            layers: vec![system.finish(), program.finish()],
            architecture: architecture().to_owned(),
            variant: None,
            variables: vec!["PATH=/usr/bin".to_owned()],
            config: json!({"Labels": {"from": "base"}}),
        }
    }

    /// Of one layer; `config` is what containers are run with.
    pub(crate) fn of(layer: LayerBuilder, variables: &[&str], config: Value) -> Self {
        Self {
            layers: vec![layer.finish()],
            architecture: architecture().to_owned(),
            variant: None,
            variables: variables.iter().map(|&line| line.to_owned()).collect(),
            config,
        }
    }

    /// With one more layer, a tar archive.
    #[must_use]
    pub(crate) fn with_tar(mut self, tar: Vec<u8>) -> Self {
        self.layers.push(tar);
        self
    }

    /// For another architecture, which shows in a file and a variable.
    #[must_use]
    pub(crate) fn for_architecture(mut self, architecture: &str) -> Self {
        architecture.clone_into(&mut self.architecture);
        self.variables.push(format!("MADE_FOR={architecture}"));
        self.with_file("etc/arch", architecture.as_bytes())
    }

    /// For a variant of its architecture, which shows in a variable.
    #[must_use]
    pub(crate) fn for_variant(mut self, variant: &str) -> Self {
        self.variables.push(format!("MADE_FOR_VARIANT={variant}"));
        self.variant = Some(variant.to_owned());
        self
    }

    /// With one more layer of one file.
    #[must_use]
    pub(crate) fn with_file(mut self, path: &str, bytes: &[u8]) -> Self {
        let mut layer = LayerBuilder::default();
        layer.file(path, 0o644, bytes);
        self.layers.push(layer.finish());
        self
    }

    /// With one more layer, of a file whose name in `path` is a link into `directory`, which is two deep and new.
    #[must_use]
    pub(crate) fn with_linked(mut self, path: &str, directory: &str, bytes: &[u8]) -> Self {
        let (above, _) = directory.split_once('/').unwrap();
        let file = format!("{directory}/{}", path.rsplit('/').next().unwrap());
        let mut layer = LayerBuilder::default();
        layer.directory(above, 0o755).directory(directory, 0o755).file(&file, 0o644, bytes);
        layer.link(path, &format!("/{file}"));
        self.layers.push(layer.finish());
        self
    }

    /// How many layers it has.
    pub(crate) fn len(&self) -> usize {
        self.layers.len()
    }

    /// Writes an OCI layout with this image, called `latest`.
    pub(crate) fn write_layout(&self, directory: &Path) {
        let mut entry = self.write_blobs(directory);
        entry["annotations"] = json!({"org.opencontainers.image.ref.name": "latest"});
        write_index(directory, &[entry]);
    }

    /// Pushes it.
    pub(crate) fn push(&self, name: &str) {
        self.push_with(&[], name);
    }

    /// Pushes it as a Docker image (schema 2).
    pub(crate) fn push_docker(&self, name: &str) {
        self.push_with(&["--format", "v2s2"], name);
    }

    pub(crate) fn push_with(&self, more: &[&str], name: &str) {
        let directory = tempfile::tempdir().unwrap();
        self.write_layout(directory.path());
        let from = format!("oci:{}:latest", directory.path().display());
        skopeo_copy(more, &from, &format!("docker://{name}"));
    }

    fn write_blobs(&self, directory: &Path) -> Value {
        let mut layers = Vec::new();
        let mut diff_ids = Vec::new();
        for tar in &self.layers {
            let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
            gzip.write_all(tar).unwrap();
            let gzip = gzip.finish().unwrap();
            layers.push(write_blob(directory, "application/vnd.oci.image.layer.v1.tar+gzip", &gzip));
            diff_ids.push(digest_of(tar));
        }
        let history: Vec<_> =
            (1..=layers.len()).map(|n| json!({"created_by": format!("base {n}")})).collect();
        let mut inner = self.config.clone();
        inner["Env"] = json!(self.variables);
        let mut config = json!({
            "architecture": self.architecture,
            "os": "linux",
            "config": inner,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": history,
        });
        let mut platform = json!({"architecture": self.architecture, "os": "linux"});
        if let Some(variant) = &self.variant {
            (config["variant"], platform["variant"]) = (json!(variant), json!(variant));
        }
        let config = config.to_string();
        let config = write_blob(directory, "application/vnd.oci.image.config.v1+json", config.as_bytes());
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest =
            json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers})
                .to_string();
        let mut entry = write_blob(directory, media_type, manifest.as_bytes());
        entry["platform"] = platform;
        entry
    }
}

/// Pushes an index with these images.
pub(crate) fn push_index(images: &[Base], name: &str) {
    push_index_with(images, &|_, _| {}, name);
}

/// The same; the entries are altered, which are counted from 0.
pub(crate) fn push_index_with(images: &[Base], alter: &dyn Fn(usize, &mut Value), name: &str) {
    let directory = tempfile::tempdir().unwrap();
    write_index_layout_with(directory.path(), images, alter);
    let from = format!("oci:{}:latest", directory.path().display());
    skopeo_copy(&["--all"], &from, &format!("docker://{name}"));
}

/// Writes an OCI layout with an index of these images, called `latest`; its entries are altered, which are counted from 0.
pub(crate) fn write_index_layout_with(directory: &Path, images: &[Base], alter: &dyn Fn(usize, &mut Value)) {
    let mut entries: Vec<_> = images.iter().map(|image| image.write_blobs(directory)).collect();
    entries.iter_mut().enumerate().for_each(|(at, entry)| alter(at, entry));
    let media_type = "application/vnd.oci.image.index.v1+json";
    let index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": entries}).to_string();
    let mut entry = write_blob(directory, media_type, index.as_bytes());
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": "latest"});
    write_index(directory, &[entry]);
}

/// Writes the image of a layout anew, with another config and manifest; its layers stay.
pub(crate) fn alter_layout(directory: &Path, alter: impl FnOnce(&mut Value, &mut Value)) {
    let read = |descriptor: &Value| -> Value {
        let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
        serde_json::from_slice(&fs::read(directory.join("blobs/sha256").join(digest)).unwrap()).unwrap()
    };
    let index: Value = serde_json::from_slice(&fs::read(directory.join("index.json")).unwrap()).unwrap();
    let mut entry = index["manifests"][0].clone();
    let mut manifest = read(&entry);
    let mut config = read(&manifest["config"]);
    alter(&mut config, &mut manifest);
    let config_type = manifest["config"]["mediaType"].as_str().unwrap().to_owned();
    manifest["config"] = write_blob(directory, &config_type, config.to_string().as_bytes());
    let written =
        write_blob(directory, entry["mediaType"].as_str().unwrap(), manifest.to_string().as_bytes());
    (entry["digest"], entry["size"]) = (written["digest"].clone(), written["size"].clone());
    write_index(directory, &[entry]);
}

/// Pushes the image called `latest` of a layout, its documents as they are.
pub(crate) fn push_layout(directory: &Path, name: &str) {
    skopeo_copy(&[], &format!("oci:{}:latest", directory.display()), &format!("docker://{name}"));
}

fn write_blob(directory: &Path, media_type: &str, bytes: &[u8]) -> Value {
    let digest = digest_of(bytes);
    let blobs = directory.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(blobs.join(digest.strip_prefix("sha256:").unwrap()), bytes).unwrap();
    json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
}

fn write_index(directory: &Path, entries: &[Value]) {
    fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    fs::write(directory.join("index.json"), json!({"schemaVersion": 2, "manifests": entries}).to_string())
        .unwrap();
}

/// The archive of a layer.
pub(crate) struct LayerBuilder(tar::Builder<Vec<u8>>);

impl Default for LayerBuilder {
    fn default() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }
}

impl LayerBuilder {
    fn add(
        &mut self,
        path: &str,
        kind: EntryType,
        mode: u32,
        target: Option<&str>,
        bytes: &[u8],
    ) -> &mut Self {
        self.add_owned(path, kind, mode, (0, 0), target, bytes)
    }

    fn add_owned(
        &mut self,
        path: &str,
        kind: EntryType,
        mode: u32,
        owner: (u64, u64),
        target: Option<&str>,
        bytes: &[u8],
    ) -> &mut Self {
        let mut header = Header::new_ustar();
        header.set_path(path).unwrap();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(owner.0);
        header.set_gid(owner.1);
        header.set_mtime(1_000_000_000);
        header.set_size(bytes.len() as u64);
        if let Some(target) = target {
            header.set_link_name(target).unwrap();
        }
        header.set_cksum();
        self.0.append(&header, bytes).unwrap();
        self
    }

    pub(crate) fn directory(&mut self, path: &str, mode: u32) -> &mut Self {
        self.add(path, EntryType::Directory, mode, None, b"")
    }

    pub(crate) fn owned_directory(&mut self, path: &str, mode: u32, owner: (u64, u64)) -> &mut Self {
        self.add_owned(path, EntryType::Directory, mode, owner, None, b"")
    }

    pub(crate) fn file(&mut self, path: &str, mode: u32, bytes: &[u8]) -> &mut Self {
        self.add(path, EntryType::Regular, mode, None, bytes)
    }

    pub(crate) fn owned_file(&mut self, path: &str, mode: u32, owner: (u64, u64), bytes: &[u8]) -> &mut Self {
        self.add_owned(path, EntryType::Regular, mode, owner, None, bytes)
    }

    pub(crate) fn fifo(&mut self, path: &str, mode: u32, owner: (u64, u64)) -> &mut Self {
        self.add_owned(path, EntryType::Fifo, mode, owner, None, b"")
    }

    /// A character device of root's.
    pub(crate) fn device(&mut self, path: &str, mode: u32, numbers: (u32, u32)) -> &mut Self {
        let mut header = Header::new_ustar();
        header.set_path(path).unwrap();
        header.set_entry_type(EntryType::Char);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        header.set_device_major(numbers.0).unwrap();
        header.set_device_minor(numbers.1).unwrap();
        header.set_cksum();
        self.0.append(&header, io::empty()).unwrap();
        self
    }

    pub(crate) fn link(&mut self, path: &str, target: &str) -> &mut Self {
        self.add(path, EntryType::Symlink, 0o777, Some(target), b"")
    }

    /// Mode and owner are the file's, which whoever unpacks it may set again.
    pub(crate) fn owned_hard_link(
        &mut self,
        path: &str,
        target: &str,
        mode: u32,
        owner: (u64, u64),
    ) -> &mut Self {
        self.add_owned(path, EntryType::Link, mode, owner, Some(target), b"")
    }

    fn finish(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}
