//! `crossdock manifest`: lists of images, one for each platform, as buildah has them. A list is remembered under the root
//! directory; its images are remembered too, or stay on their registry.

mod add;
mod push;

use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail};
use clap::{Args, Subcommand};
use crossdock_builder::describe_index;
use crossdock_registry::RegistriesConf;
use crossdock_storage::{
    Descriptor, Digest, EntryDetails, Error, ImageList, ImageSource, LayoutSource, ManifestEntry,
};
use serde::Serialize;

use crate::args::{ConfArgs, RegistryArgs};
use crate::destination::{split_reference, transport_of};
use crate::exit::{Absent, UsageError};
use crate::local::{LocalImages, local_name};
use crate::registries;
use crate::send::SendArgs;
use crate::session::{print, print_laid_out, root_directory};
use crate::signals::block_on;

pub(crate) use push::{ListPush, push_list};

/// What `manifest` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ManifestArgs {
    #[command(subcommand)]
    command: ManifestCommand,
}

impl ManifestArgs {
    /// Leaves standard output alone, as buildah does.
    pub(crate) fn report_on_stderr(&mut self) {
        if let ManifestCommand::Push(push) = &mut self.command {
            push.send.report_on_stderr = true;
        }
    }
}

const EXAMPLES: &str = "\
Examples:
  crossdock manifest create llama
  crossdock manifest add llama quay.io/models/llama:1-amd64
  crossdock manifest add --arch arm64 llama docker://quay.io/models/llama:1-arm64
  crossdock manifest push --all llama docker://quay.io/models/llama:1

`crossdock build --platform linux/amd64,linux/arm64 --manifest llama .` makes a list in one go.";

#[derive(Debug, Subcommand)]
enum ManifestCommand {
    /// Make a list of images
    Create(CreateArgs),

    /// Add an image to a list
    Add(AddArgs),

    /// Change what a list says of an image
    Annotate(AnnotateArgs),

    /// Show a list, as it will be sent or as it is on a registry
    Inspect(InspectArgs),

    /// Send a list where it belongs, its images first
    Push(Box<PushListArgs>),

    /// Take an image off a list
    Remove(RemoveArgs),

    /// Forget lists; their images stay
    Rm(RmArgs),

    /// Exit with 0 where there is such a list, else with 1
    Exists(ExistsArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Of images that are lists, add all that are in them
    #[arg(long)]
    all: bool,

    /// Take the list that has the name, where there is one
    #[arg(long)]
    amend: bool,

    /// Take the name from the list that has it, where there is one
    #[arg(long, conflicts_with = "amend")]
    replace: bool,

    #[command(flatten)]
    registry: RegistryArgs,

    /// Name of the list
    #[arg(value_name = "LIST")]
    list: String,

    /// Images to add
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    /// Of an image that is a list, add all that are in it
    #[arg(long)]
    all: bool,

    #[command(flatten)]
    details: DetailArgs,

    #[command(flatten)]
    registry: RegistryArgs,

    /// Name or ID of the list
    #[arg(value_name = "LIST")]
    list: String,

    /// Image that was built or pulled here, another list, [docker://]HOST[:PORT]/REPOSITORY[:TAG|@DIGEST] or
    /// oci:DIR[:REF]
    #[arg(value_name = "IMAGE")]
    image: String,
}

#[derive(Debug, Args)]
pub(crate) struct AnnotateArgs {
    #[command(flatten)]
    details: DetailArgs,

    /// Name or ID of the list
    #[arg(value_name = "LIST")]
    list: String,

    /// Digest of the image's manifest, or the name of an image that was built or pulled here
    #[arg(value_name = "IMAGE")]
    image: String,
}

/// What a list may say of an image.
#[derive(Debug, Default, Args)]
pub(crate) struct DetailArgs {
    /// Annotation of the image in the list
    #[arg(long = "annotation", value_name = "KEY=VALUE")]
    annotations: Vec<String>,

    /// Architecture that the image is for [default: what its config says]
    #[arg(long, value_name = "ARCH")]
    arch: Option<String>,

    /// Operating system that the image is for [default: what its config says]
    #[arg(long, value_name = "OS")]
    os: Option<String>,

    /// Variant of the architecture [default: what the image's config says]
    #[arg(long, value_name = "VARIANT")]
    variant: Option<String>,

