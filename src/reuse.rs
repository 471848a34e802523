//! What a build with an empty root directory takes over of images that a registry has: docs/records.md says what is trusted, and
//! what somebody who lies could do.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use crossdock_builder::{AssembledLayer, Trust};
use crossdock_registry::{Reference, Registry};
use crossdock_storage::{Error as StorageError, ImageSource, Platform};
use serde_json::{Map, Value, json};

use crate::args::parse_bool;

/// The flags.
#[derive(Debug, Args)]
#[command(next_help_heading = "With an empty --root")]
pub(crate) struct ReuseArgs {
    /// Take the digests of layers from this image, HOST[:PORT]/REPOSITORY@DIGEST, where its manifest has a layer with the same
    /// key (names, modes, owners and sizes of the files, not their bytes) and the destination has the blob: no file of such a
    /// layer is read. A file whose bytes changed and whose size did not is NOT noticed: its modification time is no part of the
    /// key. With a tag in the place of the digest, whoever may push to it decides what your image holds. May be given
    /// several times
    #[arg(long = "trust-layers-of", value_name = "IMAGE", conflicts_with = "no_memo")]
    trust_layers_of: Vec<String>,

    /// Read each layer that is taken from --trust-layers-of from the registry, and fail where its bytes have another digest, or
    /// its archive other headers than the files here give. The bytes of the files here are not read
    #[arg(long, requires = "trust_layers_of")]
    check_reused: bool,

    /// Look for layers that need not be sent in the image of this tag of the destination's repository, and not in those of its
    /// last ten tags. Nothing is trusted: a layer that may be there is hashed first. May be given several times
    #[arg(long = "reuse-from", value_name = "TAG")]
    reuse_from: Vec<String>,

    /// Say the key of each new layer in its descriptor, as the annotation io.crossdock.layer.key, for --trust-layers-of and for
    /// builds to other tags; the docker format has no place for it [default: true; called as buildah, false]
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = parse_bool,
        action = clap::ArgAction::Set
    )]
    pub(crate) layer_keys: Option<bool>,
}

/// What they ask for.
#[derive(Debug)]
pub(crate) struct ReuseOptions {
    /// Images whose layers are trusted.
    trusted: Vec<Reference>,
    check: bool,
    /// Tags of the destination's repository.
    pub(crate) from: Vec<String>,
    pub(crate) layer_keys: bool,
}

impl ReuseOptions {
    /// Whether digests are to be taken from other images.
    pub(crate) fn trusts(&self) -> bool {
        !self.trusted.is_empty()
    }

    /// # Errors
    /// Names and tags that are none.
    pub(crate) fn new(args: &ReuseArgs) -> Result<Self> {
        let trusted = args.trust_layers_of.iter().map(|name| {
            let option = || format!("--trust-layers-of {name}");
            let reference: Reference =
                name.strip_prefix("docker://").unwrap_or(name).parse().with_context(option)?;
            if reference.digest().is_none() {
                tracing::warn!(
                    "{}: whoever may push to that tag decides what the layers of this image hold; name the image by its \
                     digest, with @sha256:... in the place of the tag",
                    option()
                );
            }
            Ok(reference)
        });
        let trusted = trusted.collect::<Result<_>>()?;
        for tag in &args.reuse_from {
            let name = format!("registry.example/repository:{tag}");
            if !name
                .parse::<Reference>()
                .is_ok_and(|named| named.tag() == Some(tag) && named.digest().is_none())
            {
                bail!("--reuse-from {tag}: write a tag of the destination's repository, and no name");
            }
        }
        Ok(Self {
            trusted,
            check: args.check_reused,
            from: args.reuse_from.clone(),
            layer_keys: args.layer_keys.unwrap_or(true),
        })
    }

    /// The layers of the images that are trusted, for these platforms.
    ///
    /// # Errors
    /// Where an image is not there for any of them.
    pub(crate) async fn trust(
        &self,
        registry: &Registry,
        platforms: &[&Platform],
    ) -> Result<Option<Arc<Trust>>> {
        if self.trusted.is_empty() {
            return Ok(None);
        }
        let mut trust = Trust::new(self.check);
        for reference in &self.trusted {
            let keyed = add(&mut trust, registry, reference, platforms)
                .await
                .with_context(|| format!("--trust-layers-of {reference}"))?;
            if keyed == 0 {
                tracing::warn!(
                    "--trust-layers-of {reference}: none of its layers has a key, so that all layers are read: the image is in \
                     the docker format, was built under the name buildah or with --layer-keys=false, or by another program"
                );
            }
        }
        Ok(Some(Arc::new(trust)))
    }
}

async fn add(
    trust: &mut Trust,
    registry: &Registry,
    reference: &Reference,
    platforms: &[&Platform],
) -> Result<usize> {
    let source = registry.image(&reference.to_string())?;
    let is_list = source.index().await?.is_some();
    let wanted = if is_list { platforms } else { &platforms[..platforms.len().min(1)] };
    let (mut keyed, mut lacking) = (0, None);
    for platform in wanted {
        let image = match source.resolve(platform).await {
            Ok(image) => image,
            Err(error @ StorageError::Platform { .. }) => {
                lacking = Some(error);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        // Its layers are recorded with where they are: by what does not move.
        let name = format!("{}@{}", repository_of(reference), image.descriptor.digest());
        let pinned = registry.image(&name)?;
        // Which place has it is found out by asking.
        pinned.index().await?;
        let pinned: Arc<dyn ImageSource> = Arc::new(pinned);
        keyed += trust.add(&pinned, &image)?;
    }
    match lacking {
        Some(error) if keyed == 0 => Err(error.into()),
        _ => Ok(keyed),
    }
}

fn repository_of(reference: &Reference) -> String {
    let name = reference.repository_name();
    format!("{}/{}", name.registry, name.repository)
}

/// How many layers were trusted, and the bytes of them that were not read.
fn sum<'a>(layers: impl Iterator<Item = &'a AssembledLayer>) -> (usize, u64) {
    layers.filter_map(|layer| layer.trusted.as_ref()).fold((0, 0), |(n, bytes), t| (n + 1, bytes + t.bytes))
}

/// What was trusted, for people; nothing where nothing was.
pub(crate) fn trusted_line<'a>(layers: impl Iterator<Item = &'a AssembledLayer> + Clone) -> Option<String> {
    let (number, bytes) = sum(layers.clone());
    let mut names: Vec<_> = layers.filter_map(|layer| Some(layer.trusted.as_ref()?.from.name())).collect();
    names.dedup();
    let layers = if number == 1 { "layer" } else { "layers" };
    let bytes = indicatif::HumanBytes(bytes);
    (number > 0).then(|| format!("trusted  {number} {layers} of {}: {bytes} were not read", names.join(", ")))
}

/// What was trusted, for machines.
pub(crate) fn add_trusted<'a>(
    report: &mut Map<String, Value>,
    layers: impl Iterator<Item = &'a AssembledLayer>,
) {
    let (number, bytes) = sum(layers);
    report.insert("layers_trusted".to_owned(), json!(number));
    report.insert("bytes_trusted".to_owned(), json!(bytes));
}
