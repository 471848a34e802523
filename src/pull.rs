//! `crossdock pull`: an image somewhere else is remembered here, by its manifest and config. Its layers stay where they
//! are until a build or a push streams them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, bail};
use clap::{Args, ValueEnum};
use crossdock_registry::{Reference, RegistriesConf, Registry};
use crossdock_storage::{
    Digest, Error as StorageError, ImageRecord, ImageSource, LayoutSource, Platform, RecordedLayer,
    RecordedOrigin, ResolvedImage,
};

use crate::args::{ConfArgs, RegistryArgs};
use crate::destination::{split_reference, transport_of};
use crate::exit::UsageError;
use crate::local::{LocalImages, has_host, local_name};
use crate::session::{print, root_directory};
use crate::signals::block_on;
use crate::{message, registries, table};

/// What `pull` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  crossdock pull registry.access.redhat.com/ubi9/ubi-micro
  crossdock pull --platform linux/arm64 quay.io/models/llama:1
  crossdock pull oci:./layout:v1

A few kilobytes are pulled: the manifest and the config. A FROM and a push of the image read its layers from where it \
was pulled, so that a registry must keep the repository, and a layout must stay in its place.")]
pub(crate) struct PullArgs {
    /// Platform of the image, as linux/arm64 [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", conflicts_with_all = ["os", "arch", "variant"])]
    platform: Option<String>,

    /// Architecture of the image, as arm64
    #[arg(long, value_name = "ARCH")]
    arch: Option<String>,

    /// Operating system of the image
    #[arg(long, value_name = "OS")]
    os: Option<String>,

    /// Variant of the architecture, as v7
    #[arg(long, value_name = "VARIANT")]
    variant: Option<String>,

    /// When the registry is asked: where the image is not here, always, or never
    #[arg(long, value_enum, value_name = "POLICY", default_value_t = Policy::Missing)]
    policy: Policy,

    /// Print the image ID only
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    registry: RegistryArgs,