    /// Features of the processor that the image wants
    #[arg(long, value_name = "FEATURE,...", value_delimiter = ',')]
    features: Vec<String>,

    /// Features of the operating system that the image wants
    #[arg(long, value_name = "FEATURE,...", value_delimiter = ',')]
    os_features: Vec<String>,

    /// Version of the operating system that the image wants
    #[arg(long, value_name = "VERSION")]
    os_version: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    #[command(flatten)]
    registry: RegistryArgs,

    /// Name or ID of the list, or [docker://]HOST[:PORT]/REPOSITORY[:TAG|@DIGEST]
    #[arg(value_name = "LIST")]
    list: String,
}

#[derive(Debug, Args)]
pub(crate) struct PushListArgs {
    /// Send the images too, and not the list alone
    #[arg(long)]
    pub(crate) all: bool,

    /// Forget the list when it is sent
    #[arg(long)]
    pub(crate) rm: bool,

    #[command(flatten)]
    pub(crate) send: SendArgs,

    /// Name or ID of the list
    #[arg(value_name = "LIST")]
    pub(crate) list: String,

    /// Where it goes: [docker://]HOST[:PORT]/REPOSITORY[:TAG], oci:DIR[:REF] or oci-archive:FILE[:REF]
    /// [default: the registry that LIST names]
    #[arg(value_name = "DESTINATION")]
    pub(crate) destination: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// Name or ID of the list
    #[arg(value_name = "LIST")]
    list: String,

    /// Digest of the image's manifest
    #[arg(value_name = "DIGEST")]
    digest: String,
}

#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    /// Names or IDs of lists
    #[arg(value_name = "LIST", required = true)]
    lists: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ExistsArgs {
    /// Name or ID of the list
    #[arg(value_name = "LIST")]
    list: String,
}

/// Runs the command.
///
/// # Errors
/// All that can go wrong; `exit::code` sorts it.
pub(crate) fn run(args: &ManifestArgs, root: Option<&Path>, conf: &ConfArgs) -> Result<()> {
    let conf = registries::conf(conf).map_err(UsageError)?;
    let root = root_directory(root);
    let local = LocalImages::new(root.as_deref())?;
    match &args.command {
        ManifestCommand::Create(args) => add::create(args, &local, conf),
        ManifestCommand::Add(args) => add::add(args, &local, conf),
        ManifestCommand::Annotate(args) => add::annotate(args, &local),
        ManifestCommand::Inspect(args) => inspect(args, &local, conf),
        ManifestCommand::Push(args) => push::run(args, &local, root.as_deref(), conf),
        ManifestCommand::Remove(args) => remove(args, &local),
        ManifestCommand::Rm(args) => rm(args, &local),
        ManifestCommand::Exists(args) if local.find_list(&args.list)?.is_some() => Ok(()),
        ManifestCommand::Exists(_) => Err(Absent.into()),
    }
}

/// The list of this name or ID.
fn wanted(local: &LocalImages, text: &str) -> Result<ImageList> {
    if let Some(list) = local.find_list(text)? {
        return Ok(list);
    }
    Err(Error::Unusable(if local.find_named(text)?.is_some() {
        format!("{text} is an image and not a list of images")
    } else {
        format!("no list {text} here: make it with `crossdock manifest create {text}`")
    })
    .into())
}

fn remove(args: &RemoveArgs, local: &LocalImages) -> Result<()> {
    let list = wanted(local, &args.list)?;
    let digest: Digest = args
        .digest
        .parse()
        .map_err(|error| UsageError(anyhow!("{}: write the digest of a manifest: {error}", args.digest)))?;
    local.store().change_list(&list.id, |list| {
        let before = list.entries.len();
        list.entries.retain(|entry| entry.manifest.digest != digest);
        if list.entries.len() == before { Err(not_in(&args.list, &digest)) } else { Ok(()) }
    })?;
    print(&format!("{}: {digest}\n", list.id.digest()))
}

fn rm(args: &RmArgs, local: &LocalImages) -> Result<()> {
    // None is forgotten where one is not there.
    let lists = args.lists.iter().map(|text| wanted(local, text)).collect::<Result<Vec<_>>>()?;
    let records = local.store().list()?;
    let (mut untagged, mut removed) = (String::new(), String::new());
    for list in lists {
        for name in records.names_of(&list.id) {
            untagged += &format!("untagged: {name}\n");
        }
        if local.store().remove(&list.id)? {
            removed += &format!("{}\n", list.id.digest());
        }
    }
    print(&(untagged + &removed))
}

fn not_in(list: &str, digest: &Digest) -> Error {
    Error::Unusable(format!("the list {list} has no image {digest}"))
}

/// A list as it is shown: the fields in the order that people know.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    schema_version: u32,
    media_type: &'a str,
    manifests: Vec<&'a ManifestEntry>,
}

