//! `crossdock prune`: what is remembered and was not needed for long goes.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, anyhow};
use clap::Args;
use crossdock_storage::Pruned;

use crate::local::LocalImages;
use crate::session::{print, root_directory};
use crate::table;
use crate::tag::Removal;

/// What nobody needed for so long goes.
const LONG: Duration = Duration::from_secs(30 * 24 * 3600);

/// What `prune` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  crossdock prune
  crossdock prune --memos
  crossdock prune --all

Removed are images without a name; layer digests, contents of bases and notes of uploads that nobody needed for 30 days; \
and files that a killed process left half written. Nothing that another process is at work on is touched, and no file \
that an image is made of.")]
pub(crate) struct PruneArgs {
    /// Forget the images that have names too
    #[arg(short, long)]
    all: bool,

    /// Forget all layer digests, contents of bases and notes of uploads, however new: the next build reads every file
    #[arg(long)]
    memos: bool,

    /// Taken as buildah's, which removes containers by it: there are none, and nothing is asked
    #[arg(short, long)]
    force: bool,
}

/// Runs the command.
///
/// # Errors
/// Where something cannot be removed.
pub(crate) fn run(args: &PruneArgs, root: Option<&Path>) -> Result<()> {
    let root = root_directory(root)
        .ok_or_else(|| anyhow!("there is no root directory: give --root DIR, or set HOME"))?;
    let local = LocalImages::new(Some(&root))?;
    let before = local.disk_used()?.0;
    let mut removal = Removal::default();
    let records = local.store().list()?;
    for (_, reason) in &records.damaged {
        tracing::warn!("{reason}");
    }
    removal.all(&local, args.all)?;
    let pruned = crossdock_storage::prune(&root, if args.memos { Duration::ZERO } else { LONG })?;
    let reclaimed = before.saturating_sub(local.disk_used()?.0);
    print(&(removal.text() + &summary(&removal, &pruned, reclaimed)))
}

fn summary(removal: &Removal, pruned: &Pruned, reclaimed: u64) -> String {
    let several = |number: u64, one: &str, more: &str| match number {
        0 => None,
        1 => Some(format!("1 {one}")),
        number => Some(format!("{number} {more}")),
    };
    let counted = |(files, bytes): (u64, u64), one: &str, more: &str| {
        several(files, one, more).map(|text| format!("{text} ({})", table::size(bytes)))
    };
    let parts: Vec<_> = [
        several(removal.images() as u64, "image", "images"),
        counted(pruned.memos, "layer digest", "layer digests"),
        counted(pruned.indexes, "index of a base's layer", "indexes of bases' layers"),
        counted(pruned.uploads, "note of an upload", "notes of uploads"),
        counted(pruned.leftovers, "half-written file", "half-written files"),
    ]
    .into_iter()
    .flatten()
    .collect();
    let of = if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) };
    format!("Total reclaimed space: {}{of}\n", table::size(reclaimed))
}