    /// Image, [docker://][HOST[:PORT]/]REPOSITORY[:TAG|@DIGEST] or oci:DIR[:REF]
    #[arg(value_name = "IMAGE")]
    image: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Policy {
    #[value(alias = "ifmissing")]
    Missing,
    Always,
    Never,
    #[value(hide = true)]
    Newer,
}

/// An image as it was found.
struct Found {
    /// Its name here.
    name: String,
    /// By what a later process finds its layers.
    locator: String,
    image: ResolvedImage,
}

/// Runs the command.
///
/// # Errors
/// Where the image cannot be had, or cannot be remembered.
pub(crate) fn run(args: &PullArgs, root: Option<&Path>, conf: &ConfArgs) -> Result<()> {
    refuse(args).map_err(UsageError)?;
    let platform = platform(args).map_err(UsageError)?;
    let conf = registries::conf(conf).map_err(UsageError)?;
    let root = root_directory(root);
    let local = LocalImages::new(root.as_deref())?;
    if args.policy != Policy::Always
        && let Some(known) = known(&local, &args.image, &platform)?
    {
        return print(&format!("{}\n", known.id().digest()));
    }
    if args.policy == Policy::Never {
        let reason = format!("no image {} here, and with --policy never no registry is asked", args.image);
        return Err(StorageError::Unusable(reason).into());
    }
    let host = has_host(&args.image).then(|| local_name(&args.image)).transpose().map_err(UsageError)?;
    let host = host.as_ref().map(Reference::registry);
    let registry = registries::registry(&args.registry, conf.clone(), host, Arc::default(), root.as_deref())
        .map_err(UsageError)?;
    let found = block_on(find(args, &platform, &conf, &registry))?;
    let record = record(&local, &found)?;
    if !args.quiet {
        let layers = found.image.manifest.layers();
        let size = table::size(layers.iter().map(crossdock_storage::Descriptor::size).sum());
        let place = found.locator.split('@').next().unwrap_or(&found.locator);
        say(
            args,
            &format!(
                "Remembered {} by its manifest and config; its {} layers ({size}) stay in {place}\n",
                found.name,
                layers.len(),
            ),
        );
    }
    print(&format!("{}\n", record.id().digest()))
}

/// What buildah has and is not done here.
fn refuse(args: &PullArgs) -> Result<()> {
    if args.policy == Policy::Newer {
        bail!("--policy newer is not supported: a pull is a few kilobytes, use --policy always");
    }
    Ok(())
}

fn platform(args: &PullArgs) -> Result<Platform> {
    if let Some(text) = &args.platform {
        return text.parse().context("--platform");
    }
    Platform::host_but(args.os.as_deref(), args.arch.as_deref(), args.variant.as_deref())
        .context("--os, --arch, --variant")
}

/// The image where it is remembered already, for this platform.
fn known(local: &LocalImages, name: &str, platform: &Platform) -> Result<Option<ImageRecord>> {
    if transport_of(name).is_some_and(|(transport, _)| transport != "docker") {
        return Ok(None);
    }
    let Some(image) = local.find_named(name)? else { return Ok(None) };
    let config = image.config()?;
    Ok(config.platform().is_none_or(|is| platform.accepts(&is)).then_some(image))
}

async fn find(
    args: &PullArgs,
    platform: &Platform,
    conf: &RegistriesConf,
    registry: &Registry,
) -> Result<Found> {
    let text = args.image.strip_prefix("docker://").unwrap_or(&args.image);
    match transport_of(text) {
        Some(("oci", rest)) => layout(rest, platform).await,
        Some((transport @ ("oci-archive" | "docker-archive" | "dir"), rest)) => Err(UsageError(anyhow!(
            "{text}: {transport}: is not supported, for layers are read from where they stay; make a layout of it with \
             `skopeo copy {transport}:{rest} oci:DIR` and pull that"
        ))
        .into()),
        Some((transport, _)) => Err(UsageError(anyhow!(
            "{text}: the transport {transport}: is not supported; name an image on a registry, or oci:DIR[:REF]"
        ))
        .into()),
        None => {
            let mut last = None;
            for name in conf.names(text).map_err(|error| UsageError(error.into()))? {
                say(args, &format!("Trying to pull {name}...\n"));
                let source = registry.image(&name.to_string())?;
                match source.resolve(platform).await {
                    Ok(image) => {
                        warn_of_platform(&image, platform, &source);
                        let locator = by_digest(&source.locator(), image.descriptor.digest())?;
                        return Ok(Found { name: name.to_string(), locator, image });
                    }
                    Err(error) => last = Some(error),
                }
            }
            Err(last.map_or_else(|| anyhow!("{text} names no image"), Into::into))
        }
    }
}

async fn layout(text: &str, platform: &Platform) -> Result<Found> {
    let (directory, reference) = split_reference(text);
    let source = LayoutSource::new(PathBuf::from(directory), reference.map(str::to_owned));
    let image = source.resolve(platform).await?;
    warn_of_platform(&image, platform, &source);
    let directory = std::path::absolute(directory).with_context(|| format!("the layout {directory}"))?;
    // The reference where it is a name by itself, else a tag of the directory's name.
    let name = match reference {
        Some(reference) if reference.contains(['/', ':']) => reference.to_owned(),
        Some(reference) => format!("{}:{reference}", file_name(&directory)),
        None => file_name(&directory),
    };
    let name = local_name(&name).with_context(|| format!("oci:{text}: name the image by a reference"))?;
    let locator = LayoutSource::new(directory, Some(image.descriptor.digest().to_string())).name();
    Ok(Found { name: name.to_string(), locator, image })
}

fn warn_of_platform(image: &ResolvedImage, platform: &Platform, source: &dyn ImageSource) {
    if let Some(warning) = image.platform_warning(platform, &source.name()) {
        tracing::warn!("{warning}");
    }
}

fn file_name(directory: &Path) -> String {
    directory.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default()
}

/// A tag may be of another image by the time the layers are read.
fn by_digest(locator: &str, digest: &Digest) -> Result<String> {
    let name: Reference = locator.strip_prefix("docker://").unwrap_or(locator).parse()?;
    Ok(format!("docker://{}/{}@{digest}", name.registry(), name.repository()))
}

fn record(local: &LocalImages, found: &Found) -> Result<ImageRecord> {
    let image = &found.image;
    let layers = image.layers(&found.name)?.into_iter().enumerate().map(|(at, layer)| RecordedLayer {
        title: format!("layer {} of {}", at + 1, found.name),
        layer,
        origin: RecordedOrigin::Image(found.locator.clone()),
    });
    let layers: Vec<_> = layers.collect();
    let record =
        ImageRecord::new(image.descriptor.clone(), image.manifest_bytes.clone(), image.config_bytes.clone());
    local.store().put(&record, &layers, [found.name.as_str()])?;
    Ok(record)
}

fn say(args: &PullArgs, text: &str) {
    if !args.quiet {
        // There is nowhere left to say that standard error is closed.
        let _ = message::to_stderr(text);
    }
}