fn inspect(args: &InspectArgs, local: &LocalImages, conf: RegistriesConf) -> Result<()> {
    if let Some(list) = local.find_list(&args.list)? {
        return show(list.entries.iter().map(|entry| &entry.manifest));
    }
    let name = args.list.strip_prefix("docker://").unwrap_or(&args.list);
    if let Some(("oci", rest)) = transport_of(name) {
        let (directory, reference) = split_reference(rest);
        let source = LayoutSource::new(directory, reference.map(str::to_owned));
        return show_index(&args.list, &source);
    }
    if let Some((transport, _)) = transport_of(name) {
        let reason = anyhow!(
            "{name}: a list is looked at on a registry, in oci:DIR[:REF] or here, and not in {transport}:"
        );
        return Err(UsageError(reason).into());
    }
    if local_name(name).is_ok_and(|name| name.registry() == "localhost") {
        return wanted(local, &args.list).map(drop);
    }
    let registry = registries::registry(&args.registry, conf, None, std::sync::Arc::default(), None)
        .map_err(UsageError)?;
    show_index(&args.list, &registry.image(name)?)
}

fn show_index(name: &str, source: &dyn ImageSource) -> Result<()> {
    let Some(entries) = block_on(async { Ok(source.index().await?) })? else {
        bail!("{name} is one image and not a list of images");
    };
    show(entries.iter())
}

/// The index that a list makes.
pub(crate) fn descriptor(list: &ImageList) -> Descriptor {
    let entries: Vec<_> = list.entries.iter().map(|entry| entry.manifest.clone()).collect();
    describe_index(push::format_of(entries.iter()), &entries)
}

/// Prints a list as the index that it makes.
pub(crate) fn show<'a>(entries: impl Iterator<Item = &'a ManifestEntry>) -> Result<()> {
    let manifests: Vec<_> = entries.collect();
    let media_type = push::media_type(push::format_of(manifests.iter().copied()));
    let shown = Shown { schema_version: 2, media_type, manifests };
    let mut text = Vec::new();
    // Four spaces, as buildah has them.
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    shown
        .serialize(&mut serde_json::Serializer::with_formatter(&mut text, formatter))
        .context("cannot write the list")?;
    print_laid_out(&(String::from_utf8_lossy(&text) + "\n"))
}

impl DetailArgs {
    /// Sets what was asked for.
    fn apply(&self, details: &mut EntryDetails) -> Result<()> {
        for text in &self.annotations {
            let (key, value) = text
                .split_once('=')
                .filter(|(key, _)| !key.is_empty())
                .ok_or_else(|| UsageError(anyhow!("--annotation {text}: write KEY=VALUE")))?;
            details.annotations.insert(key.to_owned(), value.to_owned());
        }
        let platform = details.platform.get_or_insert_default();
        let set = |to: &mut String, from: &Option<String>| {
            if let Some(value) = from {
                to.clone_from(value);
            }
        };
        set(&mut platform.architecture, &self.arch);
        set(&mut platform.os, &self.os);
        if self.arch.is_some() && self.variant.is_none() {
            // The variant was one of the other architecture.
            platform.variant = None;
        }
        if self.variant.is_some() {
            platform.variant.clone_from(&self.variant);
        }
        if self.os_version.is_some() {
            platform.os_version.clone_from(&self.os_version);
        }
        if !self.features.is_empty() {
            platform.features.clone_from(&self.features);
        }
        if !self.os_features.is_empty() {
            platform.os_features.clone_from(&self.os_features);
        }
        if platform.architecture.is_empty() || platform.os.is_empty() {
            return Err(
                UsageError(anyhow!("the image does not say what it is for: give --os and --arch")).into()
            );
        }
        Ok(())
    }
}
