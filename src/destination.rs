//! Where an image goes: `docker://` names, OCI layouts, archives, or the records of this machine.

use std::fs::File;
use std::io::IsTerminal as _;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use crossdock_builder::OwnPaths;
use crossdock_registry::{Reference, Registry};
use crossdock_storage::{
    ArchiveKind, ArchiveSink, DigestSink, DirSink, ImageSink, LayoutSink, ManifestFormat, Place,
};
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::local::has_host;

mod docker;

/// Where an image goes.
#[derive(Debug, Clone)]
pub(crate) enum Destination {
    /// Its digests come out, and are recorded with where its bytes are.
    Record,
    /// A repository, under one or more tags.
    Registry(Vec<Reference>),
    /// An OCI layout.
    Layout { directory: PathBuf, reference: Option<String> },
    /// One image in a directory, as `dir:` of skopeo and buildah.
    Directory(PathBuf),
    /// One file.
    Archive { path: PathBuf, kind: ArchiveKind, names: Vec<String> },
}

/// What one `--output` asks for.
#[derive(Debug, Clone)]
pub(crate) enum Output {
    OnDisk(Destination),
    /// To the registries of these names.
    Push(Vec<String>),
    /// Under these names, here.
    Remember(Vec<String>),
}

impl Output {
    /// Reads `oci:DIR[:REF]` and its like, Docker's `type=...`, or `-` for a docker-archive on standard output; `names` are
    /// those of the image.
    ///
    /// # Errors
    /// What cannot be understood; the caller names the option.
    pub(crate) fn parse(text: &str, names: &[String]) -> Result<Self> {
        if text == "-" {
            let (path, names) = (stdout_path(), spelled_out(names.iter())?);
            return Ok(Self::OnDisk(Destination::Archive { path, kind: ArchiveKind::Docker, names }));
        }
        if text.split(',').any(|part| part.trim_start_matches('"').starts_with("type=")) {
            return docker::parse(text, names);
        }
        Destination::on_disk(text, names).map(Self::OnDisk)
    }
}

/// The path of standard output. Without a /dev there is /proc, or nothing that a file could be made in.
fn stdout_path() -> PathBuf {
    let usual = Path::new("/dev/stdout");
    if usual.exists() { usual } else { Path::new("/proc/self/fd/1") }.to_owned()
}

/// Whether one of these is written to standard output, which then has nothing else on it.
///
/// # Errors
/// Where that is a terminal, or wanted by two.
pub(crate) fn takes_stdout(destinations: &[Destination]) -> Result<bool> {
    let taking = destinations.iter().filter(|destination| destination.is_stdout()).count();
    if taking > 1 {
        bail!("two outputs would be mixed on standard output: name a file for one of them");
    }
    if taking == 1 && std::io::stdout().is_terminal() {
        bail!(
            "standard output is a terminal, and an archive is not for people: write `... | docker load`, `... > FILE`, \
             or name a file"
        );
    }
    if taking == 1 && is_closed(&std::io::stdout()) {
        bail!("standard output is closed, and the archive would go nowhere: redirect it, or name a file");
    }
    Ok(taking == 1)
}

/// Whether standard output was closed: the standard library opens /dev/null in its place, for reading too. A shell's
/// `> /dev/null` is for writing alone.
fn is_closed(stdout: &impl AsFd) -> bool {
    let both = fcntl(stdout, FcntlArg::F_GETFL)
        .is_ok_and(|flags| OFlag::from_bits_retain(flags) & OFlag::O_ACCMODE == OFlag::O_RDWR);
    let device = |file: &File| file.metadata().map(|metadata| metadata.rdev()).ok();
    let out = stdout.as_fd().try_clone_to_owned().map(File::from).ok();
    both && out.and_then(|out| device(&out)) == File::open("/dev/null").ok().and_then(|null| device(&null))
}

impl Destination {
    /// The sink that writes there; `preflight` asks a registry first whether it takes the image. `reuse_from` are tags of its
    /// repository whose images may have the same layers, in the place of its last tags.
    ///
    /// # Errors
    /// Where the registry must not be spoken to, or with what cannot be used.
    pub(crate) fn sink(
        &self,
        registry: &Registry,
        preflight: bool,
        reuse_from: &[String],
    ) -> Result<Arc<dyn ImageSink>> {
        Ok(match self {
            Self::Record => Arc::new(DigestSink),
            Self::Registry(references) => {
                let sink = registry.sink(references)?.with_reuse_from(reuse_from.to_vec());
                Arc::new(if preflight { sink } else { sink.without_preflight() })
            }
            Self::Layout { directory, reference } => Arc::new(LayoutSink::new(directory, reference.clone())),
            Self::Directory(directory) => Arc::new(DirSink::new(directory)),
            Self::Archive { path, kind, names } => Arc::new(ArchiveSink::new(path, *kind, names.clone())),
        })
    }

    /// The image's names there, as a user writes them.
    pub(crate) fn names(&self) -> Vec<String> {
        match self {
            Self::Record => Vec::new(),
            Self::Registry(references) => references.iter().map(ToString::to_string).collect(),
            Self::Layout { directory, reference } => {
                vec![LayoutSink::new(directory, reference.clone()).name()]
            }
            Self::Directory(directory) => vec![DirSink::new(directory).name()],
            Self::Archive { path, kind, .. } => vec![ArchiveSink::new(path, *kind, Vec::new()).name()],
        }
    }

