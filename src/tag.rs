//! `crossdock tag` and `crossdock rmi`: names come and go, and images with them.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Result, bail};
use clap::Args;
use crossdock_storage::{Error, ImageRecord};

use crate::exit::UsageError;
use crate::local::{LocalImages, local_name};
use crate::report;
use crate::session::{print, root_directory};

/// What `tag` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  crossdock tag llama quay.io/models/llama:1 quay.io/models/llama:latest

A name without a registry is one of this machine: localhost/NAME. An image that had the name before keeps its others.")]
pub(crate) struct TagArgs {
    /// Name, ID or digest of an image that was built or pulled here
    #[arg(value_name = "IMAGE")]
    image: String,

    /// Names that it has from now on, [HOST[:PORT]/]REPOSITORY[:TAG]
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
}

/// What `rmi` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  crossdock rmi llama
  crossdock rmi --prune
  crossdock rmi --all

What is forgotten is the record: the files that an image is made of, and images on registries, stay as they are.")]
pub(crate) struct RmiArgs {
    /// Forget all images
    #[arg(short, long, conflicts_with = "images")]
    all: bool,

    /// Forget the images that have no name
    #[arg(short, long, conflicts_with_all = ["images", "all"])]
    prune: bool,

    /// Forget an image that is given by its ID even where it has several names
    #[arg(short, long)]
    force: bool,

    /// Names, IDs or digests. Of an image with several names the one given goes, and the image with the last
    #[arg(value_name = "IMAGE", required_unless_present_any = ["all", "prune"])]
    images: Vec<String>,
}

/// Runs `tag`.
///
/// # Errors
/// Where there is no such image, or a name cannot be given.
pub(crate) fn run(args: &TagArgs, root: Option<&Path>) -> Result<()> {
    let names =
        args.names.iter().map(|name| new_name(name)).collect::<Result<Vec<_>>>().map_err(UsageError)?;
    let local = LocalImages::new(root_directory(root).as_deref())?;
    let image = local.find(&args.image)?;
    Ok(names.iter().try_for_each(|name| local.store().tag(image.manifest.digest(), name))?)
}

fn new_name(text: &str) -> Result<String> {
    let name = local_name(text)?;
    if name.digest().is_some() {
        bail!("{text}: an image cannot be given a digest for a name; give it a tag");
    }
    Ok(name.to_string())
}

/// Runs `rmi`.
///
/// # Errors
/// Where there is no such image, or one has several names; the others are gone all the same.
pub(crate) fn run_rmi(args: &RmiArgs, root: Option<&Path>) -> Result<()> {
    let local = LocalImages::new(root_directory(root).as_deref())?;
    let mut removal = Removal::default();
    if args.all || args.prune {
        let records = local.store().list()?;
        for image in &records.images {
            let named = records.names_of(image.manifest.digest()).next().is_some();
            if args.all {
                removal.whole(&local, image)?;
            } else if !named && local.store().remove_nameless(image.manifest.digest())? {
                removal.nameless(image);
            }
        }
    }
    let mut failed = Vec::new();
    for text in &args.images {
        if let Err(error) = removal.one(&local, text, args.force) {
            failed.push(error);
        }
    }
    print(&removal.text())?;
    // Each is said; the last one decides how the command ends.
    let last = failed.pop();
    for error in failed {
        let _ = writeln!(std::io::stderr().lock(), "{}", report::error(&error));
    }
    last.map_or(Ok(()), Err)
}

/// What is gone, in the order in which it is told.
#[derive(Debug, Default)]
pub(crate) struct Removal {
    untagged: Vec<String>,
    removed: Vec<String>,
}

impl Removal {
    /// What a user names.
    fn one(&mut self, local: &LocalImages, text: &str, force: bool) -> Result<()> {
        let image = local.find(text)?;
        let digest = image.manifest.digest();
        let records = local.store().list()?;
        let names: Vec<_> = records.names_of(digest).collect();
        let Some(name) = local.name_of(text, digest)? else {
            if names.len() > 1 && !force {
                return Err(Error::Unusable(format!(
                    "{text} has several names ({}): remove it with --force, or by one of them",
                    names.join(", ")
                ))
                .into());
            }
            return self.whole(local, &image);
        };
        if local.store().untag(&name)? {
            self.untagged.push(name);
        }
        if names.len() <= 1 && local.store().remove_nameless(digest)? {
            self.removed.push(image.id().digest().to_owned());
        }
        Ok(())
    }

    /// An image with all its names.
    pub(crate) fn whole(&mut self, local: &LocalImages, image: &ImageRecord) -> Result<()> {
        let digest = image.manifest.digest();
        let names: Vec<_> = local.store().list()?.names_of(digest).map(str::to_owned).collect();
        if local.store().remove(digest)? {
            self.untagged.extend(names);
            self.removed.push(image.id().digest().to_owned());
        }
        Ok(())
    }

    /// That an image without a name is gone.
    pub(crate) fn nameless(&mut self, image: &ImageRecord) {
        self.removed.push(image.id().digest().to_owned());
    }

    /// How many images are gone.
    pub(crate) const fn images(&self) -> usize {
        self.removed.len()
    }

    /// As buildah tells it.
    pub(crate) fn text(&self) -> String {
        let untagged = self.untagged.iter().map(|name| format!("untagged: {name}\n"));
        untagged.chain(self.removed.iter().map(|id| format!("{id}\n"))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_before_images() {
        let removal =
            Removal { untagged: vec!["a:1".to_owned(), "b:1".to_owned()], removed: vec!["0f".to_owned()] };
        assert_eq!(removal.text(), "untagged: a:1\nuntagged: b:1\n0f\n");
    }
}
