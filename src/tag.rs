//! `crossdock tag` and `crossdock rmi`: names come and go, and images with them.

use std::path::Path;

use anyhow::{Result, bail};
use clap::Args;
use crossdock_storage::{Digest, Error};

use crate::exit::UsageError;
use crate::local::{LocalImages, local_name};
use crate::message;
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
    let (key, _) = meant(&local, &args.image)?;
    Ok(names.iter().try_for_each(|name| local.store().tag(&key, name))?)
}

fn new_name(text: &str) -> Result<String> {
    let name = local_name(text)?;
    if name.digest().is_some() {
        bail!("{text}: an image cannot be given a digest for a name; give it a tag");
    }
    Ok(name.to_string())
}

/// What the names of an image or list stand for, and its ID.
fn meant(local: &LocalImages, text: &str) -> Result<(Digest, Digest)> {
    if let Some(list) = local.find_list(text)? {
        return Ok((list.id.clone(), list.id));
    }
    let image = local.find(text)?;
    Ok((image.manifest.digest().clone(), image.id()))
}

/// Runs `rmi`.
///
/// # Errors
/// Where there is no such image, or one has several names; the others are gone all the same.
pub(crate) fn run_rmi(args: &RmiArgs, root: Option<&Path>) -> Result<()> {
    let local = LocalImages::new(root_directory(root).as_deref())?;
    let mut removal = Removal::default();
    if args.all || args.prune {
        removal.all(&local, args.all)?;
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
        let _ = message::to_stderr(&format!("{}\n", report::error(&error)));
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
        let (key, id) = meant(local, text)?;
        let records = local.store().list()?;
        let names: Vec<_> = records.names_of(&key).collect();
        let Some(name) = local.name_of(text, &key)? else {
            if names.len() > 1 && !force {
                return Err(Error::Unusable(format!(
                    "{text} has several names ({}): remove it with --force, or by one of them",
                    names.join(", ")
                ))
                .into());
            }
            return self.whole(local, &key, &id);
        };
        if local.store().untag(&name)? {
            self.untagged.push(name);
        }
        if names.len() <= 1 && local.store().remove_nameless(&key)? {
            self.removed.push(id.digest().to_owned());
        }
        Ok(())
    }

    /// All images and lists, or those that nobody wants. Lists go first: they want images.
    pub(crate) fn all(&mut self, local: &LocalImages, named_too: bool) -> Result<()> {
        let records = local.store().list()?;
        let lists = records.lists.iter().map(|list| (list.id.clone(), list.id.clone()));
        let mut images: Vec<_> =
            records.images.iter().map(|image| (image.manifest.digest().clone(), image.id())).collect();
        images.sort_by_cached_key(|(key, _)| records.names_of(key).map(str::to_owned).collect::<Vec<_>>());
        for (key, id) in lists.chain(images) {
            if named_too {
                self.whole(local, &key, &id)?;
            } else if local.store().remove_nameless(&key)? {
                self.removed.push(id.digest().to_owned());
            }
        }
        Ok(())
    }

    /// An image or list with all its names.
    fn whole(&mut self, local: &LocalImages, key: &Digest, id: &Digest) -> Result<()> {
        let names: Vec<_> = local.store().list()?.names_of(key).map(str::to_owned).collect();
        if local.store().remove(key)? {
            self.untagged.extend(names);
            self.removed.push(id.digest().to_owned());
        }
        Ok(())
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