    /// Adds what is written there to what is no part of a context.
    pub(crate) fn add_to(&self, own: &mut OwnPaths) {
        const WHAT: &str = "the output of this build";
        match self {
            Self::Record | Self::Registry(_) => {}
            Self::Layout { directory, .. } => {
                own.add_directory_of(WHAT, directory, &["blobs", "index.json", "oci-layout"]);
            }
            Self::Directory(path) | Self::Archive { path, .. } => own.add(WHAT, path),
        }
    }

    /// In which format an image must be to be read there, where `wanted` is what was asked for: an OCI layout takes no
    /// manifests of Docker's.
    ///
    /// # Errors
    /// Where it was asked for another one.
    pub(crate) fn format(&self, wanted: Option<ManifestFormat>) -> Result<Option<ManifestFormat>> {
        match (self, wanted) {
            (
                Self::Layout { .. } | Self::Archive { kind: ArchiveKind::Oci, .. },
                Some(ManifestFormat::Docker),
            ) => {
                bail!(
                    "an OCI layout has no place for an image in the docker format: use --format oci, or dir:DIR"
                )
            }
            (Self::Layout { .. } | Self::Archive { kind: ArchiveKind::Oci, .. }, None) => {
                Ok(Some(ManifestFormat::Oci))
            }
            (_, wanted) => Ok(wanted),
        }
    }

    fn is_stdout(&self) -> bool {
        matches!(self, Self::Archive { path, .. } if Place::of(path).is_ok_and(|place| place.is_stdout()))
    }

    /// The registry that is pushed to.
    pub(crate) fn registry(&self) -> Option<&str> {
        match self {
            Self::Registry(references) => references.first().map(Reference::registry),
            _ => None,
        }
    }

    /// Reads `oci:DIR[:REF]` and its like; `names` are those of the image, for a docker-archive. An archive at `-` goes to standard
    /// output, as most programs that write archives have it; `./-` is a file of that name.
    ///
    /// # Errors
    /// What cannot be understood; the caller names the option.
    pub(crate) fn on_disk(text: &str, names: &[String]) -> Result<Self> {
        let known =
            "write oci:DIR[:REF], oci-archive:FILE[:REF], docker-archive:FILE[:NAME[:TAG]] or dir:DIR";
        let Some((transport, rest)) = transport_of(text) else { bail!("{text}: {known}") };
        if transport == "dir" && !rest.is_empty() {
            return Ok(Self::Directory(PathBuf::from(rest)));
        }
        let (path, reference) = split_reference(rest);
        if path.is_empty() {
            bail!("{text}: there is no path; {known}");
        }
        let reference = reference.map(str::to_owned);
        let path = match (transport, path) {
            ("oci-archive" | "docker-archive", "-") => stdout_path(),
            (_, path) => PathBuf::from(path),
        };
        match transport {
            "oci" => Ok(Self::Layout { directory: path, reference }),
            "oci-archive" => {
                Ok(Self::Archive { path, kind: ArchiveKind::Oci, names: reference.into_iter().collect() })
            }
            "docker-archive" => {
                let names = spelled_out(reference.iter().chain(names))?;
                Ok(Self::Archive { path, kind: ArchiveKind::Docker, names })
            }
            "docker-daemon" | "containers-storage" => bail!(
                "{text}: nothing is written into the store of another program; write docker-archive:FILE and load that"
            ),
            "docker" => bail!("{text}: to push to a registry, use --push with --tag"),
            other => bail!("{text}: the transport {other}: is not supported; {known}"),
        }
    }
}

/// Names as they stand in a docker-archive.
fn spelled_out<'a>(names: impl Iterator<Item = &'a String>) -> Result<Vec<String>> {
    let spell = |name: &String| {
        let parsed: Reference = name.parse().with_context(|| format!("the name {name} in the archive"))?;
        Ok(parsed.to_string())
    };
    names.map(spell).collect()
}

/// The place that a name to push to stands for: with its registry, for a push looks for no short names, and no digest,
/// which comes out of the push.
///
/// # Errors
/// What is wrong with the name; the caller says where it was given.
pub(crate) fn pushable(name: &str) -> Result<Reference> {
    let name = name.strip_prefix("docker://").unwrap_or(name);
    let reference: Reference = name.parse()?;
    if reference.digest().is_some() {
        bail!("an image cannot be pushed to a digest; give it a tag");
    }
    if !has_host(name) {
        bail!(
            "it names no registry to push to; write HOST[:PORT]/{name}, or docker.io/{name} for Docker Hub"
        );
    }
    Ok(reference)
}

/// `transport:rest` where there is one: host:port/name has none.
pub(crate) fn transport_of(text: &str) -> Option<(&str, &str)> {
    const TRANSPORTS: [&str; 9] = [
        "oci",
        "oci-archive",
        "docker-archive",
        "docker",
        "dir",
        "docker-daemon",
        "containers-storage",
        "ostree",
        "sif",
    ];
    text.split_once(':').filter(|(transport, _)| TRANSPORTS.contains(transport))
}

/// `PATH[:REF]`; a path with a colon in it cannot be written, as with skopeo.
pub(crate) fn split_reference(text: &str) -> (&str, Option<&str>) {
    match text.split_once(':') {
        Some((path, reference)) => (path, Some(reference).filter(|r| !r.is_empty())),
        None => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transport_is_told_from_a_port() {
        assert_eq!(transport_of("oci:dir:ref"), Some(("oci", "dir:ref")));
        assert_eq!(transport_of("localhost:5000/x"), None);
        assert_eq!(split_reference("dir:ref:1"), ("dir", Some("ref:1")));
        assert_eq!(split_reference("dir"), ("dir", None));
    }
}
